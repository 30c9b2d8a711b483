"""The adjoint of one view with scipy, written apart from the product: rotation, attenuation and blur as matrices."""

import math
from itertools import product

import numpy as np
from scipy import ndimage, sparse

from spectac.recon.collimator import pixel_kernel


def _bilinear(x, y, nx, ny):
    """Sparse matrix that samples an image (ny * nx) at the points (x, y), in pixels, by bilinear weights."""
    left, low = np.floor(x).astype(int), np.floor(y).astype(int)
    rows, columns, weights = [], [], []
    for i, j in product((0, 1), (0, 1)):
        weight = np.abs(1 - i - (x - left)) * np.abs(1 - j - (y - low))
        inside = (left + i >= 0) & (left + i < nx) & (low + j >= 0) & (low + j < ny)
        rows.append(np.flatnonzero(inside))
        columns.append(((low + j) * nx + left + i)[inside])
        weights.append(weight[inside])
    entries = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, shape=(x.size, nx * ny))


def one_view_by_rotation(system, mu_per_cm, distance_mm, back):
    """Adjoint of a system of one view: blur, attenuation, then `back`, which rotates the image back.

    back = "transpose" takes the transposed bilinear weights; "rotate" samples the camera frame at the voxel centres,
    the bilinear rotation by the opposite angle that many projectors call their adjoint.
    """
    nz, ny, nx = system.image_shape
    columns, depths = system.acquisition.matrix[1], distance_mm.size
    pitch = system.acquisition.pixel_mm[1]
    angle = math.radians(system.acquisition.view_angles_deg[0])
    normal, right = (math.sin(angle), math.cos(angle)), (-math.cos(angle), math.sin(angle))
    d, u = np.meshgrid(np.arange(depths), np.arange(columns), indexing="ij")
    t, s = 0.5 * (depths - 1) - d.ravel(), u.ravel() - 0.5 * (columns - 1)
    turn = _bilinear(
        t * normal[0] + s * right[0] + 0.5 * (nx - 1), t * normal[1] + s * right[1] + 0.5 * (ny - 1), nx, ny
    )
    iy, ix = np.meshgrid(np.arange(ny) - 0.5 * (ny - 1), np.arange(nx) - 0.5 * (nx - 1), indexing="ij")
    depth = 0.5 * (depths - 1) - (ix * normal[0] + iy * normal[1]).ravel()
    column = (ix * right[0] + iy * right[1]).ravel() + 0.5 * (columns - 1)
    turn_back = turn.T if back == "transpose" else _bilinear(column, depth, columns, depths)

    in_frame = (turn @ mu_per_cm.reshape(nz, -1).T).reshape(depths, columns, nz)
    factors = np.exp(-0.1 * pitch * (np.cumsum(in_frame, axis=0) - 0.5 * in_frame))
    kernels, half = pixel_kernel(system.acquisition.collimator.sigma_mm(distance_mm, system.energy_kev), pitch)

    def adjoint(counts):
        smeared = np.empty((depths, columns, nz))
        for plane in range(depths):
            one_side = kernels[plane, : half[plane] + 1]
            kernel = np.concatenate([one_side[:0:-1], one_side])
            blurred = ndimage.convolve1d(counts[0].T.astype(float), kernel, axis=0, mode="constant")
            smeared[plane] = factors[plane] * ndimage.convolve1d(blurred, kernel, axis=1, mode="constant")
        return (turn_back @ smeared.reshape(-1, nz)).T.reshape(nz, ny, nx) * system.grid.voxel_ml

    return adjoint
