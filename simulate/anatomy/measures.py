"""Measures of a virtual head as anatomists and radiologists report them: lengths, skull thickness, volumes."""

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter, map_coordinates

from spectac.recon.types import Array
from spectac.simulate.anatomy.placement import CENTRE, rotation
from spectac.simulate.head import Head
from spectac.simulate.regions import BESIDE, BONE, BRAIN, CORTEX, INTRACRANIAL, LABEL, SIDES, WHITE, labels

MIDDLE_Y = 16.0
"""Half way between the frontal and the occipital pole, in mm behind the anterior commissure."""


_VOLUMES = {
    "intracranial": INTRACRANIAL,
    "brain": BRAIN,
    "cortex": CORTEX,
    "white": WHITE,
    "cerebellum": labels("cerebellar cortex", "cerebellar white matter"),
    "csf": labels("csf", "ventricles", "choroid plexus"),
    "ventricles": labels("ventricles", "choroid plexus"),
    "air_cavities": labels("air cavity"),
    **{f"{side}_{name}": labels(f"{side} {name}") for name in ("caudate", "putamen", "thalamus") for side in SIDES},
}
"""Labels of each measured volume."""


def analyse(head: Head) -> dict[str, float]:
    """Lengths in mm along the head's own axes, median thickness of the vault in mm, volumes in mL.

    length: glabella to the hindmost point; breadth: greatest above the ears; height: vertex to the lower edge of the
    chin's bone. Assumes: the pose in head.parameters, proportions of a human head, no nose above the glabella.

    Parameters
    ----------
    head
        Virtual head.

    Returns
    -------
    dict of str to float
        Numbers by name; the ending of a name is its unit. height_mm is NaN where the grid holds no chin.

    Examples
    --------
    >>> from spectac.simulate.head import draw_head
    >>> measures = analyse(draw_head(np.random.default_rng(7), voxel_mm=4.0))
    >>> round(measures["length_mm"]), round(measures["brain_ml"], -1)
    (201, 1060.0)
    """
    x, y, z = straight(head)
    patient = ~np.isin(head.labels, BESIDE)
    voxel = head.grid.voxel_mm[0]
    above, calvarium = patient & (z > -22), patient & (z > -6)
    chin = (head.labels == LABEL["dense bone"]) & (y < -45) & (z < -70)
    counts = np.bincount(head.labels.ravel(), minlength=len(LABEL)) * head.grid.voxel_ml
    return {
        "length_mm": _extent(y[above], voxel),
        "breadth_mm": _extent(x[calvarium], voxel),
        "height_mm": float(z[above].max() - z[chin].min()) + voxel if chin.any() else float("nan"),
        **{f"{name}_thickness_mm": value for name, value in _vault_thickness(head).items()},
        **{f"{name}_ml": float(counts[list(parts)].sum()) for name, parts in _VOLUMES.items()},
    }


def straight(head: Head) -> tuple[Array, Array, Array]:
    """Coordinates (z, y, x) of every voxel along the head's own axes in mm, brain at the middle: x, y and z.

    Parameters
    ----------
    head
        Virtual head.

    Returns
    -------
    tuple of Array
        Three float64 arrays (z, y, x) in mm, in the order x, y, z. The deformation and the proportions stay in them.

    Examples
    --------
    >>> from spectac.recon.types import Grid
    >>> pose = dict.fromkeys(("pitch_deg", "yaw_deg", "roll_deg", "shift_x_mm", "shift_y_mm", "shift_z_mm"), 0.0)
    >>> one = np.ones((1, 1, 1), np.uint8)
    >>> head = Head(Grid.upright(one.shape, (4.0, 4.0, 4.0), (10.0, 0.0, 0.0)), one, one.astype(np.float32), pose)
    >>> [float(axis[0, 0, 0]) for axis in straight(head)]
    [10.0, 20.0, 9.0]
    """
    turn = rotation(*(float(head.parameters[f"{name}_deg"]) for name in ("pitch", "yaw", "roll")))
    shift = [float(head.parameters[f"shift_{axis}_mm"]) for axis in "xyz"]
    cz, cy, cx = head.grid.centres_mm()
    offset = (cz - shift[2])[:, None, None], (cy - shift[1])[None, :, None], (cx - shift[0])[None, None, :]
    x, y, z = (
        turn[2, axis] * offset[0] + turn[1, axis] * offset[1] + turn[0, axis] * offset[2] + CENTRE[axis]
        for axis in range(3)
    )
    return x, y, z


def _vault_thickness(head: Head) -> dict[str, float]:
    """Median thickness of bone in mm along the normal of the inner table, by region and over the whole "vault"."""
    x, y, z = straight(head)
    voxel = head.grid.voxel_mm[0]
    cavity = np.isin(head.labels, INTRACRANIAL)
    bone = np.isin(head.labels, BONE)
    above = (z > -16) & np.ones(bone.shape, bool)
    scalp = binary_dilation(bone) & ~bone & ~cavity & above
    # The frontal sinus is no outer face; the face is far from the cavity: only what lies over the brain counts.
    scalp &= ~np.isin(head.labels, (LABEL["air cavity"], LABEL["eye"]))
    distance = distance_transform_edt(~cavity)
    scalp &= distance < 30 / voxel
    thickness = _along_normals(bone, distance, scalp) * voxel
    x, y, z = x[scalp], y[scalp] - MIDDLE_Y, z[scalp]
    where = {
        "frontal": (y < -58) & (z > 14) & (z < 55),
        "parietal": (z > 35) & (np.abs(x) > 22) & (y > -25) & (y < 60),
        "temporal": (np.abs(x) > 48) & (z < 8) & (y > -45) & (y < 12),
        "occipital": (y > 62) & (z > -12) & (z < 40),
    }
    where["vault"] = (z > 8) | where["occipital"]
    return {name: _median(thickness[mask]) for name, mask in where.items()}


def _along_normals(bone: Array, distance: Array, start: Array) -> Array:
    """Voxels of bone met on the way from the voxels of `start` to the cavity, down the slope of `distance` from it."""
    slopes = np.stack([axis[start] for axis in np.gradient(gaussian_filter(distance, 1.0))])
    slopes /= np.maximum(np.linalg.norm(slopes, axis=0), 1e-6)
    points = np.argwhere(start).T.astype(float)
    step, total = 0.25, np.zeros(points.shape[1])
    solid = bone.astype(np.float32)
    for s in np.arange(-1.5, distance[start].max() + 1.5, step):
        total += np.where(s < distance[start] + 1.5, map_coordinates(solid, points - s * slopes, order=1), 0.0)
    return np.asarray(total * step)


def _extent(values: Array, voxel_mm: float) -> float:
    return float(values.max() - values.min()) + voxel_mm


def _median(values: Array) -> float:
    return float(np.median(values)) if values.size else float("nan")
