"""What training minimises: errors of the volume, of its edges, and of what the reconstruction sees of a map.

mu enters a reconstruction as attenuation factors, exp(-line integral), averaged over the views: an error of the mean
factor of a voxel is, to first order, that of its activity. So the third term compares mean factors along four
directions at right angles, the map turned by a random angle.
"""

import math

import torch
from torch import Tensor


def map_loss(
    found: Tensor, truth: Tensor, water_per_voxel: Tensor, angle_deg: float, weights: tuple[float, float, float]
) -> Tensor:
    """Sum of three weighted terms for maps (n, z, y, x) over water's mu; `water_per_voxel` (n,) is mu times voxel.

    Mean |error| of the map; mean |error| of its differences between neighbours; mean |relative error| of the mean
    attenuation factors, on blocks of 2 x 2 x 2 voxels, which keep line integrals and take an eighth of the time.
    """
    wrong = found - truth
    on_edges = torch.stack([wrong.diff(dim=axis).abs().mean() for axis in (1, 2, 3)]).mean()
    coarse, true_coarse = (torch.nn.functional.avg_pool3d(volumes, 2) for volumes in (found, truth))
    on_factors = factor_error(coarse, true_coarse, 2.0 * water_per_voxel, angle_deg)
    return weights[0] * wrong.abs().mean() + weights[1] * on_edges + weights[2] * on_factors


def factor_error(found: Tensor, truth: Tensor, water_per_voxel: Tensor, angle_deg: float) -> Tensor:
    """Mean |found / true - 1| of the mean attenuation factor over four directions, in the voxels of the true head."""
    both = turned(torch.stack([found, truth], dim=1), angle_deg) * water_per_voxel[:, None, None, None, None]
    head = (both[:, 1] > 0.5 * water_per_voxel[:, None, None, None]).to(both.dtype)
    mean = torch.zeros_like(both)
    for axis in (-1, -2):
        own = 0.5 * both
        before = both.cumsum(dim=axis) - own
        total = both.sum(dim=axis, keepdim=True)
        mean = mean + 0.25 * (torch.exp(-before) + torch.exp(before - total))
    wrong = (mean[:, 0] / mean[:, 1] - 1.0).abs()
    return (wrong * head).sum() / head.sum().clamp(min=1.0)


def correction_loss(found: Tensor, truth: Tensor) -> Tensor:
    """Mean |log(found / true)| of correction factors (n, z, y, x), where the true one is above 0."""
    seen = truth > 0
    wrong = (torch.log(found.clamp(min=1e-3)) - torch.log(truth.clamp(min=1e-3))).abs()
    return (wrong * seen).sum() / seen.sum().clamp(min=1)


def turned(volumes: Tensor, angle_deg: float) -> Tensor:
    """Volumes (n, c, z, y, x) turned in plane by an angle about their middle, bilinear, zeros beyond."""
    n, c, nz, ny, nx = volumes.shape
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    matrix = volumes.new_tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]])
    planes = volumes.reshape(n, c * nz, ny, nx)
    where = torch.nn.functional.affine_grid(matrix.expand(n, 2, 3), [n, c * nz, ny, nx], align_corners=False)
    return torch.nn.functional.grid_sample(planes, where, align_corners=False).reshape(volumes.shape)
