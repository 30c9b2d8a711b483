"""Stored pixels of DICOM NM and CT files, checked before they are decoded, and the size of a pixel."""

from pydicom.uid import UID

from spectac.recon.errors import FileError
from spectac.recon.io.dicom.elements import Item, message_of, shortened, transfer_syntax
from spectac.recon.types import Array

_MOST_UNPACKED = 200
"""Compressed pixels may grow by this factor (RLE: at most 64), or to 64 MiB; a header that wants more is damaged."""

_FEWEST_BITS = 8
"""No camera counts with fewer."""

_LOSSY = frozenset(f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 81, 91, 93, 112, 203))
"""Transfer syntaxes that compress with loss, or may: JPEG, JPEG-LS, JPEG 2000, JPEG XL and HTJ2K."""

_BITS = {"PixelData": (8, 16, 32), "FloatPixelData": (32,), "DoubleFloatPixelData": (64,)}
"""Bits of a pixel by the element that holds the pixels."""


def stored_frames(item: Item) -> Array:
    """Stored values (frame, row, column) in the file's order.

    Parameters
    ----------
    item : Item
        Dataset of the file, with its pixels.

    Returns
    -------
    array
        Integers of the file's type, or floats.

    Raises
    ------
    InputError
        Header and pixel data do not fit each other, or a compression cannot be decoded.
    """
    rows, columns = item.required_count("Rows"), item.required_count("Columns")
    frames = item.required_count("NumberOfFrames")
    shape = (frames, rows, columns)
    if (item.count("SamplesPerPixel") or 1) != 1:
        raise item.error("SamplesPerPixel must be 1: colour images hold no counts")
    keyword = next((word for word in _BITS if word in item.data), None)
    if keyword is None:
        raise item.error("PixelData is missing")
    syntax = transfer_syntax(item)
    compressed = syntax.is_transfer_syntax and syntax.is_compressed
    content = item.value(keyword)
    held = len(content) if isinstance(content, bytes) else 0
    bits = _bits(item, keyword, held, shape)
    needed = frames * rows * columns * bits // 8
    described = f"{frames} frames of {rows} x {columns} pixels of {bits} bits"
    if compressed and needed > max(_MOST_UNPACKED * held, 64 << 20):
        raise item.error(f"{keyword} holds {held} compressed bytes, too few for {described}")
    if not compressed and held < needed:
        raise item.error(f"{keyword} holds {held} bytes, {described} need {needed}: the file is cut off or damaged")
    _complete(item, keyword, bits)
    used = item.count("BitsStored") or bits, item.count("HighBit")
    if not compressed and keyword == "PixelData":
        # pydicom would cut the values to BitsStored, which is ours to judge.
        item.data.BitsStored, item.data.HighBit = bits, bits - 1
    values = _decoded(item, syntax)
    if syntax in _LOSSY or item.optional_text("LossyImageCompression") == "01":
        item.warn(
            f"TransferSyntaxUID {shortened(syntax.name)}: the pixels were compressed with loss and are not the counts "
            "that were measured: send the study without lossy compression"
        )
    if values.size != frames * rows * columns:
        raise item.error(f"{keyword} unfolds to {values.shape}, the header promises {described}")
    values = values.reshape(shape)
    return _used_bits(item, values, *used) if values.dtype.kind in "iu" else values


def _bits(item: Item, keyword: str, held: int, shape: tuple[int, int, int]) -> int:
    """Bits of a pixel: those of the header, else by the length of uncompressed pixel data of `held` bytes."""
    bits = item.count("BitsAllocated") or 0
    if not bits:
        syntax = transfer_syntax(item)
        frames, rows, columns = shape
        bits = 8 * (held // (frames * rows * columns))
        if bits not in (8, 16, 32, 64) or not syntax.is_transfer_syntax or syntax.is_compressed:
            raise item.error("BitsAllocated is missing or 0")
        item.warn(f"BitsAllocated is missing: {bits} bits a pixel, by the length of the pixel data")
    if bits not in _BITS[keyword]:
        raise item.error(f"BitsAllocated must be {' or '.join(map(str, _BITS[keyword]))}, it is {bits}")
    return bits


def _decoded(item: Item, syntax: UID) -> Array:
    """Values as pydicom decodes them."""
    name = f"the pixel data ({shortened(syntax.name)})"
    try:
        with item.reading(name):
            item.data.file_meta.setdefault("TransferSyntaxUID", syntax)
            values: Array = item.data.pixel_array
    except FileError as error:
        if not (syntax.is_transfer_syntax and syntax.is_compressed):
            raise
        raise item.error(
            f"TransferSyntaxUID {name} cannot be decoded here ({message_of(error.__cause__)}): write it uncompressed "
            "first, e.g. with gdcmconv --raw"
        ) from error
    return values


def _complete(item: Item, keyword: str, bits: int) -> None:
    """Give elements on the pixels that are missing the only value that fits counts."""
    defaults: dict[str, object] = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
    }
    if keyword == "PixelData":
        defaults |= {"BitsStored": bits, "HighBit": (item.count("BitsStored") or bits) - 1}
        if item.count("PixelRepresentation") is None:
            item.warn("PixelRepresentation is missing: counts were read as unsigned")
            item.data.PixelRepresentation = 0
    for name, value in defaults.items():
        if not item.value(name):
            setattr(item.data, name, value)
    item.data.NumberOfFrames = item.required_count("NumberOfFrames")


def _used_bits(item: Item, values: Array, stored: int, high: int | None) -> Array:
    """Values without what lies in the bits above BitsStored."""
    allocated = 8 * values.dtype.itemsize
    if stored >= allocated:
        return values
    beyond = values.dtype.kind == "u" and values.max(initial=0) >= 1 << stored
    if beyond and stored < _FEWEST_BITS:
        item.warn(f"BitsStored is {stored}, but values go up to {values.max()}: all {allocated} bits were used")
        return values
    if beyond:
        item.warn(f"BitsStored is {stored}, but values go up to {values.max()}: the bits above were left out")
    if high is not None and high != stored - 1:
        raise item.error(f"BitsStored {stored} and HighBit {high} do not fit {allocated} bits allocated")
    spare = allocated - stored
    return (values << spare) >> spare if values.dtype.kind == "i" else values & values.dtype.type((1 << stored) - 1)


def pixel_mm(item: Item, given: tuple[float, float] | None = None) -> tuple[float, float]:
    """Pixel (z, u) in mm: the user's, else from PixelSpacing, whose order is (row distance, column distance).

    Parameters
    ----------
    item : Item
        Dataset of the file, which gets warnings.
    given : tuple of float or None
        The user's pixel (z, u) in mm.

    Returns
    -------
    tuple of float
        Pixel (z, u) in mm.

    Raises
    ------
    InputError
        There is no size, or none that is possible.

    Examples
    --------
    >>> from pydicom import Dataset
    >>> from pathlib import Path
    >>> data = Dataset()
    >>> data.PixelSpacing = [4.8, 2.4]
    >>> pixel_mm(Item(data, Path("scan.dcm")))
    (4.8, 2.4)
    """
    if given is not None:
        return given
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            values = item.numbers(keyword)
        except FileError as error:
            raise FileError(item.path, f"{error.args[1]}: give --pixel-mm") from None
        if keyword != "PixelSpacing" and values:
            item.warn(f"{keyword} was taken as the pixel size, for PixelSpacing is missing; --pixel-mm gives another")
        if len(values) == 1:
            item.warn(f"{keyword} holds one number: the pixels were taken as squares of {values[0]:g} mm")
            values *= 2
        if not values:
            continue
        if len(values) != 2 or min(values) <= 0:
            shown = "\\".join(f"{value:g}" for value in values)
            raise item.error(f"{keyword} needs two numbers above 0 mm (row, column), it is {shown}: give --pixel-mm")
        return values[0], values[1]
    raise item.error("PixelSpacing is missing: give --pixel-mm, the size of a pixel")
