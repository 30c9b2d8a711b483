"""The projector's inner loops for the CPU, one view at a time, z fastest: images (y, x, z), projections (u, z).

Shared arguments
    inside       (y, x) 1 where the grid counts, 0 where images and maps are taken for 0
    rows         (d, 4) column u of a depth plane lies at the grid index x = r0 + r1 u, y = r2 + r3 u
    rays         (d,) sub-rays over which a column is averaged
    gain         (u,) weight of each column
    step_cm      (u,) length of a ray between two planes
    first, last  (d,) columns first <= u < last of each depth plane that touch the grid
    start        (d,) where a plane's first column lies in `factors`, which holds one row of z for every lattice point
    kernel_u, half_u, kernel_z, half_z   half kernels (d, widest + 1) of the blur and their half-widths (d,)
All floating arrays have one dtype, float32 or float64, and the arithmetic follows it. Nothing here knows of time or
volume: the projector multiplies by the weight of the view.
"""

import math

import numba
import numpy as np

from spectac.recon.kernels.compiled import compiled

inlined = numba.njit(inline="always", nogil=True)
"""Compiles a function as a part of its callers: a call costs as much as a lattice point."""


def _blur_of(half):  # type: ignore[no-untyped-def]
    """Function that blurs a line by a kernel whose half-width is known when it is compiled.

    Its loop over the kernel is then unrolled and the one over the line vectorised: one pass instead of several.
    """

    def blur(source, at, step, size, kernel, add, target, to):  # type: ignore[no-untyped-def]
        pitch, begin, out = np.uintp(step), np.uintp(at), np.uintp(to)
        for n in range(np.uintp(size)):
            value = kernel[0] * source[begin + n]
            for j in range(1, half + 1):
                reach = np.uintp(j) * pitch
                value += kernel[j] * (source[begin - reach + n] + source[begin + reach + n])
            if add:
                target[out + n] += value
            else:
                target[out + n] = value

    # Numba names its cache files by the function: each half-width gets files of its own.
    blur.__qualname__ = f"blur_{half}"
    return compiled(blur)


_blur_0, _blur_1, _blur_2, _blur_3, _blur_4, _blur_5, _blur_6, _blur_7 = (_blur_of(half) for half in range(8))


@compiled
def _blur(source, at, step, size, kernel, half, add, target, to):  # type: ignore[no-untyped-def]
    """target[to + n] = sum over j of kernel[|j|] * source[at + n + j * step] for n < size, or `add` that to it.

    Rows that follow each other in memory are blurred at once: with step 1 along the rows, with their pitch across them.
    """
    if half == 0:
        _blur_0(source, at, step, size, kernel, add, target, to)
    elif half == 1:
        _blur_1(source, at, step, size, kernel, add, target, to)
    elif half == 2:
        _blur_2(source, at, step, size, kernel, add, target, to)
    elif half == 3:
        _blur_3(source, at, step, size, kernel, add, target, to)
    elif half == 4:
        _blur_4(source, at, step, size, kernel, add, target, to)
    elif half == 5:
        _blur_5(source, at, step, size, kernel, add, target, to)
    elif half == 6:
        _blur_6(source, at, step, size, kernel, add, target, to)
    else:
        _blur_7(source, at, step, size, kernel, add, target, to)
        _widen(source, at, step, size, kernel, half, target, to)


@compiled
def _widen(source, at, step, size, kernel, half, target, to):  # type: ignore[no-untyped-def]
    """Add the part of a wider kernel beyond a half-width of 7, two of its weights in a pass."""
    for j in range(8, half + 1, 2):
        # An odd one out is paired with the weight before it, which counts no second time.
        if j < half:
            _add_pair(source, at, step, size, kernel[j], kernel[j + 1], j, target, to)
        else:
            _add_pair(source, at, step, size, kernel.dtype.type(0), kernel[j], j - 1, target, to)


@compiled
def _add_pair(source, at, step, size, inner, outer, reach, target, to):  # type: ignore[no-untyped-def]
    """Add to a blurred line what lies `reach` and `reach` + 1 steps away."""
    pitch, begin, out = np.uintp(step), np.uintp(at), np.uintp(to)
    near, far = np.uintp(reach) * pitch, np.uintp(reach + 1) * pitch
    for n in range(np.uintp(size)):
        target[out + n] += inner * (source[begin - near + n] + source[begin + near + n]) + outer * (
            source[begin - far + n] + source[begin + far + n]
        )


@compiled
def _corners(inside, row, place, share, weights):  # type: ignore[no-untyped-def]
    """Grid indices of the four voxels around a lattice point, that weighs `share`.

    Their bilinear weights go into `weights`, 0 outside.
    """
    ny, nx = inside.shape
    x = row[0] + row[1] * place
    y = row[2] + row[3] * place
    left, low = math.floor(x), math.floor(y)
    fx, fy = x - left, y - low
    left_weight = 1.0 - fx if 0 <= left < nx else 0.0
    right_weight = fx if -1 <= left < nx - 1 else 0.0
    low_weight = 1.0 - fy if 0 <= low < ny else 0.0
    high_weight = fy if -1 <= low < ny - 1 else 0.0
    high, right = min(max(low + 1, 0), ny - 1), min(max(left + 1, 0), nx - 1)
    low, left = min(max(low, 0), ny - 1), min(max(left, 0), nx - 1)
    weights[0] = share * (low_weight * left_weight * inside[low, left])
    weights[1] = share * (low_weight * right_weight * inside[low, right])
    weights[2] = share * (high_weight * left_weight * inside[high, left])
    weights[3] = share * (high_weight * right_weight * inside[high, right])
    return low, high, left, right


@inlined
def _sample(volume, inside, row, u, rays, gain, through, weights, line):  # type: ignore[no-untyped-def]
    """Fill `line` (z,) with gain * through * the mean of a volume (y, x, z) over the sub-rays of column u."""
    for k in range(rays):
        place = u + ((k + 0.5) / rays - 0.5)
        low, high, left, right = _corners(inside, row, place, gain / rays, weights)
        a, b, c, e = weights[0], weights[1], weights[2], weights[3]
        if k == 0:
            for z in range(volume.shape[2]):
                line[z] = through[z] * (
                    a * volume[low, left, z]
                    + b * volume[low, right, z]
                    + c * volume[high, left, z]
                    + e * volume[high, right, z]
                )
        else:
            for z in range(volume.shape[2]):
                line[z] += through[z] * (
                    a * volume[low, left, z]
                    + b * volume[low, right, z]
                    + c * volume[high, left, z]
                    + e * volume[high, right, z]
                )


@compiled
def _add_to_voxels(image, low, high, left, right, weights, line):  # type: ignore[no-untyped-def]
    """Add a line, weighted, to four voxels' lines."""
    nz = image.shape[2]
    a, b, c, e = weights[0], weights[1], weights[2], weights[3]
    if low < high and left < right:
        for z in range(nz):
            image[low, left, z] += a * line[z]
            image[low, right, z] += b * line[z]
            image[high, left, z] += c * line[z]
            image[high, right, z] += e * line[z]
    else:
        # At the grid's edge some of the four are the same voxel.
        for z in range(nz):
            image[low, left, z] += a * line[z]
        for z in range(nz):
            image[low, right, z] += b * line[z]
        for z in range(nz):
            image[high, left, z] += c * line[z]
        for z in range(nz):
            image[high, right, z] += e * line[z]


@inlined
def _add_sampled(volume, inside, row, u, rays, gain, weights, line):  # type: ignore[no-untyped-def]
    """Transpose of _sample: add a line to the voxels of the column's sub-rays."""
    for k in range(rays):
        place = u + ((k + 0.5) / rays - 0.5)
        low, high, left, right = _corners(inside, row, place, gain / rays, weights)
        _add_to_voxels(volume, low, high, left, right, weights, line)


@compiled
def attenuation_paths(mu, inside, rows, rays, step_cm, first, last, start, factors):  # type: ignore[no-untyped-def]
    """Fill `factors` with -path: mu from each lattice point to the detector, counting half of the point's voxel.

    The caller takes the exponential: numpy's is vectorised, the compiler's is not. Where it would be subnormal, -path
    is minus infinity.
    """
    nz = mu.shape[2]
    path = np.zeros((last.max(), nz), mu.dtype)
    here, ones = np.empty(nz, mu.dtype), np.ones(nz, mu.dtype)
    weights = np.empty(4, mu.dtype)
    half = mu.dtype.type(0.5)
    longest = mu.dtype.type(-87.0 if mu.itemsize == 4 else -708.0)
    for d in range(first.size):
        for u in range(first[d], last[d]):
            _sample(mu, inside, rows[d], u, rays[d], 1.0, ones, weights, here)
            scale = mu.dtype.type(-step_cm[u])
            row = start[d] + u - first[d]
            for z in range(nz):
                exponent = scale * (path[u, z] + half * here[z])
                factors[row, z] = exponent if exponent >= longest else -np.inf
                path[u, z] += here[z]


@compiled
def forward_view(  # type: ignore[no-untyped-def]
    image, inside, rows, rays, gain, first, last, start, factors, attenuated, kernel_u, half_u, kernel_z, half_z,
    weight, projection,
):  # fmt: skip
    """Fill `projection` (u, z) with that of `image`, times the weight.

    Between the rows of scratch lie as many zeros as the blur reaches, so that one line holds them all.
    """
    nz = image.shape[2]
    columns = projection.shape[0]
    margin, border = half_z.max(), half_u.max()
    pitch = nz + margin
    turned = np.zeros((columns + 2 * border, pitch), image.dtype)
    mixed = np.zeros(columns * pitch + 2 * margin, image.dtype)
    counts = np.zeros(columns * pitch, image.dtype)
    ones = np.ones(nz, image.dtype)
    weights = np.empty(4, image.dtype)
    begin = end = 0
    for d in range(first.size):
        if first[d] == last[d]:
            continue
        # Columns beyond those of this plane must hold nothing of the plane before.
        turned[border + begin : border + first[d]] = 0
        turned[border + last[d] : border + end] = 0
        begin, end = first[d], last[d]
        place = rows[d]
        for u in range(begin, end):
            through = factors[start[d] + u - begin] if attenuated else ones
            _sample(image, inside, place, u, rays[d], gain[u], through, weights, turned[border + u])
        u = max(0, begin - half_u[d])
        size = (min(columns, end + half_u[d]) - u) * pitch
        at = margin + u * pitch
        _blur(turned.reshape(-1), (border + u) * pitch, pitch, size, kernel_u[d], half_u[d], False, mixed, at)
        _blur(mixed, at, 1, size, kernel_z[d], half_z[d], True, counts, u * pitch)
    scale = image.dtype.type(weight)
    for u in range(columns):
        for z in range(nz):
            projection[u, z] = scale * counts[u * pitch + z]


@compiled
def divide(measured, expected):  # type: ignore[no-untyped-def]
    """Replace `expected` by measured / expected, 0 where it is not positive; return the counts measured there."""
    lost = 0.0
    for u in range(expected.shape[0]):
        for z in range(expected.shape[1]):
            if expected[u, z] > 0:
                expected[u, z] = measured[u, z] / expected[u, z]
            else:
                expected[u, z] = 0
                lost += measured[u, z]
    return lost


@compiled
def _padded(projection, weight, margin):  # type: ignore[no-untyped-def]
    """Line of the weighted rows of a projection (u, z), `margin` zeros before, after and between them."""
    columns, nz = projection.shape
    padded = np.zeros(columns * (nz + margin) + 2 * margin, projection.dtype)
    scale = projection.dtype.type(weight)
    for u in range(columns):
        for z in range(nz):
            padded[margin + u * (nz + margin) + z] = scale * projection[u, z]
    return padded


@compiled
def _spread_plane(padded, margin, pitch, columns, first, last, kernel_u, hu, kernel_z, hz, smooth, border, lines):  # type: ignore[no-untyped-def]
    """Blur the line of a projection's rows onto columns first <= u < last of a plane: rows u of `lines`."""
    u = max(0, first - hu)
    size = (min(columns, last + hu) - u) * pitch
    _blur(padded, margin + u * pitch, 1, size, kernel_z, hz, False, smooth, (border + u) * pitch)
    size = (last - first) * pitch
    _blur(smooth, (border + first) * pitch, pitch, size, kernel_u, hu, False, lines, first * pitch)


@compiled
def adjoint_view(  # type: ignore[no-untyped-def]
    projection, inside, rows, rays, gain, first, last, start, factors, attenuated, kernel_u, half_u, kernel_z, half_z,
    weight, image,
):  # fmt: skip
    """Add the exact transpose of forward_view to `image` (y, x, z)."""
    nz = image.shape[2]
    columns = projection.shape[0]
    margin, border = half_z.max(), half_u.max()
    pitch = nz + margin
    padded = _padded(projection, weight, margin)
    smooth = np.zeros((columns + 2 * border) * pitch, image.dtype)
    lines = np.empty((columns, pitch), image.dtype)
    weights = np.empty(4, image.dtype)
    for d in range(first.size):
        if first[d] == last[d]:
            continue
        _spread_plane(
            padded, margin, pitch, columns, first[d], last[d], kernel_u[d], half_u[d], kernel_z[d], half_z[d],
            smooth, border, lines.reshape(-1),
        )  # fmt: skip
        place = rows[d]
        for u in range(first[d], last[d]):
            line = lines[u]
            if attenuated:
                row = start[d] + u - first[d]
                for z in range(nz):
                    line[z] *= factors[row, z]
            _add_sampled(image, inside, place, u, rays[d], gain[u], weights, line)


@compiled
def gradient_mu_view(  # type: ignore[no-untyped-def]
    image, residual, inside, rows, rays, gain, step_cm, first, last, start, factors, kernel_u, half_u, kernel_z, half_z,
    weight, gradient,
):  # fmt: skip
    """Add d<residual, projection>/d mu to `gradient` (y, x, z), per 1/cm."""
    nz = image.shape[2]
    columns = residual.shape[0]
    margin, border = half_z.max(), half_u.max()
    pitch = nz + margin
    padded = _padded(residual, weight, margin)
    smooth = np.zeros((columns + 2 * border) * pitch, image.dtype)
    behind = np.zeros((columns, nz), image.dtype)
    lines = np.empty((columns, pitch), image.dtype)
    turned = np.empty(nz, image.dtype)
    weights = np.empty(4, image.dtype)
    half = image.dtype.type(0.5)
    for d in range(first.size - 1, -1, -1):
        if first[d] == last[d]:
            continue
        _spread_plane(
            padded, margin, pitch, columns, first[d], last[d], kernel_u[d], half_u[d], kernel_z[d], half_z[d],
            smooth, border, lines.reshape(-1),
        )  # fmt: skip
        for u in range(first[d], last[d]):
            line = lines[u]
            through = factors[start[d] + u - first[d]]
            _sample(image, inside, rows[d], u, rays[d], gain[u], through, weights, turned)
            step = image.dtype.type(-step_cm[u])
            for z in range(nz):
                product = turned[z] * line[z]
                line[z] = step * (half * product + behind[u, z])
                behind[u, z] += product
            _add_sampled(gradient, inside, rows[d], u, rays[d], 1.0, weights, line)


@compiled
def add_pixels(total, part, pixels):  # type: ignore[no-untyped-def]
    """Add to rows `pixels` of `total` (pixel, z) those of `part`."""
    for pixel in pixels:
        for z in range(total.shape[1]):
            total[pixel, z] += part[pixel, z]


@compiled
def em_update_pixels(image, backprojected, inverse, faint, pixels):  # type: ignore[no-untyped-def]
    """Multiply rows `pixels` of `image` (pixel, z) by backprojected * inverse, but for voxels with inverse 0.

    Voxels below `faint` become 0: multiplied on and on, they would end as subnormal numbers.
    """
    for pixel in pixels:
        for z in range(image.shape[1]):
            if image[pixel, z] < faint:
                image[pixel, z] = 0
            elif inverse[pixel, z] > 0:
                image[pixel, z] *= backprojected[pixel, z] * inverse[pixel, z]


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
