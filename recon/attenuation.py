"""Attenuation models: each gets a solver ("reconstruct with this map") and returns the corrected result."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from spectac.recon.contour import Outline, head_outline
from spectac.recon.ct import BLUR_FWHM_MM, coarse_factors, covered_on, mu_map
from spectac.recon.ct_cut import SOFT_TISSUE_SHARE, continued, filled_sides, sides_of, within_slices
from spectac.recon.ct_register import register
from spectac.recon.errors import InputError
from spectac.recon.held_head import HeldHead
from spectac.recon.map_check import check_values, ct_notes, energy_notes, is_narrow_beam
from spectac.recon.orbit_check import check_map_radius
from spectac.recon.patient import doubts
from spectac.recon.photopeak import photopeak_index, window_below
from spectac.recon.resample import map_on_grid, on_field, resample
from spectac.recon.system import SystemModel
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Acquisition, Array, Grid, Image, MuMap, Projections, Result, Study

WATER_SHARE, BROAD_WATER_SHARE = 0.976, 0.78
"""Uniform coefficient of a head over that of water, with scatter correction and without (broad beam)."""
SKULL_SHARE = 1.12
"""The same where skull is to be in it, set for 11 virtual heads in outlines from the data, with scatter correction.

Regional means are 3.1 % off, with 0.976 10 to 13 % (benchmarks/results/attenuation_tuning.csv).
"""
FEWEST_COVERED = 0.02
"""A map that covers less than this share of the activity is refused."""
WELL_COVERED = 0.9
"""A map that covers less than this share of the activity gets a note."""
VISIBLE_SHARE = 1e-6
"""Share of the largest sensitivity below which no view sees a voxel."""

NARROW_BEAM = (
    "a narrow-beam map without scatter correction over-corrects a head by a fifth to a half where the projections "
    "hold scatter: give scatter windows, --scatter montecarlo, or a broad-beam map"
)


class Solver(Protocol):
    """All that a model may ask for. `reconstruct` builds one from the user's settings.

    Examples
    --------
    A model that reconstructs without a map:

    >>> def correct(solver: Solver) -> Result:
    ...     return Result(solver(None))
    """

    @property
    def study(self) -> Study:
        """The study as it was read."""

    @property
    def projections(self) -> Projections:
        """Photopeak counts and expected scatter."""

    @property
    def grid(self) -> Grid:
        """Grid of the reconstruction."""

    @property
    def energy_kev(self) -> float:
        """Energy of the imaged line in keV."""

    @property
    def scatter_corrected(self) -> bool:
        """True where scatter is part of the model."""

    def __call__(self, mu: MuMap | None, *, scatter_map: MuMap | None = None) -> Image:
        """Reconstruct with the user's settings and this map (resampled to the grid), before the post-filter.

        `scatter_map` is the map of scatter methods that need one where the reconstruction has none.
        """

    def scatter(self, mu: MuMap | None) -> Array | None:
        """Expected scatter (v, z, u) of reconstructions with this map; None without correction."""

    def beside(self, mu: MuMap, default: str | None = None, *, head_alone: bool = False) -> MuMap:
        """Map on the solver's grid with the holder of the user's settings; where they say nothing with the default.

        Without a default the map stays as it is. What a map has beside the head is taken out before, but from a map of
        the `head_alone`, whose blurred skin would lose a part.
        """

    def checked(self, head: MuMap, default: str | None = None) -> HeldHead:
        """A head with what `beside` gives, its skull corrected where the counts contradict it.

        Raises InputError where the counts cannot tell.
        """

    def taken(self, held: HeldHead) -> MuMap:
        """The map of a head that is used; the result tells of it."""

    def preview(self, window: str | None = None, mu: MuMap | None = None, *, recovered: bool = False) -> Image:
        """Image of a window (None: the photopeak) by a fixed protocol, on 64^3 voxels of 4 mm; corrected by `mu`.

        `recovered`: the photopeak's with resolution recovery.
        """

    def project(self, image: Image, mu: MuMap | None) -> Array:
        """Expected counts (v, z, u) of an image on the solver's grid, without scatter."""

    def fbp(self, counts: Array) -> Image:
        """Filtered backprojection of counts (v, z, u) of any sign, without attenuation."""


class AttenuationModel(Protocol):
    """What `reconstruct` takes as `attenuation`. A plug-in provides one through its entry point's build().

    Examples
    --------
    >>> class Uncorrected:
    ...     name = "uncorrected"
    ...
    ...     def correct(self, solver: Solver) -> Result:
    ...         return Result(solver(None))
    """

    @property
    def name(self) -> str:
        """Short name for file headers and records."""

    def correct(self, solver: Solver) -> Result:
        """Corrected result, not yet post-filtered."""


def default_mu_per_cm(energy_kev: float, scatter_corrected: bool, *, with_skull: bool = False) -> float:
    """Uniform attenuation coefficient of a head.

    With scatter correction it is 0.976 of water, without 0.78 of water (broad beam): 0.150 and 0.120 for Tc-99m, 0.144
    and 0.115 for I-123. Values in use are 0.143-0.15 with scatter correction and 0.11-0.12 without.

    Parameters
    ----------
    energy_kev
        Energy of the photons in keV.
    scatter_corrected
        Whether scatter is corrected.
    with_skull
        Not the value in use, but that which makes up for the skull: 1.15 times as much; without scatter correction by
        the same factor, which was not measured.

    Returns
    -------
    float
        Coefficient in 1/cm.

    Examples
    --------
    >>> round(default_mu_per_cm(140.511, scatter_corrected=True), 3)
    0.15
    """
    in_use = (WATER_SHARE if scatter_corrected else BROAD_WATER_SHARE) * water_per_cm(energy_kev)
    return in_use * SKULL_SHARE / WATER_SHARE if with_skull else in_use


@dataclass(frozen=True)
class NoAttenuation:
    """Reconstruction without attenuation correction.

    Parameters
    ----------
    name
        Name for file headers and records.

    Examples
    --------
    >>> NoAttenuation().name
    'none'
    """

    name: str = "none"

    def correct(self, solver: Solver) -> Result:
        """Reconstruction without a map."""
        return Result(solver(None))


@dataclass(frozen=True, eq=False)
class GivenMap:
    """Reconstruction with a given mu-map, which is resampled to the grid and never blurred.

    A map is refused where its values cannot be 1/cm of a body, or where it lies beside the activity. A note tells where
    its soft tissue is not that of water at its energy.

    Parameters
    ----------
    mu
        Map.
    name
        Name for file headers and records.
    placed
        The map was put around the rotation axis, wherever that lies.

    Examples
    --------
    >>> grid = Grid.upright((2, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> GivenMap(MuMap(np.full(grid.shape, 0.15), grid, 140.5)).name
    'map'
    """

    mu: MuMap
    name: str = "map"
    placed: bool = False

    def correct(self, solver: Solver) -> Result:
        """Reconstruction with the map in the projector."""
        notes = map_notes(self.mu, solver, solver.scatter_corrected, placed=self.placed)
        if not solver.scatter_corrected and is_narrow_beam(self.mu):
            notes.append(NARROW_BEAM)
        mu = solver.beside(map_on_grid(self.mu, solver.grid))
        return Result(solver(mu), mu=mu, notes=tuple(notes))


def map_notes(mu: MuMap, solver: Solver, scatter_corrected: bool, *, placed: bool) -> list[str]:
    """What a user should know of a given map and a study.

    Parameters
    ----------
    mu
        Map.
    solver
        Solver of the study.
    scatter_corrected
        Whether the reconstruction with the map corrects scatter.
    placed
        Whether the map's position needs no note about an unknown axis.

    Returns
    -------
    list of str
        Notes on energy and place.

    Raises
    ------
    InputError
        For values that are none of a map in 1/cm, and for a map that lies beside the activity.

    Examples
    --------
    >>> map_notes(mu, solver, True, placed=True)  # doctest: +SKIP
    []
    """
    check_values(mu)
    return energy_notes(mu, scatter_corrected) + _place_notes(mu, solver, placed=placed)


def _place_notes(mu: MuMap, solver: Solver, *, placed: bool) -> list[str]:
    """Notes on how much of the activity the map covers; InputError for a map that lies beside it.

    `placed`: the position needs no note about an unknown axis.
    """
    preview = solver.preview()
    active = preview.values > 0.2 * np.percentile(preview.values, 99)
    covered = map_on_grid(mu, preview.grid).per_cm > 0.1 * mu.per_cm.max()
    share = float(preview.values[active & covered].sum() / max(preview.values[active].sum(), 1e-30))
    if share < FEWEST_COVERED:
        raise InputError(
            f"the mu-map covers {share:.0%} of the activity: it belongs to another patient or another position; "
            "the map's affine must place it in the study's millimetres"
        )
    notes = []
    if share < WELL_COVERED:
        notes.append(f"the mu-map covers only {share:.0%} of the activity: what lies outside is taken as air")
    if solver.study.acquisition.axis_lps_mm is None and not placed:
        notes.append(
            "the position of the rotation axis is unknown: the map was placed as if the field's centre were the origin"
        )
    return notes


@dataclass(frozen=True)
class MapFile:
    """Reconstruction with the mu-map of a file.

    NIfTI and DICOM are placed by their affine, Interfile around the rotation axis (docs/formats.md).

    Parameters
    ----------
    path
        NIfTI file, Interfile image or DICOM NM reconstruction in 1/cm, or a folder that holds one of them.
    energy_kev
        Energy of the map's photons in keV; None: that of the file, else the photopeak's. A map of another energy than
        the photopeak's is converted.
    name
        Name for file headers and records.

    Examples
    --------
    >>> MapFile("mu.nii.gz", energy_kev=140.5).name
    'map'
    """

    path: str
    energy_kev: float | None = None
    name: str = "map"

    def correct(self, solver: Solver) -> Result:
        """Reconstruction with the file's map in the projector."""
        mu, placed, notes = map_of_file(self.path, solver, self.energy_kev)
        result = GivenMap(mu, placed=placed).correct(solver)
        return replace(result, notes=(*notes, *result.notes))


def map_of_file(path: str, solver: Solver, energy_kev: float | None = None) -> tuple[MuMap, bool, tuple[str, ...]]:
    """Map of a file for a study.

    Parameters
    ----------
    path, energy_kev
        See `MapFile`.
    solver
        Solver of the study.

    Returns
    -------
    mu
        The map at the photopeak's energy, on the file's grid.
    placed
        Whether its position needs no note about an unknown axis.
    notes
        What the user should know of the file.

    Raises
    ------
    InputError
        For a file that holds no map.

    Examples
    --------
    >>> map_of_file("mu.nii.gz", solver)  # doctest: +SKIP
    """
    from spectac.recon.io.mu_map import read_mu_map

    read = read_mu_map(path, solver.study.acquisition, solver.energy_kev, given_kev=energy_kev)
    persons = doubts(solver.study.patient, read.patient, "the mu-map and the projections")
    return read.mu, read.placed, (*read.notes, *persons)


@dataclass(frozen=True)
class CTMap:
    """Reconstruction with the mu-map of a CT series.

    Where CT and SPECT do not share a known frame of reference, the head of the CT is registered to the uncorrected
    SPECT. Where the CT ends inside the head, its last slice is continued for up to 20 mm. What lies beyond that, or
    beyond its sides, is filled with soft tissue (`extend`) or refused; less than 20 mm beyond the sides get a note.

    Parameters
    ----------
    path
        Folder or file of the CT.
    series
        Number or UID of the series where the folder holds several.
    blur_fwhm_mm
        FWHM in mm of the Gaussian that brings the map to the resolution of SPECT; 0: none.
    remove_table
        Set everything but the body to air.
    extend
        Fill the part of the head that the CT does not cover with soft tissue.
    assume_aligned
        Do not register.
    tube_voltage_kv
        Tube voltage in kV in place of that in the files.
    name
        Name for file headers and records.

    Examples
    --------
    >>> CTMap("ct", extend=True).blur_fwhm_mm
    8.0
    """

    path: str
    series: str | None = None
    blur_fwhm_mm: float = BLUR_FWHM_MM
    remove_table: bool = False
    extend: bool = False
    assume_aligned: bool = False
    tube_voltage_kv: float | None = None
    name: str = "ct"

    def correct(self, solver: Solver) -> Result:
        """Reconstruction with the CT's map in the projector."""
        from spectac.recon.io.dicom.ct import read_series

        volume = read_series(self.path, series=self.series, tube_voltage_kv=self.tube_voltage_kv)
        mu = mu_map(volume, solver.energy_kev, blur_fwhm_mm=self.blur_fwhm_mm, remove_table=self.remove_table)
        covered = covered_on(volume.covered, mu.grid, coarse_factors(volume.grid))
        notes = [*volume.warnings, *ct_notes(mu)]
        notes += doubts(solver.study.patient, volume.patient, "the CT and the projections")
        acquisition = solver.study.acquisition
        uid = None if acquisition.axis_lps_mm is None else acquisition.frame_of_reference_uid
        if uid is not None and uid == volume.frame_of_reference_uid:
            notes.append("CT and SPECT share their frame of reference: the CT was taken where its headers place it")
        elif self.assume_aligned:
            notes.append("CT and SPECT do not share a known frame of reference: assumed to be aligned, as asked")
        else:
            shift = register(volume, solver.preview())
            mu = shift.moved(mu)
            centre = ", ".join(f"{value:.1f}" for value in shift.centre_mm)
            notes.append(
                "CT and SPECT do not share a known frame of reference: the CT was registered, "
                f"{shift}, about ({centre}) mm"
            )
            notes += [text for text in (shift.warning, *shift.warnings) if text]
        mu, added = self._over_the_head(mu, covered, solver)
        notes += [*added, *_place_notes(mu, solver, placed=True)]
        if not solver.scatter_corrected:
            notes.append(NARROW_BEAM)
        mu = solver.beside(mu)
        return Result(solver(mu), mu=mu, notes=tuple(notes))

    def _over_the_head(self, mu: MuMap, covered: Array | None, solver: Solver) -> tuple[MuMap, list[str]]:
        """Map on the solver's grid, completed where the CT does not reach the head, and notes."""
        grid = solver.grid
        # A voxel that the CT covers in part is diluted with the air outside of it: it counts as not reached.
        reached = resample(np.ones(mu.grid.shape, np.float32), mu.grid, grid) > 0.99
        if not reached.any():
            raise InputError("the CT lies beside the reconstructed field: check the frames of reference")
        outline = head_outline(solver.preview())
        measured = (solver.projections.counts.sum(axis=(0, 2)) > 0)[:, None, None]
        head = resample(outline.mask, outline.grid, grid) * measured
        water = water_per_cm(mu.energy_kev)
        soft = SOFT_TISSUE_SHARE * water
        sides = sides_of(mu, covered, water, head, grid)
        per_cm, notes = map_on_grid(mu, grid).per_cm.copy(), []
        if sides.cut:
            notes.append(sides.note(soft, extend=self.extend))
            if self.extend:
                between = within_slices(mu.grid, grid)
                per_cm[between] = filled_sides(mu, sides, self.blur_fwhm_mm, soft, head, grid)[between]
        per_cm, ends = continued(MuMap(per_cm, grid, mu.energy_kev), mu.grid, reached, head, extend=self.extend)
        return MuMap(per_cm, grid, mu.energy_kev), [*notes, *ends]


@dataclass(frozen=True, eq=False)
class UniformMap:
    """Reconstruction with one coefficient inside the head's outline.

    Parameters
    ----------
    mu_per_cm
        Coefficient in 1/cm; None: `default_mu_per_cm`.
    outline
        Outline of the head; None: that found in the data.
    name
        Name for file headers and records.

    Examples
    --------
    >>> UniformMap(0.15).name
    'uniform'
    """

    mu_per_cm: float | None = None
    outline: Outline | None = None
    name: str = "uniform"

    def correct(self, solver: Solver) -> Result:
        """Reconstruction with the uniform map in the projector."""
        mu, notes = uniform_map(solver, self.mu_per_cm, self.outline)
        return Result(solver(mu), mu=mu, notes=notes)


@dataclass(frozen=True, eq=False)
class Chang:
    """Chang's correction: the uncorrected image times the inverse mean transmission out of a uniform head.

    Order 0: f1 = C f0 with C = 1 / mean over views of exp(-mu l). Order 1 adds C * fbp(p - s - project(C f0, mu)) and
    reconstructs by filtered backprojection whatever the algorithm, because OSEM cannot take a signed residual [1]_.

    Parameters
    ----------
    mu_per_cm
        Coefficient in 1/cm; None: `default_mu_per_cm`.
    outline
        Outline of the head; None: that found in the data.
    order
        0 or 1.
    name
        Name for file headers and records.

    Raises
    ------
    InputError
        For another order.

    References
    ----------
    .. [1] Chang, IEEE Trans Nucl Sci 1978;25:638-643, doi:10.1109/TNS.1978.4329385.

    Examples
    --------
    >>> Chang(0.12, order=1).name
    'chang'
    """

    mu_per_cm: float | None = None
    outline: Outline | None = None
    order: int = 0
    name: str = "chang"

    def __post_init__(self) -> None:
        if self.order not in (0, 1):
            raise InputError(f"Chang's correction has order 0 or 1, not {self.order}")

    def correct(self, solver: Solver) -> Result:
        """Uncorrected reconstruction times the factors."""
        mu, notes = uniform_map(solver, self.mu_per_cm, self.outline)
        acquisition = solver.projections.acquisition
        factors = chang_factors(acquisition, mu)
        if self.order == 0:
            uncorrected = solver(None, scatter_map=mu)
            return Result(_scaled(uncorrected, factors), mu=mu, uncorrected=uncorrected, notes=notes)
        primary = solver.projections.counts.astype(np.float32)
        scatter = solver.scatter(mu)
        if scatter is not None:
            primary = primary - scatter
        uncorrected = solver.fbp(primary)
        first = _scaled(uncorrected, factors)
        # Without blur: Chang corrects attenuation alone, and FBP recovers no resolution.
        system = SystemModel(acquisition, mu.grid, mu=mu, energy_kev=mu.energy_kev, resolution=False)
        residual = _scaled(solver.fbp(primary - system.forward(first.values)), factors)
        return Result(
            replace(first, values=first.values + residual.values),
            mu=mu,
            uncorrected=uncorrected,
            algorithm="fbp",
            notes=(*notes, "Chang order 1 reconstructs by filtered backprojection"),
        )


def _scaled(image: Image, factors: Array) -> Image:
    return replace(image, values=image.values * factors, history=(*image.history, "Chang factors applied"))


def chang_factors(acquisition: Acquisition, mu: MuMap) -> Array:
    """Chang's factors C = 1 / mean over views of exp(-path to the detector), views weighted by time and decay.

    The mean is the ratio of two sensitivities without blur, with and without the map.

    Parameters
    ----------
    acquisition
        Acquisition with the views.
    mu
        Map on a grid of the acquisition's pixels.

    Returns
    -------
    Array
        Factors (z, y, x); 1 where the map is 0 and where no view sees a voxel.

    Raises
    ------
    InputError
        For a map that reaches through the collimator's face.

    Examples
    --------
    >>> from spectac.recon import default_grid
    >>> acquisition = Acquisition([0.0], [150.0], (1, 16), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> per_cm = np.zeros((1, 16, 16))
    >>> per_cm[0, 8, 8] = 0.15
    >>> factors = chang_factors(acquisition, MuMap(per_cm, default_grid(acquisition), 140.5))
    >>> bool(np.isclose(factors[0, 8, 8], np.exp(0.15 * 0.2)))
    True
    """
    ones = np.ones(acquisition.shape, np.float32)
    check_map_radius(acquisition, mu)
    plain = SystemModel(acquisition, mu.grid, energy_kev=mu.energy_kev, resolution=False)
    attenuated = plain.with_mu(mu.per_cm)
    seen = plain.adjoint(ones)
    transmitted = attenuated.adjoint(ones)
    visible = seen > VISIBLE_SHARE * seen.max()
    return np.divide(seen, transmitted, out=np.ones_like(seen), where=visible & (transmitted > 0) & (mu.per_cm > 0))


def uniform_map(solver: Solver, mu_per_cm: float | None, outline: Outline | None) -> tuple[MuMap, tuple[str, ...]]:
    """Uniform map inside the head's outline.

    Parameters
    ----------
    solver
        Solver of the study.
    mu_per_cm
        Coefficient in 1/cm; None: `default_mu_per_cm`.
    outline
        Outline of the head; None: that found in the data.

    Returns
    -------
    tuple
        Map on the solver's grid, and notes on how it was made.

    Raises
    ------
    InputError
        For a coefficient outside 0 to 1 per cm, and where no outline is found.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> grid = Grid.upright((2, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> solver = SimpleNamespace(grid=grid, energy_kev=140.5, scatter_corrected=True, beside=lambda mu: mu)
    >>> mu, notes = uniform_map(solver, 0.15, Outline(np.ones(grid.shape), grid))
    >>> notes
    ('uniform mu = 0.15 /cm inside the head outline (with scatter correction)',)
    """
    value = default_mu_per_cm(solver.energy_kev, solver.scatter_corrected) if mu_per_cm is None else mu_per_cm
    if not (np.isfinite(value) and 0 < value < 1):
        raise InputError(f"the uniform attenuation coefficient must lie between 0 and 1 per cm, not {value:g}")
    if outline is None:
        study = solver.study
        below = window_below(study, photopeak_index(study, solver.projections.window))
        outline = head_outline(solver.preview(), None if below is None else solver.preview(study.windows[below].name))
        mask = on_field(outline.mask, outline.grid, solver.grid)
    else:
        mask = resample(outline.mask, outline.grid, solver.grid)
    kind = "with" if solver.scatter_corrected else "without"
    notes = (f"uniform mu = {value:.4g} /cm inside the head outline ({kind} scatter correction)", *outline.warnings)
    return solver.beside(MuMap(value * np.clip(mask, 0.0, 1.0), solver.grid, solver.energy_kev)), notes
