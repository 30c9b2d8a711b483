"""What training minimises: errors of the map, of its edges, and of what the reconstruction sees of it.

mu enters a reconstruction as attenuation factors, exp(-line integral). So the third term compares factors: from every
voxel of the head to the outside along x and y of the map, turned by a random angle.
"""

import math

import torch
from torch import Tensor


def map_loss(found: Tensor, truth: Tensor, voxel_cm: float, angle_deg: float, weights: tuple[float, float, float]) -> Tensor:
    """Sum of three weighted terms for maps (n, z, y, x) in 1/cm.

    Mean |error| of the map over water's 0.15 /cm; mean |error| of its differences between neighbours over the same;
    mean |error| of attenuation factors in four directions, the map turned by `angle_deg`, over the voxels of the head.
    """
    on_map = (found - truth).abs().mean()
    on_edges = torch.stack([(found.diff(dim=axis) - truth.diff(dim=axis)).abs().mean() for axis in (1, 2, 3)]).mean()
    on_factors = factor_error(found, truth, voxel_cm, angle_deg)
    return (weights[0] * on_map + weights[1] * on_edges) / 0.15 + weights[2] * on_factors


def factor_error(found: Tensor, truth: Tensor, voxel_cm: float, angle_deg: float) -> Tensor:
    """Mean |difference| of the attenuation factors of two maps from voxels inside the true head, four directions."""
    both = turned(torch.stack([found, truth], dim=1), angle_deg)
    head = (both[:, 1] > 0.05).to(both.dtype)
    difference = torch.zeros_like(head)
    for axis in (-1, -2):
        own = 0.5 * both
        running = both.cumsum(dim=axis)
        total = running.narrow(axis, running.shape[axis] - 1, 1)
        for path in (running - own, total - running + own):
            factors = torch.exp(-voxel_cm * path)
            difference = difference + (factors[:, 0] - factors[:, 1]).abs()
    return (difference * head).sum() / (4.0 * head.sum()).clamp(min=1.0)


def turned(volumes: Tensor, angle_deg: float) -> Tensor:
    """Volumes (n, c, z, y, x) turned in plane by an angle about their middle, bilinear, zeros beyond."""
    n, c, nz, ny, nx = volumes.shape
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    matrix = volumes.new_tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]])
    planes = volumes.reshape(n, c * nz, ny, nx)
    where = torch.nn.functional.affine_grid(matrix.expand(n, 2, 3), [n, c * nz, ny, nx], align_corners=False)
    return torch.nn.functional.grid_sample(planes, where, align_corners=False).reshape(volumes.shape)
