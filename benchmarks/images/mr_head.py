"""The whole chain on a head that no generator of ours made: Monte Carlo projections, reconstructed, against the truth.

    python benchmarks/mr_head.py --phantom head_phantom_benauer -o FOLDER [--histories N] [--seed N]

The phantom (MIT licence; one head, from an MR, without sinuses) comes as two zip files of labels, DaT_phantom.zip and
Brain_Perfusion_phantom.zip. Every photon up to 400 keV comes from simulate's Monte Carlo, which shares view angles, the
collimator's width and view times with the projector, but neither attenuation nor sums. Counts are left without noise:
what is wrong is bias. Each mean is compared with the truth, and with the "ideal" image, reconstructed from primary
photons alone with the true map: small regions lose a part of their activity to blur even there. Writes mr_head.csv and
mr_head.png.
"""

import argparse
import csv
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from benchmarks.provenance import provenance

from spectac.recon import (
    AttenuationModel,
    Chang,
    EnergyWindow,
    GivenMap,
    Grid,
    NoAttenuation,
    Study,
    UniformMap,
    default_grid,
    reconstruct,
)
from spectac.recon.quantify import voi_mean
from spectac.recon.resample import resample
from spectac.recon.types import Array
from spectac.simulate.acquire import Expected, Patient, expected_counts
from spectac.simulate.anatomy import LABEL
from spectac.simulate.head import Head
from spectac.simulate.scanner import SCANNERS
from spectac.simulate.tracer import Uptake

SIZE, VOXEL_MM = 120, 2.0
DENSITY = {0: 0.0012, 1: 1.61, 2: 1.06, 3: 1.04}
REGION = {0: "outside", 1: "skull", 2: "muscle", 3: "right white matter"}
"""The phantom's four materials (air, skull, soft tissue, brain) as regions of ours that are made of the same."""

KBQ_PER_UNIT = 0.03
MATRIX = (80, 80)
"""The middle of the camera's 128 x 128 pixels, which holds the head."""

NUCLIDE = {"dat": "I-123", "perfusion": "Tc-99m"}


@dataclass(frozen=True, eq=False)
class Phantom:
    """The patient and the regions (name -> (z, y, x) of 0 and 1 on the head's grid) whose means are compared."""

    patient: Patient
    regions: dict[str, Array]


def load(folder: Path, tracer: str) -> Phantom:
    """Phantom with its axis through the middle of its matrix."""
    labels = np.zeros((SIZE, SIZE, SIZE), np.int64)
    labels[21:98, 16:106, 23:95] = _read(folder, "DaT_phantom.zip", "DaT_Attenuation_72x90x77.i33").reshape(77, 90, 72)
    sources = {
        "dat": _read(folder, "DaT_phantom.zip", "DaT_Source_120x120x120.i33"),
        "perfusion": _read(folder, "Brain_Perfusion_phantom.zip", "Brain_Perfusion_Source_120x120x120.i33"),
    }
    volumes = {name: values.reshape(labels.shape) for name, values in sources.items()}
    grid = Grid.upright(labels.shape, (VOXEL_MM,) * 3, [-0.5 * (SIZE - 1) * VOXEL_MM] * 3)
    ours = np.zeros(4, np.uint8)
    density = np.zeros(4, np.float32)
    for index, name in REGION.items():
        ours[index], density[index] = LABEL[name], DENSITY[index]
    head = Head(grid, ours[labels], density[labels], {"phantom": "benauer"})
    kbq = volumes[tracer].astype(np.float32) * np.float32(KBQ_PER_UNIT)
    # The perfusion source tells grey from white matter; both sources are of one head.
    grey_and_white = volumes["perfusion"]
    regions = {
        "striata": grey_and_white == 1012,
        "cortex": grey_and_white == 920,
        "white matter": grey_and_white == 230,
    }
    uptake = Uptake(kbq, NUCLIDE[tracer], tracer, {}, None)
    return Phantom(Patient(head, uptake), {name: mask.astype(np.float32) for name, mask in regions.items()})


def _read(folder: Path, archive: str, name: str) -> Array:
    with zipfile.ZipFile(folder / archive) as file:
        return np.frombuffer(file.read(name), "<u2")


@dataclass(frozen=True, eq=False)
class Way:
    """One way to reconstruct: model, scatter method, resolution recovery, and whether the data are primary only."""

    name: str
    model: AttenuationModel
    scatter: str
    resolution: bool
    primary_only: bool = False


def ways(head: Head, energy_kev: float) -> list[Way]:
    """The true map with everything and with one thing left out, then the models that a scanner without CT has."""
    true = GivenMap(head.mu(energy_kev))
    return [
        Way("primary photons only, true map", true, "none", True, primary_only=True),
        Way("true map", true, "tew", True),
        Way("true map, no resolution recovery", true, "tew", False),
        Way("true map, no scatter correction", true, "none", True),
        Way("uniform map", UniformMap(), "tew", True),
        Way("uniform map, no scatter correction", UniformMap(), "none", True),
        Way("Chang", Chang(), "tew", True),
        Way("Chang, no scatter correction", Chang(), "none", True),
        Way("none", NoAttenuation(), "tew", True),
        Way("none, no scatter correction", NoAttenuation(), "none", True),
    ]


def study_of(expected: Expected, primary_only: bool) -> Study:
    """Noise-free study of all windows, or of the photopeak's primary photons."""
    windows: tuple[EnergyWindow, ...] = expected.windows[:1] if primary_only else expected.windows
    counts = expected.primary[:1] if primary_only else expected.counts
    return Study(expected.acquisition, windows, counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantom", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--scanner", default="siemens-intevo-lehr", help=", ".join(SCANNERS))
    parser.add_argument("--histories", type=int, default=2_500_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    pictures: dict[str, dict[str, Array]] = {}
    for tracer in ("dat", "perfusion"):
        phantom = load(options.phantom, tracer)
        head = phantom.patient.head
        scanner = replace(SCANNERS[options.scanner], scheme="tew+scatter", matrix=MATRIX)
        expected = expected_counts(
            phantom.patient, scanner, options.seed, full=True, histories=options.histories,
            on_batch=lambda done, total, name=tracer: print(f"{name}: batch {done} of {total}", flush=True),
        )  # fmt: skip
        grid = default_grid(expected.acquisition)
        regions = {name: resample(mask, head.grid, grid) for name, mask in phantom.regions.items()}
        truth = resample(phantom.patient.uptake.kbq_per_ml, head.grid, grid)
        true_means = {name: voi_mean(truth, weights) for name, weights in regions.items()}
        pictures[tracer] = {"truth": truth}
        ideal: dict[str, float] = {}
        for way in ways(head, expected_energy(expected)):
            result = reconstruct(
                study_of(expected, way.primary_only), way.model, scatter=way.scatter, resolution=way.resolution
            )
            values = result.image.values / expected.cps_per_kbq
            pictures[tracer][way.name] = values
            means = {name: voi_mean(values, weights) for name, weights in regions.items()}
            ideal = means if way.primary_only else ideal
            row: dict[str, object] = {"tracer": tracer, "nuclide": NUCLIDE[tracer], "way": way.name}
            row |= {
                f"{name.replace(' ', '_')}_error_percent": _percent(means[name], true_means[name]) for name in means
            }
            row |= {
                f"{name.replace(' ', '_')}_over_ideal_percent": _percent(means[name], ideal[name]) for name in means
            }
            row |= {"histories": options.histories, "scanner": scanner.name} | provenance(options.seed)
            rows.append(row)
            print(f"{tracer:10} {way.name:35}", *(value for key, value in row.items() if key.endswith("percent")))
    with (options.output / "mr_head.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(options.output / "mr_head.png", pictures)


def expected_energy(expected: Expected) -> float:
    """Middle of the photopeak: the energy of the true map."""
    window = expected.windows[0]
    return 0.5 * (window.lower_kev + window.upper_kev)


def _percent(value: float, truth: float) -> float:
    return round(100.0 * (value / truth - 1.0), 2)


def draw(path: Path, pictures: dict[str, dict[str, Array]]) -> None:
    """Axial slices through the striata, one row a tracer, one column a way, all in the truth's window."""
    names = [name for name in pictures["dat"] if not name.endswith(("correction", "only, true map"))]
    figure = Figure(figsize=(2.3 * len(names), 2.7 * len(pictures)), layout="constrained")
    axes = figure.subplots(len(pictures), len(names), squeeze=False)
    for row, (tracer, images) in zip(axes, pictures.items(), strict=True):
        truth = images["truth"]
        level = int(np.argmax((truth == truth.max()).sum(axis=(1, 2))))
        for axis, name in zip(row, names, strict=True):
            axis.imshow(
                images[name][level], cmap="inferno", vmin=0, vmax=truth.max() * (0.7 if tracer == "dat" else 1.0)
            )
            axis.set_title(f"{tracer}: {name}", fontsize=7)
            axis.axis("off")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
