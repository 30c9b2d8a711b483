"""The projector's inner loops for the CPU, one view at a time, z fastest: images (y, x, z), projections (u, z).

Shared arguments
    lattice      (6,) grid index of the camera lattice: x = l0 + l1 d + l2 u, y = l3 + l4 d + l5 u
    first, last  (d,) columns first <= u < last of each depth plane that touch the grid
    start        (d,) where a plane's first column lies in `factors`, which holds one row of z for every lattice point
    kernel_u, half_u, kernel_z, half_z   half kernels (d, widest + 1) of the blur and their half-widths (d,)
All floating arrays have one dtype, float32 or float64, and the arithmetic follows it. Nothing here knows of time or
volume: system.py multiplies by the weight of the view.
"""

import math

import numpy as np

from spectac.recon.kernels.compiled import compiled


@compiled
def _corners(lattice, d, u, ny, nx, weights):  # type: ignore[no-untyped-def]
    """Grid indices of the four voxels around a lattice point; their bilinear weights go into `weights`, 0 outside."""
    x = lattice[0] + lattice[1] * d + lattice[2] * u
    y = lattice[3] + lattice[4] * d + lattice[5] * u
    left, low = math.floor(x), math.floor(y)
    fx, fy = x - left, y - low
    left_weight = 1.0 - fx if left >= 0 else 0.0
    right_weight = fx if left + 1 < nx else 0.0
    low_weight = 1.0 - fy if low >= 0 else 0.0
    high_weight = fy if low + 1 < ny else 0.0
    weights[0] = low_weight * left_weight
    weights[1] = low_weight * right_weight
    weights[2] = high_weight * left_weight
    weights[3] = high_weight * right_weight
    return max(int(low), 0), min(int(low) + 1, ny - 1), max(int(left), 0), min(int(left) + 1, nx - 1)


@compiled
def attenuation_paths(mu, lattice, first, last, start, voxel_cm, factors):  # type: ignore[no-untyped-def]
    """Fill `factors` with -path: mu from each lattice point to the detector, half of the point's own voxel counted.

    The exponential is the caller's: numpy's is vectorised, the compiler's is not.
    """
    ny, nx, nz = mu.shape
    path = np.zeros((last.max(), nz), mu.dtype)
    weights = np.empty(4, mu.dtype)
    scale = mu.dtype.type(-voxel_cm)
    half = mu.dtype.type(0.5)
    for d in range(first.size):
        for u in range(first[d], last[d]):
            low, high, left, right = _corners(lattice, d, u, ny, nx, weights)
            a, b, c, e = weights[0], weights[1], weights[2], weights[3]
            row = start[d] + u - first[d]
            for z in range(nz):
                own = a * mu[low, left, z] + b * mu[low, right, z] + c * mu[high, left, z] + e * mu[high, right, z]
                factors[row, z] = scale * (path[u, z] + half * own)
                path[u, z] += own


@compiled
def forward_view(  # type: ignore[no-untyped-def]
    image, lattice, first, last, start, factors, attenuated, kernel_u, half_u, kernel_z, half_z, projection
):
    """Add the projection (u, z) of `image` to `projection`."""
    ny, nx, nz = image.shape
    columns = projection.shape[0]
    margin = half_z.max()
    turned = np.empty((columns, nz), image.dtype)
    line = np.zeros(nz + 2 * margin, image.dtype)
    weights = np.empty(4, image.dtype)
    for d in range(first.size):
        if first[d] == last[d]:
            continue
        for u in range(first[d], last[d]):
            low, high, left, right = _corners(lattice, d, u, ny, nx, weights)
            a, b, c, e = weights[0], weights[1], weights[2], weights[3]
            if attenuated:
                row = start[d] + u - first[d]
                for z in range(nz):
                    turned[u, z] = factors[row, z] * (
                        a * image[low, left, z]
                        + b * image[low, right, z]
                        + c * image[high, left, z]
                        + e * image[high, right, z]
                    )
            else:
                for z in range(nz):
                    turned[u, z] = (
                        a * image[low, left, z]
                        + b * image[low, right, z]
                        + c * image[high, left, z]
                        + e * image[high, right, z]
                    )
        hu, hz = half_u[d], half_z[d]
        for u in range(max(0, first[d] - hu), min(columns, last[d] + hu)):
            _mix_rows(turned, u, max(first[d], u - hu), min(last[d], u + hu + 1), kernel_u[d], line, margin, nz)
            _blur_line(line, margin, nz, kernel_z[d], hz, projection[u])


@compiled
def _mix_rows(rows, u, begin, end, kernel, line, margin, nz):  # type: ignore[no-untyped-def]
    """line[margin:] = sum of rows[begin:end], each weighted by the kernel at its distance from u."""
    m = np.uintp(margin)
    for z in range(np.uintp(nz)):
        line[m + z] = 0
    n = begin
    while n + 4 <= end:
        a, b, c, e = kernel[abs(u - n)], kernel[abs(u - n - 1)], kernel[abs(u - n - 2)], kernel[abs(u - n - 3)]
        for z in range(np.uintp(nz)):
            line[m + z] += a * rows[n, z] + b * rows[n + 1, z] + c * rows[n + 2, z] + e * rows[n + 3, z]
        n += 4
    while n < end:
        a = kernel[abs(u - n)]
        for z in range(np.uintp(nz)):
            line[m + z] += a * rows[n, z]
        n += 1


@compiled
def _blur_line(line, margin, nz, kernel, half, target):  # type: ignore[no-untyped-def]
    """Add the line, blurred by a symmetric kernel, to `target`; the line's margins hold zeros."""
    a = kernel[0]
    one, m = np.uintp(1), np.uintp(margin)
    for z in range(np.uintp(nz)):
        target[z] += a * line[m + z]
    j = 1
    while j + 1 <= half:
        a, b = kernel[j], kernel[j + 1]
        below, above = np.uintp(margin - j), np.uintp(margin + j)
        for z in range(np.uintp(nz)):
            target[z] += a * (line[below + z] + line[above + z]) + b * (line[below + z - one] + line[above + z + one])
        j += 2
    if j <= half:
        a = kernel[j]
        below, above = np.uintp(margin - j), np.uintp(margin + j)
        for z in range(np.uintp(nz)):
            target[z] += a * (line[below + z] + line[above + z])


@compiled
def _blur_rows(padded, begin, end, margin, nz, kernel, half, smooth):  # type: ignore[no-untyped-def]
    """Fill smooth[begin:end] with the rows of `padded` blurred along z; the rows' margins hold zeros."""
    for u in range(begin, end):
        smooth[u] = 0
        _blur_line(padded[u], margin, nz, kernel, half, smooth[u])


@compiled
def adjoint_view(  # type: ignore[no-untyped-def]
    projection, lattice, first, last, start, factors, attenuated, kernel_u, half_u, kernel_z, half_z, image
):
    """Add the exact transpose of forward_view to `image` (y, x, z)."""
    ny, nx, nz = image.shape
    columns = projection.shape[0]
    margin = half_z.max()
    padded = np.zeros((columns, nz + 2 * margin), image.dtype)
    padded[:, margin : margin + nz] = projection
    smooth = np.zeros((columns, nz), image.dtype)
    line = np.empty(nz, image.dtype)
    weights = np.empty(4, image.dtype)
    for d in range(first.size):
        if first[d] == last[d]:
            continue
        hu, hz = half_u[d], half_z[d]
        _blur_rows(padded, max(0, first[d] - hu), min(columns, last[d] + hu), margin, nz, kernel_z[d], hz, smooth)
        for u in range(first[d], last[d]):
            _mix_rows(smooth, u, max(0, u - hu), min(columns, u + hu + 1), kernel_u[d], line, 0, nz)
            low, high, left, right = _corners(lattice, d, u, ny, nx, weights)
            a, b, c, e = weights[0], weights[1], weights[2], weights[3]
            if attenuated:
                row = start[d] + u - first[d]
                for z in range(nz):
                    line[z] *= factors[row, z]
            for z in range(nz):
                image[low, left, z] += a * line[z]
            for z in range(nz):
                image[low, right, z] += b * line[z]
            for z in range(nz):
                image[high, left, z] += c * line[z]
            for z in range(nz):
                image[high, right, z] += e * line[z]


@compiled
def gradient_mu_view(  # type: ignore[no-untyped-def]
    image, residual, lattice, first, last, start, factors, kernel_u, half_u, kernel_z, half_z, scale, gradient
):
    """Add scale * d<residual, projection>/d mu to `gradient` (y, x, z), with scale = -voxel_cm * the view's weight."""
    ny, nx, nz = image.shape
    columns = residual.shape[0]
    margin = half_z.max()
    padded = np.zeros((columns, nz + 2 * margin), image.dtype)
    padded[:, margin : margin + nz] = residual
    smooth = np.zeros((columns, nz), image.dtype)
    behind = np.zeros((columns, nz), image.dtype)
    line = np.empty(nz, image.dtype)
    weights = np.empty(4, image.dtype)
    factor = image.dtype.type(scale)
    half = image.dtype.type(0.5)
    for d in range(first.size - 1, -1, -1):
        if first[d] == last[d]:
            continue
        hu, hz = half_u[d], half_z[d]
        _blur_rows(padded, max(0, first[d] - hu), min(columns, last[d] + hu), margin, nz, kernel_z[d], hz, smooth)
        for u in range(first[d], last[d]):
            _mix_rows(smooth, u, max(0, u - hu), min(columns, u + hu + 1), kernel_u[d], line, 0, nz)
            low, high, left, right = _corners(lattice, d, u, ny, nx, weights)
            a, b, c, e = weights[0], weights[1], weights[2], weights[3]
            row = start[d] + u - first[d]
            for z in range(nz):
                turned = (
                    a * image[low, left, z]
                    + b * image[low, right, z]
                    + c * image[high, left, z]
                    + e * image[high, right, z]
                )
                own = turned * factors[row, z] * line[z]
                line[z] = factor * (half * own + behind[u, z])
                behind[u, z] += own
            for z in range(nz):
                gradient[low, left, z] += a * line[z]
                gradient[low, right, z] += b * line[z]
                gradient[high, left, z] += c * line[z]
                gradient[high, right, z] += e * line[z]


@compiled
def backproject_view(filtered, lattice, image):  # type: ignore[no-untyped-def]
    """Add a filtered projection (u, z) to every voxel of `image` (y, x, z), read by linear interpolation at its column.

    lattice: (3,) the column of voxel (y, x) is l0 + l1 y + l2 x. Beyond the first and last column nothing is added: the
    caller pads.
    """
    ny, nx, nz = image.shape
    columns = filtered.shape[0]
    for y in range(ny):
        for x in range(nx):
            column = lattice[0] + lattice[1] * y + lattice[2] * x
            left = math.floor(column)
            if left < 0 or left + 1 >= columns:
                continue
            b = image.dtype.type(column - left)
            a = image.dtype.type(1.0) - b
            for z in range(np.uintp(nz)):
                image[y, x, z] += a * filtered[left, z] + b * filtered[left + 1, z]
