"""The braincase: the cavity inside it, how thick its wall is, and the wall's tables, diploe and density.

Positions are in the anatomical coordinates of placement.py; those of the skull base were written down for this module
from general anatomy (the stereotaxic atlas of Talairach and Tournoux 1988 has the same origin and nearly the same
size). The reference is larger than the average man: 172 mm long and 131 mm broad inside.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import RectBivariateSpline

from spectac.recon.kernels.compiled import compiled
from spectac.recon.types import Array
from spectac.simulate.anatomy.distance_fields import Points, bump, cut, step
from spectac.simulate.anatomy.ranges import HeadShape

VAULT_CENTRE = (0.0, 16.0, 10.0)
"""Centre of the vault's superellipsoid."""

VAULT_SEMI = (65.6, 85.8, 69.5)
"""Its semi-axes; that along z above the centre."""

VAULT_BELOW = 94.0
"""Semi-axis below the centre: the walls go on down to the skull base."""

_BASE_Y = (-80, -60, -45, -30, -22, -15, -8, 0, 10, 20, 30, 40, 50, 60, 75, 90, 110)
_BASE_X = (0, 10, 20, 30, 40, 50, 60, 75)
# Height z of the inner skull base: anterior fossa with the cribriform plate, the wing of the sphenoid (y = -22), middle
# fossa beside the sella (y = 0), petrous ridge from (10, 10) to (60, 42), clivus, posterior fossa.
_BASE_Z = (
    (-18, -18, -16, -14, -14, -14, -14, -14),
    (-25, -22, -17, -14, -13, -13, -13, -13),
    (-27, -23, -17, -13, -12, -12, -12, -12),
    (-25, -22, -17, -13, -12, -12, -12, -12),
    (-23, -20, -16, -15, -18, -22, -24, -26),
    (-22, -20, -20, -28, -34, -34, -32, -30),
    (-25, -23, -27, -38, -42, -41, -37, -34),
    (-34, -27, -30, -40, -45, -44, -39, -35),
    (-26, -27, -31, -38, -44, -44, -39, -35),
    (-44, -40, -32, -34, -41, -42, -38, -35),
    (-62, -57, -44, -33, -33, -38, -37, -35),
    (-64, -62, -56, -47, -35, -30, -32, -34),
    (-64, -63, -60, -54, -46, -36, -31, -33),
    (-63, -62, -60, -56, -51, -43, -36, -34),
    (-56, -56, -55, -52, -47, -42, -37, -35),
    (-44, -44, -44, -43, -40, -38, -36, -35),
    (-36, -36, -37, -37, -37, -36, -35, -35),
)
# Thickness in mm of the base under it: orbital roof and cribriform plate thin, petrous bone and clivus thick.
_BASE_MM = (
    (7.0, 6.5, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0),
    (3.0, 3.0, 3.2, 3.2, 3.2, 4.0, 5.0, 5.0),
    (2.6, 2.6, 2.8, 2.8, 3.0, 4.0, 5.0, 5.0),
    (2.6, 3.0, 2.8, 2.8, 3.2, 5.0, 6.0, 5.0),
    (4.0, 5.0, 5.0, 5.0, 6.0, 6.0, 5.0, 4.5),
    (6.0, 6.0, 5.0, 4.5, 4.0, 4.0, 4.0, 4.0),
    (8.0, 8.0, 5.0, 3.6, 3.4, 3.6, 4.0, 4.0),
    (8.0, 8.0, 6.0, 3.6, 3.4, 3.6, 4.5, 4.5),
    (10., 10., 9.0, 5.0, 4.0, 5.0, 7.0, 6.0),
    (9.0, 10., 12., 11., 7.0, 8.0, 9.0, 7.0),
    (7.0, 9.0, 12., 14., 13., 12., 11., 8.0),
    (5.0, 9.0, 11., 12., 14., 15., 13., 9.0),
    (4.0, 8.0, 8.0, 7.0, 9.0, 13., 14., 10.),
    (5.0, 5.5, 5.0, 4.5, 5.0, 9.0, 12., 10.),
    (7.0, 5.5, 4.5, 4.0, 4.5, 6.0, 7.0, 7.0),
    (9.0, 7.0, 5.5, 5.0, 5.0, 5.5, 6.0, 6.0),
    (9.0, 7.0, 6.0, 5.5, 5.5, 6.0, 6.0, 6.0),
)  # fmt: skip

FORAMEN_CENTRE_Y = 44.0
"""Middle of the foramen magnum."""

FORAMEN_RADII = (14.0, 15.5)
"""Half width and half length of the foramen magnum (about 28 x 32 mm once scaled)."""


@lru_cache(maxsize=1)
def _base() -> Array:
    """Height, slope factor cos(angle) and thickness (3, y, x) of the base each mm, y from -100, |x| from 0."""
    y, x = np.arange(-100.0, 131.0), np.arange(0.0, 101.0)
    mirrored = np.concatenate([-np.array(_BASE_X[:0:-1]), _BASE_X])

    def spline(table: tuple[tuple[float, ...], ...]) -> Array:
        rows = np.array(table)
        rows = np.concatenate([rows[:, :0:-1], rows], axis=1)
        fine = RectBivariateSpline(_BASE_Y, mirrored, rows, kx=2, ky=2)
        return np.asarray(fine(np.clip(y, -80, 110), np.clip(x, 0, 75)))

    height, thickness = spline(_BASE_Z), np.maximum(spline(_BASE_MM), 2.9)
    slope = np.hypot(*np.gradient(height))
    return np.stack([height, 1 / np.sqrt(1 + slope**2), thickness]).astype(np.float32)


@compiled
def _look_up(table: Array, x: Array, y: Array, out: Array) -> None:
    """Linear interpolation of `table` (3, y, |x|) at flat lists of points into out (3, n)."""
    _, rows, columns = table.shape
    for i in range(x.size):
        u = min(abs(x[i]), np.float32(columns - 1.001))
        v = min(max(y[i] + np.float32(100), np.float32(0)), np.float32(rows - 1.001))
        a, b = int(v), int(u)
        v, u = v - np.float32(a), u - np.float32(b)
        for k in range(3):
            top = table[k, a, b] + u * (table[k, a, b + 1] - table[k, a, b])
            below = table[k, a + 1, b] + u * (table[k, a + 1, b + 1] - table[k, a + 1, b])
            out[k, i] = top + v * (below - top)


@dataclass(frozen=True)
class Braincase:
    """Braincase on points of any shape.

    Parameters
    ----------
    depth
        mm outside the inner table, negative inside.
    wall
        mm from the inner to the outer table.
    base
        0 on the vault and 1 on the skull base.
    vault
        Distance to the vault's inner surface alone.
    hole
        Distance to the foramen magnum and the space below it.

    Examples
    --------
    >>> near_the_outer_table = np.float32([5.0])
    >>> case = Braincase(depth=near_the_outer_table, wall=np.float32([6.0]), base=None, vault=None, hole=None)
    >>> case.outside.tolist()
    [-1.0]
    """

    depth: Array
    wall: Array
    base: Array
    vault: Array
    hole: Array

    @property
    def outside(self) -> Array:
        """Distance in mm to the outer table, positive outside the skull."""
        return self.depth - self.wall


def _vault_distance(p: Points, shape: HeadShape) -> Array:
    """Distance to the inner surface of the vault, an egg-shaped superellipsoid."""
    power = np.float32(shape["vertex"])
    dy, dz = p.y - np.float32(VAULT_CENTRE[1]), p.z - np.float32(VAULT_CENTRE[2])
    # Widest behind the middle; the temples draw in towards the front, less so lower down at the temporal lobes.
    taper = np.float32(shape["egg"] / 87.0) * np.clip(dy, -87, 60)
    half_x = np.float32(VAULT_SEMI[0]) * (1 + taper - np.float32(0.25 * shape["egg"]) * (np.abs(dy) / 87) ** 2)
    half_z = np.where(dz > 0, np.float32(VAULT_SEMI[2]), np.float32(VAULT_BELOW))
    # The crown lies behind the middle: the forehead slopes back.
    half_z = half_z * (1 + np.where(dz > 0, np.float32(0.07 / 87) * np.clip(dy, -87, 40), 0))
    u, v, w = np.abs(p.x) / half_x, np.abs(dy) / np.float32(VAULT_SEMI[1]), np.abs(dz) / half_z
    pu, pv, pw = u ** (power - 1), v ** (power - 1), w ** (power - 1)
    k = np.maximum(pu * u + pv * v + pw * w, np.float32(1e-6)) ** (1 / power)
    slope = np.sqrt((pu / half_x) ** 2 + (pv / np.float32(VAULT_SEMI[1])) ** 2 + (pw / half_z) ** 2) * k ** (1 - power)
    return np.asarray((k - 1) / np.maximum(slope, np.float32(1e-4)))


def braincase(p: Points, shape: HeadShape, uneven: Array) -> Braincase:
    """Distance to the cavity and thickness of its wall; `uneven` is a smooth random field on the same points.

    Parameters
    ----------
    p
        Points in anatomical coordinates, in mm.
    shape
        Draws of the head.
    uneven
        Smooth random field on the same points.

    Returns
    -------
    Braincase
        Arrays in the shape of the points.

    Examples
    --------
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> shape = draw_shape(np.random.default_rng(1), HeadRanges())
    >>> p = Points(*np.float32([[0.0, 0.0], [16.0, 16.0], [40.0, 85.0]]))
    >>> case = braincase(p, shape, uneven=np.zeros(2, np.float32))
    >>> (case.depth < 0).tolist()
    [True, False]
    """
    vault = _vault_distance(p, shape)
    table = np.empty((3, *p.x.shape), np.float32)
    _look_up(_base(), np.ravel(p.x), np.ravel(p.y), table.reshape(3, -1))
    floor = (table[0] - p.z) * table[1]
    depth = cut(vault, floor, 5.0)
    # Bone around the foramen magnum, none across it.
    hole = (np.hypot(p.x / FORAMEN_RADII[0], (p.y - FORAMEN_CENTRE_Y) / FORAMEN_RADII[1]) - 1) * FORAMEN_RADII[0]
    hole = np.where((p.z < -52) & (p.z > -90), hole, np.float32(99))
    base = step((floor - vault) / 8 + 0.5)
    wall = _vault_thickness(p, shape, uneven) * (1 - base) + base * table[2]
    return Braincase(depth, wall, base, vault, hole)


def _vault_thickness(p: Points, shape: HeadShape, uneven: Array) -> Array:
    """Thickness in mm of the vault: thinner at the temples, thicker at the occiput, brow and midline."""
    lateral = step((np.abs(p.x) - 38) / 20)
    temple = lateral * np.exp(np.float32(-0.5) * ((p.z + 12) / 24) ** 2) * step((62 - p.y) / 40)
    occiput = step((p.y - 45) / 40) * step((45 - p.z) / 45)
    front = step((-25 - p.y) / 30) * step((p.z + 25) / 30)
    sagittal = np.exp(np.float32(-0.5) * (p.x / 14) ** 2) * step((p.z - 30) / 30)
    tenth = np.float32(0.10)
    thicker = 1 + np.float32(shape["occipital_thickness"]) * occiput + tenth * front + tenth * sagittal
    thinner = 1 - np.float32(1 - shape["temporal_thickness"]) * temple
    factor = thicker * thinner * (1 + tenth * np.clip(uneven, -2.2, 2.2))
    thickness = np.float32(shape["skull_thickness_mm"]) * factor
    thickness += np.float32(shape["protuberance_mm"]) * bump(p, (0, 106, -22), (17, 20, 14))
    # Glabella and brow ridges, where the frontal sinus lies.
    thickness += np.float32(4.5 if shape.sex == "male" else 3.0) * bump(p, (0, -78, -16), (24, 18, 9))
    return np.asarray(np.maximum(thickness, np.float32(2.7)))


@dataclass(frozen=True)
class Layers:
    """Wall of the braincase on points: mm outside its `inner` face, masks, and its `fraction` of each voxel.

    Parameters
    ----------
    inner
        mm outside the inner face.
    bone
        Mask of the wall.
    diploe
        Mask of the diploe.
    dense
        Mask of the otic capsule.
    fraction
        Share of the voxel that is wall.
    """

    inner: Array
    bone: Array
    diploe: Array
    dense: Array
    fraction: Array


def layers(p: Points, case: Braincase, shape: HeadShape, uneven: Array, voxel_mm: float) -> Layers:
    """Tables and diploe of the wall; `fraction` is how much of the voxel is wall, for partial volumes at its faces.

    Parameters
    ----------
    p
        Points in anatomical coordinates, in mm.
    case
        Braincase on the same points.
    shape
        Draws of the head.
    uneven
        Smooth random field on the same points.
    voxel_mm
        Edge of a voxel in mm.

    Returns
    -------
    Layers
        Arrays in the shape of the points.

    Examples
    --------
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> shape, even = draw_shape(np.random.default_rng(1), HeadRanges()), np.zeros(2, np.float32)
    >>> p = Points(*np.float32([[0.0, 0.0], [16.0, 16.0], [40.0, 83.0]]))
    >>> wall = layers(p, braincase(p, shape, even), shape, even, voxel_mm=2.0)
    >>> wall.bone.tolist(), wall.fraction.tolist()
    ([False, True], [0.0, 1.0])
    """
    inner = case.depth + _inner_growth(p, shape, uneven)
    inside, outside = step(inner / voxel_mm + 0.5), step(-case.outside / voxel_mm + 0.5)
    fraction = np.minimum(np.minimum(inside, outside), step(case.hole / voxel_mm + 0.5))
    wall = case.wall + (inner - case.depth)
    table = np.maximum(0.5 * (1 - np.float32(shape["diploe_share"])) * wall, np.float32(1.3))
    # Thin bone has no diploe; the inner table is the thinner one.
    diploe = (inner > 0.85 * table) & (-case.outside > 1.15 * table) & (wall > 4.2)
    petrous = np.zeros(p.x.shape, bool)
    for sign in (-1, 1):
        q = p.lateral(sign)
        # Otic capsule: the densest bone of the body, along the petrous ridge from apex to mastoid.
        axis = np.hypot((q.y - (9 + 0.58 * q.x)) * 0.86, q.z + 41) - 9
        petrous |= (axis < 0) & (q.x > 14) & (q.x < 52)
    diploe &= ~petrous
    return Layers(inner, fraction >= 0.5, diploe & (fraction >= 0.5), petrous & (fraction >= 0.5), fraction)


def _inner_growth(p: Points, shape: HeadShape, uneven: Array) -> Array:
    """How far in mm the inner table has grown inwards: hyperostosis frontalis interna, lobed, sparing the midline."""
    if not shape.hyperostosis:
        return np.zeros(p.x.shape, np.float32)
    front = step((-22 - p.y) / 22) * step((p.z + 8) / 14)
    lobes = np.clip(0.7 + 0.5 * uneven, 0, 1.5) * step((np.abs(p.x) - 3) / 10)
    return np.asarray(np.float32(shape["hyperostosis_mm"]) * front * lobes)


def flap(p: Points, case: Braincase, shape: HeadShape) -> tuple[Array, Array]:
    """Masks of a craniotomy: the bone flap, and the cut around it with its burr holes; empty without one.

    Parameters
    ----------
    p
        Points in anatomical coordinates, in mm.
    case
        Braincase on the same points.
    shape
        Draws of the head.

    Returns
    -------
    tuple of Array
        Two masks in the shape of the points.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> drawn = draw_shape(np.random.default_rng(1), HeadRanges(craniotomy_probability=1.0))
    >>> shape = replace(drawn, numbers={**drawn.numbers, "flap_elevation_deg": 90.0})
    >>> p = Points(*np.float32([[0.0], [16.0], [83.0]]))
    >>> flap(p, braincase(p, shape, np.zeros(1, np.float32)), shape)[0].tolist()
    [True]
    """
    nothing = np.zeros(p.x.shape, bool)
    if shape.craniotomy == "none":
        return nothing, nothing
    azimuth, elevation = np.radians(shape["flap_azimuth_deg"]), np.radians(shape["flap_elevation_deg"])
    axis = (np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth), np.sin(elevation))
    x, y, z = p.x, p.y - VAULT_CENTRE[1], p.z - VAULT_CENTRE[2]
    along = axis[0] * x + axis[1] * y + axis[2] * z
    off = np.sqrt(np.maximum(x * x + y * y + z * z - along**2, 0))
    # Off the axis by angle, so that the edge is vertical to the vault: radius taken at its usual 75 mm.
    off = 75 * np.arctan2(off, along)
    turn = np.arctan2(z - along * axis[2], axis[1] * x - axis[0] * y)
    radius = shape["flap_radius_mm"] * (1 + 0.12 * np.sin(2 * turn + 1.0) + 0.06 * np.sin(3 * turn))
    wall = (case.depth > -1) & (case.base < 0.3)
    burr = (np.abs(off - radius) < 6.5) & (np.abs(np.sin(2 * turn)) < 0.12)
    return wall & (off < radius), wall & ((np.abs(off - radius) < 1.6) | burr)
