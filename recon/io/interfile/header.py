"""Interfile headers: text -> keys and values, and the numbers of the data file that they describe.

Keys are compared in lower case without the leading "!", "%" or "#", with underscores read as blanks, and without blanks
before an index: "!Matrix_size [1]" is "matrix size[1]". A line that begins with ";" is a comment; SIMIND keeps keys of
its own in comments (";# Radionuclide := i123"), so comments are kept apart and readable by those who ask for them.
Numbers may have a decimal comma and a unit ("4,795 mm"); a length, time, angle or energy is converted to ours.
"""

import math
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.io.dicom.allowed_values import decimal_comma
from spectac.recon.io.packed import refuse_packed
from spectac.recon.types import Array

HEADER_BYTES = 1 << 20
"""Headers are a few kilobytes; a longer file is no header."""

LARGEST_NUMBER = 1e15
"""No key of a header means more than this; what is larger would overflow later, far from its cause."""

_MAGIC = re.compile(r"\s*!?\s*interfile\s*(:\s*=|$)", re.IGNORECASE)
_LIST_GOES_ON = re.compile(r"[-+.\d,\seE]+\}?")
_FORTRAN_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eEdD]([+-]?\d+)|([+-]\d+))?")
_WITH_UNIT = re.compile(r"([-+.,\d]+(?:[eEdD][-+]?\d+)?)\s*([a-zµ°]+)\.?", re.IGNORECASE)
_UNITS = MappingProxyType(
    {
        "mm": {"mm": 1.0, "mm/pixel": 1.0, "cm": 10.0, "cm/pixel": 10.0, "m": 1000.0, "µm": 0.001, "um": 0.001},
        "s": {"s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "ms": 0.001, "msec": 0.001, "min": 60.0,
              "minutes": 60.0},
        "deg": {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "°": 1.0},
        "kev": {"kev": 1.0, "mev": 1000.0, "ev": 0.001},
    }
)  # fmt: skip
"""Factors from the units that people write to ours, by ours."""
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

_SIZES = {"float": 4, "short float": 4, "long float": 8}
"""Bytes of formats whose name says them (Interfile 3.3)."""

OPTIONS = MappingProxyType(
    {
        "start angle": "--head-angles",
        "first projection angle": "--head-angles",
        "extent of rotation": "--step-deg",
        "radi": "--radius-mm",
        "rotation radius": "--radius-mm",
        "first column of": "--radius-mm",
        "scaling factor": "--pixel-mm",
        "time per projection": "--view-seconds",
        "image duration": "--view-seconds",
    }
)
"""The option that replaces a study's key, by how the key begins."""


@dataclass(frozen=True)
class Header:
    """Keys of one header: `keys` and the keys inside comments, each with all its values in file order.

    `options` are those that its keys can be replaced by; an image has none.
    """

    path: Path
    keys: dict[str, tuple[str, ...]]
    comments: dict[str, tuple[str, ...]]
    odd_lines: tuple[str, ...] = ()
    doubts: list[str] = field(default_factory=list, compare=False)
    options: Mapping[str, str] = field(default_factory=lambda: OPTIONS, compare=False)

    def error(self, reason: str) -> InputError:
        """InputError that begins with the file's name."""
        return InputError(f"{self.path}: {reason}")

    def text(self, *names: str, comments: bool = False, needed: bool = True) -> str | None:
        """Value of the first of these keys that is there and not empty, None without one.

        Raises InputError where the file gives the key twice with different values; with `needed` False, for keys that
        have no bearing on the image, the first is taken and `doubts` gets a line.
        """
        for name in names:
            values = self.texts(name, comments=comments)
            if len({_plain(value) for value in values}) > 1:
                doubt = f"key '{name}' is given more than once, as {' and '.join(dict.fromkeys(values))}"
                if needed:
                    raise self.error(f"{doubt}: keep one")
                if (line := f"{doubt}: the first was taken") not in self.doubts:
                    self.doubts.append(line)
            if values:
                return values[0]
        return None

    def texts(self, name: str, comments: bool = False) -> list[str]:
        """All values of a key that are not empty, in file order: programs repeat keys for each head.

        Those of "name[1]", "name[2]" follow.
        """
        places = (self.keys, self.comments) if comments else (self.keys,)
        for keys in places:
            indexed = [key for key in keys if key.startswith(f"{name}[")] if not name.endswith("]") else []
            found = [value for key in (name, *indexed) for value in keys.get(key, ()) if value]
            if found:
                return found
        return []

    def required(self, *names: str, option: str | None = None) -> str:
        """As `text`; InputError naming file, key and the option that replaces it where it is missing."""
        value = self.text(*names)
        if value is None:
            raise self.error(f"key '{names[0]}' is missing or empty" + (f": give {option}" if option else ""))
        return value

    def number(self, *names: str, comments: bool = False, unit: str | None = None) -> float | None:
        """Finite number behind the first of these keys, None without one; Fortran's "+2.000000+00" is understood."""
        value = self.text(*names, comments=comments)
        return None if value is None else self.as_number(names[0], value, unit)

    def required_number(self, *names: str, option: str | None = None, unit: str | None = None) -> float:
        """As `number`; InputError naming file, key and option where it is missing."""
        return self.as_number(names[0], self.required(*names, option=option), unit)

    def as_number(self, name: str, value: str, unit: str | None = None) -> float:
        """Finite number from text, in `unit` where one is named; InputError naming file, key and text otherwise."""
        text, factor = value.strip(), 1.0
        found = _WITH_UNIT.fullmatch(text)
        if found and unit is not None and (known := _UNITS[unit].get(found[2].lower())):
            text, factor = found[1], known
        matched = _FORTRAN_NUMBER.fullmatch(decimal_comma(text) or text)
        number = math.nan
        if matched:
            mantissa, exponent, bare_exponent = matched.groups()
            number = float(f"{mantissa}e{exponent or bare_exponent or 0}") * factor
        if not abs(number) <= LARGEST_NUMBER:
            option = next((option for key, option in self.options.items() if name.startswith(key)), None)
            raise self.error(f"key '{name}' needs a number, got '{value}'" + (f": give {option}" if option else ""))
        return number

    def count(self, *names: str, least: int = 1) -> int | None:
        """Whole number of at least `least` behind the first of these keys, None without one."""
        value = self.text(*names)
        return None if value is None else self.as_count(names[0], value, least)

    def as_count(self, name: str, value: str, least: int = 1) -> int:
        """Whole number of at least `least` from text; InputError naming file and key otherwise."""
        number = self.as_number(name, value)
        if number != int(number) or number < least:
            raise self.error(f"key '{name}' needs a whole number of at least {least}, got {number:g}")
        return int(number)

    def required_count(self, *names: str) -> int:
        """As `count`; InputError naming file and key where it is missing."""
        number = self.count(*names)
        if number is None:
            raise self.error(f"key '{names[0]}' is missing or empty")
        return number

    def measures(self, name: str, unit: str, comments: bool = False) -> list[tuple[str, str, float]]:
        """(key, text, factor to `unit`) of a quantity whose key may name its unit, "time per projection (msec)".

        An index stands behind the unit: name "scaling factor[1]" finds "scaling factor (mm/pixel)[1]".
        """
        base, index = re.fullmatch(r"(.*?)(\[\d+\])?", name).groups(default="")  # type: ignore[union-attr]
        found = []
        for keys in (self.keys, self.comments) if comments else (self.keys,):
            for key in keys:
                matched = re.fullmatch(rf"{re.escape(base)}(?: ?\((.*?)\))?(\[\d+\])?", key)
                factor = 1.0 if matched and matched[1] is None else _UNITS[unit].get(matched[1] if matched else "")
                if factor and matched and (not index or matched[2] == index):
                    found += [(key, value, factor) for value in keys[key] if value]
            if found:
                break
        return found

    def measure(self, name: str, unit: str, comments: bool = False) -> float | None:
        """Number of such a key, None without it; InputError where it is given more than once and differs."""
        found = [factor * self.as_number(key, text, unit) for key, text, factor in self.measures(name, unit, comments)]
        if len(different := distinct(found)) > 1:
            listed = " and ".join(f"{number:g}" for number in different)
            raise self.error(f"key '{name}' is given more than once, as {listed} {unit}: keep one")
        return found[0] if found else None

    def as_numbers(self, name: str, text: str, unit: str, wanted: Container[int]) -> list[float]:
        """Numbers of a list "{1, 2, 3}" (braces may be left out).

        Where that gives a length that is not `wanted`, commas are tried as decimal ones: "14,0 14,5" and "14,0; 14,5".
        """
        plain = text.strip().strip("{}").strip()
        parts = [part for part in re.split(r"[,;\s]+", plain) if part]
        if len(parts) not in wanted:
            others = [one for part in re.split(r"[;\s]+", plain) if (one := part.strip(","))]
            if len(others) in wanted and all(decimal_comma(one) or one.isdecimal() for one in others):
                parts = others
            elif len(parts) == 2 and unit and _WITH_UNIT.fullmatch(plain):
                parts = [plain]
        return [self.as_number(name, part, unit) for part in parts]


def distinct(numbers: Iterable[float]) -> list[float]:
    """Those that are not one of the others but for rounding: 0.66 cm is 6.6 mm."""
    found: list[float] = []
    for number in numbers:
        if not any(math.isclose(number, one, rel_tol=1e-6) for one in found):
            found.append(number)
    return found


def _plain(value: str) -> str:
    """Value as repeated keys are compared: 360 is 360.0, and capitals do not count."""
    try:
        return repr(float(decimal_comma(value) or value))
    except ValueError:
        return " ".join(value.lower().split())


def looks_like_interfile(start: bytes) -> bool:
    """Tell whether the first line that is not blank says "!INTERFILE"; a byte-order mark is passed over."""
    lines = _decoded(start).splitlines()
    return any(_MAGIC.match(line) for line in [line for line in lines if line.strip()][:1])


def _decoded(raw: bytes) -> str:
    """Text of UTF-8, with or without a byte-order mark, of UTF-16 with one, else of Latin-1."""
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1").removeprefix("\xef\xbb\xbf")


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
    text = re.sub(r"\\[ \t]*\r?\n", " ", _decoded(raw))
    text = re.sub(r":[ \t]*=\s*\{[^{}:]*\}", lambda found: " ".join(found.group().split()), text)
    keys: dict[str, list[str]] = {}
    comments: dict[str, list[str]] = {}
    last: list[str] = []
    odd = []
    for line in (part.strip() for part in text.splitlines()):
        name, separator, value = [*re.split(r"(:\s*=)", line, maxsplit=1), "", ""][:3]
        key = canonical_key(name)
        if key == "end of interfile":
            break
        if separator and key:
            # Behind a value a comment may stand, but not inside a list, whose numbers it may part.
            value = value if "{" in value else re.split(r"\s;", f" {value}")[0]
            last = (comments if line.startswith(";") else keys).setdefault(key, [])
            last.append(value.strip())
        elif last and last[-1].endswith(",") and _LIST_GOES_ON.fullmatch(line):
            last[-1] = f"{last[-1]} {line}"
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
    data_path, offset = _data_file(header)
    promised = math.prod(shape) * kind.itemsize
    held = data_path.stat().st_size
    if held < offset + promised:
        refuse_packed(data_path)
        raise header.error(
            f"promises {promised} bytes of data after an offset of {offset} bytes, but {data_path.name} holds "
            f"{held} bytes: the file is cut short or matrix, projections or number format are wrong"
        )
    if held > offset + promised:
        warnings.append(
            f"{data_path.name} holds {held} bytes, {held - offset - promised} more than the header promises"
        )
    scale = header.number("image scaling factor[1]", "image scaling factor")
    if scale == 0:
        warnings.append("'image scaling factor' is 0, which would leave no counts: taken as not set")
        scale = None
    values = np.fromfile(data_path, dtype=kind, count=math.prod(shape), offset=offset)
    if _is_swapped(values.reshape(-1, shape[-1])):
        values = values.view(kind.newbyteorder())
        order_warning = (
            f"the numbers of {data_path.name} make an image only as {_ORDER_NAMES[values.dtype.str[0]]}: read so, "
            f"though 'imagedata byte order' is {header.text('imagedata byte order') or 'missing'}"
        )
    if order_warning:
        warnings.append(order_warning)
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is refused, with its reason, where the study is made
        values = values.astype(np.float32)
        if scale is not None and scale != 1.0:
            values *= np.float32(scale)
    return values.reshape(shape), warnings


_ORDER_NAMES = {"<": "LITTLEENDIAN", ">": "BIGENDIAN"}
_SAMPLE_ROWS = 4096
_ROUGHER = 4.0
"""Counts whose bytes are exchanged differ from their neighbours by much more, at least 256 times where below 256."""


def _is_swapped(rows: Array) -> bool:
    """Tell whether numbers (n, u) in the file's type make an image in the other byte order alone."""
    kind = rows.dtype
    if kind.itemsize == 1:
        return False
    rows = rows[:: max(1, len(rows) // _SAMPLE_ROWS)] if kind.kind != "f" else rows
    other = rows.view(kind.newbyteorder())
    if kind.kind == "f":
        return not _is_plausible(rows) and _is_plausible(other)
    stated, exchanged = (np.abs(np.diff(one.astype(np.float64), prepend=0.0)).mean() for one in (rows, other))
    return bool(stated > _ROUGHER * exchanged)


def _is_plausible(values: Array) -> bool:
    """Finite, and neither all as small nor some as large as floating-point numbers of exchanged bytes are."""
    with np.errstate(invalid="ignore"):
        return bool(1e-20 < np.abs(values).max() <= LARGEST_NUMBER)


def _data_file(header: Header) -> tuple[Path, int]:
    """Path of the data file, and the bytes before its first number."""
    name = header.required("name of data file")
    data_path = beside(header, name)
    if data_path is None:
        raise header.error(f"the data file '{name}' is not there: it must lie beside the header")
    if data_path.resolve() == header.path.resolve():
        raise header.error("data in the header's own file is not supported: put it into a file of its own")
    offset = header.count("data offset in bytes", "data offset in bytes[1]", least=0)
    if offset is None:
        offset = 2048 * (header.count("data starting block", least=0) or 0)
    return data_path, offset


def held_images(header: Header, pixels: int) -> int:
    """Whole images of so many pixels in the data file."""
    data_path, offset = _data_file(header)
    kind, _ = _number_type(header)
    return max(0, data_path.stat().st_size - offset) // (kind.itemsize * pixels)


def beside(header: Header, name: str) -> Path | None:
    """Path of the file that the header names, None where there is no such file."""
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


def _number_type(header: Header) -> tuple[np.dtype, str | None]:
    """Type of the numbers in the data file, and a warning where the byte order had to be assumed."""
    spelled = " ".join(header.required("number format").lower().split())
    size = header.count("number of bytes per pixel") or _SIZES.get(spelled)
    if size is None:
        raise header.error("key 'number of bytes per pixel' is missing or empty")
    if (spelled, size) not in _NUMPY_KINDS:
        known = ", ".join(f"{name} of {bytes_}" for name, bytes_ in _NUMPY_KINDS)
        raise header.error(f"number format '{spelled}' of {size} bytes is not one of {known}")
    order = header.text("imagedata byte order")
    warning = None
    if order is None:
        order = "BIGENDIAN"
        if size > 1:
            warning = "the header gives no 'imagedata byte order': read as BIGENDIAN, Interfile's default"
    orders = {"littleendian": "<", "little": "<", "bigendian": ">", "big": ">"}
    order = re.sub(r"[\s_-]", "", order)
    if order.lower() not in orders:
        raise header.error(f"'imagedata byte order' must be LITTLEENDIAN or BIGENDIAN, got '{order}'")
    return np.dtype(orders[order.lower()] + _NUMPY_KINDS[spelled, size]), warning
