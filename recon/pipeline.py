"""The front door: a study in, an image out, with any attenuation model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from spectac.recon import geometry
from spectac.recon import scatter as windows
from spectac.recon.attenuation import AttenuationModel, NoAttenuation, map_on_grid
from spectac.recon.backprojection import RampWindow, fbp
from spectac.recon.bsrem import RelativeDifferencePrior
from spectac.recon.device import device_errors, own_stream, select_device
from spectac.recon.em import FEWEST_VIEWS, Update, osem
from spectac.recon.errors import DeviceError, InputError
from spectac.recon.orbit_check import check_orbit
from spectac.recon.preview import StudyPreviews
from spectac.recon.system import SystemModel
from spectac.recon.types import Array, Grid, Image, MuMap, Projections, Result, Study

_T = TypeVar("_T")

ALGORITHMS = ("osem", "mlem", "map", "fbp")


@dataclass(frozen=True)
class Settings:
    """A user's settings, checked against each other; the fields are those of `reconstruct`."""

    algorithm: str = "osem"
    iterations: int = 10
    subsets: int = 10
    resolution: bool = True
    prior: RelativeDifferencePrior | None = None
    fbp_filter: RampWindow | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        select_device(self.device)
        if self.algorithm not in ALGORITHMS:
            raise InputError(f"algorithm {self.algorithm!r} is not one of {', '.join(ALGORITHMS)}")
        if (self.algorithm == "map") != (self.prior is not None):
            raise InputError("algorithm map needs a prior (--prior-beta), and no other algorithm takes one")
        if self.fbp_filter is not None and self.algorithm != "fbp":
            raise InputError("an FBP filter belongs to algorithm fbp")


def reconstruct(
    study: Study,
    attenuation: AttenuationModel | None = None,
    *,
    algorithm: str = "osem",
    iterations: int = 10,
    subsets: int = 10,
    resolution: bool = True,
    scatter: str = "auto",
    dew_k: float | None = None,
    scatter_windows: str | Sequence[str] | None = None,
    photopeak: str | None = None,
    prior: RelativeDifferencePrior | None = None,
    fbp_filter: RampWindow | None = None,
    post_filter: Callable[[Image], Image] | None = None,
    grid: Grid | None = None,
    device: str = "auto",
    on_update: Callable[[Update], None] | None = None,
) -> Result:
    """Image of a study, corrected by an attenuation model (default: none).

    `algorithm` is "osem", "mlem" (one subset), "map" (BSREM, needs `prior`) or "fbp"; `scatter`, `dew_k`,
    `scatter_windows` and `photopeak` as in scatter.projections; `grid=None` is geometry.default_grid. The post-filter
    is applied once, to the result's image. `on_update` is called after every subset's update and may raise to stop.
    Raises InputError for settings or data that do not fit each other; Result.notes holds what the user should know.
    """
    settings = Settings(algorithm, iterations, subsets, resolution, prior, fbp_filter, device)
    projections = windows.projections(study, scatter, photopeak, dew_k=dew_k, scatter_windows=scatter_windows)
    solver = StudySolver(study, projections, settings, grid, on_update)
    model = NoAttenuation() if attenuation is None else attenuation
    result = model.correct(solver)
    image = replace(result.image, history=(*study.history, *result.image.history, f"attenuation: {model.name}"))
    if post_filter is not None:
        image = post_filter(image)
    notes = (*study.warnings, *projections.notes, *solver.notes, *result.notes)
    return replace(
        result,
        image=image,
        notes=tuple(dict.fromkeys(notes)),
        projections=projections,
        attenuation=model.name,
        device=solver.device,
    )


class StudySolver:
    """The solver (attenuation.Solver) of one study with one user's settings.

    Parameters
    ----------
    study
        Raw projections.
    projections
        Photopeak projections and expected scatter.
    settings
        How to reconstruct.
    grid
        Grid of the images; None: `geometry.default_grid`.
    on_update
        Called after the update by each subset.

    Raises
    ------
    InputError
        For projections that are already corrected, fewer than 4 views, no counts, and an orbit through the object.

    Examples
    --------
    >>> from spectac.recon import Acquisition, EnergyWindow
    >>> acquisition = Acquisition(
    ...     np.arange(0.0, 360.0, 30.0), np.full(12, 140.0), (2, 32), (4.0, 4.0), np.full(12, 10.0), "Tc-99m", None
    ... )
    >>> study = Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), np.ones((1, 12, 2, 32)))
    >>> projections = Projections(acquisition, study.counts[0], 140.5)
    >>> StudySolver(study, projections, Settings(resolution=False, subsets=3))(None).unit
    'cps/mL'
    """

    def __init__(
        self,
        study: Study,
        projections: Projections,
        settings: Settings,
        grid: Grid | None = None,
        on_update: Callable[[Update], None] | None = None,
    ) -> None:
        self.study = study
        self.projections = projections
        self.settings = settings
        self.grid = geometry.default_grid(study.acquisition) if grid is None else grid
        self.on_update = on_update
        self.notes: list[str] = []
        self.device = "cpu"
        self._previews = StudyPreviews(study, projections, lambda work: self._on_device("previewed", work)[0])
        refused = study.acquisition.corrections & {"ATTN", "SCAT"}
        if refused:
            raise InputError(
                f"the projections are already corrected for {' and '.join(sorted(refused))} (CorrectedImage): "
                "spectac needs the projections as they were measured"
            )
        if study.acquisition.views < FEWEST_VIEWS:
            raise InputError(f"at least {FEWEST_VIEWS} views are needed, got {study.acquisition.views}")
        if not projections.counts.any():
            raise InputError("the photopeak projections hold no counts")
        check_orbit(projections)
        self._note_acquisition()

    @property
    def energy_kev(self) -> float:
        """Energy of the imaged line in keV."""
        return self.projections.energy_kev

    @property
    def scatter_corrected(self) -> bool:
        """True where scatter is part of the model."""
        return self.projections.scatter is not None

    def __call__(self, mu: MuMap | None) -> Image:
        """Reconstruct with the user's settings and this map (resampled to the grid), before the post-filter."""
        settings = self.settings
        if settings.algorithm == "fbp":
            if mu is not None:
                raise InputError(
                    "filtered backprojection cannot use a mu-map: choose --attenuation chang or none, "
                    "or an iterative algorithm"
                )
            scatter = self.projections.scatter
            return self.fbp(self.projections.counts if scatter is None else self.projections.counts - scatter)
        subsets = 1 if settings.algorithm == "mlem" else settings.subsets
        (values, lost), self.device = self._on_device(
            "reconstructed", lambda device: self._iterated(mu, subsets, device)
        )
        if lost > 0:
            share = lost / float(self.projections.counts.sum(dtype=np.float64))
            self.notes.append(
                f"{lost:.0f} counts ({share:.2%}) lie in bins that no voxel of the grid near the orbit reaches"
            )
        blur = "with" if settings.resolution else "without"
        described = (
            f"{settings.algorithm} {settings.iterations} x {subsets}, {blur} resolution recovery, "
            f"scatter: {self.projections.scatter_method}"
        )
        return Image(values, self.grid, self.study.acquisition.image_unit, history=(described,))

    def _on_device(self, what: str, work: Callable[[str], _T]) -> tuple[_T, str]:
        """Result of `work` on the device of the settings, and that device; with "auto" the CPU where the GPU fails."""
        device = select_device(self.settings.device)
        try:
            with device_errors(), own_stream(device):
                return work(device), device
        except DeviceError as error:
            if self.settings.device != "auto":
                raise
            reason = str(error)
        # Outside of the block, where the GPU's memory is free again.
        self.notes.append(f"{what} on the CPU: {reason}")
        return work("cpu"), "cpu"

    def _iterated(self, mu: MuMap | None, subsets: int, device: str) -> tuple[Array, float]:
        """Image (z, y, x) by the settings' iterations, and the counts in bins whose expectation is 0."""
        lost: dict[int, Array] = {}

        def watch(update: Update) -> None:
            lost[(update.done - 1) % subsets] = update.lost
            if self.on_update is not None:
                self.on_update(update)

        system = self._system(mu, device)
        scatter = self.projections.scatter
        image = osem(
            system,
            system.put(self.projections.counts),
            iterations=self.settings.iterations,
            subsets=subsets,
            scatter=None if scatter is None else system.put(scatter),
            prior=self.settings.prior,
            on_update=watch,
        )
        return system.get(image), sum(float(one) for one in lost.values())

    def preview(self, window: str | None = None, mu: MuMap | None = None) -> Image:
        """Image of a window (None: the photopeak) by the fixed protocol of preview.py, corrected by `mu` if given."""
        return self._previews(window, mu)

    def project(self, image: Image, mu: MuMap | None) -> Array:
        """Expected counts (v, z, u) of an image on the solver's grid, without scatter."""
        if not image.grid.same_as(self.grid):
            raise InputError(f"the image's grid {image.grid.shape} is not the reconstruction's {self.grid.shape}")
        return self._system(mu, "cpu").forward(image.values)

    def fbp(self, counts: Array) -> Image:
        """Filtered backprojection of counts (v, z, u) of any sign, without attenuation."""
        window = self.settings.fbp_filter or RampWindow()
        values = fbp(self.study.acquisition, counts, self.grid, window)
        described = f"fbp, {window.name}, scatter: {self.projections.scatter_method}"
        return Image(values, self.grid, self.study.acquisition.image_unit, history=(described,))

    def _system(self, mu: MuMap | None, device: str) -> SystemModel:
        return SystemModel(
            self.study.acquisition,
            self.grid,
            mu=None if mu is None else map_on_grid(mu, self.grid),
            energy_kev=self.energy_kev,
            resolution=self.settings.resolution,
            device=device,
            crop_to_orbit=True,
            half_factors=True,
        )

    def _note_acquisition(self) -> None:
        acquisition = self.study.acquisition
        if (doubt := geometry.coverage_doubt(acquisition)) is not None:
            self.notes.append(doubt)
        if not acquisition.times_known:
            self.notes.append("the view times are unknown: the image is in relative units")
        collimator = acquisition.collimator
        if collimator is None or not self.settings.resolution or self.settings.algorithm == "fbp":
            return
        if collimator.line is None and collimator.published_fwhm_mm is None:
            self.notes.append(
                f"the resolution of collimator {collimator.name} was computed from its holes and could not be "
                "compared with a vendor's figure: check it with a line source, or give --psf"
            )
