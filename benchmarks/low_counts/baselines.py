"""What a fifth of the counts costs, and what a filter or a prior wins back: slope, bias and spread of what is read.

    python -m benchmarks.low_counts.baselines -o CSV [--patients N] [--realisations N] [--seed N] [--tracer NAME]

An hour or two on 2 cores for 20 realisations of 20 patients of each tracer. Writes low_counts.csv, which is resumed,
and prints a table. The camera has 64 x 64 pixels of 4 mm, 60 views, 2 heads; every image has the true map, TEW and
resolution recovery. Realisation k has Poisson counts of the full time, and a fifth of them by binomial selection
(`spectac thin`): the short image shares counts with the full one of the same k, and is independent of the others. Means
and standard deviations are taken over k for each method alone.

A row is a patient, method and measure: the truth on the head's own grid, mean and standard deviation over the
realisations. Images are read on that grid, in the true regions. The table has slope and error against the truth and
against the full time's image, which is filtered too, and the spread over the full time's, also divided by the slope:
an image that is shrunk has less of both.
"""

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.attenuation.patients import Case, Simulated, labelled_case
from benchmarks.provenance import provenance, write_csv
from spectac.recon import InputError, ReconstructionSettings, filters
from spectac.recon.code_digest import code_digest
from spectac.recon.pipeline import StudySolver
from spectac.recon.quantify import striatal_binding_ratio
from spectac.recon.resample import resample
from spectac.recon.thinning import parted
from spectac.recon.types import Array, Study
from spectac.simulate.acquire import Expected, Patient, expected_counts
from spectac.simulate.head import draw_head
from spectac.simulate.regions import SIDES
from spectac.simulate.scanner import Scanner
from spectac.simulate.uptake import draw_uptake, vois

LOW_COUNTS = 0x6C6F7763
"""First number of the spawn keys, which no cohort and no other benchmark has."""
CAMERA = Scanner("low counts", "siemens-lehr", matrix=(64, 64), pixel_mm=4.0, views=60, scheme="tew")
COUNTS = {"dat": 3e6, "perfusion": 6e6}
"""Photopeak counts of the full time."""
SHARE = 0.2
USUAL_FWHM_MM = 8.0
"""Gaussian of the full time's image, and of the short one that is called raw."""
FILTERS_MM = (10.0, 12.0, 14.0)
WEIGHTS = (0.01, 0.03, 0.1)
"""Weights of the relative-difference prior times the brain's mean in cps/mL: the prior grows with the image, the
likelihood with the counts, and patients of equal counts differ in cps/mL by their view times."""
OSEM = {"iterations": 10, "subsets": 10}
MAP = {"algorithm": "map", "iterations": 10, "subsets": 10}


def patient_of(seed: int, tracer: str, index: int) -> tuple[Simulated, np.random.SeedSequence]:
    """Patient `index` of a tracer with expected counts of the full time, and the seed of the noise."""
    key = (LOW_COUNTS, tuple(COUNTS).index(tracer), index)
    head_seed, uptake_seed, photons, noise = np.random.SeedSequence(seed, spawn_key=key).spawn(4)
    head = draw_head(np.random.default_rng(head_seed))
    uptake = draw_uptake(tracer, head, np.random.default_rng(uptake_seed))
    patient, scanner = Patient(head, uptake), CAMERA.around(head)
    expected = expected_counts(patient, scanner, photons).with_counts(COUNTS[tracer])
    study = Study(expected.acquisition, expected.windows, expected.counts)
    return Simulated(patient, None, scanner, expected, study), noise


def realisations(expected: Expected, noise: np.random.SeedSequence, number: int) -> Iterator[tuple[Study, Study]]:
    """Studies of the full time and of a fifth of it, taken from the full one."""
    for one in noise.spawn(number):
        rng = np.random.default_rng(one)
        full = expected.study(rng)
        yield full, parted(full, SHARE, rng)[0]


def reconstructed(study: Study, case: Case, **settings: object) -> Array:
    """Image (z, y, x) of a study with the true map."""
    solver = StudySolver(study, ReconstructionSettings(scatter="tew", device="cpu", **settings))
    return solver(case.mu).values


def images(full: Study, short: Study, case: Case, brain_cps_per_ml: float) -> Iterator[tuple[str, Array]]:
    """Name and image (z, y, x) of every method, each reconstruction made once."""
    voxel_mm = case.grid.voxel_mm
    yield "full time", filters.gaussian(reconstructed(full, case, **OSEM), voxel_mm, USUAL_FWHM_MM)
    part = reconstructed(short, case, **OSEM)
    for fwhm_mm in (USUAL_FWHM_MM, *FILTERS_MM):
        yield f"fifth, {fwhm_mm:g} mm", filters.gaussian(part, voxel_mm, fwhm_mm)
    for weight in WEIGHTS:
        yield f"fifth, MAP {weight:g}", reconstructed(short, case, **MAP, prior_beta=weight / brain_cps_per_ml)


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


def regions(labels: Array, tracer: str) -> dict[str, Array]:
    """Masks (z, y, x) of the regions that are read: those of a tracer do not overlap, but for the brain's."""
    masks = vois(labels)
    lobes = [f"{side} {lobe} cortex" for lobe in ("frontal", "parietal", "temporal", "occipital") for side in SIDES]
    deep = [f"{side} {part}" for part in ("caudate", "putamen") for side in SIDES]
    wanted = ["reference", *deep] if tracer == "dat" else ["brain", *deep, *lobes, "white matter", "cerebellum"]
    return {name: masks[name] for name in wanted if name in masks}


def rows_of(seed: int, tracer: str, index: int, number: int, code: str) -> Iterator[dict[str, object]]:
    """Rows of one patient; InputError where it cannot be simulated."""
    origin = provenance(seed)
    simulated, noise = patient_of(seed, tracer, index)
    case, (head, uptake) = labelled_case(simulated, "tew"), (simulated.patient.head, simulated.patient.uptake)
    masks = regions(head.labels, tracer)
    truth = measures(uptake.kbq_per_ml, masks, tracer)
    brain = float(uptake.parameters["mean_brain"]) * simulated.expected.cps_per_kbq
    read: dict[str, list[dict[str, float]]] = {}
    for full, short in realisations(simulated.expected, noise, number):
        for name, values in images(full, short, case, brain):
            read.setdefault(name, []).append(measures(resample(values, case.grid, head.grid), masks, tracer))
    about = {"tracer": tracer, "nuclide": uptake.nuclide, "patient": index, "kind": case.about["kind"]}
    for name, estimates in read.items():
        for measure, true in truth.items():
            values = np.array([estimate[measure] for estimate in estimates])
            numbers = {"true": true, "mean": values.mean(), "sd": values.std(ddof=1)}
            yield {**origin, "code": code, "realisations": number, **about, "method": name, "measure": measure} | {
                key: f"{value:.5g}" for key, value in numbers.items()
            }


def table(rows: Sequence[Mapping[str, str]]) -> list[dict[str, float | str]]:
    """Each method of a tracer: slope and error against the truth and the full time's means, and spread over its spread.

    The errors are root mean squares over patients and measures, in % of each true value or full time's mean; the spread
    is a geometric mean.
    """
    full = {(row["patient"], row["measure"]): row for row in rows if row["method"] == "full time"}
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
        slopes = [float(np.polyfit(other, mean, 1)[0]) for other in (true, wanted)]
        errors = [100.0 * float(np.sqrt(np.mean((mean / other - 1.0) ** 2))) for other in (true, wanted)]
        ratio = float(np.exp(np.log(spread).mean()))
        found.append(
            {"method": method, "slope on truth": slopes[0], "error to truth, %": errors[0], "slope on full": slopes[1],
             "error to full, %": errors[1], "SD / full's": ratio, "the same over slope": ratio / slopes[1]}
        )  # fmt: skip
    return found


def kept(path: Path, key: Mapping[str, str]) -> list[dict[str, str]]:
    """Rows of an earlier run with the same seed, realisations and code."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if all(row.get(name) == value for name, value in key.items())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CSV")
    parser.add_argument("--patients", type=int, default=20, metavar="N", help="of each tracer (20)")
    parser.add_argument("--realisations", type=int, default=20, metavar="N", help="of each patient (20)")
    parser.add_argument("--tracer", choices=tuple(COUNTS), help="one tracer alone")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.patients < 1 or options.realisations < 2:
        parser.error("it takes a patient, and two realisations for a standard deviation")
    if not options.output.resolve().parent.is_dir():
        parser.error(f"the folder of {options.output} does not exist")
    code = code_digest("benchmarks.low_counts.baselines")
    rows = kept(options.output, {"seed": str(options.seed), "realisations": str(options.realisations), "code": code})
    done = {(row["tracer"], row["patient"]) for row in rows}
    for tracer in COUNTS if options.tracer is None else (options.tracer,):
        for index in range(options.patients):
            if (tracer, str(index)) in done:
                continue
            try:
                new = list(rows_of(options.seed, tracer, index, options.realisations, code))
            except InputError as error:
                print(f"{tracer} {index}: {error}", flush=True)
                continue
            rows += [{name: str(value) for name, value in row.items()} for row in new]
            write_csv(options.output, rows)
            print(f"{tracer} {index}", flush=True)
        chosen = [row for row in rows if row["tracer"] == tracer and int(row["patient"]) < options.patients]
        print(f"\n{tracer}, {len({row['patient'] for row in chosen})} patients")
        for line in table(chosen) if chosen else ():
            print(
                "  ".join(
                    f"{name} {value:.3f}" if isinstance(value, float) else f"{value:14}" for name, value in line.items()
                )
            )


if __name__ == "__main__":
    main()
