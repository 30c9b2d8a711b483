"""The page itself: everything that a comparison holds, in the order in which a physicist asks for it."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spectac.app.anonymous import hidden
from spectac.app.describe import describe, in_words
from spectac.app.measures import MAIN, Row
from spectac.app.record import versions
from spectac.app.report.charts import convergence, orbit
from spectac.app.report.pictures import Pack, strip, volumes
from spectac.recon.attenuation import NARROW_BEAM

if TYPE_CHECKING:
    from spectac.app.comparison import Comparison

TITLES = {
    "none": "no correction",
    "chang": "Chang",
    "uniform": "uniform map",
    "predicted": "predicted map",
    "ct": "CT",
    "map": "given map",
    "truth": "truth",
}
_PATIENT = {
    "PatientName": "name",
    "PatientID": "number",
    "PatientSex": "sex",
    "PatientBirthDate": "born",
    "PatientAge": "age",
    "PatientWeight": "weight in kg",
    "StudyDate": "study date",
    "StudyDescription": "study",
    "SeriesDescription": "series",
    "InstitutionName": "institution",
    "Manufacturer": "maker of the camera",
    "ManufacturerModelName": "camera",
}
"""What is shown of a study's DICOM keys, where it is there."""


_SETTINGS = (
    "algorithm", "iterations", "subsets", "prior_beta", "fbp_filter", "scatter", "dew_k", "scatter_windows",
    "photopeak", "post_filter", "calibration", "device",
)  # fmt: skip
"""Of a reconstruction, in the order of the commands shown."""


@dataclass(frozen=True)
class Cell:
    """A number of a table as text, with its difference to the reference beside it."""

    text: str
    difference: str = ""


LARGEST_BYTES = 5_000_000
"""A report is to be mailed."""
COLOURS = 7
"""In report.css: lines c0 to c6."""
MOST_INPUTS = 6
ON_VOXELS = "truth, these voxels"
"""Title of the truth's column where the truth has one of its own as well."""


def render(comparison: "Comparison") -> str:
    """The HTML text, with pictures as fine as LARGEST_BYTES allow; names of files that are no UTF-8 have escapes."""
    for share in (1.0, 0.5, 0.25, 0.1):
        encoded = _rendered(comparison, share).encode("utf-8", "backslashreplace")
        if len(encoded) <= LARGEST_BYTES:
            break
    return encoded.decode("utf-8")


def _rendered(comparison: "Comparison", share: float) -> str:
    """The text with that share of the largest pictures."""
    environment = Environment(
        loader=PackageLoader("spectac.app", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    facts = describe(comparison.study, comparison.projections)
    names = [*comparison.made, *(["truth"] if _has_truth(comparison) else [])]
    places = {name: number for number, name in enumerate(names)}
    shared, own = _notes(comparison)
    pack = Pack()
    data = _data(comparison, names, pack, share)
    source = files("spectac.app.report")
    return environment.get_template("report.html.j2").render(
        title=Path(comparison.sources[0]).name,
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        css=Markup(source.joinpath("report.css").read_text(encoding="utf-8")),
        script=Markup(source.joinpath("viewer.js").read_text(encoding="utf-8")),
        data=_for_script(data),
        pack=Markup(pack.text),
        names=names,
        titles={name: TITLES.get(name, name) for name in (*names, *comparison.refused)},
        places={name: place % COLOURS for name, place in places.items()},
        warnings=facts["warnings"],
        comparison_warnings=comparison.warnings,
        calibration=comparison.calibration,
        refused=comparison.refused,
        shared=shared,
        own=own,
        patient=[
            (word, comparison.study.patient[key]) for key, word in _PATIENT.items() if comparison.study.patient.get(key)
        ],
        anonymous=comparison.request.anonymous,
        facts=[
            (line[:12].strip(), line[12:]) for line in in_words(facts) if not line.startswith(("warning ", "history "))
        ],
        history=facts["history"],
        windows=facts["windows"],
        orbit=orbit(comparison.study.acquisition, comparison.outline),
        reference=None if comparison.reference is None else comparison.reference.name,
        against=[name for name in ("truth", "ct", "map") if name in names],
        tracer=comparison.tracer,
        told_tracer=comparison.request.tracer is not None,
        vois=None if comparison.vois is None else comparison.vois.source,
        summary=_table(comparison, _summary(comparison)),
        regions=_table(comparison, _regional(comparison)),
        watched=comparison.watched,
        convergence=convergence(
            {TITLES.get(name, name): made.course for name, made in comparison.made.items()},
            {TITLES.get(name, name): place % COLOURS for name, place in places.items()},
            comparison.watched,
        ),
        seconds={name: made.seconds for name, made in comparison.made.items()},
        devices=sorted({made.result.device for made in comparison.made.values()}),
        courses=[name for name, made in comparison.made.items() if made.course],
        filtered=any(made.request.post_filter for made in comparison.made.values()),
        commands=_commands(comparison),
        versions=versions(),
        inputs=_few(comparison.inputs_sha256),
    )


def _few(digests: Mapping[str, str]) -> dict[str, str]:
    """The first inputs; a CT has a file for each slice."""
    shown = dict(list(digests.items())[:MOST_INPUTS])
    more = len(digests) - len(shown)
    return shown | ({"": f"and {more} more: record.json has them all"} if more else {})


def _has_truth(comparison: "Comparison") -> bool:
    return comparison.reference is not None and comparison.reference.name == "truth"


def _for_script(data: Mapping[str, Any]) -> Markup:
    """JSON that cannot end the script it stands in."""
    text = json.dumps(data, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _notes(comparison: "Comparison") -> tuple[list[str], dict[str, list[str]]]:
    """Notes that all methods have in common, and those that each has alone; what stands first already is left out."""
    known = {*describe(comparison.study, comparison.projections)["warnings"], *comparison.warnings, NARROW_BEAM}
    notes = {name: [note for note in made.result.notes if note not in known] for name, made in comparison.made.items()}
    every = list(notes.values())
    shared = [note for note in every[0] if all(note in others for others in every)] if len(every) > 1 else []
    own = {name: [note for note in mine if note not in shared] for name, mine in notes.items()}
    return shared, {name: rest for name, rest in own.items() if rest}


def _data(comparison: "Comparison", names: Sequence[str], pack: Pack, share: float) -> dict[str, Any]:
    """What the script draws; the levels go into the pack."""
    images = {name: made.image for name, made in comparison.made.items()}
    if comparison.reference is not None and comparison.reference.name == "truth":
        images["truth"] = comparison.reference.image
    maps = {name: made.result.mu for name, made in comparison.made.items()}
    return {
        "names": list(names),
        "titles": {name: TITLES.get(name, name) for name in names},
        "volumes": volumes(images, maps, comparison.outline, pack, share),
        "strip": strip(comparison.study, pack, share),
        "start": _start(comparison),
    }


def _start(comparison: "Comparison") -> list[float]:
    """Where the cross-hair begins (z, y, x) in LPS mm: the striata's or the brain's centre, else the grid's."""
    vois = comparison.vois
    z, y, x = next(iter(comparison.made.values())).image.grid.centres_mm()
    for name in ("striata", "brain"):
        if vois is not None and name in vois.masks:
            mask = vois.masks[name]
            total = float(mask.sum())
            sums = (mask.sum(axis=(1, 2)), mask.sum(axis=(0, 2)), mask.sum(axis=(0, 1)))
            return [float(axis @ part) / total for axis, part in zip((z, y, x), sums, strict=True)]
    return [0.5 * float(axis[0] + axis[-1]) for axis in (z, y, x)]


def _summary(comparison: "Comparison") -> list[tuple[str, str]]:
    """(measure, region) of the first table."""
    wanted = [("mean", "brain")]
    if comparison.tracer == "dat":
        wanted += [("SBR", f"{side} {part}") for part in ("striatum", "putamen") for side in ("right", "left")]
        wanted += [("z of SBR", f"{side} {part}") for part in ("striatum", "putamen") for side in ("right", "left")]
        wanted.append(("SBR asymmetry %", "striatum"))
    elif comparison.tracer == "perfusion":
        wanted += [("over cerebellum", "cortex"), ("over cerebellum", "white matter"), ("over cerebellum", "striata")]
        wanted += [("z of over cerebellum", name) for name in ("cortex", "white matter", "striata")]
    measures = {(row.measure, row.region) for row in comparison.rows}
    whole = ("mean |difference| of regions %", "NRMSE", "SSIM")
    wanted += [key for measure in whole for key in sorted(measures) if key[0] == measure]
    return [key for key in wanted if key in measures]


def _regional(comparison: "Comparison") -> list[tuple[str, str]]:
    """(measure, region) of the long table: all that the first one leaves out."""
    short = set(_summary(comparison))
    keys = dict.fromkeys((row.measure, row.region) for row in comparison.rows if row.status == "done")
    first = [("mean", name) for name in MAIN if ("mean", name) in keys]
    return [key for key in dict.fromkeys([*first, *keys]) if key not in short]


def _table(comparison: "Comparison", keys: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Titles and lines of a table: a column for each method, after them the truth on the image's voxels and its own."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in comparison.rows:
        if row.status == "done":
            found.setdefault((row.measure, row.region), {})[row.method] = row
    names = list(comparison.made)
    on_own = any("truth" in rows for rows in found.values())
    columns = [TITLES.get(name, name) for name in names]
    if _has_truth(comparison):
        columns += [ON_VOXELS, "truth"] if on_own else ["truth"]
    lines = []
    for key in keys:
        rows = found[key]
        cells = [_cell(rows.get(name)) for name in names]
        if _has_truth(comparison):
            values = [row.reference_value for row in rows.values() if row.reference == "truth"]
            cells.append(Cell(_number(values[0]) if values and math.isfinite(values[0]) else "-"))
            cells += [_cell(rows.get("truth"))] if on_own else []
        first = next(iter(rows.values()))
        to = f" to {TITLES.get(first.reference, first.reference)}" if key[0] in ("NRMSE", "SSIM") else ""
        unit = next((f", {row.unit}" for row in rows.values() if row.unit), "")
        lines.append({"measure": f"{key[0]}{unit}{to}", "region": key[1], "cells": cells})
    return {"columns": columns, "lines": lines}


def _cell(row: Row | None) -> Cell:
    if row is None:
        return Cell("-")
    difference = row.difference_percent
    shown = math.isfinite(difference) and not row.measure.endswith("%")
    return Cell(_number(row.value), f"{difference:+.1f} %" if shown else "")


def _number(value: float) -> str:
    """Three significant digits, and no more than four digits of a number below a thousand."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits}f}" if 0 < digits < 6 else f"{value:.0f}" if digits <= 0 else f"{value:.2e}"


def _commands(comparison: "Comparison") -> dict[str, str]:
    """For each method the command that makes its image again, and what is done to it then."""
    found = {}
    for name, made in comparison.made.items():
        request = made.request
        parameters: dict[str, Any] = request.parameters()
        if comparison.request.anonymous:
            parameters = hidden(parameters)
        elif parameters["calibration"] is not None:
            parameters["calibration"] = str(Path(parameters["calibration"]).resolve())
        words = ["spectac", "reconstruct", *comparison.sources, "--attenuation", name]
        for key, value in parameters["attenuation_options"].items():
            words += ["--attenuation-option", f"{key}={_absolute(key, value)}"]
        for key in _SETTINGS:
            if parameters[key] is not None and not (key == "calibration" and name == "none"):
                words += [f"--{key.replace('_', '-')}", str(parameters[key])]
        if parameters["resolution"] is False:
            words.append("--no-resolution")
        for key, value in request.given.items():
            words += [f"--{key.replace('_', '-')}", *([] if value is True else [str(value)])]
        command = shlex.join([*words, "-o", f"result_{name}"])
        divided = comparison.cps_per_kbq is not None and (name == "none" or parameters["calibration"] is None)
        found[name] = f"{command}   # then divided by {comparison.cps_per_kbq:.6g} cps per kBq" if divided else command
    return found


def _absolute(key: str, value: str) -> str:
    """An option's value; a path in full, for the command may be run elsewhere."""
    return str(Path(value).resolve()) if key in ("path", "file") and Path(value).exists() else value
