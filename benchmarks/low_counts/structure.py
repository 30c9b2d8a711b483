"""What a method for short scans wipes out or invents: cold lesions, and a brain without any structure.

    python -m benchmarks.low_counts.structure -o FOLDER [--weights FILE] [--patients N] [--realisations N] [--seed N]

An hour and a half on 2 cores for 5 patients with 10 realisations and the uniform brain with 200. Writes
cold_lesions.csv and uniform_brain.csv, which are resumed, and prints a table of each.

Cold lesions: normal perfusion scans with and without a ball without activity of each radius, the one taken from the
counts of the other, so that they share their noise; contrast is 1 less the mean of its voxels over their mean without
it, each a mean over realisations. Uniform brain: one head with one activity everywhere inside the skull; of each
realisation the largest deviation of a voxel from the mean image of the method, at least 12 mm inside, in % of the mean
there, and the largest deviation of the mean image from the full time's.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from benchmarks.attenuation.patients import Case, Simulated, labelled_case
from benchmarks.low_counts.methods import FULL, RAW, READ, Methods
from benchmarks.low_counts.patients import CAMERA, COUNTS, patient_of, realisations
from benchmarks.low_counts.run import Resumed, code_of, in_words
from benchmarks.provenance import provenance
from spectac.recon import Grid, InputError
from spectac.recon.resample import resample
from spectac.recon.types import Array, Study
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.defects import Defect, with_defect
from spectac.simulate.head import Head, draw_head
from spectac.simulate.regions import BESIDE, INTRACRANIAL, labels
from spectac.simulate.uptake import Uptake

RADII_MM = (5.0, 8.0, 12.0)
EVEN_REALISATIONS = 200
INSIDE_MM = 12.0
BRAIN_KBQ_PER_ML = 40.0
EVEN = 0x6576656E
"""Second number of the seed of the uniform brain."""
Row = dict[str, str]


def lesion_rows(
    seed: int, index: int, radius_mm: float, number: int, weights: Path | None, about: dict[str, str]
) -> Iterator[Row]:
    """Contrast of a lesion in one patient, a row a method."""
    simulated, noise = patient_of(seed, "perfusion", index, "normal")
    mask, left = lesion_of(simulated, radius_mm, np.random.default_rng((seed, index)))
    head, case = simulated.patient.head, labelled_case(simulated, "tew")
    methods, rng = Methods(case, weights, READ), np.random.default_rng((seed, index, 1))
    means: dict[str, list[tuple[float, float]]] = {}
    for full, short in realisations(simulated.study, noise, number):
        cold = thinned(short, left, rng)
        rest = thinned(replace(full, counts=full.counts - short.counts), left, rng)
        pairs = (methods.images(replace(full, counts=cold.counts + rest.counts), cold), methods.images(full, short))
        for (name, with_lesion), (_, without) in zip(*pairs, strict=True):
            means.setdefault(name, []).append((_mean(with_lesion, case, head, mask), _mean(without, case, head, mask)))
    for name, values in means.items():
        low, high = np.array(values).T
        row = {**about, **provenance(seed), "patient": index, "radius_mm": radius_mm, "method": name}
        numbers = {"contrast": 1.0 - low.mean() / high.mean(), "sd": (low / high.mean()).std(ddof=1)}
        yield {key: str(value) for key, value in row.items()} | {key: f"{one:.5g}" for key, one in numbers.items()}


def lesion_of(simulated: Simulated, radius_mm: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Mask (z, y, x) of a cold lesion on the head's grid, and the share (w, v, z, u) of each bin's counts without it.

    The expected counts are linear in the activity: those of the lesion's activity alone are taken away.
    """
    head, uptake = simulated.patient.head, simulated.patient.uptake
    cold = with_defect(uptake, head, Defect("cold", radius_mm), rng)
    lost = replace(uptake, kbq_per_ml=uptake.kbq_per_ml - cold.kbq_per_ml)
    seeds = np.random.SeedSequence(int(rng.integers(2**32))).spawn(2)
    of_lost, of_all = (
        expected_counts(Patient(head, one), simulated.scanner, seed).counts
        for one, seed in zip((lost, uptake), seeds, strict=True)
    )
    shares = np.divide(of_lost, of_all, out=np.zeros_like(of_all), where=of_all > 0)
    return lost.kbq_per_ml > 0, 1.0 - np.minimum(shares, 1.0)


def thinned(study: Study, shares: Array, rng: np.random.Generator) -> Study:
    """Each count kept with the chance of its bin: the study of a patient who lacks what the others come from."""
    return replace(study, counts=rng.binomial(study.counts.astype(np.int64), shares).astype(np.float32))


def _mean(values: Array, case: Case, head: Head, mask: Array) -> float:
    return float(resample(values, case.grid, head.grid).mean(where=mask, dtype=np.float64))


def lesion_table(rows: Sequence[Row]) -> Iterator[dict[str, float | str]]:
    """Mean contrast of each radius and method, and its difference from the full time's."""
    for radius in sorted({row["radius_mm"] for row in rows}, key=float):
        means = {
            method: float(
                np.mean(
                    [float(row["contrast"]) for row in rows if (row["radius_mm"], row["method"]) == (radius, method)]
                )
            )
            for method in dict.fromkeys(row["method"] for row in rows)
        }
        for method, contrast in means.items():
            more = {"to the full time's, %": 100.0 * (contrast / means[FULL] - 1.0)}
            yield {"method": method, "radius, mm": radius, "contrast": contrast, **more}


def even_brain(seed: int) -> Simulated:
    """A head with one activity everywhere inside the skull, and a tenth of it in the rest of the patient."""
    head_seed, photons = np.random.SeedSequence((seed, EVEN)).spawn(2)
    head = draw_head(np.random.default_rng(head_seed))
    empty = np.isin(head.labels, (*BESIDE, *labels("air cavity")))
    shares = np.where(np.isin(head.labels, INTRACRANIAL), 1.0, np.where(empty, 0.0, 0.1))
    activity = (BRAIN_KBQ_PER_ML * shares).astype(np.float32)
    patient, scanner = Patient(head, Uptake(activity, "Tc-99m", "perfusion", {})), CAMERA.around(head)
    expected = expected_counts(patient, scanner, photons).with_counts(COUNTS["perfusion"])
    study = Study(expected.acquisition, expected.windows, expected.counts)
    return Simulated(patient, None, scanner, expected, study)


def deep_inside(head: Head, grid: Grid) -> Array:
    """Voxels (z, y, x) of a grid that lie at least INSIDE_MM inside the skull's inner surface."""
    deep = distance_transform_edt(np.isin(head.labels, INTRACRANIAL), sampling=head.grid.voxel_mm) > INSIDE_MM
    return resample(deep.astype(np.float32), head.grid, grid) > 0.999


def even_rows(seed: int, number: int, weights: Path | None, about: dict[str, str]) -> Iterator[Row]:
    """Largest deviations in the uniform brain, a row a method."""
    simulated = even_brain(seed)
    case = labelled_case(simulated, "tew")
    inside = deep_inside(simulated.patient.head, case.grid)
    methods, voxels = Methods(case, weights, READ), dict[str, list[Array]]()
    for full, short in realisations(simulated.study, np.random.SeedSequence((seed, EVEN, 1)), number):
        for name, values in methods.images(full, short):
            voxels.setdefault(name, []).append(values[inside])
    means = {name: np.mean(values, axis=0) for name, values in voxels.items()}
    level = float(means[FULL].mean())
    for name, values in voxels.items():
        largest = [100.0 * float(np.abs(one - means[name]).max()) / level for one in values]
        spread = 100.0 * float(np.std(values, axis=0, ddof=1).mean()) / level
        bias = 100.0 * float(np.abs(means[name] - means[FULL]).max()) / level
        numbers = {
            "mean_largest": float(np.mean(largest)), "largest": max(largest), "sd": spread, "mean_image_off": bias
        }  # fmt: skip
        row = {**about, **provenance(seed), "method": name} | {key: f"{one:.4g}" for key, one in numbers.items()}
        yield {key: str(value) for key, value in row.items()}


def even_table(rows: Sequence[Row]) -> Iterator[dict[str, float | str]]:
    """The rows, and their largest deviation over the raw fifth's."""
    raw = next(float(row["largest"]) for row in rows if row["method"] == RAW)
    for row in rows:
        numbers = {key: float(row[key]) for key in ("mean_largest", "largest", "sd", "mean_image_off")}
        yield {"method": row["method"], **numbers, "over raw's": numbers["largest"] / raw}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--patients", type=int, default=5, metavar="N", help="with lesions (5)")
    parser.add_argument("--realisations", type=int, default=10, metavar="N", help="of each patient and radius (10)")
    parser.add_argument("--even", type=int, default=EVEN_REALISATIONS, metavar="N", help="of the uniform brain (200)")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of a low-counts network")
    options = parser.parse_args()
    if options.patients < 1 or min(options.realisations, options.even) < 2:
        parser.error("it takes a patient, and two realisations for a standard deviation")
    options.output.mkdir(parents=True, exist_ok=True)
    code = code_of("benchmarks.low_counts.structure", options.weights)
    path, even_path = (options.output / f"{name}.csv" for name in ("cold_lesions", "uniform_brain"))
    about = {"seed": str(options.seed), "realisations": str(options.realisations), "code": code}
    resumed = Resumed(path, about, ("seed", "realisations", "patient", "radius_mm", "method"))
    done = {(row["patient"], float(row["radius_mm"])) for row in resumed.rows}
    for index in range(options.patients):
        for radius_mm in RADII_MM:
            if (str(index), radius_mm) in done:
                continue
            try:
                number = options.realisations
                resumed.add(list(lesion_rows(options.seed, index, radius_mm, number, options.weights, about)))
            except InputError as error:
                print(f"patient {index}, {radius_mm:g} mm: {error}", flush=True)
                continue
            print(f"patient {index}, {radius_mm:g} mm", flush=True)
    for line in lesion_table([row for row in resumed.rows if int(row["patient"]) < options.patients]):
        print(in_words(line))
    of_even = {**about, "realisations": str(options.even)}
    even = Resumed(even_path, of_even, ("seed", "realisations", "method"))
    if not even.rows:
        even.add(list(even_rows(options.seed, options.even, options.weights, of_even)))
    for line in even_table(even.rows):
        print(in_words(line))


if __name__ == "__main__":
    main()
