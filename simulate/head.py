"""Virtual heads: from a generator to labels, densities and attenuation on a grid in the camera's frame.

draw_head() draws a shape (anatomy/ranges.py), lays a grid around it (anatomy/placement.py) and paints from the outside
in: skin and soft tissue (surface.py), face and neck (face.py, neck.py), braincase (skull.py), air (airways.py), brain
(brain.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from spectac.recon.errors import InputError
from spectac.recon.holder import shell_distances
from spectac.recon.kernels.subnormal import subnormals_are_zero
from spectac.recon.photons.transport import Body
from spectac.recon.tissues import MATERIALS, cm2_per_g
from spectac.recon.types import Array, Grid, MuMap
from spectac.simulate.anatomy import airways, face, neck
from spectac.simulate.anatomy.brain import Folds, Inside, paint_brain
from spectac.simulate.anatomy.canvas import Canvas
from spectac.simulate.anatomy.distance_fields import SmoothField
from spectac.simulate.anatomy.placement import COARSE_MM, Placement, axes_mm, coarse_axes, grid_of
from spectac.simulate.anatomy.ranges import ADULT_AND_CHILD, HeadRanges, HeadShape, draw_shape
from spectac.simulate.anatomy.skull import Braincase, Layers, braincase, flap, layers
from spectac.simulate.anatomy.surface import head_distance
from spectac.simulate.regions import LABEL, MATERIAL_OF_LABEL, REGIONS

SKIN_MM = 2.0
"""Thickness of the skin."""

MARGIN_VOXELS = 2
"""Empty voxels around head and holder, but for the cut of the neck."""

HOLDER_FROM_MM = -70.0
"""Height in the camera from which on a holder carries the head; the nape and shoulders lie lower."""

TALLEST_MM = 275.0
"""Largest height of a head with its neck; what lies lower is cut off."""

TABLE_DENSITY = 1.80
"""Compact bone of the tables in g/cm3; with the diploe between them the wall comes to ICRU 44's 1.61 for cranium."""

DIPLOE_DENSITY = 1.35
"""In g/cm3."""

SPINE_DENSITY = 1.30
"""In g/cm3."""

DENSITY_NOISE = {"skull": 0.035, "diploe": 0.07, "spine": 0.06, "dense bone": 0.02}
"""Relative standard deviation of the density inside a region; other tissue has SOFT_NOISE."""

SOFT_NOISE = 0.006
"""Relative standard deviation of soft tissue's density."""


@dataclass(frozen=True, eq=False)
class Head:
    """A virtual head.

    Parameters
    ----------
    grid
        Upright grid with cubic voxels in the camera's frame (LPS mm, rotation axis at x = y = 0).
    labels
        (z, y, x) uint8 of regions.LABEL.
    density
        (z, y, x) float32 in g/cm3.
    parameters
        All draws as plain values.

    Examples
    --------
    >>> grid = Grid.upright((1, 1, 1), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> brain = np.full(grid.shape, LABEL["left white matter"], np.uint8)
    >>> head = Head(grid, brain, np.full(grid.shape, 1.04, np.float32), {})
    >>> round(float(head.mu(140.5).per_cm[0, 0, 0]), 2)
    0.16
    """

    grid: Grid
    labels: Array
    density: Array
    parameters: Mapping[str, float | int | bool | str]

    @property
    def body(self) -> Body:
        """Materials and densities for the Monte Carlo."""
        return Body(self.grid, np.array(MATERIAL_OF_LABEL, np.uint8)[self.labels], self.density)

    def mu(self, energy_kev: float) -> MuMap:
        """Narrow-beam attenuation map at an energy: density times the mass coefficient of each label's material.

        Parameters
        ----------
        energy_kev
            Photon energy in keV.

        Returns
        -------
        MuMap
            Map in 1/cm on the head's grid.
        """
        per_gram = np.array([cm2_per_g(MATERIALS[m].name, energy_kev) for m in MATERIAL_OF_LABEL], np.float32)
        return MuMap(self.density * per_gram[self.labels], self.grid, energy_kev)


@subnormals_are_zero()
def draw_head(rng: np.random.Generator, *, voxel_mm: float = 2.0, ranges: HeadRanges = ADULT_AND_CHILD) -> Head:
    """One random head on the smallest grid that holds it, cut at the neck.

    The same generator state gives the same head, whatever the voxel size.

    Parameters
    ----------
    rng
        Generator.
    voxel_mm
        Edge of a voxel, 0.5 to 4 mm.
    ranges
        What to draw from.

    Returns
    -------
    Head
        Head on a grid with cubic voxels.

    Raises
    ------
    InputError
        For voxels beyond 0.5 to 4 mm.

    Examples
    --------
    >>> head = draw_head(np.random.default_rng(7), voxel_mm=4.0)
    >>> head.labels.shape == head.density.shape == head.grid.shape
    True
    """
    if not 0.5 <= voxel_mm <= 4.0:
        raise InputError(f"voxel_mm must lie between 0.5 and 4 mm, got {voxel_mm:g}")
    shape = draw_shape(rng, ranges)
    placement = Placement.draw(rng, shape)
    uneven, planes, cells, dense = (SmoothField(rng, spacing) for spacing in (26.0, 30.0, 7.0, 14.0))
    folds = Folds(rng, 2.0 * shape["gyrus_mm"]), Folds(rng, 24.0)

    z, y, x, back_y, top_z = _axes(placement, uneven, voxel_mm)
    canvas = Canvas.empty(placement, z, y, x)
    p = canvas.points
    thickness = uneven.on_axes(z, y, x)
    case = braincase(p, shape, thickness)
    skin = head_distance(p, case, shape)
    inside = skin < 0
    _soft_tissue(canvas, case, shape, inside, voxel_mm)
    neck.muscles(canvas, planes.on_axes(z, y, x))
    face.masticators(canvas)
    face.bones(canvas, shape)
    face.glands(canvas)
    wall = layers(p, case, shape, thickness, voxel_mm)
    cut_away = _braincase(canvas, case, wall, shape, inside)
    neck.spine(canvas, case.depth)
    fine = cells.on_axes(z, y, x)
    airways.sinuses(canvas, case, shape, fine)
    airways.nose_and_throat(canvas, case, shape)
    _brain(canvas, (case.depth < 0) & ~wall.bone & inside, wall, shape, folds)
    for name, part in holder_parts(shape, canvas.z, canvas.y, canvas.x, back_y, top_z).items():
        canvas.whole.paint(part, name, over=("outside",))
    density = _density(canvas, wall, shape, cut_away, dense.on_axes(z, y, x))
    return Head(grid_of(z, y, x, voxel_mm), canvas.labels, density, shape.plain() | {"voxel_mm": voxel_mm})


def _axes(placement: Placement, uneven: SmoothField, voxel_mm: float) -> tuple[Array, Array, Array, float, float]:
    """Axes (z, y, x) around head and holder, the hindmost y of the cranium and the top z of the head, in mm."""
    shape = placement.shape
    z, y, x = coarse_axes()
    p = placement.anatomical(z, y, x)
    inside = head_distance(p, braincase(p, shape, uneven.on_axes(z, y, x)), shape) < 0
    chin = placement.camera(np.array([[0.0, -80.0, -25 - 120 * shape["face_height"]]]))[0, 2]
    heights = z[inside.any(axis=(1, 2))]
    top = float(heights[-1]) + COARSE_MM
    bottom = max(chin - shape["neck_length_mm"], top - TALLEST_MM, float(heights[0]))
    inside &= (z >= bottom)[:, None, None]
    rows, columns = y[inside.any(axis=(0, 2))], x[inside.any(axis=(0, 1))]
    low = np.array([columns[0] - COARSE_MM, rows[0] - COARSE_MM, bottom])
    high = np.array([columns[-1] + COARSE_MM, rows[-1] + COARSE_MM, top])
    upper = inside & (z > HOLDER_FROM_MM)[:, None, None]
    back = float(y[upper.any(axis=(0, 2))][-1]) + 0.5 * COARSE_MM
    if shape.holder:
        high[1] = max(high[1], back + shape["holder_gap_mm"] + shape["holder_mm"])
    margin = MARGIN_VOXELS * voxel_mm
    return (*axes_mm(low - (margin, margin, 0), high + margin, voxel_mm), back, top)


def _soft_tissue(canvas: Canvas, case: Braincase, shape: HeadShape, inside: Array, voxel_mm: float) -> None:
    """Skin all around, fat below it, muscle in the temporal fossa and under the occiput."""
    # A frame of voxels around keeps the cut of the neck from growing skin: below the field the neck goes on.
    padded = np.pad(inside, ((1, 0), (0, 0), (0, 0)), mode="edge")
    depth = distance_transform_edt(padded, voxel_mm).astype(np.float32)[1:] - np.float32(0.5 * voxel_mm)
    whole, p = canvas.whole, canvas.points
    whole.paint(inside, "fat")
    whole.paint(inside & (depth < SKIN_MM), "skin")
    fossa = (np.abs(p.x) > 30) & (p.y > -52) & (p.y < 26) & (p.z > -50) & (p.z < 34)
    scalp = inside & (case.outside > 0) & (case.outside < 14) & (depth > SKIN_MM + 1.2 * shape["fat"])
    whole.paint(scalp & fossa, "muscle")
    # Deep to face and neck everything is muscle but the cheek's pad of fat in front of the masseter.
    deep = inside & (depth > 9) & (case.base > 0.5) & (p.z < -20)
    cheek = (p.y < -34) & (p.z > -112)
    whole.paint(deep & ~cheek, "muscle")
    # The galea and its two bellies lie on the bone in front and behind.
    bellies = (np.abs(p.y - 16) > 75) & (p.z > -30) & (p.z < 20)
    whole.paint(scalp & bellies & (case.outside < 2.5), "muscle")


def _braincase(canvas: Canvas, case: Braincase, wall: Layers, shape: HeadShape, inside: Array) -> Array:
    """Paint the wall; returns the mask of what a craniotomy has taken away or loosened."""
    canvas.whole.paint(wall.bone & inside, "skull")
    canvas.whole.paint(wall.diploe & inside, "diploe")
    canvas.whole.paint(wall.dense & inside, "dense bone")
    lid, kerf = flap(canvas.points, case, shape)
    if shape.craniotomy == "missing":
        gone = lid | kerf
    elif shape.craniotomy == "thinned":
        gone = (lid & (case.outside > -0.45 * case.wall)) | kerf
    else:
        gone = kerf
    canvas.whole.paint(gone & wall.bone & inside, "muscle")
    return gone


def _brain(canvas: Canvas, within: Array, wall: Layers, shape: HeadShape, folds: tuple[Folds, Folds]) -> None:
    """Paint the voxels `within` the cavity; the spinal cord reaches into it."""
    p = canvas.points[within]
    painted = paint_brain(Inside(p, -wall.inner[within], p.x > 0), shape, folds)
    cord = (p.z < -64) & (painted == LABEL["csf"]) & (canvas.labels[within] == LABEL["spinal cord"])
    canvas.labels[within] = np.where(cord, LABEL["spinal cord"], painted)


def holder_parts(shape: HeadShape, z: Array, y: Array, x: Array, back_y: float, top_z: float) -> dict[str, Array]:
    """Masks of what a head lies in.

    Parameters
    ----------
    shape
        The head's draws, which hold the holder's and the pillow's.
    z, y, x
        Centres of the voxels in mm.
    back_y
        Hindmost y of the head above the neck in mm.
    top_z
        Top of the head in mm.

    Returns
    -------
    dict of str to Array
        Masks (z, y, x) by region, the shell first; empty where the head has no holder.

    Examples
    --------
    >>> axis = np.arange(-150.0, 150.0, 4.0)
    >>> shape = draw_shape(np.random.default_rng(1), ADULT_AND_CHILD)
    >>> parts = holder_parts(shape, axis, axis, axis, 100.0, 100.0)
    >>> len(parts) == shape.holder + shape.pillow
    True
    """
    if not shape.holder:
        return {}
    sizes = {"shell_mm": shape["holder_mm"], "gap_mm": shape["holder_gap_mm"], "pillow_mm": shape["pillow_mm"]}
    shell, pillow = shell_distances(x, y[:, None], z[:, None, None], back_y, top_z, **sizes)
    return {"head holder": shell < 0} | ({"pillow": pillow < 0} if shape.pillow else {})


def _density(canvas: Canvas, wall: Layers, shape: HeadShape, gone: Array, noise: Array) -> Array:
    """Typical densities, the patient's bone density, smooth variation, and partial volumes at the wall's faces."""
    typical = np.array([MATERIALS[m].density_g_per_cm3 for m in MATERIAL_OF_LABEL], np.float32)
    for name, value in (("skull", TABLE_DENSITY), ("diploe", DIPLOE_DENSITY), ("spine", SPINE_DENSITY)):
        typical[LABEL[name]] = value
    typical[[LABEL[name] for name in DENSITY_NOISE]] *= np.float32(shape["bone_density"])
    spread = np.array([DENSITY_NOISE.get(region.name, SOFT_NOISE) for region in REGIONS], np.float32)
    spread[[LABEL[name] for name in ("outside", "air cavity", "head holder", "pillow")]] = 0
    labels = canvas.labels
    density = typical[labels] * (1 + spread[labels] * np.clip(noise, -2.5, 2.5))
    bone = canvas.whole.isin("skull", "diploe", "dense bone") & wall.bone
    soft = np.float32(1.04)
    density = np.where(bone, soft + (density - soft) * wall.fraction, density)
    # The part of a wall that reaches into a soft voxel.
    near = ~bone & ~gone & (wall.fraction > 0.02) & (wall.fraction < 0.5) & ~canvas.whole.isin("outside", "air cavity")
    shared = density + (typical[LABEL["skull"]] - density) * wall.fraction
    return np.asarray(np.where(near, shared, density), np.float32)
