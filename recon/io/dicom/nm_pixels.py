"""Stored pixels of DICOM NM files, checked before they are decoded, and the scale of their values."""

from spectac.recon.errors import InputError
from spectac.recon.io.dicom.file import Item, shortened, transfer_syntax
from spectac.recon.types import Array

_MOST_UNPACKED = 200
"""Compressed pixels may grow by this factor (RLE: at most 64), or to 64 MiB; a header that wants more is damaged."""

_FEWEST_BITS = 8
"""No camera counts with fewer."""

_NO_UNIT = {"", "1", "{counts}", "{count}", "counts", "CNTS", "no units"}


def stored_frames(item: Item) -> Array:
    """Stored values (frame, row, column) in the file's order, integers of the file's type or floats.

    Raises InputError where header and pixel data do not fit each other or a compression cannot be decoded.
    """
    rows, columns = item.required_count("Rows"), item.required_count("Columns")
    frames = item.required_count("NumberOfFrames")
    if (item.count("SamplesPerPixel") or 1) != 1:
        raise item.error("SamplesPerPixel", "must be 1: colour images hold no counts")
    keyword = next((k for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if k in item.data), None)
    if keyword is None:
        raise item.error("PixelData", "is missing")
    bits = _completed(item, keyword, frames * rows * columns)
    wanted_bits = {"FloatPixelData": (32,), "DoubleFloatPixelData": (64,)}.get(keyword, (8, 16, 32))
    if bits not in wanted_bits:
        raise item.error("BitsAllocated", f"must be {' or '.join(map(str, wanted_bits))}, it is {bits}")
    content = item.value(keyword)
    held = len(content) if isinstance(content, bytes) else 0
    needed = frames * rows * columns * bits // 8
    syntax = transfer_syntax(item)
    described = f"{frames} frames of {rows} x {columns} pixels of {bits} bits"
    if syntax.is_transfer_syntax and syntax.is_compressed:
        if needed > max(_MOST_UNPACKED * held, 64 << 20):
            raise item.error(keyword, f"holds {held} compressed bytes, too few for {described}")
    elif held < needed:
        raise item.error(keyword, f"holds {held} bytes, {described} need {needed}: the file is cut off or damaged")
    used = item.count("BitsStored") or bits, item.count("HighBit")
    if not (syntax.is_transfer_syntax and syntax.is_compressed) and keyword == "PixelData":
        # pydicom would cut the values to BitsStored, which is ours to judge.
        item.data.BitsStored, item.data.HighBit = bits, bits - 1
    try:
        with item.reading(name := f"the pixel data ({shortened(syntax.name)})"):
            if "TransferSyntaxUID" not in item.data.file_meta:
                item.data.file_meta.TransferSyntaxUID = syntax
            values = item.data.pixel_array
    except InputError as error:
        if syntax.is_transfer_syntax and syntax.is_compressed:
            raise InputError(
                f"{item.path}: (0002,0010) TransferSyntaxUID {name} cannot be decoded here "
                f"({str(error).split('cannot be read: ')[-1]}): write it uncompressed first, e.g. with gdcmconv --raw"
            ) from error
        raise
    values = values.reshape(frames, rows, columns) if values.size == frames * rows * columns else values
    if values.shape != (frames, rows, columns):
        raise item.error(keyword, f"unfolds to {values.shape}, the header promises {described}")
    return _used_bits(item, values, *used) if values.dtype.kind in "iu" else values


def _completed(item: Item, keyword: str, pixels: int) -> int:
    """BitsAllocated; elements on the pixels that are missing get the only value that fits counts."""
    bits = item.count("BitsAllocated")
    content = item.value(keyword)
    if not bits:
        held = len(content) if isinstance(content, bytes) else 0
        bits = 8 * (held // pixels) if pixels else 0
        syntax = transfer_syntax(item)
        if bits not in (8, 16, 32, 64) or not syntax.is_transfer_syntax or syntax.is_compressed:
            raise item.error("BitsAllocated", "is missing or 0")
        item.warn("BitsAllocated", f"is missing: {bits} bits a pixel, by the length of the pixel data")
    defaults: dict[str, int | str] = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    defaults["BitsAllocated"] = bits
    if keyword == "PixelData":
        defaults |= {"BitsStored": bits, "HighBit": (item.count("BitsStored") or bits) - 1, "PixelRepresentation": 0}
        if item.count("PixelRepresentation") is None:
            item.warn("PixelRepresentation", "is missing: counts were read as unsigned")
    for name, value in defaults.items():
        if (not item.value(name) and name != "PixelRepresentation") or item.value(name) is None:
            setattr(item.data, name, value)
    item.data.NumberOfFrames = item.required_count("NumberOfFrames")
    return bits


def _used_bits(item: Item, values: Array, stored: int, high: int | None) -> Array:
    """Values without what lies in the bits above BitsStored."""
    allocated = 8 * values.dtype.itemsize
    if stored >= allocated:
        return values
    beyond = values.dtype.kind == "u" and values.max(initial=0) >= 1 << stored
    if beyond and stored < _FEWEST_BITS:
        item.warn("BitsStored", f"is {stored}, but values go up to {values.max()}: all {allocated} bits were used")
        return values
    if beyond:
        item.warn("BitsStored", f"is {stored}, but values go up to {values.max()}: the bits above were left out")
    if high is not None and high != stored - 1:
        raise item.error("BitsStored", f"{stored} and HighBit {high} do not fit {allocated} bits allocated")
    spare = allocated - stored
    return (values << spare) >> spare if values.dtype.kind == "i" else values & values.dtype.type((1 << stored) - 1)


def scale(item: Item) -> tuple[float, float, str | None, list[str]]:
    """Slope and intercept from stored values to real ones, their UCUM unit where one is given, and lines of history.

    RealWorldValueMappingSequence goes before RescaleSlope: it maps stored values, whatever the rescale says.
    Raises InputError for a lookup table, a slope of 0, or mappings that contradict each other.
    """
    slope = item.number("RescaleSlope")
    intercept = item.number("RescaleIntercept") or 0.0
    _check_scale(item, "Rescale", slope, intercept)
    found = []
    for mapping in item.items("RealWorldValueMappingSequence"):
        if "RealWorldValueLUTData" in mapping.data:
            raise mapping.error("RealWorldValueLUTData", "holds a lookup table: only a slope is understood")
        real_slope = mapping.number("RealWorldValueSlope")
        if real_slope is None:
            continue
        _check_scale(mapping, "RealWorldValue", real_slope, mapping.number("RealWorldValueIntercept") or 0.0)
        units = [unit.text("CodeValue") for unit in mapping.items("MeasurementUnitsCodeSequence")]
        found.append((real_slope, mapping.number("RealWorldValueIntercept") or 0.0, units[0] if units else None))
    if len(set(found)) > 1:
        raise item.error("RealWorldValueMappingSequence", f"holds {len(found)} mappings that differ: one is needed")
    if found:
        real_slope, real_intercept, unit = found[0]
        lines = [f"values = {real_slope:g} x stored + {real_intercept:g} (RealWorldValueMappingSequence)"]
        if slope is not None and (slope, intercept) != (real_slope, real_intercept):
            lines.append(f"RescaleSlope {slope:g} and RescaleIntercept {intercept:g} say otherwise and were not used")
        return real_slope, real_intercept, unit, lines
    if slope is None and not intercept:
        return 1.0, 0.0, None, []
    slope = 1.0 if slope is None else slope
    trivial = (slope, intercept) == (1.0, 0.0)
    lines = [] if trivial else [f"values = {slope:g} x stored + {intercept:g} (RescaleSlope, RescaleIntercept)"]
    return slope, intercept, None, lines


def _check_scale(item: Item, kind: str, slope: float | None, intercept: float) -> None:
    if slope == 0:
        raise item.error(f"{kind}Slope", "is 0: every pixel would have the same value")
    # 32-bit values times this still fit into float32.
    for word, value in (("Slope", slope or 0.0), ("Intercept", intercept)):
        if abs(value) > 1e20:
            raise item.error(f"{kind}{word}", f"is {value:g}: no scale of an image")


def is_count_unit(unit: str | None) -> bool:
    """Tell whether a UCUM code can stand for counts."""
    return unit is None or unit in _NO_UNIT


def pixel_mm(item: Item, given: tuple[float, float] | None = None) -> tuple[float, float]:
    """Pixel (z, u) in mm: the user's, else from PixelSpacing, whose order is (row distance, column distance)."""
    if given is not None:
        return given
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            values = item.numbers(keyword)
        except InputError as error:
            raise InputError(f"{error}: give --pixel-mm") from None
        if keyword != "PixelSpacing" and values:
            item.warn(keyword, "was taken as the pixel size, for PixelSpacing is missing; --pixel-mm gives another")
        if len(values) == 1:
            item.warn(keyword, f"holds one number: the pixels were taken as squares of {values[0]:g} mm")
            values *= 2
        if not values:
            continue
        if len(values) != 2 or min(values) <= 0:
            shown = "\\".join(f"{value:g}" for value in values)
            raise item.error(keyword, f"needs two numbers above 0 mm (row, column), it is {shown}: give --pixel-mm")
        return values[0], values[1]
    raise item.error("PixelSpacing", "is missing: give --pixel-mm, the size of a pixel")
