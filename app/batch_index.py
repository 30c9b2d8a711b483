"""What a batch tells of all studies: summary.csv, and index.html with a link to each report."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from spectac.app.batch_list import ListedStudy
from spectac.app.measures import MAIN
from spectac.recon import InputError
from spectac.recon.io.atomic import written

if TYPE_CHECKING:
    from jinja2 import Template

SUMMARY, INDEX, AGREEMENT = "summary.csv", "index.html", "agreement.csv"
STATES = ("failed", "done", "waiting")
"""In the order of the page: what needs a person comes first."""

_SIDES = ("right striatum", "left striatum")
_MEASURES = {
    **{("SBR", region): f"SBR {region}" for region in _SIDES},
    **{("mean", region): f"mean {region}" for region in MAIN},
}
"""Measures and regions of comparison.csv that the summary has, and its columns."""
_LIKENESS = ("NRMSE", "SSIM")
"""Measures of a whole image: their region is the head or the brain, whichever was found."""

COLUMNS = (
    "name", "study", "method", "status", "reason", *_MEASURES.values(), "unit", "reference", *_LIKENESS, "warnings",
    "seconds", "folder",
)  # fmt: skip


@dataclass(frozen=True)
class StudyState:
    """Where a study of the queue stands: "waiting", "done" or "failed", and rows of the summary, one for a method.

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


def state_done(folder: Path, study: ListedStudy, seconds: float) -> StudyState:
    """State of a study whose comparison lies in `folder`."""
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
        noted = {name: [note for note in of.get("notes", ()) if note not in warnings] for name, of in methods.items()}
    except (FileNotFoundError, ValueError, KeyError, AttributeError, TypeError, csv.Error):
        return StudyState(study, "done", "", seconds)  # another work than `spectac compare`
    return StudyState(study, "done", "", seconds, rows, warnings, _by_note(noted))


def _by_note(noted: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Each note once, after the names of the methods that it is about."""
    names: dict[str, list[str]] = {}
    for name, notes in noted.items():
        for note in notes:
            names.setdefault(note, []).append(name)
    return tuple(f"{', '.join(about)}: {note}" for note, about in names.items())


def _row(compared: Sequence[dict[str, str]], method: str, methods: Mapping[str, Any]) -> dict[str, str]:
    """Row of the summary from the rows of one method in comparison.csv."""
    own = [row for row in compared if row["method"] == method]
    found = {"method": method, "status": own[0]["status"], "reason": own[0]["reason"]}
    found["seconds"] = str(methods.get(method, {}).get("seconds", ""))
    for row in own:
        column = _MEASURES.get((row["measure"], row["region"]))
        if row["measure"] in _LIKENESS:
            found |= {row["measure"]: row["value"], "reference": row["reference"]}
        elif column is not None:
            found[column] = row["value"]
        if row["measure"] == "mean":
            found["unit"] = row["unit"]
    return found


def _place(study: ListedStudy) -> str:
    """Path of a study as people read it; what is no text in a file's name becomes a question mark."""
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


def write_results(folder: Path, states: Sequence[StudyState], template: "Template") -> None:
    """Write summary.csv and index.html; each appears whole, in place of the one before.

    Raises OSError as the file system does.
    """
    with (
        written(folder / SUMMARY) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="replace") as stream,
    ):
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(summary_rows(states))
    with written(folder / INDEX) as temporary:
        temporary.write_text(page(folder, states, template), encoding="utf-8", errors="replace")


def page(folder: Path, states: Sequence[StudyState], template: "Template") -> str:
    """HTML of index.html: failed studies first, then those with a method that could not be used, in list order."""
    counts = {status: sum(state.status == status for state in states) for status in STATES}

    def urgency(state: StudyState) -> tuple[int, bool]:
        return STATES.index(state.status), not state.refused

    lines = [
        {
            "name": state.study.name,
            "status": state.status,
            "reasons": (state.reason,) if state.reason else state.refused,
            "methods": [row["method"] for row in state.rows if row["status"] == "done"],
            "seconds": "" if state.seconds is None else f"{state.seconds:.1f}",
            "study": _place(state.study),
            "said": {"warning": state.warnings, "note": state.notes},
            "link": _link(folder, state),
        }
        for state in sorted(states, key=urgency)
    ]
    agreement = (folder / AGREEMENT).is_file()
    return template.render(title=folder.name, counts=counts, total=len(states), lines=lines, agreement=agreement)


def _link(folder: Path, state: StudyState) -> str:
    report = folder / state.study.name / "report.html"
    return f"{quote(state.study.name)}/report.html" if state.status == "done" and report.is_file() else ""


def index_template() -> "Template":
    """Template of index.html, in which everything is escaped; InputError without jinja2."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise InputError("the index page needs jinja2: pip install 'spectac[report]'") from None
    text = (files("spectac.app") / "report" / "index.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        text
    )
