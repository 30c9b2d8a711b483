"""A body of a real person: tissues and densities from the HU of a CT, the brain's regions from the typical head.

Every voxel of the person keeps the CT's attenuation. What it is called in the brain, and what is there where the CT has
nothing, comes from the typical head that was fitted to it. Table and holder are left out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import (
    binary_closing,
    binary_dilation,
    binary_fill_holes,
    binary_propagation,
    distance_transform_edt,
    gaussian_filter,
    label,
)

from spectac.recon.contour_preview import largest
from spectac.recon.ct import air_and_water, hu_to_mu
from spectac.recon.ct_body import body_mask
from spectac.recon.errors import InputError
from spectac.recon.itk import itk_image, simpleitk
from spectac.recon.tissues import MATERIALS, cm2_per_g
from spectac.recon.types import Array, Grid, MuMap
from spectac.simulate.anatomy.placement import grid_of
from spectac.simulate.bodies.fit import Fit, fitted
from spectac.simulate.head import SKIN_MM, Head
from spectac.simulate.regions import BESIDE, INTRACRANIAL, LABEL, MATERIAL_OF_LABEL, labels

KEV = 140.511
"""Energy at which densities give the CT's attenuation."""
VOXEL_MM = 2.0
REACH_MM = (130.0, 160.0, 250.0, 140.0)
"""Largest extent of a body across, from front to back to either side, below and above the middle of the brain."""
AIR_HU, FAT_HU, BONE_HU, DENSE_HU, TEETH_HU = -400.0, -30.0, 200.0, 1000.0, 1800.0
"""Where air, fat, soft tissue, bone, dense bone and teeth begin to be something denser."""
DENSEST_HU = 2500.0
"""Metal counts as this."""
RING_HU = 150.0
"""The skull's ring is denser than this."""
RING_MM = 8.0
"""Radius of the disc that closes gaps of the ring."""
SMOOTH_MM = 2.0
"""Standard deviation of the Gaussian against noise before the skull's inside is told."""
BESIDE_BRAIN_MM = 8.0
"""Soft tissue within the ring and this near to the fitted head's brain is brain or around it."""
RIM_MM = 4.0
"""Width of the rim at the bone that smoothing and closing gaps take from the skull's inside."""
BASE_MM = -50.0
"""Height above the brain's middle of the skull's base, whose foramina open the ring."""
NECK_MM = 4.0
"""Half the width of necks between brain and orbits that are cut."""
LEAST_SHARE = 0.2
"""Parts of the skull's inside are brain where this much of them is fitted brain."""
LEAST_OVERLAP = 0.8
"""Smallest Dice coefficient of the fitted brain and the skull's inside above its base with which a fit is one."""
FLUID_MM = 3.0
"""Fluid between skull and brain where the fitted brain does not reach."""
CHIN = (0.0, -100.0, -130.0)
"""The chin in the typical head, from the middle of its brain, LPS mm."""


@dataclass(frozen=True, eq=False)
class Body:
    """A head and neck, straight, the middle of its brain at the origin.

    Parameters
    ----------
    name
        Which person's.
    grid
        Upright grid with cubic voxels.
    labels
        (z, y, x) uint8 of regions.LABEL.
    density
        (z, y, x) float32 in g/cm3.
    chin_mm
        Height of the chin.
    added_mm
        How much of the head above the CT is the typical head's.

    Examples
    --------
    >>> grid = Grid.upright((1, 1, 1), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    >>> Body("one", grid, np.ones((1, 1, 1), np.uint8), np.ones((1, 1, 1), np.float32), -120.0, 0.0).name
    'one'
    """

    name: str
    grid: Grid
    labels: Array
    density: Array
    chin_mm: float
    added_mm: float


def body_of(name: str, hu: Array, known: Array, grid: Grid, typical: Head, kvp: float | None = None) -> Body:
    """Body of a CT.

    Parameters
    ----------
    name
        Which person's.
    hu
        CT numbers (z, y, x).
    known
        True (z, y, x) where they were measured.
    grid
        Their upright grid.
    typical
        The head that brain regions and missing parts come from.
    kvp
        Tube voltage; None: 120 kV.

    Returns
    -------
    Body
        Voxels of VOXEL_MM.

    Raises
    ------
    InputError
        Where no head is found.

    Examples
    --------
    >>> body_of("one", volume.hu, known, volume.grid, typical_head(), volume.kvp).added_mm  # doctest: +SKIP
    25.3
    """
    sitk = simpleitk("a body from a CT")
    clipped = np.where(known, np.clip(hu, -1000.0, DENSEST_HU), np.float32(-1000.0))
    mu = MuMap(hu_to_mu(clipped, kvp, KEV), grid, KEV)
    # Without the table and what the head lies in.
    clipped = np.where(body_mask(mu, air_and_water(mu)[1]), clipped, np.float32(-1000.0))
    inside = np.isin(typical.labels, INTRACRANIAL)
    fit = fitted(MuMap(hu_to_mu(clipped, kvp, KEV), grid, KEV), typical.mu(KEV), inside)
    straight, there = _straight(sitk, fit)

    def moved(values: Array, of: Grid, by: Any, outside: float = 0.0) -> Array:
        """Resampled to the body's voxels: linearly, and the nearest of labels."""
        way = sitk.sitkNearestNeighbor if values.dtype == np.uint8 else sitk.sitkLinear
        return np.asarray(sitk.GetArrayFromImage(sitk.Resample(itk_image(sitk, values, of), there, by, way, outside)))

    as_it_is = sitk.Transform()
    values = moved(clipped.astype(np.float32), grid, as_it_is, -1000.0)
    known = moved(known.astype(np.uint8), grid, as_it_is) > 0
    own = np.where(np.isin(typical.labels, BESIDE), np.uint8(0), typical.labels)
    atlas, atlas_density = (moved(one, typical.grid, fit.bent) for one in (own, typical.density))
    z, y, x = straight.centres_mm()
    found, overlap = _tissues(values, atlas, known, z)
    if overlap < LEAST_OVERLAP:
        raise InputError(
            f"{name}: the typical head does not fit the CT (overlap of the brains {overlap:.2f}): is it one head, "
            "upright, without contrast agent?"
        )
    per_gram = np.array([cm2_per_g(MATERIALS[m].name, KEV) for m in MATERIAL_OF_LABEL], np.float32)
    density = hu_to_mu(values, kvp, KEV) / per_gram[found]
    top_mm = float(z[(known & (values > AIR_HU)).any(axis=(1, 2))].max(initial=-np.inf))
    if not np.isfinite(top_mm):
        raise InputError(f"{name}: no head was found in the CT")
    # Vertex, sides, face and neck that the CT leaves out.
    found = np.where(known, found, atlas)
    # What does not hang together is a chin beside the person's own.
    found[~largest(np.isin(found, BESIDE, invert=True))] = LABEL["outside"]
    typical_density = np.where(atlas > 0, atlas_density, np.float32(0.0))
    density = np.where(known, density, typical_density).astype(np.float32)
    density[~binary_dilation(found != LABEL["outside"])] = 0.0
    heights = z[np.isin(found, INTRACRANIAL).any(axis=(1, 2))]
    used = tuple(slice(int(n.min()), int(n.max()) + 1) for n in np.nonzero(np.isin(found, BESIDE, invert=True)))
    z, y, x = (axis[part] for axis, part in zip((z, y, x), used, strict=True))
    return Body(
        name,
        grid_of(z, y, x, VOXEL_MM),
        np.ascontiguousarray(found[used]),
        np.ascontiguousarray(density[used]),
        float(fit.straight_point(CHIN)[2]),
        max(0.0, float(heights.max()) - top_mm),
    )


def _tissues(hu: Array, atlas: Array, known: Array, z: Array) -> tuple[Array, float]:
    """Labels (z, y, x) from HU inside the CT, with the atlas's names where they fit; how well the brains overlap."""
    tissue = known & (hu > AIR_HU)
    if not tissue.any():
        raise InputError("the CT shows nothing as dense as tissue")
    solid = largest(tissue)
    body = np.stack([_touching(binary_fill_holes(level), head) for level, head in zip(solid, atlas > 0, strict=True)])
    bone, soft = body & (hu > BONE_HU), body & (hu > FAT_HU) & (hu <= BONE_HU)
    found = np.zeros(hu.shape, np.uint8)
    found[body & (hu <= AIR_HU)] = LABEL["air cavity"]
    found[body & (hu > AIR_HU) & (hu <= FAT_HU)] = LABEL["fat"]
    found[soft] = LABEL["muscle"]
    named = soft & np.isin(atlas, labels("mucosa", "spinal cord", "eye", "parotid gland", "submandibular gland"))
    found[named] = atlas[named]
    found[bone] = np.where(np.isin(atlas[bone], labels("spine")), LABEL["spine"], LABEL["skull"])
    found[bone & (hu > DENSE_HU)] = LABEL["dense bone"]
    found[bone & (hu > TEETH_HU)] = LABEL["teeth"]
    brain = np.isin(atlas, INTRACRANIAL)
    inside = _inside_skull(hu, body, known, brain, z)
    # Smoothing and closing took a rim at the bone.
    inside = binary_dilation(inside, iterations=round(RIM_MM / VOXEL_MM), mask=body & (hu > FAT_HU) & ~bone)
    near = distance_transform_edt(~brain, VOXEL_MM) <= BESIDE_BRAIN_MM
    base = (z <= BASE_MM)[:, None, None]
    ring = _enclosed(body & known & ((hu > RING_HU) | (hu <= AIR_HU)), body, known)
    # Where the ring is open the fitted brain stands in.
    within = body & (hu > AIR_HU) & ~bone & (brain | np.where(base, ring & near, inside))
    # Where the fitted brain does not reach the skull its cortex goes on, to the fluid on the bone.
    matter = brain & (atlas != LABEL["csf"])
    nearest = distance_transform_edt(~matter, return_distances=False, return_indices=True)
    filled = np.where(brain, atlas, atlas[tuple(nearest)])
    filled[~brain & (distance_transform_edt(~bone, VOXEL_MM) <= FLUID_MM)] = LABEL["csf"]
    found[within] = filled[within]
    depth = distance_transform_edt(np.pad(body, ((1, 1), (0, 0), (0, 0)), mode="edge"), VOXEL_MM)[1:-1]
    skin = body & (depth - 0.5 * VOXEL_MM < SKIN_MM) & np.isin(found, labels("fat", "muscle"))
    found[skin] = LABEL["skin"]
    compared = ~base & known
    seen, fitted_brain = inside & compared, brain & compared
    both = int(seen.sum()) + int(fitted_brain.sum())
    return found, 2.0 * float((seen & fitted_brain).sum()) / both if both else 0.0


def _inside_skull(hu: Array, body: Array, known: Array, brain: Array, z: Array) -> Array:
    """Brain (z, y, x) in the skull's ring, above its base.

    It hangs together once thin necks are cut, and is largely fitted brain; fat and roofs part the orbits from
    it.
    """
    smooth = gaussian_filter(np.where(known, hu, np.float32(FAT_HU)), SMOOTH_MM / VOXEL_MM)
    wall = body & known & ((smooth > RING_HU) | (smooth <= FAT_HU))
    enclosed = _enclosed(wall, body, known)
    part = enclosed & ~wall & (z > BASE_MM)[:, None, None]
    depth = distance_transform_edt(np.pad(part, ((1, 1), (0, 0), (0, 0)), mode="edge"), VOXEL_MM)[1:-1]
    cores, count = label(depth > NECK_MM)
    volume = np.bincount(cores.ravel(), minlength=count + 1)
    share = np.bincount(cores[brain], minlength=count + 1) / np.maximum(volume, 1)
    chosen = share > LEAST_SHARE
    chosen[0] = False
    if not chosen.any():
        return np.zeros(hu.shape, bool)
    grown = distance_transform_edt(~chosen[cores], VOXEL_MM) <= 1.5 * NECK_MM
    return np.stack([binary_fill_holes(level) for level in grown & enclosed])


def _enclosed(wall: Array, body: Array, known: Array) -> Array:
    """What a wall (z, y, x) closes off in each level, once gaps of RING_MM and the CT's end are closed; without it."""
    ring = _disc(RING_MM)
    padded = np.pad(wall, ((0, 0), (4, 4), (4, 4)))
    closed = np.stack([binary_closing(level, ring) for level in padded])[:, 4:-4, 4:-4] | ~known
    air = ~body & known
    outside = np.stack([binary_propagation(level, mask=~barrier) for level, barrier in zip(air, closed, strict=True)])
    return np.asarray(~closed & ~outside)


def _touching(level: Array, head: Array) -> Array:
    """Parts (y, x) of a level that touch the fitted head, not what it lies on; all where the head does not reach."""
    if not head.any():
        return level
    parts, _ = label(level)
    return np.isin(parts, np.unique(parts[head & level])) & level


def _disc(radius_mm: float) -> Array:
    half = int(radius_mm / VOXEL_MM)
    y, x = np.ogrid[-half : half + 1, -half : half + 1]
    return np.asarray(y**2 + x**2 <= half**2)


def _straight(sitk: Any, fit: Fit) -> tuple[Grid, Any]:
    """Grid of a body that stands straight, and the same voxels as an image in the CT's coordinates."""
    across, along, below, above = REACH_MM
    x, y, z = (
        np.arange(low + 0.5 * VOXEL_MM, high, VOXEL_MM)
        for low, high in ((-across, across), (-along, along), (-below, above))
    )
    turn, shift = fit.straight
    image = sitk.Image(x.size, y.size, z.size, sitk.sitkUInt8)
    image.SetSpacing((VOXEL_MM,) * 3)
    image.SetDirection(turn.T.ravel().tolist())
    image.SetOrigin((turn.T @ (np.array([x[0], y[0], z[0]]) - shift)).tolist())
    return grid_of(z, y, x, VOXEL_MM), image
