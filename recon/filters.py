"""Image filters after reconstruction: Gaussian and Butterworth in three dimensions, and the text that names a filter.

Both see the image continued by its own mirror image beyond every face (the half-sample symmetric extension). So nothing
wraps round from the opposite face, a constant stays that constant up to the border, and the total is kept.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
import scipy.ndimage

from spectac.recon.checks import check_above_zero, numbers
from spectac.recon.collimator import FWHM_PER_SIGMA
from spectac.recon.device import cpu_threads
from spectac.recon.errors import InputError
from spectac.recon.kernels.subnormal import FAINT, subnormals_are_zero
from spectac.recon.types import Array, Image

_TRUNCATE_SIGMAS = 5.0
"""Half-width of the Gaussian in sigma: the cut-off tail holds 6e-7 of the area and 2e-5 of the variance."""
LARGEST_FWHM_MM = 200.0
"""A head is 200 mm: a wider filter leaves no image, and its kernel takes very long."""


@subnormals_are_zero()
def gaussian(values: Array, voxel_mm: Sequence[float], fwhm_mm: float) -> Array:
    """Image blurred by an isotropic Gaussian.

    No negative value comes from a non-negative image. Tails below 1e-20 of the result's maximum are 0.

    Assumes: the FWHM is at least 1.5 voxels. The kernel is sampled at voxel centres: its variance is fwhm^2 / (8 ln 2)
    within 0.01 % from 2 voxels up, 1.1 % too small at 1.5 voxels, 6 % at 1.3, 38 % at 1, and finally it does not blur.

    Parameters
    ----------
    values
        Image (z, y, x).
    voxel_mm
        Voxel sizes (z, y, x) in mm.
    fwhm_mm
        Full width at half maximum in mm; 0 changes nothing.

    Returns
    -------
    Array
        Image (z, y, x): float64 stays float64, all else becomes float32.

    Raises
    ------
    InputError
        For other shapes and negative widths.

    Examples
    --------
    >>> point = np.zeros((9, 9, 9))
    >>> point[4, 4, 4] = 1.0
    >>> round(float(gaussian(point, (4.0, 4.0, 4.0), 8.0).max()), 3)
    0.104
    """
    image, voxel = _volume(values, voxel_mm)
    if not (math.isfinite(fwhm_mm) and fwhm_mm >= 0):
        raise InputError(f"a Gaussian filter needs a FWHM of at least 0 mm, got {fwhm_mm}")
    if fwhm_mm == 0:
        return image.copy()
    sigma = [fwhm_mm / FWHM_PER_SIGMA / length for length in voxel]
    blurred = np.asarray(scipy.ndimage.gaussian_filter(image, sigma, mode="reflect", truncate=_TRUNCATE_SIGMAS))
    sizes = np.abs(blurred)
    blurred[sizes < image.dtype.type(FAINT) * sizes.max(initial=0)] = 0
    return blurred


def butterworth(values: Array, voxel_mm: Sequence[float], cutoff_per_cm: float, order: float) -> Array:
    """Image low-pass filtered with gain 1 / sqrt(1 + (f / cutoff)^(2 order)), f the radial frequency in 3D.

    Vendors also quote the cut-off as a fraction of the Nyquist frequency 5 / voxel_mm, or define the gain without the
    square root, so that it is 1/2 at the cut-off: convert first. High orders ring and can turn small values negative.
    The discrete cosine transform of type II is the Fourier transform of the mirrored image.

    Parameters
    ----------
    values
        Image (z, y, x).
    voxel_mm
        Voxel sizes (z, y, x) in mm.
    cutoff_per_cm
        Frequency in cycles per cm where the gain is 1/sqrt(2).
    order
        Order of the filter.

    Returns
    -------
    Array
        Image (z, y, x): float64 stays float64, all else becomes float32.

    Raises
    ------
    InputError
        For other shapes, and for a cut-off or order that is not above 0.

    Examples
    --------
    >>> round(float(butterworth(np.ones((4, 4, 4)), (4.0, 4.0, 4.0), 0.5, 10.0).mean()), 6)
    1.0
    """
    image, voxel = _volume(values, voxel_mm)
    ButterworthFilter(cutoff_per_cm, order)
    radial = np.zeros(())
    for axis, (size, length) in enumerate(zip(image.shape, voxel, strict=True)):
        frequency = np.arange(size) * 10.0 / (2.0 * size * length)
        radial = radial + np.expand_dims(frequency**2, tuple(n for n in range(3) if n != axis))
    spectrum = scipy.fft.dctn(image, type=2, norm="ortho", workers=cpu_threads())
    # The transforms stay outside: threads that scipy keeps would inherit the mode.
    with subnormals_are_zero():
        spectrum *= butterworth_gain(np.sqrt(radial), cutoff_per_cm, order).astype(image.dtype)
    return np.asarray(scipy.fft.idctn(spectrum, type=2, norm="ortho", overwrite_x=True, workers=cpu_threads()))


def butterworth_gain(frequency: Array, cutoff: float, order: float) -> Array:
    """Gain of a Butterworth low-pass, 1 / sqrt(1 + (f / cutoff)^(2 order)).

    Parameters
    ----------
    frequency
        Frequencies of any shape.
    cutoff
        Cut-off in the same unit.
    order
        Order of the filter.

    Returns
    -------
    Array
        Gains of the same shape.

    Examples
    --------
    >>> round(float(butterworth_gain(0.5, 0.5, 10.0)), 4)
    0.7071
    """
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / np.sqrt(1.0 + (frequency / cutoff) ** (2.0 * order)))


@dataclass(frozen=True)
class GaussianFilter:
    """Post-filter that blurs an image by a Gaussian.

    Parameters
    ----------
    fwhm_mm
        Full width at half maximum, from 0 to 200 mm.

    Raises
    ------
    InputError
        For another width.

    Examples
    --------
    >>> GaussianFilter(8.0).name
    'gaussian:8'
    """

    fwhm_mm: float

    def __post_init__(self) -> None:
        if not 0 <= self.fwhm_mm <= LARGEST_FWHM_MM:
            raise InputError(f"a Gaussian filter needs a FWHM from 0 to {LARGEST_FWHM_MM:g} mm, got {self.fwhm_mm}")

    @property
    def name(self) -> str:
        """Text from which `parse_post_filter` makes this filter."""
        return f"gaussian:{self.fwhm_mm:g}"

    def __call__(self, image: Image) -> Image:
        """Filter an image and add a line to its history."""
        values = gaussian(image.values, image.grid.voxel_mm, self.fwhm_mm)
        return replace(image, values=values, history=(*image.history, f"post-filter {self.name} (FWHM in mm)"))


@dataclass(frozen=True)
class ButterworthFilter:
    """Post-filter that applies a Butterworth low-pass in 3D to an image.

    Parameters
    ----------
    cutoff_per_cm
        Frequency in cycles per cm where the gain is 1/sqrt(2).
    order
        Order of the filter.

    Raises
    ------
    InputError
        For a cut-off or order that is not above 0.

    Examples
    --------
    >>> ButterworthFilter(0.5, 10.0).name
    'butterworth:0.5:10'
    """

    cutoff_per_cm: float
    order: float

    def __post_init__(self) -> None:
        check_above_zero(
            {
                "the cut-off of a Butterworth filter in cycles per cm": self.cutoff_per_cm,
                "the order of a Butterworth filter": self.order,
            }
        )

    @property
    def name(self) -> str:
        """Text from which `parse_post_filter` makes this filter."""
        return f"butterworth:{self.cutoff_per_cm:g}:{self.order:g}"

    def __call__(self, image: Image) -> Image:
        """Filter an image and add a line to its history."""
        values = butterworth(image.values, image.grid.voxel_mm, self.cutoff_per_cm, self.order)
        note = f"post-filter {self.name} (cut-off in cycles per cm, order)"
        return replace(image, values=values, history=(*image.history, note))


PostFilter = GaussianFilter | ButterworthFilter


def parse_post_filter(text: str) -> PostFilter:
    """Post-filter of a text.

    Parameters
    ----------
    text
        "gaussian:FWHM_MM" or "butterworth:CUTOFF_PER_CM:ORDER".

    Returns
    -------
    PostFilter
        Filter with that name.

    Raises
    ------
    InputError
        For any other text.

    Examples
    --------
    >>> parse_post_filter("gaussian:8")
    GaussianFilter(fwhm_mm=8.0)
    """
    kind, parameters = kind_and_numbers(text, {"gaussian": 1, "butterworth": 2})
    if kind is None:
        raise InputError(
            f"post-filter {text!r} is not gaussian:FWHM_MM or butterworth:CUTOFF_PER_CM:ORDER, "
            "for example gaussian:8 or butterworth:0.5:10"
        )
    return GaussianFilter(*parameters) if kind == "gaussian" else ButterworthFilter(*parameters)


def kind_and_numbers(text: str, counts: Mapping[str, int]) -> tuple[str | None, tuple[float, ...]]:
    """Parts of a text "kind:number:number".

    Parameters
    ----------
    text
        Text of a filter.
    counts
        Number of numbers that belong to each kind.

    Returns
    -------
    tuple
        Kind and numbers; None and nothing where the text is of none of these kinds.

    Examples
    --------
    >>> kind_and_numbers("Hann:0.5", {"ramp": 0, "hann": 1})
    ('hann', (0.5,))
    """
    kind, *parts = text.strip().lower().split(":")
    try:
        parameters = tuple(float(part) for part in parts)
    except ValueError:
        return None, ()
    return (kind, parameters) if counts.get(kind) == len(parameters) else (None, ())


def _volume(values: Array, voxel_mm: Sequence[float]) -> tuple[Array, tuple[float, ...]]:
    """Image in a floating dtype and its voxel sizes, checked."""
    image = np.asarray(values)
    image = image.astype(np.float64 if image.dtype == np.float64 else np.float32, copy=False)
    if image.ndim != 3:
        raise InputError(f"a filter needs an image (z, y, x), got shape {image.shape}")
    return image, numbers(voxel_mm, "zyx", "voxel_mm of a filter", above_0=True)
