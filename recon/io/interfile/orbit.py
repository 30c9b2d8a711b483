"""How far from the axis the detector stood, and where the axis falls on it, from an Interfile header and SIMIND's .cor.

SIMIND counts the columns of a projection from 1 and calls half of the matrix + 1 the middle. What a header, or the
second column of an orbit file, says about the axis is compared with the counts: around the axis, the centre of gravity
of the projections follows a sine of the view angle.
"""

import math
import re
from dataclasses import dataclass, replace

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.io.interfile.geometry import Layout, once_a_head
from spectac.recon.io.interfile.header import Header, beside, canonical_key, distinct
from spectac.recon.types import LARGEST_RADIUS_MM, Array, Study

SMALLEST_RADIUS_MM = 60.0
"""No camera goes nearer to a person's axis, none stays 60 cm away: a smaller radius of SIMIND is in cm (version 7)."""

_RADIUS_KEYS = ("radii", "radius", "radius of rotation", "rotation radius", "radial position")

_FEWEST_VIEWS = 8
_SURE = 3.0
"""Standard errors by which the counts must differ from the opposite."""
_HALF = 0.5
"""A shift is there where the counts show more than half of it, and less than half too much."""


@dataclass(frozen=True)
class OrbitFile:
    """SIMIND's text file of an orbit: first column the radius, second (None: not there) the centre of rotation."""

    name: str
    radii: list[float]
    centres: list[float] | None


@dataclass(frozen=True)
class AxisClaim:
    """Where something says that the axis falls on the detector: (v,) columns from the middle, towards growing u.

    `each_view`: stated view by view, in an orbit file, which is believed where the counts cannot tell.
    """

    source: str
    columns: Array
    each_view: bool


def orbit_file(header: Header, dialect: str, views: Layout, warnings: list[str]) -> OrbitFile | None:
    """The file that a header of SIMIND names for a non-circular orbit; None where it names none or it is not there."""
    name = header.text("non-uniform orbit file", comments=True) if dialect == "SIMIND" else None
    path = None if name is None else beside(header, name)
    if name is None or path is None:
        return None
    rows = []
    lines = [line.strip() for line in path.read_text(encoding="latin-1").splitlines()]
    lines = [line for line in lines if line and not line.startswith(("#", ";", "!"))]
    if len(lines) > 1 and not re.match(r"[-+.,]*\d", lines[0]):
        lines = lines[1:]  # names of the columns
    if whole := _second_column(lines, header.count("matrix size[1]") or 0):
        warnings.append(
            f"{name}: the comma of '{lines[0]}' was taken to part two columns, for all have {whole} behind it"
        )
        lines = [line.replace(",", " ") for line in lines]
    for line in lines:
        words = re.split(r"[,;\s]+" if "." in line else r"[;\s]+", line)
        if words[0]:
            rows.append((header.as_number(f"first column of {name}", words[0]), _optional(header, words[1:2])))
    total = sum(views.views)
    if len(rows) > total:
        warnings.append(f"{name} has {len(rows)} lines for {total} projections: the first {total} were used")
        rows = rows[:total]
    if len(set(views.views)) == 1 and len(rows) == views.views[0]:
        rows *= views.heads
    centres = [centre for _, centre in rows if centre is not None]
    return OrbitFile(name, [radius for radius, _ in rows], centres if len(centres) == total else None)


def _second_column(lines: list[str], columns: int) -> str | None:
    """The second of two columns of whole numbers, parted by a comma that could be a decimal one; None where it is that.

    It is one number in all lines: the middle of so many columns, or behind three radii at least.
    """
    pairs = [re.fullmatch(r"(\d+),(\d+)", line) for line in lines]
    found = {(pair[1], pair[2]) for pair in pairs if pair}
    seconds = {second for _, second in found}
    if not all(pairs) or len(seconds) != 1 or (len(found) < 3 and seconds != {str(columns // 2 + 1)}):
        return None
    return seconds.pop()


def _optional(header: Header, words: list[str]) -> float | None:
    """Number of a column that may be missing or hold something else."""
    try:
        return header.as_number("second column", words[0]) if words else None
    except InputError:
        return None


def orbit_radii_mm(
    header: Header, dialect: str, views: Layout, radius_mm: float | None, file: OrbitFile | None, warnings: list[str]
) -> Array:
    """Distance (v,) from the axis to the collimator face in mm."""
    total = sum(views.views)
    if radius_mm is not None:
        return np.full(total, float(radius_mm))
    simind = dialect == "SIMIND"
    orbit = canonical_key(header.text("orbit", needed=False) or "").replace("-", "").replace(" ", "")
    if orbit not in ("", "circular", "noncircular"):
        warnings.append(f"'orbit := {orbit}' is neither circular nor non-circular: read by its radii")
    named = header.text("non-uniform orbit file", comments=True) if simind else None
    radii = _radii_in_header(header, views, simind)
    if orbit != "circular" and named is not None and (radii is None or len(radii) == 1):
        if file is None:
            raise header.error(f"the orbit file '{named}' is not there: put it beside the header or give --radius-mm")
        radii = file.radii
        if len(radii) != total:
            raise header.error(
                f"{len(radii)} radii for {total} projections: one is needed for each, or give --radius-mm"
            )
    if not radii:
        raise header.error(
            f"no radius for the {orbit or 'circular'} orbit: give --radius-mm, from the axis to the collimator face"
        )
    if orbit == "noncircular" and len(radii) == 1 and total > 1:
        warnings.append(f"one radius, {radii[0]:g}, for a non-circular orbit: used for all views (--radius-mm)")
    values = _spread(np.array(radii, np.float64), views)
    if values is None:
        raise header.error(f"{len(radii)} radii for {total} projections: one is needed for each, or give --radius-mm")
    if values.min() <= 0:
        raise header.error(f"a radius is {values.min():g}: radii_mm must be above 0: give --radius-mm")
    if simind and values.max() < SMALLEST_RADIUS_MM:
        warnings.append(f"SIMIND's radius of up to {values.max():g} was taken as cm")
        values *= 10.0
    elif values.min() < SMALLEST_RADIUS_MM:
        warnings.append(f"a radius of {values.min():g} mm is nearer than any camera goes: is it in cm? (--radius-mm)")
    if values.max() > LARGEST_RADIUS_MM:
        raise header.error(
            f"a radius is {values.max():g} mm, at most {LARGEST_RADIUS_MM:g} are possible: is it in other units? Give "
            "--radius-mm"
        )
    return values


def _radii_in_header(header: Header, views: Layout, simind: bool) -> list[float] | None:
    """Radii in mm under whatever key has them, as one value, a list, or one or a list for each head."""
    lengths = {1, views.heads, sum(views.views), *views.views}
    for key in _RADIUS_KEYS:
        found = [
            [factor * value for value in header.as_numbers(name, text, "mm", lengths)]
            for name, text, factor in header.measures(key, "mm", comments=simind)
        ]
        found = once_a_head(found, views.heads)
        if (
            all(len(distinct(same)) == 1 for same in zip(*found, strict=False))
            and len({len(one) for one in found}) == 1
        ):
            found = found[:1]
        if found and len(found) not in (1, views.heads, sum(views.views)):
            raise header.error(f"key '{key}' is given {len(found)} times with different values: keep one")
        radii = [value for one in found for value in one]
        if radii and (any(radii) or key != "radii"):
            return radii
    return None


def _spread(radii: Array, views: Layout) -> Array | None:
    """One radius for each view (v,) from one for all, for each head, or for each view of every head; else None."""
    if radii.size == 1:
        return np.full(sum(views.views), radii[0])
    if radii.size == views.heads < sum(views.views):
        return np.repeat(radii, views.views)
    if set(views.views) == {radii.size}:
        return np.tile(radii, views.heads)
    return radii if radii.size == sum(views.views) else None


def axis_claims(
    header: Header, dialect: str, columns: int, views: int, file: OrbitFile | None, warnings: list[str]
) -> list[AxisClaim]:
    """What header and orbit file say about an axis that is not in the middle of the matrix."""
    simind = dialect == "SIMIND"
    centre = _lenient(header, ("center of rotation", "centre of rotation"), simind)
    shift = _lenient(header, ("x offset",), simind)
    if shift:
        warnings.append(
            f"the header's X_offset {shift:g} says that the centre of rotation is not the middle of the matrix: not "
            "applied, for its sense is not known"
        )
    if not simind:
        # Programs count columns from 0 or 1, at their edges or their middles.
        if centre is not None and abs(centre - (columns + 1) / 2) > 0.6:
            warnings.append(
                f"the header's centre of rotation {centre:g} is not the middle of {columns} columns: not applied"
            )
        return []
    stated: list[tuple[str, Array, bool]] = []
    if file is not None and file.centres is not None:
        stated.append((f"the second column of {file.name} (centre of rotation)", np.array(file.centres), True))
    if centre is not None:
        stated.append(("the header's centre of rotation", np.full(views, centre), False))
    claims = []
    for source, centres, each_view in stated:
        offset = centres - (columns / 2 + 1)
        if np.abs(offset).max() > columns / 2:
            warnings.append(
                f"{source} has {centres[np.abs(offset).argmax()]:g}, beyond the {columns} columns: not used"
            )
        elif np.abs(offset).max() > 1e-3:
            claims.append(AxisClaim(source, offset, each_view))
    return claims


def _lenient(header: Header, names: tuple[str, ...], comments: bool) -> float | None:
    """Number under one of these keys; None without it and for words ("Corrected")."""
    text = header.text(*names, comments=comments, needed=False)
    try:
        return None if text is None else header.as_number(names[0], text, "mm")
    except InputError:
        return None


def with_axis(study: Study, claims: list[AxisClaim]) -> Study:
    """Study whose `u_offset_mm` is the claim that its counts support, with what was decided and why.

    Where the counts cannot tell, an orbit file is believed, and a header's centre of rotation that says the same.
    """
    if not claims:
        return study
    shares = [_share_of_shift(study, claim.columns) for claim in claims]
    told = [
        f"{claim.source}, {_shown(claim.columns)} columns from the middle of the matrix (the counts show "
        f"{share:.2f} +- {error:.2f} of that shift)"
        for claim, (share, error) in zip(claims, shares, strict=True)
    ]
    for claim, line, (share, error) in zip(claims, told, shares, strict=True):
        if abs(share - 1.0) < _HALF and share > _SURE * error:
            return _shifted(study, claim, history=f"axis placed by {line}")
    claim, (share, error) = claims[0], shares[0]
    refuted = abs(share - 1.0) >= _HALF and abs(share - 1.0) > _SURE * error
    agreed = any(np.allclose(claim.columns, one.columns, atol=0.01) for one in claims[1:])
    if not refuted and (claim.each_view or agreed):
        return _shifted(study, claim, warning=f"applied: {told[0]}")
    return replace(study, warnings=(*study.warnings, *(f"not applied: {line}" for line in told)))


def _shown(columns: Array) -> str:
    return f"{columns[0]:+g}" if np.ptp(columns) == 0 else f"{columns.min():+g} to {columns.max():+g}"


def _shifted(study: Study, claim: AxisClaim, *, history: str | None = None, warning: str | None = None) -> Study:
    return replace(
        study,
        acquisition=replace(study.acquisition, u_offset_mm=claim.columns * study.acquisition.pixel_mm[1]),
        history=study.history if history is None else (*study.history, history),
        warnings=study.warnings if warning is None else (*study.warnings, warning),
    )


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
