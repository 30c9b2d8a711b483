"""The data types of spectac: frozen dataclasses, checked at construction, with units in every name.

Arrays are taken over without a copy where dtype and layout fit, because a study may be hundreds of megabytes. They are
read-only afterwards: the caller must not write to them any more.

Axes: images (z, y, x), with z to superior, y to posterior and x to the patient's left. Projections (v, z, u), with z as
in the image and u to the right as the detector sees it, looking at the patient. docs/conventions.md has the drawing.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectac.recon.checks import check_above_zero, check_finite, numbers, sizes
from spectac.recon.collimator import Collimator, Focus
from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide as nuclide_by_name

Array = NDArray[Any]

LARGEST_RADIUS_MM = 1000.0
"""Largest radius of rotation. A larger one is in another unit."""
SMALLEST_PIXEL_MM, LARGEST_PIXEL_MM = 0.1, 50.0
"""Range of pixel sizes of gamma cameras. A size outside is in another unit."""
LARGEST_MU_PER_CM = 20.0
"""Largest coefficient of a mu-map. Larger values are HU or 1/m."""
UNITS = ("cps/mL", "kBq/mL", "relative")
"""Units of images; "relative" where the view times are unknown."""


def _frozen(values: ArrayLike, dtype: type, shape: tuple[int, ...], name: str, *, may_be_nan: bool = False) -> Array:
    """Contiguous, native, read-only array without NaN and infinity; -1 in `shape` stands for any length.

    `name` may end in the axes, "counts (view, z, u)". `may_be_nan`: all of it may be NaN.
    """
    array: Array = np.ascontiguousarray(np.asarray(values), dtype=dtype)
    if array.ndim != len(shape) or any(want not in (-1, got) for want, got in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("any" if n == -1 else str(n) for n in shape)
        raise InputError(f"{name} needs shape ({wanted}), got {np.shape(values)}")
    if not (may_be_nan and np.isnan(array).all()):
        check_finite(array, name.partition(" (")[0])
    array = array.view()
    array.flags.writeable = False
    return array


def _above(array: Array, name: str, *, or_equal: bool = False) -> Array:
    """The array, checked to be above 0, or at least 0."""
    least = array.min() if array.size else 1.0
    if least < 0 or (least == 0 and not or_equal):
        raise InputError(f"{name} must be {'at least' if or_equal else 'above'} 0, its smallest value is {least:g}")
    return array


def _set(instance: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(instance, name, value)


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxel grid in patient space.

    Parameters
    ----------
    shape
        Numbers of voxels (z, y, x).
    voxel_mm
        Voxel sizes (z, y, x) in mm.
    affine_lps
        Matrix (4, 4) from the index (z, y, x, 1) to LPS mm (x, y, z, 1) of voxel centres.

    Raises
    ------
    InputError
        For sizes below 1, and voxel sizes that do not fit the affine's columns.

    Examples
    --------
    >>> grid = Grid.upright((2, 4, 4), (5.0, 4.0, 4.0), first_lps_mm=(-6.0, -6.0, 0.0))
    >>> grid.voxel_ml
    0.08
    """

    shape: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]
    affine_lps: Array

    def __post_init__(self) -> None:
        voxel_mm = numbers(self.voxel_mm, "zyx", "voxel_mm of a grid", above_0=True)
        affine = _frozen(self.affine_lps, np.float64, (4, 4), "affine_lps")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if not np.allclose(lengths, voxel_mm, rtol=1e-4):
            raise InputError(f"voxel_mm {voxel_mm} does not fit the lengths {lengths.round(4)} of the affine's columns")
        _set(self, shape=sizes(self.shape, "zyx", "shape of a grid"), voxel_mm=voxel_mm, affine_lps=affine)

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
        """LPS coordinates (z, y, x) in mm of the voxel centres along the axes of an upright grid."""
        if not self.is_upright:
            raise InputError("centres_mm needs a grid along the patient's axes; resample the image to one first")
        x0, y0, z0 = self.affine_lps[:3, 3]
        dz, dy, dx = self.voxel_mm
        nz, ny, nx = self.shape
        return z0 + dz * np.arange(nz), y0 + dy * np.arange(ny), x0 + dx * np.arange(nx)


@dataclass(frozen=True)
class EnergyWindow:
    """Energy window of a camera.

    Parameters
    ----------
    name
        Name by which options and files refer to the window.
    lower_kev, upper_kev
        Limits in keV, 0 <= lower < upper.

    Examples
    --------
    >>> EnergyWindow("photopeak", 126.0, 154.0).holds(140.5)
    True
    """

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

    @property
    def centre_kev(self) -> float:
        """Middle in keV."""
        return 0.5 * (self.lower_kev + self.upper_kev)

    def holds(self, energy_kev: float) -> bool:
        """True where the energy lies inside the window."""
        return self.lower_kev <= energy_kev <= self.upper_kev


@dataclass(frozen=True, eq=False)
class Acquisition:
    """Geometry, times and camera of projections: v views of z rows and u columns.

    Parameters
    ----------
    view_angles_deg
        Angles (v,); 0 is the detector at the patient's back, growing counter-clockwise seen from the feet.
    radii_mm
        Distances (v,) from the rotation axis to the collimator's face.
    matrix
        Numbers of pixels (z, u).
    pixel_mm
        Pixel sizes (z, u) in mm.
    view_seconds
        Durations (v,) of the views; all NaN where they are unknown.
    nuclide
        Name of the nuclide, e.g. "Tc-99m".
    collimator
        Collimator, None where it is unknown.
    start
        Beginning of the acquisition.
    view_start_s
        Beginnings (v,) of the views in seconds from `start`. By default the views of each detector follow one another.
    detector
        Number (v,) of the detector that took each view; by default 0.
    axis_lps_mm
        Rotation axis (x, y, z) at the centre of projection row 0, None where it is unknown.
    frame_of_reference_uid
        DICOM's FrameOfReferenceUID of `axis_lps_mm`.
    u_offset_mm
        Where the normal through the axis meets the detector (v,), from the centre of the matrix towards growing u; by
        default 0.
    foci
        Transaxial focus of each detector, by ascending number; empty for parallel holes. By default the collimator's.
    patient_position
        DICOM's PatientPosition, e.g. "HFS".
    corrections
        Terms of DICOM's CorrectedImage.
    energy_resolution
        FWHM over energy of the camera at 140.5 keV; None where it is unknown.
    crystal_mm
        Thickness of the sodium iodide crystal in mm; None where it is unknown.

    Raises
    ------
    InputError
        For arrays of other shapes, values that are not finite, and sizes that no camera has.

    Examples
    --------
    >>> from spectac.recon import COLLIMATORS
    >>> acquisition = Acquisition(
    ...     np.arange(0.0, 360.0, 6.0), np.full(60, 150.0), (32, 64), (4.0, 4.0), np.full(60, 20.0), "I-123",
    ...     COLLIMATORS["siemens-lehr"],
    ... )
    >>> acquisition.shape
    (60, 32, 64)
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
    foci: tuple[Focus, ...] = ()
    patient_position: str | None = None
    corrections: frozenset[str] = frozenset()
    energy_resolution: float | None = None
    crystal_mm: float | None = None

    def __post_init__(self) -> None:
        angles = _frozen(self.view_angles_deg, np.float64, (-1,), "view_angles_deg")
        if angles.size == 0:
            raise InputError("an acquisition needs at least one view, got none")

        def by_view(name: str, default: ArrayLike = 0.0, dtype: type = np.float64) -> Array:
            given = getattr(self, name)
            values = np.broadcast_to(default, angles.shape) if given is None else given
            return _frozen(values, dtype, angles.shape, name)

        radii = _above(by_view("radii_mm"), "radii_mm")
        if radii.max() > LARGEST_RADIUS_MM:
            raise InputError(f"radii_mm must be at most {LARGEST_RADIUS_MM:g} mm, got {radii.max():g}: is it in mm?")
        pixel_mm = numbers(self.pixel_mm, "zu", "pixel_mm", above_0=True)
        if not SMALLEST_PIXEL_MM <= min(pixel_mm) <= max(pixel_mm) <= LARGEST_PIXEL_MM:
            raise InputError(
                f"pixel_mm must lie between {SMALLEST_PIXEL_MM:g} and {LARGEST_PIXEL_MM:g} mm, got {pixel_mm}"
            )
        for name, (least, most, hint) in _CAMERA.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InputError(f"{name} must lie between {least:g} and {most:g}, got {value:g}: {hint}")
        seconds = _frozen(self.view_seconds, np.float64, angles.shape, "view_seconds", may_be_nan=True)
        detector = by_view("detector", dtype=np.int64)
        heads, foci = np.unique(detector).size, tuple(self.foci)
        if not foci and self.collimator is not None and self.collimator.focus is not None:
            foci = (self.collimator.focus,) * heads
        if foci and len(foci) != heads:
            raise InputError(f"foci needs one focus for each of the {heads} detectors, got {len(foci)}")
        _set(
            self,
            view_angles_deg=angles,
            radii_mm=radii,
            matrix=sizes(self.matrix, "zu", "matrix"),
            pixel_mm=pixel_mm,
            view_seconds=_above(seconds, "view_seconds"),
            nuclide=nuclide_by_name(self.nuclide).name,
            view_start_s=by_view("view_start_s", _one_after_the_other(seconds, detector)),
            detector=detector,
            axis_lps_mm=None if self.axis_lps_mm is None else numbers(self.axis_lps_mm, "xyz", "axis_lps_mm"),
            u_offset_mm=by_view("u_offset_mm"),
            foci=foci,
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

    @property
    def image_unit(self) -> str:
        """Unit of reconstructed images: "cps/mL", or "relative" where the view times are unknown."""
        return "cps/mL" if self.times_known else "relative"


_CAMERA = {
    "energy_resolution": (1e-4, 0.3, "is it FWHM over energy, not in %?"),
    "crystal_mm": (1.0, 60.0, "is it in mm?"),
}
"""Least and largest value of a camera's facts, and what to ask where one lies beyond them."""


def _one_after_the_other(seconds: Array, detector: Array) -> Array:
    """Beginnings (v,) in seconds of views that each detector takes without a pause."""
    starts, durations = np.zeros(seconds.size), np.nan_to_num(seconds)
    for head in np.unique(detector):
        of_head = detector == head
        starts[of_head] = np.cumsum(durations[of_head]) - durations[of_head]
    return starts


@dataclass(frozen=True)
class Injection:
    """Agent, activity and time of an injection; None for what is unknown.

    Parameters
    ----------
    agent
        Name of the radiopharmaceutical.
    activity_mbq
        Injected activity in MBq.
    at
        Date and time, or the time of day alone.

    Examples
    --------
    >>> from datetime import time
    >>> Injection("ioflupane", 185.0, time(9, 30)).activity_mbq
    185.0
    """

    agent: str | None = None
    activity_mbq: float | None = None
    at: datetime | time | None = None

    def __post_init__(self) -> None:
        if self.activity_mbq is not None:
            check_above_zero({"activity_mbq": self.activity_mbq})


@dataclass(frozen=True, eq=False)
class Study:
    """Raw projections of one acquisition.

    Parameters
    ----------
    acquisition
        Geometry, times and camera.
    windows
        The w energy windows, with different names.
    counts
        Counts (w, v, z, u), float32, at least 0.
    patient
        Text by DICOM keyword.
    injection
        What the patient got, None where nothing is known.
    history
        What was done to the data, for readers.
    warnings
        What looks wrong in the files, for readers.

    Raises
    ------
    InputError
        For counts of another shape, negative or not finite, and for windows of one name.

    Examples
    --------
    >>> acquisition = Acquisition([0.0], [150.0], (2, 4), (4.0, 4.0), [20.0], "Tc-99m", None)
    >>> study = Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), np.ones((1, 1, 2, 4)))
    >>> study.counts.dtype.name
    'float32'
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
        _set(
            self,
            windows=windows,
            counts=_above(counts, "counts", or_equal=True),
            patient=dict(self.patient),
            history=tuple(self.history),
            warnings=tuple(self.warnings),
        )


@dataclass(frozen=True, eq=False)
class Projections:
    """Photopeak projections and expected scatter, as a reconstruction takes them.

    Parameters
    ----------
    acquisition
        Geometry, times and camera.
    counts
        Photopeak counts (v, z, u), float32.
    energy_kev
        Energy of the imaged line in keV.
    scatter
        Expected scattered counts (v, z, u), None without scatter correction.
    scatter_method
        How `scatter` was estimated.
    photopeak
        Energy window of the counts, None where it is unknown.
    scatter_windows
        Energy windows that `scatter` was estimated from, the lower one first.
    scatter_parameters
        Numbers of the estimate by name.
    notes
        What the user should know about the estimate, or why there is none.

    Raises
    ------
    InputError
        For arrays of another shape, negative or not finite.

    Examples
    --------
    >>> acquisition = Acquisition([0.0], [150.0], (2, 4), (4.0, 4.0), [20.0], "Tc-99m", None)
    >>> Projections(acquisition, np.ones((1, 2, 4)), 140.5).window
    'photopeak'
    """

    acquisition: Acquisition
    counts: Array
    energy_kev: float
    _: KW_ONLY
    scatter: Array | None = None
    scatter_method: str = "none"
    photopeak: EnergyWindow | None = None
    scatter_windows: tuple[EnergyWindow, ...] = ()
    scatter_parameters: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        def checked(values: Array, name: str) -> Array:
            projections = _frozen(values, np.float32, self.acquisition.shape, f"{name} (view, z, u)")
            return _above(projections, name, or_equal=True)

        check_above_zero({"energy_kev": self.energy_kev})
        _set(
            self,
            counts=checked(self.counts, "counts"),
            scatter=None if self.scatter is None else checked(self.scatter, "scatter"),
            scatter_windows=tuple(self.scatter_windows),
            notes=tuple(self.notes),
        )

    @property
    def window(self) -> str:
        """Name of the photopeak window; "photopeak" where it is unknown."""
        return "photopeak" if self.photopeak is None else self.photopeak.name


@dataclass(frozen=True, eq=False)
class Image:
    """Activity image.

    Parameters
    ----------
    values
        Values (z, y, x), float32; filtered backprojection gives negative ones as well.
    grid
        Voxel grid.
    unit
        "cps/mL", "kBq/mL" after calibration, or "relative" where the view times are unknown.
    history
        How the image was made, for readers.

    Raises
    ------
    InputError
        For another shape, another unit, and values that are not finite.

    Examples
    --------
    >>> grid = Grid.upright((2, 4, 4), (5.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> Image(np.zeros((2, 4, 4)), grid, "cps/mL").values.dtype.name
    'float32'
    """

    values: Array
    grid: Grid
    unit: str
    _: KW_ONLY
    history: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise InputError(f"unit {self.unit!r} is not one of {', '.join(UNITS)}")
        values = _frozen(self.values, np.float32, self.grid.shape, "image values (z, y, x)")
        _set(self, values=values, history=tuple(self.history))


@dataclass(frozen=True, eq=False)
class MuMap:
    """Map of linear attenuation coefficients.

    Parameters
    ----------
    per_cm
        Coefficients (z, y, x) in 1/cm, float32, from 0 to 20.
    grid
        Voxel grid.
    energy_kev
        Energy of the photons in keV.

    Raises
    ------
    InputError
        For another shape, and for values that are negative, not finite or in other units.

    Examples
    --------
    >>> grid = Grid.upright((2, 4, 4), (5.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> MuMap(np.full((2, 4, 4), 0.15), grid, 140.5).per_cm.dtype.name
    'float32'
    """

    per_cm: Array
    grid: Grid
    energy_kev: float

    def __post_init__(self) -> None:
        per_cm = _frozen(self.per_cm, np.float32, self.grid.shape, "mu-map (z, y, x)")
        _above(per_cm, "mu-map", or_equal=True)
        if per_cm.size and per_cm.max() > LARGEST_MU_PER_CM:
            raise InputError(f"mu-map holds {per_cm.max():g}: it must be in 1/cm, not in HU or 1/m")
        check_above_zero({"energy_kev": self.energy_kev})
        _set(self, per_cm=per_cm)


@dataclass(frozen=True)
class LowCounts:
    """How the noise of a short scan was treated.

    Parameters
    ----------
    method
        "none", "map" (a prior whose weight follows the sensitivity), or the name of a model.
    prior_beta
        Weight of the relative-difference prior of "map".
    anchor_weight
        Weight of the model's image in the reconstruction.
    protocol
        Version of the protocol of the image that the model saw.

    Examples
    --------
    >>> LowCounts("map", prior_beta=0.2).method
    'map'
    """

    method: str = "none"
    prior_beta: float | None = None
    anchor_weight: float | None = None
    protocol: int | None = None


@dataclass(frozen=True)
class HolderShare:
    """Density of a holder, estimated from the counts (`recon.holder_fit`).

    Parameters
    ----------
    share
        Factor on a typical holder's map.
    sd
        Its standard deviation.

    Examples
    --------
    >>> HolderShare(0.7, 0.16).share
    0.7
    """

    share: float
    sd: float


@dataclass(frozen=True)
class SkullFit:
    """What the counts ask for in the skull of a map (`recon.skull_fit`).

    Parameters
    ----------
    more
        Attenuation that is missing there, as a share of that of the whole head; negative: too much is there.
    sd
        Its standard deviation.
    added
        What was added before, for earlier fits had asked for it.

    Examples
    --------
    >>> SkullFit(0.02, 0.03).added
    0.0
    """

    more: float
    sd: float
    added: float = 0.0


@dataclass(frozen=True, eq=False)
class Result:
    """Result of an attenuation model and of `reconstruct`.

    Parameters
    ----------
    image
        Corrected image.
    mu
        Map that was used, None without attenuation correction.
    mu_spread
        Uncertainty of an estimated map, for models that know one: 68 % of its voxels are less wrong.
    spread
        The same of the image, relative: the mean over a region is the uncertainty of the region's mean by the head's
        map, without what lies beside it.
    uncorrected
        Image without attenuation correction, for models that make one.
    fallback
        Name of the model whose map was used instead of the model's own; None where there was no need.
    notes
        What the user should know.
    projections
        Photopeak and scatter correction that were used; filled in by `reconstruct`.
    attenuation
        Name of the attenuation model; filled in by `reconstruct`.
    algorithm
        Algorithm of the image, where the model chose it: filled in by `reconstruct` where it did not.
    holder
        What lies beside the head: "none", "typical", "fitted" or a file's name; None: as the model's map has it. Filled
        in by `reconstruct`.
    holder_share
        Density of a fitted holder; None for others. Filled in by `reconstruct`.
    skull
        What the counts say of a predicted map's skull; None where they were not asked. Filled in by `reconstruct`.
    device
        Where the image was reconstructed, "cpu" or "cuda"; filled in by `reconstruct`.
    low_counts
        How the noise of a short scan was treated; filled in by `reconstruct`.
    repeats
        Images of repeated scans that a low-counts model simulated: what is read in them spreads as by noise. Filled in
        by `reconstruct`.

    Examples
    --------
    >>> grid = Grid.upright((2, 4, 4), (5.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> Result(Image(np.zeros((2, 4, 4)), grid, "cps/mL")).mu is None
    True
    """

    image: Image
    _: KW_ONLY
    mu: MuMap | None = None
    mu_spread: MuMap | None = None
    spread: Image | None = None
    uncorrected: Image | None = None
    fallback: str | None = None
    notes: tuple[str, ...] = ()
    projections: Projections | None = None
    attenuation: str | None = None
    algorithm: str | None = None
    holder: str | None = None
    holder_share: HolderShare | None = None
    skull: SkullFit | None = None
    device: str = "cpu"
    low_counts: LowCounts = LowCounts()
    repeats: tuple[Image, ...] = ()
