"""The overview of a batch: summary.csv, and index.html with a link to each report."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from spectac.app.batch.study_list import ListedStudy
from spectac.app.measures import MAIN
from spectac.recon.errors import MissingExtraError
from spectac.recon.io.atomic import written
from spectac.recon.queue.work_queue import Entry, Failure

if TYPE_CHECKING:
    from jinja2 import Template

SUMMARY, INDEX, AGREEMENT = "summary.csv", "index.html", "agreement.csv"
STATES = ("failed", "done", "waiting")
"""In the order of the page: studies that need a person come first."""

_SIDES = ("right striatum", "left striatum")
_MEASURES = {
    **{("SBR", region): f"SBR {region}" for region in _SIDES},
    **{("mean", region): f"mean {region}" for region in MAIN},
}
"""Columns of the summary, by measure and region of comparison.csv."""
_LIKENESS = ("NRMSE", "SSIM")
"""Measures of a whole image: their region is the head or the brain, whichever was found."""

COLUMNS = (
    "name", "study", "method", "status", "reason", *_MEASURES.values(), "unit", "reference", *_LIKENESS, "warnings",
    "seconds", "folder",
)  # fmt: skip


@dataclass(frozen=True)
class StudyState:
    """State of a study in the overview: "waiting", "done" or "failed", and a row of the summary for each method.

    `warnings` are those of the study and its comparison; `notes` are on single methods, and begin with their names.
    """

    study: ListedStudy
    status: str = "waiting"
    reason: str = ""
    seconds: float | None = None
    rows: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> tuple[str, ...]:
        """Methods of a finished study that made no image, with their reasons."""
        return tuple(f"{row['method']}: {row['reason']}" for row in self.rows if row["status"] == "failed")


def state_of(entry: Entry[ListedStudy, StudyState]) -> StudyState:
    """State of a study in the queue; one that failed in an earlier run counts as failed until it is done."""
    if isinstance(entry.outcome, Failure):
        return StudyState(entry.item, "failed", entry.outcome.reason, getattr(entry.outcome, "seconds", None))
    return entry.outcome or StudyState(entry.item)


def state_done(folder: Path, study: ListedStudy, seconds: float) -> StudyState:
    """State of a study whose comparison is in `folder`."""
    target = folder / study.name
    try:
        with (target / "comparison.csv").open(newline="", encoding="utf-8") as stream:
            compared = list(csv.DictReader(stream))
        record = json.loads((target / "record.json").read_text(encoding="utf-8"))
        methods = record.get("methods", {})
        warnings = tuple(dict.fromkeys([*record.get("study", {}).get("warnings", ()), *record.get("warnings", ())]))
        rows = tuple(
            _row(compared, method, methods) | {"warnings": str(len(warnings))}
            for method in dict.fromkeys(row["method"] for row in compared)
        )
        notes = {
            name: [note for note in method.get("notes", ()) if note not in warnings] for name, method in methods.items()
        }
    except (FileNotFoundError, ValueError, KeyError, AttributeError, TypeError, csv.Error):
        return StudyState(study, "done", "", seconds)  # another work than `spectac compare`
    return StudyState(study, "done", "", seconds, rows, warnings, _by_note(notes))


def _by_note(notes_of: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Each note once, after the names of the methods that it is about."""
    methods: dict[str, list[str]] = {}
    for method, notes in notes_of.items():
        for note in notes:
            methods.setdefault(note, []).append(method)
    return tuple(f"{', '.join(names)}: {note}" for note, names in methods.items())


def _row(compared: Sequence[dict[str, str]], method: str, methods: Mapping[str, Any]) -> dict[str, str]:
    """Row of the summary from the rows of one method in comparison.csv."""
    measured = [row for row in compared if row["method"] == method]
    summary = {"method": method, "status": measured[0]["status"], "reason": measured[0]["reason"]}
    summary["seconds"] = str(methods.get(method, {}).get("seconds", ""))
    for row in measured:
        column = _MEASURES.get((row["measure"], row["region"]))
        if row["measure"] in _LIKENESS:
            summary |= {row["measure"]: row["value"], "reference": row["reference"]}
        elif column is not None:
            summary[column] = row["value"]
        if row["measure"] == "mean":
            summary["unit"] = row["unit"]
    return summary


def _place(study: ListedStudy) -> str:
    """Path of a study for people; bytes of a file's name that are no text become question marks."""
    path = study.path.resolve() if ".." in study.path.parts else study.path
    return str(path).encode(errors="replace").decode()


def summary_rows(states: Sequence[StudyState]) -> Iterator[dict[str, str]]:
    """Rows of summary.csv in the order of the list: one for each method of a finished study, one for any other."""
    for state in states:
        study = state.study
        fixed = {"name": study.name, "study": _place(study), "folder": study.name}
        seconds = "" if state.seconds is None else f"{state.seconds:g}"
        whole = {"status": state.status, "reason": state.reason, "seconds": seconds}
        for row in state.rows or (whole,):
            yield fixed | row


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Write a CSV, which appears whole; what is no text in a file's name becomes a question mark."""
    with (
        written(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="replace") as stream,
    ):
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def write_overview(folder: Path, states: Sequence[StudyState], template: "Template") -> None:
    """Write summary.csv and index.html; each appears whole, in place of the one before.

    Raises OSError as the file system does.
    """
    write_table(folder / SUMMARY, COLUMNS, summary_rows(states))
    with written(folder / INDEX) as temporary:
        temporary.write_text(page(folder, states, template), encoding="utf-8", errors="replace")


def page(folder: Path, states: Sequence[StudyState], template: "Template") -> str:
    """HTML of index.html: failed studies first, then those with a method that could not be used, in list order."""
    counts = {status: sum(state.status == status for state in states) for status in STATES}

    def urgency(state: StudyState) -> tuple[int, bool]:
        return STATES.index(state.status), not state.refused

    def link(state: StudyState) -> str:
        report = folder / state.study.name / "report.html"
        return f"{quote(state.study.name)}/report.html" if state.status == "done" and report.is_file() else ""

    lines = [
        {
            "name": state.study.name,
            "status": state.status,
            "reasons": (state.reason,) if state.reason else state.refused,
            "methods": [row["method"] for row in state.rows if row["status"] == "done"],
            "seconds": "" if state.seconds is None else f"{state.seconds:.1f}",
            "study": _place(state.study),
            "said": {"warning": state.warnings, "note": state.notes},
            "link": link(state),
        }
        for state in sorted(states, key=urgency)
    ]
    agreement = (folder / AGREEMENT).is_file()
    return template.render(title=folder.name, counts=counts, total=len(states), lines=lines, agreement=agreement)


def index_template() -> "Template":
    """Template of index.html, in which everything is escaped; InputError without jinja2."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise MissingExtraError("the index page needs jinja2", "report") from None
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((files("spectac.app") / "report" / "index.html.j2").read_text(encoding="utf-8"))
