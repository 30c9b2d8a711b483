"""A stack of CT slices laid on an even grid whose axes are at right angles."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from spectac.recon.errors import FileError
from spectac.recon.io.dicom.ct_slice import AIR_HU, Slice
from spectac.recon.io.dicom.elements import Notes, name_of, shown
from spectac.recon.io.dicom.upright import upright
from spectac.recon.types import Array, Grid

_EVEN_MM = 0.05
"""Slices that lie this near to even positions are even: vendors write positions in steps of 0.01 to 0.1 mm."""

_SAME_MM = 0.01
"""Slices that lie this near to each other are at one position."""

_MISSING = 1.9
"""A step of this many times the median is a gap: one lost slice makes exactly 2."""

_LARGEST_GAP_MM = 20.0
"""A gap between slices that can be bridged."""

_SMALLEST_STEP_MM = 0.5
"""An even grid has no finer step."""

_GROWTH = 4
"""An even grid has at most this many times as many slices as the series."""

_TISSUE_HU = (-900.0, 3000.0)
"""CT numbers that tissue and bone may have."""


@dataclass(frozen=True, eq=False)
class Stack:
    """A series as a volume.

    Parameters
    ----------
    hu : array (z, y, x)
        CT numbers in HU.
    grid : Grid
        Even grid with axes at right angles.
    covered : array (z, y, x) or None
        True where a slice holds data; None: everywhere.
    """

    hu: Array
    grid: Grid
    covered: Array | None


def stack(slices: Sequence[Slice], notes: Notes) -> Stack:
    """Volume of at least two slices in any order, on an even grid whose axes are at right angles.

    Slices are ordered by their position along their common normal. Where the table moved along another line than the
    normal (tilted gantry) each slice is put where it was taken, on a larger canvas with air around it; where steps are
    uneven, values are interpolated linearly between the neighbouring slices. Only two slices are held besides the
    result.

    Parameters
    ----------
    slices : sequence of Slice
        Headers of the slices; the pixels are read here.
    notes : Notes
        Get what was done.

    Returns
    -------
    Stack
        Volume with the axes nearest to z superior, y posterior, x left.

    Raises
    ------
    InputError
        For a single slice, slices that do not belong together, two different ones at one place, and gaps above 20 mm.
    """
    first = slices[0]
    _check_alike(slices)
    normal = first.normal
    ordered = sorted(slices, key=lambda one: float(one.position_mm @ normal))
    ordered = _without_copies(ordered, normal, notes)
    if len(ordered) < 2:
        raise FileError(first.path, "one slice only: a CT needs at least two at different positions")
    first = ordered[0]
    offsets = np.array([one.position_mm - first.position_mm for one in ordered])
    heights, across_y, across_x = offsets @ normal, offsets @ first.along_y, offsets @ first.along_x
    _check_gaps(ordered, heights, notes)
    _check_lean(ordered, heights, across_y, across_x, notes)
    wanted = _even_heights(heights, notes)
    grid, places = _canvas(first, wanted, across_y, across_x)
    hu, absent = _filled(ordered, heights, wanted, places, grid.shape, notes)
    turned, (hu, covered) = upright(grid.affine_lps, grid.voxel_mm, hu, np.broadcast_to(~absent, grid.shape))
    return Stack(np.ascontiguousarray(hu), turned, covered if absent.any() else None)


def _check_alike(slices: Sequence[Slice]) -> None:
    """InputError where slices differ in what those of one volume have in common."""
    # Compared with slices that say it, where some say it.
    said = [one for one in slices if one.kvp is not None and one.frame_of_reference_uid is not None]
    first = (said or slices)[0]
    for one in slices:
        frames, voltages = ({one.frame_of_reference_uid, first.frame_of_reference_uid}, {one.kvp, first.kvp})
        axes, wanted = ([each.along_x, each.along_y] for each in (one, first))
        for keyword, alike, value in (
            ("Rows", one.size == first.size, f"{one.size[0]} x {one.size[1]}"),
            ("PixelSpacing", np.allclose(one.pixel_mm, first.pixel_mm, rtol=1e-4), str(one.pixel_mm)),
            ("ImageOrientationPatient", np.allclose(axes, wanted, atol=2e-3), str(np.round(axes, 4).tolist())),
            # What one slice leaves out another one may say.
            ("KVP", len(voltages - {None}) < 2, str(one.kvp)),
            ("FrameOfReferenceUID", len(frames - {None}) < 2, shown(str(one.frame_of_reference_uid))),
        ):
            if not alike:
                option = ", or the voltage of all with --tube-voltage-kv" if keyword == "KVP" else ""
                raise FileError(
                    one.path,
                    f"{name_of(keyword)} is {value}, unlike {first.path.name} of the same series: give only the files "
                    f"of one volume{option}",
                )


def _without_copies(ordered: list[Slice], normal: Array, notes: Notes) -> list[Slice]:
    """Slices without those that repeat the one before, pixel by pixel."""
    kept = ordered[:1]
    for one in ordered[1:]:
        step = one.position_mm - kept[-1].position_mm
        if abs(float(step @ normal)) > _SAME_MM:
            kept.append(one)
        elif np.linalg.norm(step) > _SAME_MM or not np.array_equal(one.hu()[0], kept[-1].hu()[0]):
            raise FileError(
                one.path,
                f"and {kept[-1].path.name} are two different images at one position "
                f"({name_of('ImagePositionPatient')}): give the files of one phase of the series only",
            )
    if len(kept) < len(ordered):
        notes.history.append(f"{len(ordered) - len(kept)} repeated slices left out")
    return kept


def _check_gaps(ordered: Sequence[Slice], heights: Array, notes: Notes) -> None:
    steps = np.diff(heights)
    for index in np.flatnonzero((steps > _LARGEST_GAP_MM) | (steps >= _MISSING * np.median(steps))).tolist():
        before, after = ordered[index].path, ordered[index + 1].path
        gap = f"{steps[index]:.1f} mm without a slice between {before.name} and {after.name}"
        if steps[index] > _LARGEST_GAP_MM:
            raise FileError(
                before.parent,
                f"{gap}: slices are missing (at most {_LARGEST_GAP_MM:g} mm can be bridged)",
            )
        notes.warn(
            f"CT: {gap}, the usual step is {np.median(steps):.1f} mm: slices may be missing, the gap was interpolated"
        )


def _check_lean(ordered: Sequence[Slice], heights: Array, across_y: Array, across_x: Array, notes: Notes) -> None:
    """Note a shear between the slices, and refuse one that no gantry makes."""
    first = ordered[0]
    drift = np.hypot(across_y, across_x)
    if np.any(np.hypot(np.diff(across_y), np.diff(across_x)) > np.diff(heights) + _SAME_MM):
        raise FileError(
            first.path.parent,
            f"{name_of('ImagePositionPatient')} moves more along the slices than across them: these are not the slices "
            "of one volume",
        )
    if drift.max() > _EVEN_MM:
        lean = np.degrees(np.arctan2(drift[-1], heights[-1]))
        notes.history.append(
            f"CT slices shifted in their plane by up to {drift.max():.1f} mm (gantry tilt {lean:.1f} deg), put straight"
        )
    along_axis = np.abs(first.normal).max() > np.cos(np.deg2rad(0.1))
    if first.tilt_deg and abs(first.tilt_deg) > 0.5 and along_axis:
        notes.warn(
            f"CT: {name_of('GantryDetectorTilt')} is {first.tilt_deg:g} deg but ImageOrientationPatient shows no tilt: "
            "the orientation was used"
        )


def _even_heights(heights: Array, notes: Notes) -> Array:
    """Evenly spaced heights from the first to the last slice; the slices' own where these are even."""
    even = np.linspace(heights[0], heights[-1], heights.size)
    if np.abs(heights - even).max() <= _EVEN_MM:
        return even
    steps = np.diff(heights)
    # Nearly the finest step, so that finely sampled parts keep their detail; the lowest tenth may be chance overlaps.
    step = max(float(np.quantile(steps, 0.1, method="lower")), _SMALLEST_STEP_MM)
    count = min(max(2, round(heights[-1] / step) + 1), _GROWTH * heights.size)
    even = np.linspace(heights[0], heights[-1], count)
    notes.history.append(
        f"uneven CT slices, {steps.min():.2f} to {steps.max():.2f} mm apart: interpolated to {even[1]:.2f} mm"
    )
    return even


def _canvas(first: Slice, wanted: Array, across_y: Array, across_x: Array) -> tuple[Grid, Array]:
    """Grid that holds all slices where they lie, and the place (n, 2) of each slice's first pixel on it, in pixels."""
    places = np.stack([across_y / first.pixel_mm[0], across_x / first.pixel_mm[1]], axis=-1)
    low = np.floor(places.min(axis=0) + 1e-3).astype(int)
    high = np.ceil(places.max(axis=0) - 1e-3).astype(int)
    rows, columns = np.array(first.size) + high - low
    step = float(wanted[1] - wanted[0])
    affine = np.eye(4)
    affine[:3, 0] = first.normal * step
    affine[:3, 1] = first.along_y * first.pixel_mm[0]
    affine[:3, 2] = first.along_x * first.pixel_mm[1]
    affine[:3, 3] = first.position_mm + affine[:3, 1] * low[0] + affine[:3, 2] * low[1]
    return Grid((wanted.size, int(rows), int(columns)), (step, *first.pixel_mm), affine), places - low


def _filled(
    ordered: Sequence[Slice], heights: Array, wanted: Array, places: Array, shape: tuple[int, int, int], notes: Notes
) -> tuple[Array, Array]:
    """CT numbers at the wanted heights, read slice by slice in order, and pixels (y, x) without data in any slice."""
    padded = 0
    never = np.ones(shape[1:], bool)

    @lru_cache(maxsize=2)
    def laid(index: int) -> Array:
        nonlocal padded
        hu, absent, count = ordered[index].hu()
        padded += count
        row, column = np.floor(places[index] + 1e-3).astype(int).tolist()
        # The last row and column may share a pixel of the canvas with what lies beyond the slice.
        never[row : row + hu.shape[0], column : column + hu.shape[1]] &= absent
        return _laid(hu, places[index], shape[1:])

    laid(0)  # before the volume is made: a file that lies about its size fails here
    volume = np.empty(shape, np.float32)
    for z, height in enumerate(wanted):
        below = int(np.clip(np.searchsorted(heights, height, side="right") - 1, 0, heights.size - 2))
        weight = float((height - heights[below]) / (heights[below + 1] - heights[below]))
        if weight * (heights[below + 1] - heights[below]) <= _EVEN_MM:
            volume[z] = laid(below)
        elif (1 - weight) * (heights[below + 1] - heights[below]) <= _EVEN_MM:
            volume[z] = laid(below + 1)
        else:
            volume[z] = (1 - weight) * laid(below) + weight * laid(below + 1)
    if padded:
        notes.history.append(f"{padded} padded CT pixels (PixelPaddingValue) set to {AIR_HU:g} HU")
        one = ordered[0]
        ends = [end * one.slope + one.intercept for end in one.padding or ()]
        if any(_TISSUE_HU[0] < end < _TISSUE_HU[1] for end in ends):
            notes.warn(
                f"CT: {name_of('PixelPaddingValue')} stands for {ends[0]:g} HU, as tissue may have: {padded} pixels "
                "were set to air"
            )
    return volume, never


def _laid(hu: Array, place: Array, shape: tuple[int, ...]) -> Array:
    """A slice (y, x) laid on a larger one of air, its first pixel at `place`, bilinearly between pixels."""
    base = np.floor(place + 1e-3).astype(int)
    part = place - base
    part = np.where(np.abs(part) < 1e-3, 0.0, part)
    out = np.full(shape, AIR_HU, np.float32)
    out[base[0] : base[0] + hu.shape[0], base[1] : base[1] + hu.shape[1]] = hu
    for axis in (0, 1):
        if part[axis] > 0:
            # The canvas ends at least one pixel beyond the slice on this side, so that only air is rolled over.
            out = np.float32(1 - part[axis]) * out + np.float32(part[axis]) * np.roll(out, 1, axis=axis)
    return out
