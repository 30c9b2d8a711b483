"""The projector in plain numpy and float64: slow, to be read next to docs/physics.md.

Every function takes one view: its six lattice numbers, and images as (y, x, z). Tests compare the fast kernels with it;
nothing else uses it.
"""

import numpy as np

from spectac.recon.types import Array


def rotation_matrix(lattice: Array, depths: int, columns: int, ny: int, nx: int) -> Array:
    """Bilinear weights (d * u, y * x) that sample a slice on the camera lattice; outside the grid they are 0."""
    matrix = np.zeros((depths, columns, ny, nx))
    for d in range(depths):
        for u in range(columns):
            x = lattice[0] + lattice[1] * d + lattice[2] * u
            y = lattice[3] + lattice[4] * d + lattice[5] * u
            for iy in range(ny):
                for ix in range(nx):
                    matrix[d, u, iy, ix] = max(0.0, 1 - abs(y - iy)) * max(0.0, 1 - abs(x - ix))
    return matrix.reshape(depths * columns, ny * nx)


def attenuation_factors(mu: Array, rotation: Array, depths: int, columns: int, voxel_cm: float) -> Array:
    """T (d, u, z): transmitted fraction from each lattice point to the detector, counting half of its voxel."""
    nz = mu.shape[2]
    turned = (rotation @ mu.reshape(-1, nz)).reshape(depths, columns, nz)
    before = np.cumsum(turned, axis=0) - turned
    return np.exp(-voxel_cm * (before + 0.5 * turned))


def blur_matrix(half_kernel: Array, half_width: int, size: int) -> Array:
    """Matrix (size, size) of one Gaussian along one detector axis; what falls beyond the ends is lost."""
    matrix = np.zeros((size, size))
    for target in range(size):
        for origin in range(size):
            if abs(target - origin) <= half_width:
                matrix[target, origin] = half_kernel[abs(target - origin)]
    return matrix


def view_matrix(
    rotation: Array, factors: Array, kernel_u: Array, half_u: Array, kernel_z: Array, half_z: Array
) -> Array:
    """One view as an explicit matrix (u, z, y * x, z): rotation, attenuation and blur, without its weight."""
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
    voxel_cm: float,
) -> Array:
    """Derivative (y, x, z) of <residual, projection of image> to the mu-map, for one view without its weight."""
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
    gradient = -voxel_cm * (0.5 * product + behind)
    return (rotation.T @ gradient.reshape(-1, nz)).reshape(ny, nx, nz)
