"""Images for scatter models that need one, and their estimates in the pixels of the study.

Scatter is smooth, so all of it happens on pixels of about COARSE_MM by a protocol of its own, whatever algorithm the
user chose; the estimate is then interpolated to the study's pixels.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import map_coordinates

from spectac.recon import geometry
from spectac.recon.em import FEWEST_VIEWS, Update, osem
from spectac.recon.errors import InputError
from spectac.recon.kernels.subnormal import subnormals_are_zero
from spectac.recon.resample import rebin, rebin_acquisition, resample
from spectac.recon.scatter.models import ScatterEstimate, ScatterModel
from spectac.recon.system import SystemModel
from spectac.recon.types import Acquisition, Array, EnergyWindow, Image, MuMap, Projections, Study

COARSE_MM = 8.0
"""Pixels are summed in whole numbers to about this size."""
ITERATIONS = 4
"""OSEM iterations of an image, with resolution recovery where the collimator is known."""
SUBSETS = 10
"""Subsets of that OSEM; fewer where there are fewer than 40 views."""


@dataclass(frozen=True)
class TimedEstimate:
    """A scatter estimate and the seconds that it took.

    Parameters
    ----------
    estimate
        Estimate, its counts in the study's pixels.
    seconds
        Time of all rounds.

    Examples
    --------
    >>> TimedEstimate(ScatterEstimate(None, "none"), 0.0).seconds
    0.0
    """

    estimate: ScatterEstimate
    seconds: float


class ScatterRounds:
    """Estimates of one study's scatter by one model, a new one for every mu-map; it is that model's ScatterContext.

    Parameters
    ----------
    study
        Raw projections.
    projections
        Photopeak of the study.
    model
        Scatter model.

    Raises
    ------
    InputError
        For a study that the model cannot do.

    Examples
    --------
    >>> from spectac.recon.scatter.measured import projections
    >>> acquisition = Acquisition(
    ...     np.arange(0.0, 360.0, 30.0), np.full(12, 140.0), (4, 32), (4.0, 4.0), np.full(12, 10.0), "Tc-99m", None
    ... )
    >>> study = Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), np.ones((1, 12, 4, 32)))
    >>> class Tenth:
    ...     name = "tenth"
    ...
    ...     def rounds(self, context):
    ...         return 1
    ...
    ...     def expected(self, context, image, mu):
    ...         return ScatterEstimate(0.1 * context.window_counts(context.photopeak), self.name)
    >>> rounds = ScatterRounds(study, projections(study), Tenth())
    >>> mu = MuMap(np.zeros(rounds.grid.shape), rounds.grid, 140.511)
    >>> round(float(rounds.scatter(mu).estimate.counts.max()), 3)
    0.1
    """

    def __init__(self, study: Study, projections: Projections, model: ScatterModel) -> None:
        assert projections.photopeak is not None
        self.study, self.model = study, model
        self.photopeak: EnergyWindow = projections.photopeak
        self.energy_kev = projections.energy_kev
        pixel_z, pixel_u = study.acquisition.pixel_mm
        self._factors = (max(1, round(COARSE_MM / pixel_z)), max(1, round(COARSE_MM / pixel_u)))
        self.acquisition: Acquisition = rebin_acquisition(study.acquisition, *self._factors)
        self.grid = geometry.default_grid(self.acquisition)
        self.number = model.rounds(self)
        self._estimates: dict[str, TimedEstimate] = {}
        self._system: tuple[MuMap, SystemModel] | None = None

    def window_counts(self, window: EnergyWindow) -> Array:
        """Measured counts (v, z, u) of one of the study's windows, in the pixels of `acquisition`."""
        return rebin(self.study.counts[self.study.windows.index(window)], *self._factors)

    def project(self, image: Image, mu: MuMap) -> Array:
        """Expected unscattered counts (v, z, u) of an image on `grid`."""
        return self._system_of(mu).forward(image.values)

    def scatter(self, mu: MuMap | None, on_update: Callable[[Update], None] | None = None) -> TimedEstimate:
        """Expected scatter in the study's pixels for reconstructions with a map on any grid; computed once a map.

        `on_update` is called after every update of the images that the model is shown.
        """
        if mu is None:
            return TimedEstimate(self.model.expected(self, None, None), 0.0)
        digest = hashlib.sha256(mu.per_cm.tobytes() + mu.grid.affine_lps.tobytes()).hexdigest()
        if digest not in self._estimates:
            began = time.perf_counter()
            estimate = self._estimated(mu, on_update)
            self._estimates[digest] = TimedEstimate(estimate, time.perf_counter() - began)
        return self._estimates[digest]

    @subnormals_are_zero()
    def _estimated(self, mu: MuMap, on_update: Callable[[Update], None] | None) -> ScatterEstimate:
        coarse = MuMap(np.maximum(resample(mu.per_cm, mu.grid, self.grid), 0.0), self.grid, mu.energy_kev)
        system, counts = self._system_of(coarse), self.window_counts(self.photopeak)
        subsets = max(1, min(SUBSETS, system.views // FEWEST_VIEWS))
        scatter: Array | None = None

        def watch(update: Update) -> None:
            if on_update is not None:
                on_update(replace(update, purpose="scatter"))

        for _ in range(self.number):
            values = osem(system, counts, iterations=ITERATIONS, subsets=subsets, scatter=scatter, on_update=watch)
            image = Image(values, self.grid, self.study.acquisition.image_unit)
            estimate = self.model.expected(self, image, coarse)
            if estimate.counts is None or estimate.counts.shape != self.acquisition.shape:
                given = "none" if estimate.counts is None else f"shape {estimate.counts.shape}"
                raise InputError(
                    f"scatter model {self.model.name} must give counts (v, z, u) of its context's acquisition, shape "
                    f"{self.acquisition.shape}, not {given}"
                )
            scatter = system.as_projections(np.maximum(estimate.counts, 0.0))
        assert scatter is not None
        return replace(estimate, counts=self._in_the_studys_pixels(system.get(scatter)))

    def _system_of(self, mu: MuMap) -> SystemModel:
        """System with a map on `grid`; that of the last map is kept."""
        if self._system is None or self._system[0] is not mu:
            self._system = (
                mu,
                SystemModel(
                    self.acquisition,
                    self.grid,
                    mu=mu,
                    energy_kev=self.energy_kev,
                    resolution=self.acquisition.collimator is not None,
                    crop_to_orbit=True,
                ),
            )
        return self._system[1]

    def _in_the_studys_pixels(self, counts: Array) -> Array:
        """Counts (v, z, u) of coarse pixels, interpolated linearly to the study's."""
        places = [
            (np.arange(size) + 0.5 + (factor * coarse - size) // 2) / factor - 0.5
            for size, coarse, factor in zip(
                self.study.acquisition.matrix, self.acquisition.matrix, self._factors, strict=True
            )
        ]
        where = np.meshgrid(*places, indexing="ij")
        fine = [map_coordinates(view, where, order=1, mode="nearest") for view in counts.astype(np.float32)]
        return np.asarray(fine, np.float32) / np.float32(np.prod(self._factors))
