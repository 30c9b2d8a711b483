"""The data that travels through spectac: frozen, checked where it is made, units in every name.

Arrays are taken over without a copy where dtype and layout fit (a study may be hundreds of megabytes) and are read-only
from then on: whoever made one must not write to it any more.

Axes: images (z, y, x), z to superior, y to posterior, x to the patient's left; projections (v, z, u), z as the image,
u to the right as the detector sees it looking at the patient. docs/conventions.md has the drawing.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectac.recon.collimator import Collimator
from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide as nuclide_by_name

Array = NDArray[Any]


LARGEST_RADIUS_MM = 1000.0
SMALLEST_PIXEL_MM, LARGEST_PIXEL_MM = 0.1, 50.0
"""Beyond these no camera is; a file that says so has its numbers in other units."""


def _frozen(values: ArrayLike, dtype: type, shape: tuple[int, ...] | None, name: str) -> Array:
    """Contiguous native read-only array; `shape` uses -1 for any length."""
    array: Array = np.ascontiguousarray(np.asarray(values), dtype=dtype)
    if shape is not None and (
        array.ndim != len(shape) or any(want not in (-1, got) for want, got in zip(shape, array.shape, strict=True))
    ):
        wanted = ", ".join("any" if n == -1 else str(n) for n in shape)
        raise InputError(f"{name} needs shape ({wanted}), got {np.shape(values)}")
    array = array.view()
    array.flags.writeable = False
    return array


def _finite(array: Array, name: str, *, above: float | None = None, least: float | None = None) -> None:
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds {int((~np.isfinite(array)).sum())} values that are NaN or infinite")
    if above is not None and array.size and not array.min() > above:
        raise InputError(f"{name} must be above {above:g}, its smallest value is {array.min():g}")
    if least is not None and array.size and array.min() < least:
        raise InputError(f"{name} must be at least {least:g}, its smallest value is {array.min():g}")


def _check_energy(energy_kev: float) -> None:
    if not 0 < energy_kev < np.inf:
        raise InputError(f"energy_kev must be above 0 and finite, got {energy_kev}")


def _set(instance: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(instance, name, value)


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels in space: shape and voxel_mm (z, y, x), and the affine from index (z, y, x, 1) to LPS mm of centres."""

    shape: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]
    affine_lps: Array

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        voxel_mm = tuple(float(length) for length in self.voxel_mm)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"a grid needs three sizes (z, y, x) of at least 1, got {self.shape}")
        if len(voxel_mm) != 3 or not all(np.isfinite(voxel_mm)) or min(voxel_mm) <= 0:
            raise InputError(f"a grid needs three voxel sizes (z, y, x) above 0 mm, got {self.voxel_mm}")
        affine = _frozen(self.affine_lps, np.float64, (4, 4), "affine_lps")
        _finite(affine, "affine_lps")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if not np.allclose(lengths, voxel_mm, rtol=1e-4):
            raise InputError(f"voxel_mm {voxel_mm} does not fit the lengths {lengths.round(4)} of the affine's columns")
        _set(self, shape=shape, voxel_mm=voxel_mm, affine_lps=affine)

    @classmethod
    def upright(
        cls, shape: tuple[int, int, int], voxel_mm: tuple[float, float, float], first_lps_mm: ArrayLike
    ) -> "Grid":
        """Grid along the patient's axes whose voxel (0, 0, 0) has its centre at (x, y, z) = first_lps_mm."""
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2] = voxel_mm
        affine[:3, 3] = first_lps_mm
        affine[3, 3] = 1.0
        return cls(shape, voxel_mm, affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return float(np.prod(self.voxel_mm)) / 1000.0

    @property
    def is_upright(self) -> bool:
        """True where z grows to superior, y to posterior and x to left, without tilt."""
        wanted = np.zeros((3, 3))
        wanted[2, 0], wanted[1, 1], wanted[0, 2] = self.voxel_mm
        return bool(np.allclose(self.affine_lps[:3, :3], wanted, atol=1e-4 * min(self.voxel_mm)))

    def same_as(self, other: "Grid") -> bool:
        """True for equal shape and equal positions to a thousandth of a millimetre."""
        return self.shape == other.shape and np.allclose(self.affine_lps, other.affine_lps, rtol=0, atol=1e-3)

    def centres_mm(self) -> tuple[Array, Array, Array]:
        """LPS coordinates (z, y, x) of the voxel centres along the axes of an upright grid, in mm."""
        if not self.is_upright:
            raise InputError("centres_mm needs a grid along the patient's axes; resample the image to one first")
        x0, y0, z0 = self.affine_lps[:3, 3]
        dz, dy, dx = self.voxel_mm
        nz, ny, nx = self.shape
        return z0 + dz * np.arange(nz), y0 + dy * np.arange(ny), x0 + dx * np.arange(nx)


@dataclass(frozen=True)
class EnergyWindow:
    """An energy window of the camera, in keV."""

    name: str
    lower_kev: float
    upper_kev: float

    def __post_init__(self) -> None:
        if not 0 <= self.lower_kev < self.upper_kev:
            raise InputError(
                f"energy window {self.name!r} needs 0 <= lower < upper, got {self.lower_kev} to {self.upper_kev} keV"
            )

    @property
    def width_kev(self) -> float:
        """Width in keV."""
        return self.upper_kev - self.lower_kev

    def holds(self, energy_kev: float) -> bool:
        """True where the energy lies inside the window."""
        return self.lower_kev <= energy_kev <= self.upper_kev


@dataclass(frozen=True, eq=False)
class Acquisition:
    """How projections were taken: v views of `matrix` = (z rows, u columns) pixels.

    `view_angles_deg` (v,) 0 = detector at the patient's back, growing counter-clockwise seen from the feet; `radii_mm`
    (v,) axis to collimator face; `pixel_mm` (z, u); `view_seconds` (v,), NaN when unknown; `start` the beginning,
    `view_start_s` (v,) seconds from it (default: the views of each detector one after the other); `detector` (v,) the
    head; `axis_lps_mm` the rotation axis at the centre of projection row 0, None when unknown; `u_offset_mm` (v,) where
    the axis falls on the detector, from the centre of the matrix towards growing u; `corrections` the terms of DICOM's
    CorrectedImage.
    """

    view_angles_deg: Array
    radii_mm: Array
    matrix: tuple[int, int]
    pixel_mm: tuple[float, float]
    view_seconds: Array
    nuclide: str
    collimator: Collimator | None
    _: KW_ONLY
    start: datetime | None = None
    view_start_s: Array | None = None
    detector: Array | None = None
    axis_lps_mm: tuple[float, float, float] | None = None
    frame_of_reference_uid: str | None = None
    u_offset_mm: Array | None = None
    patient_position: str | None = None
    corrections: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        angles = _frozen(self.view_angles_deg, np.float64, (-1,), "view_angles_deg")
        views = angles.size
        if views == 0:
            raise InputError("an acquisition needs at least one view, got none")
        _finite(angles, "view_angles_deg")
        radii = _frozen(self.radii_mm, np.float64, (views,), "radii_mm")
        _finite(radii, "radii_mm", above=0.0)
        if radii.max() > LARGEST_RADIUS_MM:
            raise InputError(f"radii_mm must be at most {LARGEST_RADIUS_MM:g} mm, got {radii.max():g}: is it in mm?")
        seconds = _frozen(self.view_seconds, np.float64, (views,), "view_seconds")
        if not np.isnan(seconds).all():
            _finite(seconds, "view_seconds", above=0.0)
        detector = _frozen(np.zeros(views) if self.detector is None else self.detector, np.int64, (views,), "detector")
        offset = np.zeros(views) if self.u_offset_mm is None else self.u_offset_mm
        offset = _frozen(offset, np.float64, (views,), "u_offset_mm")
        _finite(offset, "u_offset_mm")
        if self.view_start_s is None:
            starts = np.zeros(views)
            known = np.nan_to_num(seconds)
            for head in np.unique(detector):
                own = detector == head
                starts[own] = np.cumsum(known[own]) - known[own]
        else:
            starts = np.asarray(self.view_start_s)
        starts = _frozen(starts, np.float64, (views,), "view_start_s")
        _finite(starts, "view_start_s")
        matrix = tuple(int(n) for n in self.matrix)
        pixel_mm = tuple(float(length) for length in self.pixel_mm)
        if len(matrix) != 2 or min(matrix) < 1:
            raise InputError(f"matrix needs (rows z, columns u) of at least 1, got {self.matrix}")
        if len(pixel_mm) != 2 or not all(np.isfinite(pixel_mm)) or min(pixel_mm) <= 0:
            raise InputError(f"pixel_mm needs (z, u) above 0 mm, got {self.pixel_mm}")
        if not SMALLEST_PIXEL_MM <= min(pixel_mm) <= max(pixel_mm) <= LARGEST_PIXEL_MM:
            raise InputError(
                f"pixel_mm must lie between {SMALLEST_PIXEL_MM:g} and {LARGEST_PIXEL_MM:g} mm, got {self.pixel_mm}"
            )
        axis = None if self.axis_lps_mm is None else tuple(float(coordinate) for coordinate in self.axis_lps_mm)
        if axis is not None and (len(axis) != 3 or not all(np.isfinite(axis))):
            raise InputError(f"axis_lps_mm needs three finite coordinates (x, y, z), got {self.axis_lps_mm}")
        _set(
            self,
            view_angles_deg=angles,
            radii_mm=radii,
            matrix=matrix,
            pixel_mm=pixel_mm,
            view_seconds=seconds,
            nuclide=nuclide_by_name(self.nuclide).name,
            view_start_s=starts,
            detector=detector,
            axis_lps_mm=axis,
            u_offset_mm=offset,
            corrections=frozenset(self.corrections),
        )

    @property
    def views(self) -> int:
        """Number of views."""
        return int(self.view_angles_deg.size)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (v, z, u) of the projections of one window."""
        return (self.views, *self.matrix)

    @property
    def times_known(self) -> bool:
        """True where the view times are known, so that images are in counts per second."""
        return not bool(np.isnan(self.view_seconds).any())


@dataclass(frozen=True)
class Injection:
    """What the patient got: the agent's name, its activity in MBq, and when; None for what is not known.

    `at` is a time of day alone where no date is known.
    """

    agent: str | None = None
    activity_mbq: float | None = None
    at: datetime | time | None = None

    def __post_init__(self) -> None:
        if self.activity_mbq is not None and not 0 < self.activity_mbq < np.inf:
            raise InputError(f"activity_mbq must be above 0 and finite, got {self.activity_mbq}")


@dataclass(frozen=True, eq=False)
class Study:
    """Raw projections of one acquisition: `counts` (w, v, z, u) float32, one entry of `windows` for each w.

    `patient` holds text by DICOM keyword.
    """

    acquisition: Acquisition
    windows: tuple[EnergyWindow, ...]
    counts: Array
    _: KW_ONLY
    patient: Mapping[str, str] = field(default_factory=dict)
    injection: Injection | None = None
    history: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        windows = tuple(self.windows)
        if not windows:
            raise InputError("a study needs at least one energy window, got none")
        names = [window.name.strip().lower() for window in windows]
        if len(set(names)) < len(names):
            raise InputError(f"energy windows need names of their own, got {', '.join(w.name for w in windows)}")
        counts = _frozen(
            self.counts, np.float32, (len(windows), *self.acquisition.shape), "counts (window, view, z, u)"
        )
        _finite(counts, "counts", least=0.0)
        _set(
            self,
            windows=windows,
            counts=counts,
            patient=dict(self.patient),
            history=tuple(self.history),
            warnings=tuple(self.warnings),
        )


@dataclass(frozen=True, eq=False)
class Projections:
    """Photopeak projections as a reconstruction takes them: `counts` (v, z, u) and the expected `scatter` (v, z, u).

    `photopeak` is the energy window of the counts, None where it is unknown; `energy_kev` the line that is imaged.
    `scatter` was estimated by `scatter_method` from `scatter_windows`, the lower one first. `notes` tell the user what
    to know about the estimate, and why there is none.
    """

    acquisition: Acquisition
    counts: Array
    energy_kev: float
    _: KW_ONLY
    scatter: Array | None = None
    scatter_method: str = "none"
    photopeak: EnergyWindow | None = None
    scatter_windows: tuple[EnergyWindow, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = _frozen(self.counts, np.float32, self.acquisition.shape, "counts (view, z, u)")
        _finite(counts, "counts", least=0.0)
        scatter = self.scatter
        if scatter is not None:
            scatter = _frozen(scatter, np.float32, self.acquisition.shape, "scatter (view, z, u)")
            _finite(scatter, "scatter", least=0.0)
        _check_energy(self.energy_kev)
        _set(
            self,
            counts=counts,
            scatter=scatter,
            scatter_windows=tuple(self.scatter_windows),
            notes=tuple(self.notes),
        )

    @property
    def window(self) -> str:
        """Name of the photopeak window; "photopeak" where it is unknown."""
        return "photopeak" if self.photopeak is None else self.photopeak.name


@dataclass(frozen=True, eq=False)
class Image:
    """Activity: `values` (z, y, x) on `grid`, in `unit` "cps/mL", "kBq/mL" or "relative" (view times unknown)."""

    values: Array
    grid: Grid
    unit: str
    _: KW_ONLY
    history: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.unit not in ("cps/mL", "kBq/mL", "relative"):
            raise InputError(f"unit {self.unit!r} is not one of cps/mL, kBq/mL, relative")
        values = _frozen(self.values, np.float32, self.grid.shape, "image values (z, y, x)")
        _finite(values, "image values")
        _set(self, values=values, history=tuple(self.history))


@dataclass(frozen=True, eq=False)
class MuMap:
    """Linear attenuation coefficients: `per_cm` (z, y, x) in 1/cm on `grid`, for photons of `energy_kev`."""

    per_cm: Array
    grid: Grid
    energy_kev: float

    def __post_init__(self) -> None:
        per_cm = _frozen(self.per_cm, np.float32, self.grid.shape, "mu-map (z, y, x)")
        _finite(per_cm, "mu-map", least=0.0)
        if per_cm.size and per_cm.max() > 20.0:
            raise InputError(f"mu-map holds {per_cm.max():g}: it must be in 1/cm, not in HU or 1/m")
        _check_energy(self.energy_kev)
        _set(self, per_cm=per_cm)


@dataclass(frozen=True, eq=False)
class Result:
    """What an attenuation model returns: image, the map that was used, the uncorrected image, notes for the user.

    `mu_spread` is the standard deviation of an estimated map, for the models that know one. `fallback` is the name of
    the model whose map was used instead of the model's own, None where there was no need. `reconstruct` fills in the
    rest: `projections` with the photopeak and the scatter correction that were used, `attenuation` the model's name,
    `device` where the image was reconstructed ("cpu" or "cuda").
    """

    image: Image
    _: KW_ONLY
    mu: MuMap | None = None
    mu_spread: MuMap | None = None
    uncorrected: Image | None = None
    fallback: str | None = None
    notes: tuple[str, ...] = ()
    projections: Projections | None = None
    attenuation: str | None = None
    device: str = "cpu"
