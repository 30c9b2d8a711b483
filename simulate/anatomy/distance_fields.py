"""Signed distances of simple bodies, smooth joins of them, and smooth random fields: what heads are made of.

Distances are in mm, negative inside, approximate away from the surface (exact to first order at it). All take points as
arrays of one shape and return float32 arrays of that shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.interpolate import BSpline

from spectac.recon.types import Array


@dataclass(frozen=True, eq=False)
class Points:
    """Coordinates in mm, three float32 arrays of one shape: x to left, y to posterior, z to superior.

    Parameters
    ----------
    x
        To the left.
    y
        To posterior.
    z
        To superior.

    Examples
    --------
    >>> points = Points(*np.float32([[-30.0, 30.0], [10.0, 10.0], [0.0, 0.0]]))
    >>> points.mirrored.x.tolist()
    [30.0, 30.0]
    """

    x: Array
    y: Array
    z: Array

    def __getitem__(self, index: Any) -> "Points":
        """Points of a box or a mask."""
        return Points(self.x[index], self.y[index], self.z[index])

    def lateral(self, sign: int) -> "Points":
        """Same points with x counted away from the midline towards the left (+1) or the right (-1).

        Parameters
        ----------
        sign
            +1 left, -1 right.

        Returns
        -------
        Points
            Points with y and z as they were.
        """
        return self if sign > 0 else Points(-self.x, self.y, self.z)

    @property
    def mirrored(self) -> "Points":
        """Same points with both sides laid on the left one."""
        return Points(np.abs(self.x), self.y, self.z)


def ellipsoid(
    p: Points, centre: Sequence[float], semi: Sequence[float], turn_deg: float = 0.0, pitch_deg: float = 0.0
) -> Array:
    """Distance to an ellipsoid (x, y, z), turned about z from x to y and pitched about x from y to z.

    Parameters
    ----------
    p
        Points in anatomical coordinates, in mm.
    centre
        Centre (x, y, z) in mm.
    semi
        Semi-axes (x, y, z) in mm.
    turn_deg
        Turn about z from x to y.
    pitch_deg
        Pitch about x from y to z.

    Returns
    -------
    Array
        Distance in mm, negative inside.

    Examples
    --------
    >>> p = Points(*np.float32([[20.0], [0.0], [0.0]]))
    >>> ellipsoid(p, (0, 0, 0), (15, 10, 10)).round(1).tolist()
    [5.0]
    """
    x, y, z = (axis - np.float32(c) for axis, c in zip((p.x, p.y, p.z), centre, strict=True))
    if turn_deg:
        c, s = np.float32(np.cos(np.radians(turn_deg))), np.float32(np.sin(np.radians(turn_deg)))
        x, y = c * x + s * y, c * y - s * x
    if pitch_deg:
        c, s = np.float32(np.cos(np.radians(pitch_deg))), np.float32(np.sin(np.radians(pitch_deg)))
        y, z = c * y + s * z, c * z - s * y
    a, b, c2 = (np.float32(length) for length in semi)
    u, v, w = x / a, y / b, z / c2
    k = np.sqrt(u * u + v * v + w * w)
    u, v, w = u / a, v / b, w / c2
    slope = np.sqrt(u * u + v * v + w * w)
    return np.asarray(k * (k - 1) / np.maximum(slope, np.float32(1e-6)))


def tube(p: Points, path: Sequence[Sequence[float]], scale: Sequence[float] = (1.0, 1.0, 1.0)) -> Array:
    """Distance to a chain of rounded cones through `path` = (x, y, z, radius) of each corner.

    Parameters
    ----------
    p
        Points in anatomical coordinates, in mm.
    path
        (x, y, z, radius) of each corner in mm.
    scale
        Stretch of the section: 2 along y makes it twice as deep in y as it is wide; the path stays where it is.

    Returns
    -------
    Array
        Distance in mm, negative inside; along a stretched axis it is divided by the stretch.

    Examples
    --------
    >>> p = Points(*np.float32([[5.0], [0.0], [0.0]]))
    >>> tube(p, ((0, 0, -10, 2), (0, 0, 10, 2))).tolist()
    [3.0]
    """
    stretch = np.asarray(scale, np.float32)
    corners = np.asarray(path, np.float32)
    x, y, z = (axis / s for axis, s in zip((p.x, p.y, p.z), stretch, strict=True))
    best: Array = np.full(p.x.shape, np.inf, np.float32)
    for start, end in pairwise(corners):
        a, b = start[:3] / stretch, end[:3] / stretch
        along = b - a
        length = max(float(along @ along), 1e-6)
        dx, dy, dz = x - a[0], y - a[1], z - a[2]
        t = np.clip((dx * along[0] + dy * along[1] + dz * along[2]) / np.float32(length), 0, 1)
        dx -= t * along[0]
        dy -= t * along[1]
        dz -= t * along[2]
        distance = np.sqrt(dx * dx + dy * dy + dz * dz) - (start[3] + t * (end[3] - start[3]))
        np.minimum(best, distance, out=best)
    return best


def superellipse(x: Array, y: Array, half_x: Array, half_y: Array, power: float) -> Array:
    """Distance in the plane to |x / half_x|^power + |y / half_y|^power = 1.

    Parameters
    ----------
    x
        Coordinates in mm.
    y
        Coordinates in mm.
    half_x
        Half width in mm.
    half_y
        Half depth in mm.
    power
        Power: 2 is an ellipse, more is boxier.

    Returns
    -------
    Array
        Distance in mm, negative inside.

    Examples
    --------
    >>> x, y = np.float32([20.0, 0.0]), np.float32([0.0, 7.0])
    >>> superellipse(x, y, np.float32(15.0), np.float32(10.0), power=2.0).round(3).tolist()
    [5.0, -3.0]
    """
    u, v = np.abs(x) / half_x, np.abs(y) / half_y
    pu, pv = u ** np.float32(power - 1), v ** np.float32(power - 1)
    k = np.maximum(pu * u + pv * v, np.float32(1e-9)) ** np.float32(1 / power)
    slope = np.sqrt((pu / half_x) ** 2 + (pv / half_y) ** 2) * k ** np.float32(1 - power)
    return np.asarray((k - 1) / np.maximum(slope, np.float32(1e-6)))


def join(a: Array, b: Array, blend_mm: float) -> Array:
    """Union of two bodies with a fillet of about blend_mm.

    Parameters
    ----------
    a
        Distances to one body.
    b
        Distances to the other.
    blend_mm
        Radius of the fillet in mm.

    Returns
    -------
    Array
        Distance in mm to the union. Where the two differ by more than `blend_mm` it is the smaller one.

    Examples
    --------
    >>> join(np.array([2.0, 9.0]), np.array([2.0, 3.0]), blend_mm=4.0).tolist()
    [1.0, 3.0]
    """
    h = np.maximum(np.float32(blend_mm) - np.abs(a - b), 0)
    return np.asarray(np.minimum(a, b) - h * h * np.float32(0.25 / blend_mm))


def cut(a: Array, b: Array, blend_mm: float) -> Array:
    """Intersection of two bodies with an edge rounded over about blend_mm.

    Parameters
    ----------
    a
        Distances to one body.
    b
        Distances to the other.
    blend_mm
        Radius of the fillet in mm.

    Returns
    -------
    Array
        Distance in mm to the intersection. Where the two differ by more than `blend_mm` it is the larger one.

    Examples
    --------
    >>> cut(np.array([2.0, 9.0]), np.array([2.0, 3.0]), blend_mm=4.0).tolist()
    [3.0, 9.0]
    """
    return -join(-a, -b, blend_mm)


def step(t: Array) -> Array:
    """Smooth step: 0 below 0, 1 above 1.

    Parameters
    ----------
    t
        Any numbers.

    Returns
    -------
    Array
        t^2 (3 - 2 t), without a change of slope at 0 and 1.

    Examples
    --------
    >>> step(np.array([-1.0, 0.5, 2.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    t = np.clip(t, 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def bump(p: Points, centre: Sequence[float], width: Sequence[float]) -> Array:
    """Gaussian hill of height 1 with standard deviations `width` mm along (x, y, z).

    Parameters
    ----------
    p
        Points in anatomical coordinates, in mm.
    centre
        Centre (x, y, z) in mm.
    width
        Standard deviations (x, y, z) in mm.

    Returns
    -------
    Array
        Height from 0 to 1.

    Examples
    --------
    >>> p = Points(*np.float32([[0.0, 8.0], [0.0, 0.0], [0.0, 0.0]]))
    >>> bump(p, (0, 0, 0), (8, 5, 5)).round(3).tolist()
    [1.0, 0.6069999933242798]
    """
    exponent = sum(
        ((axis - np.float32(c)) / np.float32(w)) ** 2 for axis, c, w in zip((p.x, p.y, p.z), centre, width, strict=True)
    )
    return np.asarray(np.exp(np.float32(-0.5) * exponent))


FIELD_REACH_MM = 220.0
"""Random fields are defined this far from the origin, more than any head and neck needs."""


class SmoothField:
    """A smooth random function of space: cubic B-splines on a lattice of `spacing_mm`, standard deviation 1.

    It depends on the generator alone, not on where it is evaluated: one head is the same on every voxel size.

    Parameters
    ----------
    rng
        Generator.
    spacing_mm
        Spacing of the lattice in mm.

    Examples
    --------
    >>> axis = np.arange(-200.0, 201.0, 10.0)
    >>> values = SmoothField(np.random.default_rng(1), spacing_mm=20.0).on_axes(axis, axis, axis)
    >>> round(float(values.std()), 1)
    1.0
    """

    def __init__(self, rng: np.random.Generator, spacing_mm: float) -> None:
        self.spacing_mm = spacing_mm
        self._nodes = int(np.ceil(2 * FIELD_REACH_MM / spacing_mm)) + 4
        self._values = rng.standard_normal((self._nodes,) * 3, dtype=np.float32)
        # A cubic B-spline of unit white noise has variance sum(b^2) = 0.479 along each axis, averaged over a cell.
        self._values /= np.float32(0.479**1.5)

    def _weights(self, positions: Array) -> Array:
        """Weights (positions, nodes) of the cubic B-splines."""
        t = (np.asarray(positions, np.float64) + FIELD_REACH_MM) / self.spacing_mm + 1.5
        knots = np.arange(self._nodes + 4, dtype=np.float64) - 1.5
        inside = np.clip(t, 1.5, self._nodes - 1.501)
        return BSpline.design_matrix(inside, knots, 3).toarray().astype(np.float32)

    def on_axes(self, z: Array, y: Array, x: Array) -> Array:
        """Values (z, y, x) on the lattice of three axes; einsum without BLAS: the same bytes on any thread count.

        Parameters
        ----------
        z
            Positions along z in mm.
        y
            Positions along y in mm.
        x
            Positions along x in mm.

        Returns
        -------
        Array
            float32 (z, y, x), with mean near 0 and standard deviation near 1.
        """
        part = np.einsum("ijk,xk->ijx", self._values, self._weights(x))
        part = np.einsum("ijx,yj->iyx", part, self._weights(y))
        return np.einsum("iyx,zi->zyx", part, self._weights(z))
