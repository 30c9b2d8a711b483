"""The detector's distance from the axis, and where the axis falls on it, from a header and SIMIND's orbit file (.cor).

SIMIND counts the columns of a projection from 1 and calls half of the matrix + 1 the middle. What a header, or the
second column of an orbit file, says about the axis is compared with the counts: around the axis, the centre of gravity
of the projections follows a sine of the view angle.
"""

import math
import re
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.io.interfile.data import beside
from spectac.recon.io.interfile.dialect import SIMIND
from spectac.recon.io.interfile.geometry import Layout
from spectac.recon.io.interfile.header import Header, canonical_key, distinct, once_a_head
from spectac.recon.types import LARGEST_RADIUS_MM, Array, Study

SMALLEST_RADIUS_MM = 60.0
"""No camera goes nearer to a person's axis, none stays 60 cm away: a smaller radius of SIMIND is in cm (version 7)."""

_RADIUS_KEYS = ("radii", "radius", "radius of rotation", "rotation radius", "radial position")

_FEWEST_VIEWS = 8
"""Views with counts below which the counts do not tell."""

_SURE = 3.0
"""Standard errors by which the counts must differ from the opposite."""

_HALF = 0.5
"""A shift is there where the counts show more than half of it, and less than half too much."""


@dataclass(frozen=True)
class OrbitFile:
    """SIMIND's text file of an orbit.

    Parameters
    ----------
    name : str
        Its name in the header.
    radii : list of float
        First column: the radius, in the header's unit.
    centres : list of float or None
        Second column: the centre of rotation; None where it is not there for every view.
    """

    name: str
    radii: list[float]
    centres: list[float] | None


def orbit_file_name(header: Header) -> str | None:
    """Name of the file that a header of SIMIND gives for a non-circular orbit.

    Parameters
    ----------
    header : Header
        Header.

    Returns
    -------
    str or None
        None for a header of another program too.
    """
    return header.text("non-uniform orbit file", comments=True) if header.dialect is SIMIND else None


def orbit_file(header: Header, views: Layout) -> OrbitFile | None:
    """The orbit file that a header names; None where it names none or the file is not there.

    Parameters
    ----------
    header : Header
        Header, which gets warnings.
    views : Layout
        Views of each head. The lines of one head count for all heads.

    Returns
    -------
    OrbitFile or None
        Radii in the file's own unit.

    Raises
    ------
    InputError
        A radius in it is no number.
    """
    name = orbit_file_name(header)
    path = None if name is None else beside(header, name)
    if name is None or path is None:
        return None
    lines = [line.strip() for line in path.read_text(encoding="latin-1").splitlines()]
    lines = [line for line in lines if line and not line.startswith(("#", ";", "!"))]
    if len(lines) > 1 and not re.match(r"[-+.,]*\d", lines[0]):
        lines = lines[1:]  # names of the columns
    if second := _second_column(lines, header.count("matrix size[1]") or 0):
        header.warn(f"{name}: the comma of '{lines[0]}' was taken to part two columns, for all have {second} behind it")
        lines = [line.replace(",", " ") for line in lines]
    rows = []
    for line in lines:
        words = re.split(r"[,;\s]+" if "." in line else r"[;\s]+", line)
        if words[0]:
            centre = None
            with suppress(InputError, IndexError):
                centre = header.as_number("second column", words[1])
            rows.append((header.as_number(f"first column of {name}", words[0]), centre))
    if len(rows) > views.total:
        header.warn(f"{name} has {len(rows)} lines for {views.total} projections: the first {views.total} were used")
        rows = rows[: views.total]
    if {len(rows)} == set(views.views):
        rows *= views.heads
    centres = [centre for _, centre in rows if centre is not None]
    return OrbitFile(name, [radius for radius, _ in rows], centres if len(centres) == views.total else None)


def _second_column(lines: list[str], columns: int) -> str | None:
    """The second of two columns of whole numbers, parted by a comma that could be a decimal one; None where it is that.

    It is one number in all lines: the middle of so many columns, or behind three radii at least.
    """
    pairs = [pair.groups() for line in lines if (pair := re.fullmatch(r"(\d+),(\d+)", line))]
    seconds = {second for _, second in pairs}
    if len(pairs) < len(lines) or len(seconds) != 1:
        return None
    return seconds.pop() if len(set(pairs)) >= 3 or seconds == {str(columns // 2 + 1)} else None


def orbit_radii_mm(header: Header, views: Layout, radius_mm: float | None, file: OrbitFile | None) -> Array:
    """Distance (v,) from the axis to the collimator face in mm.

    Parameters
    ----------
    header : Header
        Header, which gets warnings.
    views : Layout
        Views of each head.
    radius_mm : float or None
        The user's, for all views.
    file : OrbitFile or None
        What `orbit_file` found.

    Returns
    -------
    array
        float64 (v,) in mm.

    Raises
    ------
    InputError
        There is no radius, their number is not that of the views, or the orbit file is not there.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spectac.recon.io.interfile.dialect import STIR
    >>> header = Header(Path("scan.hs"), {"orbit": ("circular",), "radius": ("150",)}, {}, STIR, None, ())
    >>> orbit_radii_mm(header, Layout((3,), 1, (3,)), None, None).tolist()
    [150.0, 150.0, 150.0]
    """
    if radius_mm is not None:
        return np.full(views.total, float(radius_mm))
    orbit = canonical_key(header.text("orbit", lenient=True) or "").replace("-", "").replace(" ", "")
    if orbit not in ("", "circular", "noncircular"):
        header.warn(f"'orbit := {orbit}' is neither circular nor non-circular: read by its radii")
    name = orbit_file_name(header)
    radii = _radii_in_header(header, views)
    if orbit != "circular" and name is not None and len(radii) <= 1:
        if file is None:
            raise header.error(f"the orbit file '{name}' is not there: put it beside the header or give --radius-mm")
        radii = file.radii
        if len(radii) != views.total:
            raise _wrong_number(header, radii, views)
    if not radii:
        raise header.error(
            f"no radius for the {orbit or 'circular'} orbit: give --radius-mm, from the axis to the collimator face"
        )
    if orbit == "noncircular" and len(radii) == 1 < views.total:
        header.warn(f"one radius, {radii[0]:g}, for a non-circular orbit: used for all views (--radius-mm)")
    return _checked_mm(header, _of_each_view(header, radii, views))


def _radii_in_header(header: Header, views: Layout) -> list[float]:
    """Radii in mm under whatever key has them, as one value, a list, or one or a list for each head; else none."""
    lengths = {1, views.heads, views.total, *views.views}
    for key in _RADIUS_KEYS:
        lists = once_a_head(header.lists(key, "mm", lengths, header.dialect.comments), views.heads)
        if len(set(map(len, lists))) == 1 and all(len(distinct(same)) == 1 for same in zip(*lists, strict=True)):
            lists = lists[:1]
        if lists and len(lists) not in (1, views.heads, views.total):
            raise header.error(f"key '{key}' is given {len(lists)} times with different values: keep one")
        radii = [value for one in lists for value in one]
        if radii and (any(radii) or key != "radii"):
            return radii
    return []


def _of_each_view(header: Header, radii: list[float], views: Layout) -> Array:
    """One radius for each view (v,) from one for all, for each head, or for each view of every head."""
    values = np.array(radii, np.float64)
    if values.size == 1:
        return np.full(views.total, values[0])
    if values.size == views.heads < views.total:
        return np.repeat(values, views.views)
    if set(views.views) == {values.size}:
        return np.tile(values, views.heads)
    if values.size != views.total:
        raise _wrong_number(header, radii, views)
    return values


def _wrong_number(header: Header, radii: list[float], views: Layout) -> InputError:
    return header.error(
        f"{len(radii)} radii for {views.total} projections: one is needed for each, or give --radius-mm"
    )


def _checked_mm(header: Header, radii: Array) -> Array:
    """Radii in mm; SIMIND's are in cm where no camera goes as near."""
    if radii.min() <= 0:
        raise header.error(f"a radius is {radii.min():g}: radii_mm must be above 0: give --radius-mm")
    if header.dialect is SIMIND and radii.max() < SMALLEST_RADIUS_MM:
        header.warn(f"SIMIND's radius of up to {radii.max():g} was taken as cm")
        return radii * 10.0
    if radii.min() < SMALLEST_RADIUS_MM:
        header.warn(f"a radius of {radii.min():g} mm is nearer than any camera goes: is it in cm? (--radius-mm)")
    if radii.max() > LARGEST_RADIUS_MM:
        raise header.error(
            f"a radius is {radii.max():g} mm, at most {LARGEST_RADIUS_MM:g} are possible: is it in other units? Give "
            "--radius-mm"
        )
    return radii


@dataclass(frozen=True)
class AxisClaim:
    """Where something says that the axis falls on the detector.

    Parameters
    ----------
    source : str
        What says it.
    columns : array (v,)
        Columns from the middle of the matrix, towards growing u.
    each_view : bool
        Stated view by view, in an orbit file, which is believed where the counts cannot tell.
    """

    source: str
    columns: Array
    each_view: bool


def axis_claims(header: Header, columns: int, views: int, file: OrbitFile | None) -> list[AxisClaim]:
    """What header and orbit file say about an axis that is not in the middle of the matrix.

    Parameters
    ----------
    header : Header
        Header, which gets warnings.
    columns, views : int
        Columns of the matrix, and views of all heads.
    file : OrbitFile or None
        What `orbit_file` found.

    Returns
    -------
    list of AxisClaim
        Claims, the orbit file's first. Empty for headers of other programs than SIMIND.
    """
    centre = _lenient(header, "center of rotation", "centre of rotation")
    if shift := _lenient(header, "x offset"):
        header.warn(
            f"the header's X_offset {shift:g} says that the centre of rotation is not the middle of the matrix: not "
            "applied, for its sense is not known"
        )
    if header.dialect is not SIMIND:
        # Programs count columns from 0 or 1, at their edges or their middles.
        if centre is not None and abs(centre - (columns + 1) / 2) > 0.6:
            header.warn(
                f"the header's centre of rotation {centre:g} is not the middle of {columns} columns: not applied"
            )
        return []
    stated: list[AxisClaim] = []
    if file is not None and file.centres is not None:
        source = f"the second column of {file.name} (centre of rotation)"
        stated.append(AxisClaim(source, np.array(file.centres), each_view=True))
    if centre is not None:
        stated.append(AxisClaim("the header's centre of rotation", np.full(views, centre), each_view=False))
    claims = []
    for claim in stated:
        offset = claim.columns - (columns / 2 + 1)
        largest = np.abs(offset).max()
        if largest > columns / 2:
            beyond = claim.columns[np.abs(offset).argmax()]
            header.warn(f"{claim.source} has {beyond:g}, beyond the {columns} columns: not used")
        elif largest > 1e-3:
            claims.append(replace(claim, columns=offset))
    return claims


def _lenient(header: Header, *names: str) -> float | None:
    """Number under one of these keys; None without it and for words ("Corrected")."""
    text = header.text(*names, comments=header.dialect.comments, lenient=True)
    try:
        return None if text is None else header.as_number(names[0], text, "mm")
    except InputError:
        return None


def with_axis(study: Study, claims: list[AxisClaim]) -> Study:
    """Study whose `u_offset_mm` is the claim that its counts support, with what was decided and why.

    Where the counts cannot tell, an orbit file is believed, and a header's centre of rotation that says the same.

    Parameters
    ----------
    study : Study
        Study without an offset of the axis.
    claims : list of AxisClaim
        What `axis_claims` found.

    Returns
    -------
    Study
        The same study where there is no claim.
    """
    if not claims:
        return study
    shares = [_share_of_shift(study, claim.columns) for claim in claims]
    lines = [
        f"{claim.source}, {_shown(claim.columns)} columns from the middle of the matrix (the counts show "
        f"{share:.2f} +- {error:.2f} of that shift)"
        for claim, (share, error) in zip(claims, shares, strict=True)
    ]
    for claim, line, (share, error) in zip(claims, lines, shares, strict=True):
        if abs(share - 1.0) < _HALF and share > _SURE * error:
            return replace(_shifted(study, claim), history=(*study.history, f"axis placed by {line}"))
    claim, (share, error) = claims[0], shares[0]
    refuted = abs(share - 1.0) >= _HALF and abs(share - 1.0) > _SURE * error
    agreed = any(np.allclose(claim.columns, one.columns, atol=0.01) for one in claims[1:])
    if not refuted and (claim.each_view or agreed):
        return replace(_shifted(study, claim), warnings=(*study.warnings, f"applied: {lines[0]}"))
    return replace(study, warnings=(*study.warnings, *(f"not applied: {line}" for line in lines)))


def _shown(columns: Array) -> str:
    return f"{columns[0]:+g}" if np.ptp(columns) == 0 else f"{columns.min():+g} to {columns.max():+g}"


def _shifted(study: Study, claim: AxisClaim) -> Study:
    offset_mm = claim.columns * study.acquisition.pixel_mm[1]
    return replace(study, acquisition=replace(study.acquisition, u_offset_mm=offset_mm))


def _share_of_shift(study: Study, columns: Array) -> tuple[float, float]:
    """Share of the shift (v,) in columns that the views' centres of gravity show beside a sine, and its standard error.

    The error is infinite where counts cannot tell: too few views, or a shift that is itself a sine of the angle.
    """
    profile = study.counts.sum(axis=(0, 2), dtype=np.float64)
    # Counts all over the field would hold the centre of gravity in its middle.
    profile -= np.quantile(profile, 0.1, axis=1).mean()
    counts = profile.sum(axis=1)
    seen = counts > 0
    if seen.sum() < _FEWEST_VIEWS:
        return 0.0, math.inf
    place = np.arange(profile.shape[1]) - 0.5 * (profile.shape[1] - 1)
    centre, angle = profile[seen] @ place / counts[seen], np.deg2rad(study.acquisition.view_angles_deg[seen])
    weight = np.sqrt(counts[seen])
    sines = np.stack([np.cos(angle), np.sin(angle)], axis=1) * weight[:, None]
    shift, moved = (
        values - sines @ np.linalg.lstsq(sines, values, rcond=None)[0]
        for values in (columns[seen] * weight, centre * weight)
    )
    size = float(shift @ shift)
    if size < 1e-6 * float((columns[seen] * weight) @ (columns[seen] * weight)):
        return 0.0, math.inf
    share = float(shift @ moved) / size
    scatter = moved - share * shift
    return share, math.sqrt(float(scatter @ scatter) / (len(weight) - 3) / size)
