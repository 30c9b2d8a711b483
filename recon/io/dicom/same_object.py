"""Whether two DICOM files hold the same object, whatever their transfer syntaxes."""

import io
from pathlib import Path

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from spectac.recon.errors import InputError
from spectac.recon.io.dicom.elements import open_dicom

LARGEST_COMPARED = 64_000_000
"""Bytes: objects are compared in memory; of larger ones it is not told that they are the same."""


def same_object(one: Path, other: Path) -> bool:
    """Whether two files hold the same elements and pixels.

    Parameters
    ----------
    one, other : Path
        DICOM files, compressed ones included.

    Returns
    -------
    bool
        False where it cannot be told: a file is damaged or larger than LARGEST_COMPARED.

    Examples
    --------
    >>> same_object(Path(__file__), Path(__file__))
    False
    """
    if max(one.stat().st_size, other.stat().st_size) > LARGEST_COMPARED:
        return False
    try:
        (elements, pixels), (other_elements, other_pixels) = (_content(path) for path in (one, other))
    except InputError:
        return False
    return elements == other_elements and np.array_equal(pixels, other_pixels)


def _content(path: Path) -> tuple[bytes, np.ndarray]:
    """Elements of a file in one encoding, and its pixels unpacked, those of an object without any empty."""
    item = open_dicom(path)
    encoded, pixels = io.BytesIO(), np.zeros(0)
    with item.reading("the file"):
        if "PixelData" in item.data:
            words = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated")
            if np.prod([item.count(word) or 1 for word in words], dtype=float) / 8 > LARGEST_COMPARED:
                raise InputError("too many pixels")
            pixels = item.data.pixel_array
            del item.data.PixelData
        # Without what the file says of itself.
        dcmwrite(encoded, Dataset(item.data), implicit_vr=True, little_endian=True)
    return encoded.getvalue(), pixels
