"""One slice of a CT series: its header, checked, and its CT numbers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectac.recon.io.dicom_file import Item, open_dicom
from spectac.recon.io.dicom_nm_pixels import stored_frames
from spectac.recon.types import Array

AIR_HU = -1000.0
SMALLEST_PIXEL_MM, LARGEST_PIXEL_MM = 0.05, 10.0
FARTHEST_MM = 1e5


@dataclass(frozen=True, eq=False)
class Slice:
    """Header of one slice: where its first pixel lies, along which unit vectors, and how values become HU.

    `along_x` is the direction in which the column index grows, `along_y` the row index; `pixel_mm` (y, x); `padding`
    the lowest and highest stored value that stand for no data.
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
            raise item.error("NumberOfFrames", f"is {frames}: one slice a file is needed")
        pixel_mm = _needed(item, "PixelSpacing", 2)
        if not (min(pixel_mm) >= SMALLEST_PIXEL_MM and max(pixel_mm) <= LARGEST_PIXEL_MM):
            raise item.error("PixelSpacing", f"is {pixel_mm[0]:g} x {pixel_mm[1]:g} mm: no CT has such pixels")
        position = np.array(_needed(item, "ImagePositionPatient", 3))
        if np.abs(position).max() > FARTHEST_MM:
            raise item.error("ImagePositionPatient", f"lies {np.abs(position).max() / 1000:g} m from the origin")
        axes = np.array(_needed(item, "ImageOrientationPatient", 6)).reshape(2, 3)
        if not np.allclose(axes @ axes.T, np.eye(2), atol=1e-3):
            raise item.error("ImageOrientationPatient", "is not two unit vectors at a right angle")
        # Decimals are rounded in the file; the vectors are made orthonormal again.
        along_x = axes[0] / np.linalg.norm(axes[0])
        along_y = axes[1] - (axes[1] @ along_x) * along_x
        slope, intercept = _needed(item, "RescaleSlope", 1)[0], _needed(item, "RescaleIntercept", 1)[0]
        if slope == 0:
            raise item.error("RescaleSlope", "is 0: every pixel would have the same value")
        unit = item.text("RescaleType")
        if unit is not None and unit.upper() not in ("HU", "US"):
            raise item.error("RescaleType", f"is {shown(unit)}: CT numbers in HU are needed")
        padding = item.number("PixelPaddingValue")
        limit = item.number("PixelPaddingRangeLimit")
        return cls(
            path=item.path,
            size=(item.required_count("Rows"), item.required_count("Columns")),
            pixel_mm=(pixel_mm[0], pixel_mm[1]),
            position_mm=position,
            along_x=along_x,
            along_y=along_y / np.linalg.norm(along_y),
            slope=slope,
            intercept=intercept,
            padding=None if padding is None else _ordered(padding, padding if limit is None else limit),
            # Some write 0 for unknown.
            kvp=item.number("KVP") or None,
            tilt_deg=item.number("GantryDetectorTilt"),
            frame_of_reference_uid=item.text("FrameOfReferenceUID"),
        )

    def hu(self) -> tuple[Array, int]:
        """CT numbers (y, x) float32 with padding and everything below air set to air, and the padded pixels' number.

        InputError for pixels that are missing, cut short or compressed in a way that nothing installed can read.
        """
        item = open_dicom(self.path)
        item.data.NumberOfFrames = 1
        stored = stored_frames(item)[0]
        if stored.shape != self.size:
            raise item.error("Rows", f"and the pixels do not agree: {self.size} and {stored.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            hu = stored.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)
        if not np.isfinite(hu).all():
            raise item.error("RescaleSlope", "makes CT numbers that are not finite")
        padded = 0
        if self.padding is not None:
            mask = (stored >= self.padding[0]) & (stored <= self.padding[1])
            padded = int(mask.sum())
            hu[mask] = AIR_HU
        return np.maximum(hu, np.float32(AIR_HU), out=hu), padded


def _needed(item: Item, keyword: str, count: int) -> list[float]:
    """That many numbers of an element that must be there."""
    values = item.numbers(keyword)
    if len(values) != count:
        problem = "is missing" if not values else f"needs {count} number(s), it holds {len(values)}"
        raise item.error(keyword, f"{problem}: without it the CT cannot be used")
    return values


def shown(text: str) -> str:
    """A file's text as a message may show it: one line, printable, not long."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:80]


def _ordered(one: float, other: float) -> tuple[float, float]:
    return min(one, other), max(one, other)
