"""The list of studies that `spectac batch` works through: a folder of studies, or a CSV with one in each row."""

import csv
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spectac.recon import InputError
from spectac.recon.io import files_of

FILE_COLUMNS = ("ct", "mu_map", "truth", "labels")
GIVEN_COLUMNS = ("nuclide", "collimator", "psf", "radius_mm", "head_angles")
COLUMNS = ("study", "name", "methods", *FILE_COLUMNS, *GIVEN_COLUMNS)

_NO_STUDY = (".csv", ".json", ".md", ".nii", ".nii.gz", ".pdf", ".png", ".jpg", ".jpeg", ".toml", ".txt", ".xlsx")
"""Endings of files that no raw projections come in: tables, notes, pictures, images and maps."""

_NAME = re.compile(r"\w(?:[\w .+-]{0,98}[\w+-])?")
_TAKEN = ("summary.csv", "index.html")
"""Files of the results' folder, in which every study gets a folder of its name."""


@dataclass(frozen=True)
class ListedStudy:
    """One study of the list: its folder's name among the results, where it lies, and what is its own.

    `methods` None: those of the whole batch. `files` holds ct, mu_map, truth, labels; `given` what replaces or
    completes the study's own headers. Nothing is opened: a study that is missing fails when it is worked on.
    """

    name: str
    path: Path
    methods: tuple[str, ...] | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    given: Mapping[str, object] = field(default_factory=dict)


def read_list(path: Path, results: Path) -> tuple[tuple[ListedStudy, ...], list[str]]:
    """Studies of a folder (each sub-folder and file directly in it) or of a CSV, and notes on what was left out.

    `results` is the folder of the results, which may lie among the studies.
    Raises InputError where there is no such list or no study in it, and where the CSV's header, names or numbers are
    wrong.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; a list is a folder of studies or a CSV with a column study")
    if not path.is_dir():
        return _from_csv(path), []
    if results.exists() and results.samefile(path):
        raise InputError(f"{path}: studies and results cannot share a folder: give another -o")
    return _from_folder(path, results)


def _from_folder(folder: Path, results: Path) -> tuple[tuple[ListedStudy, ...], list[str]]:
    """Studies by name. A file that nothing marks as something else is listed: if it is no study, it fails by name."""
    visible = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    data = {file for entry in visible if entry.is_file() for file in _read_with(entry)}
    found: list[Path] = []
    left_out: list[Path] = []
    for entry in visible:
        if entry in data or entry.resolve() == results.resolve():
            continue
        # Not io.atomic.is_result: a virtual patient's folder is one, and a study.
        other = (entry / "record.json").is_file() if entry.is_dir() else _is_no_study(entry)
        (left_out if other else found).append(entry)
    if not found:
        raise InputError(f"{folder}: no studies in this folder: give one with a file or sub-folder for each study")
    stems = Counter(_stem(entry) for entry in found)
    names: dict[str, Path] = {}
    taken = set(_TAKEN)
    for entry in found:
        # Two files that differ in their endings alone keep them.
        plain = _safe(_stem(entry) if stems[_stem(entry)] == 1 else entry.name)
        name, number = plain, 2
        while name.casefold() in taken:
            name, number = f"{plain}-{number}", number + 1
        taken.add(name.casefold())
        names[name] = entry
    notes = [f"left out, no studies: {', '.join(entry.name for entry in left_out)}"] if left_out else []
    return tuple(ListedStudy(name, entry) for name, entry in names.items()), notes


def _read_with(entry: Path) -> list[Path]:
    """Files beside `entry` that belong to it: the data and the orbit that an Interfile header names."""
    try:
        return [file for file in files_of(entry) if file != entry]
    except (InputError, OSError):  # found again, and named, when the study is opened
        return []


def _is_no_study(file: Path) -> bool:
    plain = file.name.lower()
    return plain.endswith(_NO_STUDY) or plain.startswith(("readme", "license")) or plain == "dicomdir"


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _safe(name: str) -> str:
    """Name of a folder made from any file's name."""
    plain = re.sub(r"[^\w .+-]", "_", name).strip(" .")[:90].rstrip(" .")
    return plain if _NAME.fullmatch(plain) else f"_{plain}".rstrip(" .")


def _from_csv(path: Path) -> tuple[ListedStudy, ...]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = csv.DictReader(stream, strict=True)
            header = [str(name).strip() for name in lines.fieldnames or ()]
            _check_header(path, header)
            lines.fieldnames = header
            studies = [_from_row(f"{path}, line {lines.line_num}", path.parent, row) for row in lines]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV in UTF-8: {error}") from None
    if not studies:
        raise InputError(f"{path}: no studies in this list: the header's column study has no rows")
    times = Counter(study.name.casefold() for study in studies)
    twice = sorted({study.name for study in studies if times[study.name.casefold()] > 1})
    if twice:
        raise InputError(
            f"{path}: {', '.join(twice)} {'stands' if len(twice) == 1 else 'stand'} there more than once: every study "
            "needs a name of its own, in a column name"
        )
    return tuple(studies)


def _check_header(path: Path, header: list[str]) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    twice = [name for name, number in Counter(header).items() if number > 1]
    if "study" not in header:
        raise InputError(f"{path}: the first line must name the columns, study among them; it is {','.join(header)!r}")
    if unknown:
        raise InputError(f"{path}: unknown column {', '.join(unknown)}; known: {', '.join(COLUMNS)}")
    if twice:
        raise InputError(f"{path}: column {', '.join(twice)} stands there twice")


def _from_row(where: str, folder: Path, row: Mapping[str | None, str | list[str] | None]) -> ListedStudy:
    """Study of one row; an empty field is as if its column were missing."""
    if None in row:
        raise InputError(f"{where}: more fields than the header has columns: put texts with commas in quotes")
    values = {str(column): str(value).strip() for column, value in row.items() if value is not None}
    values = {column: value for column, value in values.items() if value}
    if "study" not in values:
        raise InputError(f"{where}: the column study is empty")
    source = folder / values["study"]
    name = values.get("name")
    if name is None:
        name = _stem(source)
        hint = "its path makes no name for a folder: give one in the column name"
    else:
        hint = "a name may hold letters, digits, spaces and . + - _, and begins with a letter or digit"
    if not _NAME.fullmatch(name) or name.casefold() in _TAKEN:
        raise InputError(f"{where}: name {name!r} is refused: {hint}")
    methods = tuple(part.strip() for part in values.get("methods", "").split(";") if part.strip())
    given: dict[str, object] = {column: values[column] for column in GIVEN_COLUMNS if column in values}
    if "collimator" in given and "psf" in given:
        raise InputError(f"{where}: give a collimator or a psf, not both")
    if "radius_mm" in given:
        given["radius_mm"] = _radius_mm(where, values["radius_mm"])
    files = {column: folder / values[column] for column in FILE_COLUMNS if column in values}
    return ListedStudy(name, source, methods or None, files, given)


def _radius_mm(where: str, text: str) -> float:
    try:
        radius = float(text)
    except ValueError:
        radius = math.nan
    if not (math.isfinite(radius) and radius > 0):
        raise InputError(f"{where}: radius_mm must be a number above 0, not {text!r}")
    return radius
