"""What a fifth of the counts costs, and what filters, a prior and a network win back: slope, bias and spread.

    python -m benchmarks.low_counts.run -o FOLDER [--weights FILE] [--patients N] [--realisations N] [--seed N]
        [--set NAME] [--tracer NAME] [--few] [--phantom FOLDER] [--visible-human FILE]

Some hours on 2 cores for 20 realisations of 20 patients of each tracer. Writes low_counts.csv, which is resumed,
and prints a table. Patients, sets and noise: patients.py; methods: methods.py. Means and standard deviations are taken
over the realisations for each method alone.

A row is a patient, method and measure: the truth on the head's own grid, mean and standard deviation over the
realisations. Images are read on that grid, in the true regions. The table has slope and error against the truth and
against the full time's image, which is filtered too, and the spread over the full time's, also divided by the slope:
an image that is shrunk has less of both.

PSNR and SSIM are those of the box of striata (or brain) with 24 mm around it, as in published work, against the full
time's image of the same realisation, which shares its counts, and against the truth, filtered alike.
"""

import argparse
import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.attenuation.patients import Sources
from benchmarks.low_counts.methods import FULL, READ, SHORT, USUAL_FWHM_MM, Methods
from benchmarks.low_counts.patients import (
    COUNTS,
    MR_HEAD,
    PREDICTED,
    SET_NAMES,
    USUAL,
    VISIBLE_HUMAN,
    Subject,
    realisations,
    subject_of,
)
from benchmarks.provenance import provenance, write_csv
from spectac.learned.weights_file import shipped_weights
from spectac.recon import Grid, InputError, filters
from spectac.recon.code_digest import code_digest
from spectac.recon.quantify import ssim, striatal_binding_ratio
from spectac.recon.resample import resample
from spectac.recon.types import Array

STRIATA = ("right striatum", "left striatum", "striata")
HEALTHY = ("healthy", "normal")
"""Kinds of patients whose values are normal."""
FEWEST_HEALTHY = 4
"""Fewest healthy patients for a standard deviation."""
FEWEST_PAIRS = 3
"""Fewest values for a slope."""
AROUND_MM = 24.0
"""Around the box in which images are compared; SSIM needs 11 voxels a side."""


def measures(values: Array, masks: Mapping[str, Array], tracer: str) -> dict[str, float]:
    """What is read in an image (z, y, x) on the head's grid: binding ratios, or regional means over the brain's."""
    means = {name: float(values.mean(where=mask, dtype=np.float64)) for name, mask in masks.items()}
    if tracer != "dat":
        return {f"{name} over brain": mean / means["brain"] for name, mean in means.items() if name != "brain"}
    return {
        f"SBR {name}": striatal_binding_ratio(mean, means["reference"])
        for name, mean in means.items()
        if name != "reference"
    }


def rows_of(
    subject: Subject, number: int, weights: Path | None, names: Sequence[str] | None = None, *, predicted: bool = False
) -> Iterator[dict[str, object]]:
    """Rows of one patient, of all methods where `names` is None."""
    case, masks, tracer = subject.case, subject.masks, str(subject.case.about["tracer"])
    truth = measures(subject.kbq_per_ml, masks, tracer)
    shown = [name for name in (STRIATA if tracer == "dat" else ("brain",)) if name in case.regions]
    if not shown:
        raise InputError("the brain reaches beyond the axial field")
    around = box(np.sum([case.regions[name] for name in shown], axis=0), case.grid)
    ideal = filters.gaussian(case.activity * np.float32(case.cps_per_kbq), case.grid.voxel_mm, USUAL_FWHM_MM)
    methods, read = Methods(case, weights, names, predicted=predicted), dict[str, list[dict[str, float]]]()
    for full, short in realisations(subject.study, subject.noise, number):
        for name, values in methods.images(full, short):
            of_image = measures(resample(values, case.grid, subject.grid), masks, tracer)
            of_image |= likeness(values[around], ideal[around], "truth")
            if name == FULL:
                of_full = values
            else:
                of_image |= likeness(values[around], of_full[around], "full time")
            read.setdefault(name, []).append(of_image)
    about = {name: case.about[name] for name in ("nuclide", "kind", "counts")}
    for name, estimates in read.items():
        for measure in estimates[0]:
            values = np.array([estimate[measure] for estimate in estimates])
            numbers = {"true": truth.get(measure, np.nan), "mean": values.mean(), "sd": values.std(ddof=1)}
            fell_back = methods.fell_back[FULL if name == FULL else SHORT]
            yield {**about, "method": name, "measure": measure, "uniform_maps": fell_back} | {
                key: "" if np.isnan(value) else f"{value:.5g}" for key, value in numbers.items()
            }


def box(mask: Array, grid: Grid) -> tuple[slice, ...]:
    """Box of a region's voxels (z, y, x) and AROUND_MM about it."""
    margins = [round(AROUND_MM / length) for length in grid.voxel_mm]
    return tuple(
        slice(max(0, int(at.min()) - margin), int(at.max()) + margin + 1)
        for at, margin in zip(np.nonzero(mask > 0.5), margins, strict=True)
    )


def likeness(values: Array, wanted: Array, name: str) -> dict[str, float]:
    """PSNR in dB and SSIM of a part of an image (z, y, x), both relative to the reference's maximum."""
    span, error = float(wanted.max()), float(np.sqrt(np.mean((values - wanted) ** 2, dtype=np.float64)))
    return {f"PSNR to {name}, dB": 20.0 * float(np.log10(span / error)), f"SSIM to {name}": ssim(values, wanted)}


def table(rows: Sequence[Mapping[str, str]]) -> list[dict[str, float | str]]:
    """Each method of a tracer: slope and error against the truth and the full time's means, and spread over its spread.

    The errors are root mean squares over patients and measures, in % of each true value or full time's mean; the spread
    is a geometric mean. Quarters are those of the full time's means: the largest bias of one, in % of its mean. The
    noise of z is the spread over realisations in standard deviations of the method's own means over healthy patients.
    The slope of sides is that of differences between right and left on those of the full time's means. Of fewer than
    FEWEST_PAIRS values there is no slope.
    """
    rows = [row for row in rows if row["true"]]
    full = {(row["patient"], row["measure"]): row for row in rows if row["method"] == FULL}
    found: list[dict[str, float | str]] = []
    for method in dict.fromkeys(row["method"] for row in rows):
        pairs = [(full[row["patient"], row["measure"]], row) for row in rows if row["method"] == method]
        wanted, mean, true = (
            np.array([float(one[name]) for one in part])
            for part, name in (
                ([one for one, _ in pairs], "mean"), ([one for _, one in pairs], "mean"),
                ([one for _, one in pairs], "true"),
            )
        )  # fmt: skip
        spread = np.array([float(row["sd"]) / float(reference["sd"]) for reference, row in pairs])
        slopes = [np.nan, np.nan]
        if len(pairs) >= FEWEST_PAIRS:
            slopes = [float(np.polyfit(other, mean, 1)[0]) for other in (true, wanted)]
        errors = [100.0 * float(np.sqrt(np.mean((mean / other - 1.0) ** 2))) for other in (true, wanted)]
        ratio = float(np.exp(np.log(spread).mean()))
        quarters = [part for part in np.array_split(np.argsort(wanted), 4) if part.size]
        biases = [100.0 * float((mean - wanted)[part].mean() / wanted[part].mean()) for part in quarters]
        found.append(
            {
                "method": method,
                "slope on truth": slopes[0],
                "error to truth, %": errors[0],
                "slope on full": slopes[1],
                "error to full, %": errors[1],
                "bias of a quarter, %": max(biases, key=abs),
                "SD / full's": ratio,
                "the same over slope": ratio / slopes[1],
                "noise of z": noise_of_z(rows, method),
                "slope of sides": slope_of_sides(rows, method),
            }
        )
    return found


def noise_of_z(rows: Sequence[Mapping[str, str]], method: str) -> float:
    """Spread of z-scores by noise, root mean square over measures; NaN for fewer than FEWEST_HEALTHY patients."""
    healthy = [row for row in rows if row["kind"] in HEALTHY]
    squares = []
    for measure in dict.fromkeys(row["measure"] for row in healthy):
        normal, noise = (
            np.array([float(row[number]) for row in healthy if (row["measure"], row["method"]) == (measure, method)])
            for number in ("mean", "sd")
        )
        if len(normal) >= FEWEST_HEALTHY:
            squares.append(float((noise**2).mean() / normal.var(ddof=1)))
    return float(np.sqrt(np.mean(squares))) if squares else float("nan")


def slope_of_sides(rows: Sequence[Mapping[str, str]], method: str) -> float:
    """Slope of differences between right and left means on the full time's; NaN where fewer than two are there."""
    means = {(row["method"], row["patient"], row["measure"]): float(row["mean"]) for row in rows}
    found = [
        [
            means[name, patient, measure] - means[name, patient, measure.replace("right", "left")]
            for name in (FULL, method)
        ]
        for one, patient, measure in means
        if one == method and "right" in measure
    ]
    return float(np.polyfit(*zip(*found, strict=True), 1)[0]) if len(found) > 1 else float("nan")


def likenesses(rows: Sequence[Mapping[str, str]]) -> list[dict[str, float | str]]:
    """Mean PSNR and SSIM of each method of a tracer."""
    means: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if not row["true"]:
            means.setdefault(row["method"], {}).setdefault(row["measure"], []).append(float(row["mean"]))
    return [
        {"method": method} | {measure: float(np.mean(values)) for measure, values in of_method.items()}
        for method, of_method in means.items()
    ]


class Resumed:
    """Rows of a CSV: `rows`, which an earlier run with the same key made, and others, which stay until made again.

    `key` are values that tell the run (seed, realisations, code); `same` the columns of what is measured.
    """

    def __init__(self, path: Path, key: Mapping[str, str], same: Sequence[str]) -> None:
        self.path, self._same = path, same
        every: list[dict[str, str]] = []
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                every = list(csv.DictReader(file))
        self.rows = [row for row in every if all(row.get(name) == value for name, value in key.items())]
        self._others = [row for row in every if row not in self.rows]

    def add(self, new: Iterable[Mapping[str, object]]) -> None:
        """Add rows, instead of those of the same things, and write the file."""
        rows = [{name: str(value) for name, value in row.items()} for row in new]
        made = {self._of(row) for row in rows}
        self.rows = [*(row for row in self.rows if self._of(row) not in made), *rows]
        self._others = [row for row in self._others if self._of(row) not in made]
        write_csv(self.path, [*self._others, *self.rows])

    def _of(self, row: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(row.get(name, "") for name in self._same)


def code_of(module: str, weights: Path | None) -> str:
    """Digest of the code that rows follow from, and of the network's weights."""
    code = code_digest(module)
    return code if weights is None else f"{code}-{hashlib.sha256(weights.read_bytes()).hexdigest()[:12]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--patients", type=int, default=20, metavar="N", help="of each tracer (20)")
    parser.add_argument("--realisations", type=int, default=20, metavar="N", help="of each patient (20)")
    parser.add_argument("--tracer", choices=tuple(COUNTS), help="one tracer alone")
    parser.add_argument("--few", action="store_true", help=f"only: {'; '.join(READ)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", choices=SET_NAMES, default=USUAL, help=f"({USUAL})")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of a low-counts network")
    parser.add_argument("--phantom", type=Path, metavar="FOLDER", help="of the MR head")
    parser.add_argument("--visible-human", type=Path, metavar="FILE", help="vis_male.nrrd")
    parser.add_argument("--histories", type=int, default=1_500_000, help="of an independent head's full Monte Carlo")
    options = parser.parse_args()
    if options.patients < 1 or options.realisations < 2:
        parser.error("it takes a patient, and two realisations for a standard deviation")
    options.output.mkdir(parents=True, exist_ok=True)
    path, sources = options.output / "low_counts.csv", Sources(options.phantom, None, options.visible_human)
    predicted, alone = options.set in PREDICTED, options.set in (MR_HEAD, VISIBLE_HUMAN)
    code = code_of("benchmarks.low_counts.run", options.weights)
    if predicted:
        code += f"-{hashlib.sha256(shipped_weights().read_bytes()).hexdigest()[:12]}"
    settings = (options.set, options.seed, options.realisations, options.histories if alone else 0)
    key = dict(zip(("set", "seed", "realisations", "histories"), map(str, settings), strict=True))
    resumed = Resumed(path, {**key, "code": code}, (*key, "tracer", "patient", "method", "measure"))
    # A patient of whom --few made a part is made again.
    done = {(row["tracer"], row["patient"]) for row in resumed.rows if options.few or row["method"] not in READ}
    names = READ if options.few else None
    for tracer in COUNTS if options.tracer is None else (options.tracer,):
        for index in range(1 if alone else options.patients):
            if (tracer, str(index)) in done:
                continue
            try:
                about = {**provenance(options.seed), **key, "code": code, "tracer": tracer, "patient": index}
                subject = subject_of(options.set, options.seed, tracer, index, sources, options.histories)
                found = rows_of(subject, options.realisations, options.weights, names, predicted=predicted)
                resumed.add([{**about, **row} for row in found])
            except InputError as error:
                print(f"{tracer} {index}: {error}", flush=True)
                continue
            print(f"{tracer} {index}", flush=True)
        chosen = [row for row in resumed.rows if row["tracer"] == tracer and int(row["patient"]) < options.patients]
        print(f"\n{options.set}, {tracer}, {len({row['patient'] for row in chosen})} patients")
        for line in (*table(chosen), *likenesses(chosen)) if chosen else ():
            print(in_words(line))


def in_words(line: Mapping[str, float | str]) -> str:
    """A line of a table."""
    return "  ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{value:24}" for name, value in line.items()
    )


if __name__ == "__main__":
    main()
