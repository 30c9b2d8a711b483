"""The data file of an Interfile header: its place, the type of its numbers, and the numbers."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectac.recon.io.content import refuse_packed
from spectac.recon.io.interfile.header import LARGEST_NUMBER, Header
from spectac.recon.types import Array

_KINDS = {
    "unsigned integer": ("u1", "u2", "u4"),
    "signed integer": ("i1", "i2", "i4"),
    "float": ("f4", "f8"),
    "short float": ("f4",),
    "long float": ("f8",),
}
"""Number formats of Interfile, and numpy's kinds of their sizes."""

_ORDERS = {"littleendian": "<", "little": "<", "bigendian": ">", "big": ">"}
_ORDER_NAMES = {"<": "LITTLEENDIAN", ">": "BIGENDIAN"}

_BLOCK_BYTES = 2048
"""Unit of 'data starting block'."""

_SAMPLE_ROWS = 4096
"""Rows that tell the byte order."""

_ROUGHER = 4.0
"""Counts whose bytes are exchanged differ from their neighbours by much more, at least 256 times where below 256."""


@dataclass(frozen=True)
class DataFile:
    """Where the numbers of a header lie.

    Parameters
    ----------
    path : Path
        The data file.
    offset : int
        Bytes before the first number.
    kind : dtype
        Type and byte order of the numbers.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "scan.a00")
    >>> np.zeros((3, 4, 4), "<f4").tofile(file)
    >>> DataFile(file, offset=0, kind=np.dtype("<f4")).images(pixels=16)
    3
    """

    path: Path
    offset: int
    kind: np.dtype

    def images(self, pixels: int) -> int:
        """Whole images of so many pixels in the file."""
        return max(0, self.path.stat().st_size - self.offset) // (self.kind.itemsize * pixels)


def data_file(header: Header) -> DataFile:
    """The data file that a header names.

    Parameters
    ----------
    header : Header
        Header.

    Returns
    -------
    DataFile
        File, which exists.

    Raises
    ------
    InputError
        For a missing file, data in the header's own file, and unknown types of numbers.
    """
    name = header.required("name of data file")
    path = beside(header, name)
    if path is None:
        raise header.error(f"the data file '{name}' is not there: it must lie beside the header")
    if path.resolve() == header.path.resolve():
        raise header.error("data in the header's own file is not supported: put it into a file of its own")
    offset = header.count("data offset in bytes", "data offset in bytes[1]", least=0)
    if offset is None:
        offset = _BLOCK_BYTES * (header.count("data starting block", least=0) or 0)
    return DataFile(path, offset, _number_type(header))


def read_values(header: Header, shape: tuple[int, ...]) -> Array:
    """The data file's values as float32, scaled.

    Parameters
    ----------
    header : Header
        Header, which gets warnings.
    shape : tuple of int
        Shape of the result, its last axis the fastest.

    Returns
    -------
    array
        float32 in this shape.

    Raises
    ------
    InputError
        For data in the header's own file, compressed data, and number formats that are not listed in docs/formats.md.
        For a file that holds less than the header promises.
    """
    for key in ("data compression", "data encode"):
        if (header.text(key) or "none").lower() not in ("none", "off", "0"):
            raise header.error(f"'{key} := {header.text(key)}' is not supported: write the data plainly")
    data = data_file(header)
    promised = math.prod(shape) * data.kind.itemsize
    held = data.path.stat().st_size
    if held < data.offset + promised:
        refuse_packed(data.path)
        raise header.error(
            f"promises {promised} bytes of data after an offset of {data.offset} bytes, but {data.path.name} holds "
            f"{held} bytes: the file is cut short or matrix, projections or number format are wrong"
        )
    if held > data.offset + promised:
        header.warn(
            f"{data.path.name} holds {held} bytes, {held - data.offset - promised} more than the header promises"
        )
    scale = header.number("image scaling factor[1]", "image scaling factor")
    if scale == 0:
        header.warn("'image scaling factor' is 0, which would leave no counts: taken as not set")
        scale = None
    values = np.fromfile(data.path, dtype=data.kind, count=math.prod(shape), offset=data.offset)
    values = _in_true_order(values.reshape(shape), header, data)
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is refused, with its reason, where the study is made
        values = values.astype(np.float32)
        if scale is not None and scale != 1.0:
            values *= np.float32(scale)
    return values


def _in_true_order(values: Array, header: Header, data: DataFile) -> Array:
    """Values in the byte order in which they make an image, with a warning where the header does not say so."""
    stated = header.text("imagedata byte order")
    if _is_swapped(values.reshape(-1, values.shape[-1])):
        values = values.view(data.kind.newbyteorder())
        header.warn(
            f"the numbers of {data.path.name} make an image only as {_ORDER_NAMES[values.dtype.str[0]]}: read so, "
            f"though 'imagedata byte order' is {stated or 'missing'}"
        )
    elif stated is None and data.kind.itemsize > 1:
        header.warn("the header gives no 'imagedata byte order': read as BIGENDIAN, Interfile's default")
    return values


def _is_swapped(rows: Array) -> bool:
    """Tell whether numbers (n, u) in the file's type make an image in the other byte order alone."""
    kind = rows.dtype
    if kind.itemsize == 1:
        return False
    if kind.kind == "f":
        return not _is_plausible(rows) and _is_plausible(rows.view(kind.newbyteorder()))
    rows = rows[:: max(1, len(rows) // _SAMPLE_ROWS)]
    stated, exchanged = (
        np.abs(np.diff(one.astype(np.float64), prepend=0.0)).mean() for one in (rows, rows.view(kind.newbyteorder()))
    )
    return bool(stated > _ROUGHER * exchanged)


def _is_plausible(values: Array) -> bool:
    """Finite, and neither all as small nor some as large as floating-point numbers of exchanged bytes are."""
    with np.errstate(invalid="ignore"):
        return bool(1e-20 < np.abs(values).max() <= LARGEST_NUMBER)


def beside(header: Header, name: str) -> Path | None:
    """Path of the file that the header names, None where there is no such file.

    Parameters
    ----------
    header : Header
        Header.
    name : str
        Name in the header; a folder in it, or other capitals, may differ from what is there.

    Returns
    -------
    Path or None
        File that exists.

    Examples
    --------
    >>> import tempfile
    >>> from spectac.recon.io.interfile.dialect import STIR
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "scan.s").touch()
    >>> beside(Header(folder / "scan.hs", {}, {}, STIR, None, ()), "/data/elsewhere/scan.s").name
    'scan.s'
    """
    try:
        path = header.path.parent / name.strip('"').replace("\\", "/")
        if not path.is_file():
            path = header.path.parent / path.name  # the folder in which it was written is no longer there
        if not path.is_file():
            alike = [one for one in header.path.parent.iterdir() if one.name.lower() == path.name.lower()]
            path = alike[0] if len(alike) == 1 else path  # written where capitals do not count
        return path if path.is_file() else None
    except (OSError, ValueError):  # a name that no file system would take
        return None


def _number_type(header: Header) -> np.dtype:
    """Type of the numbers in the data file; without a byte order that of Interfile, BIGENDIAN."""
    spelled = " ".join(header.required("number format").lower().split())
    kinds = _KINDS.get(spelled, ())
    size = header.count("number of bytes per pixel")
    if size is None and kinds[:1] in (("f4",), ("f8",)):
        size = int(kinds[0][1])  # formats whose name says their bytes (Interfile 3.3)
    if size is None:
        raise header.missing("number of bytes per pixel")
    kind = next((kind for kind in kinds if kind[1:] == str(size)), None)
    if kind is None:
        listed = ", ".join(f"{name} of {one[1]}" for name, sizes in _KINDS.items() for one in sizes)
        raise header.error(f"number format '{spelled}' of {size} bytes is not one of {listed}")
    order = re.sub(r"[\s_-]", "", header.text("imagedata byte order") or "BIGENDIAN")
    if order.lower() not in _ORDERS:
        raise header.error(f"'imagedata byte order' must be LITTLEENDIAN or BIGENDIAN, got '{order}'")
    return np.dtype(_ORDERS[order.lower()] + kind)
