"""The projector in plain numpy and float64: slow, to be read next to docs/physics.md.

Every function takes one view: the rows of its lattice, and images as (y, x, z). Tests compare the fast kernels with it;
nothing else uses it.
"""

import numpy as np

from spectac.recon.types import Array


def rotation_matrix(rows: Array, rays: Array, columns: int, ny: int, nx: int) -> Array:
    """Bilinear weights (d * u, y * x) that sample a slice on the camera lattice; outside the grid they are 0.

    A column is the mean of the plane's rays[d] sub-rays, which share its width.
    """
    depths = len(rows)
    matrix = np.zeros((depths, columns, ny, nx))
    for d in range(depths):
        for u in range(columns):
            for k in range(rays[d]):
                place = u + (k + 0.5) / rays[d] - 0.5
                x = rows[d, 0] + rows[d, 1] * place
                y = rows[d, 2] + rows[d, 3] * place
                for iy in range(ny):
                    for ix in range(nx):
                        matrix[d, u, iy, ix] += max(0.0, 1 - abs(y - iy)) * max(0.0, 1 - abs(x - ix)) / rays[d]
    return matrix.reshape(depths * columns, ny * nx)


def attenuation_factors(mu: Array, rotation: Array, depths: int, step_cm: Array) -> Array:
    """T (d, u, z): transmitted fraction from each lattice point to the detector, counting half of its voxel.

    Two planes lie step_cm (u,) apart along the ray of each column.
    """
    nz, columns = mu.shape[2], len(step_cm)
    turned = (rotation @ mu.reshape(-1, nz)).reshape(depths, columns, nz)
    before = np.cumsum(turned, axis=0) - turned
    return np.exp(-step_cm[:, None] * (before + 0.5 * turned))


def blur_matrix(half_kernel: Array, half_width: int, size: int) -> Array:
    """Matrix (size, size) of one Gaussian along one detector axis; what falls beyond the ends is lost."""
    matrix = np.zeros((size, size))
    for target in range(size):
        for origin in range(size):
            if abs(target - origin) <= half_width:
                matrix[target, origin] = half_kernel[abs(target - origin)]
    return matrix


def view_matrix(rotation: Array, factors: Array, kernels: tuple[Array, Array, Array, Array]) -> Array:
    """One view as an explicit matrix (u, z, y * x, z): rotation, attenuation and blur, without its weight.

    `factors` (d, u, z) hold the columns' weights as well as T.
    """
    kernel_u, half_u, kernel_z, half_z = kernels
    depths, columns, nz = factors.shape
    pixels = rotation.shape[1]
    turned = rotation.reshape(depths, columns, pixels)
    matrix = np.zeros((columns, nz, pixels, nz))
    for d in range(depths):
        along_u = blur_matrix(kernel_u[d], int(half_u[d]), columns)
        along_z = blur_matrix(kernel_z[d], int(half_z[d]), nz)
        matrix += np.einsum("au,bz,uz,up->abpz", along_u, along_z, factors[d], turned[d])
    return matrix


def gradient_mu_view(
    image: Array,
    residual: Array,
    rotation: Array,
    factors: Array,
    kernels: tuple[Array, Array, Array, Array],
    step_cm: Array,
) -> Array:
    """Derivative (y, x, z) of <residual, projection of image> to the mu-map, for one view without its weight.

    `factors` (d, u, z) hold the columns' weights as well as T.
    """
    depths, columns, nz = factors.shape
    ny, nx, _ = image.shape
    kernel_u, half_u, kernel_z, half_z = kernels
    turned = (rotation @ image.reshape(-1, nz)).reshape(depths, columns, nz)
    product = np.empty_like(turned)
    for d in range(depths):
        along_u = blur_matrix(kernel_u[d], int(half_u[d]), columns)
        along_z = blur_matrix(kernel_z[d], int(half_z[d]), nz)
        product[d] = turned[d] * factors[d] * (along_u.T @ residual @ along_z)
    behind = np.cumsum(product[::-1], axis=0)[::-1] - product
    gradient = -step_cm[:, None] * (0.5 * product + behind)
    return (rotation.T @ gradient.reshape(-1, nz)).reshape(ny, nx, nz)
