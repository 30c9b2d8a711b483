"""The outside of a head: cranium under its scalp, face with nose, ears, jaw and neck.

Each of face and neck is a stack of superellipses whose front, back and half width are given at some heights z
(anatomical coordinates of placement.py), written down for this module from general proportions: the face from nasion to
chin is 118 mm high, 140 mm broad over the cheekbones and 108 mm at the jaw; the neck is 120 mm thick.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator

from spectac.recon.types import Array
from spectac.simulate.anatomy.distance_fields import Points, bump, cut, ellipsoid, join, step, superellipse
from spectac.simulate.anatomy.ranges import HeadShape
from spectac.simulate.anatomy.skull import Braincase

# z, front y, back y, half width
_FACE = (
    (30, -50, 0, 30),
    (12, -70, 18, 50),
    (0, -79, 30, 58),
    (-10, -84, 36, 62),
    (-18, -86, 40, 64),
    (-27, -82, 42, 66),
    (-38, -80, 42, 69),
    (-50, -82, 42, 70),
    (-60, -85, 42, 69),
    (-72, -90, 42, 66),
    (-82, -93, 40, 63),
    (-92, -92, 36, 60),
    (-100, -89, 32, 58),
    (-108, -87, 27, 56),
    (-118, -89, 20, 52),
    (-128, -89, 10, 47),
    (-136, -86, -2, 40),
    (-143, -78, -20, 28),
    (-150, -66, -45, 8),
)
_NECK = (
    (-5, 20, 95, 40),
    (-20, 5, 103, 58),
    (-35, 0, 103, 62),
    (-50, -4, 97, 62),
    (-70, -12, 90, 60),
    (-90, -22, 86, 58),
    (-110, -32, 85, 57),
    (-130, -39, 86, 57),
    (-150, -40, 88, 58),
    (-175, -38, 93, 62),
    (-220, -34, 105, 75),
)
LIP_LINE_Z = -91.0
"""Height of the line between the lips."""

FACE_TOP_Z = 46.0
"""Height that face, neck and their fillets do not exceed."""


def _stack(p: Points, rows: tuple[tuple[float, ...], ...], power: float, width: float, depth: float) -> Array:
    """Distance to a stack of superellipses; `width` and `depth` scale the section about its middle."""
    z, front, back, half = np.array(rows[::-1], float).T
    fine = np.arange(z[0], z[-1] + 0.5, 0.5)
    front, back, half = (PchipInterpolator(z, values)(fine).astype(np.float32) for values in (front, back, half))
    at = np.clip(((p.z - z[0]) * 2).astype(np.int32), 0, fine.size - 1)
    middle, half_y = 0.5 * (front + back)[at], 0.5 * (back - front)[at] * np.float32(depth)
    d = superellipse(p.x, p.y - middle, half[at] * np.float32(width), half_y, power)
    return np.asarray(np.maximum(d, np.maximum(p.z - z[-1], z[0] - p.z)))


def _scalp_thickness(p: Points, shape: HeadShape) -> Array:
    """Distance in mm from outer table to skin: scalp everywhere, temporalis in its fossa, pads at the occiput."""
    hill = np.exp(np.float32(-0.5) * (((p.y + 18) / 26) ** 2 + ((p.z + 16) / 26) ** 2))
    temporalis = np.float32(shape["temporalis_mm"]) * (step((np.abs(p.x) - 30) / 18) * hill)
    nape = np.float32(4.0 * shape["fat"]) * (step((p.y - 50) / 30) * step((5 - p.z) / 35))
    return np.asarray(np.float32(shape["scalp_mm"]) + temporalis + nape)


def _nose(p: Points, shape: HeadShape) -> Array:
    """Distance to the nose: a ridge from the nasion to the tip, widening to its wings."""
    size = np.float32(shape["nose"])
    ridge = np.interp(p.z, [-74, -68, -61, -55, -40, -28, -20], [-88, -99, -107, -105.5, -93.5, -84, -80])
    ridge = (-82 + size * (ridge + 82)).astype(np.float32)
    half = np.interp(p.z, [-76, -66, -58, -45, -30, -20], [12, 17, 15, 10.5, 8, 7]).astype(np.float32)
    behind = np.clip((p.y - ridge) / np.maximum(-76 - ridge, 4), 0, 1.2)
    side = np.abs(p.x) - half * (np.float32(0.28) + np.float32(0.9) * behind)
    return np.asarray(np.maximum(np.maximum(side, ridge - p.y), np.maximum(np.abs(p.z + 47) - 27, p.y + 70)))


def _ears(p: Points) -> Array:
    """Distance to both auricles, thin plates that stand off the head."""
    mirrored = p.mirrored
    shell = ellipsoid(mirrored, (77.5, 31, -41), (5.0, 16.5, 31), turn_deg=-24, pitch_deg=-12)
    concha = ellipsoid(mirrored, (80.5, 27, -43), (4.5, 8.5, 13), turn_deg=-24)
    return np.maximum(shell, -concha)


def head_distance(p: Points, case: Braincase, shape: HeadShape) -> Array:
    """Distance (z, y, x) to the skin, negative inside the head.

    Parameters
    ----------
    p
        Points (z, y, x) in anatomical coordinates, in mm.
    case
        Braincase on the same points.
    shape
        Draws of the head.

    Returns
    -------
    Array
        Distance in mm.

    Examples
    --------
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> from spectac.simulate.anatomy.skull import braincase
    >>> shape = draw_shape(np.random.default_rng(1), HeadRanges())
    >>> commissure = Points(*np.zeros((3, 1, 1, 1), np.float32))
    >>> case = braincase(commissure, shape, np.zeros((1, 1, 1), np.float32))
    >>> bool(head_distance(commissure, case, shape).item() < -40)
    True
    """
    cranium = case.vault - np.maximum(case.wall * (1 - case.base) + 6 * case.base, 3) - _scalp_thickness(p, shape)
    # The walls of the vault go on below the base only inwards: there face and neck make the outline.
    # Below the inion the nape draws in; at the sides the cranium ends at the mastoids.
    nape = np.float32(0.45) * (p.y - 100) - np.float32(0.9) * (p.z + 42)
    cranium = cut(np.maximum(cranium, -56 - p.z), nape, 24.0)
    # Nothing of face and neck reaches above their top and the fillets there.
    lower = int(np.flatnonzero(p.z.min(axis=(1, 2)) < FACE_TOP_Z)[-1]) + 1
    cranium[:lower] = _face_and_neck(p[:lower], cranium[:lower], shape)
    return np.asarray(cranium)


def _face_and_neck(p: Points, cranium: Array, shape: HeadShape) -> Array:
    """Distance to cranium, face, neck, nose and ears together."""
    face = _stack(p, _FACE, 2.35, shape["jaw"], 1.0)
    # Lips, chin, the groove between them, and the hollow of the orbits beside the nose.
    relief = 3.0 * bump(p, (0, -94, LIP_LINE_Z + 6), (18, 14, 4)) + 3.0 * bump(p, (0, -94, LIP_LINE_Z - 7), (17, 14, 4))
    relief += 4.0 * bump(p, (0, -90, -129), (16, 14, 8)) - 3.0 * bump(p, (0, -90, LIP_LINE_Z - 17), (20, 14, 4))
    relief -= 2.0 * bump(p, (0, -94, LIP_LINE_Z), (22, 14, 1.8))
    socket = p.mirrored
    relief -= 6.0 * bump(socket, (27, -82, -34), (11, 22, 9))
    relief += 4.0 * bump(socket, (33, -80, -37), (9, 14, 7))
    face = face - relief.astype(np.float32)
    neck = _stack(p, _NECK, 2.2, shape["neck"], 0.5 + 0.5 * shape["neck"])
    body = join(join(cranium, face, 14.0), neck, 16.0)
    return np.minimum(join(body, _nose(p, shape), 5.0), _ears(p))
