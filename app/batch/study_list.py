"""The list of a batch: a folder of studies, or a CSV with one study in each row."""

import csv
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from unicodedata import normalize

from spectac.recon import InputError
from spectac.recon.io import files_of
from spectac.recon.io.dicom.elements import looks_like_dicom, open_dicom
from spectac.recon.io.dicom.nm_kind import kind_of
from spectac.recon.io.interfile.header import looks_like_interfile, read_header
from spectac.recon.setting_fields import from_options, options
from spectac.recon.settings import ComparisonSettings, StudySettings

Key = TypeVar("Key")

FILE_COLUMNS = ("ct", "mu_map", "truth", "labels")
GIVEN_COLUMNS = tuple(option.name for option in options(StudySettings) if option.name != "apply_cor")
COLUMNS = ("study", "name", "methods", "tracer", *FILE_COLUMNS, *GIVEN_COLUMNS)

_NO_STUDY = (
    ".csv", ".db", ".docx", ".html", ".ini", ".jpeg", ".jpg", ".json", ".log", ".md", ".nii", ".nii.gz", ".ods", ".pdf",
    ".png", ".toml", ".tsv", ".txt", ".xls", ".xlsx", ".yaml", ".zip",
)  # fmt: skip
"""Endings of files that hold no raw projections: tables, notes, pictures, images and maps."""

_NAME = re.compile(r"\w(?:[\w .+-]*[\w+-])?")
_LONGEST_NAME = 200
"""Bytes of a folder's name in UTF-8; file systems allow 255."""
_RESERVED = ("summary.csv", "index.html", "agreement.csv")
"""Files of the results' folder, in which every study gets a folder of its name."""
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}
)
"""Windows allows no folder of these names, whatever follows after a point."""


@dataclass(frozen=True)
class ListedStudy:
    """One study of the list: the name of its folder among the results, its path, and what the list says of it.

    `methods` and `tracer` None: those of the whole batch. `files` holds ct, mu_map, truth, labels; `given` what
    replaces or completes the study's headers. Nothing is opened: a study that is missing fails when it is worked on.
    """

    name: str
    path: Path
    methods: tuple[str, ...] | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    given: StudySettings = field(default_factory=StudySettings)
    tracer: str | None = None


def read_list(path: Path, results: Path) -> tuple[tuple[ListedStudy, ...], list[str]]:
    """Studies of a folder (each sub-folder and file directly in it) or of a CSV, and notes for the user.

    `results` is the folder of the results, which may lie among the studies.
    Raises InputError where there is no such list or no study in it, and where the CSV's header, names or numbers are
    wrong.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; a list is a folder of studies or a CSV with a column study")
    notes: list[str] = []
    if not path.is_dir():
        studies = _from_csv(path)
    elif results.exists() and results.samefile(path):
        raise InputError(f"{path}: studies and results cannot share a folder: give another -o")
    else:
        studies, notes = _from_folder(path, results)
    repeated = _repeated((study.path.resolve(), study.name) for study in studies)
    return studies, [*notes, *(f"{', '.join(names)} are the same study: {path}" for path, names in repeated.items())]


def _repeated(named: Iterable[tuple[Key, str]]) -> dict[Key, list[str]]:
    """Names of each key that has more than one."""
    names: dict[Key, list[str]] = defaultdict(list)
    for key, name in named:
        names[key].append(name)
    return {key: same for key, same in names.items() if len(same) > 1}


def _from_folder(folder: Path, results: Path) -> tuple[tuple[ListedStudy, ...], list[str]]:
    """Studies by name. A file that nothing marks as something else is listed: if it is no study, it fails by name."""
    visible = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    data = {file for entry in visible if entry.is_file() for file in _read_with(entry)}
    entries = [entry for entry in visible if entry not in data and entry.resolve() != results.resolve()]
    left_out = [entry for entry in entries if (_is_result(entry) if entry.is_dir() else _is_no_study(entry))]
    if len(left_out) == len(entries):
        raise InputError(f"{folder}: no studies in this folder: give one with a file or sub-folder for each study")
    taken = {_folded(name) for name in _RESERVED}
    studies = []
    for entry in entries:
        if entry not in left_out:
            name = _folder_name(entry.name, taken)
            taken.add(_folded(name))
            studies.append(ListedStudy(name, entry))
    notes = [f"left out, no studies: {', '.join(entry.name for entry in left_out)}"] if left_out else []
    return tuple(studies), notes


def _is_result(folder: Path) -> bool:
    """True for results of a batch, and of another command where no raw projections lie beside them.

    A virtual patient's folder holds results as well, but is a study.
    """
    if all((folder / name).is_file() for name in ("summary.csv", "index.html")):
        return True
    return (folder / "record.json").is_file() and not any(_is_raw(file) for file in folder.iterdir())


def _is_raw(file: Path) -> bool:
    """True for raw projections as a folder may hold them: DICOM NM or an Interfile header."""
    try:
        with file.open("rb") as stream:
            start = stream.read(4096)
        if looks_like_dicom(start):
            return kind_of(open_dicom(file, pixels=False)) == "TOMO"
        return looks_like_interfile(start) and read_header(file).text("number of projections") is not None
    except (InputError, OSError):
        return False


def _read_with(entry: Path) -> list[Path]:
    """Files beside `entry` that belong to it: the data and the orbit that an Interfile header names."""
    try:
        return [file for file in files_of(entry) if file != entry]
    except (InputError, OSError):  # reported when the study is opened
        return []


def _is_no_study(file: Path) -> bool:
    name = file.name.lower()
    return name.endswith(_NO_STUDY) or name.startswith(("readme", "license")) or name == "dicomdir"


def _folder_name(name: str, taken: set[str]) -> str:
    """Name of a folder made from the name of any file, with its ending: a file that joins later changes no other's.

    A name that cannot be taken as it is gets six digits of its digest.
    """
    composed = normalize("NFC", name)
    plain = re.sub(r"[^\w .+-]", "_", composed).strip(" .")
    plain = plain.encode()[: _LONGEST_NAME - 20].decode(errors="ignore").rstrip(" .")
    if not _NAME.fullmatch(plain) or _is_device(plain):
        plain = f"_{plain}".rstrip(" .")
    if plain != composed or _folded(plain) in taken:
        plain = f"{plain}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:6]}"
    while _folded(plain) in taken:
        plain += "_"
    return plain


def _folded(name: str) -> str:
    """The same for all names that mean one folder on some system."""
    return normalize("NFC", normalize("NFC", name).casefold())


def _is_device(name: str) -> bool:
    return name.partition(".")[0].rstrip(" ").upper() in _DEVICES


def _from_csv(path: Path) -> tuple[ListedStudy, ...]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            # Spreadsheets write semicolons where the comma stands in numbers.
            first = stream.readline()
            stream.seek(0)
            lines = csv.DictReader(stream, strict=True, delimiter=";" if ";" in first and "," not in first else ",")
            header = [str(name).strip() for name in lines.fieldnames or ()]
            _check_header(path, header)
            lines.fieldnames = header
            studies = [_from_row(f"{path}, line {lines.line_num}", path.parent, row) for row in lines]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV in UTF-8: {error}") from None
    if not studies:
        raise InputError(f"{path}: no studies in this list: the header's column study has no rows")
    repeated = _repeated((_folded(study.name), study.name) for study in studies)
    if repeated:
        names = sorted({name for same in repeated.values() for name in same})
        raise InputError(
            f"{path}: {', '.join(names)} {'stands' if len(names) == 1 else 'stand'} there more than once: every study "
            "needs a name of its own, in a column name"
        )
    return tuple(studies)


def _check_header(path: Path, header: Sequence[str]) -> None:
    if "study" not in header:
        raise InputError(f"{path}: the first line must name the columns, study among them; it is {','.join(header)!r}")
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        raise InputError(f"{path}: unknown column {', '.join(unknown)}; known: {', '.join(COLUMNS)}")
    twice = [name for name, number in Counter(header).items() if number > 1]
    if twice:
        raise InputError(f"{path}: column {', '.join(twice)} stands there twice")


def _from_row(where: str, folder: Path, row: Mapping[str | None, str | list[str] | None]) -> ListedStudy:
    """Study of one row; an empty field is as if its column were missing."""
    if None in row:
        raise InputError(f"{where}: more fields than the header has columns: put texts with commas in quotes")
    values = {str(column): text for column, value in row.items() if (text := str(value or "").strip())}
    if "study" not in values:
        raise InputError(f"{where}: the column study is empty")
    source = folder / values["study"]
    methods = tuple(part.strip() for part in re.split("[;,]", values.get("methods", "")) if part.strip())
    try:
        given = from_options(StudySettings, {column: values[column] for column in GIVEN_COLUMNS if column in values})
        tracer = ComparisonSettings(tracer=values.get("tracer")).tracer  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    files = {column: folder / values[column] for column in FILE_COLUMNS if column in values}
    return ListedStudy(_given_name(where, source, values), source, methods or None, files, given, tracer)


def _given_name(where: str, source: Path, values: Mapping[str, str]) -> str:
    """Name in the column name, else the file's without its ending."""
    name = normalize("NFC", values.get("name", source.name if source.is_dir() else source.stem))
    size = len(os.fsencode(name))
    if size > _LONGEST_NAME:
        raise InputError(f"{where}: name {name[:20]!r}... is {size} bytes long: give one of at most {_LONGEST_NAME}")
    hint = "its path makes no name for a folder: give one in the column name"
    if _is_device(name):
        hint = "Windows has a device of this name"
    elif "name" in values:
        hint = "a name may hold letters, digits, spaces and . + - _, and begins with a letter or digit"
    if not _NAME.fullmatch(name) or _is_device(name) or _folded(name) in _RESERVED:
        raise InputError(f"{where}: name {name!r} is refused: {hint}")
    return name
