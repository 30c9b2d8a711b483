"""The typical head fitted to a CT: scaled, turned, then bent, so that skulls lie on each other (SimpleITK).

The CT may end below the vertex and go on to the shoulders. Where it has nothing the bending fades out, and so it does
with the depth in the brain, of which a CT shows nothing: deep structures are scaled and turned alone.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from spectac.recon.errors import InputError
from spectac.recon.itk import itk_image, simpleitk
from spectac.recon.types import Array, MuMap
from spectac.simulate.anatomy.placement import rotation

COMPARED_MM = 150.0
"""Below its top this much of the CT is compared: the skull, its base and the face, without which the tilt is open."""
MISSING_MM = 20.0
"""How much of the head lies above the CT where the search starts; it finds 0 to 60 mm from there."""
PITCHES_DEG = (-40.0, -30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0, 40.0)
"""How far the chin is down at its starts, from which it turns the head by some degrees only."""
TURN_DEG = 5.0
"""The best start is turned by this about each axis, to either side, where that is better."""
NEAR_MM = 20.0
"""Around the fitted brain the last steps of scaling and turning compare this much: the skull and its base without face
and neck, which bend against them."""
NEAR_STEPS = 3
"""Such steps from the best start, with coarse voxels; the brain is laid anew for each. One with fine voxels follows."""
AROUND_MM = 125.0
"""Radius about the head's middle within which images are compared; shoulders lie lower."""
BENT_EVERY_MM = 40.0
"""Distance of the points that bend the head."""
RIM_MM = 15.0
"""Depth in the brain by which the bending falls to 1/e."""
ABOVE_MM = 90.0
"""How far above the CT the bending fades out."""
SECTION_MM = 30.0
"""Depth below the top at which the two heads' sections are laid on each other to start with."""
COARSE_MM, FINE_MM = 8.0, 4.0
"""Voxels of the search, of bending too, and of the last step of scaling and turning."""
AIR_MM = 120.0
"""Air around and above the typical head."""
DENSEST_PER_CM = 0.3
"""Denser bone, metal too, counts as this."""
BODY_PER_CM = 0.06
"""Denser voxels are body."""
LEAST_ML_A_CM = 20.0
"""Smallest section in mL per cm with which a head's top begins."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Where the points of a CT lie in the typical head.

    Parameters
    ----------
    scaled
        SimpleITK's affine transform from the CT's LPS mm to the typical head's.
    bent
        The same with bending.
    error
        Mean square of the difference in 1/cm, as the last step leaves it.

    Examples
    --------
    >>> fit.straight  # doctest: +SKIP
    """

    scaled: Any
    bent: Any
    error: float

    @property
    def straight(self) -> tuple[Array, Array]:
        """Rotation (3, 3) R and shift t in mm that set the CT straight, q = R p + t, without scaling it.

        The point of the CT that lies at the typical head's origin comes to the origin.
        """
        matrix = np.array(self.scaled.GetMatrix()).reshape(3, 3)
        left, _, right = np.linalg.svd(matrix)
        turn = left @ right
        origin = np.array(self.scaled.GetInverse().TransformPoint((0.0, 0.0, 0.0)))
        return turn, -turn @ origin

    def straight_point(self, typical: tuple[float, float, float]) -> Array:
        """Place (x, y, z) in the straight CT of a point of the typical head, to the bending."""
        turn, shift = self.straight
        return np.asarray(turn @ np.array(self.scaled.GetInverse().TransformPoint(typical)) + shift)


def fitted(ct: MuMap, typical: MuMap, brain: Array) -> Fit:
    """Transform from a CT's head to the typical head.

    Assumes: one head, its nose towards anterior, tilted by less than 45 deg, its top less than 60 mm above the CT's.

    Parameters
    ----------
    ct
        Map of the CT on an upright grid.
    typical
        Map of the typical head at the same energy.
    brain
        True (z, y, x) inside the typical head's skull.

    Returns
    -------
    Fit
        The best over the starts of PITCHES_DEG.

    Raises
    ------
    InputError
        Where SimpleITK (extra `ct`) is missing, or the CT shows no head.

    Examples
    --------
    >>> inside = np.isin(typical.labels, INTRACRANIAL)  # doctest: +SKIP
    >>> fitted(ct, typical.mu(ct.energy_kev), inside).straight_point((0.0, -100.0, -130.0))  # doctest: +SKIP
    """
    sitk = simpleitk("a body from a CT")
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    # Sums of several threads differ in their last digits, and so would the bodies.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        return _fitted(sitk, ct, typical, brain)
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _fitted(sitk: Any, ct: MuMap, typical: MuMap, brain: Array) -> Fit:
    fixed, moving = _shrunk(sitk, ct, COARSE_MM), _in_air(sitk, _shrunk(sitk, typical, COARSE_MM))
    top, typical_top = _top_mm(ct), _top_mm(typical)
    middle = _middle(ct, top - SECTION_MM)
    mask, inside, found = _mask(sitk, fixed, top, middle), itk_image(sitk, brain, typical.grid), []
    typical_middle = _middle(typical, typical_top - MISSING_MM - SECTION_MM)

    def near(transform: Any) -> float:
        """Scale and turn by what lies around the brain. Face and neck, which bend, would decide about the tilt."""
        return _scale(sitk, fixed, moving, _near(sitk, mask, inside, transform), transform, step_mm=4.0)

    for pitch_deg in PITCHES_DEG:
        scaled = sitk.AffineTransform(3)
        scaled.SetCenter((*middle.tolist(), top - SECTION_MM))
        scaled.SetTranslation((*(typical_middle - middle).tolist(), typical_top - MISSING_MM - top))
        scaled.SetMatrix(rotation(pitch_deg, 0.0, 0.0).T.ravel().tolist())
        try:
            _scale(sitk, fixed, moving, mask, scaled, step_mm=6.0)
            found.append((near(scaled), pitch_deg, scaled))
        except (RuntimeError, InputError):  # the heads do not overlap
            continue
    if not found:
        raise InputError("the typical head could not be laid on the CT: is it a head, upright and facing forward?")
    best, _, scaled = min(found, key=lambda one: one[:2])
    for axis, turn_deg in product(range(3), (-TURN_DEG, TURN_DEG)):
        turned = sitk.AffineTransform(scaled)
        matrix = np.array(scaled.GetMatrix()).reshape(3, 3) @ rotation(*np.eye(3)[axis] * turn_deg)
        turned.SetMatrix(matrix.ravel().tolist())
        error = near(turned)
        if error < best:
            best, scaled = error, turned
    for _ in range(NEAR_STEPS):
        near(scaled)
    fine, fine_moving = _shrunk(sitk, ct, FINE_MM), _in_air(sitk, _shrunk(sitk, typical, FINE_MM))
    mask = _near(sitk, _mask(sitk, fine, top, middle), inside, scaled)
    _scale(sitk, fine, fine_moving, mask, scaled, step_mm=2.0)
    bending, error = _bend(sitk, fixed, moving, inside, top, middle, scaled)
    return Fit(scaled, sitk.CompositeTransform([scaled, bending]), error)


def _scale(sitk: Any, fixed: Any, moving: Any, mask: Any, transform: Any, *, step_mm: float) -> float:
    """Scale and turn, changing `transform`; the mean square that is left. RuntimeError where nothing overlaps."""
    method = _method(sitk, mask)
    method.SetOptimizerAsRegularStepGradientDescent(step_mm, 0.02, 60, gradientMagnitudeTolerance=1e-9)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    # What the CT lacks above leaves the height open: in the typical head it is scaled as length and breadth are.
    left, scales, right = np.linalg.svd(np.array(transform.GetMatrix()).reshape(3, 3))
    stretch = left @ np.diag(scales) @ left.T
    stretch[2, :2] = stretch[:2, 2] = 0.0
    stretch[2, 2] = np.sqrt(np.linalg.det(stretch[:2, :2]))
    transform.SetMatrix((stretch @ left @ right).ravel().tolist())
    return float(method.GetMetricValue())


def _bend(sitk: Any, fixed: Any, moving: Any, inside: Any, top: float, middle: Array, scaled: Any) -> tuple[Any, float]:
    """Displacement before `scaled`, over what is compared and what lies above it; the mean square that is left.

    That is the B-spline's. In the brain, `inside` of the typical head, less of it is taken the deeper a point lies.
    """
    size, spacing, origin = (np.array(getattr(fixed, f"Get{what}")()) for what in ("Size", "Spacing", "Origin"))
    low = np.array([*(middle - AROUND_MM), top - COMPARED_MM])
    first = np.maximum(np.floor((low - origin) / spacing), 0).astype(int)
    last = np.minimum(np.ceil((np.array([*(middle + AROUND_MM), top]) - origin) / spacing), size - 1).astype(int)
    part = fixed[tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))]
    part = sitk.ConstantPad(part, [0, 0, 0], [0, 0, round(ABOVE_MM / COARSE_MM)], 0.0)
    mesh = [max(2, round(n * length / BENT_EVERY_MM)) for n, length in zip(part.GetSize(), spacing, strict=True)]
    bending = sitk.BSplineTransformInitializer(part, mesh, 3)
    method = _method(sitk, _mask(sitk, part, top, middle))
    method.SetOptimizerAsLBFGSB(
        gradientConvergenceTolerance=1e-7, numberOfIterations=40, maximumNumberOfFunctionEvaluations=60
    )
    method.SetMovingInitialTransform(scaled)
    method.SetInitialTransform(bending, inPlace=True)
    method.Execute(part, moving)
    laid = sitk.Resample(inside, part, sitk.CompositeTransform([scaled, bending]), sitk.sitkNearestNeighbor, 0)
    depth = distance_transform_edt(sitk.GetArrayFromImage(laid), part.GetSpacing()[::-1])
    bent = sitk.TransformToDisplacementField(
        bending, sitk.sitkVectorFloat64, part.GetSize(), part.GetOrigin(), part.GetSpacing(), part.GetDirection()
    )
    kept = sitk.GetImageFromArray(sitk.GetArrayFromImage(bent) * np.exp(-depth / RIM_MM)[..., None], isVector=True)
    kept.CopyInformation(part)
    return sitk.DisplacementFieldTransform(kept), float(method.GetMetricValue())


def _method(sitk: Any, mask: Any) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetMetricFixedMask(mask)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetNumberOfThreads(1)
    return method


def _mask(sitk: Any, image: Any, top: float, middle: Array) -> Any:
    """Voxels that are compared."""
    x, y, z = (
        origin + length * np.arange(n)
        for origin, length, n in zip(image.GetOrigin(), image.GetSpacing(), image.GetSize(), strict=True)
    )
    heights = (z <= top - 0.5 * image.GetSpacing()[2]) & (z > top - COMPARED_MM)
    near = np.hypot(x - middle[0], y[:, None] - middle[1]) < AROUND_MM
    mask = sitk.GetImageFromArray((heights[:, None, None] & near).astype(np.uint8))
    mask.CopyInformation(image)
    return mask


def _near(sitk: Any, mask: Any, inside: Any, transform: Any) -> Any:
    """The mask's voxels that lie within NEAR_MM of the typical head's brain, `inside`."""
    laid = sitk.GetArrayFromImage(sitk.Resample(inside, mask, transform, sitk.sitkNearestNeighbor, 0)) > 0
    if not laid.any():
        raise InputError("the typical head was laid beside the CT: is it a head, upright and facing forward?")
    near = distance_transform_edt(~laid, mask.GetSpacing()[::-1]) <= NEAR_MM
    part = sitk.GetImageFromArray((near & (sitk.GetArrayFromImage(mask) > 0)).astype(np.uint8))
    part.CopyInformation(mask)
    return part


def _top_mm(mu: MuMap) -> float:
    """Height of the highest section that is large enough."""
    areas = (mu.per_cm > BODY_PER_CM).sum(axis=(1, 2)) * np.prod(mu.grid.voxel_mm[1:]) / 100.0
    (large,) = np.nonzero(areas > LEAST_ML_A_CM)
    if large.size == 0:
        raise InputError("the CT shows no head: no section of it is as large as one")
    return float(mu.grid.centres_mm()[0][large[-1]])


def _middle(mu: MuMap, height_mm: float) -> Array:
    """Middle (x, y) in mm of the body's section at a height."""
    z, y, x = mu.grid.centres_mm()
    rows, columns = np.nonzero(mu.per_cm[np.abs(z - height_mm).argmin()] > BODY_PER_CM)
    if rows.size == 0:
        raise InputError("the CT shows no head: it is empty 3 cm below its top")
    return np.array([x[columns].mean(), y[rows].mean()])


def _shrunk(sitk: Any, mu: MuMap, voxel_mm: float) -> Any:
    """Smoothed map with voxels of about this size, its densest cut."""
    image = itk_image(sitk, np.minimum(mu.per_cm, np.float32(DENSEST_PER_CM)), mu.grid)
    factors = [max(1, round(voxel_mm / length)) for length in mu.grid.voxel_mm[::-1]]
    return sitk.Shrink(sitk.SmoothingRecursiveGaussian(image, 0.5 * voxel_mm), factors)


def _in_air(sitk: Any, image: Any) -> Any:
    """Image with air around and above: points that fall beyond an image do not count, and would hide a bad fit."""
    around = [round(AIR_MM / length) for length in image.GetSpacing()]
    return sitk.ConstantPad(image, [*around[:2], 0], around, 0.0)
