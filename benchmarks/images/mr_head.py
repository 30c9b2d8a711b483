"""Reconstructions of an independent head against its truth: Monte Carlo projections, every attenuation model.

    python -m benchmarks.images.mr_head --phantom head_phantom_benauer -o FOLDER [--histories N] [--seed N]

Seven minutes on 2 cores. Writes mr_head.csv and mr_head.png. The phantom is that of mr_phantom.py. Every photon up to
400 keV comes from a Monte Carlo, which shares view angles, the collimator's width and view times with the projector,
but neither attenuation nor sums. Counts have no noise, so that every error is a bias. Each mean is compared with the
truth, and with the "ideal" image, reconstructed from primary photons alone with the true map: small regions lose a part
of their activity to blur even there.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.images.mr_phantom import MATRIX, NUCLIDE, load
from benchmarks.provenance import provenance, write_csv
from spectac.recon import (
    AttenuationModel,
    Chang,
    EnergyWindow,
    GivenMap,
    NoAttenuation,
    ReconstructionSettings,
    Study,
    UniformMap,
    default_grid,
    reconstruct,
)
from spectac.recon.quantify import voi_mean
from spectac.recon.resample import resample
from spectac.recon.types import Array
from spectac.simulate.acquire import Expected, expected_counts
from spectac.simulate.head import Head
from spectac.simulate.scanner import SCANNERS


@dataclass(frozen=True, eq=False)
class Way:
    """One kind of reconstruction: model, scatter method, resolution recovery, and whether the data are primary only."""

    name: str
    model: AttenuationModel
    scatter: str
    resolution: bool
    primary_only: bool = False


def ways(head: Head, energy_kev: float) -> list[Way]:
    """The true map with all corrections and with one left out, then the models of a scanner without CT."""
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
            settings = ReconstructionSettings(scatter=way.scatter, resolution=way.resolution)
            result = reconstruct(study_of(expected, way.primary_only), way.model, settings)
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
    write_csv(options.output / "mr_head.csv", rows)
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
