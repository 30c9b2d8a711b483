"""Air in the head: paranasal sinuses, mastoid cells, ear canals, nasal cavity with its turbinates, pharynx and trachea.

Positions in the anatomical coordinates of placement.py. Air is lined with mucosa, and never breaks into the braincase:
at least `WALL_MM` of bone stay between them. Sizes: a maxillary sinus holds about 15 mL, a sphenoid sinus 7 mL, frontal
sinuses 2 to 10 mL in adults (ordinary values; single heads differ widely and some have no frontal sinus).
"""

import numpy as np

from spectac.recon.types import Array
from spectac.simulate.anatomy.canvas import SIDES, SOFT, Canvas, Part
from spectac.simulate.anatomy.distance_fields import Points, ellipsoid, join, tube
from spectac.simulate.anatomy.face import mouth_air, orbit_distance
from spectac.simulate.anatomy.ranges import HeadShape
from spectac.simulate.anatomy.skull import Braincase

WALL_MM = 3.0
"""Least thickness of bone between air and the braincase."""

_AIRLESS = ("outside", "eye", "skin")


def _carve(part: Part, depth: Array, air: Array, lining_mm: float, opaque: bool) -> None:
    """Paint a cavity (distance `air`) with its lining; an opaque one holds mucosa or fluid alone."""
    free = (depth[part.box] > WALL_MM) & ~part.isin(*_AIRLESS)
    part.paint(free & (air < lining_mm), "mucosa")
    if not opaque:
        part.paint(free & (air < 0), "air cavity")


def sinuses(canvas: Canvas, case: Braincase, shape: HeadShape, cells: Array) -> None:
    """Carve frontal, maxillary, ethmoid and sphenoid sinuses, mastoid cells and ear canals; `cells` is a fine field.

    Parameters
    ----------
    canvas
        Canvas to paint on.
    case
        Braincase on the same points.
    shape
        Draws of the head.
    cells
        (z, y, x) fine random field.

    Examples
    --------
    >>> from spectac.simulate.anatomy.placement import Placement, coarse_axes
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> from spectac.simulate.anatomy.skull import braincase
    >>> from spectac.simulate.regions import LABEL
    >>> rng = np.random.default_rng(1)
    >>> shape = draw_shape(rng, HeadRanges(opaque_sinus_probability=0.0))
    >>> canvas = Canvas.empty(Placement.draw(rng, shape), *coarse_axes())
    >>> canvas.labels[:] = LABEL["fat"]
    >>> even = np.zeros(canvas.labels.shape, np.float32)
    >>> sinuses(canvas, braincase(canvas.points, shape, even), shape, even)
    >>> air_ml = np.count_nonzero(canvas.labels == LABEL["air cavity"]) * 5.0**3 / 1000
    >>> bool(20 < air_ml < 80)
    True
    """
    deviation = shape["sinus_deviation_mm"]
    for sign, side in SIDES:
        size = shape[f"{side}_maxillary_sinus"] ** (1 / 1.5)
        part, p = canvas.side(sign, (8, -84, -92), (52, -26, -46))
        sinus = ellipsoid(p, (29, -55, -66), (15.5 * size, 20.5 * size, 18.5 * size), turn_deg=-18)
        orbit = orbit_distance(p)
        cavity = np.maximum(np.maximum(sinus, 2.4 - orbit), 15.5 - p.x)
        # Its thin walls, where the maxilla painted before does not reach.
        part.paint((cavity < 2.2) & (case.depth[part.box] > 0), "skull", over=("fat", "muscle"))
        _carve(part, case.depth, cavity, 0.7, f"{side} maxillary" in shape.opaque)
        _frontal(canvas, case, shape, cells, sign, side)
        _ethmoid(canvas, case, shape, cells, sign)
        _mastoid(canvas, case, shape, cells, sign, side)
    size = shape["sphenoid_sinus"] ** (1 / 1.5)
    part, p = canvas.box((-26, -40, -62), (26, 14, -18))
    body = join(ellipsoid(p, (0, -11, -39), (20, 19, 14.5)), tube(p, ((0, 4, -42, 7), (0, 14, -54, 6)), (2, 1, 1)), 6)
    part.paint((body < 0) & (case.depth[part.box] > 0), "skull")
    part.paint((body < -2.5) & (case.depth[part.box] > 2.5), "diploe")
    sinus = ellipsoid(p, (0.4 * deviation, -14, -38), (15 * size, 13 * size, 10.5 * size))
    septum = np.abs(p.x - deviation - 0.15 * (p.y + 14)) - 0.9
    _carve(part, case.depth, np.maximum(sinus, -septum), 0.4, "sphenoid" in shape.opaque)


def _frontal(canvas: Canvas, case: Braincase, shape: HeadShape, cells: Array, sign: int, side: str) -> None:
    size = shape[f"{side}_frontal_sinus"]
    if size < 0.2:  # aplasia, common in real heads too
        return
    part, p = canvas.side(sign, (-6, -100, -36), (44, -50, 40))
    septum = np.float32(0.5 * sign * shape["sinus_deviation_mm"])
    outline = ellipsoid(p, (9, -78, -17), (6 + 17 * size, 40, 7 + 14 * size)) + 1.5 * cells[part.box]
    # Between the tables.
    between = np.maximum(WALL_MM - case.depth[part.box], case.outside[part.box] + 2.6)
    air = np.maximum(np.maximum(outline, between), np.maximum(septum + 0.9 - p.x, p.y + 58))
    part.paint(
        (air < 0) & ~part.isin("outside"),
        "mucosa" if f"{side} frontal" in shape.opaque else "air cavity",
    )


def _ethmoid(canvas: Canvas, case: Braincase, shape: HeadShape, cells: Array, sign: int) -> None:
    part, p = canvas.side(sign, (0, -82, -56), (20, -22, -18))
    size = shape["ethmoid_cells"]
    block = ellipsoid(p, (9.5, -50, -37), (5.8 * size, 24, 12 * size))
    free = (block < 0) & (case.depth[part.box] > WALL_MM) & ~part.isin(*_AIRLESS)
    # Cells of about 6 mm with thin walls; the walls are too thin for a voxel, so they show as mucosa here and there.
    part.paint(free, "mucosa")
    part.paint(free & (np.abs(cells[part.box] + 0.3) > 0.22), "air cavity")


def _mastoid(canvas: Canvas, case: Braincase, shape: HeadShape, cells: Array, sign: int, side: str) -> None:
    part, p = canvas.side(sign, (20, 0, -88), (84, 64, -30))
    process = tube(p, ((58, 36, -40, 12), (57, 36, -54, 10), (54, 31, -70, 5)), (0.9, 1.25, 1))
    bone = (process < 0) & (case.depth[part.box] > 0) & ~part.isin("outside")
    part.paint(bone, "skull")
    size = shape[f"{side}_mastoid_cells"]
    core = process + 2.6 + 7.0 * (1 - size)
    free = (core < 0) & (case.depth[part.box] > WALL_MM) & bone
    part.paint(free, "diploe")
    if f"{side} mastoid" not in shape.opaque:
        part.paint(free & (cells[part.box] > 0.5 - 0.9 * size), "air cavity")
    # Ear canal (24 mm long), tympanic cavity and antrum.
    canal = tube(p, ((50, 18, -47, 3.2), (62, 19, -47, 3.0), (79, 22, -44, 3.4)))
    tympanum = tube(p, ((46, 17, -47, 3.5), (49, 27, -40, 3.5)), (0.8, 1.2, 1.2))
    shell = (np.minimum(canal, tympanum) < 3) & (p.x < 66) & (case.depth[part.box] > 0)
    part.paint(shell & ~part.isin("air cavity"), "skull")
    part.paint((np.minimum(canal, tympanum) < 0) & (case.depth[part.box] > WALL_MM), "air cavity")


def nose_and_throat(canvas: Canvas, case: Braincase, shape: HeadShape) -> None:
    """Carve nasal cavity (septum, three turbinates a side), pharynx, larynx and trachea.

    Parameters
    ----------
    canvas
        Canvas to paint on.
    case
        Braincase on the same points.
    shape
        Draws of the head.

    Examples
    --------
    >>> from spectac.simulate.anatomy.placement import Placement, coarse_axes
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> from spectac.simulate.anatomy.skull import braincase
    >>> from spectac.simulate.regions import LABEL
    >>> rng = np.random.default_rng(1)
    >>> shape = draw_shape(rng, HeadRanges())
    >>> canvas = Canvas.empty(Placement.draw(rng, shape), *coarse_axes())
    >>> canvas.labels[:] = LABEL["fat"]
    >>> even = np.zeros(canvas.labels.shape, np.float32)
    >>> nose_and_throat(canvas, braincase(canvas.points, shape, even), shape)
    >>> air_ml = np.count_nonzero(canvas.labels == LABEL["air cavity"]) * 5.0**3 / 1000
    >>> bool(20 < air_ml < 80)
    True
    """
    width = np.float32(shape["nasal_airway"])
    bend = np.float32(0.5 * shape["sinus_deviation_mm"])
    part, p = canvas.box((-20, -114, -80), (20, 0, -20))
    # Height 46 mm from the floor (hard palate) to the cribriform plate, narrow above.
    half = np.interp(p.z, [-71, -66, -56, -44, -30, -26], [8, 13.5, 13.5, 8.0, 3.4, 2.5]).astype(np.float32)
    septum_x = bend * np.sin(np.clip((p.y + 85) / 70, 0, 1) * np.pi).astype(np.float32)
    x = p.x - septum_x
    front = np.interp(p.z, [-71, -66, -58, -45, -30], [-95, -98, -95, -85, -77]).astype(np.float32)
    half = np.minimum(half, 4.5 + np.clip(p.y - front, 0, 60) * np.float32(0.35))
    roof = np.interp(p.y, [-82, -45, -36, -20], [-30, -27.5, -50, -54]).astype(np.float32)
    cavity = np.maximum(
        np.maximum(np.abs(p.x) - half, front - p.y), np.maximum(np.maximum(-69 - p.z, p.z - roof), p.y + 22)
    )
    inside = (cavity < 1.2) & (case.depth[part.box] > WALL_MM) & ~part.isin("outside")
    part.paint(inside, "mucosa")
    m = Points(np.abs(x), p.y, p.z)
    turbinates = np.minimum(
        tube(m, ((8, -82, -61, 3.0), (8, -60, -61, 4.2), (8, -34, -60, 3.4)), (0.8, 1, 1.15)),
        np.minimum(
            tube(m, ((6.5, -70, -50, 2.2), (6.5, -52, -49, 3.2), (6, -34, -48, 2.6)), (0.7, 1, 1.3)),
            tube(m, ((4, -48, -38, 1.8), (4, -34, -38, 1.8)), (0.7, 1, 1.2)),
        ),
    )
    air = (cavity < 0) & (turbinates > 1.2 * width - 2.0) & (np.abs(x) > 1.1)
    part.paint(inside & air, "air cavity")
    # Bone of septum (vomer, perpendicular plate) and of the lateral wall is thinner than a voxel; the vomer shows.
    part.paint(inside & (np.abs(x) < 0.8) & (p.y > -66) & (p.z < -44), "diploe")
    _pharynx(canvas, case, shape)
    if shape["mouth_air_mm"] > 1.0:
        part, p = canvas.box((-30, -90, -100), (30, 0, -66))
        air = mouth_air(p, shape)
        part.paint(air < 0, "air cavity", over=SOFT)


def _pharynx(canvas: Canvas, case: Braincase, shape: HeadShape) -> None:
    size = shape["pharynx"]
    part, p = canvas.box((-24, -60, -215), (24, 20, -44))
    upper = tube(p, ((0, -21, -56, 9), (0, -9, -60, 8), (0, -6, -72, 7)), (1.3, 0.85 * size, 1))
    throat = tube(
        p, ((0, -6, -70, 7), (0, -7, -95, 6.5), (0, -10, -112, 6.5), (0, -18, -128, 5)), (1.35, 0.75 * size, 1)
    )
    windpipe = tube(p, ((0, -18, -128, 4.0), (0, -24, -142, 7), (0, -25, -165, 8.5), (0, -20, -215, 8.5)), (1, 1, 1))
    tract = np.minimum(join(upper, throat, 5), windpipe)
    wall = (tract < 2.6) & (case.depth[part.box] > WALL_MM) & ~part.isin("outside", "skin")
    soft = wall & part.isin(*SOFT)
    part.paint(soft, "mucosa")
    part.paint(wall & (tract < 0), "air cavity")
    # Soft palate and uvula hang between nose and mouth; the epiglottis stands behind the tongue.
    palate = tube(p, ((0, -38, -71, 3.5), (0, -22, -74, 4), (0, -12, -86, 3)), (3.2, 1, 1))
    epiglottis = tube(p, ((0, -15, -102, 1.2), (0, -19, -122, 1.8)), (5, 1, 1))
    part.paint((np.minimum(palate, epiglottis) < 0), "mucosa", over=("air cavity", "fat", "muscle"))
