"""Reconstructions in DICOM NM (RECON TOMO) become images."""

import os
from dataclasses import dataclass

import numpy as np

from spectac.recon.errors import naming
from spectac.recon.io.dicom.elements import Item, name_of, open_dicom
from spectac.recon.io.dicom.nm_kind import check_kind
from spectac.recon.io.dicom.nm_pixels import pixel_mm, stored_frames
from spectac.recon.io.dicom.nm_rescale import UNITS, read_rescale
from spectac.recon.io.dicom.upright import directions, upright
from spectac.recon.types import Array, Grid, Image


@dataclass(frozen=True, eq=False)
class Volume:
    """Values of a reconstruction on their grid.

    Parameters
    ----------
    values : array (z, y, x)
        Values after slope and intercept, float32.
    grid : Grid
        Where the voxels lie.
    unit : str or None
        UCUM code of the unit where RealWorldValueMapping has one.
    scaled : bool
        True where the file gives a slope.
    history : tuple of str
        How the file was read.
    item : Item
        Dataset of the file.
    """

    values: Array
    grid: Grid
    unit: str | None
    scaled: bool
    history: tuple[str, ...]
    item: Item


def read_image(path: str | os.PathLike[str]) -> Image:
    """Image from an NM RECON TOMO file, turned so that z is nearest to superior, y to posterior, x to left.

    Position and orientation come from the detector item, where DICOM has them, else from the file itself. The sign of
    SpacingBetweenSlices says whether slices follow the normal of the first one (row x column direction) or go against
    it. Unit: cps/mL and kBq/mL where RealWorldValueMappingSequence names them, else "relative".

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    Image
        Values (z, y, x) float32.

    Raises
    ------
    InputError
        Naming file, tag and keyword, for other files and for missing geometry.
    """
    volume = read_volume(path)
    name = next((name for name, (code, _) in UNITS.items() if code == volume.unit), "relative")
    with naming(path):
        return Image(volume.values, volume.grid, name, history=volume.history)


def read_volume(path: str | os.PathLike[str], *, transmission: bool = False) -> Volume:
    """What an NM RECON TOMO file holds, whatever its values mean, turned and placed as by `read_image`.

    Parameters
    ----------
    path : path-like
        The file.
    transmission : bool
        True lets images of a transmission source pass.

    Returns
    -------
    Volume
        Values, grid, unit and history.

    Raises
    ------
    InputError
        Naming file, tag and keyword, for other files and for missing geometry.
    """
    item = open_dicom(path)
    with naming(path):
        check_kind(item, "RECON TOMO", transmission=transmission)
        description = item.text("SeriesDescription")
        history = [f"read from DICOM NM {item.path.name}" + (f": {description}" if description else "")]
        order = _slice_order(item)
        affine, voxel_mm = _geometry(item, history)
        rescale = read_rescale(item)
        values = stored_frames(item)[order].astype(np.float32)
        rescale.apply(values)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by Grid
            grid, (values,) = upright(affine, voxel_mm, values)
        history += [*rescale.history, *item.notes.warnings]
        return Volume(np.ascontiguousarray(values), grid, rescale.unit, bool(rescale.history), tuple(history), item)


def _slice_order(item: Item) -> Array:
    """Frame of each slice, in the order of SliceVector."""
    slices, vector = item.required_count("NumberOfFrames"), item.numbers("SliceVector")
    if not vector and slices == 1:
        return np.zeros(1, np.int64)
    if len(vector) != slices:
        raise item.error(f"SliceVector has {len(vector)} values for {slices} frames")
    if len(set(vector)) != slices:
        raise item.error("SliceVector names slices twice: several volumes in one file are not read")
    return np.argsort(vector)


def _geometry(item: Item, history: list[str]) -> tuple[Array, tuple[float, float, float]]:
    """Affine (4, 4) from (slice, row, column, 1) to LPS mm, and voxel_mm (slice, row, column)."""
    detectors = item.items("DetectorInformationSequence")
    words = ("ImagePositionPatient", "ImageOrientationPatient")
    sources = [one for one in (*detectors, item) if all(one.numbers(word) for word in words)]
    if not sources:
        raise item.error(f"{words[0]} or {name_of(words[1])} is missing: the image has no position in the patient")
    if sources[0] is item:
        history.append("position and orientation from the file itself: its detector items have none")
    position, cosines = (np.array(sources[0].numbers(word)) for word in words)
    if position.size != 3 or cosines.size != 6:
        raise sources[0].error(f"{words[0]} needs 3 and {words[1]} 6 numbers, got {position.size} and {cosines.size}")
    axes = directions(cosines, 0.02)
    if axes is None:
        raise sources[0].error(f"{words[1]} does not hold two directions at right angles")
    columns, rows = axes
    distance = item.number("SpacingBetweenSlices")
    if not distance:
        distance = item.number("SliceThickness")
        history.append("no SpacingBetweenSlices: slices follow the normal at the distance of SliceThickness")
    if not distance:
        raise item.error("SpacingBetweenSlices and SliceThickness are missing or 0: the slice distance is unknown")
    row_mm, column_mm = pixel_mm(item)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(columns, rows) * distance
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = rows * row_mm, columns * column_mm, position
    return affine, (abs(distance), row_mm, column_mm)
