"""The head's skin surface, which bounds the attenuator, in previews that were not corrected for attenuation.

The surface is star-shaped about a centre line and kept as the squared radius over (z, angle): for an ellipsoid that is
a parabola in z and few harmonics in the angle, it passes through 0 where the head closes, and where the head runs out
of the field it simply goes on. A low threshold finds it roughly; then what lies under the blurred edge is fitted along
the surface's normals: brain, skull without uptake, and a layer of scalp. That layer tells where the skin is: without
attenuation correction it shows at about twice its true ratio to the brain, for little lies between it and the detector.

Numbers without another source were set on simulated heads (the generator of tests/recon/test_contour.py with seeds
that it does not use) and on the SimSET cylinder, with the tests' head from an MR in view: neither is a blind check.
Those about noise and the air's level were set on virtual heads (simulate/, default_rng([900, 0 to 13])).
"""

from dataclasses import dataclass

import numpy as np

from spectac.recon.contour_fit import ANGLES, UNIT, Surface, surface
from spectac.recon.contour_preview import Preview, measured
from spectac.recon.errors import InputError
from spectac.recon.types import Array, Grid, Image

STANDARD_HEAD_MM = (76.0, 95.0, 90.0, 20.0)
"""Adult head: half-width, half-length, height of the skin above the striata, centre behind the striata (MNI atlas)."""
AGREE_MM, DISAGREE_MM = 4.0, 8.0
"""Surfaces from two windows are averaged where they lie within a voxel, else the scatter's holds; a mean difference of
8 mm, 12 % per ray, is not noise: then the photopeak's holds, for it is what is corrected. Of 17 such virtual heads
(simulate's cohorts 100 and 200) 5 had the scatter's surface 8 to 49 mm farther from the skin, always outside of it, by
the air's level; in the others it lay 2 mm farther to 7 mm nearer."""


@dataclass(frozen=True, eq=False)
class Outline:
    """The head as `mask` (z, y, x) from 0 to 1 on `grid`, voxels on its edge by the share they cover, and warnings.

    The mask goes on to the ends of the grid where the head runs out of the measured field.
    """

    mask: Array
    grid: Grid
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        mask = np.ascontiguousarray(self.mask, dtype=np.float32).view()
        if mask.shape != self.grid.shape:
            raise InputError(f"an outline's mask needs the shape of its grid {self.grid.shape}, got {mask.shape}")
        if not (mask.min() >= 0.0 and mask.max() <= 1.0):
            raise InputError(f"an outline's mask runs from 0 to 1, got {mask.min():g} to {mask.max():g}")
        mask.flags.writeable = False
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "warnings", tuple(self.warnings))


def head_outline(photopeak: Image, scatter: Image | None = None) -> Outline:
    """Outline of the head's skin on the photopeak preview's grid, with the scatter preview where that shows the head.

    Both images are `Solver.preview`s: the fit knows their blur. Where neither shows more than foci, a standard adult
    head is placed about the foci, with a warning. The result does not depend on the images' scale.

    Assumes: one head, or one convex phantom, within 12 cm of its centre line; scalp of at least 0.05 of the brain. With
    less and no scatter window the skin is missed without a warning (3.5-8 mm on average for a scalp of 0.02).
    Raises InputError where the photopeak holds no activity or nothing stands out from the air, and for unequal grids.
    """
    if scatter is not None and not scatter.grid.same_as(photopeak.grid):
        raise InputError(
            f"the scatter preview's grid {scatter.grid.shape} is not the photopeak's {photopeak.grid.shape}"
        )
    grid = photopeak.grid
    peak = measured(photopeak)
    if peak is None:
        raise InputError(
            "the photopeak image holds no activity: no head outline can be found; give a map or an outline"
        )
    warnings = []
    found = None
    if not peak.focal:
        if peak.faint:
            raise InputError(
                f"no head stands out in the photopeak: its level {peak.head + peak.air:.3g} is less than twice that of "
                f"the air, {peak.air:.3g}; check the energy window, or give a map or an outline"
            )
        found = surface(peak, grid, layered=True)
    side = None if scatter is None else measured(scatter)
    other = None if side is None else _visible_surface(side, grid)
    if scatter is not None and other is None:
        warnings.append("the scatter window does not show the head: the outline comes from the photopeak alone")
    if side is not None and other is not None:
        if found is None:
            warnings.append("the photopeak shows foci alone: the outline comes from the scatter window alone")
        else:
            fused, apart_mm = _fused(found, other, grid, side.trust)
            if apart_mm > DISAGREE_MM:
                warnings.append(
                    f"the outlines from the photopeak and from the scatter window lie {apart_mm:.0f} mm apart: "
                    "the former is used; check it"
                )
            other = found if apart_mm > DISAGREE_MM else fused
        found = other
    if found is None:
        warnings.append(
            "the image shows foci alone and no head: a standard adult head was placed about them; an error of 5 mm in "
            "its outline changes the attenuation by 7.5 % per ray: give a map or an outline"
        )
        found = _standard_head(peak, grid)
    return Outline(_mask(found, grid), grid, tuple(warnings))


def _visible_surface(side: Preview, grid: Grid) -> Surface | None:
    """Surface in the scatter window, None where the head does not stand out there."""
    if side.focal or side.faint:
        return None
    try:
        return surface(side, grid, layered=False)
    except InputError:
        return None


def _standard_head(preview: Preview, grid: Grid) -> Surface:
    """A standard head about the brightest foci: half of an ellipsoid above them, a straight neck below."""
    width, length, height, behind = STANDARD_HEAD_MM
    bright = np.where(preview.values >= 0.5 * preview.peak, preview.values, 0.0)
    z, y, x = (float((bright * axis).sum() / bright.sum()) for axis in np.indices(bright.shape))
    up_mm = np.maximum((np.arange(grid.shape[0]) - preview.first - z) * preview.voxel_mm[0], 0.0)
    section = 1.0 / ((UNIT[:, 1] / width) ** 2 + (UNIT[:, 0] / length) ** 2)
    centre = np.array([y + behind / preview.voxel_mm[1], x])
    squared = (1.0 - (up_mm / height) ** 2)[:, None] * section
    return Surface(squared, np.broadcast_to(centre, (grid.shape[0], 2)))


def _fused(peak: Surface, side: Surface, grid: Grid, trust: float) -> tuple[Surface, float]:
    """Mean of both surfaces where they agree and the scatter's elsewhere, and their mean distance in mm.

    `trust` below 1 moves either towards the photopeak's by that factor.
    """
    mm = grid.voxel_mm[1]
    radius = np.sqrt(np.maximum(side.squared_mm2, 0.0))
    own = np.zeros_like(radius)
    for z in np.flatnonzero((peak.squared_mm2 > 0).all(axis=1)):
        points = np.sqrt(peak.squared_mm2[z])[:, None] * UNIT + (peak.centre[z] - side.centre[z]) * mm
        around = np.arctan2(points[:, 0], points[:, 1])
        own[z] = np.interp(ANGLES, around, np.hypot(points[:, 0], points[:, 1]), period=2 * np.pi)
    both = (radius > 30.0) & (own > 30.0)
    apart_mm = np.abs(radius - own)
    share = trust * np.where(apart_mm <= AGREE_MM, 0.5, 1.0)
    lone = side.squared_mm2 if trust > 0.5 else np.where(own > 0, own**2, np.minimum(side.squared_mm2, 0.0))
    squared = np.where(both, (own + share * (radius - own)) ** 2, lone)
    return Surface(squared, side.centre), float(apart_mm[both].mean()) if both.any() else np.inf


def _mask(surface: Surface, grid: Grid) -> Array:
    """Share (z, y, x) of every voxel inside the surface, in plane: linear across one voxel about the edge."""
    mm = grid.voxel_mm[1]
    axes = np.indices(grid.shape[1:])
    mask = np.zeros(grid.shape, np.float32)
    turn, step = 2 * np.pi, ANGLES[1] - ANGLES[0]
    for z, (squared, centre) in enumerate(zip(surface.squared_mm2, surface.centre, strict=True)):
        if squared.max() <= 0:
            continue
        y, x = ((axis - middle) * mm for axis, middle in zip(axes, centre, strict=True))
        around = np.mod(np.arctan2(y, x), turn)
        closed = np.append(np.maximum(squared, 0.0), max(squared[0], 0.0))
        radius = np.sqrt(np.interp(around, np.append(ANGLES, ANGLES[-1] + step), closed))
        mask[z] = np.where(radius > 0, np.clip(0.5 - (np.hypot(y, x) - radius) / mm, 0.0, 1.0), 0.0)
    return mask
