"""Interfile headers: text -> keys and values, and values -> numbers in our units.

Keys are compared in lower case without the leading "!", "%" or "#", with underscores read as blanks, and without blanks
before an index: "!Matrix_size [1]" is "matrix size[1]". A line that begins with ";" is a comment. SIMIND keeps keys of
its own in comments (";# Radionuclide := i123"), so comments are kept apart and read by those who ask for them. Numbers
may have a decimal comma and a unit ("4,795 mm"). A length, time, angle or energy is converted to our unit.
"""

import math
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from spectac.recon.errors import FileError
from spectac.recon.io.content import first_bytes
from spectac.recon.io.interfile.dialect import Dialect, Keys, dialect_of, values_of
from spectac.recon.io.interfile.keys import OPTIONS

HEADER_BYTES = 1 << 20
"""Headers are a few kilobytes; a longer file is no header."""

LARGEST_NUMBER = 1e15
"""No key of a header means more than this; what is larger would overflow later, far from its cause."""

_MAGIC = re.compile(r"\s*!?\s*interfile\s*(:\s*=|$)", re.IGNORECASE)
_LIST_GOES_ON = re.compile(r"[-+.\d,\seE]+\}?")
_NUMBER = re.compile(
    r"([+-]?(?:\d+\.?\d*|\d*[.,]\d+))(?:[eEdD]([+-]?\d+)|([+-]\d+))?(?:\s*([a-zµ°]+)\.?)?", re.IGNORECASE
)
"""Mantissa, exponent, Fortran's exponent without a letter ("+2.000000+00"), and unit."""
_COMMA_OR_WHOLE = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?|\d+")

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


_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Header:
    """One header, and what reading it has to tell.

    Parameters
    ----------
    path : Path
        The header's file.
    keys, comments : mapping
        All values in file order, by key; those of keys inside comments apart.
    dialect : Dialect
        How the program that wrote it means angles and axes.
    dialect_doubt : str or None
        What makes the dialect doubtful.
    odd_lines : tuple of str
        Lines that are neither keys nor comments.
    options : mapping
        The option that replaces a key, by the key's beginning; an image has none.
    warnings, history : list of str
        Lines for the user, which the readers add to.

    Examples
    --------
    >>> header = Header(Path("scan.hs"), {"matrix size[1]": ("64",)}, {}, dialect_of({}, {})[0], None, ())
    >>> header.count("matrix size[1]")
    64
    >>> header.required("matrix size[2]")
    Traceback (most recent call last):
    spectac.recon.errors.FileError: scan.hs: key 'matrix size[2]' is missing or empty
    """

    path: Path
    keys: Keys
    comments: Keys
    dialect: Dialect
    dialect_doubt: str | None
    odd_lines: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=lambda: OPTIONS, compare=False)
    warnings: list[str] = field(default_factory=list, compare=False)
    history: list[str] = field(default_factory=list, compare=False)

    def error(self, reason: str) -> FileError:
        """InputError that begins with the file's name."""
        return FileError(self.path, reason)

    def missing(self, name: str) -> FileError:
        """InputError for a key without a value, with the option that replaces it."""
        return self.error(f"key '{name}' is missing or empty{self._remedy(name)}")

    def warn(self, line: str) -> None:
        """Add a warning, once."""
        if line not in self.warnings:
            self.warnings.append(line)

    def texts(self, name: str, comments: bool = False) -> list[str]:
        """All values of a key that are not empty, in file order, and of "name[1]", "name[2]": heads repeat keys."""
        return values_of(name, *self._places(comments))

    def text(self, *names: str, comments: bool = False, lenient: bool = False) -> str | None:
        """Value of the first of these keys that is there and not empty, None without one.

        Raises InputError where the file gives the key twice with different values. With `lenient`, for keys that have
        no bearing on the image, the first value is taken, with a warning.
        """
        for name in names:
            values = self.texts(name, comments)
            if len({_comparable(value) for value in values}) > 1:
                doubt = f"key '{name}' is given more than once, as {' and '.join(dict.fromkeys(values))}"
                if not lenient:
                    raise self.error(f"{doubt}: keep one")
                self.warn(f"{doubt}: the first was taken")
            if values:
                return values[0]
        return None

    def required(self, *names: str) -> str:
        """As `text`; InputError naming file, key and the option that replaces it where it is missing."""
        value = self.text(*names)
        if value is None:
            raise self.missing(names[0])
        return value

    def as_number(self, name: str, value: str, unit: str | None = None) -> float:
        """Finite number from text, in `unit` where one is named; InputError naming file, key and text otherwise."""
        number = math.nan
        if match := _NUMBER.fullmatch(value.strip()):
            mantissa, exponent, bare_exponent, unit_said = match.groups()
            factor = 1.0 if unit_said is None else _UNITS.get(unit or "", {}).get(unit_said.lower(), math.nan)
            number = float(f"{mantissa.replace(',', '.')}e{exponent or bare_exponent or 0}") * factor
        if not abs(number) <= LARGEST_NUMBER:
            raise self.error(f"key '{name}' needs a number, got '{value}'{self._remedy(name)}")
        return number

    def number(self, *names: str, comments: bool = False) -> float | None:
        """Finite number behind the first of these keys, None without one."""
        value = self.text(*names, comments=comments)
        return None if value is None else self.as_number(names[0], value)

    def as_count(self, name: str, value: str, least: int = 1) -> int:
        """Whole number of at least `least` from text; InputError naming file and key otherwise."""
        number = self.as_number(name, value)
        if number != int(number) or number < least:
            raise self.error(f"key '{name}' needs a whole number of at least {least}, got {number:g}")
        return int(number)

    def count(self, *names: str, least: int = 1) -> int | None:
        """Whole number of at least `least` behind the first of these keys, None without one."""
        value = self.text(*names)
        return None if value is None else self.as_count(names[0], value, least)

    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the images; InputError where one is missing."""
        rows, columns = (self.as_count(key, self.required(key)) for key in ("matrix size[2]", "matrix size[1]"))
        return rows, columns

    def lists(self, name: str, unit: str, lengths: Container[int], comments: bool = False) -> list[list[float]]:
        """Every value, in `unit`, of a quantity whose key may name its unit, "time per projection (msec)".

        Each value is a list of one of the lengths. An index stands behind the unit: name "scaling factor[1]" finds
        "scaling factor (mm/pixel)[1]".
        """
        base, bracket, index = name.partition("[")
        pattern = re.compile(rf"{re.escape(base)}(?: ?\((.*?)\))?(\[\d+\])?")
        for keys in self._places(comments):
            lists = []
            for key in keys:
                match = pattern.fullmatch(key)
                if match is None or (bracket and match[2] != bracket + index):
                    continue
                if factor := 1.0 if match[1] is None else _UNITS[unit].get(match[1]):
                    texts = [self.as_numbers(key, text, unit, lengths) for text in keys[key] if text]
                    lists += [[factor * number for number in numbers] for numbers in texts]
            if lists:
                return lists
        return []

    def quantities(self, name: str, unit: str, heads: int = 1, *, as_list: bool = False) -> list[float]:
        """A quantity, in `unit`: one value, or one for each head where the file repeats the key; none without the key.

        A time of 0 is none. With `as_list` one value may be a list for all heads. Raises InputError where there are
        several values that are not one a head.
        """
        lists = self.lists(name, unit, {1, heads} if as_list else {1})
        values = once_a_head([value for one in lists if any(one) or unit != "s" for value in one], heads)
        different = distinct(values)
        if len(different) > 1 and len(values) != heads:
            raise self.error(
                f"key '{name}' is given more than once, as {listed(different, ' and ')} {unit}: keep one"
                f"{self._remedy(name).replace(':', ', or')}"
            )
        return values if len(values) == heads else different

    def sizes_mm(self, *axes: int) -> list[float]:
        """Pixel or voxel size along axes of the matrix; InputError where one is missing."""
        sizes = [self.quantities(f"scaling factor[{axis}]", "mm") for axis in axes]
        for axis, size in zip(axes, sizes, strict=True):
            if not size:
                raise self.missing(f"scaling factor (mm/pixel)[{axis}]")
        return [size[0] for size in sizes]

    def as_numbers(self, name: str, text: str, unit: str, lengths: Container[int]) -> list[float]:
        """Numbers of a list "{1, 2, 3}" (braces may be left out).

        Where that gives another than the lengths, commas are tried as decimal ones: "14,0 14,5" and "14,0; 14,5".
        """
        plain = text.strip().strip("{}").strip()
        parts = [part for part in re.split(r"[,;\s]+", plain) if part]
        if (match := _NUMBER.fullmatch(plain)) and match[4]:
            parts = [plain]  # one number and its unit
        elif len(parts) not in lengths:
            with_commas = [one for part in re.split(r"[;\s]+", plain) if (one := part.strip(","))]
            if len(with_commas) in lengths and all(map(_COMMA_OR_WHOLE.fullmatch, with_commas)):
                parts = with_commas
        return [self.as_number(name, part, unit) for part in parts]

    def _places(self, comments: bool) -> tuple[Keys, ...]:
        return (self.keys, self.comments) if comments else (self.keys,)

    def _remedy(self, name: str) -> str:
        option = next((option for key, option in self.options.items() if name.startswith(key)), None)
        return f": give {option}" if option else ""


def once_a_head(values: list[_Value], heads: int) -> list[_Value]:
    """The first block of values, one for each head, where the blocks of further energy windows repeat it.

    Parameters
    ----------
    values : list
        Values in the order of the file.
    heads : int
        Number of heads.

    Returns
    -------
    list
        First block, or all values where the blocks differ.

    Examples
    --------
    >>> once_a_head([140, 150, 140, 150], heads=2)
    [140, 150]
    """
    blocks = [values[start : start + heads] for start in range(0, len(values), heads)]
    return blocks[0] if blocks and all(block == blocks[0] for block in blocks) else values


def listed(numbers: Iterable[float], separator: str = ", ") -> str:
    """Numbers as text.

    Parameters
    ----------
    numbers : iterable of float
        Numbers, shown with six digits at most.
    separator : str
        Text between them.

    Returns
    -------
    str
        Text for messages.

    Examples
    --------
    >>> listed([140.0, 150.5], " and ")
    '140 and 150.5'
    """
    return separator.join(f"{number:g}" for number in numbers)


def distinct(numbers: Iterable[float]) -> list[float]:
    """Numbers without those that equal an earlier one but for rounding: 0.66 cm is 6.6 mm.

    Parameters
    ----------
    numbers : iterable of float
        Numbers in one unit.

    Returns
    -------
    list of float
        First of each group of equal numbers.

    Examples
    --------
    >>> distinct([6.6, 0.66 * 10, 1.4])
    [6.6, 1.4]
    """
    different: list[float] = []
    for number in numbers:
        if not any(math.isclose(number, one, rel_tol=1e-6) for one in different):
            different.append(number)
    return different


def _comparable(value: str) -> str:
    """Value as repeated keys are compared: 360 is 360.0, and capitals do not count."""
    try:
        return repr(float(value.replace(",", ".")))
    except ValueError:
        return " ".join(value.lower().split())


def looks_like_interfile(start: bytes) -> bool:
    """Tell whether the first line that is not blank says "!INTERFILE"; a byte-order mark is passed over.

    Parameters
    ----------
    start : bytes
        First bytes of the file.

    Returns
    -------
    bool
        False for an empty file.

    Examples
    --------
    >>> looks_like_interfile(b"!INTERFILE :="), looks_like_interfile(b"not a header")
    (True, False)
    """
    first = next((line for line in _decoded(start).splitlines() if line.strip()), "")
    return _MAGIC.match(first) is not None


def is_header(path: Path) -> bool:
    """Tell whether a file begins as Interfile headers do.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    bool
        False for the data file of a header.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "scan.h00")
    >>> _ = file.write_text("!INTERFILE :=")
    >>> is_header(file)
    True
    """
    return looks_like_interfile(first_bytes(path))


def _decoded(raw: bytes) -> str:
    """Text of UTF-8, with or without a byte-order mark, of UTF-16 with one, else of Latin-1."""
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1").removeprefix("\xef\xbb\xbf")


def canonical_key(text: str) -> str:
    """Key as it is compared.

    Parameters
    ----------
    text : str
        Key as the file has it.

    Returns
    -------
    str
        Key in lower case, without marks at its beginning and needless blanks.

    Examples
    --------
    >>> canonical_key("!Matrix_size [1]")
    'matrix size[1]'
    """
    key = re.sub(r"[\s_]+", " ", text.lstrip(" \t!;#%").lower()).strip()
    return re.sub(r"\s*\[\s*(.*?)\s*\]", r"[\1]", key)


def read_header(path: Path) -> Header:
    """Header of an Interfile.

    Parameters
    ----------
    path : Path
        The header.

    Returns
    -------
    Header
        Keys, comments and dialect; its data file is not read.

    Raises
    ------
    InputError
        The file cannot be found, is not an Interfile header, or is longer than 1 MiB.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "scan.hs")
    >>> _ = file.write_text(chr(10).join(["!INTERFILE :=", "!matrix size [1] := 64"]))
    >>> read_header(file).count("matrix size[1]")
    64
    """
    if not path.is_file():
        raise FileError(path, "no such file")
    with path.open("rb") as file:
        raw = file.read(HEADER_BYTES + 1)
    if not looks_like_interfile(raw[:4096]):
        raise FileError(path, "not an Interfile header, which begins with '!INTERFILE :='")
    if len(raw) > HEADER_BYTES:
        raise FileError(path, f"longer than {HEADER_BYTES} bytes: data in the header's own file is not supported")
    text = re.sub(r"\\[ \t]*\r?\n", " ", _decoded(raw))
    text = re.sub(r":[ \t]*=\s*\{[^{}:]*\}", lambda found: " ".join(found.group().split()), text)
    keys: dict[str, list[str]] = {}
    comments: dict[str, list[str]] = {}
    last: list[str] = []
    odd_lines = []
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
            odd_lines.append(line[:40])
    read_keys, read_comments = ({key: tuple(values) for key, values in one.items()} for one in (keys, comments))
    dialect, doubt = dialect_of(read_keys, read_comments)
    return Header(path, read_keys, read_comments, dialect, doubt, tuple(odd_lines))
