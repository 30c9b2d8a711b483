"""Numbers that are read from images: regional means, binding ratios, asymmetry, contrast, noise, errors, likeness.

Pure functions of arrays. A volume of interest (VOI) is an array of weights from 0 to 1 of the image's shape: a mask of
booleans, or the fraction of each voxel that lies inside.
"""

import math
from collections.abc import Mapping

import numpy as np

from spectac.recon.errors import InputError, MissingExtraError
from spectac.recon.types import Array

STRIATAL_ML = 11.2
"""Volume of one striatum in mL that the Southampton method assumes (Tossici-Bolt et al. 2006)."""

SSIM_WINDOW = 11
"""Voxels across the window of `ssim`, and the fewest that an image may have on a side."""


def voi_mean(values: Array, voi: Array) -> float:
    """Mean of the image in a VOI, each voxel weighted by its fraction inside: sum(w f) / sum(w).

    Raises InputError where the shapes differ, weights leave 0..1 or the VOI is empty.
    """
    image, weights = _inside(values, voi)
    return float(np.sum(weights * image) / np.sum(weights))


def voi_total(values: Array, voi: Array, voxel_ml: float) -> float:
    """Activity in a VOI: sum(w f) * voxel_ml, in the image's unit times mL (counts per second for cps/mL).

    Raises InputError as `voi_mean`, and for a voxel volume that is not above 0 mL.
    """
    if not (math.isfinite(voxel_ml) and voxel_ml > 0):
        raise InputError(f"a total needs a voxel volume above 0 mL, got {voxel_ml}")
    image, weights = _inside(values, voi)
    return float(np.sum(weights * image) * voxel_ml)


def regional_means(values: Array, labels: Array) -> dict[int, float]:
    """Mean of the image in each region of a label image; label 0 is background and left out.

    `labels`: integers of the image's shape. For regions with soft edges use `voi_mean`.
    Raises InputError where the shapes differ, labels are no integers or negative, or nothing is labelled.
    """
    image, regions = _finite(values), np.asarray(labels)
    if regions.shape != image.shape:
        raise InputError(f"labels need the image's shape {image.shape}, got {regions.shape}")
    if not np.issubdtype(regions.dtype, np.integer):
        raise InputError(
            f"labels need to be integers, got {regions.dtype}: convert them, or use voi_mean for soft VOIs"
        )
    found, index = np.unique(regions, return_inverse=True)
    if found.size and found[0] < 0:
        raise InputError(f"labels must not be negative, the smallest is {found[0]}")
    if not np.any(found > 0):
        raise InputError("the label image holds no region: every voxel is 0")
    sums = np.bincount(index.ravel(), weights=image.ravel())
    voxels = np.bincount(index.ravel())
    means = zip(found.tolist(), (sums / voxels).tolist(), strict=True)
    return {label: mean for label, mean in means if label > 0}


def striatal_binding_ratio(voi_mean: float, reference_mean: float) -> float:
    """Specific binding ratio (c_VOI - c_ref) / c_ref of mean concentrations in a striatal VOI and a reference region.

    Any common unit. Raises InputError for a reference that is not above 0.
    """
    _numbers({"voi_mean": voi_mean, "reference_mean": reference_mean})
    _above_zero("a binding ratio", "the reference region's mean", reference_mean)
    return (voi_mean - reference_mean) / reference_mean


def southampton_sbr(voi_total: float, voi_ml: float, reference_mean: float, striatal_ml: float = STRIATAL_ML) -> float:
    """Binding ratio from a large VOI that catches all striatal counts: (T_VOI - c_ref V_VOI) / (c_ref V_s).

    `voi_total` T_VOI, the activity in the VOI (unit of `reference_mean` times mL, see `voi_total`); `voi_ml` V_VOI, its
    volume; `striatal_ml` V_s, the volume of the striatum inside. The result does not depend on the image's resolution
    as long as the VOI holds the whole blurred striatum.

    Reference: Tossici-Bolt L et al., Eur J Nucl Med Mol Imaging 2006; 33:1491-1499.
    Raises InputError for volumes or a reference that are not above 0, and a VOI smaller than the striatum.
    """
    _numbers({"voi_total": voi_total, "voi_ml": voi_ml, "reference_mean": reference_mean, "striatal_ml": striatal_ml})
    _above_zero("a binding ratio", "the reference region's mean", reference_mean)
    _above_zero("the Southampton method", "the striatal volume in mL", striatal_ml)
    if voi_ml < striatal_ml * (1.0 - 1e-9):
        raise InputError(
            f"the Southampton method needs a VOI that holds the whole striatum of {striatal_ml:g} mL, got "
            f"{voi_ml:g} mL: enlarge it until it catches the blur, or use striatal_binding_ratio"
        )
    return (voi_total - reference_mean * voi_ml) / (reference_mean * striatal_ml)


def caudate_putamen_ratio(caudate_sbr: float, putamen_sbr: float) -> float:
    """Binding ratio of the caudate over that of the putamen of one side; it grows where the putamen is lost first.

    Raises InputError for a putamen whose binding ratio is not above 0: nothing is left there to compare with.
    """
    _numbers({"caudate_sbr": caudate_sbr, "putamen_sbr": putamen_sbr})
    _above_zero("a ratio of caudate to putamen", "the putamen's binding ratio", putamen_sbr)
    return caudate_sbr / putamen_sbr


def asymmetry_percent(right: float, left: float) -> float:
    """Asymmetry of two sides in percent of their mean: 200 |R - L| / (R + L).

    Raises InputError where the sum of both sides is not above 0.
    """
    _numbers({"right": right, "left": left})
    _above_zero("an asymmetry", "the sum of both sides", right + left)
    return 200.0 * abs(right - left) / (right + left)


def contrast_recovery(hot_mean: float, background_mean: float, true_ratio: float) -> float:
    """Measured contrast over true contrast, (m / b - 1) / (true_ratio - 1): 1 is perfect, 0 is invisible.

    `hot_mean` m is the mean in the region, `true_ratio` its true activity over the background's: above 1 for a hot
    region, below 1 for a cold one (0: no activity, where this is 1 - m / b).

    Reference: NEMA NU 2 (image quality), which states it in percent.
    Raises InputError for a background that is not above 0, a negative ratio, and a ratio of 1, which has no contrast.
    """
    _numbers({"hot_mean": hot_mean, "background_mean": background_mean, "true_ratio": true_ratio})
    _above_zero("contrast recovery", "the background's mean", background_mean)
    if true_ratio < 0 or true_ratio == 1:
        raise InputError(f"contrast recovery needs a true ratio of at least 0 other than 1, got {true_ratio:g}")
    return (hot_mean / background_mean - 1.0) / (true_ratio - 1.0)


def coefficient_of_variation(values: Array, voi: Array | None = None) -> float:
    """Noise of a uniform region: standard deviation over mean of the image in a VOI (None: everywhere).

    The standard deviation is that of the population: sqrt(sum(w (f - mean)^2) / sum(w)).
    Raises InputError as `voi_mean`, and for a mean that is not above 0.
    """
    image, weights = _inside(values, voi)
    total = np.sum(weights)
    mean = float(np.sum(weights * image) / total)
    _above_zero("a coefficient of variation", "the mean", mean)
    return float(math.sqrt(np.sum(weights * (image - mean) ** 2) / total) / mean)


def nmse(predicted: Array, truth: Array, mask: Array | None = None) -> float:
    """Squared error over the squared truth: sum(w (p - t)^2) / sum(w t^2), w the mask (None: 1 everywhere).

    State the mask with the number: inside the head and over the volume differ.
    Raises InputError where the shapes differ, the mask is empty, or the truth is 0 all over it.
    """
    p, t = _finite(predicted), _finite(truth)
    if p.shape != t.shape:
        raise InputError(f"an error needs two arrays of one shape, got {p.shape} and {t.shape}")
    _, weights = _inside(t, mask)
    energy = float(np.sum(weights * t**2))
    if energy == 0:
        raise InputError("a normalised error needs a truth that is not 0 everywhere in the mask")
    return float(np.sum(weights * (p - t) ** 2)) / energy


def nrmse(predicted: Array, truth: Array, mask: Array | None = None) -> float:
    """Root of the squared error over the squared truth: sqrt(sum(w (p - t)^2) / sum(w t^2)) = sqrt(nmse).

    The normalisation is the root mean square of the truth, not its range or mean. Raises InputError as `nmse`.
    """
    return math.sqrt(nmse(predicted, truth, mask))


def ssim(values: Array, reference: Array, mask: Array | None = None, *, data_range: float | None = None) -> float:
    """Structural similarity of two images (z, y, x), the mean of its map over the mask: 1 where they are the same.

    The map is SSIM = (2 m_x m_y + C1) (2 s_xy + C2) / ((m_x^2 + m_y^2 + C1) (s_x^2 + s_y^2 + C2)) with means, variances
    and covariance (of the population, not of a sample) under a 3-D Gaussian of sigma 1.5 voxels that ends 5 voxels from
    its centre; C1 = (0.01 R)^2, C2 = (0.03 R)^2, R = `data_range` (None: the maximum of the reference inside the mask).
    The images are continued by their mirror images beyond their faces. The whole map is computed first, so that voxels
    beside the mask reach into its border, then averaged with the mask's weights (None: everywhere). Empty air counts 1
    and lifts the mean: state the mask with the number. It depends on the voxel's size: compare on one grid.

    Reference: Wang Z et al., IEEE Trans Image Process 2004; 13:600-612, doi:10.1109/TIP.2003.819861; computed by
    scikit-image. Raises InputError without it, where shapes differ or a side has fewer than 11 voxels, for an empty
    mask, and for a data range that is not above 0.
    """
    image, (truth, weights) = _finite(values), _inside(reference, mask)
    if image.shape != truth.shape:
        raise InputError(f"SSIM needs two images of one shape, got {image.shape} and {truth.shape}")
    if image.ndim != 3 or min(image.shape) < SSIM_WINDOW:
        raise InputError(f"SSIM needs images (z, y, x) of at least {SSIM_WINDOW} voxels a side, got {image.shape}")
    spread = float(truth[weights > 0].max()) if data_range is None else float(data_range)
    _numbers({"data_range": spread})
    _above_zero("SSIM", "the data range (by default the reference's maximum in the mask)", spread)
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        raise MissingExtraError("SSIM needs scikit-image", "report") from None
    _, similar = structural_similarity(
        image, truth, data_range=spread, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    return float(np.sum(weights * similar) / np.sum(weights))


def _inside(values: Array, voi: Array | None) -> tuple[Array, Array]:
    """Image and weights in float64, checked to fit each other and to hold something."""
    image = _finite(values)
    weights = np.ones(image.shape) if voi is None else np.asarray(voi, dtype=np.float64)
    if weights.shape != image.shape:
        raise InputError(f"a VOI needs the image's shape {image.shape}, got {weights.shape}")
    if not np.all((weights >= 0) & (weights <= 1)):
        raise InputError("a VOI needs weights from 0 to 1; for several labels use regional_means")
    if not np.any(weights > 0):
        raise InputError("the VOI is empty: no voxel has a weight above 0")
    return image, weights


def _finite(values: Array) -> Array:
    image = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(image)):
        raise InputError(f"the image holds {int(np.sum(~np.isfinite(image)))} values that are NaN or infinite")
    return image


def _numbers(named: Mapping[str, float]) -> None:
    for name, value in named.items():
        if not math.isfinite(value):
            raise InputError(f"{name} must be a finite number, got {value}")


def _above_zero(what: str, name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{what} needs {name} above 0, got {value:g}")
