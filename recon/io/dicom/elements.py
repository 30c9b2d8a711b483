"""DICOM files and their elements, read with pydicom and checked: errors name file, tag and keyword.

pydicom raises nearly every built-in exception on damaged input and warns on lax input. Both are caught around calls of
pydicom. Exceptions become
FileError. Warnings become one line for each file and end in Study.warnings. Reading does not
check what a text may hold: allowed_values.py does so before writing. Numbers with a decimal comma are read, with a
warning.
"""

import math
import os
import struct
import warnings as python_warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.config import IGNORE, disable_value_validation
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from pydicom.valuerep import STANDARD_VR

from spectac.recon.errors import FileError, InputError
from spectac.recon.io.content import first_bytes
from spectac.recon.io.dicom.allowed_values import decimal_comma

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

_MOST_INFLATED = 50
"""Largest factor by which a deflated file may grow, beyond 64 MiB. Projections grow by 2 to 20."""

_VRS = frozenset(vr.value.encode() for vr in STANDARD_VR)
"""Value representations as an explicit file spells them."""


@dataclass
class Notes:
    """Lines for the user, gathered while files are read.

    Parameters
    ----------
    history, warnings : list of str
        Lines that the readers add to.
    lax : bool
        True once a warning says that the file does not follow DICOM.

    Examples
    --------
    >>> notes = Notes()
    >>> for _ in range(2):
    ...     notes.warn("PixelSpacing holds one number")
    >>> notes.warnings
    ['PixelSpacing holds one number']
    """

    history: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lax: bool = False
    """True once a warning says that the file does not follow DICOM."""

    def warn(self, text: str) -> None:
        """Add a warning once."""
        if text not in self.warnings:
            self.warnings.append(text)


def looks_like_dicom(start: bytes) -> bool:
    """Tell from its first bytes whether a file is DICOM, also without preamble (begins with group 0002 or 0008).

    Parameters
    ----------
    start : bytes
        First bytes of the file; 132 suffice.

    Returns
    -------
    bool
        False also for files of fewer than 8 bytes.

    Examples
    --------
    >>> looks_like_dicom(bytes(128) + b"DICM"), looks_like_dicom(b"!INTERFILE :=")
    (True, False)
    """
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
    """Tell from its content whether a file is a DICOMDIR, the table of contents of a medium.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    bool
        False for any other DICOM file.
    """
    start = first_bytes(path)[:512]
    return start[128:132] == b"DICM" and MediaStorageDirectoryStorage.encode() in start


def name_of(keyword: str) -> str:
    """Tag and name of an element; the tag alone of a private one.

    Parameters
    ----------
    keyword : str
        Keyword, or the eight digits of a private element's tag.

    Returns
    -------
    str
        Text for messages.

    Examples
    --------
    >>> name_of("StartAngle")
    '(0054,0200) StartAngle'
    >>> name_of("0013101E")
    '(0013,101e)'
    """
    tag = Tag(keyword)
    shown = f"({tag.group:04x},{tag.element:04x})"
    return shown if tag.is_private else f"{shown} {keyword}"


def plain(text: str) -> str:
    """One line without control characters, which damaged elements hold.

    Parameters
    ----------
    text : str
        Any text of a file.

    Returns
    -------
    str
        Text whose words one blank parts.

    Examples
    --------
    >>> plain("  Siemens NM ")
    'Siemens NM'
    """
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def shortened(text: str) -> str:
    """One line of at most 400 characters: damaged elements can be very long.

    Parameters
    ----------
    text : str
        Any text of a file.

    Returns
    -------
    str
        Beginning and end where the text is longer.

    Examples
    --------
    >>> len(shortened("x" * 1000))
    395
    """
    line = plain(text)
    return line if len(line) <= 400 else f"{line[:200]} ... {line[-190:]}"


def shown(text: str) -> str:
    """A file's text as a message may show it: one printable line of at most 80 characters.

    Parameters
    ----------
    text : str
        Any text of a file.

    Returns
    -------
    str
        Beginning of the text.

    Examples
    --------
    >>> len(shown("x" * 1000))
    80
    """
    return plain(text)[:80]


def message_of(error: BaseException | None) -> str:
    """What an exception says in one line, its class where it says nothing.

    Parameters
    ----------
    error : exception or None
        What was raised.

    Returns
    -------
    str
        Message of at most 400 characters.

    Examples
    --------
    >>> message_of(KeyError())
    'KeyError'
    """
    return shortened(str(error)) or type(error).__name__


@dataclass
class Item:
    """A dataset or an item of a sequence, with accessors that name file, tag and keyword when a value is unfit.

    Elements go by their keyword, private ones by the eight digits of their tag.

    Parameters
    ----------
    data : Dataset
        Elements, as pydicom reads them.
    path : Path
        The file, for messages.
    place : str
        Where in the file the item is, for messages; "" for the dataset itself.
    notes : Notes
        Lines for the user, shared by all items of the file.

    Examples
    --------
    >>> data = Dataset()
    >>> data.Rows = 0
    >>> Item(data, Path("scan.dcm")).required_count("Rows")
    Traceback (most recent call last):
    spectac.recon.errors.FileError: scan.dcm: (0028,0010) Rows is 0, at least 1 is needed
    """

    data: Dataset
    path: Path
    place: str = ""
    notes: Notes = field(default_factory=Notes)

    def error(self, text: str) -> FileError:
        """Error about one element: a text that begins with its keyword gets file, tag and place."""
        return FileError(self.path, self._placed(text))

    def warn(self, text: str) -> None:
        """Add a warning about one element, once: a text that begins with its keyword gets tag and place."""
        self.notes.warn(self._placed(text))

    def _placed(self, text: str) -> str:
        word, _, rest = text.partition(" ")
        return f"{name_of(word)}{self.place} {shortened(rest)}"

    def record(self, line: str) -> None:
        """Add a line of history."""
        self.notes.history.append(line)

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Catch what pydicom raises, as FileError about `what`, and what it warns about, into the notes."""
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
                raise FileError(self.path, f"{what}{self.place} cannot be read: {message_of(error)}") from error
        caught = [warning for warning in caught if issubclass(warning.category, UserWarning)]
        if caught and not self.notes.lax:
            self.notes.lax = True
            self.notes.warn(
                f"{self.path.name}: not all of it follows DICOM, it was read as far as it goes "
                f"({shortened(str(caught[0].message))[:120]})"
            )

    def value(self, keyword: str) -> Any:
        """Value of an element, None where it is absent or empty."""
        tag = Tag(keyword)
        if tag not in self.data:
            return None
        with self.reading(name_of(keyword)):
            value = self.data[tag].value
            if isinstance(value, (MultiValue, list, tuple)) and not isinstance(value, DicomSequence):
                value = list(value)
            return None if value is None or (isinstance(value, (str, list, bytes)) and len(value) == 0) else value

    def values(self, keyword: str) -> list[Any]:
        """Every value of an element that is no sequence; empty where it is absent."""
        value = self.value(keyword)
        if isinstance(value, (DicomSequence, bytes)):
            held = "a sequence of items" if isinstance(value, DicomSequence) else f"{len(value)} bytes"
            raise self.error(f"{keyword} must be text or numbers, it holds {held}")
        return value if isinstance(value, list) else [] if value is None else [value]

    def texts(self, keyword: str) -> list[str]:
        """Every value of an element as text without padding; empty where it is absent."""
        values = self.values(keyword)
        with self.reading(name_of(keyword)):
            return [str(one).replace("\0", "").strip() for one in values]

    def text(self, keyword: str) -> str | None:
        """The values of an element as one text, None where it is absent or blank."""
        return "\\".join(self.texts(keyword)) or None

    def optional_text(self, keyword: str) -> str | None:
        """As `text` for an element that the image does not depend on: None, with a warning, where it is unfit."""
        try:
            return self.text(keyword)
        except FileError as error:
            self.warn(f"{keyword} was left out: {error}")
            return None

    def text_of(self, keyword: str) -> str | None:
        """The text of a private element, None where it is absent, blank or no text."""
        value = self.value(keyword)
        return str(value).strip() or None if isinstance(value, str) else None

    def numbers(self, keyword: str) -> list[float]:
        """Every value of an element as a finite float; empty where it is absent."""
        numbers = []
        for one in self.values(keyword):
            with_point = decimal_comma(one) if isinstance(one, str) else None
            try:
                number = float(one if with_point is None else with_point)
            except (TypeError, ValueError):
                number = math.nan
            if not math.isfinite(number):
                raise self.error(f"{keyword} needs finite numbers, it holds {str(one)[:40]!r}")
            if with_point is not None:
                self.warn(f"{keyword} has decimal commas: {one[:40]!r} was read as {number:g}")
            numbers.append(number)
        return numbers

    def number(self, keyword: str) -> float | None:
        """The one number of an element, None where it is absent."""
        numbers = self.numbers(keyword)
        if len(numbers) > 1:
            raise self.error(f"{keyword} needs one number, it holds {len(numbers)}")
        return numbers[0] if numbers else None

    def optional_numbers(self, keyword: str) -> list[float]:
        """As `numbers` for an element that the image does not depend on: empty, with a warning, where it is unfit."""
        try:
            return self.numbers(keyword)
        except FileError as error:
            self.notes.warn(f"{error.args[1]}: not used")
            return []

    def optional_number(self, keyword: str) -> float | None:
        """As `number` for an element that the image does not depend on: None, with a warning, where it is unfit."""
        numbers = self.optional_numbers(keyword)
        if len(numbers) > 1:
            self.warn(f"{keyword} needs one number, it holds {len(numbers)}: not used")
        return numbers[0] if len(numbers) == 1 else None

    def count(self, keyword: str) -> int | None:
        """The one whole number of an element, None where it is absent; negative ones are refused."""
        number = self.number(keyword)
        if number is None:
            return None
        if number != int(number) or number < 0:
            raise self.error(f"{keyword} needs a whole number of at least 0, it holds {number:g}")
        return int(number)

    def required_count(self, keyword: str) -> int:
        """Like `count`, at least 1; InputError where it is absent."""
        count = self.count(keyword)
        if not count:
            raise self.error(f"{keyword} is {'missing' if count is None else '0, at least 1 is needed'}")
        return count

    def private(self, group: int, element: int, creator: str) -> str | None:
        """Tag, as eight digits, of a private element by the block of its creator (PS3.5 7.8.1); None without it."""
        with self.reading(f"({group:04x},00xx)"):
            try:
                tag = self.data.private_block(group, creator).get_tag(element)
            except KeyError:
                return None
            return f"{tag:08X}" if tag in self.data else None

    def items(self, keyword: str) -> list["Item"]:
        """Items of a sequence; empty where it is absent."""
        value = self.value(keyword)
        if value is None:
            return []
        if not isinstance(value, DicomSequence):
            raise self.error(f"{keyword} must be a sequence of items")
        with self.reading(name_of(keyword)):
            return [
                replace(self, data=item, place=f" in item {index} of {name_of(keyword).split()[-1]}{self.place}")
                for index, item in enumerate(value, start=1)
            ]


def open_dicom(path: str | os.PathLike[str], *, pixels: bool = True, large_values: bool = True) -> Item:
    """Dataset of a DICOM file, with or without preamble.

    Parameters
    ----------
    path : path-like
        The file.
    pixels : bool
        False stops before the pixel data.
    large_values : bool
        False leaves values of more than 64 kB on the disk until they are asked for; without pixels only.

    Returns
    -------
    Item
        Dataset, with notes of its own.

    Raises
    ------
    InputError
        For what is not DICOM or is damaged beyond reading.
    OSError
        As the file system does.
    """
    source = Path(path)
    if not source.is_file():
        raise FileError(path, "no such file")
    item = Item(Dataset(), source)
    start = first_bytes(source)
    if not looks_like_dicom(start):
        raise FileError(path, "not a DICOM file: it has no DICM preamble and does not begin as DICOM does")
    if DeflatedExplicitVRLittleEndian.encode() in start:
        _check_deflated(source)
    with item.reading("the file"):
        content = BytesIO(source.read_bytes()) if pixels else source
        later = None if pixels or large_values else 1 << 16
        item.data = dcmread(content, force=True, stop_before_pixels=not pixels, defer_size=later)
    return item


def transfer_syntax(item: Item) -> UID:
    """Transfer syntax of a file; one without meta information is told by how it was read.

    Parameters
    ----------
    item : Item
        Dataset of a file.

    Returns
    -------
    UID
        Transfer syntax, which need not be one that pydicom knows.
    """
    data = item.data
    if isinstance(data, FileDataset) and "TransferSyntaxUID" in data.file_meta:
        with item.reading("(0002,0010) TransferSyntaxUID"):
            return UID(str(data.file_meta.TransferSyntaxUID), validation_mode=IGNORE)
    implicit, little = data.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _check_deflated(path: Path) -> None:
    """InputError where a deflated dataset is damaged or unfolds to much more than projections do."""
    content = path.read_bytes()
    if content[132:136] != b"\x02\0\0\0" or content[136:140] != b"UL\x04\0":
        raise FileError(path, "(0002,0000) FileMetaInformationGroupLength is missing in a deflated file")
    rest = memoryview(content)[144 + int.from_bytes(content[140:144], "little") :]
    limit = max(_MOST_INFLATED * len(content), 64 << 20)
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    waiting: bytes | memoryview = rest
    try:
        while waiting and not inflate.eof:
            size += len(inflate.decompress(waiting, 1 << 20))
            waiting = inflate.unconsumed_tail
            if size > limit:
                raise FileError(path, f"its deflated dataset unfolds to more than {limit} bytes: not read")
    except zlib.error as error:
        raise FileError(path, f"its deflated dataset is damaged: {error}") from error
    if not inflate.eof:
        raise FileError(path, f"its deflated dataset is cut off after {len(rest)} bytes")
