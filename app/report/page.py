"""The page of the report: the content of a comparison, in the order in which a physicist asks for it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spectac.app.comparison import Comparison
from spectac.app.describe import labelled
from spectac.app.record import versions
from spectac.app.report.charts import convergence, orbit
from spectac.app.report.projections import strip
from spectac.app.report.reproduce import commands
from spectac.app.report.slices import Pack, cross_hair, volumes
from spectac.app.report.tables import regions_table, summary_table, titles
from spectac.recon.attenuation import NARROW_BEAM

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
"""DICOM keys of a study that are shown where they are known, with their labels."""

LARGEST_BYTES = 5_000_000
"""Largest report, so that it can be mailed."""
SHARES = (1.0, 0.5, 0.25, 0.1)
"""Shares of the largest pictures that are tried until a report is small enough."""
COLOURS = 7
"""Colours of lines in report.css: c0 to c6."""
MOST_INPUTS = 6
"""Inputs that are listed; a CT has a file for each slice."""


def render(comparison: Comparison) -> str:
    """HTML of the report, with pictures as fine as LARGEST_BYTES allow.

    Names of files that are no UTF-8 have escapes.
    """
    for share in SHARES:
        encoded = _rendered(comparison, share).encode("utf-8", "backslashreplace")
        if len(encoded) <= LARGEST_BYTES:
            break
    return encoded.decode("utf-8")


def _rendered(comparison: Comparison, share: float) -> str:
    """HTML with that share of the largest pictures."""
    environment = Environment(
        loader=PackageLoader("spectac.app", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    names = [*comparison.methods, *(["truth"] if comparison.has_truth else [])]
    colours = {name: place % COLOURS for place, name in enumerate(names)}
    source = files("spectac.app.report")
    pack = Pack()
    data = _data(comparison, names, pack, share)
    shared_notes, notes = _notes(comparison)
    patient = comparison.study.patient
    watched = " over ".join(comparison.regions.watched)
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        facts=comparison.facts,
        title=Path(comparison.sources[0]).name,
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        css=Markup(source.joinpath("report.css").read_text(encoding="utf-8")),
        script=Markup(source.joinpath("viewer.js").read_text(encoding="utf-8")),
        data=_for_script(data),
        pack=Markup(pack.text),
        names=names,
        titles=titles(comparison),
        colours=colours,
        shared_notes=shared_notes,
        notes=notes,
        patient=[(label, patient[key]) for key, label in _PATIENT.items() if patient.get(key)],
        acquisition=labelled(comparison.facts),
        orbit=orbit(comparison.study.acquisition, comparison.regions.outline),
        against=[
            *(name for name in ("truth", "ct", "map") if name in names),
            *(name for name in comparison.methods if name not in comparison.chosen),
        ],
        summary=summary_table(comparison),
        regions=regions_table(comparison),
        watched=watched,
        convergence=convergence({name: method.course for name, method in comparison.methods.items()}, colours, watched),
        commands=commands(comparison),
        versions=versions(),
        inputs=list(comparison.inputs_sha256.items())[:MOST_INPUTS],
        more_inputs=len(comparison.inputs_sha256) - MOST_INPUTS,
    )


def _for_script(data: Mapping[str, Any]) -> Markup:
    """JSON that cannot end the script in which it stands."""
    text = json.dumps(data, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _notes(comparison: Comparison) -> tuple[list[str], dict[str, list[str]]]:
    """Notes that all methods have in common, and the others by method, without the warnings at the top of the page."""
    warnings = {*comparison.all_warnings, NARROW_BEAM}
    notes = {
        name: [note for note in method.result.notes if note not in warnings]
        for name, method in comparison.methods.items()
    }
    first, *others = notes.values()
    shared = [note for note in first if all(note in of_method for of_method in others)] if others else []
    single = {name: [note for note in of_method if note not in shared] for name, of_method in notes.items()}
    return shared, {name: of_method for name, of_method in single.items() if of_method}


def _data(comparison: Comparison, names: list[str], pack: Pack, share: float) -> dict[str, Any]:
    """Data of the script that draws the pictures; the levels go into the pack."""
    images = {name: method.image for name, method in comparison.methods.items()}
    grid = next(iter(images.values())).grid
    if comparison.reference is not None and comparison.has_truth:
        images["truth"] = comparison.reference.image
    maps = {name: method.result.mu for name, method in comparison.methods.items()}
    return {
        "names": names,
        "titles": {name: text for name, text in titles(comparison).items() if name in names},
        "volumes": volumes(images, maps, comparison.regions.outline, pack, share),
        "strip": strip(comparison.study, pack, share),
        "start": cross_hair(comparison.regions, grid),
    }
