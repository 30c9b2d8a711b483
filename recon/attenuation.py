"""Attenuation models: each is given a solver ("reconstruct with this map") and returns the corrected result."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.ndimage import distance_transform_edt

from spectac.recon.contour import Outline, head_outline
from spectac.recon.ct_cut import beside_slices, covered_on, filled_sides, sides_of, within_slices
from spectac.recon.errors import InputError
from spectac.recon.map_check import check_values, ct_notes, energy_notes, is_narrow_beam
from spectac.recon.patient import doubts
from spectac.recon.resample import on_field, resample
from spectac.recon.scatter import photopeak_index, window_below
from spectac.recon.system import SystemModel, check_radius
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Acquisition, Array, Grid, Image, MuMap, Projections, Result, Study


class Solver(Protocol):
    """All that a model may ask for; `reconstruct` builds one from the user's settings."""

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
        """Energy of the imaged line."""

    @property
    def scatter_corrected(self) -> bool:
        """True where scatter is part of the model."""

    def __call__(self, mu: MuMap | None) -> Image:
        """Reconstruct with the user's settings and this map (resampled to the grid), before the post-filter."""

    def preview(self, window: str | None = None, mu: MuMap | None = None) -> Image:
        """Image of a window (None: the photopeak) by a fixed protocol, on 64^3 voxels of 4 mm; corrected by `mu`."""

    def project(self, image: Image, mu: MuMap | None) -> Array:
        """Expected counts (v, z, u) of an image on the solver's grid, without scatter."""

    def fbp(self, counts: Array) -> Image:
        """Filtered backprojection of counts (v, z, u) of any sign, without attenuation."""


class AttenuationModel(Protocol):
    """What `reconstruct` takes as `attenuation`; a plug-in provides one through its entry point's build()."""

    @property
    def name(self) -> str:
        """Short name for file headers and records."""

    def correct(self, solver: Solver) -> Result:
        """Corrected result, not yet post-filtered."""


def default_mu_per_cm(energy_kev: float, scatter_corrected: bool) -> float:
    """Uniform attenuation coefficient of a head in 1/cm.

    With scatter correction 0.976 of water, without 0.78 of water (broad beam): 0.150 and 0.120 for Tc-99m, 0.144 and
    0.115 for I-123, amid the values in use (0.143-0.15 with scatter correction, 0.11-0.12 without).
    """
    return (0.976 if scatter_corrected else 0.78) * water_per_cm(energy_kev)


def map_on_grid(mu: MuMap, grid: Grid) -> MuMap:
    """Map averaged over the voxels of `grid`; the same map where it lies there already."""
    if mu.grid.same_as(grid):
        return mu
    return MuMap(np.maximum(resample(mu.per_cm, mu.grid, grid), 0.0), grid, mu.energy_kev)


@dataclass(frozen=True)
class NoAttenuation:
    """No correction."""

    name: str = "none"

    def correct(self, solver: Solver) -> Result:
        """Reconstruction without a map."""
        return Result(solver(None))


@dataclass(frozen=True, eq=False)
class GivenMap:
    """A mu-map that the user brings; it is resampled to the grid and never blurred.

    Refused where its values cannot be 1/cm of a body, or where it lies beside the activity; a note tells where its soft
    tissue is not water's at its energy. `placed`: it was put around the rotation axis, wherever that lies.
    """

    mu: MuMap
    name: str = "map"
    placed: bool = False

    def correct(self, solver: Solver) -> Result:
        """Reconstruction with the map in the projector."""
        check_values(self.mu)
        notes = energy_notes(self.mu, solver.scatter_corrected)
        notes += _check_place(self.mu, solver, placed=self.placed)
        if not solver.scatter_corrected and is_narrow_beam(self.mu):
            notes.append(NARROW_BEAM)
        mu = map_on_grid(self.mu, solver.grid)
        return Result(solver(mu), mu=mu, notes=tuple(notes))


NARROW_BEAM = (
    "a narrow-beam map without scatter correction over-corrects a head by a fifth to a half where the projections "
    "hold scatter: give scatter windows, or a broad-beam map"
)


def _check_place(mu: MuMap, solver: Solver, *, placed: bool = False) -> list[str]:
    """Notes on how much of the activity the map covers; refuse a map that lies beside it.

    `placed`: the position needs no note about an unknown axis.
    """
    preview = solver.preview()
    active = preview.values > 0.2 * np.percentile(preview.values, 99)
    covered = map_on_grid(mu, preview.grid).per_cm > 0.1 * mu.per_cm.max()
    share = float(preview.values[active & covered].sum() / max(preview.values[active].sum(), 1e-30))
    if share < 0.02:
        raise InputError(
            f"the mu-map covers {share:.0%} of the activity: it belongs to another patient or another position; "
            "the map's affine must place it in the study's millimetres"
        )
    notes = []
    if share < 0.9:
        notes.append(f"the mu-map covers only {share:.0%} of the activity: what lies outside is taken as air")
    if solver.study.acquisition.axis_lps_mm is None and not placed:
        notes.append(
            "the position of the rotation axis is unknown: the map was placed as if the field's centre were the origin"
        )
    return notes


@dataclass(frozen=True)
class MapFile:
    """A mu-map in 1/cm: NIfTI, an Interfile image, a DICOM NM reconstruction, or a folder that holds one of them.

    `energy_kev`: the map's photon energy; None: what the file says, else the photopeak's. A map of another energy is
    converted. NIfTI and DICOM are placed by their affine, Interfile around the rotation axis (docs/formats.md).
    """

    path: str
    energy_kev: float | None = None
    name: str = "map"

    def correct(self, solver: Solver) -> Result:
        """Reconstruction with the file's map in the projector."""
        from spectac.recon.io.mu_map import read_mu_map

        acquisition = solver.study.acquisition
        read = read_mu_map(self.path, acquisition, solver.energy_kev, given_kev=self.energy_kev)
        result = GivenMap(read.mu, placed=read.placed).correct(solver)
        persons = doubts(solver.study.patient, read.patient, "the mu-map and the projections")
        return replace(result, notes=(*read.notes, *persons, *result.notes))


CONTINUED_MM = 20.0
"""How far the CT's last slice is continued into the head that SPECT shows beyond it: a miss of the scan's length."""


@dataclass(frozen=True)
class CTMap:
    """The mu-map of a CT series: `path` a folder or file, `series` its number or UID where the folder holds several.

    Where CT and SPECT do not share a known frame of reference the CT head is registered to the uncorrected SPECT,
    unless `assume_aligned`. Where the CT ends inside the head its last slice is continued for up to 20 mm; beyond that
    `extend` fills the head's outline with soft tissue, else the CT is refused. Where it is cut at its sides `extend`
    fills as well, else a note tells, beyond 20 mm a refusal. `tube_voltage_kv` replaces the files' KVP.
    """

    path: str
    series: str | None = None
    blur_fwhm_mm: float = 8.0
    remove_table: bool = False
    extend: bool = False
    assume_aligned: bool = False
    tube_voltage_kv: float | None = None
    name: str = "ct"

    def correct(self, solver: Solver) -> Result:
        """Reconstruction with the CT's map in the projector."""
        from spectac.recon.ct import coarse_factors, mu_map, register
        from spectac.recon.io.dicom.ct import read_series

        volume = read_series(self.path, series=self.series, tube_voltage_kv=self.tube_voltage_kv)
        mu = mu_map(volume, solver.energy_kev, blur_fwhm_mm=self.blur_fwhm_mm, remove_table=self.remove_table)
        covered = covered_on(volume.covered, mu.grid, coarse_factors(volume.grid))
        notes = [*volume.warnings, *ct_notes(mu)]
        notes += doubts(solver.study.patient, volume.patient, "the CT and the projections")
        acquisition = solver.study.acquisition
        known = acquisition.axis_lps_mm is not None and acquisition.frame_of_reference_uid is not None
        if known and acquisition.frame_of_reference_uid == volume.frame_of_reference_uid:
            notes.append("CT and SPECT share their frame of reference: the CT was taken where its headers place it")
        elif self.assume_aligned:
            notes.append("CT and SPECT do not share a known frame of reference: assumed to be aligned, as asked")
        else:
            shift = register(volume, solver.preview())
            mu = shift.moved(mu)
            notes.append(
                f"CT and SPECT do not share a known frame of reference: the CT was registered, {shift}, about "
                + "({:.1f}, {:.1f}, {:.1f}) mm".format(*shift.centre_mm)
            )
            notes += [text for text in (shift.warning, *shift.warnings) if text]
        mu, added = self._over_the_head(mu, covered, solver)
        notes += [*added, *_check_place(mu, solver, placed=True)]
        if not solver.scatter_corrected:
            notes.append(NARROW_BEAM)
        return Result(solver(mu), mu=mu, notes=tuple(notes))

    def _over_the_head(self, mu: MuMap, covered: Array | None, solver: Solver) -> tuple[MuMap, list[str]]:
        """Map on the solver's grid, carried on into the part of the head that the CT does not reach, and notes."""
        grid = solver.grid
        # A voxel that the CT covers in part is diluted with the air outside of it: it counts as not reached.
        reached = resample(np.ones(mu.grid.shape, np.float32), mu.grid, grid) > 0.99
        if not reached.any():
            raise InputError("the CT lies beside the reconstructed field: check the frames of reference")
        outline = head_outline(solver.preview())
        seen = (solver.projections.counts.sum(axis=(0, 2)) > 0)[:, None, None]
        head = resample(outline.mask, outline.grid, grid) * seen
        water = water_per_cm(mu.energy_kev)
        sides = sides_of(mu, covered, water, head, grid)
        per_cm, notes = map_on_grid(mu, grid).per_cm.copy(), []
        soft = 1.05 * water
        if sides.cut:
            cut = f"the CT is cut at its sides by {sides.end}: the head in the SPECT reaches {sides.beyond_mm:.0f} mm"
            if self.extend:
                between = within_slices(mu.grid, grid)
                per_cm[between] = filled_sides(mu, sides, self.blur_fwhm_mm, soft, head, grid)[between]
                notes.append(f"{cut} beyond, which was filled with soft tissue ({soft:.3f} /cm), as asked")
            elif sides.beyond_mm > CONTINUED_MM:
                raise InputError(f"{cut} beyond: --extend-ct fills the rest of the head's outline with soft tissue")
            else:
                notes.append(f"{cut} beyond, where air was assumed: --extend-ct fills it with soft tissue")
        missing = (head > 0.5) & ~reached & ~beside_slices(mu.grid, grid)
        if missing.any():
            notes.append(_carried_on(per_cm, missing, reached, grid, np.float32(soft) * head, self.extend))
        return MuMap(per_cm, grid, mu.energy_kev), notes


def _carried_on(per_cm: Array, missing: Array, reached: Array, grid: Grid, soft_per_cm: Array, extend: bool) -> str:
    """Fill a map (z, y, x), in place, beyond the CT's first and last slice; the note about it.

    Decided for every column of voxels by itself, for a tilted CT ends at another height in each.
    """
    length_mm = int(missing.sum(axis=0).max()) * grid.voxel_mm[0]
    if length_mm <= CONTINUED_MM:
        # In plane a step costs so much that the nearest covered voxel is the one above or below.
        nearest = distance_transform_edt(
            ~reached, sampling=(1.0, 1e6, 1e6), return_distances=False, return_indices=True
        )
        per_cm[missing] = per_cm[tuple(index[missing] for index in nearest)]
        return f"the CT ends up to {length_mm:.0f} mm inside the head: its last slice was continued"
    if not extend:
        raise InputError(
            f"the CT ends {length_mm:.0f} mm inside the head that the SPECT shows: --extend-ct fills the rest of the "
            "head's outline with soft tissue"
        )
    per_cm[missing] = soft_per_cm[missing]
    return (
        f"the CT ends {length_mm:.0f} mm inside the head: the rest of the outline was filled with soft tissue "
        f"({soft_per_cm.max():.3f} /cm), as asked"
    )


@dataclass(frozen=True, eq=False)
class UniformMap:
    """One coefficient inside the head's outline, in the projector.

    `mu_per_cm` defaults by nuclide and scatter correction; `outline` defaults to the one found in the data.
    """

    mu_per_cm: float | None = None
    outline: Outline | None = None
    name: str = "uniform"

    def correct(self, solver: Solver) -> Result:
        """Reconstruction with the uniform map."""
        mu, notes = uniform_map(solver, self.mu_per_cm, self.outline)
        return Result(solver(mu), mu=mu, notes=notes)


@dataclass(frozen=True, eq=False)
class Chang:
    """Chang's correction: the uncorrected image times the inverse mean transmission out of a uniform head.

    Order 0: f1 = C f0, C = 1 / mean over views of exp(-mu l). Order 1 adds C * fbp(p - s - project(C f0, mu)) and
    reconstructs by filtered backprojection whatever the algorithm, for OSEM cannot take a signed residual.
    Reference: Chang, IEEE Trans Nucl Sci 1978;25:638-643, doi:10.1109/TNS.1978.4329385.
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
            uncorrected = solver(None)
            return Result(_scaled(uncorrected, factors), mu=mu, uncorrected=uncorrected, notes=notes)
        primary = solver.projections.counts.astype(np.float32)
        if solver.projections.scatter is not None:
            primary = primary - solver.projections.scatter
        uncorrected = solver.fbp(primary)
        first = _scaled(uncorrected, factors)
        # Without blur: Chang corrects attenuation, and FBP knows no blur that the residual could hold.
        system = SystemModel(acquisition, mu.grid, mu=mu, energy_kev=mu.energy_kev, resolution=False)
        residual = _scaled(solver.fbp(primary - system.forward(first.values)), factors)
        corrected = replace(first, values=first.values + residual.values)
        return Result(
            corrected,
            mu=mu,
            uncorrected=uncorrected,
            notes=(*notes, "Chang order 1 reconstructs by filtered backprojection"),
        )


def _scaled(image: Image, factors: Array) -> Image:
    return replace(image, values=image.values * factors, history=(*image.history, "Chang factors applied"))


def chang_factors(acquisition: Acquisition, mu: MuMap) -> Array:
    """Factors (z, y, x) C = 1 / mean over views of exp(-path to the detector), views weighted by time and decay.

    `mu` lies on a grid of the acquisition's pixels. The mean is the ratio of two sensitivities without blur, with and
    without the map. Where the map is 0, and where no view sees a voxel, the factor is 1.
    Raises InputError for a map that reaches through the collimator face.
    """
    ones = np.ones(acquisition.shape, np.float32)
    check_radius(acquisition, mu.grid, mu.per_cm > 0.05, "the mu-map")
    plain = SystemModel(acquisition, mu.grid, energy_kev=mu.energy_kev, resolution=False)
    attenuated = plain.with_mu(mu.per_cm)
    seen = plain.adjoint(ones)
    transmitted = attenuated.adjoint(ones)
    visible = seen > 1e-6 * seen.max()
    return np.divide(seen, transmitted, out=np.ones_like(seen), where=visible & (transmitted > 0) & (mu.per_cm > 0))


def uniform_map(solver: Solver, mu_per_cm: float | None, outline: Outline | None) -> tuple[MuMap, tuple[str, ...]]:
    """Uniform map on the solver's grid inside the given or found outline, and notes about how it was made."""
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
    return MuMap(value * np.clip(mask, 0.0, 1.0), solver.grid, solver.energy_kev), notes
