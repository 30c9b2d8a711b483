"""What a fifth of the counts costs, and what a filter or a prior wins back: bias, slope and spread of what is read.

    python -m benchmarks.low_counts.baselines -o CSV [--patients N] [--realisations N] [--seed N] [--tracer NAME]

A realisation takes 8 s of processor time, so that 20 of 20 patients of each tracer take an hour on 2 cores. Writes
low_counts.csv, which is resumed, and prints a table. The camera has 64 x 64 pixels of 4 mm, 60 views, 2 heads.
Realisation k has Poisson counts of the full time, and a fifth of them by binomial selection (`spectac thin`): the short
image shares counts with the full one of the same k, and is independent of those of the others. Means and standard
deviations are taken over k for each method alone.

Every image has the true map, TEW and resolution recovery. Rows are patient, method and measure: true value, mean and
standard deviation over the realisations. Regions are the true ones.
"""

import argparse
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.attenuation.patients import Case, Simulated, labelled_case
from benchmarks.provenance import provenance, write_csv
from spectac.recon import ReconstructionSettings, filters
from spectac.recon.pipeline import StudySolver
from spectac.recon.quantify import striatal_binding_ratio, voi_mean
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
BETAS = (0.03, 0.1, 0.3)
"""Weights of the relative-difference prior. The image's unit is cps/mL, the likelihood's counts."""
OSEM = {"iterations": 10, "subsets": 10, "device": "cpu"}
MAP = {"algorithm": "map", "iterations": 10, "subsets": 10, "device": "cpu"}


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


def reconstructed(study: Study, case: Case, settings: Mapping[str, object]) -> Array:
    """Image (z, y, x) of a study with the true map."""
    solver = StudySolver(study, ReconstructionSettings(scatter="tew", **settings))  # type: ignore[arg-type]
    return solver(case.mu).values


def methods(full: Study, short: Study, case: Case) -> Iterator[tuple[str, Array]]:
    """Name and image (z, y, x) of every method, each reconstruction made once."""
    voxel_mm = case.grid.voxel_mm
    whole = reconstructed(full, case, OSEM)
    yield "full time", filters.gaussian(whole, voxel_mm, USUAL_FWHM_MM)
    part = reconstructed(short, case, OSEM)
    for fwhm_mm in (USUAL_FWHM_MM, *FILTERS_MM):
        yield f"fifth, {fwhm_mm:g} mm", filters.gaussian(part, voxel_mm, fwhm_mm)
    for beta in BETAS:
        yield f"fifth, MAP {beta:g}", reconstructed(short, case, MAP | {"prior_beta": beta})


def measures(values: Array, shares: Mapping[str, Array], tracer: str) -> dict[str, float]:
    """What is read in an image (z, y, x): binding ratios, or regional means over the brain's."""
    means = {name: voi_mean(values, share) for name, share in shares.items()}
    if tracer != "dat":
        return {f"{name} over brain": mean / means["brain"] for name, mean in means.items() if name != "brain"}
    return {
        f"SBR {name}": striatal_binding_ratio(mean, means["reference"])
        for name, mean in means.items()
        if name.endswith(("caudate", "putamen"))
    }


def regions_of(simulated: Simulated, case: Case) -> dict[str, Array]:
    """Shares (z, y, x) of the true regions on the image's grid."""
    wanted = [f"{side} {part}" for side in SIDES for part in ("caudate", "putamen", "thalamus", "frontal cortex")]
    wanted += ["reference", "cortex", "white matter", "cerebellum", "brain"]
    head = simulated.patient.head
    masks = vois(head.labels)
    return {
        name: np.clip(resample(masks[name].astype(np.float32), head.grid, case.grid), 0.0, 1.0)
        for name in wanted
        if name in masks
    }


def rows_of(seed: int, tracer: str, index: int, number: int) -> Iterator[dict[str, object]]:
    """Rows of one patient."""
    simulated, noise = patient_of(seed, tracer, index)
    case = labelled_case(simulated, "tew")
    shares = regions_of(simulated, case)
    truth = measures(case.activity, shares, tracer)
    found: dict[str, list[dict[str, float]]] = {}
    for full, short in realisations(simulated.expected, noise, number):
        for name, values in methods(full, short, case):
            found.setdefault(name, []).append(measures(values, shares, tracer))
    about = {"tracer": tracer, "patient": index, "kind": case.about["kind"], "realisations": number}
    for name, every in found.items():
        for measure, true in truth.items():
            read = np.array([one[measure] for one in every])
            numbers = {"true": true, "mean": read.mean(), "sd": read.std(ddof=1)}
            yield {**provenance(seed), **about, "method": name, "measure": measure} | {
                key: f"{value:.5g}" for key, value in numbers.items()
            }


def summary(rows: list[dict[str, str]], tracer: str) -> None:
    """Print each method's slope on the full time's means, its bias from them, and its spread over the full time's."""
    mine = [row for row in rows if row["tracer"] == tracer]
    full = {(row["patient"], row["measure"]): row for row in mine if row["method"] == "full time"}
    print(
        f"\n{tracer}: {len({row['patient'] for row in mine})} patients\nmethod            slope   bias %   SD / full's"
    )
    for method in dict.fromkeys(row["method"] for row in mine):
        pairs = [(full[row["patient"], row["measure"]], row) for row in mine if row["method"] == method]
        wanted, read = (np.array([float(row["mean"]) for row in part]) for part in zip(*pairs, strict=True))
        spread = np.array([float(row["sd"]) / float(reference["sd"]) for reference, row in pairs])
        slope = np.polyfit(wanted, read, 1)[0] if len(pairs) > 1 else float("nan")
        bias = 100.0 * float(np.mean(read - wanted)) / float(np.mean(wanted))
        print(f"{method:16} {slope:6.3f} {bias:8.2f} {np.sqrt(np.mean(spread**2)):10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CSV")
    parser.add_argument("--patients", type=int, default=20, metavar="N", help="of each tracer (20)")
    parser.add_argument("--realisations", type=int, default=20, metavar="N", help="of each patient (20)")
    parser.add_argument("--tracer", choices=tuple(COUNTS), help="one tracer alone")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows: list[dict[str, str]] = []
    if options.output.is_file():
        with options.output.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    done = {(row["tracer"], row["patient"]) for row in rows if int(row["realisations"]) == options.realisations}
    for tracer in COUNTS if options.tracer is None else (options.tracer,):
        for index in range(options.patients):
            if (tracer, str(index)) not in done:
                made = rows_of(options.seed, tracer, index, options.realisations)
                rows += [{key: str(value) for key, value in row.items()} for row in made]
                write_csv(options.output, rows)
                print(f"{tracer} {index}", flush=True)
        summary(rows, tracer)


if __name__ == "__main__":
    main()
