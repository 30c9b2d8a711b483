"""The page itself: everything that a comparison holds, in the order in which a physicist asks for it."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spectac.app.describe import describe, in_words
from spectac.app.measures import MAIN, Row
from spectac.app.record import versions
from spectac.app.report.charts import convergence, orbit
from spectac.app.report.pictures import Pack, strip, volumes

if TYPE_CHECKING:
    from spectac.app.compare import Comparison

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


@dataclass(frozen=True)
class Cell:
    """A number of a table as text, with its difference to the reference beside it."""

    text: str
    difference: str = ""


LARGEST_BYTES = 5_000_000
"""A report is to be mailed."""


def render(comparison: "Comparison") -> str:
    """The HTML text, with pictures as fine as LARGEST_BYTES allow."""
    for share in (1.0, 0.5, 0.25, 0.1):
        text = _rendered(comparison, share)
        if len(text.encode()) <= LARGEST_BYTES:
            break
    return text


def _rendered(comparison: "Comparison", share: float) -> str:
    """The text with that share of the largest pictures."""
    environment = Environment(
        loader=PackageLoader("spectac.app", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    facts = describe(comparison.study)
    names = [*comparison.made, *(["truth"] if _has_truth(comparison) else [])]
    places = {name: number for number, name in enumerate(names)}
    shared, own = _notes(comparison)
    pack = Pack()
    data = _data(comparison, names, pack, share)
    source = files("spectac.app.report")
    return environment.get_template("report.html.j2").render(
        title=comparison.source.name,
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        css=Markup(source.joinpath("report.css").read_text(encoding="utf-8")),
        script=Markup(source.joinpath("viewer.js").read_text(encoding="utf-8")),
        data=_for_script(data),
        pack=Markup(pack.text),
        names=names,
        titles={name: TITLES.get(name, name) for name in (*names, *comparison.refused)},
        places=places,
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
        vois=None if comparison.vois is None else comparison.vois.source,
        summary=_table(comparison, _summary(comparison)),
        regions=_table(comparison, _regional(comparison)),
        watched=comparison.watched,
        convergence=convergence(
            {name: made.course for name, made in comparison.made.items()}, places, comparison.watched
        ),
        seconds={name: made.seconds for name, made in comparison.made.items()},
        devices=sorted({made.result.device for made in comparison.made.values()}),
        courses=[name for name, made in comparison.made.items() if made.course],
        commands=_commands(comparison),
        versions=versions(),
        inputs={
            name: next(iter(digests.values())) if len(digests) == 1 else f"{len(digests)} files, digests in record.json"
            for name, digests in comparison.inputs_sha256.items()
        },
    )


def _has_truth(comparison: "Comparison") -> bool:
    return comparison.reference is not None and comparison.reference.name == "truth"


def _for_script(data: Mapping[str, Any]) -> Markup:
    """JSON that cannot end the script it stands in."""
    text = json.dumps(data, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _notes(comparison: "Comparison") -> tuple[list[str], dict[str, list[str]]]:
    """Notes that all methods have in common, and those that each has alone; the study's own are left out."""
    known = {*comparison.study.warnings, *describe(comparison.study)["warnings"]}
    notes = {name: [note for note in made.result.notes if note not in known] for name, made in comparison.made.items()}
    every = list(notes.values())
    shared = [note for note in every[0] if all(note in others for others in every)] if len(every) > 1 else []
    return shared, {
        name: rest for name, mine in notes.items() if (rest := [note for note in mine if note not in shared])
    }


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
    z, y, x = comparison.grid.centres_mm()
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
        wanted += [("SBR (Southampton)", f"{side} striatum") for side in ("right", "left")]
        wanted.append(("SBR asymmetry %", "striatum"))
    elif comparison.tracer == "perfusion":
        wanted += [("over cerebellum", "cortex"), ("over cerebellum", "white matter"), ("over cerebellum", "striata")]
        wanted += [("z of over cerebellum", name) for name in ("cortex", "white matter", "striata")]
    measures = {(row.measure, row.region) for row in comparison.rows}
    agreement = ("NRMSE", "SSIM", "Bland-Altman bias %", "Bland-Altman lower limit %", "Bland-Altman upper limit %")
    wanted += [key for measure in agreement for key in sorted(measures) if key[0] == measure]
    return [key for key in wanted if key in measures]


def _regional(comparison: "Comparison") -> list[tuple[str, str]]:
    """(measure, region) of the long table: all that the first one leaves out."""
    short = set(_summary(comparison))
    keys = dict.fromkeys((row.measure, row.region) for row in comparison.rows if row.status == "done")
    first = [("mean", name) for name in MAIN if ("mean", name) in keys]
    return [key for key in dict.fromkeys([*first, *keys]) if key not in short]


def _table(comparison: "Comparison", keys: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Header and lines of a table: a column for each method, after the reference where that is none of them."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in comparison.rows:
        if row.status == "done":
            found.setdefault((row.measure, row.region), {})[row.method] = row
    told = _has_truth(comparison)
    lines = []
    for key in keys:
        rows = found[key]
        unit = next((row.unit for row in rows.values() if row.unit), "")
        cells = {name: _cell(rows[name]) if name in rows else Cell("-") for name in comparison.made}
        if told:
            value = next((row.reference_value for row in rows.values()), math.nan)
            cells["truth"] = Cell(_number(value) if math.isfinite(value) else "-")
        lines.append({"measure": f"{key[0]}, {unit}" if unit else key[0], "region": key[1], "cells": cells})
    return {"names": [*comparison.made, *(["truth"] if told else [])], "lines": lines}


def _cell(row: Row) -> Cell:
    difference = row.difference_percent
    shown = math.isfinite(difference) and not row.measure.endswith("%")
    return Cell(_number(row.value), f"{difference:+.1f} %" if shown else "")


def _number(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 4)}f}"


def _commands(comparison: "Comparison") -> dict[str, str]:
    """For each method the command that makes its image again."""
    found = {}
    for name, made in comparison.made.items():
        request, words = made.request, ["spectac", "reconstruct", str(comparison.source), "--attenuation", name]
        words += [
            word
            for key, value in request.attenuation_options.items()
            for word in ("--attenuation-option", f"{key}={value}")
        ]
        parameters = request.parameters()
        for key in (
            "algorithm",
            "iterations",
            "subsets",
            "prior_beta",
            "fbp_filter",
            "scatter",
            "dew_k",
            "photopeak",
            "post_filter",
            "calibration",
        ):
            if parameters[key] is not None:
                words += [f"--{key.replace('_', '-')}", str(parameters[key])]
        if parameters["resolution"] is False:
            words.append("--no-resolution")
        for key, value in request.given.items():
            words += [f"--{key.replace('_', '-')}", *([] if value is True else [str(value)])]
        found[name] = shlex.join([*words, "-o", f"result_{name}"])
    return found
