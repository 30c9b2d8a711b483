"""Arrays of a virtual patient that a cohort stores: preview images of every window, and the truth on their grid."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spectac.recon import ReconstructionSettings
from spectac.recon.errors import InputError
from spectac.recon.pipeline import StudySolver
from spectac.recon.preview import preview_image
from spectac.recon.resample import resample
from spectac.recon.types import Acquisition, Array, Grid, MuMap
from spectac.simulate.regions import BESIDE

if TYPE_CHECKING:
    from spectac.simulate.acquire import Expected, Patient

WINDOWS = ("photopeak", "lower", "upper", "scatter")
"""The windows of `preview`, in the order of its first axis; a scanner has the photopeak and any of the others."""

MAPS = {
    "recovered": np.float32,
    "mu_per_cm": np.float32,
    "head_mu_per_cm": np.float32,
    "activity_kbq_per_ml": np.float32,
    "labels": np.uint8,
    "correction": np.float32,
}
"""Arrays on the preview's grid (z, y, x), and their types."""

OF_THE_CAMERA = ("counts", "expected")
"""Arrays whose shape is the camera's."""

ARRAYS = ("preview", "windows", *MAPS, *OF_THE_CAMERA)
"""All arrays of a patient."""

LEAST_SHARE = 0.003
"""Below this share of its maximum an uncorrected image of primary photons is air, and has no correction."""


@dataclass(frozen=True, eq=False)
class PatientArrays:
    """Arrays of one patient, on the grid of its preview images.

    Parameters
    ----------
    grid
        Grid of the preview images.
    preview
        (4, z, y, x) float32 in cps/mL, one image for each of WINDOWS; zeros where the scanner lacks the window.
    windows
        (4,) bool: the windows that the scanner has.
    recovered
        (z, y, x) float32 in cps/mL: the photopeak with resolution recovery.
    mu_per_cm
        (z, y, x) float32 at `energy_kev`: what the photons crossed.
    head_mu_per_cm
        (z, y, x) float32: the same without head-holder, pillow and air around, which networks are trained on.
    activity_kbq_per_ml
        (z, y, x) float32.
    labels
        (z, y, x) uint8 of regions.LABEL.
    correction
        (z, y, x) float32 factor by which attenuation correction with the true map multiplies the preview of the
        primary photons, without noise; 0 in the air.
    counts
        (v, z, u) float32 projections of the photopeak.
    expected
        (3, v, z, u) float16 counts of the photopeak before noise: primary, scatter, photons above 400 keV.
    energy_kev
        Energy of the map.
    parameters
        Plain values that JSON can hold.

    Raises
    ------
    InputError
        For arrays that do not fit the grid or hold NaN or infinity, for other parameters, and where the
        photopeak is missing.
    """

    grid: Grid
    preview: Array
    windows: Array
    recovered: Array
    mu_per_cm: Array
    head_mu_per_cm: Array
    activity_kbq_per_ml: Array
    labels: Array
    correction: Array
    counts: Array
    expected: Array
    energy_kev: float
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        shape = self.grid.shape
        wanted = {
            "preview": (np.float32, (len(WINDOWS), *shape)),
            "windows": (np.bool_, (len(WINDOWS),)),
            **{name: (dtype, shape) for name, dtype in MAPS.items()},
        }
        for name, (dtype, size) in wanted.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != size:
                raise InputError(
                    f"{name} must be {np.dtype(dtype).name} of shape {size}, got {array.dtype} of {array.shape}"
                )
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError(f"{name} holds {int((~np.isfinite(array)).sum())} values that are NaN or infinite")
        if self.counts.dtype != np.float32 or self.counts.ndim != 3:
            raise InputError(f"counts must be float32 (v, z, u), got {self.counts.dtype} of {self.counts.shape}")
        if self.expected.dtype != np.float16 or self.expected.shape != (3, *self.counts.shape):
            raise InputError(
                f"expected must be float16 of shape {(3, *self.counts.shape)}, got {self.expected.dtype} of "
                f"{self.expected.shape}"
            )
        if not np.isfinite(self.expected).all():
            raise InputError("expected holds values that are NaN or infinite")
        if not self.windows[0]:
            raise InputError("a patient needs the photopeak window")
        try:
            json.dumps(dict(self.parameters), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"parameters must be plain values that JSON can hold: {error}") from error

    @property
    def sha256(self) -> str:
        """Digest of all arrays, the grid and the energy, in hexadecimal digits; independent of how they are stored."""
        digest = hashlib.sha256()
        parts = {name: getattr(self, name) for name in ARRAYS}
        parts |= {"affine_lps": self.grid.affine_lps, "energy_kev": np.float64(self.energy_kev)}
        for name, values in parts.items():
            array = np.asarray(values)
            digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<"), order="C").tobytes())
        return digest.hexdigest()


def previewed(
    patient: "Patient", expected: "Expected", noise: np.random.Generator, about: Mapping[str, Any]
) -> PatientArrays:
    """Arrays that a cohort stores of a patient's study: preview images of all windows, and the truth on their grid.

    The map is at the energy of the photopeak's line.

    Parameters
    ----------
    patient
        Head and uptake.
    expected
        Counts of the patient's study before noise.
    noise
        Generator of the noise.
    about
        Parameters that come before the others.

    Returns
    -------
    PatientArrays
        Arrays and parameters, ready for a shard.
    """
    head, uptake, study = patient.head, patient.uptake, expected.study(noise)
    parts = np.stack([part[0] for part in (expected.primary, expected.scatter, expected.high_energy)])
    solver = StudySolver(study, ReconstructionSettings(scatter="none", photopeak=WINDOWS[0], device="cpu"))
    grid = solver.preview().grid
    there = np.array([any(window.name == name for window in study.windows) for name in WINDOWS])
    preview = np.zeros((len(WINDOWS), *grid.shape), np.float32)
    for row in np.flatnonzero(there):
        preview[row] = solver.preview(WINDOWS[row]).values
    whole = head.mu(solver.energy_kev).per_cm
    mu = MuMap(resample(whole, head.grid, grid), grid, solver.energy_kev)
    counts = study.counts.sum(axis=(1, 2, 3), dtype=np.float64)
    parameters = {
        **about,
        "tracer": uptake.tracer,
        "nuclide": uptake.nuclide,
        "counts": {window.name: float(n) for window, n in zip(study.windows, counts, strict=True)},
        "head": dict(head.parameters),
        "uptake": dict(uptake.parameters),
    }
    return PatientArrays(
        grid,
        preview,
        there,
        recovered=solver.preview(recovered=True).values,
        mu_per_cm=np.asarray(mu.per_cm),
        head_mu_per_cm=resample(whole * np.isin(head.labels, BESIDE, invert=True), head.grid, grid),
        activity_kbq_per_ml=resample(uptake.kbq_per_ml, head.grid, grid),
        labels=nearest(head.labels, head.grid, grid),
        correction=correction(study.acquisition, expected.primary[0], mu),
        counts=study.counts[0],
        expected=np.minimum(parts, np.finfo(np.float16).max).astype(np.float16),
        energy_kev=solver.energy_kev,
        parameters=parameters,
    )


def correction(acquisition: Acquisition, primary: Array, mu: MuMap) -> Array:
    """Ratio (z, y, x) on the map's grid of two previews of primary photons (v, z, u): with the map over without it.

    0 where the uncorrected one lies below LEAST_SHARE of its maximum.

    Parameters
    ----------
    acquisition
        Views and detector.
    primary
        (v, z, u) expected counts without scatter.
    mu
        True map.

    Returns
    -------
    Array
        float32 (z, y, x).

    Examples
    --------
    >>> from spectac.simulate.scanner import Scanner
    >>> acquisition = Scanner("tiny", "siemens-lehr", matrix=(8, 8), pixel_mm=16.0, views=16).acquisition("Tc-99m")
    >>> air = MuMap(np.zeros((8, 8, 8)), Grid.upright((8, 8, 8), (16.0,) * 3, (-56.0,) * 3), 140.5)
    >>> factors = correction(acquisition, np.ones((16, 8, 8), np.float32), air)
    >>> float(factors.min()), float(factors.max())
    (1.0, 1.0)
    """
    plain, corrected = (
        resample(image.values, image.grid, mu.grid)
        for image in (preview_image(acquisition, primary), preview_image(acquisition, primary, mu))
    )
    seen = plain > LEAST_SHARE * plain.max()
    return np.divide(corrected, plain, out=np.zeros_like(plain), where=seen)


def nearest(labels: Array, from_grid: Grid, to_grid: Grid) -> Array:
    """Labels (z, y, x) of one upright grid at the centres of another's voxels; 0 beyond its outermost voxels.

    Parameters
    ----------
    labels
        (z, y, x) uint8 of regions.LABEL.
    from_grid
        Upright grid of the labels.
    to_grid
        Upright grid of the result.

    Returns
    -------
    Array
        uint8 (z, y, x) on the new grid.

    Examples
    --------
    >>> coarse = Grid.upright((1, 1, 2), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> fine = Grid.upright((1, 1, 5), (4.0, 4.0, 2.0), (-1.0, 0.0, 0.0))
    >>> nearest(np.array([[[3, 7]]], np.uint8), coarse, fine).tolist()
    [[[3, 3, 7, 7, 0]]]
    """
    out = labels
    for axis, (old, new) in enumerate(zip(from_grid.centres_mm(), to_grid.centres_mm(), strict=True)):
        index = np.rint((new - old[0]) / from_grid.voxel_mm[axis]).astype(np.int64)
        beyond = (index < 0) | (index >= old.size)
        out = np.take(out, np.clip(index, 0, old.size - 1), axis=axis)
        out[(slice(None),) * axis + (beyond,)] = 0
    return out
