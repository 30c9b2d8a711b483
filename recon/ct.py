"""CT: Hounsfield units to mu at a photon energy, and where the CT lies relative to the SPECT image.

HU to mu. The HU of reference tissues are computed for the series' tube voltage, and the curve runs through the points
(HU, mu at the photon energy), straight from one tissue to the next. The beam: Kramers' bremsstrahlung (photons per keV
in proportion to (E0 - E)/E; Kramers, Phil Mag 1923;46:836, doi:10.1080/14786442308565244) behind BEAM_ALUMINIUM_MM and
BEAM_COPPER_MM, which stand for the tube's own filter, the bow-tie and the absorption in the anode that Kramers leaves
out, and behind BEAM_WATER_CM of water, the chord of a head for which scanners are calibrated; the detector integrates
energy. The metal was chosen so that both bones come within 1 % of the lines that Carney et al. measured at 80, 100, 120
and 140 kV for 511 keV (Med Phys 2006;33:976, doi:10.1118/1.2174132), which a test checks. Cross-sections: xraylib.
Tissues: ICRP compositions; cranium and cortical bone after ICRU 44.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation

from spectac.recon import filters
from spectac.recon.ct_body import body_mask
from spectac.recon.device import cpu_threads
from spectac.recon.errors import InputError, MissingExtraError
from spectac.recon.resample import resample
from spectac.recon.rigid import RigidShift
from spectac.recon.types import Array, Grid, Image, MuMap

BLUR_FWHM_MM = 8.0
"""Blur of a CT's mu-map by default: what is left of a SPECT image's resolution after its reconstruction."""
COARSE_MM = 2.0
"""Mu-maps are averaged to voxels of at most this (or the CT's own, where larger) before they are blurred."""

REGISTRATION_KEV = 140.511
REGISTRATION_FWHM_MM = 8.0
"""Blur of both images before registration. With noise of 28 % in 4 mm voxels of an independent head the error of the
angles was 0.3-1.2 deg with this blur of the SPECT image and 0.4-3 deg without; 12 mm for the CT was no better."""
HEAD_ML, HEAD_SHARE, HOT_SHARE = 400.0, 0.15, 1.3
"""A SPECT head's level is what 400 mL exceed; the head is what exceeds 0.15 of it; hotter foci are cut at 1.3 of it."""
MASK_MM = 24.0
HEAD_RADIUS_MM = 80.0
OUTSIDE_SHARE = 0.1
"""Share of the SPECT activity outside the registered CT body beyond which the registration is doubted."""

BEAM_ALUMINIUM_MM = 9.0
BEAM_COPPER_MM = 0.4
BEAM_WATER_CM = 20.0
LOWEST_KV, HIGHEST_KV, USUAL_KV = 70.0, 150.0, 120.0
"""Tube voltages of clinical scanners."""
CHECKED_KV = (80.0, 140.0)
"""Range in which the beam was compared with measurements; beyond it the same model is used, with a warning."""

_COMPOUNDS = {
    "air": (0.0012, "Air, Dry (near sea level)"),
    "lung": (0.26, "Lung (ICRP)"),
    "adipose": (0.95, "Adipose Tissue (ICRP)"),
    "water": (1.0, "Water, Liquid"),
    "brain": (1.04, "Brain (ICRP)"),
}
"""Density in g/cm3 and NIST's name of the composition, from thin to dense."""
_BONES = {
    "cranium": (1.61, {1: 5.0, 6: 21.2, 7: 4.0, 8: 43.5, 11: 0.1, 12: 0.2, 15: 8.1, 16: 0.3, 20: 17.6}),
    "cortical": (1.92, {1: 3.4, 6: 15.5, 7: 4.2, 8: 43.5, 11: 0.1, 12: 0.2, 15: 10.3, 16: 0.3, 20: 22.5}),
}
"""Density in g/cm3 and percent by mass of each element Z (ICRU Report 44, 1989)."""
TISSUES = (*_COMPOUNDS, *_BONES)


@dataclass(frozen=True, eq=False)
class CTVolume:
    """CT numbers: `hu` (z, y, x) float32 on `grid`, taken with `kvp` kilovolts (None: unknown, 120 is assumed).

    The grid may be tilted. `covered` (z, y, x) is False where the scanner reconstructed nothing (outside a round field
    of view, padding); None: everywhere covered. `patient` holds DICOM keywords and their text, `history` what was done
    while reading.
    """

    hu: Array
    grid: Grid
    kvp: float | None
    frame_of_reference_uid: str | None = None
    _: KW_ONLY
    covered: Array | None = None
    patient: Mapping[str, str] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        hu = np.ascontiguousarray(self.hu, dtype=np.float32)
        if hu.shape != self.grid.shape:
            raise InputError(f"CT numbers (z, y, x) need the shape of their grid {self.grid.shape}, got {hu.shape}")
        low, high = float(hu.min()), float(hu.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError("CT numbers hold NaN or infinity")
        if self.covered is not None and self.covered.shape != hu.shape:
            raise InputError(f"a CT's covered voxels need the shape of its grid {hu.shape}, got {self.covered.shape}")
        warnings = list(self.warnings)
        if self.kvp is None:
            warnings.append(
                f"the CT's tube voltage (KVP) is unknown: {USUAL_KV:g} kV is assumed; --tube-voltage-kv gives it"
            )
        else:
            check_kvp(self.kvp)
            if not CHECKED_KV[0] <= self.kvp <= CHECKED_KV[1]:
                low, high = CHECKED_KV
                warnings.append(
                    f"the CT's tube voltage is {self.kvp:g} kV (KVP): the curve from HU to mu was compared with "
                    f"measurements from {low:g} to {high:g} kV only; a tin filter is not modelled"
                )
        hu = hu.view()
        hu.flags.writeable = False
        object.__setattr__(self, "hu", hu)
        object.__setattr__(self, "patient", dict(self.patient))
        object.__setattr__(self, "history", tuple(self.history))
        object.__setattr__(self, "warnings", tuple(dict.fromkeys(warnings)))


def tissue_per_cm(tissue: str, energy_kev: float) -> float:
    """Narrow-beam attenuation coefficient of one of TISSUES in 1/cm, coherent scattering included (xraylib)."""
    import xraylib

    if tissue in _COMPOUNDS:
        density, name = _COMPOUNDS[tissue]
        return density * float(xraylib.CS_Total_CP(name, float(energy_kev)))
    if tissue not in _BONES:
        raise InputError(f"tissue {tissue!r} is not one of {', '.join(TISSUES)}")
    density, percent = _BONES[tissue]
    shares = {z: share / sum(percent.values()) for z, share in percent.items()}
    return density * float(sum(share * xraylib.CS_Total(z, float(energy_kev)) for z, share in shares.items()))


def beam(kvp: float) -> tuple[Array, Array]:
    """Energies in keV, 1 keV apart, and each one's share of the signal behind the filters and 20 cm of water."""
    import xraylib

    check_kvp(kvp)
    energies = np.arange(10.5, kvp, 1.0)
    depth = [
        xraylib.CS_Total(13, e) * 2.699 * BEAM_ALUMINIUM_MM / 10.0
        + xraylib.CS_Total(29, e) * 8.96 * BEAM_COPPER_MM / 10.0
        + tissue_per_cm("water", e) * BEAM_WATER_CM
        for e in energies.tolist()
    ]
    # (E0 - E)/E photons, each of which leaves the energy E in the detector.
    signal = (kvp - energies) * np.exp(-np.asarray(depth))
    return energies, signal / signal.sum()


@lru_cache(maxsize=64)
def tissue_hu(kvp: float) -> tuple[float, ...]:
    """CT numbers of TISSUES at that tube voltage, in HU."""
    energies, share = beam(kvp)
    mean = {name: sum(tissue_per_cm(name, e) * w for e, w in zip(energies, share, strict=True)) for name in TISSUES}
    water, air = mean["water"], mean["air"]
    return tuple(float(1000.0 * (value - water) / (water - air)) for value in mean.values())


@lru_cache(maxsize=256)
def tissue_mu(energy_kev: float) -> tuple[float, ...]:
    """Attenuation coefficients of TISSUES at that energy, in 1/cm."""
    if not 30.0 <= energy_kev <= 800.0:
        raise InputError(f"mu is known from 30 to 800 keV, not at {energy_kev:g} keV")
    return tuple(tissue_per_cm(name, energy_kev) for name in TISSUES)


def hu_to_mu(hu: Array, kvp: float | None, energy_kev: float) -> Array:
    """Attenuation coefficients in 1/cm, float32, of CT numbers in HU taken at `kvp` (None: 120), at `energy_kev`.

    Below air it is air's, beyond cortical bone the last straight line goes on.
    Raises InputError for a tube voltage outside 70 to 150 kV and an energy outside 30 to 800 keV.
    """
    return _interpolated(
        np.asarray(hu), tissue_hu(float(USUAL_KV if kvp is None else kvp)), tissue_mu(float(energy_kev))
    )


def scale_energy(mu: MuMap, to_kev: float) -> MuMap:
    """The same head's mu-map at another photon energy.

    Each voxel is taken for the mixture of two neighbouring tissues of the HU curve that has its coefficient at the
    map's own energy, and gets that mixture's coefficient at `to_kev`. A broad-beam map is scaled by the same ratios.
    """
    known, wanted = tissue_mu(float(mu.energy_kev)), tissue_mu(float(to_kev))
    per_cm = _interpolated(mu.per_cm, known, wanted)
    # Below air its own ratio holds, so that 0 stays 0.
    per_cm = np.where(mu.per_cm < known[0], mu.per_cm * np.float32(wanted[0] / known[0]), per_cm)
    return MuMap(per_cm, mu.grid, to_kev)


def mu_map(
    volume: CTVolume, energy_kev: float, *, blur_fwhm_mm: float = BLUR_FWHM_MM, remove_table: bool = False
) -> MuMap:
    """Mu-map of a CT at `energy_kev`, on the CT's own grid with its voxels averaged to about 2 mm, and blurred.

    Voxels shorter than 1 mm are averaged in whole numbers of them, up to COARSE_MM, after the conversion: what a SPECT
    system sees is the mean of mu, and the curve is not straight. Then a Gaussian of `blur_fwhm_mm` (0: none).
    `remove_table` sets what is not the patient to air first. Memory: 4 bytes a coarse voxel, three times.
    """
    factors = coarse_factors(volume.grid)
    grid = coarse_grid(volume.grid, factors)
    per_cm = np.empty(grid.shape, np.float32)
    for z in range(grid.shape[0]):
        block = volume.hu[z * factors[0] : (z + 1) * factors[0]]
        per_cm[z] = _block_mean(hu_to_mu(block, volume.kvp, energy_kev).mean(axis=0), factors[1:])
    mu = MuMap(per_cm, grid, energy_kev)
    if remove_table:
        mu = without_table(mu)
    if blur_fwhm_mm == 0:
        return mu
    return MuMap(filters.gaussian(mu.per_cm, grid.voxel_mm, blur_fwhm_mm), grid, energy_kev)


def without_table(mu: MuMap) -> MuMap:
    """Mu-map with everything but the largest body (see ct_body.body_mask) set to air."""
    air, water = (tissue_mu(float(mu.energy_kev))[TISSUES.index(name)] for name in ("air", "water"))
    return MuMap(np.where(body_mask(mu, water), mu.per_cm, np.float32(air)), mu.grid, mu.energy_kev)


def coarse_factors(grid: Grid) -> tuple[int, ...]:
    """How many of a CT's voxels (z, y, x) make one of its mu-map."""
    return tuple(max(1, int(COARSE_MM / length + 1e-3)) for length in grid.voxel_mm)


def coarse_grid(grid: Grid, factors: tuple[int, ...]) -> Grid:
    """Grid whose voxels hold `factors` (z, y, x) voxels of `grid`; the last along an axis may stick out."""
    shape = tuple(-(-size // factor) for size, factor in zip(grid.shape, factors, strict=True))
    voxel_mm = tuple(length * factor for length, factor in zip(grid.voxel_mm, factors, strict=True))
    affine = np.array(grid.affine_lps)
    affine[:3, 3] += affine[:3, :3] @ (0.5 * (np.array(factors) - 1.0))
    affine[:3, :3] *= factors
    return Grid((shape[0], shape[1], shape[2]), (voxel_mm[0], voxel_mm[1], voxel_mm[2]), affine)


def _block_mean(plane: Array, factors: tuple[int, ...]) -> Array:
    """Mean over blocks of (y, x); a block that sticks out repeats the plane's border."""
    fy, fx = factors
    padded = np.pad(plane, [(0, -plane.shape[0] % fy), (0, -plane.shape[1] % fx)], mode="edge")
    return np.asarray(padded.reshape(padded.shape[0] // fy, fy, -1, fx).mean(axis=(1, 3)))


def _interpolated(values: Array, knots: tuple[float, ...], results: tuple[float, ...]) -> Array:
    """Piecewise straight curve, constant below the first knot and going on straight beyond the last; float32."""
    out = np.interp(values, knots, results)
    beyond = values > knots[-1]
    if beyond.any():
        slope = (results[-1] - results[-2]) / (knots[-1] - knots[-2])
        out[beyond] = results[-1] + slope * (values[beyond] - knots[-1])
    return np.asarray(out, dtype=np.float32)


def check_kvp(kvp: float, given_by: str = "") -> None:
    """Raise InputError for a tube voltage that no clinical scanner has; `given_by` names the user's option."""
    if not LOWEST_KV <= kvp <= HIGHEST_KV:
        way_out = "(KVP): give the true one with --tube-voltage-kv (Python: tube_voltage_kv)"
        raise InputError(
            f"CT numbers can be converted for tube voltages of {LOWEST_KV:g} to {HIGHEST_KV:g} kV, not for {kvp:g} kV "
            f"{f'({given_by})' if given_by else way_out}"
        )


def register(ct: CTVolume | MuMap, spect: Image) -> RigidShift:
    """Rigid motion that carries the CT head onto an uncorrected SPECT image (Solver.preview()).

    Apply it with `moved` to the mu-map: its grid is tilted, nothing is interpolated. The motion maximises the mutual
    information (Mattes et al., IEEE Trans Med Imaging 2003;22:120, doi:10.1109/TMI.2003.809072) of the body's blurred
    mu and the SPECT values around the head, by Powell's search on 8 mm and then 4 mm voxels, from the best of three
    starts: as the headers place them, heads centred on each other, crowns at one height. Where the CT cuts the body,
    nothing is concluded from what lies beyond; elsewhere air goes on. RigidShift.warning speaks from 10 mm or 5 deg on;
    `warnings` says when much of the activity lies outside the registered body.
    Raises InputError where SimpleITK (extra `ct`) is missing, where there is no head in either, or no overlap.

    Assumes: rotations up to about 20 deg; shifts of any length, for heads are found first.
    """
    sitk = _simpleitk()
    mu = mu_map(ct, REGISTRATION_KEV, blur_fwhm_mm=0) if isinstance(ct, CTVolume) else ct
    air, water = (tissue_mu(float(mu.energy_kev))[TISSUES.index(name)] for name in ("air", "water"))
    body = body_mask(mu, water)
    per_cm, grid = _with_air_around(np.where(body, mu.per_cm, np.float32(air)), body, mu.grid, air)
    moving = _sitk_image(sitk, filters.gaussian(per_cm, grid.voxel_mm, REGISTRATION_FWHM_MM), grid)
    values, head = _spect_head(spect)
    fixed = _sitk_image(sitk, values, spect.grid)
    mask = _sitk_image(sitk, binary_dilation(head, iterations=round(MASK_MM / max(spect.grid.voxel_mm))), spect.grid)
    ct_places, spect_places = _places(body, mu.grid), _places(head, spect.grid)
    starts = [np.zeros(3), *(there - here for here, there in zip(spect_places, ct_places, strict=True))]
    # SimpleITK's transform goes from the fixed to the moving image: from SPECT to CT, about the SPECT head's centre.
    apart = [start for n, start in enumerate(starts) if all(np.linalg.norm(start - one) > 5.0 for one in starts[:n])]
    coarse = [_search(sitk, fixed, moving, mask, spect_places[0], [0, 0, 0, *start], shrink=2) for start in apart]
    _, best = min(coarse, key=lambda found: found[0])
    if not best:
        raise InputError("the CT and the SPECT image could not be registered: their heads do not overlap")
    _, best = _search(sitk, fixed, moving, mask, spect_places[0], best, shrink=1)
    transform = sitk.Euler3DTransform()
    transform.SetCenter(spect_places[0].tolist())
    transform.SetParameters(best)
    to_ct = np.eye(4)
    to_ct[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    to_ct[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    x, y, z = ct_places[0].tolist()
    shift = RigidShift.from_matrix(np.linalg.inv(to_ct), (x, y, z))
    outside = _share_outside(values, spect.grid, body, shift.moved_grid(mu.grid), shift.moved_grid(grid))
    if outside > OUTSIDE_SHARE:
        note = f"after registration {outside:.0%} of the SPECT activity lies outside the CT's body: check the overlay"
        return replace(shift, warnings=(note,))
    return shift


def _simpleitk() -> Any:
    try:
        import SimpleITK
    except ImportError:
        raise MissingExtraError("registering a CT needs SimpleITK", "ct") from None
    return SimpleITK


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
    """Map with 100 mm of air added at every face that the body does not touch."""
    pads = []
    for axis, length in enumerate(grid.voxel_mm):
        touched = np.asarray(body.any(axis=tuple(other for other in range(3) if other != axis)))
        many = round(100.0 / length)
        pads.append((0 if touched[0] else many, 0 if touched[-1] else many))
    affine = np.array(grid.affine_lps)
    affine[:3, 3] -= affine[:3, :3] @ np.array([before for before, _ in pads], float)
    padded = np.pad(per_cm, pads, mode="constant", constant_values=air)
    size = padded.shape
    return padded, Grid((size[0], size[1], size[2]), grid.voxel_mm, affine)


def _share_outside(values: Array, grid: Grid, body: Array, body_grid: Grid, known_grid: Grid) -> float:
    """Share of the activity outside the body, where the CT tells what is there (inside `known_grid`)."""
    known = values * resample(np.ones(known_grid.shape, np.float32), known_grid, grid)
    return float((known * (1.0 - resample(body, body_grid, grid))).sum() / max(float(known.sum()), 1e-30))


def _sitk_image(sitk: Any, values: Array, grid: Grid) -> Any:
    kind = np.uint8 if values.dtype == bool else np.float32
    image = sitk.GetImageFromArray(np.ascontiguousarray(values, dtype=kind))
    along = grid.affine_lps[:3, [2, 1, 0]] / np.array(grid.voxel_mm[::-1])
    image.SetOrigin(grid.affine_lps[:3, 3].tolist())
    image.SetSpacing(grid.voxel_mm[::-1])
    image.SetDirection(along.ravel().tolist())
    return image


def _search(
    sitk: Any, fixed: Any, moving: Any, mask: Any, centre: Array, start: Sequence[float], *, shrink: int
) -> tuple[float, tuple[float, ...]]:
    """Negative mutual information and the parameters (3 angles in rad, x, y, z mm) found; (inf, ()) without overlap."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetMetricFixedMask(mask)
    method.SetInterpolator(sitk.sitkLinear)
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
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetParameters([float(value) for value in start])
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError:
        # ITK's way to say that too few points of the SPECT head fall into the CT.
        return np.inf, ()
    return float(method.GetMetricValue()), tuple(transform.GetParameters())
