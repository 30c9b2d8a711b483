"""Estimate of an attenuation map from a study: previews, several passes of the network, their mean and spread."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from spectac.learned.coverage import Coverage
from spectac.learned.inputs import (
    NetworkInput,
    energy_loss,
    normalised,
    side_windows,
)
from spectac.learned.network import VolumeNetwork
from spectac.learned.spread import SpreadScale, factor_spread
from spectac.learned.weights_file import HEAD, read_weights
from spectac.recon.attenuation import Solver
from spectac.recon.errors import InputError
from spectac.recon.kernels.subnormal import flushing_threads
from spectac.recon.photopeak import photopeak_index
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array, MuMap

PASSES = 8
"""Passes with dropout, half of them mirrored. Their mean is the map, their spread its uncertainty."""

LOSS_MARGIN = 0.03
"""Largest distance of a scatter window's energy loss from the range of training: 4 keV at 140 keV."""

SIDE_COUNTS_SHARE = 0.5
"""Least counts of a scatter window relative to the least of training."""


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """Network of a map with the limits of its use.

    Parameters
    ----------
    network
        Network in evaluation mode.
    coverage
        What the training data covered.
    spread
        What the spread of its passes says about errors.

    Examples
    --------
    >>> from spectac.learned.weights_file import shipped_weights
    >>> TrainedNetwork.read(shipped_weights()).coverage.views
    60.0
    """

    network: VolumeNetwork
    coverage: Coverage
    spread: SpreadScale

    @classmethod
    def read(cls, path: Path) -> "TrainedNetwork":
        """Network of a weights file.

        Parameters
        ----------
        path
            Safetensors file.

        Raises
        ------
        InputError
            If the file holds no network of a head's map, or one whose training was not finished.

        Examples
        --------
        >>> from spectac.learned.weights_file import shipped_weights
        >>> TrainedNetwork.read(shipped_weights()).network.settings.target
        'map'
        """
        network, about = read_weights(path)
        if network.settings.target != "map":
            raise InputError(f"{path}: gives a {network.settings.target}, not a map: it cannot be used here")
        if "coverage" not in about:
            raise InputError(f"{path}: its training was not finished: run spectac train again, it goes on")
        if about.get("map_of") != HEAD:
            raise InputError(f"{path}: its maps hold a head-holder, as those of older trainings: train it again")
        if not about.get("spread"):
            raise InputError(f"{path}: it does not say how far its maps are off, as older trainings: train it again")
        return cls(network, Coverage.from_json(about["coverage"]), SpreadScale.from_json(about["spread"]))


@dataclass(frozen=True, eq=False)
class Estimate:
    """Estimated map with its uncertainty.

    Parameters
    ----------
    mu
        Mean of the passes, on the grid of the previews.
    spread_per_cm
        Half-width (z, y, x) in 1/cm that holds 68 % of errors.
    uncertainty
        Mean spread of the passes over the mean map, inside the head.
    image_spread
        Half-width (z, y, x), relative, whose mean over a region holds 68 % of the errors of its mean activity.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((2, 2, 2), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> mu, zeros = MuMap(np.full(grid.shape, 0.15), grid, 140.5), np.zeros(grid.shape)
    >>> Estimate(mu, zeros, 0.02, zeros).uncertainty
    0.02
    """

    mu: MuMap
    spread_per_cm: Array
    uncertainty: float
    image_spread: Array


def scatter_window(solver: Solver, coverage: Coverage | None = None) -> int | None:
    """Index of the window that fills the scatter channel, None without one: the widest that training covered.

    Parameters
    ----------
    solver
        Solver of the study.
    coverage
        Range of energy losses and counts of training; None: no limit.

    Returns
    -------
    int | None
        Index into the windows of the study.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from spectac.recon import Study
    >>> from spectac.simulate.scanner import Scanner
    >>> scanner = Scanner("tiny", "siemens-lehr", matrix=(8, 8), views=8, scheme="dew")
    >>> study = Study(scanner.acquisition("I-123"), scanner.windows("I-123"), np.ones((2, 8, 8, 8)))
    >>> scatter_window(SimpleNamespace(study=study, projections=SimpleNamespace(window="photopeak")))
    1
    """
    study = solver.study
    peak = photopeak_index(study, solver.projections.window)
    for side in side_windows(study, peak):
        if coverage is None:
            return side
        least, most = coverage.energy_loss
        loss = energy_loss(study.windows[peak], study.windows[side])
        counts = float(study.counts[side].sum(dtype=np.float64))
        enough = counts >= SIDE_COUNTS_SHARE * coverage.least_side_counts
        if least - LOSS_MARGIN <= loss <= most + LOSS_MARGIN and enough:
            return side
    return None


def network_input(solver: Solver, coverage: Coverage | None = None) -> NetworkInput:
    """Network input of a study.

    Parameters
    ----------
    solver
        Solver of the study.
    coverage
        Limits of the scatter window, see `scatter_window`.

    Returns
    -------
    NetworkInput
        Images (z, y, x) on the grid of the preview. Without a scatter window of any activity the scatter is absent.

    Raises
    ------
    InputError
        If the photopeak's preview shows no head, or the collimator of a resolution recovery is unknown.

    Examples
    --------
    >>> from spectac.recon import ReconstructionSettings, Study
    >>> from spectac.recon.pipeline import StudySolver
    >>> from spectac.simulate.scanner import Scanner
    >>> scanner = Scanner("tiny", "siemens-lehr", matrix=(16, 16), pixel_mm=16.0, views=16, scheme="photopeak")
    >>> study = Study(scanner.acquisition("Tc-99m"), scanner.windows("Tc-99m"), np.ones((1, 16, 16, 16)))
    >>> solver = StudySolver(study, ReconstructionSettings(device="cpu"))
    >>> network_input(solver).photopeak.shape
    (64, 64, 64)
    """
    study = solver.study
    image = solver.preview()
    seen = NetworkInput(normalised(image.values, image.grid.voxel_ml), solver.energy_kev)
    recovered = solver.preview(recovered=True).values
    seen = replace(seen, recovered=normalised(recovered, image.grid.voxel_ml))
    side = scatter_window(solver, coverage)
    if side is None:
        return seen
    window = study.windows[side]
    scatter = solver.preview(window.name).values
    if not scatter.max() > 0:
        return seen
    loss = energy_loss(study.windows[photopeak_index(study, solver.projections.window)], window)
    return replace(seen, scatter=normalised(scatter, image.grid.voxel_ml), energy_loss=loss)


def estimate_map(solver: Solver, trained: TrainedNetwork) -> Estimate:
    """Map of a study's head.

    Parameters
    ----------
    solver
        Solver of the study.
    trained
        Network of a map.

    Returns
    -------
    Estimate
        Mean map in 1/cm at the photopeak's energy on the grid of the preview, its spread, and the uncertainty.

    Raises
    ------
    InputError
        If the photopeak's preview shows no head.

    Examples
    --------
    >>> from spectac.recon import ReconstructionSettings, Study
    >>> from spectac.recon.pipeline import StudySolver
    >>> from spectac.simulate.scanner import Scanner
    >>> scanner = Scanner("tiny", "siemens-lehr", matrix=(16, 16), pixel_mm=16.0, views=16, scheme="photopeak")
    >>> study = Study(scanner.acquisition("Tc-99m"), scanner.windows("Tc-99m"), np.ones((1, 16, 16, 16)))
    >>> solver = StudySolver(study, ReconstructionSettings(device="cpu"))
    >>> from spectac.learned.weights_file import shipped_weights
    >>> estimate_map(solver, TrainedNetwork.read(shipped_weights())).mu.per_cm.shape
    (64, 64, 64)
    """
    seen = network_input(solver, trained.coverage)
    volumes = passes(trained.network, seen, solver.energy_kev)
    mu = MuMap(volumes.mean(axis=0), solver.preview().grid, solver.energy_kev)
    spread, unsure = volumes.std(axis=0), uncertainty(volumes, seen, solver.energy_kev)
    scale, water = trained.spread, np.float32(water_per_cm(solver.energy_kev))
    of_factors = factor_spread(volumes / water, 0.1 * mu.grid.voxel_mm[2] * float(water))
    return Estimate(mu, water * scale.of_voxels(spread / water), unsure, scale.of_factors(of_factors))


def uncertainty(volumes: Array, seen: NetworkInput, energy_kev: float) -> float:
    """Mean spread of maps over their mean, inside the head in measured rows; infinite without a head.

    Parameters
    ----------
    volumes
        Maps (n, z, y, x) in 1/cm.
    seen
        Network input: its rows without activity were not measured.
    energy_kev
        Energy of the maps in keV.

    Returns
    -------
    float
        Ratio. The head is where the mean map exceeds half of water.

    Examples
    --------
    >>> maps = 0.15 * np.stack([np.full((4, 4, 4), 0.9), np.full((4, 4, 4), 1.1)])
    >>> round(uncertainty(maps, NetworkInput(np.ones((4, 4, 4)), 140.5), 140.5), 3)
    0.1
    """
    mean, spread = volumes.mean(axis=0), volumes.std(axis=0)
    head = (mean > 0.5 * water_per_cm(energy_kev)) & seen.photopeak.any(axis=(1, 2), keepdims=True)
    return float(spread[head].mean() / mean[head].mean()) if head.any() else math.inf


def passes(network: VolumeNetwork, seen: NetworkInput, energy_kev: float) -> Array:
    """Volumes of PASSES passes with dropout, reproducible: torch's own generator is left as it was.

    Parameters
    ----------
    network
        Network of a map or of a correction.
    seen
        Network input.
    energy_kev
        Energy in keV, for the unit of a map.

    Returns
    -------
    Array
        float32 (PASSES, z, y, x): maps in 1/cm, or correction factors.

    Examples
    --------
    >>> from spectac.learned.weights_file import shipped_weights
    >>> network = TrainedNetwork.read(shipped_weights()).network
    >>> passes(network, NetworkInput(np.zeros((16, 16, 16)), 140.5), 140.5).shape
    (8, 16, 16, 16)
    """
    # torch.set_flush_denormal reaches the calling thread alone. torch's threads inherit the mode of the thread that
    # first needs them: the network runs in a new one.
    with flushing_threads(1) as thread:
        return thread.submit(_passes, network, seen, energy_kev).result()


@torch.no_grad()
def _passes(network: VolumeNetwork, seen: NetworkInput, energy_kev: float) -> Array:
    inputs = torch.from_numpy(seen.channels())[None]
    volumes = []
    network.eval()
    network.dropout.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for n in range(PASSES):
            mirrored = n % 2 == 1
            out = network(inputs.flip(-1) if mirrored else inputs)[0]
            volumes.append((out.flip(-1) if mirrored else out).numpy())
    network.dropout.eval()
    scale = water_per_cm(energy_kev) if network.settings.target == "map" else 1.0
    return np.stack(volumes) * np.float32(scale)
