"""Registration of a CT head to an uncorrected SPECT image, by mutual information (SimpleITK)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation

from spectac.recon import filters
from spectac.recon.contour_preview import HEAD_ML
from spectac.recon.ct import CTVolume, air_and_water, body_alone, mu_map
from spectac.recon.device import cpu_threads
from spectac.recon.errors import InputError
from spectac.recon.itk import itk_image, simpleitk
from spectac.recon.resample import resample
from spectac.recon.rigid import RigidShift
from spectac.recon.types import Array, Grid, Image, MuMap

REGISTRATION_KEV = 140.511
"""Energy of the map that is registered."""
REGISTRATION_FWHM_MM = 8.0
"""Blur of both images before registration.

With noise of 28 % in 4 mm voxels of an independent head the error of the angles was 0.3-1.2 deg with this blur of the
SPECT image and 0.4-3 deg without. 12 mm for the CT was no better.
"""
HEAD_SHARE = 0.15
"""Share of the level that 400 mL exceed, above which a voxel is head."""
HOT_SHARE = 1.3
"""Multiple of that level at which hotter foci are cut."""
MASK_MM = 24.0
"""How far around the SPECT head the images are compared."""
HEAD_RADIUS_MM = 80.0
"""Radius at which a rotation counts as much as a shift."""
AIR_AROUND_MM = 100.0
"""Air that is added at every face of the CT that the body does not touch."""
SAME_START_MM = 5.0
"""Starts of the search nearer than this to an earlier one are left out."""
OUTSIDE_SHARE = 0.1
"""Share of the SPECT activity outside the registered CT body beyond which the registration is doubted."""


def register(ct: CTVolume | MuMap, spect: Image) -> RigidShift:
    """Rigid motion that carries a CT head onto an uncorrected SPECT image.

    `RigidShift.moved` applies it to the mu-map: the grid is tilted, nothing is interpolated. The motion maximises the
    mutual information [1]_ of the body's blurred mu and the SPECT values around the head. Powell's search runs on 8 mm
    and then 4 mm voxels from the best of three starts: as the headers place them, heads centred on each other, crowns
    at one height. Nothing is concluded from what lies beyond a place where the CT cuts the body; elsewhere air goes on.

    Assumes: rotations up to about 20 deg. Shifts may have any length.

    Parameters
    ----------
    ct
        CT, or its map.
    spect
        `Solver.preview` without attenuation correction.

    Returns
    -------
    RigidShift
        Motion about the centre of the CT's body. `warning` speaks from 10 mm or 5 deg on; `warnings` says where much of
        the activity lies outside the registered body.

    Raises
    ------
    InputError
        Where SimpleITK (extra `ct`) is missing, one of the images shows no head, or they do not overlap.

    References
    ----------
    .. [1] Mattes et al., IEEE Trans Med Imaging 2003;22:120, doi:10.1109/TMI.2003.809072.

    Examples
    --------
    >>> grid = Grid.upright((32, 32, 32), (8.0, 8.0, 8.0), (-124.0, -124.0, -124.0))
    >>> z, y, x = np.ix_(*grid.centres_mm())
    >>> head = (((x / 70) ** 2 + (y / 90) ** 2 + (z / 80) ** 2) < 1).astype(np.float32)
    >>> shift = register(MuMap(0.15 * head, grid, 140.5), Image(head, grid, "cps/mL"))
    >>> shift.distance_mm < 2.0
    True
    """
    sitk = simpleitk("registering a CT")
    mu = mu_map(ct, REGISTRATION_KEV, blur_fwhm_mm=0) if isinstance(ct, CTVolume) else ct
    per_cm, body = body_alone(mu)
    per_cm, grid = _with_air_around(per_cm, body, mu.grid, air_and_water(mu)[0])
    values, head = _spect_head(spect)
    around = binary_dilation(head, iterations=round(MASK_MM / max(spect.grid.voxel_mm)))
    ct_places, spect_places = _places(body, mu.grid), _places(head, spect.grid)
    search = _Search(
        sitk,
        itk_image(sitk, values, spect.grid),
        itk_image(sitk, filters.gaussian(per_cm, grid.voxel_mm, REGISTRATION_FWHM_MM), grid),
        itk_image(sitk, around, spect.grid),
        spect_places[0],
    )
    starts = [np.zeros(3), *(there - here for here, there in zip(spect_places, ct_places, strict=True))]
    apart = [
        start
        for n, start in enumerate(starts)
        if all(np.linalg.norm(start - earlier) > SAME_START_MM for earlier in starts[:n])
    ]
    _, best = min((search([0, 0, 0, *start], shrink=2) for start in apart), key=lambda result: result[0])
    if not best:
        raise InputError("the CT and the SPECT image could not be registered: their heads do not overlap")
    _, best = search(best, shrink=1)
    x, y, z = ct_places[0].tolist()
    shift = RigidShift.from_matrix(np.linalg.inv(search.matrix(best)), (x, y, z))
    outside = _share_outside(values, spect.grid, body, shift.moved_grid(mu.grid), shift.moved_grid(grid))
    if outside > OUTSIDE_SHARE:
        note = f"after registration {outside:.0%} of the SPECT activity lies outside the CT's body: check the overlay"
        return replace(shift, warnings=(note,))
    return shift


def _spect_head(spect: Image) -> tuple[Array, Array]:
    """SPECT values (z, y, x) with hot foci cut down, and the mask of the head in them."""
    values = filters.gaussian(np.maximum(spect.values, 0), spect.grid.voxel_mm, REGISTRATION_FWHM_MM)
    level = float(np.sort(values, axis=None)[-min(values.size, int(HEAD_ML / spect.grid.voxel_ml))])
    if level <= 0:
        raise InputError("the SPECT image shows no head: fewer than 400 mL hold any activity")
    return np.minimum(values, np.float32(HOT_SHARE * level)), values > HEAD_SHARE * level


def _places(mask: Array, grid: Grid) -> tuple[Array, Array]:
    """Centre of a mask in LPS mm, and the same place at 100 mm below its highest point."""
    points = np.argwhere(mask) @ grid.affine_lps[:3, :3].T + grid.affine_lps[:3, 3]
    top = points[:, 2].max()
    head = points[points[:, 2] > top - 180.0]
    below_crown = head.mean(axis=0)
    below_crown[2] = top - 100.0
    return points.mean(axis=0), below_crown


def _with_air_around(per_cm: Array, body: Array, grid: Grid, air: float) -> tuple[Array, Grid]:
    """Map with air added at every face that the body does not touch."""
    pads = []
    for axis, length in enumerate(grid.voxel_mm):
        touched = np.asarray(body.any(axis=tuple(other for other in range(3) if other != axis)))
        voxels = round(AIR_AROUND_MM / length)
        pads.append((0 if touched[0] else voxels, 0 if touched[-1] else voxels))
    affine = np.array(grid.affine_lps)
    affine[:3, 3] -= affine[:3, :3] @ np.array([before for before, _ in pads], float)
    padded = np.pad(per_cm, pads, mode="constant", constant_values=air)
    size = padded.shape
    return padded, Grid((size[0], size[1], size[2]), grid.voxel_mm, affine)


def _share_outside(values: Array, grid: Grid, body: Array, body_grid: Grid, air_grid: Grid) -> float:
    """Share of the activity outside the body; only what lies inside the CT with its added air (`air_grid`) counts."""
    inside = values * resample(np.ones(air_grid.shape, np.float32), air_grid, grid)
    return float((inside * (1.0 - resample(body, body_grid, grid))).sum() / max(float(inside.sum()), 1e-30))


@dataclass(frozen=True, eq=False)
class _Search:
    """Powell's search for the transform from the fixed SPECT image to the moving CT map, about the SPECT head's centre.

    Parameters are 3 angles in rad and x, y, z in mm.
    """

    sitk: Any
    fixed: Any
    moving: Any
    mask: Any
    centre: Array

    def __call__(self, start: Sequence[float], *, shrink: int) -> tuple[float, tuple[float, ...]]:
        """Negative mutual information and best parameters; (inf, ()) without overlap."""
        method = self.sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricSamplingStrategy(method.NONE)
        method.SetMetricFixedMask(self.mask)
        method.SetInterpolator(self.sitk.sitkLinear)
        # Angles count by what they move at the head's surface; the search ends when no line gains 1e-5.
        method.SetOptimizerAsPowell(
            numberOfIterations=20,
            maximumLineIterations=50,
            stepLength=2.0 * shrink,
            stepTolerance=1e-3,
            valueTolerance=1e-5,
        )
        method.SetOptimizerScales([HEAD_RADIUS_MM] * 3 + [1.0] * 3)
        method.SetShrinkFactorsPerLevel([shrink])
        method.SetSmoothingSigmasPerLevel([4.0 if shrink > 1 else 0.0])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        method.SetNumberOfThreads(cpu_threads())
        transform = self._transform(start)
        method.SetInitialTransform(transform, inPlace=True)
        try:
            method.Execute(self.fixed, self.moving)
        except RuntimeError:
            # ITK raises where too few points of the SPECT head fall into the CT.
            return np.inf, ()
        return float(method.GetMetricValue()), tuple(transform.GetParameters())

    def matrix(self, parameters: Sequence[float]) -> Array:
        """Matrix (4, 4) of the transform on LPS mm."""
        transform = self._transform(parameters)
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
        matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
        return matrix

    def _transform(self, parameters: Sequence[float]) -> Any:
        transform = self.sitk.Euler3DTransform()
        transform.SetCenter(self.centre.tolist())
        transform.SetParameters([float(value) for value in parameters])
        return transform
