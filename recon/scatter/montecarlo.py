"""Scatter by Monte Carlo: photons of the current image, transported through its mu-map to the camera.

All orders of Compton and Rayleigh scattering, for every view, in the photopeak (docs/physics.md).
Photons of I-123 above 400 keV come in as a component of their own: its shape and spectrum are photons.penetration's,
its amplitude is fitted to the study here, and nowhere else. Left out: septal penetration of the imaged line, and what
comes back from behind the crystal.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import binary_dilation, binary_fill_holes, gaussian_filter

from spectac.recon.collimator import FWHM_PER_SIGMA, Collimator
from spectac.recon.ct import scale_energy
from spectac.recon.errors import InputError
from spectac.recon.photons.detector import Crystal
from spectac.recon.photons.montecarlo import Camera, MonteCarloRun, photon_counts
from spectac.recon.photons.penetration import high_energy_counts, high_energy_kev, high_energy_share, relative_share
from spectac.recon.photons.transport import Body
from spectac.recon.photopeak import with_limits
from spectac.recon.resample import resample
from spectac.recon.scatter.models import ScatterContext, ScatterEstimate
from spectac.recon.scatter.side_windows import (
    LARGEST_GAP,
    LARGEST_PRIMARY,
    USUAL_CRYSTAL,
    Photopeak,
    SideWindow,
)
from spectac.recon.settings import ProjectionSettings
from spectac.recon.system import view_weights_s
from spectac.recon.tissues import INDEX, cm2_per_g, mu_per_cm
from spectac.recon.types import Acquisition, Array, Grid, Image, MuMap

ROUNDS = 2
"""Transports by default."""
HISTORIES = 600_000
"""Photon histories of a transport; each serves all views."""
BODY_MM = 4.0
"""Voxels of the body and of the activity that photons start from."""
SMOOTHING_FWHM_MM = 8.0
"""Gaussian that takes the transport's noise off every view."""
VIEW_STEP_DEG = 6.0
"""Views are interpolated from views at most this far apart."""
SHADOW_LEVEL = 0.05
"""Share of the largest expected bin above which a bin lies in the head's shadow."""
OUTLINE_PER_CM = 0.02
"""The body is where the map is above this."""
FEWEST_COUNTS = 500.0
"""The amplitude of photons above 400 keV is fitted where their usual number would be at least this many counts."""
LEAST_SCALE = 0.2
"""A fit that leaves the image less than this share of the photopeak is no fit."""
CHOSEN = (
    "scatter by Monte Carlo, as the study's windows allow no other correction; projections without scatter (simulated "
    "primary) need --scatter none"
)
BRIGHT = 0.3
"""Activity outside of the map counts above this share of the brightest inside (its 99th percentile)."""
TISSUES = ("soft tissue", "cranium", "cortical bone")
"""Materials of a map's voxels, by their coefficient: the nearest of these at their usual density."""


@dataclass(frozen=True)
class MonteCarloScatter:
    """Expected scatter by photon transport from the image through the map.

    Parameters
    ----------
    transports
        Number of rounds, each from an image that was reconstructed with the scatter of the one before.
    histories
        Photon histories of a transport.
    seed
        Seed of the transport; the same for every round and study.
    without_map
        Notes of reconstructions without a map, which are not corrected then; None: they are refused.

    Raises
    ------
    InputError
        For less than 1 round.

    Examples
    --------
    >>> MonteCarloScatter(transports=1).name
    'montecarlo, 1 round'
    """

    transports: int = ROUNDS
    histories: int = HISTORIES
    seed: int = 1
    without_map: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.transports < 1:
            raise InputError(f"scatter montecarlo needs at least 1 round, not {self.transports}")

    @classmethod
    def build(cls, settings: ProjectionSettings) -> "MonteCarloScatter":
        """Model of the settings, whose detail is the number of rounds."""
        if ":" not in settings.scatter:
            return cls()
        if not settings.scatter_detail.isdecimal():
            raise InputError(
                f"scatter montecarlo takes a number of rounds, e.g. montecarlo:2, not {settings.scatter!r}"
            )
        return cls(int(settings.scatter_detail))

    @property
    def name(self) -> str:
        """Method and rounds."""
        return f"montecarlo, {self.transports} round{'s'[: self.transports > 1]}"

    def rounds(self, context: ScatterContext) -> int:
        """Number of transports; InputError without a collimator, and for nuclides that the transport cannot do."""
        _camera(context)
        return self.transports

    def expected(self, context: ScatterContext, image: Image | None, mu: MuMap | None) -> ScatterEstimate:
        """Counts (v, z, u) of the photopeak that are scattered photons, or photons from above 400 keV.

        Raises InputError as `rounds`, for an empty image or map, and without a map (but `without_map`).
        """
        if image is None or mu is None:
            return self._uncorrected()
        camera, assumed = _camera(context)
        if self.without_map is not None:
            assumed = (CHOSEN, *assumed)
        within = _body(image, mu)
        if not (image.values[within] > 0).any():
            raise InputError("no activity lies in the mu-map: scatter montecarlo needs a map of the same body")
        image = replace(image, values=np.where(within, image.values, np.float32(0.0)))
        scattered = self.scattered(image, mu, camera)
        primary = context.project(image, mu)
        inside = primary > SHADOW_LEVEL * primary.max()
        counts = context.window_counts(context.photopeak)
        photopeak = _Sums.of(inside, counts, primary + scattered[0])
        if not (photopeak.measured > 0 and photopeak.expected > 0):
            raise InputError("no activity lies in the mu-map: scatter montecarlo needs a map of the same body")
        about: dict[str, float] = {"histories": self.histories, "seed": self.seed}
        about |= {"energy_resolution": camera.crystal.energy_resolution, "crystal_mm": camera.crystal.thickness_mm}
        if high_energy_kev(camera.acquisition.nuclide) is None:
            about["image_scale"] = photopeak.scale
            return ScatterEstimate(photopeak.scale * scattered[0], self.name, (), assumed, about)
        high = _high_energy(image, mu, camera)
        photopeak = photopeak.with_high(inside, high[0])
        if above := camera.windows[1:]:
            where = f"the window {with_limits(above[0])}"
            tail, main = (
                float(camera.crystal.acceptance(one, context.energy_kev)) for one in (*above, camera.photopeak)
            )
            expected = primary * (tail / main) + scattered[1]
            other = _Sums.of(inside, context.window_counts(above[0]), expected).with_high(inside, high[1])
        else:
            where = "the photopeak's bins beside the head"
            # What no ray through the body reaches, blur included.
            shadow = context.project(replace(image, values=within), replace(mu, per_cm=np.zeros_like(mu.per_cm)))
            other = _Sums.of(shadow == 0, counts, primary + scattered[0]).with_high(shadow == 0, high[0])
        fit = _fitted(photopeak, other, where, camera.acquisition.collimator)
        share = fit.amplitude * photopeak.high / photopeak.measured
        about |= {"image_scale": fit.scale, "high_energy_amplitude": fit.amplitude, "high_energy_share": share}
        words = f": {share:.0%} of the photopeak's counts in the head's shadow" if share > 0 else ""
        return ScatterEstimate(
            fit.scale * scattered[0] + fit.amplitude * high[0],
            self.name,
            above if fit.other_used else (),
            (*assumed, f"photons above 400 keV {fit.origin}{words}"),
            about,
        )

    def _uncorrected(self) -> ScatterEstimate:
        """No scatter, for a reconstruction without a map; InputError where the model must have one."""
        if self.without_map is None:
            raise InputError(
                f"scatter correction by {self.name} needs a mu-map: --attenuation chang, uniform, ct, map or "
                "predicted (with fbp chang), or another --scatter"
            )
        return ScatterEstimate(None, "none", notes=self.without_map)

    def scattered(self, image: Image, mu: MuMap, camera: Camera) -> Array:
        """Scattered photons (w, v, z, u) of the camera's windows from an image as it stands, smoothed."""
        body, activity = body_of(image, mu)
        chosen, back = _some_views(camera.acquisition)
        run = MonteCarloRun(self.histories, self.seed, batches=1, births=False)
        some = photon_counts(body, activity, replace(camera, acquisition=chosen), run).scatter
        sigma = [SMOOTHING_FWHM_MM / FWHM_PER_SIGMA / size for size in chosen.pixel_mm]
        smooth = gaussian_filter(some, (0.0, 0.0, *sigma), mode="nearest")
        rates = smooth / view_weights_s(chosen)[:, None, None].astype(np.float32)
        weights = view_weights_s(camera.acquisition)[:, None] * back
        return np.einsum("ab,wbzu->wazu", weights.astype(np.float32), rates, optimize=True)


def _camera(context: ScatterContext) -> tuple[Camera, tuple[str, ...]]:
    """Camera with the photopeak and, for photons above 400 keV, the window above; a note on what had to be assumed.

    Raises InputError without a collimator, and where the transport cannot do the nuclide or its photopeak.
    """
    acquisition, usual = context.acquisition, USUAL_CRYSTAL
    if acquisition.collimator is None:
        raise InputError("scatter montecarlo needs the collimator: name it with --collimator, or give --psf or --holes")
    windows = [context.photopeak]
    if high_energy_kev(acquisition.nuclide) is not None:
        peak = Photopeak(context.study, context.study.windows.index(context.photopeak))
        windows += [side.window for side in peak.above if _shows_high_energy(side, peak.line_kev)][:1]
    given = (acquisition.energy_resolution, acquisition.crystal_mm)
    defaults = (usual.energy_resolution, usual.thickness_mm)
    crystal = Crystal(*(default if one is None else one for one, default in zip(given, defaults, strict=True)))
    camera = Camera(acquisition, tuple(windows), crystal, context.photopeak)
    # The approximation of the photons above 400 keV is that of I-123 alone.
    possible = high_energy_kev(acquisition.nuclide) is None or acquisition.nuclide == "I-123"
    try:
        possible = possible and abs(camera.line_kev() - context.energy_kev) <= 1.0
    except InputError:
        possible = False
    if not possible:
        raise InputError(
            f"scatter montecarlo cannot do {acquisition.nuclide} at {context.energy_kev:g} keV: it transports one "
            "line, and knows I-123's photons above 400 keV alone; use --scatter tew or none"
        )
    words = (
        f"an energy resolution of {usual.energy_resolution:.1%} at 140.5 keV (--energy-resolution)",
        f"a crystal of {usual.thickness_mm:g} mm (--crystal-mm)",
    )
    assumed = " and ".join(word for word, one in zip(words, given, strict=True) if one is None)
    return camera, (f"scatter by Monte Carlo assumes {assumed}",) if assumed else ()


def _shows_high_energy(side: SideWindow, line_kev: float) -> bool:
    """Whether a window above the photopeak holds mostly photons from above 400 keV, evenly spread over energy."""
    near = side.gap_kev <= LARGEST_GAP * line_kev
    return near and not side.overlaps and not side.empty and side.primary <= LARGEST_PRIMARY


def body_of(image: Image, mu: MuMap) -> tuple[Body, Array]:
    """Tissues and densities of a mu-map, and an activity in their voxels.

    The densities are such that every voxel keeps its attenuation at the map's energy.

    Parameters
    ----------
    image
        Activity; values below 0 count as 0.
    mu
        Map.

    Returns
    -------
    Body
        Voxels of BODY_MM over all that is dense or active.
    array
        Activity (z, y, x) per mL in these voxels.

    Examples
    --------
    >>> grid = Grid.upright((4, 4, 4), (8.0, 8.0, 8.0), (0.0, 0.0, 0.0))
    >>> water = MuMap(np.full(grid.shape, 0.1537), grid, 140.511)
    >>> body, _ = body_of(Image(np.ones(grid.shape), grid, "cps/mL"), water)
    >>> round(float(body.density[4, 4, 4]), 2)
    1.01
    """
    there = ((mu.per_cm > OUTLINE_PER_CM), image.values > 1e-3 * image.values.max())
    corners = []
    for where, grid in zip(there, (mu.grid, image.grid), strict=True):
        for axis, centres in enumerate(grid.centres_mm()):
            used = centres[where.any(axis=tuple(other for other in range(3) if other != axis))]
            half = 0.5 * grid.voxel_mm[axis]
            corners.append((axis, float(used.min()) - half, float(used.max()) + half))
    low = [min(begin for one, begin, _ in corners if one == axis) for axis in range(3)]
    high = [max(end for one, _, end in corners if one == axis) for axis in range(3)]
    shape = [math.ceil((end - begin) / BODY_MM) for begin, end in zip(low, high, strict=True)]
    first = [begin + 0.5 * BODY_MM for begin in low]
    grid = Grid.upright((shape[0], shape[1], shape[2]), (BODY_MM,) * 3, first[::-1])
    per_cm = np.maximum(resample(mu.per_cm, mu.grid, grid), 0.0)
    activity = np.maximum(resample(np.maximum(image.values, 0.0), image.grid, grid), 0.0)
    usual = [mu_per_cm(name, mu.energy_kev) for name in TISSUES]
    kind = np.searchsorted([0.5 * (one + other) for one, other in pairwise(usual)], per_cm)
    materials = np.array([INDEX[name] for name in TISSUES], np.uint8)[kind]
    density = per_cm / np.array([cm2_per_g(name, mu.energy_kev) for name in TISSUES], np.float32)[kind]
    return Body(grid, materials, density), activity


def _some_views(acquisition: Acquisition) -> tuple[Acquisition, Array]:
    """Views at most VIEW_STEP_DEG apart where there are such, and weights (v, chosen) that interpolate every view.

    All views where heads differ in their focus, the place of the axis, or their radius at the same angle.
    """
    angles, radii = np.mod(acquisition.view_angles_deg, 360.0), np.asarray(acquisition.radii_mm)
    _, first, same = np.unique(angles.round(2), return_index=True, return_inverse=True)
    alike = np.ptp(np.asarray(acquisition.u_offset_mm)) < 0.01 and len(set(acquisition.foci)) <= 1
    if not (alike and np.abs(radii - radii[first][same]).max() < 1.0):
        return acquisition, np.eye(acquisition.views)
    # From behind the largest gap on, so that an arc begins and ends with a view of its own.
    gaps = np.diff(angles[first], append=angles[first[0]] + 360.0)
    order = np.roll(first, -(int(np.flatnonzero(gaps > gaps.max() - 1e-3)[-1]) + 1))
    if order.size < 3:
        return acquisition, np.eye(acquisition.views)
    turn = gaps.max() <= VIEW_STEP_DEG + 0.01
    chosen = [int(order[0])]
    for view, after in zip(order[1:], [*order[2:], order[0]], strict=True):
        ends_an_arc = after == order[0] and not turn
        if ends_an_arc or np.mod(angles[after] - angles[chosen[-1]], 360.0) > VIEW_STEP_DEG + 0.01:
            chosen.append(int(view))
    chosen.sort()
    places = angles[chosen]
    weights = np.zeros((acquisition.views, len(chosen)))
    for view, angle in enumerate(angles):
        ahead, behind = np.mod(places - angle, 360.0), np.mod(angle - places, 360.0)
        after, before = int(ahead.argmin()), int(behind.argmin())
        between = ahead[after] + behind[before]
        share = 0.0 if between == 0 else behind[before] / between
        weights[view, before] += 1.0 - share
        weights[view, after] += share
    named = ("view_angles_deg", "radii_mm", "view_seconds", "view_start_s", "detector", "u_offset_mm")
    fields: dict[str, Any] = {name: np.asarray(getattr(acquisition, name))[chosen] for name in named}
    foci = acquisition.foci[:1] * np.unique(fields["detector"]).size
    return replace(acquisition, **fields, foci=foci), weights


class _Sums(NamedTuple):
    """Counts of one window in some bins: measured, expected of the image, and expected from above 400 keV."""

    measured: float
    expected: float
    high: float = 0.0

    @classmethod
    def of(cls, bins: Array, measured: Array, expected: Array) -> "_Sums":
        return cls(float(measured[bins].sum()), float(expected[bins].sum()))

    def with_high(self, bins: Array, high: Array) -> "_Sums":
        return self._replace(high=float(high[bins].sum()))

    @property
    def scale(self) -> float:
        """Factor of the image with which the photopeak carries the measured counts, without any from above 400 keV."""
        return self.measured / self.expected


def _high_energy(image: Image, mu: MuMap, camera: Camera) -> Array:
    """Counts (w, v, z, u) of photons above 400 keV as the collimator's table has them."""
    kev = high_energy_kev(camera.acquisition.nuclide)
    assert kev is not None
    collimator = camera.acquisition.collimator
    assert collimator is not None
    share = 1.0
    if collimator.line is None:
        width = camera.photopeak.width_kev / camera.line_kev()
        share = high_energy_share(collimator) * relative_share(camera.crystal, width)
    return high_energy_counts(image, scale_energy(mu, kev), share, camera.acquisition, camera.windows)


def _body(image: Image, mu: MuMap) -> Array:
    """Voxels (z, y, x) of the body with its cavities and the voxels beside it, and of bright activity.

    Counts that come from no activity, of photons above 400 keV most of all, make a dim image beside the body. It would
    explain them, and none would be left for their own component. Raises InputError for an empty map.
    """
    if not mu.per_cm.max() > OUTLINE_PER_CM:
        raise InputError("the mu-map is empty: scatter montecarlo needs a body")
    solid = np.stack([binary_fill_holes(level) for level in mu.per_cm > OUTLINE_PER_CM])
    return np.asarray(binary_dilation(solid) | (image.values > BRIGHT * np.percentile(image.values[solid], 99)))


class _Fit(NamedTuple):
    """Factors of the image and of the photons above 400 keV, whether the other bins gave them, in words too."""

    scale: float
    amplitude: float
    other_used: bool
    origin: str


def _fitted(photopeak: _Sums, other: _Sums, where: str, collimator: Collimator | None) -> _Fit:
    """Factors with which the photopeak and the other bins carry their measured counts.

    A negative share of photons above 400 keV, and one that leaves next to no counts for the image, cannot be.
    """
    if other.high * photopeak.scale >= FEWEST_COUNTS:
        determinant = photopeak.expected * other.high - photopeak.high * other.expected
        if determinant > 0:
            scale = (photopeak.measured * other.high - photopeak.high * other.measured) / determinant
            amplitude = (photopeak.expected * other.measured - photopeak.measured * other.expected) / determinant
            if amplitude <= 0:
                return _Fit(photopeak.scale, 0.0, True, f"fitted to {where}: none")
            if scale >= LEAST_SCALE * photopeak.scale:
                return _Fit(scale, amplitude, True, f"fitted to {where}")
    if collimator is None or collimator.line is not None:
        return _Fit(
            photopeak.scale, 0.0, False, f"left out: neither {where} nor a table of the holes tells their number"
        )
    scale = photopeak.measured / (photopeak.expected + photopeak.high)
    return _Fit(scale, scale, False, f"by the table of {collimator.name}, because {where} do not tell their number")
