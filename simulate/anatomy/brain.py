"""The brain in its cavity: folded cortex, white matter, deep nuclei, ventricles, cerebellum and brainstem.

Works on the voxels of the cavity alone, as flat lists of points in the anatomical coordinates of placement.py, whose
axes are those of Talairach and Tournoux (1988); positions of nuclei and ventricles follow that frame. Volumes of the
reference, per side: caudate 3.9 mL, putamen 4.7 mL, thalamus 6.6 mL.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter

from spectac.recon.types import Array
from spectac.simulate.anatomy.canvas import SIDES
from spectac.simulate.anatomy.distance_fields import Points, ellipsoid, join, step, tube
from spectac.simulate.anatomy.ranges import HeadShape
from spectac.simulate.regions import LABEL, LOBES
from spectac.simulate.regions import labels as labels_of

_MESH = 64
"""Nodes of a random field along each axis."""

_MESH_MM = 3.0
"""Their distance."""

_PONS = (0.0, 27.0, -29.0), (17.0, 13.5, 14.0)
"""Centre and semi-axes of the ellipsoid (x, y, z)."""

_CEREBRAL_OR_FLUID = labels_of("frontal cortex", "parietal cortex", "temporal cortex", "cingulate cortex", "csf")
"""Labels that nuclei and capsules replace."""


class Folds:
    """Random fields of one dominant wavelength whose zero surfaces are sulci: noise in a ring of frequencies.

    Parameters
    ----------
    rng
        Generator.
    wavelength_mm
        Dominant wavelength in mm.

    Examples
    --------
    >>> points = np.random.default_rng(2).uniform(-50.0, 50.0, (3, 1000))
    >>> distance = Folds(np.random.default_rng(1), wavelength_mm=20.0).sheet_distance(*points)
    >>> bool(2.0 < distance.mean() < 4.0)
    True
    """

    def __init__(self, rng: np.random.Generator, wavelength_mm: float) -> None:
        noise = rng.standard_normal((_MESH,) * 3, dtype=np.float32)
        f = np.fft.fftfreq(_MESH, _MESH_MM).astype(np.float32)
        g = np.fft.rfftfreq(_MESH, _MESH_MM).astype(np.float32)
        k = np.sqrt(f[:, None, None] ** 2 + f[None, :, None] ** 2 + g[None, None, :] ** 2) * wavelength_mm
        field = np.fft.irfftn(np.fft.rfftn(noise) * np.exp(-0.5 * ((k - 1) / 0.13) ** 2), s=noise.shape, axes=(0, 1, 2))
        field /= field.std()
        slope = sum(((np.roll(field, -1, axis) - np.roll(field, 1, axis)) / (2 * _MESH_MM)) ** 2 for axis in range(3))
        # Never below a third of the usual slope: crests are not sulci.
        self._slope = np.sqrt(slope + np.float32((2.1 / wavelength_mm) ** 2)).astype(np.float32)
        self._field = spline_filter(field, order=2, mode="grid-wrap").astype(np.float32)

    def sheet_distance(self, x: Array, y: Array, z: Array) -> Array:
        """Distance in mm to the nearest zero surface: value over slope.

        Parameters
        ----------
        x
            Positions in mm.
        y
            See x.
        z
            See x.

        Returns
        -------
        Array
            Distance in mm, in the shape of x, at least 0.
        """
        at = np.stack([z, y, x]) / np.float32(_MESH_MM)
        value = map_coordinates(self._field, at, order=2, mode="grid-wrap", prefilter=False)
        return np.asarray(np.abs(value) / map_coordinates(self._slope, at, order=1, mode="grid-wrap"))


@dataclass(frozen=True)
class Inside:
    """Voxels of the cavity: points, `depth` mm below the inner table, and which side (True = left).

    Parameters
    ----------
    p
        Points in anatomical coordinates.
    depth
        mm below the inner table.
    left
        True on the left side.

    Examples
    --------
    >>> inside = Inside(Points(*np.float32([[12], [-12], [8]])), depth=np.float32([50]), left=np.array([True]))
    >>> inside.depth.tolist()
    [50.0]
    """

    p: Points
    depth: Array
    left: Array


def _tentorium(p: Points) -> Array:
    """Height z of the tentorium: a tent over the cerebellum, its free edge around the brainstem."""
    ridge = np.minimum(3 - 0.34 * (p.y - 42), 3 - 1.0 * (42 - p.y))
    drop = (np.abs(p.x) / 50) ** np.float32(1.4) * np.clip(36 - 0.62 * (p.y - 40), 4, 40)
    return np.asarray(ridge - drop)


def _posterior_fossa(p: Points) -> Array:
    """Mask of the space below the tentorium and behind clivus and petrous bones."""
    return np.asarray((p.z < _tentorium(p)) & (p.y > 10 + 0.55 * np.abs(p.x)))


def _callosum(p: Points) -> tuple[Array, Array]:
    """Distances in the sagittal plane to the outer and the inner edge of the corpus callosum's arch."""
    z = p.z - 3 - 0.05 * (p.y - 4)
    outer = np.hypot((p.y - 3) / 38, np.where(z > 0, z / 25, z / 15)) - 1
    inner = np.hypot((p.y - 3) / 29, np.where(z > 0, (z + 1) / 18, z / 9)) - 1
    return outer * 25, inner * 18


def paint_brain(inside: Inside, shape: HeadShape, folds: tuple[Folds, Folds]) -> Array:
    """Labels (n,) of the cavity's voxels.

    Parameters
    ----------
    inside
        Voxels of the cavity.
    shape
        Draws of the head.
    folds
        Sulci, and shallow secondary sulci.

    Returns
    -------
    Array
        uint8 (n,) of regions.LABEL, in the order of the voxels.

    Examples
    --------
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> inside = Inside(Points(*np.float32([[12], [-12], [8]])), depth=np.float32([50]), left=np.array([True]))
    >>> rng = np.random.default_rng(1)
    >>> labels = paint_brain(inside, draw_shape(rng, HeadRanges()), (Folds(rng, 19.0), Folds(rng, 24.0)))
    >>> list(LABEL)[labels[0]]
    'left caudate'
    """
    p, depth = inside.p, inside.depth
    labels = np.full(p.x.shape, LABEL["csf"], np.uint8)
    atrophy = shape["atrophy"]
    below = _posterior_fossa(p)
    surface = _cerebral_depth(p, depth, below, atrophy)
    grey = _ribbon(p, surface, shape, folds)
    lobe = _lobes(p, inside.left)
    cerebrum = surface > 0
    labels = np.where(cerebrum & (grey > 0) & (grey <= shape["cortex_mm"]), lobe, labels)
    white = np.where(inside.left, LABEL["left white matter"], LABEL["right white matter"])
    labels = np.where(cerebrum & (grey > shape["cortex_mm"]), white, labels)
    outer, inner = _callosum(p)
    labels = np.where((np.abs(p.x) < 14) & (outer < 0) & (inner > 0) & (p.z > -14), white, labels)
    labels = _cerebellum(inside, below, shape, folds[1], labels)
    labels = _brainstem(p, labels)
    return _deep(inside, shape, labels)


def _cerebral_depth(p: Points, depth: Array, below: Array, atrophy: float) -> Array:
    """Depth in mm below the pia of each hemisphere's hull, negative in fluid around it."""
    hull = depth - (0.5 + 1.2 * atrophy + (0.2 + 1.0 * atrophy) * step((p.z - 10) / 60))
    over_tent = np.where(below, -1.0, np.where(p.y > 10 + 0.55 * np.abs(p.x), (p.z - _tentorium(p)) * 0.8 - 0.6, 99.0))
    outer, _ = _callosum(p)
    fissure = np.where((outer > 0) | (p.z < -16), np.abs(p.x) - (0.5 + 1.4 * atrophy), 99.0)
    # Cisterns: above the sella, around the midbrain, and the stems of the Sylvian fissures.
    cistern = np.minimum(ellipsoid(p, (0, 0, -22), (13, 14, 10)), ellipsoid(p, (0, 22, -18), (21, 17, 14)))
    cistern = np.minimum(cistern, ellipsoid(p, (0, 42, -1), (7, 6, 5)))
    side = p.mirrored
    stem = tube(side, ((10, -2, -18, 2.0), (30, -12, -13, 1.2 + 2 * atrophy), (44, -16, -9, 1.0 + 2 * atrophy)))
    return np.minimum(np.minimum(hull, over_tent), np.minimum(fissure, np.minimum(cistern, stem)))


def _sylvian(p: Points) -> Array:
    """Distance to the Sylvian fissure and the cleft over the insula, both sheets."""
    x = np.abs(p.x)
    height = -5 + 0.42 * (p.y + 10)
    within = np.maximum(np.maximum(-22 - p.y, p.y - 38), 36 - x)
    fissure = np.hypot(np.maximum(within, 0), (p.z - height) * 0.92)
    over = np.maximum(np.abs(p.y - 6) - 24, np.abs(p.z - height - 2 + 0.1 * p.y) - 12)
    insula = np.hypot(np.maximum(over, 0), x - (38.5 - 0.004 * (p.y - 4) ** 2))
    return np.minimum(fissure, insula)


def _ribbon(p: Points, surface: Array, shape: HeadShape, folds: tuple[Folds, Folds]) -> Array:
    """Distance in mm from the pia into the tissue, over hull and sulci; negative inside a sulcus."""
    sign = np.where(p.x > 0, 1, -1).astype(np.float32)
    vx, vy, vz = p.x - 20 * sign, p.y - 14, p.z - 12
    radius = np.sqrt(vx * vx + vy * vy + vz * vz) + np.float32(1.0)
    # Seen from the middle of its hemisphere the pattern hardly changes with depth: sulci stand upright on the surface.
    out = (np.float32(54.0) / radius) ** np.float32(0.72)
    wx, wy, wz = vx * out + 60 * sign, vy * out, vz * out
    sulcus = folds[0].sheet_distance(wx, wy, wz) / out
    minor = folds[1].sheet_distance(wx, wy, wz) / out
    deep = 18 + 6 * np.clip(np.cos(0.09 * wx + 1.0) + np.sin(0.11 * wy) + np.cos(0.1 * wz), -1.5, 1.5)
    half = np.float32(0.5 * shape["sulcus_mm"]) * (1 + 1.2 * np.float32(shape["atrophy"]))
    sulcus = np.hypot(sulcus, np.maximum(surface - deep, 0)) - half * (1 - 0.5 * step((surface - 2) / 18))
    # Shallow secondary sulci dimple the broader gyri.
    sulcus = np.minimum(sulcus, np.hypot(minor, np.maximum(surface - 0.3 * deep, 0)) - 0.4 * half)
    sylvian = _sylvian(p) - (0.8 + 1.6 * shape["atrophy"])
    return np.minimum(np.minimum(surface, sulcus), sylvian)


def _lobes(p: Points, left: Array) -> Array:
    """Cortical labels by planes: central sulcus, Sylvian line, parieto-occipital line."""
    names = {name: np.where(left, LABEL[f"left {name} cortex"], LABEL[f"right {name} cortex"]) for name in LOBES}
    lobe = np.where(p.y < -6 + 0.52 * (p.z - 8), names["frontal"], names["parietal"])
    occipital = (p.y > 63 + 0.32 * (p.z - 5)) | ((p.y > 56) & (p.z < 0))
    lobe = np.where(occipital, names["occipital"], lobe)
    temporal = (p.z < -3 + 0.42 * (p.y + 8)) & (p.y > -27) & ~occipital & (np.abs(p.x) > 14) & (p.z < 22)
    lobe = np.where(temporal, names["temporal"], lobe)
    outer, _ = _callosum(p)
    cingulate = (np.abs(p.x) < 15) & (p.y > 22) & (p.y < 60 + 0.3 * (p.z - 5)) & (outer > 0) & (outer < 24) & (p.z > 8)
    return np.where(cingulate, names["cingulate"], lobe)


def _cerebellum(inside: Inside, below: Array, shape: HeadShape, folds: Folds, labels: Array) -> Array:
    p = inside.p
    side = p.mirrored
    hull = join(ellipsoid(side, (25, 60, -34), (31, 33, 30), turn_deg=20), ellipsoid(p, (0, 60, -28), (15, 31, 34)), 8)
    body = np.maximum(hull, np.maximum(1.2 - inside.depth, 0.8 * (p.z - _tentorium(p)) + 0.8))
    cerebellum = below & (body < 0)
    # Folia fan out from the fourth ventricle: fissures every ~7 degrees, white branches between the deeper ones.
    angle = np.arctan2(p.z + 36, p.y - 34) + 0.02 * folds.sheet_distance(p.x, p.y, p.z)
    leaf = np.cos(26 * angle)
    rind = 5.2 - 2.0 * np.cos(13 * angle)
    white = cerebellum & (-body > rind + 5 * np.abs(leaf)) & (np.abs(p.x) > 2)
    core = ellipsoid(side, (17, 52, -38), (19, 14, 9), turn_deg=15)
    white |= cerebellum & (core < 0) & (-body > 5)
    fissure = cerebellum & (leaf < -0.93) & (-body < 4.0)
    cortex = np.where(inside.left, LABEL["left cerebellar cortex"], LABEL["right cerebellar cortex"])
    labels = np.where(cerebellum, cortex, labels)
    labels = np.where(white, LABEL["cerebellar white matter"], labels)
    return np.where(fissure & (shape["atrophy"] > 0.15), LABEL["csf"], labels)


def _brainstem(p: Points, labels: Array) -> Array:
    midbrain = tube(p, ((0, 20, -4, 11), (0, 25, -12, 13)), (1.15, 0.95, 1))
    pons = ellipsoid(p, *_PONS)
    medulla = tube(p, ((0, 34, -38, 10), (0, 40, -54, 8), (0, 43, -72, 6)), (1, 0.85, 1))
    peduncle = tube(p.mirrored, ((13, 32, -31, 8), (22, 45, -35, 7)))
    stem = join(join(midbrain, pons, 5), medulla, 5)
    free = np.isin(labels, labels_of("csf", "cerebellar cortex", "white matter"))
    labels = np.where((stem < 0) & (p.z < 4), LABEL["brainstem"], labels)
    return np.where((peduncle < 0) & (stem > 0) & free & (p.z < -18), LABEL["cerebellar white matter"], labels)


def _deep(inside: Inside, shape: HeadShape, labels: Array) -> Array:
    """Paint nuclei, ventricles and choroid plexus into the hemispheres."""
    p = inside.p
    wide = float(shape["ventricles"] * (1 + 1.1 * shape["atrophy"]))
    ventricles = np.full(p.x.shape, 99, np.float32)
    plexus = np.zeros(p.x.shape, bool)
    for sign, side in SIDES:
        near = (p.x * sign > -4) & (np.abs(p.x) < 48) & (p.y > -45) & (p.y < 80) & (p.z > -32) & (p.z < 42)
        q = p[near].lateral(sign)
        part, caudate = _nuclei(q, labels[near], shape, side, wide)
        labels[near] = part
        horns = _lateral_ventricle(q, wide)
        ventricles[near] = np.minimum(ventricles[near], np.where(caudate < 0, np.maximum(horns, -caudate), horns))
        glomus = tube(q, ((16, 22, 21, 1.2), (24, 38, 12, 3.4), (30, 30, 0, 1.4)))
        plexus[near] |= (glomus < 0) & (horns < -0.4)
    third = ellipsoid(p, (0, 13, 0), (1.0 + 1.2 * wide, 14, 12))
    fourth = np.maximum(ellipsoid(p, (0, 44, -33), (3.5 + 3.0 * wide, 5.5, 10)), -ellipsoid(p, *_PONS))
    ventricles = np.minimum(ventricles, np.minimum(third, fourth))
    labels = np.where((ventricles < 0) & (labels != LABEL["csf"]), LABEL["ventricles"], labels)
    return np.where(plexus, LABEL["choroid plexus"], labels)


def _nuclei(q: Points, labels: Array, shape: HeadShape, side: str, wide: float) -> tuple[Array, Array]:
    """Labels of one side's voxels with its nuclei and capsules, and the distance to the caudate."""
    # Nuclei move outwards where the ventricles are wide.
    out = 1.6 * (np.sqrt(wide) - 1)
    # A block of white matter around the nuclei: the capsules, no sulcus in them.
    capsule = join(ellipsoid(q, (24, 2, 5), (13, 25, 18), turn_deg=-14), ellipsoid(q, (12, 16, 10), (14, 24, 16)), 8)
    medial = q.x < 34.5 - 0.004 * (q.y - 4) ** 2  # of the insular cortex
    grey = np.isin(labels, _CEREBRAL_OR_FLUID) & medial & (q.z > -12)
    labels = np.where((capsule < 0) & grey, LABEL[f"{side} white matter"], labels)
    # The pallidum hollows the putamen from within; it stays with the white matter.
    semi = np.array((6.5, 17.4, 11.5)) * shape[f"{side}_putamen"] ** (1 / 3)
    pallidum = ellipsoid(q, (16.5 + out, 6, 0), (6.5, 14, 9), turn_deg=-25)
    putamen = np.maximum(ellipsoid(q, (25.5 + out, 1, 3), tuple(semi), turn_deg=-13), -pallidum)
    size = shape[f"{side}_caudate"] ** (1 / 3)
    caudate = tube(
        q,
        ((12.5 + out, -16, 3, 7.5 * size), (13.8 + out, -8, 9, 7.0 * size), (16.5 + out, 4, 18, 4.7 * size),
         (20 + out, 16, 21, 2.8 * size), (25.5 + out, 28, 18, 2.0 * size)),
        (0.82, 1.1, 1.1),
    )  # fmt: skip
    semi = np.array((9.2, 17.2, 11.5)) * shape["thalamus"] ** (1 / 3)
    thalamus = ellipsoid(q, (10.8 + 0.5 * out, 18, 7), tuple(semi), turn_deg=-24)
    labels = np.where(putamen < 0, LABEL[f"{side} putamen"], labels)
    labels = np.where(thalamus < 0, LABEL[f"{side} thalamus"], labels)
    return np.where((caudate < 0) & (thalamus > 1), LABEL[f"{side} caudate"], labels), caudate


def _lateral_ventricle(q: Points, wide: float) -> Array:
    """Distance to the horns, body and atrium of one side; `wide` is about their volume over a young adult's."""
    radius = float(np.sqrt(wide))
    body = tube(
        q,
        ((9, -31, 4, 3 * radius), (7, -16, 11, 4.8 * radius), (9.5, 2, 20, 4.4 * radius), (14, 20, 23, 4 * radius),
         (24, 40, 14, 5.4 * radius), (24, 52, 8, 3.0 * radius), (21, 66, 5, 1.3 * radius)),
    )  # fmt: skip
    temporal = ((24, 40, 14, 4.6 * radius), (32, 30, -4, 2.0 * radius), (31, 8, -17, 1.7 * radius))
    horns = np.minimum(body, tube(q, temporal, (1.1, 1, 0.8)))
    return np.where(q.x > 1.0, horns, np.float32(99))
