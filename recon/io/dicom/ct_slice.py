"""One slice of a CT series: its header, checked, and its CT numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spectac.recon.errors import FileError
from spectac.recon.io.dicom.elements import Item, name_of, open_dicom, shown
from spectac.recon.io.dicom.nm_pixels import stored_frames
from spectac.recon.io.dicom.upright import directions
from spectac.recon.types import Array

AIR_HU = -1000.0
"""CT number of air."""

NO_DATA_HU = -1500.0
"""Below this lies no air, whatever its noise: -2000, -2048 and -3024 stand for pixels outside a round field of view."""

_HIGHEST_KVP = 1000.0
"""No tube of a CT has more kilovolts: higher numbers are volts."""

_DESCRIPTION = ("SamplesPerPixel", "PhotometricInterpretation", "BitsStored", "HighBit", "PixelRepresentation")
"""What DICOM wants to be said about pixels, and what the pixels themselves tell."""

_HU_UNITS = ("HU", "US", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS")
"""RescaleType of CT numbers."""

_SMALLEST_PIXEL_MM, _LARGEST_PIXEL_MM = 0.05, 10.0
"""Pixels that a CT may have."""

_FARTHEST_MM = 1e5
"""Distance of a slice from the origin that a CT may have."""


@dataclass(frozen=True, eq=False)
class Slice:
    """Header of one slice: where its first pixel lies, along which unit vectors, and how values become HU.

    Parameters
    ----------
    path : Path
        The file.
    size, pixel_mm : tuple
        Rows and columns, and the pixel (y, x) in mm.
    position_mm : array (3,)
        Centre of the first pixel in LPS mm.
    along_x, along_y : array (3,)
        Unit vectors along which the column index and the row index grow.
    slope, intercept : float
        HU = slope x stored value + intercept.
    padding : tuple of float or None
        First and last stored value that stand for no data.
    kvp, tilt_deg : float or None
        Tube voltage in kV and tilt of the gantry in degrees, where the file gives them.
    frame_of_reference_uid : str or None
        UID of the coordinates.
    """

    path: Path
    size: tuple[int, int]
    pixel_mm: tuple[float, float]
    position_mm: Array
    along_x: Array
    along_y: Array
    slope: float
    intercept: float
    padding: tuple[float, float] | None
    kvp: float | None
    tilt_deg: float | None
    frame_of_reference_uid: str | None

    @property
    def normal(self) -> Array:
        """Unit vector across the slice, to superior for axial slices."""
        return np.asarray(np.cross(self.along_x, self.along_y))

    @classmethod
    def from_header(cls, item: Item) -> "Slice":
        """The slice of a header; InputError names file, tag and keyword."""
        if (frames := item.count("NumberOfFrames") or 1) != 1:
            raise item.error(f"NumberOfFrames is {frames}: one slice a file is needed")
        pixel_mm = _needed(item, "PixelSpacing", 2)
        if not (min(pixel_mm) >= _SMALLEST_PIXEL_MM and max(pixel_mm) <= _LARGEST_PIXEL_MM):
            raise item.error(f"PixelSpacing is {pixel_mm[0]:g} x {pixel_mm[1]:g} mm: no CT has such pixels")
        position = np.array(_needed(item, "ImagePositionPatient", 3))
        if np.abs(position).max() > _FARTHEST_MM:
            raise item.error(f"ImagePositionPatient lies {np.abs(position).max() / 1000:g} m from the origin")
        axes = directions(_needed(item, "ImageOrientationPatient", 6), 1e-3)
        if axes is None:
            raise item.error("ImageOrientationPatient is not two unit vectors at a right angle")
        intercept = _needed(item, "RescaleIntercept", 1)[0]
        slope = item.number("RescaleSlope")
        if slope is None:
            slope = 1.0
            item.notes.warn(f"CT: {name_of('RescaleSlope')} is missing: 1 is assumed")
        if slope == 0:
            raise item.error("RescaleSlope is 0: every pixel would have the same value")
        unit = item.text("RescaleType")
        if unit is not None and unit.upper() not in _HU_UNITS:
            raise item.error(f"RescaleType is {shown(unit)}: CT numbers in HU are needed")
        if lacking := [keyword for keyword in _DESCRIPTION if item.value(keyword) is None]:
            # One line for all slices: what is missing in one is missing in the others.
            item.notes.warn(f"CT: {', '.join(map(name_of, lacking))} missing: taken from the pixels themselves")
        padding = _optional(item, "PixelPaddingValue")
        limit = _optional(item, "PixelPaddingRangeLimit")
        return cls(
            path=item.path,
            size=(item.required_count("Rows"), item.required_count("Columns")),
            pixel_mm=(pixel_mm[0], pixel_mm[1]),
            position_mm=position,
            along_x=axes[0],
            along_y=axes[1],
            slope=slope,
            intercept=intercept,
            padding=None if padding is None else (padding, padding if limit is None else limit),
            kvp=_kilovolts(item),
            tilt_deg=_optional(item, "GantryDetectorTilt"),
            frame_of_reference_uid=item.text("FrameOfReferenceUID"),
        )

    def hu(self) -> tuple[Array, Array, int]:
        """CT numbers (y, x) float32, at least air's; where no data are; and the number of padded pixels.

        No data are where pixels hold the padding value or less than NO_DATA_HU.
        InputError for pixels that are missing, cut short or compressed in a way that nothing installed can read.
        """
        item = open_dicom(self.path)
        item.data.NumberOfFrames = 1
        _describe(item)
        stored = stored_frames(item)[0]
        if stored.shape != self.size:
            raise item.error(f"Rows and the pixels do not agree: {self.size} and {stored.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            hu = stored.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)
        if not np.isfinite(hu).all():
            raise item.error("RescaleSlope makes CT numbers that are not finite")
        absent, padded = hu < NO_DATA_HU, 0
        if self.padding is not None:
            low, high = (_as_stored(end, stored) for end in self.padding)
            mask = (stored >= min(low, high)) & (stored <= max(low, high))
            padded = int(mask.sum())
            hu[mask] = AIR_HU
            absent |= mask
        return np.maximum(hu, np.float32(AIR_HU), out=hu), absent, padded


def _as_stored(value: float, stored: Array) -> float:
    """A padding value in the pixels' own type: some write -2000 as 63536, or the other way round."""
    if stored.dtype.kind == "f":
        return value
    limits: Any = np.iinfo(stored.dtype)
    span = float(limits.max) - float(limits.min) + 1.0
    return value - span if value > limits.max else value + span if value < limits.min else value


def _describe(item: Item) -> None:
    """Fill in what a header does not say about its pixels and other readers of pixels do not assume.

    Numbers whose topmost allocated bit is set are negative: as unsigned ones they would be above 30000 HU.
    """
    content = item.value("PixelData")
    if item.value("BitsAllocated") is None and isinstance(content, bytes):
        pixels = item.required_count("Rows") * item.required_count("Columns")
        item.data.BitsAllocated = 8 if len(content) < 2 * pixels else 16 if len(content) < 4 * pixels else 32
    bits = item.count("BitsAllocated")
    if bits and item.value("PixelRepresentation") is None:
        size = bits // 8
        negative = False
        if isinstance(content, bytes) and size in (2, 4):
            # Explicit big endian has been turned by no one yet, and is too old to lack the element.
            negative = bool((np.frombuffer(content[: len(content) // size * size], f"<u{size}") >> (bits - 1)).any())
        item.data.PixelRepresentation = int(negative)


def _optional(item: Item, keyword: str) -> float | None:
    """The number of an element that the image does not depend on: one that cannot be read counts as missing."""
    try:
        return item.number(keyword)
    except FileError as error:
        item.notes.warn(f"CT: {error.args[1]}: left out")
        return None


def _kilovolts(item: Item) -> float | None:
    """Tube voltage in kV. Some write 0 for unknown, and some volts."""
    kvp = _optional(item, "KVP") or None
    if kvp is None or kvp <= _HIGHEST_KVP:
        return kvp
    item.notes.warn(f"CT: {name_of('KVP')} is {kvp:g}: taken for volts, {kvp / 1000:g} kV")
    return kvp / 1000


def _needed(item: Item, keyword: str, count: int) -> list[float]:
    """That many numbers of an element that must be there."""
    values = item.numbers(keyword)
    if len(values) != count:
        problem = "is missing" if not values else f"needs {count} number(s), it holds {len(values)}"
        raise item.error(
            f"{keyword} {problem}: without it the CT cannot be used; export the series from the scanner again, or give "
            "a mu-map"
        )
    return values
