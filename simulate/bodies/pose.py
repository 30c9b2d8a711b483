"""A head in the camera from a body: bent, turned, shifted, perhaps mirrored, cut at the neck, in a holder or not."""

import numpy as np
from scipy.ndimage import map_coordinates

from spectac.recon.kernels.subnormal import subnormals_are_zero
from spectac.recon.tissues import MATERIALS
from spectac.recon.types import Array
from spectac.simulate.anatomy.placement import axes_mm, coarse_axes, grid_of, rotation
from spectac.simulate.anatomy.ranges import ADULT_AND_CHILD, HeadRanges, draw_shape
from spectac.simulate.bodies.bend import Bend
from spectac.simulate.bodies.body import Body
from spectac.simulate.head import HOLDER_FROM_MM, MARGIN_VOXELS, TALLEST_MM, Head, holder_parts
from spectac.simulate.regions import BESIDE, LABEL, MATERIAL_OF_LABEL, REGIONS

_OTHER_SIDE = {"right": "left", "left": "right"}


def _mirrored_labels() -> Array:
    """Label of the other side for every label."""
    names = [region.name for region in REGIONS]
    other = []
    for name in names:
        side, _, rest = name.partition(" ")
        other.append(LABEL[f"{_OTHER_SIDE[side]} {rest}"] if side in _OTHER_SIDE else LABEL[name])
    return np.array(other, np.uint8)


@subnormals_are_zero()
def posed(
    body: Body, rng: np.random.Generator, *, ranges: HeadRanges = ADULT_AND_CHILD, bend: Bend | None = None
) -> Head:
    """A body in the camera, as `head.draw_head` draws heads: pose, neck's length and holder are drawn from the ranges.

    Parameters
    ----------
    body
        The body; half of the heads are its mirror image.
    rng
        Generator.
    ranges
        What to draw from; shapes of heads are not used.
    bend
        Bend of the body before it is turned; None: the body is not bent. The chin moves by its stretch alone.

    Returns
    -------
    Head
        Head on the smallest grid that holds it, voxels of the body's size.

    Examples
    --------
    >>> posed(body, np.random.default_rng(1)).grid.voxel_mm  # doctest: +SKIP
    (2.0, 2.0, 2.0)
    """
    shape = draw_shape(rng, ranges)
    mirrored = bool(rng.random() < 0.5)
    voxel_mm = body.grid.voxel_mm[0]
    turn = rotation(shape["pitch_deg"], shape["yaw_deg"], shape["roll_deg"])
    shift = np.array([shape[f"shift_{axis}_mm"] for axis in "xyz"])
    rough_z, rough_y, rough_x = coarse_axes()
    whole = axes_mm(
        np.array([rough_x[0], rough_y[0], rough_z[0]]), np.array([rough_x[-1], rough_y[-1], rough_z[-1]]), voxel_mm
    )
    found, density = _sampled(body, turn, shift, whole, mirrored=mirrored, bend=bend)
    z, y, x = whole
    inside = np.isin(found, BESIDE, invert=True)
    top = float(z[inside.any(axis=(1, 2))][-1]) + 0.5 * voxel_mm
    chin_mm = body.chin_mm if bend is None else body.chin_mm * float(bend.stretch[2])
    chin = float((turn @ np.array([0.0, -80.0, chin_mm]) + shift)[2])
    bottom = max(chin - shape["neck_length_mm"], top - TALLEST_MM)
    kept = z >= bottom
    found, density, inside, z = found[kept], density[kept], inside[kept], z[kept]
    upper = inside & (z > HOLDER_FROM_MM)[:, None, None]
    back = float(y[upper.any(axis=(0, 2))][-1]) + 0.5 * voxel_mm
    for name, part in holder_parts(shape, z, y, x, back, top).items():
        there = part & (found == LABEL["outside"])
        found[there] = LABEL[name]
        density[there] = MATERIALS[MATERIAL_OF_LABEL[LABEL[name]]].density_g_per_cm3
    filled = found != LABEL["outside"]
    used = [np.flatnonzero(filled.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    margins = ((0, MARGIN_VOXELS), (MARGIN_VOXELS, MARGIN_VOXELS), (MARGIN_VOXELS, MARGIN_VOXELS))
    cut = tuple(
        slice(max(0, int(at[0]) - before), min(size, int(at[-1]) + 1 + after))
        for at, size, (before, after) in zip(used, found.shape, margins, strict=True)
    )
    z, y, x = (axis[part] for axis, part in zip((z, y, x), cut, strict=True))
    parameters = {name: value for name, value in shape.plain().items() if name in _KEPT}
    if bend is not None:
        parameters["stretch"] = bend.stretch.tolist()
    return Head(
        grid_of(z, y, x, voxel_mm),
        np.ascontiguousarray(found[cut]),
        np.ascontiguousarray(density[cut]),
        {**parameters, "body": body.name, "mirrored": mirrored, "voxel_mm": voxel_mm},
    )


_KEPT = (
    "age_years", "pitch_deg", "yaw_deg", "roll_deg", "shift_x_mm", "shift_y_mm", "shift_z_mm", "neck_length_mm",
    "holder", "pillow", "holder_mm", "holder_gap_mm", "pillow_mm",
)  # fmt: skip
"""Draws that shape a posed body."""


def _sampled(
    body: Body, turn: Array, shift: Array, axes: tuple[Array, Array, Array], *, mirrored: bool, bend: Bend | None
) -> tuple[Array, Array]:
    """Labels (the nearest) and densities (interpolated) of a turned and shifted body at camera positions (z, y, x)."""
    z, y, x = (axis - offset for axis, offset in zip(axes, shift[::-1], strict=True))
    first = [axis[0] for axis in body.grid.centres_mm()]
    voxel_mm = body.grid.voxel_mm[0]

    def place_mm(axis: int) -> Array:
        along = turn[:, axis]
        place = along[2] * z[:, None, None] + along[1] * y[:, None] + along[0] * x
        return np.asarray(-place if mirrored and axis == 0 else place)

    places_mm = (place_mm(0), place_mm(1), place_mm(2))
    if bend is not None:
        places_mm = bend.sources(places_mm)
    places = [
        ((place - start) / voxel_mm).astype(np.float32) for place, start in zip(places_mm[::-1], first, strict=True)
    ]
    found = map_coordinates(body.labels, places, order=0, mode="constant", cval=0)
    density = map_coordinates(body.density, places, order=1, mode="constant", cval=0.0)
    return (_mirrored_labels()[found] if mirrored else found), density
