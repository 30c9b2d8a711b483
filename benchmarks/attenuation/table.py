"""Tables of the attenuation study as Markdown, from the rows of attenuation_methods.csv and attenuation_tuning.csv."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import nct, norm

from benchmarks.attenuation.files import METHODS_CSV, NO_CASE, REGIONS, Row, rows_of
from benchmarks.attenuation.measures import IMAGE_MEASURES, MAP_MEASURES
from benchmarks.attenuation.methods import LEARNED, METHODS
from benchmarks.attenuation.patients import SETS
from benchmarks.attenuation.tuning import chosen
from spectac.recon.types import Array

MEASURES_WITH_GOALS = ("raw_mean", "raw_worst", "scaled_mean", "sbr_error", "pattern_error", "nmse_head")
_USUAL, _FAR = (1.0, 2.5, 0.8, 1.0, 0.8, 0.3), (1.5, 3.5, 1.0, 1.5, 1.2, 0.6)
GOALS = {
    **dict.fromkeys(("unseen", "monte carlo", "scatter by Monte Carlo"), _USUAL),
    "real bodies": (1.2, 3.0, 0.9, 1.2, 1.0, 0.4),
    "fifth of counts": (1.5, 4.0, 1.2, 2.0, 1.5, 0.6),
    **dict.fromkeys(("other cameras", "fan-beam", "clinical matrix", "no scatter window"), _FAR),
    **dict.fromkeys(("mr head", "mr head, scatter by Monte Carlo"), _FAR),
    **dict.fromkeys(("visible human", "visible human, scatter by Monte Carlo"), _FAR),
}
"""Goals of "predicted, holder file", means over patients in %, in the order of MEASURES_WITH_GOALS."""
DEFAULT_HOLDER_GOALS = (1.4, 3.5, 0.9, 2.0, 1.0, 0.4)
"""Goals of "predicted" on the sets BY_DEFAULT."""
BY_DEFAULT = ("unseen", "monte carlo")
HELD = {"with": "1", "without": "0"}
"""Values of the column holder."""
MOST_SBR_PERCENT, COVERED, CONFIDENCE = 5.0, 0.95, 0.90
"""This share of the patients' SBR errors should lie below +5 %, and above -5 %, each at this confidence."""
BY_HOLDER = (
    "chang", "uniform tuned, data outline", "uniform tuned, true outline", "ct, usual bone density", "predicted",
    "predicted, holder file", "predicted, holder typical", "predicted, holder none", "direct",
)  # fmt: skip
"""Methods that are also shown with and without a head-holder."""

LEGEND = """\
Errors in %; each cell is the mean over patients of the error's size, and the worst patient's.

- raw: mean |error| of regional means; scaled: the same after one global scale
- SBR: DAT alone, mean of both sides' |errors|; pattern: deep grey over cortex, perfusion alone
- NMSE: squared error over squared reference
- outline: mean distance between the true skin and the map's edge, both ways, without holder and neck's end
- against the truth the camera's blur is part of every method's error: compare with the line ct
- seconds: one reconstruction with all that the method needs before it. An image or preview that another method made is
  charged once. The machine may have been busy (column load)
- predicted: the map that a user gets, which is the uniform map where the study fell back. The lines below it show both
  kinds of patients separately, so they are not over the same patients as the others
- predicted, holder file, typical, none: what lies beside the head is given; predicted: as a user gets it who says
  nothing, in a holder fitted to the counts. File: as a CT of the same patient shows it (none for a patient without)
- predicted, limits ignored: with the holder's file, the network's map also where a user would get the uniform one,
  unless it reaches through the collimator
- ct, usual bone density: the true map with bones of the average head's density, which the network does not see. This
  error is left when a map is estimated without any other error
- direct: image-to-image correction, the uncorrected image times the network's factors. The factors were learned on
  previews, which have neither resolution recovery nor, in their target, noise and scatter. Here they multiply the
  user's image (resolution recovery, scatter corrected)
- direct, true factors: the same with the patient's true factors, from the expected primary counts and the true map: the
  bound of this method, but for chance\
"""
"""Explanation above the tables."""

HEADINGS = {
    "raw_mean": "raw mean", "raw_worst": "worst region", "scaled_mean": "scaled mean", "scaled_worst": "scaled worst",
    "sbr_error": "SBR", "pattern_error": "pattern", "uptake_error": "brain uptake", "nmse_head": "NMSE head",
    "nmse_volume": "NMSE volume", "map_nmae": "map NMAE %", "bone_dice": "bone Dice", "outline_mm": "outline mm",
    "factor_error": "factors %", "seconds": "seconds",
}  # fmt: skip


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


def shared(rows: Sequence[Row]) -> list[Row]:
    """Rows of one set, of the patients for which every method with any result has one."""
    served: dict[str, set[str]] = {}
    for row in rows:
        if row["raw_mean_vs_ct"]:
            served.setdefault(row["method"], set()).add(row["patient"])
    kept = set.intersection(*served.values()) if served else set()
    return [row for row in rows if row["patient"] in kept]


def table(rows: Sequence[Row]) -> str:
    """Markdown: per set, methods as lines, measures as columns; "mean / worst" over the patients that all have."""
    parts = ["# Attenuation methods\n", _legend(rows), goals_table(rows)]
    for name in SETS:
        whole = rows_of(rows, set=name)
        measured = [row for row in whole if row["method"] != NO_CASE]
        if not whole:
            continue
        both, patients = shared(measured), {row["patient"] for row in measured}
        tracers = ", ".join(
            f"{len({row['patient'] for row in rows_of(measured, tracer=tracer)})} {tracer}"
            for tracer in ("dat", "perfusion")
        )
        counts = numbers(rows_of(measured, method="ct"), "counts")
        span = f", {counts.min() / 1e6:.2g} to {counts.max() / 1e6:.2g} million counts" if counts.size else ""
        parts.append(f"\n## {name}: {len(patients)} patients ({tracers}){span}\n")
        parts.append(f"Means are over the {len({row['patient'] for row in both})} that every method has a result for.")
        parts.append(_reasons(whole))
        for other, title in (("ct", "Against the true map's image"), ("truth", "Against the truth")):
            columns = [f"{measure}_vs_{other}" for measure in IMAGE_MEASURES if measure in HEADINGS]
            more = [*MAP_MEASURES, "seconds"] if other == "ct" else []
            parts.append(f"\n{title}, mean / worst:\n")
            parts.append(_lines(measured, both, columns + more, other))
            parts.append(_spread(measured, both, other))
        parts.append(_by_holder(both))
        used = {row["patient"] for row in rows_of(both, method="predicted", fell_back="0")}
        if 0 < len(used) < len({row["patient"] for row in both}):
            kept = [row for row in both if row["patient"] in used]
            columns = [f"{measure}_vs_ct" for measure in (*MEASURES_WITH_GOALS, "uptake_error")]
            which = f"The {len(used)} of them for which `predicted` used the network"
            parts.append(f"\n{which}, mean / worst:\n")
            parts.append(_lines(kept, kept, columns, "ct"))
    return "\n".join(parts) + "\n"


def goals_table(rows: Sequence[Row]) -> str:
    """Table of what was asked of every set and what came out; empty where none was measured."""
    heads = [HEADINGS[name] for name in MEASURES_WITH_GOALS]
    lines = ["| set | method | patients (DAT) | " + " | ".join(heads) + " |", "|---" * (len(heads) + 3) + "|"]
    for name, goals in GOALS.items():
        both = shared([row for row in rows_of(rows, set=name) if row["method"] != NO_CASE])
        groups = {name: both}
        if name == "unseen":
            groups |= {f"unseen, {word} a holder": rows_of(both, holder=held) for word, held in HELD.items()}
        wanted = {"predicted, holder file": goals}
        if name in BY_DEFAULT:
            wanted["predicted"] = DEFAULT_HOLDER_GOALS
        for method, asked in wanted.items():
            for label, group in groups.items():
                if of_method := rows_of(group, method=method):
                    cells = [_met(of_method, *pair) for pair in zip(MEASURES_WITH_GOALS, asked, strict=True)]
                    who = f"{len(of_method)} ({len(rows_of(of_method, tracer='dat'))})"
                    lines.append(f"| {label} | {method} | {who} | " + " | ".join(cells) + " |")
    if len(lines) == 2:
        return ""
    caption = "Mean error against the true map's image and, in brackets, the goal; bold where it is missed."
    return "\n".join(
        ["\n## Goals\n", f"{caption} Means are over the patients that every method has a result for, in %.\n", *lines]
    )


def _met(rows: Sequence[Row], measure: str, goal: float) -> str:
    """Mean size of a measure with its goal; bold where it is missed."""
    values = np.abs(numbers(rows, f"{measure}_vs_ct"))
    if not values.size:
        return "-"
    mean = float(values.mean())
    return f"{mean:.2f} ({goal:g})" if mean <= goal else f"**{mean:.2f}** ({goal:g})"


def _reasons(rows: Sequence[Row]) -> str:
    """Patients that could not be simulated and methods that refused some, with the reasons."""
    patients_of: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["method"] == NO_CASE or not row["raw_mean_vs_ct"]:
            who = "" if row["method"] == NO_CASE else f"{row['method']} "
            patients_of.setdefault((who, row["notes"]), []).append(row["patient"])
    return "\n".join(f"- {who}{notes} (patient {', '.join(of)})" for (who, notes), of in patients_of.items())


def _lines(measured: Sequence[Row], both: Sequence[Row], columns: Sequence[str], other: str) -> str:
    heads = [HEADINGS[column.removesuffix(f"_vs_{other}")] for column in columns]
    lines = ["| method | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for method in METHODS:
        asked, shared_rows = rows_of(measured, method=method), rows_of(both, method=method)
        if not asked:
            continue
        refused = sum(not row["raw_mean_vs_ct"] for row in asked)
        groups = {f"{method} ({refused} of {len(asked)} refused)" if refused else method: shared_rows}
        if method in LEARNED:
            used, fell = (rows_of(shared_rows, fell_back=value) for value in "01")
            groups |= {f"{method} (network used): {len(used)}": used} if used and fell else {}
            groups |= {f"{method} (fell back): {len(fell)}": fell} if fell else {}
        for label, group in groups.items():
            cells = [_mean_worst(numbers(group, column), column) for column in columns]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(measured: Sequence[Row], both: Sequence[Row], other: str) -> str:
    """SBR's signed error and its limits, each method's worst region, fallbacks; against `other`, ct or truth."""
    against = "true map's image" if other == "ct" else "truth"
    lines = [
        f"\nOver patients, against the {against}; errors are signed but for sizes. Tolerance: limits that "
        f"{COVERED:.0%} of patients' SBR errors stay below and above, each at {CONFIDENCE:.0%} confidence, normal "
        f"distribution (goal +-{MOST_SBR_PERCENT:g}); agreement: mean -+ 1.96 SD:\n",
        "| method | SBR mean | SBR agreement | SBR tolerance | pattern mean | region with the largest mean error | "
        "region with the largest mean size of errors | brain uptake mean | fell back, of all patients |",
        "|---" * 9 + "|",
    ]
    for method in METHODS:
        shared_rows = rows_of(both, method=method)
        if not shared_rows:
            continue
        sbr, pattern, uptake = (
            numbers(shared_rows, f"{name}_vs_{other}") for name in ("sbr_signed", "pattern_signed", "uptake_error")
        )
        fell = numbers(rows_of(measured, method=method), "fell_back")
        cells = [
            f"{sbr.mean():+.2f}" if sbr.size else "-",
            *("-" if limits is None else f"{limits[0]:+.1f} to {limits[1]:+.1f}" for limits in spread_of(sbr)),
            f"{pattern.mean():+.2f}" if pattern.size else "-",
            *_worst_regions(both, method, other),
            f"{uptake.mean():+.2f}" if uptake.size else "-",
            f"{int(fell.sum())} of {fell.size}" if fell.size else "-",
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread_of(errors: Array) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Limits of agreement and one-sided tolerance limits of errors (n,) in %, lower and upper; None below 3 values."""
    if errors.size < 3:
        return None, None
    mean, sd, n = float(errors.mean()), float(errors.std(ddof=1)), errors.size
    factor = float(nct.ppf(CONFIDENCE, n - 1, norm.ppf(COVERED) * np.sqrt(n)) / np.sqrt(n))
    agreement, tolerance = ((mean - k * sd, mean + k * sd) for k in (1.96, factor))
    return agreement, tolerance


def _by_holder(both: Sequence[Row]) -> str:
    """Table of some methods over the patients with and without a head-holder; empty where all are of one kind."""
    groups = {word: rows_of(both, holder=held) for word, held in HELD.items()}
    if not all(groups.values()):
        return ""
    columns = [f"{name}_vs_ct" for name in ("raw_mean", "raw_worst", "scaled_mean", "sbr_error", "pattern_error")]
    heads = [*(HEADINGS[column.removesuffix("_vs_ct")] for column in columns), "SBR, signed mean"]
    lines = ["\nWith and without a head-holder, against the true map's image, mean / worst:\n"]
    lines += ["| method | patients (DAT) | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    for method in BY_HOLDER:
        for word, group in groups.items():
            of_method = rows_of(group, method=method)
            if not of_method:
                continue
            signed = numbers(of_method, "sbr_signed_vs_ct")
            cells = [_mean_worst(numbers(of_method, column), column) for column in columns]
            cells.append(f"{signed.mean():+.2f}" if signed.size else "-")
            who = f"{method}, {word}"
            lines.append(
                f"| {who} | {len(of_method)} ({len(rows_of(of_method, tracer='dat'))}) | " + " | ".join(cells) + " |"
            )
    return "\n".join(lines)


def _worst_regions(rows: Sequence[Row], method: str, other: str) -> tuple[str, str]:
    """Mean signed error and mean size of errors in %, each of the region and tracer where it is largest."""
    errors_of = {
        f"{tracer}, {name}": errors
        for tracer in ("dat", "perfusion")
        for name in REGIONS
        if (errors := differences(rows_of(rows, tracer=tracer), method, (name,), other)[1]).size
    }
    if not errors_of:
        return "-", "-"
    signed = max(errors_of, key=lambda name: abs(errors_of[name].mean()))
    sized = max(errors_of, key=lambda name: np.abs(errors_of[name]).mean())
    return f"{errors_of[signed].mean():+.2f} ({signed})", f"{np.abs(errors_of[sized]).mean():.2f} ({sized})"


def differences(
    rows: Sequence[Row], method: str, regions: Sequence[str] = REGIONS, other: str = "ct"
) -> tuple[Array, Array]:
    """Regional means of the true map's image (ct) or the truth in kBq/mL, and a method's differences from them in %."""
    wanted = {(row["set"], row["patient"]): row for row in rows_of(rows, method="ct")}
    kind = "mean" if other == "ct" else "true"
    levels, errors = [], []
    for row in rows_of(rows, method=method):
        true = wanted.get((row["set"], row["patient"]))
        for name in regions:
            column = name.replace(" ", "_")
            if true is not None and row[f"mean_{column}"] and true[f"{kind}_{column}"]:
                levels.append(float(true[f"{kind}_{column}"]))
                errors.append(100.0 * (float(row[f"mean_{column}"]) / levels[-1] - 1.0))
    return np.array(levels), np.array(errors)


def _legend(rows: Sequence[Row]) -> str:
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    codes = len({(row["code"], row["seed"]) for row in rows})
    mixed = f"**Rows of {codes} versions of the code or seeds are mixed here.** " if codes > 1 else ""
    return (
        f"{mixed}Made from {METHODS_CSV} (commit {commits}, seed {rows[0]['seed']}) by "
        f"`python -m benchmarks.attenuation.run --draw`.\n\n{LEGEND}"
    )


def tuning_table(rows: Sequence[Row]) -> str:
    """Markdown: what each coefficient gave, from tuning rows of one code and seed, the chosen one in bold."""
    best = chosen(rows)
    if not best:
        return "\n## Tuning\n\nNo result of the code and seed of these rows: run with --tune.\n"
    of_nuclide = {
        nuclide: len({row["patient"] for row in rows_of(rows, nuclide=nuclide)}) for _, nuclide in sorted(best)
    }
    patients = ", ".join(f"{number} with {nuclide}" for nuclide, number in of_nuclide.items())
    lines = [
        f"\n## Tuning, patients of their own: {patients}\n",
        "Chosen (bold) by the least median raw error against the true map's image, on the patients that all values of "
        "the method and nuclide have; in the table the median of each measure's size over the patients of that line.\n",
        "| method | nuclide | mu in 1/cm | patients | raw mean | scaled mean | SBR | pattern |",
        "|---" * 8 + "|",
    ]
    for method, nuclide in sorted(best):
        tried = rows_of(rows, method=method, nuclide=nuclide)
        for value in sorted({row["mu_per_cm"] for row in tried}, key=float):
            of_value = [row for row in rows_of(tried, mu_per_cm=value) if row["raw_mean"]]
            cells = [str(len(of_value)), _median(of_value, "raw_mean"), _median(of_value, "scaled_mean")]
            cells += [_median(of_value, column) for column in ("sbr_error", "pattern_error")]
            text = f"**{value}**" if float(value) == best[method, nuclide].mu_per_cm else value
            lines.append(f"| {method} | {nuclide} | {text} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _median(rows: Sequence[Row], column: str) -> str:
    values = numbers(rows, column)
    return f"{np.median(np.abs(values)):.2f}" if values.size else "-"
