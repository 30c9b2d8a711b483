"""The facial skeleton and what it holds: orbits with eyes, jaws with teeth, cheekbones, sinuses, nose and glands.

Positions in the anatomical coordinates of placement.py, written down for this module from general anatomy.
Bones are painted first, then `airways` cuts sinuses, nasal cavity and pharynx into them.
"""

import numpy as np

from spectac.recon.types import Array
from spectac.simulate.anatomy.canvas import SIDES, SOFT, Canvas, Part
from spectac.simulate.anatomy.distance_fields import Points, ellipsoid, join, step, tube
from spectac.simulate.anatomy.ranges import HeadShape

# Paths of tubes: (x, y, z, radius).
_JAW = ((50, 12, -48, 6), (50, 9, -70, 5), (48, 5, -92, 5.5), (46, -2, -108, 6))
_JAW_BODY = ((46, -2, -108, 6), (42, -28, -115, 6), (30, -58, -120, 6), (16, -75, -123, 6.5), (0, -80, -124, 6.5))
_CHEEK = ((38, -70, -54, 6), (52, -56, -54, 6), (60, -40, -52, 4), (66, -20, -50, 3), (64, 2, -47, 3.5))
_RIM = ((12, -78, -22, 5), (30, -76, -18, 4.5), (46, -66, -22, 4.5), (50, -62, -37, 4), (45, -66, -50, 4.5))
ARCH_CENTRE_Y = -46.0
"""Where the dental arch turns from a half circle into two straight lines."""


def bones(canvas: Canvas, shape: HeadShape) -> None:
    """Paint orbits, maxilla, cheekbones, palate, nasal bones, pterygoid plates, mandible, teeth and hyoid.

    Parameters
    ----------
    canvas
        Canvas to paint on.
    shape
        Draws of the head.

    Examples
    --------
    >>> from spectac.simulate.anatomy.placement import Placement, coarse_axes
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> from spectac.simulate.regions import LABEL
    >>> rng = np.random.default_rng(1)
    >>> shape = draw_shape(rng, HeadRanges())
    >>> canvas = Canvas.empty(Placement.draw(rng, shape), *coarse_axes())
    >>> canvas.labels[:] = LABEL["fat"]
    >>> bones(canvas, shape)
    >>> eyes_ml = np.count_nonzero(canvas.labels == LABEL["eye"]) * 5.0**3 / 1000
    >>> bool(8 < eyes_ml < 16)
    True
    """
    for sign, _ in SIDES:
        part, p = canvas.side(sign, (0, -100, -100), (76, 20, -5))
        orbit = orbit_distance(p)
        wall = (orbit > 0) & (orbit < 2.6) & (p.y > -72) & (p.y < -24)
        rim = tube(p, _RIM)
        cheek = tube(p, _CHEEK, (1, 1, 1.5))
        # The maxilla is a box around its sinus, from the orbit's floor to the roots of the teeth.
        maxilla = join(
            ellipsoid(p, (26, -58, -66), (19, 19, 17)), tube(p, ((12, -80, -72, 7), (30, -60, -74, 8)), (1, 1, 1.3)), 6
        )
        body = (maxilla < 0) & (orbit > 0) & (p.y > -86 + 0.25 * p.x)
        nasal = tube(p, ((3, -80, -24, 3.0), (3.5, -88, -36, 2.5), (4, -94, -44, 2.2)))
        frontal_process = tube(p, ((9, -79, -26, 3.5), (13, -80, -48, 4), (16, -80, -66, 5)))
        plates = np.minimum(
            tube(p, ((12, -20, -46, 2.2), (13, -18, -74, 2.2)), (1, 2.5, 1)),
            tube(p, ((12, -26, -46, 2.2), (20, -18, -72, 2.2)), (1, 2.5, 1)),
        )
        solid = wall | (rim < 0) | (cheek < 0) | (nasal < 0) | (frontal_process < 0) | (plates < 0)
        part.paint(solid | body, "skull")
        part.paint((cheek < -2.8) | ((maxilla < -4) & body), "diploe")
        _fill_orbit(part, p, orbit)
    part, p = canvas.box((-34, -95, -90), (34, -25, -64))
    arch = _arch(p)
    palate = (np.abs(p.z + 72.2 - 3 * (p.x / 20) ** 2) < 2.1) & (arch < 0) & (p.y < -32)
    alveolar = (np.abs(arch) < 6) & (p.z > -85) & (p.z < -68) & (p.y < -38)
    part.paint(palate | alveolar, "skull")
    part.paint(alveolar & (np.abs(arch) < 3.6) & (p.z > -83), "diploe")
    _mandible(canvas, shape)
    _teeth(canvas, shape)


def orbit_distance(p: Points) -> Array:
    """Distance to the orbital cavity of a side: a cone with rounded base, its axis 22 deg off the midline.

    Parameters
    ----------
    p
        Points of one side, x away from the midline.

    Returns
    -------
    Array
        Distance in mm, negative inside the cavity.

    Examples
    --------
    >>> middle = Points(*np.float32([[31.0], [-62.0], [-37.0]]))
    >>> bool(orbit_distance(middle)[0] < -10)
    True
    """
    cone = ellipsoid(p, (31, -62, -37), (19, 19, 17.5), turn_deg=0)
    apex = tube(p, ((29, -58, -37, 15.5), (22, -38, -33, 9), (15, -22, -28, 3.5)))
    return join(cone, apex, 5)


def _fill_orbit(part: Part, p: Points, orbit: Array) -> None:
    inside = (orbit <= 0) & ~part.isin("outside") & (p.y > -80)
    part.paint(inside, "fat", over=("skin", "fat", "muscle", "skull", "diploe"))
    muscles = tube(p, ((31, -62, -28, 1.6), (16, -24, -27, 1.6)))
    for path in (
        ((31, -62, -46, 1.6), (16, -24, -30, 1.6)),
        ((41, -60, -37, 1.6), (17, -24, -29, 1.6)),
        ((21, -62, -37, 1.6), (14, -24, -29, 1.6)),
        ((31, -52, -37, 2.0), (15, -22, -28, 2.0)),
    ):
        muscles = np.minimum(muscles, tube(p, path))
    part.paint(inside & (muscles < 0), "muscle")
    lids = (p.y < -72) & (ellipsoid(p, (31.5, -64, -37), (15, 15, 15)) < 0) & ~part.isin("outside")
    part.paint(lids, "muscle", over=("fat",))
    eye = ellipsoid(p, (31.5, -64, -37), (12.1, 12.1, 12.1))
    part.paint((eye < 0) & ~part.isin("outside"), "eye")
    lens = ellipsoid(p, (31.5, -72.5, -37), (4.6, 2.2, 4.6))
    part.paint(lens < 0, "mucosa", over=("eye",))


def _arch(p: Points) -> Array:
    """Signed distance in the plane z = const to the dental arch: a horseshoe, negative towards the tongue."""
    front = np.hypot(p.x * np.float32(1.12), np.minimum(p.y - ARCH_CENTRE_Y, 0)) - 29
    return np.asarray(np.where(p.y < ARCH_CENTRE_Y, front, np.abs(p.x) * np.float32(1.12) - 29))


def _mandible(canvas: Canvas, shape: HeadShape) -> None:
    wide = shape["jaw"]
    for sign, _ in SIDES:
        part, p = canvas.side(sign, (-6, -100, -142), (66, 32, -38))
        q = Points(p.x / np.float32(wide), p.y, p.z)
        ramus = tube(q, _JAW, (0.85, 2.3, 1))
        body = tube(q, _JAW_BODY, (0.8, 0.95, 2.0))
        coronoid = tube(q, ((48, -8, -90, 4), (50, -16, -62, 2.5)), (1, 2.0, 1))
        chin = ellipsoid(q, (0, -83, -129), (16, 7, 9))
        bone = join(join(ramus, body, 6), np.minimum(coronoid, chin), 6)
        part.paint(bone < 0, "dense bone", over=SOFT)
        part.paint(bone < -2.6, "diploe", over=("dense bone",))
    part, p = canvas.box((-34, -75, -132), (34, 2, -112))
    hyoid = tube(p.mirrored, ((0, -42, -128, 3.2), (14, -34, -126, 2.4), (22, -14, -121, 1.8)))
    part.paint(hyoid < 0, "skull", over=SOFT)


def _teeth(canvas: Canvas, shape: HeadShape) -> None:
    part, p = canvas.box((-38, -98, -116), (38, -28, -74))
    arch = _arch(p)
    along = np.arctan2(p.x, ARCH_CENTRE_Y - p.y)
    row = (np.abs(arch) < 4.6) & (p.y < -32)
    lower_gum = row & (p.z < -106) & (p.z > -116)
    part.paint(lower_gum, "diploe", over=SOFT)
    gum = (np.abs(arch) < 6.5) & (p.y < -30) & (p.z < -84) & (p.z > -112)
    part.paint(gum, "mucosa", over=SOFT)
    if shape.edentulous:
        return
    gaps = np.abs(np.sin(8.0 * along)) > 0.22
    upper = row & gaps & (p.z > -94) & (p.z < -79)
    lower = row & gaps & (p.z > -110) & (p.z < -95.2) & (arch < 3.2)
    part.paint(upper | lower, "teeth")


def glands(canvas: Canvas) -> None:
    """Paint parotid and submandibular glands, the salivary glands that tracers show.

    Parameters
    ----------
    canvas
        Canvas to paint on.

    Examples
    --------
    >>> from spectac.simulate.anatomy.placement import Placement, coarse_axes
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> from spectac.simulate.regions import LABEL
    >>> rng = np.random.default_rng(1)
    >>> canvas = Canvas.empty(Placement.draw(rng, draw_shape(rng, HeadRanges())), *coarse_axes())
    >>> canvas.labels[:] = LABEL["fat"]
    >>> glands(canvas)
    >>> parotid_ml = np.count_nonzero(canvas.labels == LABEL["left parotid gland"]) * 5.0**3 / 1000
    >>> bool(20 < parotid_ml < 40)
    True
    """
    for sign, side in SIDES:
        part, p = canvas.side(sign, (10, -50, -140), (78, 36, -38))
        parotid = join(ellipsoid(p, (51, 22, -76), (13, 15, 28)), ellipsoid(p, (58, -6, -76), (9, 22, 18)), 6)
        part.paint(parotid < 0, f"{side} parotid gland", over=SOFT)
        submandibular = ellipsoid(p, (31, -20, -120), (8, 15, 10))
        part.paint(submandibular < 0, f"{side} submandibular gland", over=SOFT)


def masticators(canvas: Canvas) -> None:
    """Paint the muscles of the face: masseter, pterygoids, the ring of the mouth, tongue and floor of the mouth.

    Parameters
    ----------
    canvas
        Canvas to paint on.

    Examples
    --------
    >>> from spectac.simulate.anatomy.placement import Placement, coarse_axes
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> from spectac.simulate.regions import LABEL
    >>> rng = np.random.default_rng(1)
    >>> canvas = Canvas.empty(Placement.draw(rng, draw_shape(rng, HeadRanges())), *coarse_axes())
    >>> canvas.labels[:] = LABEL["fat"]
    >>> masticators(canvas)
    >>> muscle_ml = np.count_nonzero(canvas.labels == LABEL["muscle"]) * 5.0**3 / 1000
    >>> bool(100 < muscle_ml < 300)
    True
    """
    for sign, _ in SIDES:
        part, p = canvas.side(sign, (0, -100, -140), (76, 30, -35))
        masseter = tube(p, ((60, -26, -56, 6), (54, -6, -104, 7)), (1, 2.2, 1))
        pterygoid = tube(p, ((22, -16, -60, 7), (42, 2, -100, 6)), (1, 1.8, 1))
        temporalis = tube(p, ((58, -22, -10, 9), (50, -16, -66, 7)), (1, 2.6, 1))
        ring = np.maximum(np.maximum(_arch(p) - 16, 11 - _arch(p)), np.abs(p.z + 92) - 15)
        muscle = np.minimum(np.minimum(masseter, pterygoid), np.minimum(temporalis, ring))
        part.paint(muscle < 0, "muscle", over=("fat",))
    part, p = canvas.box((-34, -90, -145), (34, 15, -74))
    tongue = join(
        ellipsoid(p, (0, -44, -96), (24, 31, 20)), tube(p, ((0, -25, -104, 14), (0, -60, -122, 10)), (1.6, 1, 1)), 8
    )
    part.paint(tongue < 0, "muscle", over=("fat",))


def mouth_air(p: Points, shape: HeadShape) -> Array:
    """Distance to the air over the tongue; none where the tongue lies against the palate.

    Parameters
    ----------
    p
        Points in anatomical coordinates, in mm.
    shape
        Draws of the head.

    Returns
    -------
    Array
        Distance in mm, negative in the air.

    Examples
    --------
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> shape = draw_shape(np.random.default_rng(1), HeadRanges(mouth_air_mm=(0.0, 0.0)))
    >>> palate_to_tongue = Points(*np.float32([[0.0] * 30, [-40.0] * 30, np.linspace(-90.0, -70.0, 30)]))
    >>> bool((mouth_air(palate_to_tongue, shape) < 0).any())
    False
    """
    gap = shape["mouth_air_mm"]
    roof = np.float32(-74.5)
    middle = roof - np.float32(0.5 * gap) - 6 * step((-48 - p.y) / 30) - 4 * step((p.y + 25) / 18)
    return np.asarray(np.maximum(np.abs(p.z - middle) - np.float32(0.5 * gap), np.maximum(_arch(p) + 8, p.y + 12)))
