"""The front door: a study in, an image out, with any attenuation model."""

import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from spectac.recon import geometry
from spectac.recon.anchor import Anchor
from spectac.recon.attenuation import AttenuationModel, NoAttenuation
from spectac.recon.backprojection import fbp
from spectac.recon.bsrem import RelativeDifferencePrior
from spectac.recon.calibration import Calibration, read_calibration
from spectac.recon.device import device_errors, own_stream, select_device
from spectac.recon.em import FEWEST_VIEWS, Update, osem
from spectac.recon.errors import DeviceError, InputError
from spectac.recon.fan_beam import fan_doubts
from spectac.recon.held_head import HeadHolding, HeldHead
from spectac.recon.low_counts import (
    ANCHOR_WEIGHT,
    LOW_COUNTS_PROTOCOL,
    LowCountsEstimate,
    OutsideOfTraining,
    ShortScan,
    low_counts_model,
    smoothing_prior,
)
from spectac.recon.orbit_check import check_orbit
from spectac.recon.photopeak import photopeak_index
from spectac.recon.preview import placed, preview_grid, preview_image
from spectac.recon.resample import map_on_grid, resample
from spectac.recon.scatter.measured import MeasuredCounts, chosen_model, projections
from spectac.recon.scatter.models import ScatterModel
from spectac.recon.scatter.rounds import ScatterRounds
from spectac.recon.scatter.side_windows import Photopeak
from spectac.recon.settings import LOW_COUNTS, USUAL_POST_FILTER, ReconstructionSettings
from spectac.recon.system import SystemModel
from spectac.recon.types import Array, Grid, Image, LowCounts, MuMap, Projections, Result, Study

_T = TypeVar("_T")

NO_LOW_COUNTS = LowCounts()


def reconstruct(
    study: Study,
    attenuation: AttenuationModel | None = None,
    settings: ReconstructionSettings | None = None,
    *,
    scatter: ScatterModel | None = None,
    grid: Grid | None = None,
    on_update: Callable[[Update], None] | None = None,
) -> Result:
    """Image of a study, corrected by an attenuation model.

    Parameters
    ----------
    study
        Raw projections (w, v, z, u).
    attenuation
        Model of the attenuation; None: no correction.
    settings
        Algorithm, scatter, filters, calibration, device; None: the defaults of ReconstructionSettings.
    scatter
        Scatter model in place of the settings' method.
    grid
        Grid of the image; None: geometry.default_grid.
    on_update
        Called after every subset's update, those of a scatter model's images included; it may raise to stop.

    Returns
    -------
    Result
        Image (z, y, x) in cps/mL, or kBq/mL with a calibration, after the post-filter; the map that was used, and
        notes on what the user should know.

    Raises
    ------
    InputError
        For settings or data that do not fit each other.

    Examples
    --------
    >>> from spectac.recon import Acquisition, EnergyWindow
    >>> acquisition = Acquisition(
    ...     np.arange(0.0, 360.0, 30.0), np.full(12, 140.0), (2, 32), (4.0, 4.0), np.full(12, 10.0), "Tc-99m", None
    ... )
    >>> study = Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), np.ones((1, 12, 2, 32)))
    >>> reconstruct(study, settings=ReconstructionSettings(resolution=False, subsets=3)).image.unit
    'cps/mL'
    """
    model = NoAttenuation() if attenuation is None else attenuation
    return StudySolver(study, settings, grid, scatter).corrected(model, on_update)


def _calibration(study: Study, settings: ReconstructionSettings) -> Calibration | None:
    """The calibration of the settings, checked against the study; the rest is checked when the model is known."""
    if settings.calibration is None:
        return None
    calibration = read_calibration(settings.calibration)
    calibration.check(study, settings.photopeak)
    return calibration


@dataclass(frozen=True, eq=False)
class _Kept:
    """An image that a solver has computed, the notes that it left and the seconds that it took."""

    image: Image
    device: str
    steadying: "_Steadying"
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class _Steadying:
    """What low counts put into a reconstruction: prior, start and repeated scans, and how they are told."""

    told: LowCounts = NO_LOW_COUNTS
    prior: RelativeDifferencePrior | Anchor | None = None
    start: Array | None = None
    repeats: tuple[Image, ...] = ()


class StudySolver:
    """The solver (attenuation.Solver) of one study with one user's settings.

    Previews, the image without a map and the scatter of a map are computed once and serve all models that the solver is
    given. `borrowed_s` are the seconds that the current model saved because an earlier one had them computed.
    `projections` are those of the current model, `photopeak` those of the study, before any scatter that needs a map.

    Parameters
    ----------
    study
        Raw projections.
    settings
        How to reconstruct; None: the defaults of ReconstructionSettings.
    grid
        Grid of the images; None: `geometry.default_grid`.
    scatter
        Scatter model in place of the settings' method.

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
    >>> StudySolver(study, ReconstructionSettings(resolution=False, subsets=3))(None).unit
    'cps/mL'
    """

    def __init__(
        self,
        study: Study,
        settings: ReconstructionSettings | None = None,
        grid: Grid | None = None,
        scatter: ScatterModel | None = None,
    ) -> None:
        self.study = study
        self.settings = ReconstructionSettings() if settings is None else settings
        select_device(self.settings.device)
        context = MeasuredCounts(Photopeak(study, photopeak_index(study, self.settings.photopeak)))
        model = chosen_model(context, self.settings) if scatter is None else scatter
        self.projections = self.photopeak = projections(study, self.settings, model)
        self._rounds = ScatterRounds(study, self.photopeak, model) if model.rounds(context) else None
        self._calibration = _calibration(study, self.settings)
        # What is missing is told before anything takes time.
        self._heads = HeadHolding(study, self.photopeak, self.scatter_corrected, self.settings.holder)
        way, weights = self.settings.low_counts, self.settings.low_counts_weights
        self._low_counts_model = None if way in LOW_COUNTS else low_counts_model(way, weights)
        self._held: HeldHead | None = None
        self.grid = geometry.default_grid(study.acquisition) if grid is None else grid
        self.on_update: Callable[[Update], None] | None = None
        self.notes: list[str] = []
        self.device = "cpu"
        self._steadying = _Steadying()
        self.borrowed_s = 0.0
        self._kept: dict[str, _Kept] = {}
        self._used: set[str] = set()
        refused = study.acquisition.corrections & {"ATTN", "SCAT"}
        if refused:
            raise InputError(
                f"the projections are already corrected for {' and '.join(sorted(refused))} (CorrectedImage): "
                "spectac needs the projections as they were measured"
            )
        if study.acquisition.views < FEWEST_VIEWS:
            raise InputError(f"at least {FEWEST_VIEWS} views are needed, got {study.acquisition.views}")
        if not self.projections.counts.any():
            raise InputError("the photopeak projections hold no counts")
        check_orbit(self.projections)
        self._note_acquisition()
        if self.settings.unused:
            named = ", ".join(self.settings.unused)
            self.notes.append(f"algorithm {self.settings.algorithm} does not use what was given for: {named}")
        self._acquisition_notes = tuple(self.notes)

    def corrected(
        self,
        model: AttenuationModel,
        on_update: Callable[[Update], None] | None = None,
    ) -> Result:
        """Result of an attenuation model as `reconstruct` returns it; notes and `borrowed_s` begin anew.

        Where the image without a map was computed for an earlier model, `on_update` is not called for it again.
        """
        self._begin(on_update)
        study = self.study
        if self._calibration is not None:
            self._calibration.check_corrections(self.projections.scatter_method, model.name)
        result = model.correct(self)
        # The prior takes the place of the post-filter.
        smoothing = None if self._steadying.told.method == "map" else self.settings.smoothing
        projections, held = self.projections, self._held
        if self.settings.holder is not None and result.mu is not None and held is None:
            self.notes.append(f"attenuation model {model.name} takes no --holder: its map was used as it is")
        image = replace(result.image, history=(*study.history, *result.image.history, f"attenuation: {model.name}"))
        notes = (*study.warnings, *projections.notes, *self.notes, *result.notes)
        result = replace(
            result,
            image=image if smoothing is None else smoothing(image),
            notes=tuple(dict.fromkeys(notes)),
            projections=projections,
            attenuation=model.name,
            algorithm=result.algorithm or self.settings.algorithm,
            holder=None if held is None else held.holder,
            holder_share=None if held is None else held.share,
            skull=None if held is None or held.skull is None else held.skull.fit,
            device=self.device,
            low_counts=self._steadying.told,
            repeats=tuple(one if smoothing is None else smoothing(one) for one in self._steadying.repeats),
        )
        if self._calibration is None:
            return result
        image, per_kbq = self._calibration.applied(result, study), self._calibration.cps_per_kbq
        repeats = tuple(replace(one, values=one.values / per_kbq, unit=image.unit) for one in result.repeats)
        return replace(result, image=image, repeats=repeats)

    def _begin(self, on_update: Callable[[Update], None] | None) -> None:
        self.notes, self.device, self.on_update = list(self._acquisition_notes), "cpu", on_update
        self.borrowed_s, self._used, self.projections = 0.0, set(), self.photopeak
        self._held, self._steadying = None, _Steadying()
        self._heads.on_update = on_update

    def with_holder(self, holder: Path | None) -> "StudySolver":
        """The same solver, with all that it has computed, for another `holder` of the settings."""
        other = self._with(replace(self.settings, holder=holder))
        other._heads = self._heads.with_holder(holder)
        return other

    def without_low_counts(self) -> "StudySolver":
        """The same solver, with its previews, for `settings.without_low_counts()`."""
        other = self._with(self.settings.without_low_counts())
        other._low_counts_model = None
        other._kept = {name: kept for name, kept in self._kept.items() if name != "image"}
        return other

    def _with(self, settings: ReconstructionSettings) -> "StudySolver":
        other = copy(self)
        other.settings = settings
        other.notes, other._used = list(self._acquisition_notes), set()
        other._held = None
        return other

    @property
    def energy_kev(self) -> float:
        """Energy of the imaged line in keV."""
        return self.projections.energy_kev

    @property
    def scatter_corrected(self) -> bool:
        """True where scatter is part of the model."""
        return self._rounds is not None or self.projections.scatter is not None

    def scatter(self, mu: MuMap | None) -> Array | None:
        """Expected scatter (v, z, u) of reconstructions with this map; None without correction.

        Raises InputError where the scatter method needs a map and there is none.
        """
        return self._with_scatter(mu).scatter

    def _with_scatter(self, mu: MuMap | None) -> Projections:
        """The photopeak with the scatter of this map. `projections` tell of that of a map, if there was one."""
        if self._rounds is None:
            return self.photopeak
        began = time.perf_counter()
        timed = self._rounds.scatter(mu, self.on_update)
        spent_s, estimate = time.perf_counter() - began, timed.estimate
        first = self.projections is self.photopeak
        if first:
            self.borrowed_s += max(0.0, timed.seconds - spent_s)
        found = replace(
            self.photopeak,
            scatter=estimate.counts,
            scatter_method=estimate.method,
            scatter_windows=estimate.windows,
            scatter_parameters=estimate.parameters,
            notes=estimate.notes,
        )
        if first or mu is not None:
            self.projections = found
        return found

    def beside(self, mu: MuMap, default: str | None = None, *, head_alone: bool = False) -> MuMap:
        """Map with the holder of the settings, or else the default, instead of what it has beside the head.

        As it is without either.
        """
        return self.taken(self._heads.held(mu, default, head_alone=head_alone))

    def checked(self, head: MuMap, default: str | None = None) -> HeldHead:
        """A head with what `beside` gives, its skull corrected where the counts contradict it.

        Raises InputError where the counts cannot tell. The result tells of a head that is `taken`.
        """
        return self._heads.checked(head, default)

    def taken(self, held: HeldHead) -> MuMap:
        """The map of a head that is used; the result tells of it."""
        self._held = held
        self.notes += held.notes
        return held.mu

    def __call__(self, mu: MuMap | None, *, scatter_map: MuMap | None = None) -> Image:
        """Reconstruct with the user's settings and this map (resampled to the grid), before the post-filter.

        `scatter_map` is the map of scatter methods that need one where the reconstruction has none.
        """
        if mu is not None or (self._rounds is not None and scatter_map is not None):
            return self._reconstructed(mu, scatter_map)
        if self.settings.low_counts != "none":
            self.preview()  # which has seconds of its own
        kept = self._once("image", lambda: self._reconstructed(None))
        self.scatter(None)  # The image may have been kept; how its scatter was treated is said again.
        self.device, self._steadying = kept.device, kept.steadying
        return kept.image

    def _once(self, name: str, make: Callable[[], Image]) -> _Kept:
        """Image of `make`, which is called once; its notes are repeated for every model that asks."""
        if name not in self._kept:
            before, began = len(self.notes), time.perf_counter()
            image = make()
            seconds = time.perf_counter() - began
            self._kept[name] = _Kept(image, self.device, self._steadying, tuple(self.notes[before:]), seconds)
        elif name not in self._used:
            self.notes += self._kept[name].notes
            self.borrowed_s += self._kept[name].seconds
        self._used.add(name)
        return self._kept[name]

    def _reconstructed(self, mu: MuMap | None, scatter_map: MuMap | None = None) -> Image:
        settings = self.settings
        if settings.algorithm == "fbp" and mu is not None:
            raise InputError(
                "filtered backprojection cannot use a mu-map: choose --attenuation chang or none, "
                "or an iterative algorithm"
            )
        projections = self._with_scatter(scatter_map if mu is None else mu)
        if settings.algorithm == "fbp":
            scatter = projections.scatter
            return self.fbp(projections.counts if scatter is None else projections.counts - scatter)
        subsets = 1 if settings.algorithm == "mlem" else settings.subsets
        self._steadying, self.device = self._on_device(
            "low counts", lambda device: self._steadied(mu, device, projections)
        )
        (values, lost), self.device = self._on_device(
            "reconstructed", lambda device: self._iterated(mu, subsets, device, projections)
        )
        if lost > 0:
            share = lost / float(self.projections.counts.sum(dtype=np.float64))
            self.notes.append(
                f"{lost:.0f} counts ({share:.2%}) lie in bins that no voxel of the grid near the orbit reaches"
            )
        blur = "with" if settings.resolution else "without"
        described = (
            f"{settings.algorithm} {settings.iterations} x {subsets}, {blur} resolution recovery, "
            f"scatter: {projections.scatter_method}"
        )
        if self._steadying.told.method != "none":
            described += f", low counts: {self._steadying.told.method}"
        return Image(values, self.grid, self.study.acquisition.image_unit, history=(described,))

    def _steadied(self, mu: MuMap | None, device: str, projections: Projections) -> _Steadying:
        """What the settings' low counts put in; that of "map", with a note, where a model must not be used."""
        method = self.settings.low_counts
        if method == "none":
            return _Steadying(prior=self.settings.prior)
        scan = ShortScan(projections, mu, self.preview().grid, device)
        if self._low_counts_model is not None:
            try:
                if mu is None:
                    raise OutsideOfTraining("it needs an attenuation map")
                return self._anchored(method, self._low_counts_model.estimate(scan), scan)
            except OutsideOfTraining as error:
                instead = ", in place of the post-filter too" if self.settings.smoothing is not None else ""
                self.notes.append(f"low counts: map instead of {method}{instead}: {error}")
        prior = smoothing_prior(scan.effective_s(), self.grid)
        return _Steadying(LowCounts("map", prior_beta=prior.beta), prior)

    def _anchored(self, method: str, estimate: LowCountsEstimate, scan: ShortScan) -> _Steadying:
        """Anchor of a model's image on the solver's grid, and its repeated scans there."""
        self.notes += estimate.notes
        if self.settings.smoothing is None:
            self.notes.append(
                f"low counts: the image of {method} needs a post-filter, without one single voxels show a pattern: "
                f"give that of the full time, usually --post-filter {USUAL_POST_FILTER}"
            )
        values = scan.on_grid(estimate.image, self.grid)
        repeats = tuple(one.scan.anchored(one.image) for one in estimate.repeats)
        return _Steadying(
            LowCounts(method, anchor_weight=ANCHOR_WEIGHT, protocol=LOW_COUNTS_PROTOCOL),
            Anchor(values, ANCHOR_WEIGHT),
            values,
            tuple(replace(one, values=resample(one.values, one.grid, self.grid), grid=self.grid) for one in repeats),
        )

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

    def _iterated(self, mu: MuMap | None, subsets: int, device: str, projections: Projections) -> tuple[Array, float]:
        """Image (z, y, x) by the settings' iterations, and the counts in bins whose expectation is 0."""
        lost: dict[int, Array] = {}

        def watch(update: Update) -> None:
            lost[(update.done - 1) % subsets] = update.lost
            if self.on_update is not None:
                self.on_update(update)

        system = self._system(mu, device)
        scatter, prior, start = projections.scatter, self._steadying.prior, self._steadying.start
        if isinstance(prior, Anchor):
            prior = replace(prior, image=system.put(prior.image))
        image = osem(
            system,
            system.put(projections.counts),
            iterations=self.settings.iterations,
            subsets=subsets,
            scatter=None if scatter is None else system.put(scatter),
            start=None if start is None else system.put(start),
            prior=prior,
            on_update=watch,
        )
        return system.get(image), sum(float(one) for one in lost.values())

    def preview(self, window: str | None = None, mu: MuMap | None = None, *, recovered: bool = False) -> Image:
        """Image of a window (None: the photopeak) by the fixed protocol of preview.py, corrected by `mu` if given.

        `recovered`: that of the photopeak with resolution recovery.
        """
        photopeak = self._once("preview", self._placed_preview).image
        if recovered:
            kev = self.energy_kev
            name = "preview with resolution recovery"
            return self._once(name, lambda: placed(self._preview_of(None, None, kev), photopeak.grid)).image
        if mu is not None:
            return placed(self._preview_of(window, mu), photopeak.grid)
        if window is None:
            return photopeak
        return self._once(f"preview of {window}", lambda: placed(self._preview_of(window, None), photopeak.grid)).image

    def _placed_preview(self) -> Image:
        """Uncorrected preview of the photopeak, on the grid that it places itself."""
        image = self._preview_of(None, None)
        return placed(image, preview_grid(image.values, image.grid))

    def _preview_of(self, window: str | None, mu: MuMap | None, recovered_kev: float | None = None) -> Image:
        photopeak = counts = self.projections.counts
        if window is not None:
            counts = self.study.counts[photopeak_index(self.study, window)]
        image, _ = self._on_device(
            "previewed",
            lambda device: preview_image(
                self.study.acquisition, counts, mu, head_counts=photopeak, recovered_kev=recovered_kev, device=device
            ),
        )
        return image

    def project(self, image: Image, mu: MuMap | None) -> Array:
        """Expected counts (v, z, u) of an image on the solver's grid, without scatter."""
        if not image.grid.same_as(self.grid):
            raise InputError(f"the image's grid {image.grid.shape} is not the reconstruction's {self.grid.shape}")
        return self._system(mu, "cpu").forward(image.values)

    def fbp(self, counts: Array) -> Image:
        """Filtered backprojection of counts (v, z, u) of any sign, without attenuation."""
        if self.settings.low_counts != "none":
            raise InputError(
                f"filtered backprojection cannot use --low-counts {self.settings.low_counts}: choose an iterative "
                "algorithm, and for Chang order 0"
            )
        window = self.settings.ramp_window
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
        scatter = self.projections.scatter
        counts = self.projections.counts if scatter is None else self.projections.counts - scatter
        self.notes += fan_doubts(acquisition, counts)
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
