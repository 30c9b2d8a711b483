"""Numbers that are read from images: regional means, binding ratios, asymmetry, contrast, noise, errors, similarity.

Pure functions of arrays. A volume of interest (VOI) is an array of weights from 0 to 1 of the image's shape: a mask of
booleans, or the fraction of each voxel that lies inside.
"""

import math

import numpy as np

from spectac.recon.checks import check_above_zero, check_finite
from spectac.recon.errors import InputError, MissingExtraError
from spectac.recon.types import Array

STRIATAL_ML = 11.2
"""Volume of one striatum in mL that the Southampton method assumes (Tossici-Bolt et al. 2006)."""
SSIM_WINDOW = 11
"""Voxels across the window of `ssim`, and the fewest that an image may have on a side."""
SSIM_SIGMA = 1.5
"""Standard deviation of that window in voxels."""


def voi_mean(values: Array, voi: Array) -> float:
    """Mean of an image in a VOI, each voxel weighted by its fraction inside: sum(w f) / sum(w).

    Parameters
    ----------
    values
        Image of any shape.
    voi
        Weights from 0 to 1 of the same shape.

    Returns
    -------
    float
        Mean in the unit of the image.

    Raises
    ------
    InputError
        For different shapes, weights outside 0 to 1, and an empty VOI.

    Examples
    --------
    >>> voi_mean(np.array([1.0, 3.0, 9.0]), np.array([1.0, 1.0, 0.0]))
    2.0
    """
    image, weights = _inside(values, voi)
    return float(np.sum(weights * image) / np.sum(weights))


def voi_total(values: Array, voi: Array, voxel_ml: float) -> float:
    """Activity in a VOI: sum(w f) * voxel_ml.

    Parameters
    ----------
    values
        Image of any shape.
    voi
        Weights from 0 to 1 of the same shape.
    voxel_ml
        Volume of a voxel in mL.

    Returns
    -------
    float
        Activity in the image's unit times mL, which is counts per second for cps/mL.

    Raises
    ------
    InputError
        As `voi_mean`, and for a volume that is not above 0.

    Examples
    --------
    >>> voi_total(np.array([1.0, 3.0]), np.array([1.0, 0.5]), 0.1)
    0.25
    """
    check_above_zero({"the voxel volume in mL": voxel_ml})
    image, weights = _inside(values, voi)
    return float(np.sum(weights * image) * voxel_ml)


def striatal_binding_ratio(voi_mean: float, reference_mean: float) -> float:
    """Specific binding ratio (c_VOI - c_ref) / c_ref.

    Parameters
    ----------
    voi_mean
        Mean concentration in a striatal VOI.
    reference_mean
        Mean concentration in a reference region, in the same unit.

    Returns
    -------
    float
        Binding ratio.

    Raises
    ------
    InputError
        For a reference that is not above 0, and numbers that are not finite.

    Examples
    --------
    >>> striatal_binding_ratio(4.0, 1.0)
    3.0
    """
    _finite(voi_mean=voi_mean)
    check_above_zero({"the reference region's mean": reference_mean})
    return (voi_mean - reference_mean) / reference_mean


def southampton_sbr(voi_total: float, voi_ml: float, reference_mean: float, striatal_ml: float = STRIATAL_ML) -> float:
    """Binding ratio from a large VOI that holds all striatal counts: (T_VOI - c_ref V_VOI) / (c_ref V_s) [1]_.

    The result does not depend on the image's resolution as long as the VOI holds the whole blurred striatum.

    Parameters
    ----------
    voi_total
        Activity T_VOI in the VOI (`voi_total`), in the unit of `reference_mean` times mL.
    voi_ml
        Volume V_VOI of the VOI in mL.
    reference_mean
        Mean concentration c_ref in a reference region.
    striatal_ml
        Volume V_s of the striatum inside, in mL.

    Returns
    -------
    float
        Binding ratio.

    Raises
    ------
    InputError
        For volumes or a reference that are not above 0, and for a VOI smaller than the striatum.

    References
    ----------
    .. [1] Tossici-Bolt et al., Eur J Nucl Med Mol Imaging 2006;33:1491-1499.

    Examples
    --------
    >>> round(southampton_sbr(voi_total=62.4, voi_ml=40.0, reference_mean=1.0), 6)
    2.0
    """
    _finite(voi_total=voi_total, voi_ml=voi_ml)
    check_above_zero({"the reference region's mean": reference_mean, "the striatal volume in mL": striatal_ml})
    if voi_ml < striatal_ml * (1.0 - 1e-9):
        raise InputError(
            f"the Southampton method needs a VOI that holds the whole striatum of {striatal_ml:g} mL, got "
            f"{voi_ml:g} mL: enlarge it until it catches the blur, or use striatal_binding_ratio"
        )
    return (voi_total - reference_mean * voi_ml) / (reference_mean * striatal_ml)


def caudate_putamen_ratio(caudate_sbr: float, putamen_sbr: float) -> float:
    """Binding ratio of the caudate over that of the putamen of one side; it grows where the putamen is lost first.

    Parameters
    ----------
    caudate_sbr, putamen_sbr
        Binding ratios.

    Returns
    -------
    float
        Ratio.

    Raises
    ------
    InputError
        For a putamen whose binding ratio is not above 0.

    Examples
    --------
    >>> caudate_putamen_ratio(3.0, 2.0)
    1.5
    """
    _finite(caudate_sbr=caudate_sbr)
    check_above_zero({"the putamen's binding ratio": putamen_sbr})
    return caudate_sbr / putamen_sbr


def asymmetry_percent(right: float, left: float) -> float:
    """Asymmetry of two sides in percent of their mean: 200 |R - L| / (R + L).

    Parameters
    ----------
    right, left
        Values of the two sides.

    Returns
    -------
    float
        Asymmetry in percent.

    Raises
    ------
    InputError
        Where the sum of both sides is not above 0.

    Examples
    --------
    >>> asymmetry_percent(3.0, 2.0)
    40.0
    """
    _finite(right=right, left=left)
    check_above_zero({"the sum of both sides": right + left})
    return 200.0 * abs(right - left) / (right + left)


def contrast_recovery(hot_mean: float, background_mean: float, true_ratio: float) -> float:
    """Measured contrast over true contrast, (m / b - 1) / (true_ratio - 1) [1]_: 1 is perfect, 0 is invisible.

    Parameters
    ----------
    hot_mean
        Mean m in the region.
    background_mean
        Mean b in the background.
    true_ratio
        True activity of the region over that of the background: above 1 for a hot region, below 1 for a cold one.

    Returns
    -------
    float
        Contrast recovery.

    Raises
    ------
    InputError
        For a background that is not above 0, a negative ratio, and a ratio of 1, which has no contrast.

    References
    ----------
    .. [1] NEMA NU 2 (image quality), which states it in percent.

    Examples
    --------
    >>> contrast_recovery(3.0, 1.0, true_ratio=5.0)
    0.5
    """
    _finite(hot_mean=hot_mean, true_ratio=true_ratio)
    check_above_zero({"the background's mean": background_mean})
    if true_ratio < 0 or true_ratio == 1:
        raise InputError(f"contrast recovery needs a true ratio of at least 0 other than 1, got {true_ratio:g}")
    return (hot_mean / background_mean - 1.0) / (true_ratio - 1.0)


def coefficient_of_variation(values: Array, voi: Array | None = None) -> float:
    """Noise of a uniform region: standard deviation over mean of the image in a VOI.

    The standard deviation is that of the population, sqrt(sum(w (f - mean)^2) / sum(w)).

    Parameters
    ----------
    values
        Image of any shape.
    voi
        Weights from 0 to 1 of the same shape; None: everywhere.

    Returns
    -------
    float
        Coefficient of variation.

    Raises
    ------
    InputError
        As `voi_mean`, and for a mean that is not above 0.

    Examples
    --------
    >>> coefficient_of_variation(np.array([1.0, 3.0]))
    0.5
    """
    image, weights = _inside(values, voi)
    total = np.sum(weights)
    mean = float(np.sum(weights * image) / total)
    check_above_zero({"the mean in the VOI": mean})
    return float(math.sqrt(np.sum(weights * (image - mean) ** 2) / total) / mean)


def nmse(predicted: Array, truth: Array, mask: Array | None = None) -> float:
    """Squared error over the squared truth: sum(w (p - t)^2) / sum(w t^2).

    State the mask with the number: inside the head and over the volume differ.

    Parameters
    ----------
    predicted, truth
        Arrays p and t of one shape.
    mask
        Weights w from 0 to 1 of the same shape; None: 1 everywhere.

    Returns
    -------
    float
        Normalised mean squared error.

    Raises
    ------
    InputError
        For different shapes, an empty mask, and a truth that is 0 in the whole mask.

    Examples
    --------
    >>> nmse(np.array([1.0, 3.0]), np.array([1.0, 2.0]))
    0.2
    """
    p, t = _image(predicted), _image(truth)
    if p.shape != t.shape:
        raise InputError(f"an error needs two arrays of one shape, got {p.shape} and {t.shape}")
    _, weights = _inside(t, mask)
    energy = float(np.sum(weights * t**2))
    if energy == 0:
        raise InputError("a normalised error needs a truth that is not 0 everywhere in the mask")
    return float(np.sum(weights * (p - t) ** 2)) / energy


def nrmse(predicted: Array, truth: Array, mask: Array | None = None) -> float:
    """Root of `nmse`: the error over the root mean square of the truth, not over its range or mean.

    Parameters
    ----------
    predicted, truth
        Arrays of one shape.
    mask
        Weights from 0 to 1 of the same shape; None: 1 everywhere.

    Returns
    -------
    float
        Normalised root mean squared error.

    Raises
    ------
    InputError
        As `nmse`.

    Examples
    --------
    >>> nrmse(np.array([0.0, 3.0]), np.array([0.0, 2.0]))
    0.5
    """
    return math.sqrt(nmse(predicted, truth, mask))


def ssim(values: Array, reference: Array, mask: Array | None = None, *, data_range: float | None = None) -> float:
    """Structural similarity of two images, the mean of its map over a mask: 1 where they are the same [1]_.

    The map is SSIM = (2 m_x m_y + C1) (2 s_xy + C2) / ((m_x^2 + m_y^2 + C1) (s_x^2 + s_y^2 + C2)) with means, variances
    and covariance (of the population, not of a sample) under a 3D Gaussian of sigma 1.5 voxels that ends 5 voxels from
    its centre, C1 = (0.01 R)^2 and C2 = (0.03 R)^2. Images are continued by their mirror images. The whole map is
    computed first, so that voxels beside the mask reach into its border. Empty air counts 1 and lifts the mean: state
    the mask with the number. The value depends on the voxel size: compare on one grid. Computed by scikit-image.

    Parameters
    ----------
    values, reference
        Images (z, y, x) of one shape, at least 11 voxels a side.
    mask
        Weights (z, y, x) from 0 to 1; None: everywhere.
    data_range
        R; None: the reference's maximum inside the mask.

    Returns
    -------
    float
        Structural similarity.

    Raises
    ------
    InputError
        Without scikit-image, for other shapes, an empty mask, and a data range that is not above 0.

    References
    ----------
    .. [1] Wang et al., IEEE Trans Image Process 2004;13:600-612, doi:10.1109/TIP.2003.819861.

    Examples
    --------
    >>> image = np.random.default_rng(0).random((11, 11, 11))
    >>> ssim(image, image)
    1.0
    """
    image, (truth, weights) = _image(values), _inside(reference, mask)
    if image.shape != truth.shape:
        raise InputError(f"SSIM needs two images of one shape, got {image.shape} and {truth.shape}")
    if image.ndim != 3 or min(image.shape) < SSIM_WINDOW:
        raise InputError(f"SSIM needs images (z, y, x) of at least {SSIM_WINDOW} voxels a side, got {image.shape}")
    spread = float(truth[weights > 0].max()) if data_range is None else float(data_range)
    check_above_zero({"the data range of SSIM (by default the reference's maximum in the mask)": spread})
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        raise MissingExtraError("SSIM needs scikit-image", "report") from None
    _, similarity = structural_similarity(
        image, truth, data_range=spread, gaussian_weights=True, sigma=SSIM_SIGMA, use_sample_covariance=False, full=True
    )
    return float(np.sum(weights * similarity) / np.sum(weights))


def _inside(values: Array, voi: Array | None) -> tuple[Array, Array]:
    """Image and weights in float64, checked to fit each other and to hold something."""
    image = _image(values)
    weights = np.ones(image.shape) if voi is None else np.asarray(voi, dtype=np.float64)
    if weights.shape != image.shape:
        raise InputError(f"a VOI needs the image's shape {image.shape}, got {weights.shape}")
    if not np.all((weights >= 0) & (weights <= 1)):
        raise InputError("a VOI needs weights from 0 to 1; several labels need one VOI each")
    if not np.any(weights > 0):
        raise InputError("the VOI is empty: no voxel has a weight above 0")
    return image, weights


def _image(values: Array) -> Array:
    image = np.asarray(values, dtype=np.float64)
    check_finite(image, "the image")
    return image


def _finite(**named: float) -> None:
    for name, value in named.items():
        if not math.isfinite(value):
            raise InputError(f"{name} must be a finite number, got {value}")
