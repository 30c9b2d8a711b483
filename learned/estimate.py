"""From a study to the estimated map: previews in, several passes of the network, their mean and spread out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectac.learned.coverage import Coverage
from spectac.learned.inputs import Previews, energy_loss, normalised, side_windows
from spectac.learned.network import VolumeNetwork
from spectac.learned.weights_file import read_weights
from spectac.recon.attenuation import Solver
from spectac.recon.errors import InputError
from spectac.recon.kernels.subnormal import flushing_threads
from spectac.recon.scatter import photopeak_index
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array, MuMap, Study

PASSES = 8
"""Passes with dropout, half of them mirrored: their mean is the map, their spread its uncertainty."""


def shipped_weights() -> Path:
    """The weights that come with spectac."""
    return Path(__file__).parent / "weights" / "map.safetensors"


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network with what its training covered."""

    network: VolumeNetwork
    about: Mapping[str, Any]
    coverage: Coverage

    @classmethod
    def read(cls, path: Path) -> "TrainedNetwork":
        """Network of a weights file; InputError where it is no map network that was trained to the end."""
        network, about = read_weights(path)
        if network.settings.target != "map":
            raise InputError(f"{path}: gives a {network.settings.target}, not a map: it cannot be used here")
        if "coverage" not in about:
            raise InputError(f"{path}: its training was not finished: run spectac train again, it goes on")
        return cls(network, about, Coverage.from_json(about["coverage"]))

    @property
    def rounds(self) -> int:
        """Rounds that training covered."""
        return int(self.about["rounds"])


@dataclass(frozen=True, eq=False)
class Estimate:
    """The estimated map on the preview's grid, the spread (z, y, x) between passes in 1/cm, and one number.

    `uncertainty` is that of the first round: its limit was measured on patients in their first round.
    """

    mu: MuMap
    spread_per_cm: Array
    uncertainty: float


LOSS_MARGIN, SIDE_COUNTS_SHARE = 0.03, 0.5
"""How far a scatter window may lie beyond training's energy losses (4 keV at 140 keV), its counts below the least."""


def scatter_window(solver: Solver, coverage: Coverage | None = None) -> int | None:
    """Window that fills the network's scatter channel, the widest that `coverage` knows; None where there is none."""
    study = solver.study
    peak = photopeak_index(study, solver.projections.window)
    return next(
        (side for side in side_windows(study, peak) if coverage is None or _known(study, peak, side, coverage)), None
    )


def _known(study: Study, peak: int, side: int, coverage: Coverage) -> bool:
    """True for a window whose energies and counts training had."""
    least, most = coverage.energy_loss
    loss = energy_loss(study.windows[peak], study.windows[side])
    counts = float(study.counts[side].sum(dtype=np.float64))
    return (
        least - LOSS_MARGIN <= loss <= most + LOSS_MARGIN and counts >= SIDE_COUNTS_SHARE * coverage.least_side_counts
    )


def previews(solver: Solver, coverage: Coverage | None = None) -> Previews:
    """What the network sees of a study before any round; InputError where the photopeak shows nothing."""
    study = solver.study
    side = scatter_window(solver, coverage)
    image = solver.preview()
    voxel_ml = image.grid.voxel_ml
    seen = Previews(normalised(image.values, voxel_ml), solver.energy_kev)
    scatter = None if side is None else solver.preview(study.windows[side].name).values
    if side is None or scatter is None or not scatter.max() > 0:
        return seen
    loss = energy_loss(study.windows[photopeak_index(study, solver.projections.window)], study.windows[side])
    return Previews(seen.photopeak, seen.energy_kev, normalised(scatter, voxel_ml), loss)


def estimate_map(solver: Solver, trained: TrainedNetwork, rounds: int = 1) -> Estimate:
    """Map of a study's head; each further round sees the image that the last one's map corrects.

    Raises InputError where that map reaches through the collimator's face.
    """
    seen = previews(solver, trained.coverage)
    grid = solver.preview().grid
    found = passes(trained.network, seen, solver.energy_kev)
    unsure = uncertainty(found, seen, solver.energy_kev)
    for _ in range(1, rounds):
        image = solver.preview(None, MuMap(found.mean(axis=0), grid, solver.energy_kev))
        corrected = normalised(image.values, grid.voxel_ml)
        seen = Previews(seen.photopeak, seen.energy_kev, seen.scatter, seen.energy_loss, corrected)
        found = passes(trained.network, seen, solver.energy_kev)
    return Estimate(MuMap(found.mean(axis=0), grid, solver.energy_kev), found.std(axis=0), unsure)


def uncertainty(found: Array, seen: Previews, energy_kev: float) -> float:
    """Mean spread of maps (n, z, y, x) over their mean, inside the head in measured rows; infinite without a head."""
    mean, spread = found.mean(axis=0), found.std(axis=0)
    head = (mean > 0.5 * water_per_cm(energy_kev)) & seen.photopeak.any(axis=(1, 2), keepdims=True)
    return float(spread[head].mean() / mean[head].mean()) if head.any() else np.inf


def passes(network: VolumeNetwork, seen: Previews, energy_kev: float) -> Array:
    """Volumes (PASSES, z, y, x) of passes with dropout; a map in 1/cm, a correction as it is.

    The same for the same input: dropout has its own seed, and torch's generator is left as it was.
    """
    # torch.set_flush_denormal reaches the calling thread alone; torch's threads inherit the mode of the one that first
    # needs them, so that the network runs in a new one.
    with flushing_threads(1) as thread:
        return thread.submit(_passes, network, seen, energy_kev).result()


@torch.no_grad()
def _passes(network: VolumeNetwork, seen: Previews, energy_kev: float) -> Array:
    given = torch.from_numpy(seen.channels())[None]
    found = []
    network.eval()
    network.dropout.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for n in range(PASSES):
            mirrored = n % 2 == 1
            out = network(given.flip(-1) if mirrored else given)[0]
            found.append((out.flip(-1) if mirrored else out).numpy())
    network.dropout.eval()
    scale = water_per_cm(energy_kev) if network.settings.target == "map" else 1.0
    return np.stack(found) * np.float32(scale)
