"""What a fifth of the counts costs, and what filters, a prior and a network win back: slope, bias and spread.

    python -m benchmarks.low_counts.run -o CSV [--weights FILE] [--patients N] [--realisations N] [--seed N]
        [--tracer NAME]

An hour or two on 2 cores for 20 realisations of 20 patients of each tracer. Writes low_counts.csv, which is resumed,
and prints a table. The network is used after the reconstruction (its image, filtered) and inside (an anchor of each
weight, filtered alike); its training had none of these patients. The camera has 64 x 64 pixels of 4 mm, 60 views, 2
heads; every image has the true map, TEW and resolution recovery. Realisation k has Poisson counts of the full time, and
a fifth of them by binomial selection (`spectac thin`): the short image shares counts with the full one of the same k,
and is independent of the others. Means and standard deviations are taken over k for each method alone.

A row is a patient, method and measure: the truth on the head's own grid, mean and standard deviation over the
realisations. Images are read on that grid, in the true regions. The table has slope and error against the truth and
against the full time's image, which is filtered too, and the spread over the full time's, also divided by the slope:
an image that is shrunk has less of both.
"""

import argparse
import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.attenuation.patients import Case, Simulated, labelled_case
from benchmarks.provenance import provenance, write_csv
from spectac.learned.low_counts import NetworkLowCounts, read_low_counts_weights
from spectac.recon import InputError, ReconstructionSettings, SystemModel, filters, osem
from spectac.recon.anchor import FLOOR, Anchor
from spectac.recon.bsrem import RelativeDifferencePrior
from spectac.recon.code_digest import code_digest
from spectac.recon.low_counts import ShortScan, smoothing_prior
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
FILTERS_MM = (10.0, 12.0)
PRIORS = (1.0, 2.0)
"""Weights of the relative-difference prior over that of `--low-counts map`."""
ANCHORS = (0.3, 1.0, 3.0)
"""Weights of the network's image in the reconstruction."""
OSEM = {"iterations": 10, "subsets": 10}


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


class Methods:
    """Images of one patient's studies, each with the true map and TEW."""

    def __init__(self, case: Case, weights: Path | None) -> None:
        self.case = case
        self.settings = ReconstructionSettings(scatter="tew", device="cpu", **OSEM)
        self.network = None
        if weights is not None:
            self.network = NetworkLowCounts(*read_low_counts_weights(weights), repeats=0, heed_limits=False)

    def full(self, study: Study) -> Array:
        """The full time's image (z, y, x)."""
        return self._filtered(StudySolver(study, self.settings)(self.case.mu).values)

    def short(self, study: Study) -> Iterator[tuple[str, Array]]:
        """Name and image (z, y, x) of every method on a short study."""
        case, solver = self.case, StudySolver(study, self.settings)
        values = solver(case.mu).values
        for fwhm_mm in (USUAL_FWHM_MM, *FILTERS_MM):
            yield f"fifth, {fwhm_mm:g} mm", filters.gaussian(values, case.grid.voxel_mm, fwhm_mm)
        scan = ShortScan(solver.projections, case.mu, solver.preview().grid)
        prior = smoothing_prior(scan.effective_s(), case.grid)
        for factor in PRIORS:
            yield f"fifth, MAP x {factor:g}", self._osem(solver, replace(prior, beta=factor * prior.beta))
        if self.network is None:
            return
        image = self.network.estimate(scan).image
        anchor = resample(image.values, image.grid, case.grid)
        anchor = np.maximum(anchor, FLOOR * anchor.max())
        yield "fifth, network after", self._filtered(anchor)
        for weight in ANCHORS:
            yield f"fifth, network inside x {weight:g}", self._filtered(self._osem(solver, Anchor(anchor, weight)))

    def _osem(self, solver: StudySolver, prior: RelativeDifferencePrior | Anchor) -> Array:
        projections = solver.projections
        system = SystemModel(
            projections.acquisition, self.case.grid, mu=self.case.mu, energy_kev=projections.energy_kev,
            crop_to_orbit=True, half_factors=True,
        )  # fmt: skip
        start = prior.image if isinstance(prior, Anchor) else None
        return osem(system, projections.counts, scatter=projections.scatter, prior=prior, start=start, **OSEM)

    def _filtered(self, values: Array) -> Array:
        return filters.gaussian(values, self.case.grid.voxel_mm, USUAL_FWHM_MM)


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


def rows_of(
    seed: int, tracer: str, index: int, number: int, weights: Path | None, code: str
) -> Iterator[dict[str, object]]:
    """Rows of one patient; InputError where it cannot be simulated."""
    origin = provenance(seed)
    simulated, noise = patient_of(seed, tracer, index)
    case, (head, uptake) = labelled_case(simulated, "tew"), (simulated.patient.head, simulated.patient.uptake)
    masks = regions(head.labels, tracer)
    truth = measures(uptake.kbq_per_ml, masks, tracer)
    methods, read = Methods(case, weights), dict[str, list[dict[str, float]]]()
    for full, short in realisations(simulated.expected, noise, number):
        for name, values in (("full time", methods.full(full)), *methods.short(short)):
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
    is a geometric mean. Quarters are those of the full time's means: the largest bias of one, in % of its mean.
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
            }
        )
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
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of a low-counts network")
    options = parser.parse_args()
    if options.patients < 1 or options.realisations < 2:
        parser.error("it takes a patient, and two realisations for a standard deviation")
    if not options.output.resolve().parent.is_dir():
        parser.error(f"the folder of {options.output} does not exist")
    code = code_digest("benchmarks.low_counts.run")
    if options.weights is not None:
        code += "-" + hashlib.sha256(options.weights.read_bytes()).hexdigest()[:12]
    rows = kept(options.output, {"seed": str(options.seed), "realisations": str(options.realisations), "code": code})
    done = {(row["tracer"], row["patient"]) for row in rows}
    for tracer in COUNTS if options.tracer is None else (options.tracer,):
        for index in range(options.patients):
            if (tracer, str(index)) in done:
                continue
            try:
                new = list(rows_of(options.seed, tracer, index, options.realisations, options.weights, code))
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
