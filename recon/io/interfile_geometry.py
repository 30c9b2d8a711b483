"""Where the detector stood, from the keys of an Interfile header: angles, radii, heads, times; one mapping a dialect.

Interfile 3.3 says neither what zero degrees is nor from which side CW is seen. Ours: 0 deg = detector at the patient's
back, growing counter-clockwise seen from the feet, columns u to the detector's right looking at the patient, row 0
inferior. The mappings, each with its evidence:

- STIR: a = start angle, CCW growing, CW falling. STIR's own converter copies DICOM's start angle and frames and writes
  DICOM's CC as CCW. (STIR's projector then shows such data mirrored in x, as the README of its test data says.) On
  those data the opposite sense of rotation raises chi^2 per bin from 1.3 to 8.3 (tests/recon/io/test_real_data.py).
- SIMIND: a = 180 - start angle, CCW growing, CW falling. Its manual (version 7) puts zero at the anterior position,
  calls a positive start angle and a positive rotation clockwise, and views the patient from the feet.

In both, the file's rows run from superior to inferior (SIMIND: "Image Orientation 1 0 0 0 0 -1"; STIR: as DICOM), so
they are reversed; the columns stay. `even_sweep` goes the other way: the views of a study as such a header has them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.io.interfile_header import Header, beside, canonical_key
from spectac.recon.types import Acquisition, Array

MAPPING = {
    "STIR": "Interfile angles mapped as STIR's: 0 deg = detector at the patient's back, CCW seen from the feet; "
    "columns kept, rows reversed (file row 0 = superior)",
    "SIMIND": "Interfile angles mapped as SIMIND's: 0 deg = detector in front of the patient, positive = clockwise "
    "seen from the feet; columns kept, rows reversed (file row 0 = superior)",
}

MU_AXES = {
    "STIR": "an Interfile image does not say where it lies: read as STIR's SPECT projector takes it, centred on the "
    "rotation axis, x to the patient's right, y to posterior, z to inferior; check left and right",
    "SIMIND": "the mu-map of SIMIND was centred on the rotation axis: x to left, y to posterior, first slice superior",
}

SMALLEST_RADIUS_MM = 60.0
"""No camera goes nearer to a person's axis, none stays 60 cm away: a smaller radius of SIMIND is in cm (version 7)."""

_EVEN_DEG = 0.01
"""Views count as evenly spaced where none is further from its place: headers of cameras give steps to 0.001 deg."""

_CLOCKWISE = {"cw": -1, "clockwise": -1, "ccw": 1, "cc": 1, "counter-clockwise": 1, "counterclockwise": 1}


def dialect_of(header: Header) -> tuple[str, list[str]]:
    """Choose "SIMIND" for headers as SIMIND writes them, else "STIR".

    A header of SIMIND that was rewritten for STIR counts as STIR's, with a warning.
    """
    system = (header.text("originating system") or "").strip().lower()
    if system != "simind":
        if system in ("", "stir", "simset"):
            return "STIR", []
        return "STIR", [
            f"headers of '{system}' are not known: angles were taken as STIR's (0 deg = at the back); check left and "
            "right, front and back against a known image"
        ]
    if "energy window lower level" in header.comments or header.text("number format") == "short float":
        return "SIMIND", []
    return "STIR", ["a header of SIMIND rewritten for STIR: its angles were taken as STIR's (0 deg = at the back)"]


def layout(header: Header) -> tuple[int, int, int]:
    """Heads, views of each head, and windows in the data file."""
    projections = header.required_count("number of projections")
    heads = header.count("number of detector heads") or 1
    windows = header.count("number of energy windows") or 1
    images = header.count("total number of images")
    if images is None or images == windows * heads * projections:
        return heads, projections, windows
    if images == windows * projections and projections % heads == 0:
        return heads, projections // heads, windows
    raise header.error(
        f"'total number of images := {images}' does not fit {windows} energy windows, {heads} heads and "
        f"{projections} projections"
    )


def view_angles_deg(
    header: Header,
    dialect: str,
    heads: int,
    each: int,
    head_angles_deg: Sequence[float] | None,
    warnings: list[str],
) -> Array:
    """View angles (v,) in our convention, the views of each head one after the other."""
    direction = header.required("direction of rotation").lower()
    if direction not in _CLOCKWISE:
        raise header.error(f"'direction of rotation' must be CW or CCW, got '{direction}'")
    extent = header.required_number("extent of rotation")
    if not 0 < extent <= 3600:
        raise header.error(f"'extent of rotation' must lie between 0 and 3600 deg, got {extent:g}")
    # The arc belongs to the projections that the header counts, whether these are one head's or all heads' together.
    step = _CLOCKWISE[direction] * extent / header.required_count("number of projections")
    given = [header.as_number("start angle", text) for text in header.keys.get("start angle", ()) if text]
    if head_angles_deg is not None:
        starts = [float(angle) for angle in head_angles_deg]
        if len(starts) != heads:
            raise header.error(f"--head-angles needs one angle for each of the {heads} heads, got {len(starts)}")
    elif heads > 1 and len(given) != heads:
        raise header.error(
            f"names {heads} detector heads but {len(given)} start angles: give --head-angles, the angle of each head's "
            "first view, 0 = at the patient's back, growing counter-clockwise seen from the feet"
        )
    else:
        if heads == 1:
            given = [header.required_number("start angle")]
        starts = [180.0 - angle if dialect == "SIMIND" else angle for angle in given]
        if dialect == "SIMIND" and step < 0 and any(angle % 180.0 for angle in given):
            warnings.append(
                "a clockwise SIMIND orbit that does not start at 0 or 180 deg: read as its manual says (positive = "
                "clockwise), other readers turn the start the other way; check that the nose points to the front"
            )
    return np.mod(np.concatenate([start + step * np.arange(each) for start in starts]), 360.0)


def orbit_radii_mm(header: Header, dialect: str, views: int, radius_mm: float | None, warnings: list[str]) -> Array:
    """Distance (v,) from the axis to the collimator face in mm."""
    if radius_mm is not None:
        return np.full(views, float(radius_mm))
    simind = dialect == "SIMIND"
    orbit = canonical_key(header.text("orbit") or "circular").replace("-", "").replace(" ", "")
    if orbit not in ("circular", "noncircular"):
        raise header.error(f"'orbit' must be circular or non-circular, got '{orbit}'")
    radii = header.numbers("radii")
    if orbit == "circular" and radii is None:
        radius = header.number("radius", comments=simind)
        radii = None if radius is None else [radius] * views
    elif radii is None and simind:
        radii = _orbit_file(header)
    if radii is None:
        raise header.error(f"no radius for the {orbit} orbit: give --radius-mm, from the axis to the collimator face")
    if len(radii) != views:
        raise header.error(f"{len(radii)} radii for {views} projections: one is needed for each")
    values = np.array(radii)
    if simind and 0 < values.max() < SMALLEST_RADIUS_MM:
        warnings.append(f"SIMIND's radius of up to {values.max():g} was taken as cm")
        values *= 10.0
    return values


def _orbit_file(header: Header) -> list[float] | None:
    """Radii from the first column of the text file that SIMIND names for a non-circular orbit."""
    name = header.text("non-uniform orbit file", comments=True)
    if name is None:
        return None
    path = beside(header, name)
    if path is None:
        raise header.error(f"the orbit file '{name}' is not there: put it beside the header or give --radius-mm")
    lines = [line.split() for line in path.read_text(encoding="latin-1").splitlines()]
    return [header.as_number(f"first column of {name}", words[0]) for words in lines if words]


def view_seconds(header: Header, each: int) -> float:
    """Seconds of one view, NaN when the header does not say (or says 0)."""
    seconds = header.number("time per projection (sec)")
    if not seconds:
        total = header.number("image duration (sec)[1]", "image duration (sec)")
        seconds = total / each if total else math.nan
    return seconds


def warn_of_shift(header: Header, dialect: str, columns: int, warnings: list[str]) -> None:
    """SIMIND counts the centre of rotation from 1 at the first pixel's edge: half of the matrix + 1 is the middle."""
    if dialect != "SIMIND":
        return
    centre = header.number("center of rotation", comments=True)
    shift = header.number("x offset", comments=True)
    if (centre is not None and centre != columns / 2 + 1) or shift:
        warnings.append(f"centre of rotation {centre} or X offset {shift} is not the middle of the matrix: not applied")


@dataclass(frozen=True)
class Sweep:
    """One even sweep of all views: `order` (v,) of the study's views, angle of the first, step (< 0: clockwise)."""

    order: Array
    start_deg: float
    step_deg: float


def even_sweep(acquisition: Acquisition, *, clockwise: bool | None = None) -> Sweep:
    """All views, of whatever head, as one sweep of equal steps; `clockwise` None: the first head's sense of rotation.

    A full turn begins with the study's first view, an arc at its end.
    Raises InputError where the views of all heads together are not evenly spaced.
    """
    angles = np.mod(acquisition.view_angles_deg, 360.0)
    views = angles.size
    if views < 2:
        raise InputError("one view is no sweep: Interfile projections need at least two")
    rising = np.argsort(angles, kind="stable")
    gaps = np.diff(angles[rising], append=angles[rising[0]] + 360.0)
    full = abs(gaps.max() - 360.0 / views) < 2 * _EVEN_DEG
    if full:
        first, step = int(np.flatnonzero(rising == 0)[0]), 360.0 / views
    else:
        first, step = (int(np.argmax(gaps)) + 1) % views, float((360.0 - gaps.max()) / (views - 1))
    order = np.roll(rising, -first)
    offsets = np.mod(angles[order] - angles[order[0]] + _EVEN_DEG, 360.0) - _EVEN_DEG
    worst = float(np.abs(offsets - step * np.arange(views)).max())
    if step < 2 * _EVEN_DEG or worst > _EVEN_DEG:
        raise InputError(
            f"the header has one start angle and one step, but the {views} views of all heads together are not evenly "
            f"spaced (steps of {gaps.min():g} to {np.sort(gaps)[-1 if full else -2]:g} deg): export to pytomography, "
            "or write HDF5"
        )
    if _turns_clockwise(acquisition) if clockwise is None else clockwise:
        order = np.roll(order[::-1], 1) if full else order[::-1]
        step = -step
    return Sweep(order, float(angles[order[0]]), step)


def _turns_clockwise(acquisition: Acquisition) -> bool:
    detector = np.asarray(acquisition.detector)
    own = np.asarray(acquisition.view_angles_deg)[detector == detector[0]]
    steps = np.mod(np.diff(own) + 180.0, 360.0) - 180.0
    return bool(steps.size and np.median(steps) < 0)
