"""Interfile headers: text -> keys and values, and the numbers of the data file that they describe.

Keys are compared in lower case without the leading "!", "%" or "#", with underscores read as blanks, and without blanks
before an index: "!Matrix_size [1]" is "matrix size[1]". A line that begins with ";" is a comment; SIMIND keeps keys of
its own in comments (";# Radionuclide := i123"), so comments are kept apart and readable by those who ask for them.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.types import Array

HEADER_BYTES = 1 << 20
"""Headers are a few kilobytes; a longer file is no header."""

LARGEST_NUMBER = 1e15
"""No key of a header means more than this; what is larger would overflow later, far from its cause."""

_MAGIC = re.compile(r"\s*!?\s*interfile\s*(:=|$)", re.IGNORECASE)
_FORTRAN_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eEdD]([+-]?\d+)|([+-]\d+))?")
_NUMPY_KINDS = {
    ("unsigned integer", 1): "u1",
    ("unsigned integer", 2): "u2",
    ("unsigned integer", 4): "u4",
    ("signed integer", 1): "i1",
    ("signed integer", 2): "i2",
    ("signed integer", 4): "i4",
    ("float", 4): "f4",
    ("float", 8): "f8",
    ("short float", 4): "f4",
    ("long float", 8): "f8",
}


@dataclass(frozen=True)
class Header:
    """Keys of one header: `keys` and the keys inside comments, each with all its values in file order."""

    path: Path
    keys: dict[str, tuple[str, ...]]
    comments: dict[str, tuple[str, ...]]
    odd_lines: tuple[str, ...] = ()

    def error(self, reason: str) -> InputError:
        """InputError that begins with the file's name."""
        return InputError(f"{self.path}: {reason}")

    def text(self, *names: str, comments: bool = False) -> str | None:
        """Value of the first of these keys that is there and not empty, None without one.

        Raises InputError where the file gives the key twice with different values.
        """
        for name in names:
            found = self.keys.get(name, ())
            if comments and not found:
                found = self.comments.get(name, ())
            values = list(dict.fromkeys(value for value in found if value))
            if len(values) > 1:
                raise self.error(f"key '{name}' is given more than once, as {' and '.join(values)}: keep one")
            if values:
                return values[0]
        return None

    def required(self, *names: str) -> str:
        """As `text`; InputError naming file and key where it is missing."""
        value = self.text(*names)
        if value is None:
            raise self.error(f"key '{names[0]}' is missing or empty")
        return value

    def number(self, *names: str, comments: bool = False) -> float | None:
        """Finite number behind the first of these keys, None without one; Fortran's "+2.000000+00" is understood."""
        value = self.text(*names, comments=comments)
        return None if value is None else self.as_number(names[0], value)

    def required_number(self, *names: str) -> float:
        """As `number`; InputError naming file and key where it is missing."""
        return self.as_number(names[0], self.required(*names))

    def as_number(self, name: str, value: str) -> float:
        """Finite number from text; InputError naming file, key and text otherwise."""
        matched = _FORTRAN_NUMBER.fullmatch(value.strip())
        number = math.nan
        if matched:
            mantissa, exponent, bare_exponent = matched.groups()
            number = float(f"{mantissa}e{exponent or bare_exponent or 0}")
        if not abs(number) <= LARGEST_NUMBER:
            raise self.error(f"key '{name}' needs a number, got '{value}'")
        return number

    def count(self, *names: str, least: int = 1) -> int | None:
        """Whole number of at least `least` behind the first of these keys, None without one."""
        number = self.number(*names)
        if number is None:
            return None
        if number != int(number) or number < least:
            raise self.error(f"key '{names[0]}' needs a whole number of at least {least}, got {number:g}")
        return int(number)

    def required_count(self, *names: str) -> int:
        """As `count`; InputError naming file and key where it is missing."""
        number = self.count(*names)
        if number is None:
            raise self.error(f"key '{names[0]}' is missing or empty")
        return number

    def numbers(self, name: str) -> list[float] | None:
        """Numbers of a list "{1, 2, 3}" (braces may be left out), None without the key."""
        value = self.text(name)
        if value is None:
            return None
        parts = [part for part in re.split(r"[,\s]+", value.strip().strip("{}")) if part]
        return [self.as_number(name, part) for part in parts]


def looks_like_interfile(start: bytes) -> bool:
    """Tell whether the first line that is not blank says "!INTERFILE"; a byte-order mark is passed over."""
    lines = start.decode("latin-1").removeprefix("\xef\xbb\xbf").splitlines()
    return any(_MAGIC.match(line) for line in [line for line in lines if line.strip()][:1])


def canonical_key(text: str) -> str:
    """Key as it is compared."""
    key = re.sub(r"[\s_]+", " ", text.lstrip(" \t!;#%").lower()).strip()
    return re.sub(r"\s*\[\s*(.*?)\s*\]", r"[\1]", key)


def read_header(path: Path) -> Header:
    """Header of an Interfile; InputError where the file is not one, is longer than 1 MiB or cannot be found."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open("rb") as file:
        raw = file.read(HEADER_BYTES + 1)
    if not looks_like_interfile(raw[:4096]):
        raise InputError(f"{path}: not an Interfile header, which begins with '!INTERFILE :='")
    if len(raw) > HEADER_BYTES:
        raise InputError(f"{path}: longer than {HEADER_BYTES} bytes: data in the header's own file is not supported")
    return parse_header(raw, path)


def parse_header(raw: bytes, path: Path) -> Header:
    """Keys and values of the header's bytes, up to "END OF INTERFILE"."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    text = re.sub(r"\\[ \t]*\r?\n", " ", text)
    text = re.sub(r":=\s*\{[^{}:]*\}", lambda found: " ".join(found.group().split()), text)
    keys: dict[str, list[str]] = {}
    comments: dict[str, list[str]] = {}
    odd = []
    for line in (part.strip() for part in text.splitlines()):
        name, separator, value = line.partition(":=")
        key = canonical_key(name)
        if key == "end of interfile":
            break
        if separator and key:
            place = comments if line.startswith(";") else keys
            place.setdefault(key, []).append(value.strip())
        elif line and not line.startswith(";") and not _MAGIC.match(line):
            odd.append(line[:40])
    return Header(path, {k: tuple(v) for k, v in keys.items()}, {k: tuple(v) for k, v in comments.items()}, tuple(odd))


def read_values(header: Header, shape: tuple[int, ...]) -> tuple[Array, list[str]]:
    """Return the data file's values as float32 in `shape` (last axis fastest), scaled, and warnings.

    Raises InputError for data in the header's own file, compressed data, number formats that are not listed in
    docs/formats.md, and a file that holds less than the header promises.
    """
    warnings = []
    for key in ("data compression", "data encode"):
        if (header.text(key) or "none").lower() not in ("none", "off", "0"):
            raise header.error(f"'{key} := {header.text(key)}' is not supported: write the data plainly")
    kind, order_warning = _number_type(header)
    if order_warning:
        warnings.append(order_warning)
    name = header.required("name of data file")
    data_path = beside(header, name)
    if data_path is None:
        raise header.error(f"the data file '{name}' is not there: it must lie beside the header")
    if data_path.resolve() == header.path.resolve():
        raise header.error("data in the header's own file is not supported: put it into a file of its own")
    offset = header.count("data offset in bytes", "data offset in bytes[1]", least=0)
    if offset is None:
        offset = 2048 * (header.count("data starting block", least=0) or 0)
    promised = math.prod(shape) * kind.itemsize
    held = data_path.stat().st_size
    if held < offset + promised:
        raise header.error(
            f"promises {promised} bytes of data after an offset of {offset} bytes, but {data_path.name} holds "
            f"{held} bytes: the file is cut short or matrix, projections or number format are wrong"
        )
    if held > offset + promised:
        warnings.append(
            f"{data_path.name} holds {held} bytes, {held - offset - promised} more than the header promises"
        )
    scale = header.number("image scaling factor[1]", "image scaling factor")
    values = np.fromfile(data_path, dtype=kind, count=math.prod(shape), offset=offset)
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is refused, with its reason, where the study is made
        values = values.astype(np.float32)
        if scale is not None and scale != 1.0:
            values *= np.float32(scale)
    return values.reshape(shape), warnings


def beside(header: Header, name: str) -> Path | None:
    """Path of the file that the header names, None where there is no such file."""
    try:
        path = header.path.parent / name.replace("\\", "/")
        return path if path.is_file() else None
    except (OSError, ValueError):  # a name that no file system would take
        return None


def _number_type(header: Header) -> tuple[np.dtype, str | None]:
    """Type of the numbers in the data file, and a warning where the byte order had to be assumed."""
    spelled = " ".join(header.required("number format").lower().split())
    size = header.required_count("number of bytes per pixel")
    if (spelled, size) not in _NUMPY_KINDS:
        known = ", ".join(f"{name} of {bytes_}" for name, bytes_ in _NUMPY_KINDS)
        raise header.error(f"number format '{spelled}' of {size} bytes is not one of {known}")
    order = header.text("imagedata byte order")
    warning = None
    if order is None:
        order = "BIGENDIAN"
        if size > 1:
            warning = "the header gives no 'imagedata byte order': read as BIGENDIAN, Interfile's default"
    orders = {"littleendian": "<", "bigendian": ">"}
    if order.lower() not in orders:
        raise header.error(f"'imagedata byte order' must be LITTLEENDIAN or BIGENDIAN, got '{order}'")
    return np.dtype(orders[order.lower()] + _NUMPY_KINDS[spelled, size]), warning
