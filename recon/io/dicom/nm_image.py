"""Reconstructions in DICOM NM (RECON TOMO) become images."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectac.recon.io.dicom.file import Item, name_of, named, open_dicom
from spectac.recon.io.dicom.nm_dataset import UNITS
from spectac.recon.io.dicom.nm_frames import Notes
from spectac.recon.io.dicom.nm_header import check_kind
from spectac.recon.io.dicom.nm_pixels import pixel_mm, scale, stored_frames
from spectac.recon.types import Array, Grid, Image


@dataclass(frozen=True, eq=False)
class Volume:
    """Values (z, y, x) on a grid, the UCUM code of their unit where RealWorldValueMapping has one, and history.

    `item` is the file's data set; `scaled` is True where the file gives a slope.
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
    Raises InputError, naming file, tag and keyword, for other files and for missing geometry.
    """
    volume = read_volume(path)
    name = next((name for name, (code, _) in UNITS.items() if code == volume.unit), "relative")
    with named(Path(path)):
        return Image(volume.values, volume.grid, name, history=volume.history)


def read_volume(path: str | os.PathLike[str], *, transmission: bool = False) -> Volume:
    """What an NM RECON TOMO file holds, whatever its values mean, turned and placed as by `read_image`.

    `transmission`: images of a transmission source are welcome.
    """
    source = Path(path)
    item = open_dicom(source)
    notes = Notes()
    with named(source):
        check_kind(item, "RECON TOMO", notes, transmission=transmission)
        slices = item.required_count("NumberOfFrames")
        order = _slice_order(item, slices)
        affine, voxel_mm, lines = _geometry(item)
        slope, intercept, unit, scaled = scale(item)
        values = stored_frames(item)[order].astype(np.float32)
        if (slope, intercept) != (1.0, 0.0):
            values *= slope
            values += intercept
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by Grid
            values, affine, voxel_mm = _turned(values, affine, voxel_mm)
        description = item.text("SeriesDescription")
        history = [f"read from DICOM NM {source.name}" + (f": {description}" if description else "")]
        grid = Grid((values.shape[0], values.shape[1], values.shape[2]), voxel_mm, affine)
        history += [*lines, *scaled, *notes.warnings, *item.warnings]
        return Volume(values, grid, unit, bool(scaled), tuple(history), item)


def _slice_order(item: Item, slices: int) -> Array:
    """Frame of each slice, in the order of SliceVector."""
    vector = item.numbers("SliceVector")
    if not vector and slices == 1:
        return np.zeros(1, np.int64)
    if len(vector) != slices:
        raise item.error("SliceVector", f"has {len(vector)} values for {slices} frames")
    if len(set(vector)) != slices:
        raise item.error("SliceVector", "names slices twice: several volumes in one file are not read")
    return np.argsort(vector)


def _geometry(item: Item) -> tuple[Array, tuple[float, float, float], list[str]]:
    """Affine (4, 4) from (slice, row, column, 1) to LPS mm, voxel_mm (slice, row, column), and history."""
    lines = []
    detectors = item.items("DetectorInformationSequence")
    words = ("ImagePositionPatient", "ImageOrientationPatient")
    sources = [one for one in (*detectors, item) if all(one.numbers(word) for word in words)]
    if not sources:
        raise item.error(words[0], f"or {name_of(words[1])} is missing: the image has no position in the patient")
    if sources[0] is item:
        lines.append("position and orientation from the file itself: its detector items have none")
    position, cosines = (np.array(sources[0].numbers(word)) for word in words)
    if position.size != 3 or cosines.size != 6:
        raise sources[0].error(words[0], f"needs 3 and {words[1]} 6 numbers, got {position.size} and {cosines.size}")
    columns, rows = cosines.reshape(2, 3)
    if np.abs(np.linalg.norm([columns, rows], axis=1) - 1).max() > 0.01 or abs(columns @ rows) > 0.01:
        raise sources[0].error(words[1], "does not hold two directions at right angles")
    columns = columns / np.linalg.norm(columns)
    rows = rows - columns * (rows @ columns)
    rows = rows / np.linalg.norm(rows)
    distance = item.number("SpacingBetweenSlices")
    if not distance:
        distance = item.number("SliceThickness")
        lines.append("no SpacingBetweenSlices: slices follow the normal at the distance of SliceThickness")
    if not distance:
        raise item.error("SpacingBetweenSlices", "and SliceThickness are missing or 0: the slice distance is unknown")
    row_mm, column_mm = pixel_mm(item)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(columns, rows) * distance
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = rows * row_mm, columns * column_mm, position
    return affine, (abs(distance), row_mm, column_mm), lines


def _turned(
    values: Array, affine: Array, voxel_mm: tuple[float, float, float]
) -> tuple[Array, Array, tuple[float, float, float]]:
    """Array and affine with the axes swapped and reversed so that they run nearest to superior, posterior, left."""
    axes: list[int] = []
    for direction in (2, 1, 0):
        free = [axis for axis in range(3) if axis not in axes]
        axes.append(max(free, key=lambda axis: abs(affine[direction, axis]) / voxel_mm[axis]))
    values = values.transpose(axes)
    affine = affine[:, [*axes, 3]].copy()
    for axis, direction in enumerate((2, 1, 0)):
        if affine[direction, axis] < 0:
            affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
            affine[:3, axis] *= -1
            values = np.flip(values, axis)
    sizes = voxel_mm[axes[0]], voxel_mm[axes[1]], voxel_mm[axes[2]]
    return np.ascontiguousarray(values), affine, sizes
