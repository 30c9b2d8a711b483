"""DICOM files opened with pydicom: every failure becomes an InputError that names file, tag and keyword.

pydicom raises nearly every built-in exception on damaged input and warns on lax input. Both are caught here, around
calls of pydicom and nothing else: exceptions become InputError, warnings one line a file in a list that ends in
Study.warnings. What a text may hold is not checked on reading: what is used is checked where it is used, what is
written by dicom_values.py. Numbers with a decimal comma are understood, with a warning.
"""

import math
import os
import struct
import warnings as python_warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.config import IGNORE, disable_value_validation
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from spectac.recon.errors import InputError
from spectac.recon.io.dicom.values import decimal_comma

PYDICOM_ERRORS = (
    BytesLengthException,
    InvalidDicomError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom was seen to raise on damaged files (RuntimeError: deep recursion, missing decoders)."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_MOST_INFLATED = 50
"""A deflated file may grow by this factor (projections: 2 to 20), or to 64 MiB: more is a damaged file or a bomb."""

_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV"
    .split()
)  # fmt: skip


def looks_like_dicom(start: bytes) -> bool:
    """Tell from its first bytes whether a file is DICOM, also without preamble (begins with group 0002 or 0008)."""
    if start[128:132] == b"DICM":
        return True
    if len(start) < 8:
        return False
    for order in ("<", ">"):
        group, element = struct.unpack(order + "HH", start[:4])
        if group not in (0x0002, 0x0008) or element > 0x0100:
            continue
        if start[4:6] in _VRS:
            return True
        # Implicit: the first element of either group is a few bytes long.
        if order == "<" and struct.unpack("<I", start[4:8])[0] <= 64:
            return True
    return False


def is_dicomdir(path: Path) -> bool:
    """Tell from its content whether a file is a DICOMDIR, the table of contents of a medium."""
    with path.open("rb") as file:
        start = file.read(512)
    return start[128:132] == b"DICM" and b"1.2.840.10008.1.3.10" in start


def name_of(keyword: str) -> str:
    """Tag and name from the keyword: "(0054,0200) StartAngle"."""
    number = tag_for_keyword(keyword)
    return keyword if number is None else f"{_numbers(Tag(number))} {keyword}"


def plain(text: str) -> str:
    """One line without control characters, which damaged elements hold."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def shortened(text: str) -> str:
    """One line of at most 400 characters: damaged elements can be very long."""
    line = plain(text)
    return line if len(line) <= 400 else f"{line[:200]} ... {line[-190:]}"


def _numbers(tag: BaseTag) -> str:
    return f"({tag.group:04x},{tag.element:04x})"


class Item:
    """A dataset or an item of a sequence, with accessors that name file, tag and keyword when a value is unfit."""

    def __init__(self, data: Dataset, path: Path, place: str, warnings: list[str]) -> None:
        self.data = data
        self.path = path
        self.place = place
        self.warnings = warnings

    def error(self, keyword: str, text: str) -> InputError:
        """InputError about one element: "file: (gggg,eeee) Keyword of item n of ...: text"."""
        return InputError(f"{self.path}: {name_of(keyword)}{self.place} {shortened(text)}")

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Catch what pydicom raises, as InputError about `what`, and what it warns about, into the list."""
        with python_warnings.catch_warnings(record=True) as caught, disable_value_validation():
            python_warnings.simplefilter("always")
            try:
                yield
            except InputError:
                raise
            except (*PYDICOM_ERRORS, OSError) as error:
                # The file system's errors have a number, those that pydicom raises for damaged files have none.
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                raise InputError(
                    f"{self.path}: {what}{self.place} cannot be read: {shortened(str(error)) or type(error).__name__}"
                ) from error
        caught = [warning for warning in caught if issubclass(warning.category, UserWarning)]
        lead = f"{self.path.name}: not all of it follows DICOM"
        if caught and not any(text.startswith(lead) for text in self.warnings):
            self.warnings.append(f"{lead}, it was read as far as it goes ({shortened(str(caught[0].message))[:120]})")

    def said(self, error: InputError, keyword: str) -> str:
        """What an InputError says about an element, without file and element."""
        return str(error).removeprefix(f"{self.path}: {name_of(keyword)}{self.place} ")

    def warn(self, keyword: str | tuple[int, int], text: str) -> None:
        """Add a warning about one element, once."""
        what = name_of(keyword) if isinstance(keyword, str) else _numbers(Tag(*keyword))
        if (line := f"{what}{self.place} {shortened(text)}") not in self.warnings:
            self.warnings.append(line)

    def value(self, keyword: str | tuple[int, int]) -> Any:
        """Value of an element, None where it is absent or empty; private elements by (group, element)."""
        if isinstance(keyword, str):
            number, what = tag_for_keyword(keyword), name_of(keyword)
            assert number is not None, keyword
            tag = Tag(number)
        else:
            tag = Tag(*keyword)
            what = _numbers(tag)
        if tag not in self.data:
            return None
        with self.reading(what):
            value = self.data[tag].value
            if isinstance(value, (MultiValue, list, tuple)) and not isinstance(value, DicomSequence):
                value = list(value)
            return None if value is None or (isinstance(value, (str, list, bytes)) and len(value) == 0) else value

    def values(self, keyword: str | tuple[int, int]) -> list[Any]:
        """Every value of an element that is no sequence; empty where it is absent."""
        value = self.value(keyword)
        if isinstance(value, (DicomSequence, bytes)):
            what = name_of(keyword) if isinstance(keyword, str) else _numbers(Tag(*keyword))
            held = "a sequence of items" if isinstance(value, DicomSequence) else f"{len(value)} bytes"
            raise InputError(f"{self.path}: {what}{self.place} must be text or numbers, it holds {held}")
        return value if isinstance(value, list) else [] if value is None else [value]

    def texts(self, keyword: str) -> list[str]:
        """Every value of an element as text without padding; empty where it is absent."""
        values = self.values(keyword)
        with self.reading(name_of(keyword)):
            return [str(one).replace("\0", "").strip() for one in values]

    def text(self, keyword: str) -> str | None:
        """The values of an element as one text, None where it is absent or blank."""
        return "\\".join(self.texts(keyword)) or None

    def text_of(self, tag: tuple[int, int]) -> str | None:
        """The text of a private element, None where it is absent, blank or no text."""
        value = self.value(tag)
        return str(value).strip() or None if isinstance(value, str) else None

    def numbers(self, keyword: str | tuple[int, int]) -> list[float]:
        """Every value of an element as a finite float; empty where it is absent."""
        values = self.values(keyword)
        what = name_of(keyword) if isinstance(keyword, str) else _numbers(Tag(*keyword))
        numbers = []
        for one in values:
            with_point = decimal_comma(one) if isinstance(one, str) else None
            try:
                number = float(one if with_point is None else with_point)
            except (TypeError, ValueError):
                number = math.nan
            if not math.isfinite(number):
                raise InputError(f"{self.path}: {what}{self.place} needs finite numbers, it holds {str(one)[:40]!r}")
            if with_point is not None:
                self.warn(keyword, f"has decimal commas: {one[:40]!r} was read as {number:g}")
            numbers.append(number)
        return numbers

    def number(self, keyword: str) -> float | None:
        """The one number of an element, None where it is absent."""
        numbers = self.numbers(keyword)
        if len(numbers) > 1:
            raise self.error(keyword, f"needs one number, it holds {len(numbers)}")
        return numbers[0] if numbers else None

    def optional_numbers(self, keyword: str) -> list[float]:
        """As `numbers` for an element that the image does not depend on: empty, with a warning, where it is unfit."""
        try:
            return self.numbers(keyword)
        except InputError as error:
            self.warn(keyword, f"{self.said(error, keyword)}: not used")
            return []

    def optional_number(self, keyword: str) -> float | None:
        """As `number` for an element that the image does not depend on: None, with a warning, where it is unfit."""
        numbers = self.optional_numbers(keyword)
        if len(numbers) > 1:
            self.warn(keyword, f"needs one number, it holds {len(numbers)}: not used")
        return numbers[0] if len(numbers) == 1 else None

    def count(self, keyword: str) -> int | None:
        """The one whole number of an element, None where it is absent; negative ones are refused."""
        number = self.number(keyword)
        if number is None:
            return None
        if number != int(number) or number < 0:
            raise self.error(keyword, f"needs a whole number of at least 0, it holds {number:g}")
        return int(number)

    def required_count(self, keyword: str) -> int:
        """Like `count`, at least 1; InputError where it is absent."""
        count = self.count(keyword)
        if not count:
            raise self.error(keyword, "is missing" if count is None else "is 0, at least 1 is needed")
        return count

    def private(self, group: int, element: int, creator: str) -> tuple[int, int] | None:
        """Tag of a private element by the block of its creator (PS3.5 7.8.1), wherever that stands; None without it."""
        with self.reading(f"({group:04x},00xx)"):
            for place in range(0x10, 0x100):
                reserved = self.data.get((group, place))
                if reserved is not None and str(reserved.value or "").strip().upper() == creator.upper():
                    tag = (group, place << 8 | element)
                    if tag in self.data:
                        return tag
        return None

    def items(self, keyword: str | tuple[int, int]) -> list["Item"]:
        """Items of a sequence; empty where it is absent."""
        value = self.value(keyword)
        if value is None:
            return []
        what = name_of(keyword) if isinstance(keyword, str) else _numbers(Tag(*keyword))
        if not isinstance(value, DicomSequence):
            raise InputError(f"{self.path}: {what}{self.place} must be a sequence of items")
        word = keyword if isinstance(keyword, str) else what
        with self.reading(what):
            return [
                Item(item, self.path, f" in item {index} of {word}{self.place}", self.warnings)
                for index, item in enumerate(value, start=1)
            ]


def open_dicom(path: str | os.PathLike[str], *, pixels: bool = True) -> Item:
    """Dataset of a DICOM file, with or without preamble; `pixels=False` stops before the pixel data.

    Raises InputError for what is not DICOM or is damaged beyond reading, OSError as the file system does.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"{path}: no such file")
    item = Item(Dataset(), source, "", [])
    content: bytes | Path = source.read_bytes() if pixels else source
    with source.open("rb") as file:
        start = file.read(4096)
    if not looks_like_dicom(start):
        raise InputError(f"{path}: not a DICOM file: it has no DICM preamble and does not begin as DICOM does")
    if _DEFLATED in start:
        _check_deflated(source)
    with item.reading("the file"):
        file_data: FileDataset = dcmread(
            BytesIO(content) if isinstance(content, bytes) else content, force=True, stop_before_pixels=not pixels
        )
        item.data = file_data
    return item


@contextmanager
def named(path: Path) -> Iterator[None]:
    """InputErrors of the types begin with the file's name."""
    try:
        yield
    except InputError as error:
        if str(error).startswith(str(path)):
            raise
        raise InputError(f"{path}: {error}") from error


def transfer_syntax(item: Item) -> UID:
    """Transfer syntax of a file; one without meta information is told by how it was read."""
    data = item.data
    if isinstance(data, FileDataset) and "TransferSyntaxUID" in data.file_meta:
        with item.reading("(0002,0010) TransferSyntaxUID"):
            return UID(str(data.file_meta.TransferSyntaxUID), validation_mode=IGNORE)
    implicit, little = data.original_encoding
    return UID("1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2")


def _check_deflated(path: Path) -> None:
    """InputError where a deflated dataset is damaged or unfolds to much more than projections do."""
    content = path.read_bytes()
    if content[132:136] != b"\x02\0\0\0" or content[136:140] != b"UL\x04\0":
        raise InputError(f"{path}: (0002,0000) FileMetaInformationGroupLength is missing in a deflated file")
    rest = memoryview(content)[144 + int.from_bytes(content[140:144], "little") :]
    limit = max(_MOST_INFLATED * len(content), 64 << 20)
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    waiting: bytes | memoryview = rest
    try:
        while waiting and not inflate.eof:
            size += len(inflate.decompress(waiting, 1 << 20))
            waiting = inflate.unconsumed_tail
            if size > limit:
                raise InputError(f"{path}: its deflated dataset unfolds to more than {limit} bytes: not read")
    except zlib.error as error:
        raise InputError(f"{path}: its deflated dataset is damaged: {error}") from error
    if not inflate.eof:
        raise InputError(f"{path}: its deflated dataset is cut off after {len(rest)} bytes")
