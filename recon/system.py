"""SystemModel: the expected projections of an image, the exact transpose, and the derivative to the mu-map."""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from spectac.recon import geometry
from spectac.recon.device import select_device
from spectac.recon.errors import InputError
from spectac.recon.kernels.projector import Projector, projector
from spectac.recon.kernels.view_tables import ViewTables
from spectac.recon.nuclides import nuclide
from spectac.recon.orbit_check import check_map_radius
from spectac.recon.types import Acquisition, Array, Grid, MuMap

SAME_ENERGY_KEV = 1.0
"""A map whose energy differs by more than this from that of the photons is refused."""


def view_weights_s(acquisition: Acquisition) -> Array:
    """Weights of the views: the integral of exp(-lambda t) over each view, t from the start of the acquisition.

    Parameters
    ----------
    acquisition
        Acquisition with nuclide and times.

    Returns
    -------
    Array
        Weights (v,) in seconds. With DECY in CorrectedImage they are the durations; they are 1 where the view times are
        unknown, and images are then "relative".

    Examples
    --------
    >>> acquisition = Acquisition([0.0], [150.0], (1, 4), (4.0, 4.0), [20.0], "Tc-99m", None)
    >>> view_weights_s(acquisition).round(3).tolist()
    [19.994]
    """
    if not acquisition.times_known:
        return np.ones(acquisition.views)
    seconds = np.asarray(acquisition.view_seconds)
    if "DECY" in acquisition.corrections:
        return seconds.copy()
    rate = math.log(2.0) / nuclide(acquisition.nuclide).half_life_s
    return np.exp(-rate * np.asarray(acquisition.view_start_s)) * -np.expm1(-rate * seconds) / rate


class SystemModel:
    """Linear model of a SPECT acquisition: p = w * voxel_mL * sum_d B_d[T_d * (R f)_d] for every view.

    R samples the grid along the camera's rays by bilinear interpolation, T attenuates, counting half of the voxel
    itself, and B blurs by the collimator's Gaussian integrated over the pixels (docs/physics.md). The rays of a fan
    beam meet in its focal line; each weighs F/Fc cos^3(theta) (geometry.ray_tables). Images (z, y, x) are in
    counts per second and mL, projections (v, z, u) in counts. Both are plain arrays on the system's device, stored z
    fastest, so that results that are fed back are not copied. Subnormal numbers count as 0 (docs/performance.md).

    Assumes: holes that are parallel or converge transaxially; a point response that depends on distance alone; no
    activity beside the detector's edge, because its blur into the detector is left out.

    Parameters
    ----------
    acquisition
        Geometry, times and camera.
    grid
        Upright voxel grid; for parallel holes its voxels are the projections' pixels.
    mu
        Map on the same grid; None: no attenuation.
    energy_kev
        Energy of the photons in keV; None: the nuclide's main line.
    resolution
        Whether the collimator's blur is modelled.
    device
        "cpu" (numpy arrays), "cuda" (CuPy arrays), or "auto": the GPU where one works.
    dtype
        "float32" or "float64".
    crop_to_orbit
        Leave out voxels beyond `geometry.orbit_support`. Images and maps count as 0 there.
    factor_memory_bytes
        Memory in which the attenuation factors of all views are kept; larger ones are computed again for each use.
        None: a quarter of the free memory, half of a GPU's.
    half_factors
        On a GPU in float32: keep the factors in half precision. Their relative error is up to 2^-11; those below 6e-5
        are 0.

    Raises
    ------
    InputError
        Where grid, map and acquisition do not fit each other, or the device does not work.

    Examples
    --------
    >>> from spectac.recon import default_grid
    >>> acquisition = Acquisition(
    ...     [0.0, 90.0], [150.0, 150.0], (2, 16), (4.0, 4.0), [10.0, 10.0], "Tc-99m", None, corrections={"DECY"}
    ... )
    >>> system = SystemModel(acquisition, default_grid(acquisition), resolution=False)
    >>> image = np.zeros(system.image_shape, np.float32)
    >>> image[1, 8, 8] = 1.0
    >>> [round(float(counts), 3) for counts in system.forward(image).sum(axis=(1, 2))]
    [0.64, 0.64]
    """

    def __init__(
        self,
        acquisition: Acquisition,
        grid: Grid,
        *,
        mu: MuMap | None = None,
        energy_kev: float | None = None,
        resolution: bool = True,
        device: str = "cpu",
        dtype: str = "float32",
        crop_to_orbit: bool = False,
        factor_memory_bytes: int | None = None,
        half_factors: bool = False,
    ) -> None:
        if np.dtype(dtype) not in (np.dtype("float32"), np.dtype("float64")):
            raise InputError(f"dtype must be float32 or float64, not {dtype}")
        self.acquisition = acquisition
        self.grid = grid
        self.dtype = np.dtype(dtype)
        self.device = select_device(device)
        self.energy_kev = nuclide(acquisition.nuclide).main_kev if energy_kev is None else float(energy_kev)
        self._options: dict[str, Any] = {
            "energy_kev": self.energy_kev,
            "resolution": resolution,
            "device": self.device,
            "crop_to_orbit": crop_to_orbit,
            "factor_memory_bytes": factor_memory_bytes,
            "half_factors": half_factors,
        }
        self._per_cm: Array | None = None
        self._twins: dict[np.dtype, SystemModel] = {}
        inside = geometry.orbit_support(acquisition, grid) if crop_to_orbit else np.ones(grid.shape[1:], bool)
        if not inside.any():
            raise InputError("no voxel of the grid lies near the orbit: check the grid and the radius (--radius-mm)")
        frames = geometry.camera_frames(acquisition, grid, inside)
        if mu is not None:
            self._check_map(mu)
        sigma_mm = self._sigma_mm(frames, resolution)
        tables = ViewTables.of(acquisition, grid, inside, frames, sigma_mm, view_weights_s(acquisition))
        self.projector: Projector = projector(self.device, tables, self.dtype, factor_memory_bytes, half_factors)
        self._views = np.arange(acquisition.views)
        if mu is not None:
            self._take_map(self.put(mu.per_cm))

    @property
    def views(self) -> int:
        """Number of views of this system (of the subset, for a subset)."""
        return int(self._views.size)

    @property
    def xp(self) -> ModuleType:
        """Library of the system's arrays: numpy or cupy."""
        return self.projector.xp

    @property
    def view_indices(self) -> Array:
        """Indices (v,) of this system's views in the acquisition."""
        return self._views

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of images."""
        return self.grid.shape

    @property
    def projections_shape(self) -> tuple[int, int, int]:
        """Shape (v, z, u) of projections."""
        return (self.views, *self.acquisition.matrix)

    def subset(self, views: Sequence[int] | Array) -> "SystemModel":
        """System of those views only (indices into this system's views); it shares all tables with this one."""
        chosen = np.asarray(views, dtype=np.int64)
        if chosen.ndim != 1 or chosen.size == 0 or chosen.min() < 0 or chosen.max() >= self.views:
            raise InputError(f"a subset needs view indices from 0 to {self.views - 1}, got {views}")
        part = self._copy()
        part._views = self._views[chosen]
        return part

    def astype(self, dtype: str | np.dtype) -> "SystemModel":
        """System with the same settings and views that computes in `dtype`, with tables of that precision.

        It is built at the first request and kept, one for this system and all of its subsets.
        """
        wanted = np.dtype(dtype)
        if wanted == self.dtype:
            return self
        if wanted not in self._twins:
            twin = SystemModel(self.acquisition, self.grid, dtype=wanted.name, **self._options)
            if self._per_cm is not None:
                twin._take_map(self._per_cm)
            self._twins[wanted] = twin
        return self._twins[wanted].subset(self._views)

    def with_mu(self, per_cm: Array) -> "SystemModel":
        """System with another map (z, y, x) in 1/cm, in this system's precision; all else is shared.

        Cheaper than a new system. A float64 system sees every bit of the map, for derivatives and training. The map is
        not copied: do not change it while the system is in use.
        Raises InputError for another shape, and for values that are negative or not finite.
        """
        volume = self._native(per_cm, self.image_shape, "mu (z, y, x)", (1, 2, 0))
        if not (np.isfinite(volume).all() and volume.min() >= 0):
            raise InputError("a mu-map must be finite and nowhere negative")
        other = self._copy()
        other._twins = {}
        other._take_map(per_cm)
        return other

    def _copy(self) -> "SystemModel":
        other = object.__new__(SystemModel)
        other.__dict__.update(self.__dict__)
        return other

    def _take_map(self, per_cm: Array) -> None:
        """Attenuate by a map (z, y, x) that was checked."""
        self._per_cm = per_cm
        self.projector = self.projector.with_mu(per_cm.transpose(1, 2, 0))

    def forward(self, image: Array) -> Array:
        """Expected counts (v, z, u) of an image (z, y, x) in counts per second and mL, without scatter."""
        return self.projector.forward(self._image(image), self._views).transpose(0, 2, 1)

    def adjoint(self, counts: Array) -> Array:
        """Transpose of `forward`: projections (v, z, u) back to an image (z, y, x)."""
        return self.projector.adjoint(self._projections(counts), self._views).transpose(2, 0, 1)

    def gradient_mu(self, image: Array, residual: Array) -> Array:
        """Derivative (z, y, x) of sum(residual * forward(image)) to the mu-map, per 1/cm.

        With residual = dL/dp it is the gradient of a function L of the projections. Without a map it is the derivative
        at mu = 0.
        """
        data = self._projections(residual, "residual")
        return self.projector.gradient_mu(self._image(image), data, self._views).transpose(2, 0, 1)

    def em_backprojection(self, image: Array, measured: Array, scatter: Array | None = None) -> tuple[Array, Array]:
        """Backprojected ratio A^T(measured / (A image + scatter)) (z, y, x) of an EM step, and the lost counts ().

        `measured` and `scatter` are projections (v, z, u). Bins whose expectation is 0 contribute nothing. The counts
        measured there are lost; their sum stays on the device.
        """
        extra = None if scatter is None else self._projections(scatter, "scatter")
        data = self._projections(measured, "measured counts")
        backprojected, lost = self.projector.em_backprojection(self._image(image), data, extra, self._views)
        return backprojected.transpose(2, 0, 1), lost

    def em_update(self, image: Array, backprojected: Array, inverse: Array) -> None:
        """Multiply an image (z, y, x) in place by backprojected * inverse where inverse is positive.

        `inverse` (z, y, x) is 1 / sensitivity. Voxels that were below 1e-20 of the image's maximum become 0. All three
        are images as this system returns them.
        """
        native = [array.transpose(1, 2, 0) for array in (image, backprojected, inverse)]
        if not all(array.flags.c_contiguous and array.dtype == self.dtype for array in native):
            raise InputError("em_update needs images as this system returns them: pass them through as_image")
        self.projector.em_update(*native)

    def put(self, array: Array) -> Array:
        """A numpy array on the system's device."""
        return self.projector.put(array)

    def get(self, array: Array) -> Array:
        """An array of the system's device as numpy's."""
        return self.projector.get(array)

    def as_image(self, image: Array, name: str = "image") -> Array:
        """Image (z, y, x) checked, in the system's precision and stored as its results are."""
        return self._native(image, self.image_shape, f"{name} (z, y, x)", (1, 2, 0)).transpose(2, 0, 1)

    def as_projections(self, counts: Array, name: str = "projections") -> Array:
        """Projections (v, z, u) checked, in the system's precision and stored as its results are."""
        return self._projections(counts, name).transpose(0, 2, 1)

    def _image(self, image: Array) -> Array:
        return self._native(image, self.image_shape, "image (z, y, x)", (1, 2, 0))

    def _projections(self, counts: Array, name: str = "projections") -> Array:
        return self._native(counts, self.projections_shape, f"{name} (v, z, u)", (0, 2, 1))

    def _native(self, array: Array, shape: tuple[int, ...], name: str, axes: tuple[int, ...]) -> Array:
        """Array checked and stored z fastest; free for arrays that came from this system."""
        if not isinstance(array, self.xp.ndarray):
            raise InputError(
                f"{name} must be a {self.xp.__name__} array for device {self.device!r}, got {type(array).__name__}"
            )
        if array.shape != shape:
            raise InputError(f"{name} needs shape {shape}, got {array.shape}")
        return self.projector.contiguous(array.transpose(axes))

    def _sigma_mm(self, frames: geometry.CameraFrames, resolution: bool) -> tuple[Array, Array]:
        """Standard deviations (v, d) of the planes' blur on the crystal, along z and along u."""
        if not resolution:
            return (np.zeros_like(frames.distance_mm),) * 2
        collimator = self.acquisition.collimator
        if collimator is None:
            raise InputError(
                "the collimator is unknown: name it with --collimator, give --psf SIGMA0_MM:SLOPE, "
                "or switch resolution recovery off with --no-resolution"
            )
        distance_mm = frames.distance_mm
        axial = transaxial = np.asarray(collimator.sigma_mm(distance_mm, self.energy_kev))
        lines = geometry.focal_lines(self.acquisition)
        if lines is not None:
            # A plane at the focus has no points; the blur of those beside it is not used either.
            distance_mm = np.where(frames.first < frames.last, distance_mm, 0.0)
            transaxial = np.stack(
                [
                    collimator.sigma_mm(distance, self.energy_kev, focus_mm=float(face))
                    for distance, face in zip(distance_mm, lines.face_mm, strict=True)
                ]
            )
        widest_mm = max(np.multiply(self.acquisition.matrix, self.acquisition.pixel_mm))
        largest_mm = max(axial.max(), transaxial.max())
        if largest_mm > widest_mm:
            raise InputError(
                f"a blur of sigma {largest_mm:.3g} mm is wider than the detector ({widest_mm:g} mm): check --psf, "
                "the collimator and --radius-mm"
            )
        return axial, transaxial

    def _check_map(self, mu: MuMap) -> None:
        if not mu.grid.same_as(self.grid):
            raise InputError(
                f"the mu-map's grid {mu.grid.shape} is not the system's {self.grid.shape} or lies elsewhere: "
                "resample it with spectac.recon.resample"
            )
        if abs(mu.energy_kev - self.energy_kev) > SAME_ENERGY_KEV:
            raise InputError(
                f"the mu-map is at {mu.energy_kev:g} keV but the photopeak of {self.acquisition.nuclide} is "
                f"{self.energy_kev:g} keV: give a map at that energy"
            )
        check_map_radius(self.acquisition, mu)
