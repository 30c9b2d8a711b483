"""Training losses: error of the volume, of its edges, and of the attenuation factors along four directions.

A map enters the reconstruction as attenuation factors exp(-line integral), averaged over the views. To first order, the
relative error of a voxel's mean factor is that of its activity. The third term of `map_loss` therefore compares mean
factors along four directions at right angles, after a rotation of the map by a random angle.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor


def map_loss(
    estimate: Tensor, truth: Tensor, water_per_voxel: Tensor, angle_deg: float, weights: tuple[float, float, float]
) -> Tensor:
    """Weighted sum of three errors of maps relative to water.

    The terms are the mean |error|, the mean |error| of differences between neighbours, and `factor_error`. The last one
    uses blocks of 2 x 2 x 2 voxels, which keep line integrals and take an eighth of the time.

    Parameters
    ----------
    estimate, truth
        Maps (n, z, y, x) over mu of water.
    water_per_voxel
        Attenuation (n,) of a voxel of water: mu times the voxel's length.
    angle_deg
        Rotation in plane before the factors are compared.
    weights
        Weights of the three terms.

    Returns
    -------
    Tensor
        Scalar.

    Examples
    --------
    >>> truth = torch.ones(1, 8, 8, 8)
    >>> loss = map_loss(1.5 * truth, truth, torch.tensor([0.06]), 0.0, (1.0, 0.0, 0.0))
    >>> float(loss)
    0.5
    """
    error = estimate - truth
    on_edges = torch.stack([error.diff(dim=axis).abs().mean() for axis in (1, 2, 3)]).mean()
    coarse, true_coarse = (torch.nn.functional.avg_pool3d(volumes, 2) for volumes in (estimate, truth))
    on_factors = factor_error(coarse, true_coarse, 2.0 * water_per_voxel, angle_deg)
    return weights[0] * error.abs().mean() + weights[1] * on_edges + weights[2] * on_factors


def factor_error(estimate: Tensor, truth: Tensor, water_per_voxel: Tensor, angle_deg: float) -> Tensor:
    """Mean |estimate / truth - 1| of attenuation factors averaged over four directions, inside the true head.

    Half of a voxel's own attenuation counts, as in the projector.

    Parameters
    ----------
    estimate, truth
        Maps (n, z, y, x) over mu of water.
    water_per_voxel
        Attenuation (n,) of a voxel of water: mu times the voxel's length.
    angle_deg
        Rotation in plane before the factors are compared.

    Returns
    -------
    Tensor
        Scalar.

    Examples
    --------
    >>> truth = torch.ones(1, 8, 8, 8)
    >>> float(factor_error(truth, truth, torch.tensor([0.06]), 30.0))
    0.0
    """
    both = turned(torch.stack([estimate, truth], dim=1), angle_deg) * water_per_voxel[:, None, None, None, None]
    head = (both[:, 1] > 0.5 * water_per_voxel[:, None, None, None]).to(both.dtype)
    mean = mean_factors(both)
    error = (mean[:, 0] / mean[:, 1] - 1.0).abs()
    return (error * head).sum() / head.sum().clamp(min=1.0)


def mean_factors(attenuation: Tensor) -> Tensor:
    """Attenuation factors averaged over the four directions along y and x.

    Parameters
    ----------
    attenuation
        Attenuation (..., y, x) of each voxel: mu times the voxel's length.

    Returns
    -------
    Tensor
        Factors (..., y, x) from 0 to 1.

    Examples
    --------
    >>> round(float(mean_factors(torch.full((1, 1), 0.2))), 4)
    0.9048
    """
    mean = torch.zeros_like(attenuation)
    for axis in (-1, -2):
        before = attenuation.cumsum(dim=axis) - 0.5 * attenuation
        total = attenuation.sum(dim=axis, keepdim=True)
        mean = mean + 0.25 * (torch.exp(-before) + torch.exp(before - total))
    return mean


def correction_loss(estimate: Tensor, truth: Tensor) -> Tensor:
    """Mean |log(estimate / truth)| of correction factors, where the true factor is above 0.

    Parameters
    ----------
    estimate, truth
        Correction factors (n, z, y, x).

    Returns
    -------
    Tensor
        Scalar.

    Examples
    --------
    >>> truth = torch.ones(1, 4, 4, 4)
    >>> float(correction_loss(truth, truth))
    0.0
    """
    seen = truth > 0
    error = (torch.log(estimate.clamp(min=1e-3)) - torch.log(truth.clamp(min=1e-3))).abs()
    return (error * seen).sum() / seen.sum().clamp(min=1)


def turned(volumes: Tensor, angle_deg: float) -> Tensor:
    """Volumes rotated in plane about their middle: bilinear, zeros beyond.

    Parameters
    ----------
    volumes
        Volumes (n, c, z, y, x).
    angle_deg
        Angle of the rotation.

    Returns
    -------
    Tensor
        Volumes (n, c, z, y, x).

    Examples
    --------
    >>> volume = torch.rand(1, 1, 2, 4, 4)
    >>> torch.allclose(turned(volume, 0.0), volume, atol=1e-6)
    True
    """
    n, c, nz, ny, nx = volumes.shape
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    matrix = volumes.new_tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]])
    planes = volumes.reshape(n, c * nz, ny, nx)
    where = torch.nn.functional.affine_grid(matrix.expand(n, 2, 3), [n, c * nz, ny, nx], align_corners=False)
    return torch.nn.functional.grid_sample(planes, where, align_corners=False).reshape(volumes.shape)


LOW_COUNTS_FWHM = 2.0
"""Gaussian in voxels on errors before `low_counts_errors` weighs them: the usual post-filter, 8 mm."""
LOW_COUNTS_SCALES = {1: 1.0, 4: 3.0}
"""Edge of the blocks, in voxels, whose means `low_counts_errors` compares, and the weight of each."""
UNFILTERED = 0.1
"""Weight of the voxels' errors before the filter, whose squares are 3 to 6 times as large: some users see them."""
HOT_BLOCK = 4
"""Edge in voxels of the blocks by whose height above the brain's level errors are averaged a second time."""
HOTTEST = 3.0
"""Height above the level beyond which a block counts no more: glands are hotter than striata."""
MORE_BIAS = 2.0
"""Weight of the squared bias beside its part of the squared error: noise averages out over a region, bias does not."""


def low_counts_loss(estimates: Tensor, truths: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error of estimates with a greater weight of the bias, and the bias, over the error of the images.

    Short scans, whose errors are the largest, count as much as long ones.

    Parameters
    ----------
    estimates, truths, images
        Images (n, 2, z, y, x) as those of `low_counts_errors`.

    Returns
    -------
    loss, bias
        One of each for each patient (n,). Over fresh noise the mean of the loss is above 0. Noise that a network has
        learnt by heart can bring it below: a pair of scans gives it a floor only for MORE_BIAS up to 1.

    Examples
    --------
    >>> truths, noise = torch.ones(1, 2, 4, 4, 4), torch.zeros(1, 2, 4, 4, 4)
    >>> noise[:, 0] = 0.2
    >>> loss, bias = low_counts_loss(truths + 0.5 * noise, truths, truths + noise)
    >>> float(loss), float(bias)
    (0.25, 0.0)
    """
    squares, biases = low_counts_errors(estimates, truths, images)
    of_images = low_counts_errors(images, truths, images)[0].clamp(min=1e-6)
    return (squares + MORE_BIAS * biases) / of_images, biases / of_images


def low_counts_errors(estimates: Tensor, truths: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Squared errors of estimates and the bias in them, of voxels and of blocks, relative to the image.

    The two estimates of a patient come from independent scans: of their errors a and b the mean of a b is the squared
    bias, that of (a^2 + b^2) / 2 the squared bias and the variance.

    Errors are those after the usual post-filter and, with a small weight, those before it. They are divided by 1 + f, f
    the mean of a block of HOT_BLOCK, so that no hot focus outweighs the rest. Striata are a hundredth of the head: to
    the mean over all voxels that over the hot parts of each patient is added, in which a block counts by its height
    above the brain's level, f - 1, up to HOTTEST.

    f of the squares is that of the image that the network sees: their least mean is the mean of what the truth may be
    for weights that follow from the image, and too low for weights 1 / truth^2. f of the bias is that of the truth:
    weights that follow the scan's noise, as its estimate does, would not see the bias alone.

    Parameters
    ----------
    estimates, truths, images
        Images (n, 2, z, y, x) of pairs of scans, over each scan's level; sizes are multiples of HOT_BLOCK. `images` are
        those that the network sees. Noise that the truths of a pair have in common adds its variance to both errors.

    Returns
    -------
    squares, biases
        Means (n,) of (a^2 + b^2) / 2 and of a b.

    Examples
    --------
    >>> errors = torch.ones(1, 2, 4, 4, 4)
    >>> errors[:, 1] = -1.0
    >>> squares, biases = low_counts_errors(errors, torch.zeros_like(errors), torch.zeros_like(errors))
    >>> round(float(biases / squares), 3)
    -1.0
    """
    errors = estimates - truths
    filtered = post_filtered(errors)
    squares, biases = (errors.new_zeros(len(errors)) for _ in range(2))
    for weighed in _weighed(errors, filtered, images):
        squares = squares + weighed.square().sum(dim=(2, 3, 4)).mean(dim=1)
    for weighed in _weighed(errors, filtered, truths):
        biases = biases + (weighed[:, 0] * weighed[:, 1]).sum(dim=(1, 2, 3))
    return squares, biases


def _weighed(errors: Tensor, filtered: Tensor, heights_of: Tensor) -> Iterator[Tensor]:
    """Errors (n, 2, ...) of each size over all and over the hot parts, times the root of their share in the mean."""
    height = torch.nn.functional.avg_pool3d(heights_of, HOT_BLOCK).clamp(min=0.0)
    hot = (height - 1.0).clamp(min=0.0, max=HOTTEST)
    relative = 1.0 + torch.nn.functional.interpolate(height, scale_factor=HOT_BLOCK)
    terms = [(errors, 1, UNFILTERED), *((filtered, size, weight) for size, weight in LOW_COUNTS_SCALES.items())]
    for values, size, weight in terms:
        means = values / relative if size == 1 else torch.nn.functional.avg_pool3d(values / relative, size)
        hot_shares = torch.nn.functional.interpolate(hot, scale_factor=HOT_BLOCK // size)
        for shares in (torch.ones_like(hot_shares), hot_shares):
            yield (weight * shares / shares.sum(dim=(2, 3, 4), keepdim=True).clamp(min=1e-6)).sqrt() * means


def post_filtered(images: Tensor) -> Tensor:
    """Images after a Gaussian of LOW_COUNTS_FWHM voxels; beyond their edges they go on.

    Parameters
    ----------
    images
        Images (n, 2, z, y, x).

    Returns
    -------
    Tensor
        Images (n, 2, z, y, x).

    Examples
    --------
    >>> images = torch.ones(1, 2, 8, 8, 8)
    >>> torch.allclose(post_filtered(images), images)
    True
    """
    steps = torch.arange(-3.0, 4.0, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-4.0 * math.log(2.0) * (steps / LOW_COUNTS_FWHM) ** 2)
    kernel = kernel / kernel.sum()
    flat = torch.nn.functional.pad(images.flatten(0, 1)[:, None], 6 * (len(kernel) // 2,), mode="replicate")
    for shape in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
        flat = torch.nn.functional.conv3d(flat, kernel.view(1, 1, *shape))
    return flat.view_as(images)
