"""Figure of the study of short scans, from its CSV files.

    python -m benchmarks.low_counts.figures -o FOLDER

Some seconds. Writes low_counts.png from FOLDER/low_counts.csv and, where it is there, FOLDER/early_loss.csv: relative
standard deviation against the slope on the full time's means, and areas under the ROC curve. The rows of a tracer must
be of one run.
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.low_counts.early_loss import table as early_table
from benchmarks.low_counts.methods import RAW
from benchmarks.low_counts.patients import COUNTS, SHARE, USUAL
from benchmarks.low_counts.run import table

DPI = 150
TITLES = {"dat": "binding ratios", "perfusion": "regional means over the brain's"}
RUN = ("seed", "realisations", "code")
Row = dict[str, str]


def rows_in(path: Path) -> list[Row]:
    """Rows of a CSV; none where it is not there."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def draw(path: Path, rows: Sequence[Row], early: Sequence[Row]) -> None:
    """Panels of the tracers that rows are there for, and the areas."""
    tracers = [name for name in COUNTS if any(row["tracer"] == name for row in rows)]
    figure = Figure(figsize=(4.0 * (len(tracers) + bool(early)), 3.8), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(tracers) + bool(early))).tolist()
    colours = {name: f"C{n}" for n, name in enumerate(dict.fromkeys(row["method"] for row in (*rows, *early)))}
    for axis, tracer in zip(axes, tracers, strict=False):
        draw_spread(axis, [row for row in rows if row["tracer"] == tracer], colours)
        axis.set_title(f"{tracer}: {TITLES[tracer]}", fontsize=9)
    if early:
        draw_areas(axes[-1], early, int(early[0]["seed"]), colours)
    figure.savefig(path, dpi=DPI)


def draw_spread(axis: Axes, rows: Sequence[Row], colours: Mapping[str, str]) -> None:
    """Spread against slope of every method.

    Lines: what a scaled image of the raw fifth would give, and the raw fifth's spread by its counts (dotted).
    """
    lines = table(rows)
    raw = next(line for line in lines if line["method"] == RAW)
    slopes = np.array([min(float(line["slope on full"]) for line in lines) - 0.05, 1.02])
    axis.plot(slopes, float(raw["the same over slope"]) * slopes, color="0.8", zorder=0)
    axis.axhline(SHARE**-0.5, color="0.8", linestyle=":", zorder=0)
    for line in lines:
        method, point = str(line["method"]), (float(line["slope on full"]), float(line["SD / full's"]))
        axis.plot(*point, "o", color=colours[method], ms=6, label=method.removeprefix("fifth, "))
    axis.set(xlabel="slope on the full time", ylabel="standard deviation over the full time's")
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=7, loc="lower left")


def draw_areas(axis: Axes, early: Sequence[Row], seed: int, colours: Mapping[str, str]) -> None:
    """Areas and their intervals beyond the raw fifth's, for each loss and score, in the colours of the other panels."""
    lines = list(early_table(early, seed))
    methods = list(dict.fromkeys(str(line["method"]) for line in lines))
    cases = list(dict.fromkeys((str(line["loss"]), str(line["score"])) for line in lines))
    for at, case in enumerate(cases):
        of_case = {str(line["method"]): line for line in lines if (line["loss"], line["score"]) == case}
        for n, method in enumerate(methods):
            line = of_case[method]
            raw = float(line["area"]) - float(line["over raw"])
            place = at + 0.15 * (n - 0.5 * (len(methods) - 1))
            axis.vlines(place, raw + float(line["from"]), raw + float(line["to"]), color=colours[method])
            axis.plot([place], [float(line["area"])], "o", color=colours[method], ms=5)
    axis.set_xticks(range(len(cases)), [f"{float(loss):.0%} loss,\n{score}" for loss, score in cases], fontsize=8)
    axis.set_ylabel("area under the ROC curve")
    axis.set_title("early loss in one putamen", fontsize=9)
    axis.tick_params(labelsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    rows = [row for row in rows_in(options.output / "low_counts.csv") if row["set"] == USUAL]
    if not rows:
        parser.error(f"{options.output / 'low_counts.csv'}: no rows of the usual patients: make them with run first")
    early = rows_in(options.output / "early_loss.csv")
    for part in (*([row for row in rows if row["tracer"] == tracer] for tracer in COUNTS), early):
        if len({tuple(row[name] for name in RUN) for row in part}) > 1:
            parser.error("rows of several runs (seed, realisations, code): delete those that should not be drawn")
    draw(options.output / "low_counts.png", rows, early)


if __name__ == "__main__":
    main()
