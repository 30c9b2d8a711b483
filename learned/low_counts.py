"""Low-counts model `network`: the image of a short scan as it would be without noise, estimated by a network."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectac.learned.low_counts_input import LowCountsInput
from spectac.learned.network import LOW_COUNTS, VolumeNetwork
from spectac.learned.weights_file import read_weights
from spectac.recon.errors import InputError
from spectac.recon.kernels.subnormal import flushing_threads
from spectac.recon.low_counts import LowCountsEstimate, OutsideOfTraining, Repeat, ShortScan
from spectac.recon.types import Array, Image

REPEATS = 6
"""Repetitions of the scan that are simulated, for the noise of what is read in the image."""
REPEATS_SEED = 0
"""Seed of their noise: the same study gives the same numbers."""
MARGIN = 1.15
"""Factor beyond training's ranges of blur and pixels at which the network is not used any more."""
NOISE_MARGIN = 1.5
"""The same for counts per voxel; longer scans than training's are no reason, they need the network least."""
ENERGY_KEV = 3.0
"""Largest distance of the imaged line from one of training."""
VIEWS_SHARE = 0.5
"""Least number of views relative to training's."""
RARE = 0.01
"""Share of the patients that a range leaves out at either end."""


@dataclass(frozen=True)
class LowCountsCoverage:
    """Ranges of the scans that a low-counts network was trained on.

    Parameters
    ----------
    energies_kev
        Energies of the imaged lines in keV.
    counts_per_voxel
        Least expected counts of a voxel of 4 mm at the brain's level.
    sigma_mm
        Least and most standard deviation of the blur at the axis.
    pixel_mm
        Largest pixel of the protocol's projections.
    views
        Fewest views.

    Examples
    --------
    >>> coverage = LowCountsCoverage((140.5,), 3.0, (4.0, 8.0), 5.0, 60)
    >>> LowCountsCoverage.from_json(coverage.to_json()) == coverage
    True
    """

    energies_kev: tuple[float, ...]
    counts_per_voxel: float
    sigma_mm: tuple[float, float]
    pixel_mm: float
    views: float

    def to_json(self) -> dict[str, Any]:
        """Plain values that json.dumps takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "LowCountsCoverage":
        """Coverage from the values of `to_json`; InputError if one is missing or unknown."""
        names = [field.name for field in fields(cls)]
        if sorted(values) != sorted(names):
            raise InputError(f"a low-counts coverage needs {', '.join(names)}; got {', '.join(sorted(values))}")
        plain: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in values.items()}
        return cls(**plain)

    @classmethod
    def of(cls, scans: Iterable[LowCountsInput]) -> "LowCountsCoverage":
        """Coverage of scans; the most extreme 1 % at either end are left out."""
        rows = [(one.energy_kev, one.counts_per_voxel, one.sigma_mm, one.pixel_mm, one.views) for one in scans]
        energies, counts, sigmas, pixels, views = (np.sort(column) for column in zip(*rows, strict=True))
        rare = int(RARE * (len(rows) - 1))
        return cls(
            tuple(float(energy) for energy in np.unique(energies)),
            float(counts[rare]),
            (float(sigmas[rare]), float(sigmas[-1 - rare])),
            float(pixels[-1 - rare]),
            float(views[rare]),
        )

    def doubts(self, seen: LowCountsInput) -> tuple[str, ...]:
        """Reasons why a scan is none like those of training."""
        lines = " and ".join(f"{line:g}" for line in self.energies_kev)
        least, most = self.sigma_mm
        checks = [
            (
                all(abs(seen.energy_kev - line) > ENERGY_KEV for line in self.energies_kev),
                f"the imaged line has {seen.energy_kev:g} keV, training had {lines} keV",
            ),
            (
                seen.counts_per_voxel * NOISE_MARGIN < self.counts_per_voxel,
                f"{seen.counts_per_voxel:.2g} counts for each voxel of 4 mm in the brain, training had "
                f"{self.counts_per_voxel:.2g} at least",
            ),
            (
                not least / MARGIN <= seen.sigma_mm <= MARGIN * most,
                f"the collimator's blur at the axis is sigma {seen.sigma_mm:.1f} mm, training had {least:.1f} to "
                f"{most:.1f} mm",
            ),
            (
                seen.pixel_mm > MARGIN * self.pixel_mm,
                f"pixels of {seen.pixel_mm:.1f} mm, training had {self.pixel_mm:.1f} mm at most",
            ),
            (seen.views < VIEWS_SHARE * self.views, f"{seen.views:g} views, training had {self.views:g} at least"),
        ]
        return tuple(reason for outside, reason in checks if outside)


@dataclass(frozen=True, eq=False)
class NetworkLowCounts:
    """Low-counts model with a network.

    Parameters
    ----------
    network
        Network in evaluation mode.
    coverage
        What its training covered.
    repeats
        Repetitions of the scan to simulate; 0: none.
    heed_limits
        False, for benchmarks: scans outside of training are estimated too.

    Examples
    --------
    >>> from spectac.learned.network import NetworkSettings
    >>> network = VolumeNetwork(NetworkSettings("low-counts", (8, 8), channels=4))
    >>> NetworkLowCounts(network, LowCountsCoverage((140.5,), 3.0, (4.0, 8.0), 5.0, 60)).repeats
    6
    """

    network: VolumeNetwork
    coverage: LowCountsCoverage
    repeats: int = REPEATS
    heed_limits: bool = True

    def estimate(self, scan: ShortScan) -> LowCountsEstimate:
        """Image without noise, and repetitions of the scan that are simulated from it (parametric bootstrap).

        Parameters
        ----------
        scan
            Scan with a map.

        Returns
        -------
        LowCountsEstimate
            On the grid of the study's preview.

        Raises
        ------
        OutsideOfTraining
            If no head shows, or the scan is none like those of training.
        """
        if scan.acquisition.collimator is None:
            raise OutsideOfTraining("the collimator is unknown: give --collimator or --psf")
        try:
            seen = LowCountsInput.of(scan)
        except InputError as error:
            raise OutsideOfTraining(str(error)) from None
        if self.heed_limits and (doubts := self.coverage.doubts(seen)):
            raise OutsideOfTraining("; ".join(doubts))
        values = denoised(self.network, seen)
        if not (np.isfinite(values).all() and values.max() > 0):
            raise OutsideOfTraining("the network's image is empty or not finite")
        image = Image(values, scan.grid, scan.acquisition.image_unit)
        return LowCountsEstimate(image, self._repeated(scan, image) if self.repeats else ())

    def _repeated(self, scan: ShortScan, image: Image) -> tuple[Repeat, ...]:
        rng = np.random.default_rng(REPEATS_SEED)
        emitted = replace(scan.image, values=scan.on_grid(image, scan.protocol_grid))
        expected = scan.expected(emitted).astype(np.float64)
        scans = [scan.with_counts(rng.poisson(expected), scan.scatter) for _ in range(self.repeats)]
        return tuple(
            Repeat(again, replace(image, values=denoised(self.network, LowCountsInput.of(again)))) for again in scans
        )


def read_low_counts_weights(path: Path) -> tuple[VolumeNetwork, LowCountsCoverage]:
    """Network and coverage of a weights file.

    Parameters
    ----------
    path
        Safetensors file.

    Returns
    -------
    tuple
        Network in evaluation mode, and what its training covered.

    Raises
    ------
    InputError
        If the file cannot be read, holds another network, or one whose training was not finished.

    Examples
    --------
    >>> read_low_counts_weights(Path("no file"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    spectac.recon.errors.InputError: no file: cannot be read as weights (safetensors): ...
    """
    network, about = read_weights(path)
    if network.settings.target != LOW_COUNTS:
        raise InputError(f"{path}: gives a {network.settings.target}, not the image of a short scan")
    if "coverage" not in about:
        raise InputError(f"{path}: its training was not finished: run spectac train again, it goes on")
    return network, LowCountsCoverage.from_json(about["coverage"])


def denoised(network: VolumeNetwork, seen: LowCountsInput) -> Array:
    """Image without noise of a scan: the mean of the network's and of its mirror image's.

    Parameters
    ----------
    network
        Low-counts network.
    seen
        Input.

    Returns
    -------
    Array
        Image (z, y, x) in the unit of the input's level.

    Examples
    --------
    >>> from spectac.learned.network import NetworkSettings
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((16, 16, 16), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> network = VolumeNetwork(NetworkSettings("low-counts", (8, 8), channels=4))
    >>> float(denoised(network, LowCountsInput(np.ones(grid.shape), grid, 2.0, 30.0, 6.0, 159.0, 4.0, 60)).mean())
    2.0
    """
    # As in estimate.passes: the mode of subnormal numbers is that of the thread.
    with flushing_threads(1) as thread:
        return thread.submit(_denoised, network, seen).result()


@torch.no_grad()
def _denoised(network: VolumeNetwork, seen: LowCountsInput) -> Array:
    inputs = torch.from_numpy(seen.channels())[None]
    both = network(torch.cat([inputs, inputs.flip(-1)]))
    return np.asarray(0.5 * (both[0] + both[1].flip(-1)) * seen.level)
