"""The neck: cervical spine with its canal and cord, and the muscles around it.

Positions in the anatomical coordinates of placement.py. Vertebrae are 17 mm apart, bodies 17 mm deep and 24 mm broad
(ordinary adult values of C3 to C6).
"""

import numpy as np

from spectac.recon.types import Array
from spectac.simulate.anatomy.canvas import SIDES, SOFT, Canvas
from spectac.simulate.anatomy.distance_fields import Points, tube
from spectac.simulate.anatomy.skull import FORAMEN_CENTRE_Y

PERIOD_MM = 17.0
"""Distance of the vertebrae."""

_AXIS_Z = (-220.0, -170.0, -130.0, -105.0, -82.0, -60.0)
_AXIS_Y = (38.0, 25.0, 18.0, 18.0, 22.0, 25.0)
"""Middle of the vertebral bodies: the neck's lordosis."""


def muscles(canvas: Canvas, planes: Array) -> None:
    """Paint the muscles of nape and neck into fat, with planes of fat between them; `planes` is a smooth field.

    Parameters
    ----------
    canvas
        Canvas to paint on.
    planes
        (z, y, x) smooth random field.

    Examples
    --------
    >>> from spectac.simulate.anatomy.placement import Placement, coarse_axes
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> from spectac.simulate.regions import LABEL
    >>> rng = np.random.default_rng(1)
    >>> canvas = Canvas.empty(Placement.draw(rng, draw_shape(rng, HeadRanges())), *coarse_axes())
    >>> canvas.labels[:] = LABEL["fat"]
    >>> muscles(canvas, np.zeros(canvas.labels.shape, np.float32))
    >>> set(np.unique(canvas.labels).tolist()) == {LABEL["fat"], LABEL["muscle"], LABEL["mucosa"]}
    True
    """
    part, p = canvas.box((-80, -60, -225), (80, 110, -18))
    spine_y = np.interp(p.z, _AXIS_Z, _AXIS_Y).astype(np.float32)
    radius = np.hypot(p.x * 0.92, (p.y - spine_y - 12) * 0.8)
    # Layers of muscle one outside the other, parted by fat of about a voxel, and the ligament of the nape.
    layer = np.abs(np.sin((radius + 9 * planes[part.box]) * np.float32(np.pi / 14)))
    muscle = (layer > 0.13) & ~((np.abs(p.x) < 1.3) & (p.y > spine_y + 38))
    region = (p.y > 4) | (p.z < -112)
    part.paint(muscle & region & part.isin("fat"), "muscle")
    for sign, _ in SIDES:
        part, q = canvas.side(sign, (8, -60, -225), (80, 60, -50))
        mastoid = tube(q, ((58, 34, -66, 8), (46, 4, -120, 9), (24, -26, -180, 8)), (1, 1.2, 1))
        part.paint(mastoid < 0, "muscle", over=("fat",))
        vessels = np.minimum(
            tube(q, ((26, -2, -60, 4), (30, -6, -215, 5))), tube(q, ((31, 6, -60, 4), (36, -4, -215, 5)))
        )
        part.paint(vessels < 0, "mucosa", over=("fat", "muscle"))


def spine(canvas: Canvas, depth: Array) -> None:
    """Paint vertebrae, discs, the canal's fluid and the cord; `depth` is the distance from the braincase's cavity.

    Parameters
    ----------
    canvas
        Canvas to paint on.
    depth
        (z, y, x) mm from the cavity of the braincase.

    Examples
    --------
    >>> from spectac.simulate.anatomy.placement import Placement, coarse_axes
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> from spectac.simulate.regions import LABEL
    >>> rng = np.random.default_rng(1)
    >>> canvas = Canvas.empty(Placement.draw(rng, draw_shape(rng, HeadRanges())), *coarse_axes())
    >>> spine(canvas, np.full(canvas.labels.shape, 50.0))
    >>> cord_ml = np.count_nonzero(canvas.labels == LABEL["spinal cord"]) * 5.0**3 / 1000
    >>> bool(4 < cord_ml < 16)
    True
    """
    part, p = canvas.box((-36, -6, -225), (36, 92, -50))
    outside = depth[part.box] > 2.0
    centre = np.interp(p.z, _AXIS_Z, _AXIS_Y).astype(np.float32)
    canal_y = centre + np.interp(p.z, (-110, -80, -66), (18.5, 20.5, FORAMEN_CENTRE_Y - 25)).astype(np.float32)
    y = p.y - centre
    phase = np.mod(p.z + 76, PERIOD_MM)
    below_skull = p.z < -70
    body = np.hypot(p.x / 12.5, y / 8.8) - 1
    disc = (phase < 4.2) & (p.z < -108)
    dens = tube(p, ((0, 22, -100, 8), (0, 24, -82, 5.5), (0, 24, -72, 4.5)))
    bodies = ((body < 0) & (p.z < -96)) | (dens < 0)
    atlas = _ring(p, 41.0, -79.0)
    condyle = np.minimum(_pair(p, (17, 34, -66), (7, 10, 6)), _pair(p, (22, 35, -79), (9, 9, 6.5)))
    facets = (np.hypot((np.abs(p.x) - 20) / 7.5, (p.y - canal_y + 1) / 8.5) < 1) & (phase > 2.2) & (p.z < -84)
    ring = np.hypot(p.x / 13.5, (p.y - canal_y) / 11.0)
    arch = (ring > 0.86) & (ring < 1.2) & (phase > 4) & (phase < 14) & (p.z < -84)
    slope = np.float32(0.45) * (p.y - canal_y - 12)
    tall = np.mod(p.z + 76 + slope, PERIOD_MM)
    spinous = (np.abs(p.x) < 3.2) & (p.y > canal_y + 9) & (p.y < canal_y + np.where(p.z < -150, 42, 30))
    spinous &= (tall > 3.5) & (tall < 11.5) & (p.z < -88)
    bone = (bodies & ~disc) | facets | arch | spinous | (atlas < 0) | (condyle < 0)
    part.paint(bone & below_skull & outside | ((condyle < 0) & outside), "spine", over=SOFT)
    part.paint(bodies & disc & outside, "mucosa", over=SOFT)
    shell = (np.abs(body) < 0.16) & bodies & ~disc & outside
    part.paint(shell | (arch & outside), "skull", over=("spine",))
    canal = np.hypot(p.x / 10.5, (p.y - canal_y) / 8.2) - 1
    # Into the cavity of the braincase: fluid is painted there as well.
    part.paint((canal < 0) & (p.z < -58), "csf")
    cord = np.hypot(p.x / 6.2, (p.y - canal_y) / 4.4) - 1
    part.paint((cord < 0) & (p.z < -68), "spinal cord")


def _pair(p: Points, centre: tuple[float, float, float], semi: tuple[float, float, float]) -> Array:
    u = (np.abs(p.x) - centre[0]) / semi[0], (p.y - centre[1]) / semi[1], (p.z - centre[2]) / semi[2]
    return np.asarray(u[0] ** 2 + u[1] ** 2 + u[2] ** 2 - 1)


def _ring(p: Points, y: float, z: float) -> Array:
    """The atlas: a ring around the canal."""
    flat = np.hypot(p.x / 20, (p.y - y) / 20) - 1
    return np.asarray((20 * flat / 4.0) ** 2 + ((p.z - z) / 4.5) ** 2 - 1)
