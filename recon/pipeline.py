"""The front door: a study in, an image out, with any attenuation model."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy.ndimage import gaussian_filter1d

from spectac.recon import filters, geometry
from spectac.recon import scatter as windows
from spectac.recon.attenuation import AttenuationModel, NoAttenuation, map_on_grid
from spectac.recon.backprojection import fbp
from spectac.recon.calibration import Calibration, read_calibration
from spectac.recon.contour_preview import HEAD_ML, exceeded, largest
from spectac.recon.device import device_errors, own_stream, select_device
from spectac.recon.em import FEWEST_VIEWS, Update, osem
from spectac.recon.errors import DeviceError, InputError
from spectac.recon.resample import rebin, rebin_acquisition, resample
from spectac.recon.settings import ReconstructionSettings
from spectac.recon.system import SystemModel
from spectac.recon.types import Acquisition, Array, Grid, Image, MuMap, Projections, Result, Study

_T = TypeVar("_T")

PREVIEW_VOXEL_MM = 4.0
PREVIEW_SIZE = 64
PREVIEW_FWHM_MM = 6.0
PREVIEW_ABOVE_VERTEX_MM = 24.0
PREVIEW_TOP_MM2 = 500.0
PREVIEW_AIR_MM = 115.0


def reconstruct(
    study: Study,
    attenuation: AttenuationModel | None = None,
    settings: ReconstructionSettings | None = None,
    *,
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
    grid
        Grid of the image; None: geometry.default_grid.
    on_update
        Called after every subset's update; it may raise to stop.

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
    >>> from spectac.recon import ReconstructionSettings, UniformMap, reconstruct
    >>> result = reconstruct(study, UniformMap(0.15), ReconstructionSettings(iterations=2, subsets=2))
    >>> result.image.unit
    'cps/mL'
    """
    model = NoAttenuation() if attenuation is None else attenuation
    return StudySolver(study, settings, grid).corrected(model, on_update)


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
    notes: tuple[str, ...]
    seconds: float


class StudySolver:
    """The solver (attenuation.Solver) of one study with one user's settings.

    Previews and the image without a map are computed once and serve all models that the solver is given.
    `borrowed_s` are the seconds that the current model saved because an earlier one had them computed.

    Raises InputError where the data cannot be reconstructed: corrected projections, no counts, or an orbit inside the
    object.
    """

    def __init__(
        self,
        study: Study,
        settings: ReconstructionSettings | None = None,
        grid: Grid | None = None,
    ) -> None:
        self.study = study
        self.settings = ReconstructionSettings() if settings is None else settings
        select_device(self.settings.device)
        self.projections = projections = windows.projections(study, self.settings)
        self._calibration = _calibration(study, self.settings)
        self.grid = geometry.default_grid(study.acquisition) if grid is None else grid
        self.on_update: Callable[[Update], None] | None = None
        self.notes: list[str] = []
        self.device = "cpu"
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
            raise InputError(f"{study.acquisition.views} views are no tomography: at least {FEWEST_VIEWS} are needed")
        if not projections.counts.any():
            raise InputError("the photopeak projections hold no counts")
        _check_orbit(projections)
        self._note_acquisition()
        self._acquisition_notes = tuple(self.notes)

    def corrected(
        self,
        model: AttenuationModel,
        on_update: Callable[[Update], None] | None = None,
    ) -> Result:
        """Result of an attenuation model as `reconstruct` returns it; notes and `borrowed_s` begin anew.

        Where the image without a map was computed for an earlier model, `on_update` is not called for it again.
        """
        self.notes, self.device, self.on_update = list(self._acquisition_notes), "cpu", on_update
        self.borrowed_s, self._used = 0.0, set()
        study, projections, smoothing = self.study, self.projections, self.settings.smoothing
        if self._calibration is not None:
            self._calibration.check_corrections(projections.scatter_method, model.name)
        result = model.correct(self)
        image = replace(result.image, history=(*study.history, *result.image.history, f"attenuation: {model.name}"))
        notes = (*study.warnings, *projections.notes, *self.notes, *result.notes)
        result = replace(
            result,
            image=image if smoothing is None else smoothing(image),
            notes=tuple(dict.fromkeys(notes)),
            projections=projections,
            attenuation=model.name,
            device=self.device,
        )
        if self._calibration is None:
            return result
        return replace(result, image=self._calibration.applied(result, study))

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
        if mu is not None:
            return self._reconstructed(mu)
        kept = self._once("image", lambda: self._reconstructed(None))
        self.device = kept.device
        return kept.image

    def _once(self, name: str, make: Callable[[], Image]) -> _Kept:
        """Image of `make`, which is called once; its notes are repeated for every model that asks."""
        if name not in self._kept:
            before, began = len(self.notes), time.perf_counter()
            image = make()
            seconds = time.perf_counter() - began
            self._kept[name] = _Kept(image, self.device, tuple(self.notes[before:]), seconds)
        elif name not in self._used:
            self.notes += self._kept[name].notes
            self.borrowed_s += self._kept[name].seconds
        self._used.add(name)
        return self._kept[name]

    def _reconstructed(self, mu: MuMap | None) -> Image:
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
        return Image(values, self.grid, self._unit, history=(described,))

    def _on_device(self, what: str, work: Callable[[str], _T]) -> tuple[_T, str]:
        """Work on the device that the user asked for, and which that was; with "auto" the CPU where the GPU cannot."""
        device = select_device(self.settings.device)
        try:
            with device_errors(), own_stream(device):
                return work(device), device
        except DeviceError as error:
            if self.settings.device != "auto":
                raise
            reason = str(error)
        # Beyond the block, so that what the GPU holds is given back first.
        self.notes.append(f"{what} on the CPU: {reason}")
        return work("cpu"), "cpu"

    def _iterated(self, mu: MuMap | None, subsets: int, device: str) -> tuple[Array, float]:
        """Image (z, y, x) by the settings' iterations, and the counts that it cannot explain."""
        lost: dict[int, Array] = {}

        def watch(update: Update) -> None:
            lost[(update.done - 1) % subsets] = update.lost
            if self.on_update is not None:
                self.on_update(update)

        system = self._system(mu, self.settings.resolution, device)
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
        """Image of a window (None: the photopeak) by a fixed protocol, whatever the user's settings.

        The protocol is that of preview_image, resampled to 64^3 voxels of 4 mm, placed by the uncorrected photopeak
        (see preview_grid). It is uncorrected unless a map is given.
        """
        photopeak = self._once("preview", self._placed_preview).image
        if mu is not None:
            return _on_grid(self._preview_of(window, mu), photopeak.grid)
        if window is None:
            return photopeak
        scatter = self._once(f"preview of {window}", lambda: _on_grid(self._preview_of(window, None), photopeak.grid))
        return scatter.image

    def _placed_preview(self) -> Image:
        """Uncorrected preview of the photopeak, on the grid that it places itself."""
        image = self._preview_of(None, None)
        return _on_grid(image, preview_grid(image.values, image.grid))

    def _preview_of(self, window: str | None, mu: MuMap | None) -> Image:
        counts = self.projections.counts
        if window is not None:
            counts = self.study.counts[windows.photopeak_index(self.study, window)]
        image, _ = self._on_device(
            "previewed", lambda device: preview_image(self.study.acquisition, counts, mu, device=device)
        )
        return image

    def project(self, image: Image, mu: MuMap | None) -> Array:
        """Expected counts (v, z, u) of an image on the solver's grid, without scatter."""
        if not image.grid.same_as(self.grid):
            raise InputError(f"the image's grid {image.grid.shape} is not the reconstruction's {self.grid.shape}")
        return self._system(mu, self.settings.resolution, "cpu").forward(image.values)

    def fbp(self, counts: Array) -> Image:
        """Filtered backprojection of counts (v, z, u) of any sign, without attenuation."""
        chosen = self.settings.ramp_window
        values = fbp(
            self.study.acquisition, counts, self.grid, window=chosen.window, cutoff=chosen.cutoff, order=chosen.order
        )
        described = f"fbp, {chosen.name}, scatter: {self.projections.scatter_method}"
        return Image(values, self.grid, self._unit, history=(described,))

    @property
    def _unit(self) -> str:
        return _unit(self.study.acquisition)

    def _system(self, mu: MuMap | None, resolution: bool, device: str) -> SystemModel:
        return SystemModel(
            self.study.acquisition,
            self.grid,
            mu=None if mu is None else map_on_grid(mu, self.grid),
            energy_kev=self.energy_kev,
            resolution=resolution,
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


def preview_image(acquisition: Acquisition, counts: Array, mu: MuMap | None = None, *, device: str = "cpu") -> Image:
    """Image of counts (v, z, u) by the protocol of previews, on the grid of the projections rebinned to about 4 mm.

    OSEM of 4 iterations with 10 subsets (fewer where the views do not suffice), no resolution recovery or scatter,
    attenuation by `mu` where one is given; Gaussian of 6 mm.
    """
    factor_z, factor_u = preview_factors(acquisition.pixel_mm)
    coarse = rebin_acquisition(acquisition, factor_z, factor_u)
    grid = geometry.default_grid(coarse)
    subsets = max(1, min(10, coarse.views // FEWEST_VIEWS))
    system = SystemModel(
        coarse,
        grid,
        mu=None if mu is None else map_on_grid(mu, grid),
        energy_kev=None if mu is None else mu.energy_kev,
        resolution=False,
        device=device,
    )
    few = system.put(rebin(counts, factor_z, factor_u))
    values = system.get(osem(system, few, iterations=4, subsets=subsets))
    return Image(filters.gaussian(values, grid.voxel_mm, PREVIEW_FWHM_MM), grid, _unit(acquisition))


def preview_factors(pixel_mm: tuple[float, float]) -> tuple[int, int]:
    """How many pixels (z, u) of the camera make one of a preview, so that it comes nearest to 4 mm."""
    factor_z, factor_u = (max(1, round(PREVIEW_VOXEL_MM / length)) for length in pixel_mm)
    return factor_z, factor_u


def _unit(acquisition: Acquisition) -> str:
    return "cps/mL" if acquisition.times_known else "relative"


def _on_grid(image: Image, grid: Grid) -> Image:
    return replace(image, values=resample(image.values, image.grid, grid), grid=grid)


def preview_grid(values: Array, grid: Grid) -> Grid:
    """The 64^3 grid of 4 mm on which an uncorrected image (z, y, x) is previewed.

    The air's level of a slice, the median beyond 115 mm from the field's axis, is subtracted. The head is the largest
    connected part above 0.3 of the level that 400 mL exceed (and above 0.05 of that of 5 mL, should there be foci
    alone). In plane the grid is centred on it. Axially it is centred on the field where that fits into 256 mm; a longer
    field is cut so that the top lies 24 mm above the highest slice in which the head covers 500 mm2.
    """
    z, y, x = grid.centres_mm()
    voxel_mm = np.array(grid.voxel_mm)
    radius = np.hypot((y - y.mean())[:, None], (x - x.mean())[None, :])
    ring = (radius > PREVIEW_AIR_MM) & (radius < 0.5 * min(np.ptp(y), np.ptp(x)) + 0.5 * voxel_mm[1])
    net = values - np.median(values[:, ring], axis=1)[:, None, None] if ring.any() else values
    head, focus = (exceeded(net, ml, voxel_mm) for ml in (HEAD_ML, 5.0))
    bright = largest(net > max(0.3 * head, 0.05 * focus))
    covered = np.flatnonzero(bright.sum(axis=(1, 2)) * voxel_mm[1] ** 2 >= PREVIEW_TOP_MM2)
    rows, columns = np.nonzero(bright.any(axis=0))
    length = PREVIEW_SIZE * PREVIEW_VOXEL_MM
    half = 0.5 * (length - PREVIEW_VOXEL_MM)
    centre_x, centre_y = (float(axis[index].mean()) if index.size else 0.0 for axis, index in ((x, columns), (y, rows)))
    centre_z = 0.5 * (z[0] + z[-1])
    if grid.shape[0] * grid.voxel_mm[0] > length and covered.size:
        centre_z = z[covered[-1]] + PREVIEW_ABOVE_VERTEX_MM - 0.5 * length
    return Grid.upright(
        (PREVIEW_SIZE,) * 3, (PREVIEW_VOXEL_MM,) * 3, (centre_x - half, centre_y - half, centre_z - half)
    )


def _check_orbit(projections: Projections) -> None:
    """Refuse an orbit that passes through the object.

    The object's extent along a view's normal is read off the views a quarter turn away, at half of the maximum of their
    profile: an underestimate for any rounded object, so that only an impossible orbit is refused.
    """
    acquisition: Acquisition = projections.acquisition
    angles = np.asarray(acquisition.view_angles_deg)
    profiles = gaussian_filter1d(projections.counts.sum(axis=1, dtype=np.float64), 1.5, axis=1)
    columns = np.arange(acquisition.matrix[1])
    pitch = acquisition.pixel_mm[1]
    for view in range(acquisition.views):
        for turn, sign in ((90.0, 1.0), (-90.0, -1.0)):
            apart = np.abs(np.mod(angles - angles[view] - turn + 180.0, 360.0) - 180.0)
            other = int(np.argmin(apart))
            if apart[other] > 10.0 or not profiles[other].any():
                continue
            bright = columns[profiles[other] >= 0.5 * profiles[other].max()]
            place = (bright - 0.5 * (columns.size - 1)) * pitch - np.asarray(acquisition.u_offset_mm)[other]
            reach = float((sign * place).max())
            if reach > acquisition.radii_mm[view] + pitch:
                raise InputError(
                    f"the collimator face of view {view} lies {acquisition.radii_mm[view]:g} mm from the axis, but the "
                    f"activity reaches {reach:.0f} mm towards it: check the radius (--radius-mm)"
                )
