"""Tables of the report: a column for each method, the difference to the reference beside each number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spectac.app.comparison import Comparison
from spectac.app.measures import MAIN, MAP_UNCERTAINTY, NOISE, Key, Row

TITLES = {
    "none": "no correction",
    "chang": "Chang",
    "uniform": "uniform map",
    "predicted": "predicted map",
    "ct": "CT",
    "map": "given map",
    "truth": "truth",
}
ON_VOXELS = "truth, these voxels"
"""Title of the truth's column where the truth has one on the grid of its file as well."""
WHOLE_IMAGE = ("NRMSE", "SSIM")
"""Measures of a whole image, whose reference stands beside their name."""


@dataclass(frozen=True)
class Cell:
    """A number of a table as text, with its difference to the reference."""

    text: str = "-"
    difference: str = ""


def title(name: str) -> str:
    """Title of a method that can be asked for, or of the truth."""
    return TITLES.get(name, name)


def titles(comparison: Comparison) -> dict[str, str]:
    """Title of every method, of those without an image, and of the truth."""
    names = {name: title(name) for name in (*comparison.methods, *comparison.refused, "truth")}
    beside = {name: one.beside for name, one in comparison.methods.items() if one.beside is not None}
    return names | {name: f"{names[other]}, counts as they are" for name, other in beside.items()}


def summary_table(comparison: Comparison) -> dict[str, Any]:
    """Table of the main measures."""
    return _table(comparison, _summary_keys(comparison))


def regions_table(comparison: Comparison) -> dict[str, Any]:
    """Table of all measures that the summary leaves out."""
    summary = _summary_keys(comparison)
    keys = dict.fromkeys((row.measure, row.region) for row in comparison.rows if row.status == "done")
    first = [("mean", name) for name in MAIN if ("mean", name) in keys]
    return _table(comparison, [key for key in dict.fromkeys([*first, *keys]) if key not in summary])


def _summary_keys(comparison: Comparison) -> list[Key]:
    keys = [("mean", "brain")]
    if comparison.regions.tracer == "dat":
        parts = [f"{side} {part}" for part in ("striatum", "putamen") for side in ("right", "left")]
        keys += [(measure, part) for measure in ("SBR", f"{NOISE}SBR", "z of SBR") for part in parts]
        keys.append(("SBR asymmetry %", "striatum"))
    elif comparison.regions.tracer == "perfusion":
        parts = ["cortex", "white matter", "striata"]
        shown = ("over cerebellum", f"{NOISE}over cerebellum", "z of over cerebellum")
        keys += [(measure, part) for measure in shown for part in parts]
    measured = {(row.measure, row.region) for row in comparison.rows}
    keys += [(MAP_UNCERTAINTY, name) for name in MAIN]
    for measure in ("mean |difference| of regions %", *WHOLE_IMAGE):
        keys += sorted(key for key in measured if key[0] == measure)
    return [key for key in keys if key in measured]


def _table(comparison: Comparison, keys: Sequence[Key]) -> dict[str, Any]:
    """Titles and lines: a column for each method, then the truth on the image's voxels and on the grid of its file."""
    by_key: dict[Key, dict[str, Row]] = {}
    for row in comparison.rows:
        if row.status == "done":
            by_key.setdefault((row.measure, row.region), {})[row.method] = row
    truth_has_rows = any("truth" in rows for rows in by_key.values())
    titled = titles(comparison)
    columns = [titled[name] for name in comparison.methods]
    if comparison.has_truth:
        columns += [ON_VOXELS, "truth"] if truth_has_rows else ["truth"]
    lines = []
    for key in keys:
        rows = by_key[key]
        cells = [_cell(rows.get(name)) for name in comparison.methods]
        if comparison.has_truth:
            values = [row.reference_value for row in rows.values() if row.reference == "truth"]
            cells.append(Cell(_number(values[0])) if values and math.isfinite(values[0]) else Cell())
            cells += [_cell(rows.get("truth"))] if truth_has_rows else []
        lines.append({"measure": _named(key[0], list(rows.values())), "region": key[1], "cells": cells})
    return {"columns": columns, "lines": lines}


def _named(measure: str, rows: Sequence[Row]) -> str:
    """Measure with its unit; that of a whole image with the image that it is compared with."""
    unit = next((f", {row.unit}" for row in rows if row.unit), "")
    return f"{measure}{unit}" + (f" to {title(rows[0].reference)}" if measure in WHOLE_IMAGE else "")


def _cell(row: Row | None) -> Cell:
    if row is None:
        return Cell()
    difference = row.difference_percent
    shown = math.isfinite(difference) and not row.measure.endswith("%")
    return Cell(_number(row.value), f"{difference:+.1f} %" if shown else "")


def _number(value: float) -> str:
    """Three significant digits, and no more than four digits of a number below a thousand."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits}f}" if 0 < digits < 6 else f"{value:.0f}" if digits <= 0 else f"{value:.2e}"
