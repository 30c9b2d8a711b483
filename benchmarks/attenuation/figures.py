"""Table and figures of the attenuation study, from its CSV files; only the worst patients are made again.

- attenuation_methods.md: mean and worst of every measure, per set and method, with the goals; results of the tuning
- attenuation_bars.png: regional errors per method
- attenuation_agreement.png: Bland-Altman plots of regional means
- attenuation_worst.png: slices of the two patients with the largest error of the predicted map, one of the sets like
  training and one of the others
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.attenuation.files import (
    METHODS_CSV,
    REGIONS,
    TUNING_COLUMNS,
    TUNING_CSV,
    Row,
    read_rows,
    row_code,
    rows_of,
)
from benchmarks.attenuation.methods import METHODS, TUNED, Choice, model_of
from benchmarks.attenuation.patients import Case, Sources, rebuilt
from benchmarks.attenuation.table import GOALS, MEASURES_WITH_GOALS, differences, numbers, shared, table, tuning_table
from benchmarks.attenuation.tuning import tuned_values
from spectac.recon import InputError, ReconstructionSettings, reconstruct
from spectac.recon.filters import gaussian
from spectac.recon.types import Array

SHOWN_FWHM_MM = 8.0
"""Smoothing of the slices of activity."""
WIDTH_IN = 9.0
"""A page shows it at 900 px, where letters of 8 points are 11 px high."""
DPI = 150
SLICES_DPI = 100

DRAWN = (
    "unseen", "monte carlo", "real bodies", "mr head", "visible human", "other cameras", "fan-beam", "clinical matrix",
    "fifth of counts", "heads beyond training",
)  # fmt: skip
LIKE_TRAINING = ("unseen", "monte carlo")
SUMS = ("brain", "cortex")
"""Regions that consist of others, in patients like training's."""
COLOURS = {"predicted, holder file": "#1b7837", "uniform tuned, data outline": "#2166ac", "chang": "#b2182b"}


def draw_all(options: argparse.Namespace) -> None:
    """Write the table and every figure that the CSV has rows for."""
    folder: Path = options.output
    rows = read_rows(folder / METHODS_CSV)
    if not rows:
        raise InputError(f"{folder / METHODS_CSV} is missing: run without --draw first")
    # The coefficients that the rows of the methods were made with.
    versions = {(row["code"], row["seed"]) for row in rows}
    tuning = [row for row in read_rows(folder / TUNING_CSV, TUNING_COLUMNS) if (row["code"], row["seed"]) in versions]
    (folder / "attenuation_methods.md").write_text(table(rows) + tuning_table(tuning), encoding="utf-8")
    draw_bars(folder / "attenuation_bars.png", rows)
    draw_agreement(folder / "attenuation_agreement.png", rows)
    worst = worst_rows(rows)
    if worst:
        choice = Choice(tuned_values(folder / TUNING_CSV, options.seed), options.weights, options.direct_weights)
        check_current(worst, options.seed, choice)
        draw_worst(folder / "attenuation_worst.png", worst, choice, Sources.of(options))


def draw_bars(path: Path, rows: Sequence[Row]) -> None:
    """Raw mean, scaled mean, SBR and pattern per method, a row for each set; bar: mean, dots: patients."""
    sets = [name for name in DRAWN if rows_of(rows, set=name)]
    methods = [name for name in METHODS if name != "ct" and numbers(rows_of(rows, method=name), "raw_mean_vs_ct").size]
    shown = (
        ("raw_mean", "regional means, raw"),
        ("scaled_mean", "regional means, one scale"),
        ("sbr_error", "SBR, DAT"),
        ("pattern_error", "pattern, perfusion"),
    )
    if not (sets and methods):
        path.unlink(missing_ok=True)
        return
    figure = Figure(figsize=(WIDTH_IN, 0.8 + (0.16 * len(methods) + 0.2) * len(sets)), layout="constrained")
    axes = figure.subplots(len(sets), len(shown), squeeze=False, sharex="col", sharey=True)
    for number, (line, name) in enumerate(zip(axes, sets, strict=True)):
        for axis, (measure, title) in zip(line, shown, strict=True):
            for place, method in enumerate(methods):
                of_method = rows_of(shared(rows_of(rows, set=name)), method=method)
                values = np.abs(numbers(of_method, f"{measure}_vs_ct"))
                fell = np.abs(numbers(rows_of(of_method, fell_back="1"), f"{measure}_vs_ct"))
                colour = COLOURS.get(method, "#1b7837" if method.startswith("predicted") else "#999999")
                if values.size:
                    axis.barh(place, values.mean(), color=colour, alpha=0.6)
                    axis.plot(values, np.full(values.size, place), "k.", markersize=2.5)
                    axis.plot(fell, np.full(fell.size, place), "o", color="#d95f02", fillstyle="none", markersize=4)
            if name in GOALS:
                goal = GOALS[name][MEASURES_WITH_GOALS.index(measure)]
                axis.axvline(goal, color="k", linestyle=":", linewidth=1)
            axis.set_yticks(range(len(methods)), methods, fontsize=8)
            axis.set_ylim(len(methods) - 0.4, -0.6)
            axis.set_xlim(0.1, 100.0)
            _plain_log(axis, (0.1, 1, 10, 100))
            if number == 0:
                axis.set_title(f"|error| / %,\n{title}", fontsize=9)
        line[-1].set_ylabel(name, fontsize=9)
        line[-1].yaxis.set_label_position("right")
    figure.supxlabel(
        "against the true map's image; bar: mean, dots: patients (circle: fell back to the uniform map), dotted: goal",
        fontsize=9,
    )
    figure.savefig(path, dpi=DPI)


def _plain_log(axis: Axes, ticks: Sequence[float]) -> None:
    """Logarithmic x axis with these ticks, as plain numbers."""
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
    axis.set_xticks([], minor=True)


def draw_agreement(path: Path, rows: Sequence[Row]) -> None:
    """Bland-Altman of regional means, heads and cameras as in training; lines: sets, panels: methods."""
    regions = tuple(name for name in REGIONS if name not in SUMS)
    sets = [name for name in LIKE_TRAINING if shared(rows_of(rows, set=name))]
    of_set = {name: shared(rows_of(rows, set=name)) for name in sets}
    methods = [name for name in COLOURS if all(differences(of_set[one], name)[1].size for one in sets)]
    if not (sets and methods):
        path.unlink(missing_ok=True)
        return
    figure = Figure(figsize=(WIDTH_IN, 0.4 + 2.8 * len(sets)), layout="constrained")
    grid = figure.subplots(len(sets), len(methods), squeeze=False, sharex=True, sharey=True)
    for line, name in zip(grid, sets, strict=True):
        for axis, method in zip(line, methods, strict=True):
            for tracer, marker, fill in (("dat", "o", "none"), ("perfusion", "^", "full")):
                levels, errors = differences(rows_of(of_set[name], tracer=tracer), method, regions)
                middle = levels * (1.0 + 0.005 * errors)
                axis.plot(
                    middle, errors, marker, color=COLOURS[method], fillstyle=fill, markersize=3, alpha=0.5,
                    label=tracer, linestyle="none",
                )  # fmt: skip
            errors = differences(of_set[name], method, regions)[1]
            mean, spread = float(errors.mean()), 1.96 * float(errors.std())
            for level, style in ((mean, "-"), (mean - spread, "--"), (mean + spread, "--")):
                axis.axhline(level, color="k", linestyle=style, linewidth=1)
            axis.set_title(
                f"{method}\nmean {mean:+.1f} %, 1.96 SD over regions {spread:.1f} %",
                fontsize=8,
            )
            _plain_log(axis, (1, 2, 5, 10, 20, 50))
            axis.tick_params(axis="y", labelsize=8)
        line[0].set_ylabel(f"{name}: regional mean\nminus the true map's / %", fontsize=9)
    for axis in grid[-1]:
        axis.set_xlabel("mean of both / (kBq/mL)", fontsize=9)
    grid[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=DPI)


def worst_rows(rows: Sequence[Row]) -> list[Row]:
    """The patient that the network's map serves worst among those like training's, and among the others."""
    served = [row for row in rows_of(rows, method="predicted", fell_back="0") if row["raw_mean_vs_ct"]]
    groups = (
        [row for row in served if row["set"] in LIKE_TRAINING],
        [row for row in served if row["set"] not in LIKE_TRAINING],
    )
    return [max(group, key=lambda row: float(row["raw_mean_vs_ct"])) for group in groups if group]


def check_current(rows: Sequence[Row], seed: int, choice: Choice) -> None:
    """InputError where slices made now would not be those that a row's numbers were measured on, or cannot be made."""
    for row in rows:
        settings = choice.settings(row["method"], row["nuclide"])
        now = {"code": row_code(), "seed": str(seed), "settings": settings}
        other = [f"{name} {row[name]!r}, now {value!r}" for name, value in now.items() if row[name] != value]
        if other:
            raise InputError(
                f"slices of {row['set']} {row['patient']} are not drawn: its row has {'; '.join(other)}: measure it "
                "again, or give the seed and weights that it was measured with"
            )
        choice.coefficient(TUNED[1], row["nuclide"])


def draw_worst(path: Path, worst: Sequence[Row], choice: Choice, sources: Sources) -> None:
    """Slices of activity, map and error of three methods, for each of these patients."""
    methods = ("ct", "predicted", TUNED[1])
    figure = Figure(figsize=(WIDTH_IN, 4.9 * len(worst)), layout="constrained")
    parts = figure.subfigures(len(worst), 1, squeeze=False)[:, 0]
    for part, row in zip(parts, worst, strict=True):
        case = rebuilt(row["set"], row["patient"], int(row["seed"]), int(row["histories"]), sources)
        panels = [_panel(case, method, choice) for method in methods]
        part.suptitle(
            f"{row['set']} {row['patient']}: {row['tracer']}, {row['nuclide']}, {row['collimator']}, "
            f"{float(row['counts']) / 1e6:.2g} million counts\npredicted: {float(row['raw_mean_vs_ct']):.2f} % raw, "
            f"worst region {float(row['raw_worst_vs_ct']):.2f} %",
            fontsize=9,
        )
        _slices(part.subplots(3, 6), case, methods, panels)
    figure.savefig(path, dpi=SLICES_DPI)


def _panel(case: Case, method: str, choice: Choice) -> tuple[Array, Array] | str:
    """Image in kBq/mL, smoothed for the eye, and map of a method; the reason where it is refused."""
    try:
        settings = ReconstructionSettings(scatter=case.scatter)
        result = reconstruct(case.study, model_of(method, case, choice), settings)
    except InputError as error:
        return f"refused: {error}"
    assert result.mu is not None
    values = gaussian(result.image.values / np.float32(case.cps_per_kbq), case.grid.voxel_mm, SHOWN_FWHM_MM)
    return values, result.mu.per_cm


def _slices(
    axes: Sequence[Sequence[Axes]], case: Case, methods: Sequence[str], panels: Sequence[tuple[Array, Array] | str]
) -> None:
    """One line a method: activity, map and the activity's error, each axial and sagittal, at the brain's middle."""
    brain = case.regions.get("brain", case.head)
    z, _, x = (round(float(index.mean())) for index in np.nonzero(brain > 0.5))
    true = panels[0]
    assert not isinstance(true, str)
    top = float(np.percentile(true[0][brain > 0.5], 99))
    for line, method, panel in zip(axes, methods, panels, strict=True):
        for axis in line:
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(method.replace(", ", ",\n"), fontsize=9)
        if isinstance(panel, str):
            line[0].set_title(panel, fontsize=7, loc="left")
            continue
        error = np.where(case.head > 0.5, 100.0 * (panel[0] - true[0]) / top, 0.0)
        volumes = (
            (panel[0], "inferno", 0.0, top, "activity"),
            (panel[1], "gray", 0.0, 0.28, "map, 0 to 0.28 /cm"),
            (error, "RdBu_r", -10.0, 10.0, "error, +-10 % of max."),
        )
        for column, (values, colours, low, high, title) in enumerate(volumes):
            first, second = line[2 * column : 2 * column + 2]
            if method == methods[0] and column == 2:
                first.axis("off")
                second.axis("off")
                continue
            for axis, cut in ((first, values[z]), (second, values[::-1, :, x])):
                axis.imshow(cut, cmap=colours, vmin=low, vmax=high)
            if method == methods[column // 2]:  # the errors begin in the second line
                first.set_title(title, fontsize=8, loc="left").set_in_layout(column < 2)
