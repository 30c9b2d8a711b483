"""CT numbers (HU) to attenuation coefficients at a photon energy.

The HU of reference tissues are computed for the series' tube voltage. The curve runs through the points (HU, mu at the
photon energy), straight from one tissue to the next.

The beam is Kramers' bremsstrahlung, photons per keV in proportion to (E0 - E)/E (Kramers, Phil Mag 1923;46:836,
doi:10.1080/14786442308565244), behind aluminium, copper and water. The metal stands for the tube's own filter, the
bow-tie and the absorption in the anode that Kramers leaves out. The water is the chord of a head for which scanners are
calibrated. The detector integrates energy. The metal was chosen so that both bones come within 1 % of the lines that
Carney et al. measured at 80, 100, 120 and 140 kV for 511 keV (Med Phys 2006;33:976, doi:10.1118/1.2174132), which a
test checks. Cross-sections: xraylib. Tissues: recon.tissues; cranium and cortical bone are those of ICRU 44.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache

import numpy as np

from spectac.recon import filters
from spectac.recon.ct_body import body_mask
from spectac.recon.errors import InputError
from spectac.recon.tissues import elements, material
from spectac.recon.types import Array, Grid, MuMap

BLUR_FWHM_MM = 8.0
"""Blur of a CT's mu-map by default: what is left of a SPECT image's resolution after its reconstruction."""
COARSE_MM = 2.0
"""Mu-maps are averaged to voxels of at most this (or the CT's own, where larger) before they are blurred."""
BEAM_ALUMINIUM_MM = 9.0
"""Aluminium behind which the beam is computed."""
BEAM_COPPER_MM = 0.4
"""Copper behind which the beam is computed."""
BEAM_WATER_CM = 20.0
"""Water behind which the beam is computed."""
LOWEST_KV, HIGHEST_KV = 70.0, 150.0
"""Range of tube voltages of clinical scanners."""
USUAL_KV = 120.0
"""Tube voltage that is assumed where it is unknown."""
CHECKED_KV = (80.0, 140.0)
"""Range in which the beam was compared with measurements; beyond it the same model is used, with a warning."""
TABULATED_KEV = (30.0, 800.0)
"""Range of photon energies."""

TISSUES = ("air", "lung", "adipose", "water", "brain", "cranium (ICRU 44)", "cortical bone (ICRU 44)")
"""Materials of recon.tissues that the curve from HU to mu runs through, from thin to dense."""
BESIDE_TISSUES = ("air", "water", "plastic", "cortical bone (ICRU 44)")
"""The same for what lies beside a patient: denser than water it is plastic before it is bone."""


@dataclass(frozen=True, eq=False)
class CTVolume:
    """CT image.

    Parameters
    ----------
    hu
        CT numbers (z, y, x), float32.
    grid
        Voxel grid, which may be tilted.
    kvp
        Tube voltage in kV; None: unknown, 120 is assumed.
    frame_of_reference_uid
        DICOM's FrameOfReferenceUID.
    covered
        False (z, y, x) where the scanner reconstructed nothing: outside a round field of view, padding. None:
        everywhere covered.
    patient
        Text by DICOM keyword.
    history
        What was done while reading, for readers.
    warnings
        What looks wrong, for readers; a doubtful tube voltage is added.

    Raises
    ------
    InputError
        For another shape, values that are not finite, and a tube voltage that no clinical scanner has.

    Examples
    --------
    >>> grid = Grid.upright((1, 4, 4), (2.0, 1.0, 1.0), (-1.5, -1.5, 0.0))
    >>> CTVolume(np.zeros(grid.shape), grid, kvp=120.0).warnings
    ()
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
    """Narrow-beam attenuation coefficient of a tissue, coherent scattering included (xraylib).

    Parameters
    ----------
    tissue
        A material of recon.tissues.
    energy_kev
        Energy of the photons in keV.

    Returns
    -------
    float
        Coefficient in 1/cm.

    Raises
    ------
    InputError
        For another tissue.

    Examples
    --------
    >>> round(tissue_per_cm("water", 140.5), 4)
    0.1537
    """
    import xraylib

    density = material(tissue).density_g_per_cm3
    return density * float(sum(share * xraylib.CS_Total(z, float(energy_kev)) for z, share in elements(tissue)))


def beam(kvp: float) -> tuple[Array, Array]:
    """Spectrum of a CT's signal behind the filters and 20 cm of water.

    Parameters
    ----------
    kvp
        Tube voltage in kV.

    Returns
    -------
    tuple of arrays
        Energies (n,) in keV, 1 keV apart, and the share (n,) of each in the signal.

    Raises
    ------
    InputError
        For a tube voltage outside 70 to 150 kV.

    Examples
    --------
    >>> energies, share = beam(120.0)
    >>> round(float((energies * share).sum()))
    82
    """
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
def tissue_hu(kvp: float, tissues: tuple[str, ...] = TISSUES) -> tuple[float, ...]:
    """CT numbers of tissues.

    Parameters
    ----------
    kvp
        Tube voltage in kV.
    tissues
        Materials of recon.tissues.

    Returns
    -------
    tuple of floats
        CT numbers in HU.

    Examples
    --------
    >>> [round(hu) for hu in tissue_hu(120.0)[:4]]
    [-1000, -742, -71, 0]
    """
    energies, share = beam(kvp)

    def mean(name: str) -> float:
        return sum(tissue_per_cm(name, e) * w for e, w in zip(energies.tolist(), share.tolist(), strict=True))

    water, air = mean("water"), mean("air")
    return tuple(1000.0 * (mean(name) - water) / (water - air) for name in tissues)


@lru_cache(maxsize=256)
def tissue_mu(energy_kev: float, tissues: tuple[str, ...] = TISSUES) -> tuple[float, ...]:
    """Attenuation coefficients of tissues.

    Parameters
    ----------
    energy_kev
        Energy of the photons in keV.
    tissues
        Materials of recon.tissues.

    Returns
    -------
    tuple of floats
        Coefficients in 1/cm.

    Raises
    ------
    InputError
        For an energy outside 30 to 800 keV.

    Examples
    --------
    >>> round(tissue_mu(140.5)[-1], 3)
    0.293
    """
    low, high = TABULATED_KEV
    if not low <= energy_kev <= high:
        raise InputError(f"mu is known from {low:g} to {high:g} keV, not at {energy_kev:g} keV")
    return tuple(tissue_per_cm(name, energy_kev) for name in tissues)


def hu_to_mu(hu: Array, kvp: float | None, energy_kev: float, tissues: tuple[str, ...] = TISSUES) -> Array:
    """Attenuation coefficients of CT numbers.

    Below air the coefficient is that of air; beyond the densest tissue the last straight line goes on.

    Parameters
    ----------
    hu
        CT numbers of any shape.
    kvp
        Tube voltage in kV; None: 120.
    energy_kev
        Energy of the photons in keV.
    tissues
        Materials that the curve runs through, from thin to dense.

    Returns
    -------
    Array
        Coefficients in 1/cm, float32.

    Raises
    ------
    InputError
        For a tube voltage outside 70 to 150 kV, and an energy outside 30 to 800 keV.

    Examples
    --------
    >>> hu_to_mu(np.array([-1000.0, 0.0]), 120.0, 140.5).round(3).tolist()
    [0.0, 0.15399999916553497]
    """
    kvp = float(USUAL_KV if kvp is None else kvp)
    return _interpolated(np.asarray(hu), tissue_hu(kvp, tissues), tissue_mu(float(energy_kev), tissues))


def scale_energy(mu: MuMap, to_kev: float) -> MuMap:
    """Mu-map of the same object at another photon energy.

    Each voxel is taken for the mixture of two neighbouring tissues of the HU curve that has its coefficient at the
    map's energy. It gets the coefficient of that mixture at the new energy. A broad-beam map is scaled by the same
    ratios.

    Parameters
    ----------
    mu
        Map at any energy from 30 to 800 keV.
    to_kev
        New energy in keV.

    Returns
    -------
    MuMap
        Map on the same grid.

    Raises
    ------
    InputError
        For an energy outside 30 to 800 keV.

    Examples
    --------
    >>> grid = Grid.upright((1, 1, 1), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> round(float(scale_energy(MuMap([[[0.1537]]], grid, 140.5), 159.0).per_cm[0, 0, 0]), 4)
    0.1478
    """
    before, after = tissue_mu(float(mu.energy_kev)), tissue_mu(float(to_kev))
    per_cm = _interpolated(mu.per_cm, before, after)
    # Below air the ratio of air holds, so that 0 stays 0.
    per_cm = np.where(mu.per_cm < before[0], mu.per_cm * np.float32(after[0] / before[0]), per_cm)
    return MuMap(per_cm, mu.grid, to_kev)


def mu_map(
    volume: CTVolume,
    energy_kev: float,
    *,
    blur_fwhm_mm: float = BLUR_FWHM_MM,
    remove_table: bool = False,
    tissues: tuple[str, ...] = TISSUES,
) -> MuMap:
    """Mu-map of a CT on its own grid, with voxels averaged to at most 2 mm, and blurred.

    Voxels are averaged in whole numbers after the conversion: a SPECT system sees the mean of mu, and the curve is not
    straight. Memory: 4 bytes a coarse voxel, three times.

    Parameters
    ----------
    volume
        CT numbers.
    energy_kev
        Energy of the photons in keV.
    blur_fwhm_mm
        FWHM of the Gaussian in mm; 0: none.
    remove_table
        Set everything but the patient to air first.
    tissues
        Materials that the curve runs through, from thin to dense.

    Returns
    -------
    MuMap
        Map at `energy_kev`.

    Raises
    ------
    InputError
        For an energy outside 30 to 800 keV.

    Examples
    --------
    >>> grid = Grid.upright((4, 16, 16), (2.0, 1.0, 1.0), (-7.5, -7.5, 0.0))
    >>> mu_map(CTVolume(np.zeros(grid.shape), grid, 120.0), 140.5).grid.shape
    (4, 8, 8)
    """
    factors = coarse_factors(volume.grid)
    grid = coarse_grid(volume.grid, factors)
    per_cm = np.empty(grid.shape, np.float32)
    for z in range(grid.shape[0]):
        block = volume.hu[z * factors[0] : (z + 1) * factors[0]]
        per_cm[z] = _blocks(hu_to_mu(block, volume.kvp, energy_kev, tissues).mean(axis=0), factors).mean(axis=(1, 3))
    if remove_table:
        per_cm, _ = body_alone(MuMap(per_cm, grid, energy_kev))
    return MuMap(filters.gaussian(per_cm, grid.voxel_mm, blur_fwhm_mm), grid, energy_kev)


def air_and_water(mu: MuMap) -> tuple[float, float]:
    """Coefficients of air and water at the energy of a map.

    Parameters
    ----------
    mu
        Map with an energy from 30 to 800 keV.

    Returns
    -------
    tuple of floats
        Coefficients in 1/cm.

    Examples
    --------
    >>> grid = Grid.upright((1, 1, 1), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> round(air_and_water(MuMap([[[0.15]]], grid, 140.5))[1], 4)
    0.1537
    """
    coefficients = tissue_mu(float(mu.energy_kev))
    return coefficients[TISSUES.index("air")], coefficients[TISSUES.index("water")]


def body_alone(mu: MuMap) -> tuple[Array, Array]:
    """Map of a CT with everything but the patient set to air.

    Parameters
    ----------
    mu
        Map of a CT.

    Returns
    -------
    tuple of arrays
        Coefficients (z, y, x) in 1/cm, and the mask (z, y, x) of the patient (`ct_body.body_mask`).

    Raises
    ------
    InputError
        Where nothing is as dense as tissue.

    Examples
    --------
    >>> grid = Grid.upright((8, 32, 32), (4.0, 4.0, 4.0), (-62.0, -62.0, 0.0))
    >>> per_cm, body = body_alone(MuMap(np.full(grid.shape, 0.15), grid, 140.5))
    >>> bool(body.all())
    True
    """
    air, water = air_and_water(mu)
    body = body_mask(mu, water)
    return np.where(body, mu.per_cm, np.float32(air)), body


def coarse_factors(grid: Grid) -> tuple[int, ...]:
    """How many of a CT's voxels make one of its mu-map.

    Parameters
    ----------
    grid
        Grid of the CT.

    Returns
    -------
    tuple of ints
        Factors (z, y, x).

    Examples
    --------
    >>> coarse_factors(Grid.upright((4, 16, 16), (3.0, 0.5, 0.5), (0.0, 0.0, 0.0)))
    (1, 4, 4)
    """
    return tuple(max(1, int(COARSE_MM / length + 1e-3)) for length in grid.voxel_mm)


def coarse_grid(grid: Grid, factors: tuple[int, ...]) -> Grid:
    """Grid of larger voxels.

    Parameters
    ----------
    grid
        Grid with any orientation.
    factors
        How many of its voxels (z, y, x) make one of the new grid.

    Returns
    -------
    Grid
        Grid whose last voxels may stick out.

    Examples
    --------
    >>> coarse_grid(Grid.upright((4, 5, 5), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), (2, 2, 2)).shape
    (2, 3, 3)
    """
    shape = tuple(-(-size // factor) for size, factor in zip(grid.shape, factors, strict=True))
    voxel_mm = tuple(length * factor for length, factor in zip(grid.voxel_mm, factors, strict=True))
    affine = np.array(grid.affine_lps)
    affine[:3, 3] += affine[:3, :3] @ (0.5 * (np.array(factors) - 1.0))
    affine[:3, :3] *= factors
    return Grid((shape[0], shape[1], shape[2]), (voxel_mm[0], voxel_mm[1], voxel_mm[2]), affine)


def covered_on(covered: Array | None, grid: Grid, factors: tuple[int, ...]) -> Array | None:
    """Coverage of a CT on its mu-map's coarser grid.

    Parameters
    ----------
    covered
        True (z, y, x) where the CT holds data; None: everywhere.
    grid
        Grid of the map (`coarse_grid`).
    factors
        How many voxels (z, y, x) of the CT make one of the map.

    Returns
    -------
    Array or None
        True (z, y, x) where all of a voxel holds data; None: everywhere.

    Examples
    --------
    >>> grid = Grid.upright((1, 1, 2), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    >>> covered_on(np.array([[[True, True, True, False]]]), grid, (1, 1, 2)).tolist()
    [[[True, False]]]
    """
    if covered is None:
        return None
    step = factors[0]
    planes = (np.asarray(covered[z * step : (z + 1) * step].all(axis=0)) for z in range(grid.shape[0]))
    return np.stack([_blocks(plane, factors).all(axis=(1, 3)) for plane in planes])


def _blocks(plane: Array, factors: tuple[int, ...]) -> Array:
    """Blocks (y, factor, x, factor) of a plane (y, x); a block that sticks out repeats the plane's border."""
    _, fy, fx = factors
    padded = np.pad(plane, [(0, -plane.shape[0] % fy), (0, -plane.shape[1] % fx)], mode="edge")
    return np.asarray(padded.reshape(padded.shape[0] // fy, fy, -1, fx))


def _interpolated(values: Array, knots: tuple[float, ...], results: tuple[float, ...]) -> Array:
    """Piecewise straight curve, constant below the first knot and going on straight beyond the last; float32."""
    out = np.interp(values, knots, results)
    beyond = values > knots[-1]
    if beyond.any():
        slope = (results[-1] - results[-2]) / (knots[-1] - knots[-2])
        out[beyond] = results[-1] + slope * (values[beyond] - knots[-1])
    return np.asarray(out, dtype=np.float32)


def check_kvp(kvp: float, given_by: str = "") -> None:
    """Check that a clinical scanner has this tube voltage.

    Parameters
    ----------
    kvp
        Tube voltage in kV.
    given_by
        Name of the user's option, empty where the files say it.

    Raises
    ------
    InputError
        Outside 70 to 150 kV.

    Examples
    --------
    >>> check_kvp(120.0)
    """
    if not LOWEST_KV <= kvp <= HIGHEST_KV:
        way_out = "(KVP): give the true one with --tube-voltage-kv (Python: tube_voltage_kv)"
        raise InputError(
            f"CT numbers can be converted for tube voltages of {LOWEST_KV:g} to {HIGHEST_KV:g} kV, not for {kvp:g} kV "
            f"{f'({given_by})' if given_by else way_out}"
        )
