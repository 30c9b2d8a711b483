"""Images of short scans by filters, a prior and a network, with the true or the predicted map.

Scatter is that of TEW, the resolution is recovered. The network is used after the reconstruction (its image, filtered)
and inside (an anchor of each weight, filtered alike); its training had none of these patients.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from benchmarks.attenuation.patients import Case
from spectac.learned.low_counts import NetworkLowCounts, read_low_counts_weights
from spectac.learned.predict import PredictedMap
from spectac.recon import ReconstructionSettings, SystemModel, filters, osem
from spectac.recon.anchor import Anchor
from spectac.recon.bsrem import RelativeDifferencePrior
from spectac.recon.low_counts import ANCHOR_WEIGHT, ShortScan, smoothing_prior
from spectac.recon.pipeline import StudySolver
from spectac.recon.types import Array, MuMap, Study

USUAL_FWHM_MM = 8.0
"""Gaussian of the full time's image, and of the short one that is called raw."""
FILTERS_MM = (USUAL_FWHM_MM, 10.0, 12.0)
PRIORS = (1.0, 2.0)
"""Weights of the relative-difference prior over that of `--low-counts map`."""
ANCHORS = (0.3, 1.0, ANCHOR_WEIGHT)
"""Weights of the network's image in the reconstruction."""
OSEM = {"iterations": 10, "subsets": 10}
SHORT = "fifth"
FULL, RAW, MAP = "full time", f"fifth, {USUAL_FWHM_MM:g} mm", "fifth, MAP x 1"
AFTER, INSIDE = "fifth, network after", f"fifth, network inside x {ANCHOR_WEIGHT:g}"
READ = (FULL, RAW, MAP, AFTER, INSIDE)
"""The methods of the tasks that take many images."""


class Methods:
    """Images of one patient's studies.

    `names` are the methods; None: all. Without weights those of the network are left out. With `predicted` each scan,
    full and short, has the map that the model of this name takes for it; `fell_back` counts those with the uniform one.
    """

    def __init__(
        self, case: Case, weights: Path | None, names: Iterable[str] | None = None, *, predicted: bool = False
    ) -> None:
        self.case, self.names, self.predicted = case, None if names is None else set(names), predicted
        self.fell_back: dict[str, int] = {FULL: 0, SHORT: 0}
        self.settings = ReconstructionSettings(scatter="tew", device="cpu", **OSEM)
        self.network = None
        if weights is not None:
            self.network = NetworkLowCounts(*read_low_counts_weights(weights), repeats=0, heed_limits=False)

    def images(self, full: Study, short: Study) -> Iterator[tuple[str, Array]]:
        """Name and image (z, y, x) of every method, that of the full time first."""
        solver = StudySolver(full, self.settings)
        yield FULL, self._filtered(solver(self.map_of(solver, FULL)).values)
        scan = _Short(self, short)
        for name, make in scan.ways().items():
            if self.names is None or name in self.names:
                yield name, make()

    def map_of(self, solver: StudySolver, scan: str) -> MuMap:
        """Map of a scan, FULL or SHORT."""
        if not self.predicted:
            return self.case.mu
        mu, spread, _ = PredictedMap().estimate(solver)
        self.fell_back[scan] += spread is None
        return mu

    def _filtered(self, values: Array, fwhm_mm: float = USUAL_FWHM_MM) -> Array:
        return filters.gaussian(values, self.case.grid.voxel_mm, fwhm_mm)


class _Short:
    """One short study; what several methods need is computed once."""

    def __init__(self, methods: Methods, study: Study) -> None:
        self.methods, self.case = methods, methods.case
        self.solver = StudySolver(study, methods.settings)
        self.mu = methods.map_of(self.solver, SHORT)

    def ways(self) -> Mapping[str, Callable[[], Array]]:
        """Function that makes the image of each method."""
        filtered = self.methods._filtered
        ways: dict[str, Callable[[], Array]] = {
            f"fifth, {fwhm_mm:g} mm": partial(lambda mm: filtered(self.plain, mm), fwhm_mm) for fwhm_mm in FILTERS_MM
        }
        ways |= {f"fifth, MAP x {factor:g}": partial(self.by_prior, factor) for factor in PRIORS}
        if self.methods.network is not None:
            ways[AFTER] = lambda: filtered(self.estimate)
            ways |= {
                f"fifth, network inside x {weight:g}": partial(lambda w: filtered(self.inside(w)), weight)
                for weight in ANCHORS
            }
        return ways

    @cached_property
    def plain(self) -> Array:
        """OSEM without a filter."""
        return self.solver(self.mu).values

    @cached_property
    def scan(self) -> ShortScan:
        """What the network sees."""
        return ShortScan(self.solver.projections, self.mu, self.solver.preview().grid)

    @cached_property
    def estimate(self) -> Array:
        """The network's image (z, y, x)."""
        assert self.methods.network is not None
        return self.scan.on_grid(self.methods.network.estimate(self.scan).image, self.case.grid)

    def by_prior(self, factor: float) -> Array:
        """MAP with a multiple of the prior of `--low-counts map`."""
        prior = smoothing_prior(self.scan.effective_s(), self.case.grid)
        return self._osem(replace(prior, beta=factor * prior.beta))

    def inside(self, weight: float) -> Array:
        """OSEM from the network's image, anchored to it."""
        return self._osem(Anchor(self.estimate, weight))

    def _osem(self, prior: RelativeDifferencePrior | Anchor) -> Array:
        projections = self.solver.projections
        system = SystemModel(
            projections.acquisition, self.case.grid, mu=self.mu, energy_kev=projections.energy_kev,
            crop_to_orbit=True, half_factors=True,
        )  # fmt: skip
        start = prior.image if isinstance(prior, Anchor) else None
        return osem(system, projections.counts, scatter=projections.scatter, prior=prior, start=start, **OSEM)
