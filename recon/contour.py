"""The head outline: the skin surface that bounds the attenuator, found in previews without attenuation correction.

The surface is star-shaped about a centre line and kept as the squared radius over (z, angle). For an ellipsoid the
squared radius is a parabola in z with few harmonics in the angle. It passes through 0 where the head closes and goes on
where the head runs out of the field. A low threshold finds the surface roughly. Then the layers under the blurred edge
are fitted along the surface's normals: brain, skull without uptake, and scalp. Without attenuation correction scalp
shows at about twice its true ratio to the brain, because little lies between it and the detector.

Numbers without another source were set on simulated heads (the generator of tests/recon/test_contour.py, with seeds
that it does not use) and on the SimSET cylinder, with the tests' head from an MR in view: neither is a blind check.
Numbers about noise and the air's level were set on virtual heads (simulate/, default_rng([900, 0 to 13])).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from spectac.recon.contour_fit import ANGLES, UNIT, Surface, surface
from spectac.recon.contour_preview import Preview, measured
from spectac.recon.errors import InputError
from spectac.recon.types import Array, Grid, Image

HALF_WIDTH_MM = 76.0
"""Half of the width of a standard adult head (MNI atlas)."""
HALF_LENGTH_MM = 95.0
"""Half of its length."""
VERTEX_MM = 90.0
"""Height of its skin above the striata."""
BEHIND_MM = 20.0
"""Distance of its centre behind the striata."""
AGREE_MM = 4.0
"""Surfaces from two windows are averaged where they lie within a voxel, else the scatter's holds."""
DISAGREE_MM = 8.0
"""Mean distance of two surfaces, 12 % per ray, that is not noise: the photopeak's holds, for it is what is corrected.

Of 17 such virtual heads (simulate's cohorts 100 and 200) 5 had the scatter's surface 8 to 49 mm farther from the skin,
always outside of it, by the air's level. In the others it lay 2 mm farther to 7 mm nearer.
"""

OutlineKind = Literal["given", "photopeak", "scatter", "photopeak and scatter", "standard head", "uniform map"]
"""Where an outline comes from: a caller, the energy windows that showed it, a standard adult head, a uniform map."""


@dataclass(frozen=True, eq=False)
class Outline:
    """Outline of a head.

    Parameters
    ----------
    mask
        Share (z, y, x) of each voxel inside, from 0 to 1. It goes on to the ends of the grid where the head runs out of
        the measured field.
    grid
        Voxel grid.
    warnings
        What the user should know.
    kind
        Where the outline comes from.

    Raises
    ------
    InputError
        For a mask of another shape or with values outside 0 to 1.

    Examples
    --------
    >>> grid = Grid.upright((2, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> Outline(np.ones(grid.shape), grid).kind
    'given'
    """

    mask: Array
    grid: Grid
    warnings: tuple[str, ...] = ()
    kind: OutlineKind = "given"

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
    """Outline of the head's skin.

    The photopeak's and the scatter window's outline are averaged where both show the head. Where neither shows more
    than foci, a standard adult head is placed about them, with a warning. The result does not depend on the images'
    scale.

    Assumes: one head, or one convex phantom, within 12 cm of its centre line; scalp of at least 0.05 of the brain. With
    less scalp and no scatter window the skin is missed without a warning (3.5-8 mm on average for a scalp of 0.02).

    Parameters
    ----------
    photopeak
        `Solver.preview` of the photopeak; the fit knows its blur.
    scatter
        `Solver.preview` of a window below the photopeak.

    Returns
    -------
    Outline
        Outline on the previews' grid.

    Raises
    ------
    InputError
        Where the photopeak holds no activity or nothing stands out from the air, and for unequal grids.

    Examples
    --------
    >>> grid = Grid.upright((64, 64, 64), (4.0, 4.0, 4.0), (-126.0, -126.0, -126.0))
    >>> z, y, x = np.ix_(*grid.centres_mm())
    >>> ball = (x**2 + y**2 + z**2 < 90.0**2).astype(np.float32)
    >>> outline = head_outline(Image(ball, grid, "cps/mL"))
    >>> outline.kind, float(outline.mask[32, 32, 32])
    ('photopeak', 1.0)
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
    if peak.faint and not peak.focal:
        raise InputError(
            f"no head stands out in the photopeak: its level {peak.head + peak.air:.3g} is less than twice that of "
            f"the air, {peak.air:.3g}; check the energy window, or give a map or an outline"
        )
    of_peak = None if peak.focal else surface(peak, grid, layered=True)
    side = None if scatter is None else measured(scatter)
    of_side = None if side is None else _visible_surface(side, grid)
    warnings = []
    if scatter is not None and of_side is None:
        warnings.append("the scatter window does not show the head: the outline comes from the photopeak alone")
    shown, kind, doubts = _combined(peak, of_peak, side, of_side, grid)
    return Outline(_mask(shown, grid), grid, (*warnings, *doubts), kind)


def _combined(
    peak: Preview, of_peak: Surface | None, side: Preview | None, of_side: Surface | None, grid: Grid
) -> tuple[Surface, OutlineKind, list[str]]:
    """Surface from those of the two windows, where it comes from, and warnings."""
    if of_peak is None:
        if of_side is not None:
            warning = "the photopeak shows foci alone: the outline comes from the scatter window alone"
            return of_side, "scatter", [warning]
        warning = (
            "the image shows foci alone and no head: a standard adult head was placed about them; an error of 5 mm in "
            "its outline changes the attenuation by 7.5 % per ray: give a map or an outline"
        )
        return _standard_head(peak, grid), "standard head", [warning]
    if side is None or of_side is None:
        return of_peak, "photopeak", []
    fused, apart_mm = _fused(of_peak, of_side, grid, side.trust)
    if apart_mm <= DISAGREE_MM:
        return fused, "photopeak and scatter", []
    warning = (
        f"the outlines from the photopeak and from the scatter window lie {apart_mm:.0f} mm apart: the former is used; "
        "check it"
    )
    return of_peak, "photopeak", [warning]


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
    bright = np.where(preview.values >= 0.5 * preview.peak, preview.values, 0.0)
    z, y, x = (float((bright * axis).sum() / bright.sum()) for axis in np.indices(bright.shape))
    up_mm = np.maximum((np.arange(grid.shape[0]) - preview.first - z) * preview.voxel_mm[0], 0.0)
    section = 1.0 / ((UNIT[:, 1] / HALF_WIDTH_MM) ** 2 + (UNIT[:, 0] / HALF_LENGTH_MM) ** 2)
    centre = np.array([y + BEHIND_MM / preview.voxel_mm[1], x])
    squared = (1.0 - (up_mm / VERTEX_MM) ** 2)[:, None] * section
    return Surface(squared, np.broadcast_to(centre, (grid.shape[0], 2)))


def _fused(peak: Surface, side: Surface, grid: Grid, trust: float) -> tuple[Surface, float]:
    """Mean of both surfaces where they agree and the scatter's elsewhere, and their mean distance in mm.

    `trust` below 1 moves either towards the photopeak's by that factor.
    """
    mm = grid.voxel_mm[1]
    side_mm = np.sqrt(np.maximum(side.squared_mm2, 0.0))
    peak_mm = np.zeros_like(side_mm)
    for z in np.flatnonzero((peak.squared_mm2 > 0).all(axis=1)):
        points = np.sqrt(peak.squared_mm2[z])[:, None] * UNIT + (peak.centre[z] - side.centre[z]) * mm
        around = np.arctan2(points[:, 0], points[:, 1])
        peak_mm[z] = np.interp(ANGLES, around, np.hypot(points[:, 0], points[:, 1]), period=2 * np.pi)
    both = (side_mm > 30.0) & (peak_mm > 30.0)
    apart_mm = np.abs(side_mm - peak_mm)
    share = trust * np.where(apart_mm <= AGREE_MM, 0.5, 1.0)
    alone = side.squared_mm2 if trust > 0.5 else np.where(peak_mm > 0, peak_mm**2, np.minimum(side.squared_mm2, 0.0))
    squared = np.where(both, (peak_mm + share * (side_mm - peak_mm)) ** 2, alone)
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
