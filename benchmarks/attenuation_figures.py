"""Table and figures of the attenuation benchmark, from attenuation_methods.csv alone (the worst patient is made again).

attenuation_methods.md: mean and worst of every measure, per set and method, goals beside; how tuning came out.
attenuation_bars.png: regional error per method. attenuation_agreement.png: Bland-Altman of regional means.
attenuation_worst.png: slices of the patients that the predicted map serves worst, one with a head and camera as in
training and one of the other sets.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from attenuation_measures import IMAGE_MEASURES, MAP_MEASURES
from attenuation_methods import (
    CSV,
    LEARNED,
    MEANS,
    METHODS,
    NO_CASE,
    TUNED,
    TUNING,
    Case,
    Choice,
    Row,
    SharingSolver,
    model_of,
    read_rows,
    rebuilt,
    tuned_values,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectac.recon import InputError
from spectac.recon.filters import gaussian
from spectac.recon.types import Array

GOALS = {
    "raw_mean": 0.8,
    "raw_worst": 2.5,
    "scaled_mean": 0.8,
    "ratio_error": 0.5,
    "nmse_head": 0.6,
}
"""Goals per patient against the true map's image, in % (issue 5); a camera unlike training's may have 1.5 % NMSE."""
REGION_GOAL, RATIO_95_GOAL = 1.8, 2.5
NMSE_GOALS = {"other scanners": 1.5}
SHOWN_FWHM_MM = 8.0
WIDTH_IN, DPI = 9.0, 150
"""At 900 px this is 100 px an inch: letters of 8 points are then 11 px high."""

SET_ORDER = (
    "unseen", "monte carlo", "other heads", "clinical matrix", "other scanners", "fifth of counts", "no scatter window",
    "mr head",
)  # fmt: skip
DRAWN = ("unseen", "monte carlo", "other heads", "clinical matrix", "other scanners", "mr head")
LIKE_TRAINING = ("unseen", "monte carlo")
COLOURS = {"predicted": "#1b7837", "uniform tuned, data outline": "#2166ac", "chang": "#b2182b"}
HEADINGS = {
    "raw_mean": "raw mean", "raw_worst": "worst region", "scaled_mean": "scaled mean", "scaled_worst": "scaled worst",
    "ratio_error": "SBR or pattern", "uptake_error": "brain uptake", "nmse_head": "NMSE head",
    "nmse_volume": "NMSE volume", "map_nmae": "map NMAE %", "bone_dice": "bone Dice", "outline_mm": "outline mm",
    "factor_error": "factors %", "seconds": "seconds",
}  # fmt: skip


def draw_all(options: argparse.Namespace) -> None:
    """Write the table and every figure that the CSV has rows for."""
    folder: Path = options.output
    rows = read_rows(folder / CSV)
    if not rows:
        raise InputError(f"{folder / CSV} is missing: run without --draw first")
    (folder / "attenuation_methods.md").write_text(table(rows) + tuning_table(folder / TUNING), encoding="utf-8")
    draw_bars(folder / "attenuation_bars.png", rows)
    draw_agreement(folder / "attenuation_agreement.png", rows)
    worst = worst_rows(rows)
    if worst:
        choice = Choice(tuned_values(folder / TUNING), options.weights, options.direct_weights)
        draw_worst(folder / "attenuation_worst.png", worst, choice, options.phantom)


def numbers(rows: Sequence[Row], column: str) -> Array:
    """Values of a column where there are any."""
    return np.array([float(row[column]) for row in rows if row[column]])


def _mean_worst(values: Array, column: str) -> str:
    """Mean of the sizes of signed errors and the largest, "mean / worst"; of a Dice the smallest is the worst."""
    if not values.size:
        return "-"
    if column == "bone_dice":
        return f"{values.mean():.2f} / {values.min():.2f}"
    sizes = np.abs(values)
    return f"{sizes.mean():.2f} / {sizes.max():.2f}"


def _of(rows: Sequence[Row], **wanted: str) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def shared(rows: Sequence[Row]) -> list[Row]:
    """Rows of one set, of the patients that every method has a result for; one without any result is not asked."""
    served: dict[str, set[str]] = {}
    for row in rows:
        if row["raw_mean_vs_ct"]:
            served.setdefault(row["method"], set()).add(row["patient"])
    kept = set.intersection(*served.values()) if served else set()
    return [row for row in rows if row["patient"] in kept]


def table(rows: Sequence[Row]) -> str:
    """Markdown: per set, methods as lines, measures as columns; "mean / worst" over the patients that all have."""
    parts = ["# Attenuation methods\n", _legend(rows)]
    for name in SET_ORDER:
        whole = _of(rows, set=name)
        own = [row for row in whole if row["method"] != NO_CASE]
        if not whole:
            continue
        both, patients = shared(own), {row["patient"] for row in own}
        tracers = ", ".join(
            f"{len({row['patient'] for row in _of(own, tracer=tracer)})} {tracer}" for tracer in ("dat", "perfusion")
        )
        counts = numbers(_of(own, method="ct"), "counts")
        span = f", {counts.min() / 1e6:.2g} to {counts.max() / 1e6:.2g} million counts" if counts.size else ""
        parts.append(f"\n## {name}: {len(patients)} patients ({tracers}){span}\n")
        parts.append(f"Means are over the {len({row['patient'] for row in both})} that every method has a result for.")
        parts.append(_reasons(whole))
        for other, title in (("ct", "Against the true map's image"), ("truth", "Against the truth")):
            columns = [f"{measure}_vs_{other}" for measure in IMAGE_MEASURES]
            more = [*MAP_MEASURES, "seconds"] if other == "ct" else []
            parts.append(f"\n{title}, mean / worst:\n")
            parts.append(_lines(own, both, columns + more, other, name))
        parts.append(_spread(own, both))
        used = {row["patient"] for row in _of(both, method="predicted", fell_back="0")}
        if 0 < len(used) < len({row["patient"] for row in both}):
            kept = [row for row in both if row["patient"] in used]
            columns = [f"{measure}_vs_ct" for measure in (*GOALS, "uptake_error")]
            parts.append(f"\nThe {len(used)} of them for which `predicted` used the network, mean / worst:\n")
            parts.append(_lines(kept, kept, columns, "ct", name))
    return "\n".join(parts) + "\n"


def _reasons(rows: Sequence[Row]) -> str:
    """Patients that could not be simulated and methods that refused some, with the reasons."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["method"] == NO_CASE or not row["raw_mean_vs_ct"]:
            who = "" if row["method"] == NO_CASE else f"{row['method']} "
            found.setdefault((who, row["notes"]), []).append(row["patient"])
    return "\n".join(f"- {who}{notes} (patient {', '.join(of)})" for (who, notes), of in found.items())


def _lines(own: Sequence[Row], both: Sequence[Row], columns: Sequence[str], other: str, set_name: str) -> str:
    heads = [HEADINGS[column.removesuffix(f"_vs_{other}")] for column in columns]
    lines = ["| method | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for method in METHODS:
        asked, found = _of(own, method=method), _of(both, method=method)
        if not asked:
            continue
        refused = sum(not row["raw_mean_vs_ct"] for row in asked)
        groups = {f"{method} ({refused} of {len(asked)} refused)" if refused else method: found}
        if method in LEARNED:
            used, fell = (_of(found, fell_back=value) for value in "01")
            groups |= {f"{method} (network used): {len(used)}": used} if used and fell else {}
            groups |= {f"{method} (fell back): {len(fell)}": fell} if fell else {}
        for label, group in groups.items():
            cells = [_mean_worst(numbers(group, column), column) for column in columns]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    if other == "ct":
        goals = GOALS | ({"nmse_head": NMSE_GOALS[set_name]} if set_name in NMSE_GOALS else {})
        cells = [f"<= {goals[name]:g}" if name in goals else "" for name in (c.removesuffix("_vs_ct") for c in columns)]
        lines.append("| *goal, per patient* | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(own: Sequence[Row], both: Sequence[Row]) -> str:
    """Signed SBR error with its 95th percentile, the worst region's mean error, fallbacks of all, for every method."""
    lines = [
        "\nSigned, against the true map's image:\n",
        f"| method | SBR mean (goal +-0.5) | SBR, 95 % of patients within (goal {RATIO_95_GOAL}) | pattern mean | "
        f"worst region's mean error (goal {REGION_GOAL}) | brain uptake mean | fell back, of all patients |",
        "|---" * 7 + "|",
    ]
    for method in METHODS:
        found = _of(both, method=method)
        if not found:
            continue
        sbr = numbers(_of(found, tracer="dat"), "ratio_error_vs_ct")
        pattern = numbers(_of(found, tracer="perfusion"), "ratio_error_vs_ct")
        uptake, fell = numbers(found, "uptake_error_vs_ct"), numbers(_of(own, method=method), "fell_back")
        region, error = _worst_region(both, method)
        cells = [
            f"{sbr.mean():+.2f}" if sbr.size else "-",
            f"{np.percentile(np.abs(sbr), 95):.2f}" if sbr.size else "-",
            f"{pattern.mean():+.2f}" if pattern.size else "-",
            f"{error:+.2f} ({region})" if region else "-",
            f"{uptake.mean():+.2f}" if uptake.size else "-",
            f"{int(fell.sum())} of {fell.size}" if fell.size else "-",
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _worst_region(rows: Sequence[Row], method: str) -> tuple[str, float]:
    """Region and tracer with the largest mean signed error in % against the true map's image, over patients."""
    found: list[tuple[str, float]] = []
    for tracer in ("dat", "perfusion"):
        for name in MEANS:
            errors = differences(_of(rows, tracer=tracer), method, (name,))[1]
            if errors.size:
                found.append((f"{tracer}, {name}", float(errors.mean())))
    return max(found, key=lambda one: abs(one[1])) if found else ("", float("nan"))


def differences(rows: Sequence[Row], method: str, regions: Sequence[str] = MEANS) -> tuple[Array, Array]:
    """Means of regions in the true map's image in kBq/mL, and a method's differences from them in %."""
    wanted = {(row["set"], row["patient"]): row for row in _of(rows, method="ct")}
    levels, errors = [], []
    for row in _of(rows, method=method):
        true = wanted.get((row["set"], row["patient"]))
        for name in regions:
            column = f"mean_{name.replace(' ', '_')}"
            if true is not None and row[column] and true[column]:
                levels.append(float(true[column]))
                errors.append(100.0 * (float(row[column]) / float(true[column]) - 1.0))
    return np.array(levels), np.array(errors)


def _legend(rows: Sequence[Row]) -> str:
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    return (
        f"Made from {CSV} (commit {commits}, seed {rows[0]['seed']}) by `attenuation_methods.py --draw`. Errors in %; "
        "each cell is the mean over patients of the error's size, and the worst patient's. Raw: mean |error| of "
        "regional means. Scaled: the same after one global scale. SBR: DAT; pattern: deep grey over cortex, perfusion. "
        "NMSE: squared error over squared reference. Outline: mean distance between the true skin and the map's edge, "
        "both ways, without holder and neck's end. Against the truth the camera's blur is part of every method's "
        "error: compare with the line ct. Seconds: one reconstruction with all that the method needs before it, on a "
        "machine that may have been busy (column load); an image or preview that another method had made is charged "
        "once.\n\n"
        "predicted: what a user gets, which is the uniform map where it fell back; the lines below it show both kinds "
        "of patients separately, so they are not over the same patients as the others. direct: image-to-image "
        "correction, the uncorrected image times the network's factors. The factors were learned on previews, which "
        "have neither resolution recovery nor, in their target, noise and scatter; here they multiply the user's image "
        "(resolution recovery, scatter corrected). direct, true factors: the same with the patient's true factors, "
        "from the expected primary counts and the true map: no network can do better this way but by chance."
    )


def tuning_table(path: Path) -> str:
    """Markdown: what each coefficient gave on the tuning patients, the chosen one in bold."""
    rows, chosen = read_rows(path), tuned_values(path)
    lines = [
        f"\n## Tuning, {len({row['patient'] for row in rows})} patients of their own\n",
        "Chosen (bold) by the least median raw error against the true map's image; median of each measure's size.\n",
        "| method | nuclide | mu in 1/cm | raw mean | scaled mean | SBR | pattern |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, nuclide in chosen:
        for value in sorted({row["mu_per_cm"] for row in rows}, key=float):
            own = [row for row in _of(rows, method=method, nuclide=nuclide, mu_per_cm=value) if row["raw_mean"]]
            cells = [_median(own, "raw_mean"), _median(own, "scaled_mean")]
            cells += [_median(_of(own, tracer=tracer), "ratio_error") for tracer in ("dat", "perfusion")]
            text = f"**{value}**" if float(value) == chosen[method, nuclide] else value
            lines.append(f"| {method} | {nuclide} | {text} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _median(rows: Sequence[Row], column: str) -> str:
    values = numbers(rows, column)
    return f"{np.median(np.abs(values)):.2f}" if values.size else "-"


def draw_bars(path: Path, rows: Sequence[Row]) -> None:
    """Raw mean, scaled mean and SBR or pattern per method, a row for each set; bar: mean, dots: patients."""
    sets = [name for name in DRAWN if _of(rows, set=name)]
    methods = [name for name in METHODS if name != "ct" and numbers(_of(rows, method=name), "raw_mean_vs_ct").size]
    shown = (
        ("raw_mean", "regional means, raw"),
        ("scaled_mean", "regional means, one scale"),
        ("ratio_error", "SBR or pattern"),
    )
    figure = Figure(figsize=(WIDTH_IN, 0.8 + (0.16 * len(methods) + 0.2) * len(sets)), layout="constrained")
    axes = figure.subplots(len(sets), len(shown), squeeze=False, sharex="col", sharey=True)
    for number, (line, name) in enumerate(zip(axes, sets, strict=True)):
        for axis, (measure, title) in zip(line, shown, strict=True):
            for place, method in enumerate(methods):
                own = _of(shared(_of(rows, set=name)), method=method)
                values = np.abs(numbers(own, f"{measure}_vs_ct"))
                fell = np.abs(numbers(_of(own, fell_back="1"), f"{measure}_vs_ct"))
                colour = COLOURS.get(method, "#1b7837" if method.startswith("predicted") else "#999999")
                if values.size:
                    axis.barh(place, values.mean(), color=colour, alpha=0.6)
                    axis.plot(values, np.full(values.size, place), "k.", markersize=2.5)
                    axis.plot(fell, np.full(fell.size, place), "o", color="#d95f02", fillstyle="none", markersize=4)
            axis.axvline(GOALS[measure], color="k", linestyle=":", linewidth=1)
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
    """Bland-Altman of regional means, patients with heads and cameras as in training; a panel for each method."""
    own = [row for name in LIKE_TRAINING for row in shared(_of(rows, set=name))] or list(rows)
    methods = [name for name in ("predicted", "uniform tuned, data outline", "chang") if _of(own, method=name)]
    if not methods:
        return
    figure = Figure(figsize=(WIDTH_IN, 3.2), layout="constrained")
    axes = figure.subplots(1, len(methods), squeeze=False, sharex=True, sharey=True)[0]
    for axis, method in zip(axes, methods, strict=True):
        for tracer, marker, fill in (("dat", "o", "none"), ("perfusion", "^", "full")):
            levels, errors = differences(_of(own, tracer=tracer), method)
            middle = levels * (1.0 + 0.005 * errors)
            axis.plot(
                middle, errors, marker, color=COLOURS[method], fillstyle=fill, markersize=3, alpha=0.5, label=tracer,
                linestyle="none",
            )  # fmt: skip
        errors = differences(own, method)[1]
        mean, spread = float(errors.mean()), 1.96 * float(errors.std())
        for level, style in ((mean, "-"), (mean - spread, "--"), (mean + spread, "--")):
            axis.axhline(level, color="k", linestyle=style, linewidth=1)
        axis.set_title(
            f"{method}\nmean {mean:+.1f} %, 95 %: {mean - spread:+.1f} to {mean + spread:+.1f} %", fontsize=8
        )
        _plain_log(axis, (1, 2, 5, 10, 20, 50))
        axis.set_xlabel("mean of both / (kBq/mL)", fontsize=9)
        axis.tick_params(axis="y", labelsize=8)
    axes[0].set_ylabel("regional mean minus\nthe true map's / %", fontsize=9)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=DPI)


def worst_rows(rows: Sequence[Row]) -> list[Row]:
    """The patient that the network's map serves worst among those like training's, and among the others."""
    served = [row for row in _of(rows, method="predicted", fell_back="0") if row["raw_mean_vs_ct"]]
    groups = (
        [row for row in served if row["set"] in LIKE_TRAINING],
        [row for row in served if row["set"] not in LIKE_TRAINING],
    )
    return [max(group, key=lambda row: float(row["raw_mean_vs_ct"])) for group in groups if group]


def draw_worst(path: Path, worst: Sequence[Row], choice: Choice, phantom: Path | None) -> None:
    """Slices of activity, map and error of three methods, for each of these patients."""
    methods = ("ct", "predicted", TUNED[1])
    figure = Figure(figsize=(WIDTH_IN, 4.9 * len(worst)), layout="constrained")
    parts = figure.subfigures(len(worst), 1, squeeze=False)[:, 0]
    for part, row in zip(parts, worst, strict=True):
        case = rebuilt(row["set"], row["patient"], int(row["seed"]), int(row["histories"]), phantom)
        panels = [_panel(case, method, choice) for method in methods]
        part.suptitle(
            f"{row['set']} {row['patient']}: {row['tracer']}, {row['nuclide']}, {row['collimator']}, "
            f"{float(row['counts']) / 1e6:.2g} million counts\npredicted: {float(row['raw_mean_vs_ct']):.2f} % raw, "
            f"worst region {float(row['raw_worst_vs_ct']):.2f} %",
            fontsize=9,
        )
        _slices(part.subplots(3, 6), case, methods, panels)
    figure.savefig(path, dpi=DPI)


def _panel(case: Case, method: str, choice: Choice) -> tuple[Array, Array] | str:
    """Image in kBq/mL, smoothed for the eye, and map of a method; the reason where it is refused."""
    try:
        result = model_of(method, case, choice).correct(SharingSolver(case))
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
