"""What a network's training covered, and the reasons why it must not be trusted with other data.

`Coverage` is measured on the patients of training and kept with the weights. `input_doubts` looks at a study before the
network runs, `map_doubts` at the map that came out. Each doubt is one sentence with the numbers that raised it.

Numbers without another source were set on the 48 validation patients of simulate.cohort (seed 200), of which none must
trip, and on the same turned, cut at the sides or with swapped windows, which must.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy.ndimage import binary_closing, binary_dilation, binary_fill_holes, gaussian_filter, label
from scipy.spatial import cKDTree

from spectac.learned.inputs import head_level
from spectac.recon.attenuation import Solver
from spectac.recon.contour import head_outline
from spectac.recon.contour_preview import largest, measured
from spectac.recon.errors import InputError
from spectac.recon.nuclides import water_per_cm
from spectac.recon.types import Acquisition, Array, Image, MuMap
from spectac.simulate.cohorts.patient_arrays import WINDOWS, PatientArrays
from spectac.simulate.orbit import contour_radii_mm
from spectac.simulate.scanner import Scanner

if TYPE_CHECKING:
    from spectac.simulate.head import Head

ENERGY_KEV = 2.0
"""A line so near to a covered one has the same attenuation within 0.5 % (water, 140 keV)."""
COUNTS_SHARE, SIGMA_SHARE = 0.5, 0.15
"""How far below the least counts, and beyond the range of blur, a study may lie."""
BELOW = ("lower", "scatter")
"""Windows of a cohort's patients that can fill the scatter channel."""
GAP_DEG = 30.0
"""As recon.pipeline's note on views that leave an arc uncovered."""
SUPINE = (None, "HFS", "FFS")
SHAPE_SIGMA_MM, SHAPE_SHARE = 8.0, 0.15
"""What is above this share of the head's level after this Gaussian is head: noise leaves pieces of 30 mL at most."""
LEAST_HEAD_ML, MOST_HEAD_ML = 1800.0, 6000.0
"""Less than this shows no outline that could be judged (children of 5 years show 2.5 L), more is the air's as well."""
SECOND_SHARE = 0.25
"""A second part of that volume over the first is no noise, gland or pillow: these reach 0.02."""
FREE_TURN_DEG, LEAST_ELONGATION = 30.0, 0.06
"""The long axis of 48 virtual heads lay within 16 deg of front to back; rounder than that it has no direction."""
VOLUME_FACTOR, EDGE_MARGIN, SHARPER_SHARE, HOT_FACTOR = 1.3, 0.08, 0.97, 1.3
"""Margins about what training had. A photopeak had 1.06 times the detail of a window below it at least (293 windows of
272 patients), so that swapped windows have 0.94 at most; heads cut to 160 mm have 0.18 or more beside them."""
MISSING_SHARE, BLUR_VOXELS = 0.05, 2
"""Activity outside of a map and of the 8 mm around it, where it is blurred to: 0.02 at most for true maps."""
FOCI_ALONE = "foci alone and no head"
"""What recon.contour says where it placed a standard head."""


@dataclass(frozen=True)
class Coverage:
    """What training covered; limits for new data follow from it.

    `energies_kev` of the imaged lines; `least_counts` of a photopeak; `sigma_mm` (least, most) blur of the collimator
    at the rotation axis, averaged over the views; `edge_share` most counts beside the head over its middle, see
    `_edge_share`; `sharper` least ratio of the detail in the photopeak to that in a window below it;
    `head_ml` (least, most) volume that shows in the photopeak; `hottest` most of the hottest 5 mL over the head's
    level. `uncertainty` and `outline_mm` are limits that training sets from its validation patients.
    """

    energies_kev: tuple[float, ...]
    least_counts: float
    sigma_mm: tuple[float, float]
    edge_share: float
    sharper: float
    head_ml: tuple[float, float]
    hottest: float
    uncertainty: float
    outline_mm: float

    @classmethod
    def of(cls, patients: Iterable[PatientArrays], *, uncertainty: float, outline_mm: float) -> "Coverage":
        """Ranges over a cohort's patients. Raises InputError for none.

        Assumes: a contour orbit's radii, which a cohort does not keep, follow from the labels on the preview's grid;
        what lies above or below it (shoulders are not simulated) may have held the detector farther away.
        """
        energies: set[float] = set()
        rows = []
        for patient in patients:
            energies.add(round(patient.energy_kev, 3))
            scanner = _scanner(patient)
            sigma_mm = scanner.collimator_data.sigma_mm(_radii_mm(patient, scanner), patient.energy_kev)
            look = _Look.at(Image(patient.preview[0], patient.grid, "cps/mL"))
            rows.append(
                (
                    float(patient.counts.sum(dtype=np.float64)),
                    float(np.mean(sigma_mm)),
                    _edge_share(patient.counts, _columns_mm(patient.counts.shape[2], scanner.pixel_mm)),
                    _least_sharper(patient),
                    math.nan if look is None else look.head_ml,
                    math.nan if look is None else look.hottest,
                )
            )
        if not rows:
            raise InputError("coverage needs at least one patient of a cohort, got none")
        known = [[value for value in column if not math.isnan(value)] for column in zip(*rows, strict=True)]
        if not known[4]:
            raise InputError("no head stands out in the photopeak of any patient: this is no cohort to train with")
        # A cohort without any scatter window sets no limit of its own for one.
        least, most = [min(column, default=1.0) for column in known], [max(column, default=1.0) for column in known]
        return cls(
            energies_kev=tuple(sorted(energies)),
            least_counts=least[0],
            sigma_mm=(least[1], most[1]),
            edge_share=most[2],
            sharper=least[3],
            head_ml=(least[4], most[4]),
            hottest=most[5],
            uncertainty=float(uncertainty),
            outline_mm=float(outline_mm),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values that json.dumps takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Coverage":
        """Coverage from what `to_json` gave, tuples as lists or not. Raises InputError for other names."""
        wanted = [field.name for field in fields(cls)]
        if sorted(values) != sorted(wanted):
            raise InputError(f"a coverage needs {', '.join(wanted)}; got {', '.join(sorted(values)) or 'nothing'}")
        return cls(
            **{
                name: tuple(float(one) for one in value) if isinstance(value, list | tuple) else float(value)
                for name, value in values.items()
            }  # type: ignore[arg-type]
        )


def _scanner(patient: PatientArrays) -> Scanner:
    """The scanner of a cohort's patient; JSON made lists of its tuples."""
    kept: Mapping[str, Any] = patient.parameters["scanner"]
    values: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in kept.items()}
    return Scanner(**values)


def _radii_mm(patient: PatientArrays, scanner: Scanner) -> Array:
    if scanner.orbit != "contour":
        return scanner.radii_mm()
    # It asks for labels and their grid alone, which a cohort's patient has as well as a head.
    angles = scanner.view_angles_deg()
    return contour_radii_mm(cast("Head", patient), angles, scanner.clearance_mm, scanner.lowest_radius_mm)


def _least_sharper(patient: PatientArrays) -> float:
    """Least ratio of the detail in the photopeak to that in a window below it, NaN where there is none."""
    below = [patient.preview[row] for row, name in enumerate(WINDOWS) if name in BELOW and patient.windows[row]]
    return min((_sharper(patient.preview[0], values, patient.grid.voxel_ml) for values in below), default=math.nan)


def input_doubts(solver: Solver, photopeak: Image, scatter: Image | None, coverage: Coverage) -> tuple[str, ...]:
    """Reasons why a network of this coverage must not be trusted with a study; none for one like those of training.

    `photopeak` and `scatter` are the previews that the network is to see.
    """
    acquisition = solver.projections.acquisition
    counts = np.asarray(solver.projections.counts)
    found = [
        _energy_doubt(solver.energy_kev, acquisition, coverage),
        _counts_doubt(float(counts.sum(dtype=np.float64)), coverage),
        _sigma_doubt(acquisition, solver.energy_kev, coverage),
        _arc_doubt(acquisition),
        _posture_doubt(acquisition),
        _edge_doubt(counts, acquisition, coverage),
        None if scatter is None else _swap_doubt(photopeak, scatter, coverage),
        *_look_doubts(photopeak, coverage),
    ]
    return tuple(doubt for doubt in found if doubt is not None)


def map_doubts(
    photopeak: Image, scatter: Image | None, mu: MuMap, uncertainty: float, coverage: Coverage
) -> tuple[str, ...]:
    """Reasons why a network's map (on the previews' grid) must not be used: it is unsure, or it misses the head.

    The outline that the data show by themselves (recon.contour) is compared where they show one.
    Raises InputError where map and previews lie on different grids.
    """
    if not mu.grid.same_as(photopeak.grid):
        raise InputError(f"the map's grid {mu.grid.shape} is not the preview's {photopeak.grid.shape}")
    found = []
    if not uncertainty <= coverage.uncertainty:
        found.append(
            f"the network's passes differ by {uncertainty:.1%} of the map, validation patients by at most "
            f"{coverage.uncertainty:.1%}: it does not know this kind of image"
        )
    body = np.clip(mu.per_cm / water_per_cm(mu.energy_kev), 0.0, 1.0)
    if not (body > 0.5).any():
        return (*found, "no voxel of the predicted map reaches half of water: it holds no head")
    missing = _missing_share(photopeak, body)
    if missing > MISSING_SHARE:
        found.append(
            f"{missing:.0%} of the activity of the head lies outside of the predicted map: a part of it is missing"
        )
    try:
        apart_mm = outline_distance_mm(photopeak, scatter, mu, enough_mm=coverage.outline_mm)
    except InputError as error:
        return (*found, f"the outline of the predicted map cannot be compared with the data: {error}")
    if apart_mm is not None and not apart_mm <= coverage.outline_mm:
        found.append(
            f"the predicted map's outline lies {apart_mm:.1f} mm on average from the one that the data show, those of "
            f"validation patients at most {coverage.outline_mm:.1f} mm: it is another head's, or misplaced"
        )
    return tuple(found)


def outline_distance_mm(photopeak: Image, scatter: Image | None, mu: MuMap, *, enough_mm: float = 0.0) -> float | None:
    """Mean distance in mm of a map's outline from the one that the data show; None where the data show none.

    The surface of a map is where it reaches half of water. The data's is recon.contour.head_outline, from both windows
    or from the photopeak alone, whichever lies nearer: a noisy or wide scatter window put it 8 to 48 mm farther out in
    3 of 48 virtual heads whose photopeak showed it within 8 mm. The second is not looked for where the first lies
    within `enough_mm`. Rows that were not measured do not count.
    Raises InputError as head_outline does.
    """
    look = _Look.at(photopeak)
    if look is None or not LEAST_HEAD_ML <= look.head_ml <= MOST_HEAD_ML:
        return None
    body = np.clip(mu.per_cm / water_per_cm(mu.energy_kev), 0.0, 1.0)
    measured_rows = np.flatnonzero(photopeak.values.any(axis=(1, 2)))
    rows = slice(int(measured_rows[0]), int(measured_rows[-1]) + 1)
    distances = []
    for side in (scatter, None) if scatter is not None else (None,):
        outline = head_outline(photopeak, side)
        if any(FOCI_ALONE in warning for warning in outline.warnings):
            continue
        distances.append(mean_outline_distance_mm(body[rows], outline.mask[rows], mu.grid.voxel_mm))
        if distances[-1] <= enough_mm:
            break
    return min(distances) if distances else None


def mean_outline_distance_mm(mask_a: Array, mask_b: Array, voxel_mm: tuple[float, float, float]) -> float:
    """Mean distance in mm between the outer surfaces of two heads, both ways; infinite where they share no slice.

    Masks (z, y, x) are bool, or shares from 0 to 1 whose 0.5 is the surface (between voxels: linear). The surface are
    points between neighbours along x and y, so flat ends have none; cavities are filled, loose parts left out. Only
    slices from the higher one of the two lower ends count, for where a neck ends is the field's or the simulation's
    choice; where either mask reaches the last slice, none above the lower one of the upper ends does either.
    """
    heads = [_solid(np.asarray(mask, np.float64)) for mask in (mask_a, mask_b)]
    ends = [np.flatnonzero((head > 0.5).any(axis=(1, 2))) for head in heads]
    if any(end.size == 0 for end in ends):
        return math.inf
    first, lasts = max(int(end[0]) for end in ends), [int(end[-1]) for end in ends]
    last = min(lasts) if max(lasts) == len(heads[0]) - 1 else max(lasts)
    surfaces = [_surface_mm(head[first : last + 1], voxel_mm) for head in heads]
    if any(len(surface) == 0 for surface in surfaces):
        return math.inf
    a, b = surfaces
    return float(0.5 * (cKDTree(b).query(a)[0].mean() + cKDTree(a).query(b)[0].mean()))


def _solid(shares: Array) -> Array:
    """Shares (z, y, x) of the largest part alone, with cavities filled slice by slice, also those open by a nostril."""
    inside = largest(shares > 0.5)
    disc = np.hypot(*np.ogrid[-3:4, -3:4]) <= 3.0
    filled = np.zeros(inside.shape, bool)
    for z in np.flatnonzero(inside.any(axis=(1, 2))):
        closed = binary_closing(np.pad(inside[z], 4), disc)[4:-4, 4:-4]
        filled[z] = binary_fill_holes(inside[z] | closed)
    near = filled | (shares <= 0.5)
    return np.where(filled & ~inside, 1.0, np.where(near, shares, 0.0))


def _surface_mm(shares: Array, voxel_mm: tuple[float, float, float]) -> Array:
    """Points (n, 3) in mm where shares (z, y, x) pass 0.5 between neighbours along y and x, zeros beyond the grid."""
    padded = np.pad(shares, ((0, 0), (1, 1), (1, 1)))
    found = []
    for axis in (1, 2):
        low = np.take(padded, range(padded.shape[axis] - 1), axis=axis)
        high = np.take(padded, range(1, padded.shape[axis]), axis=axis)
        at = np.argwhere((low > 0.5) != (high > 0.5))
        here, there = low[tuple(at.T)], high[tuple(at.T)]
        points = at.astype(np.float64)
        points[:, axis] += (0.5 - here) / (there - here)
        found.append(points * np.asarray(voxel_mm))
    return np.concatenate(found)


def _missing_share(photopeak: Image, body: Array) -> float:
    """Share of the head's activity that lies outside of a map; foci count no more than the level of the head."""
    preview = measured(photopeak)
    if preview is None or preview.head <= 0:
        return 0.0
    smooth = gaussian_filter(preview.values, SHAPE_SIGMA_MM / preview.voxel_mm, mode="nearest")
    bright = np.where(largest(smooth > 0.5 * preview.head), np.minimum(smooth, preview.head), 0.0)
    inside = _solid(body)[preview.first : preview.first + len(bright)] > 0.5
    inside = binary_dilation(inside, iterations=BLUR_VOXELS)
    return float(bright[~inside].sum() / max(bright.sum(), 1e-30))


def _energy_doubt(energy_kev: float, acquisition: Acquisition, coverage: Coverage) -> str | None:
    if any(abs(energy_kev - known) <= ENERGY_KEV for known in coverage.energies_kev):
        return None
    listed = " and ".join(f"{known:g}" for known in coverage.energies_kev)
    return (
        f"the imaged line of {acquisition.nuclide} has {energy_kev:g} keV, training had {listed} keV: "
        "the network knows no attenuation at this energy"
    )


def _counts_doubt(counts: float, coverage: Coverage) -> str | None:
    least = COUNTS_SHARE * coverage.least_counts
    if counts >= least:
        return None
    return (
        f"the photopeak holds {counts:.3g} counts, training had {coverage.least_counts:.3g} at least and half of that "
        "is the limit: the preview is too noisy for a map"
    )


def _sigma_doubt(acquisition: Acquisition, energy_kev: float, coverage: Coverage) -> str | None:
    if acquisition.collimator is None:
        return (
            "the collimator is unknown: whether the preview is as sharp as those of training cannot be told, "
            "give --collimator or --psf"
        )
    sigma_mm = float(np.mean(acquisition.collimator.sigma_mm(acquisition.radii_mm, energy_kev)))
    least, most = coverage.sigma_mm
    if (1.0 - SIGMA_SHARE) * least <= sigma_mm <= (1.0 + SIGMA_SHARE) * most:
        return None
    return (
        f"the collimator's blur at the axis is sigma {sigma_mm:.1f} mm, training had {least:.1f} to {most:.1f} mm: "
        f"{'edges are softer' if sigma_mm > most else 'edges are sharper'} than the network has learned"
    )


def _arc_doubt(acquisition: Acquisition) -> str | None:
    angles = np.sort(np.mod(acquisition.view_angles_deg, 360.0))
    gap_deg = float(np.diff(np.append(angles, angles[0] + 360.0)).max())
    if gap_deg <= GAP_DEG:
        return None
    return (
        f"the views leave {gap_deg:.0f} deg uncovered, training had full circles: "
        "the uncorrected image is distorted in a way that the network does not know"
    )


def _posture_doubt(acquisition: Acquisition) -> str | None:
    position = acquisition.patient_position
    if position in SUPINE:
        return None
    return (
        f"the patient's position is {position}, training had heads that lie on their back (HFS, FFS): "
        "the map would be that of a head turned another way"
    )


def _edge_doubt(counts: Array, acquisition: Acquisition, coverage: Coverage) -> str | None:
    columns = _columns_mm(acquisition.matrix[1], acquisition.pixel_mm[1])
    share = _edge_share(counts, columns - float(np.asarray(acquisition.u_offset_mm).mean()))
    if share <= coverage.edge_share + EDGE_MARGIN:
        return None
    return (
        f"the columns at the sides of the field hold {share:.0%} of the counts in the middle of the head, "
        f"in training at most {coverage.edge_share:.0%}: the head is cut off at the sides, or not alone in the field"
    )


def _columns_mm(columns: int, pixel_mm: float) -> Array:
    return (np.arange(columns) - 0.5 * (columns - 1)) * pixel_mm


def _edge_share(counts: Array, columns_mm: Array) -> float:
    """Counts (v, z, u) at the sides of the field over those in the middle of the head, mean over the views.

    The sides are the outermost 8 mm, or all beyond 120 mm from the axis where the field is wider than training's; of
    left and right the fuller one counts, at the heights of the head. What the darkest tenth of the rows holds there is
    taken off first: photons above 400 keV lie over all of the field.
    """
    half = float(np.abs(columns_mm).max())
    beside = np.abs(columns_mm) > min(half - 6.0, 119.0)
    totals = counts.sum(axis=(0, 2), dtype=np.float64)
    if not totals.any() or beside.all():
        return 0.0
    rows = totals > 0.5 * totals.max()
    level = float(np.quantile(counts[:, :, beside].mean(axis=(0, 2)), 0.1))
    profiles = gaussian_filter(counts[:, rows].mean(axis=1), (0.0, 1.0), mode="nearest") - level
    middle = np.sort(profiles, axis=1)[:, -max(1, int(48.0 / (columns_mm[1] - columns_mm[0]))) :].mean(axis=1)
    at_sides = profiles[:, beside].max(axis=1)
    known = middle > 0
    return float((at_sides[known] / middle[known]).mean()) if known.any() else 0.0


def _swap_doubt(photopeak: Image, scatter: Image, coverage: Coverage) -> str | None:
    ratio = _sharper(photopeak.values, scatter.values, photopeak.grid.voxel_ml)
    if not ratio < min(1.0, SHARPER_SHARE * coverage.sharper):
        return None
    return (
        f"the photopeak's image holds {ratio:.2f} times the detail of the scatter window's, in training at least "
        f"{coverage.sharper:.2f} times: the windows are swapped, or the photopeak misses the line"
    )


def _sharper(photopeak: Array, scatter: Array, voxel_ml: float) -> float:
    """Detail of structures of 2 to 4 cm in one preview (z, y, x) over that in another, each over its head level.

    Scattered photons have lost where they came from, so that the photopeak holds more of it. Finer structure would be
    noise, of which the scatter window has more. Where both show the head; NaN where either is empty.
    """
    try:
        scaled = [values / head_level(values, voxel_ml) for values in (photopeak, scatter)]
    except InputError:
        return math.nan
    coarse = [gaussian_filter(values, 2.0) for values in scaled]
    head = (coarse[0] > 0.3) & (coarse[1] > 0.3)
    detail = [
        float(np.abs(one - gaussian_filter(values, 4.0))[head].sum())
        for one, values in zip(coarse, scaled, strict=True)
    ]
    return detail[0] / detail[1] if detail[1] > 0 else math.nan


@dataclass(frozen=True)
class _Look:
    """How a head shows in the photopeak: volume in mL, second part's over the first's, hottest 5 mL over its level.

    `turn_deg` is the angle in plane between the long axis and front to back, NaN where no outline shows or it is round.
    """

    head_ml: float
    second: float
    hottest: float
    turn_deg: float

    @classmethod
    def at(cls, photopeak: Image) -> "_Look | None":
        """Look of a preview, None where it is empty or no head stands out."""
        preview = measured(photopeak)
        if preview is None or preview.head <= 0:
            return None
        smooth = gaussian_filter(preview.values, SHAPE_SIGMA_MM / preview.voxel_mm, mode="nearest")
        parts, _ = label(smooth > SHAPE_SHARE * preview.head)
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        if not sizes.any():
            return None
        order = np.sort(sizes)[::-1]
        head_ml = float(order[0]) * photopeak.grid.voxel_ml
        turn_deg = _turn_deg(parts == np.argmax(sizes)) if head_ml >= LEAST_HEAD_ML else math.nan
        return cls(
            head_ml, float(order[1] / order[0]) if order.size > 1 else 0.0, preview.peak / preview.head, turn_deg
        )


def _turn_deg(head: Array) -> float:
    """Angle in plane from front to back (y) to the long axis of a mask (z, y, x), -90 to 90; NaN where it is round."""
    y, x = (axis - axis.mean() for axis in np.nonzero(head)[1:])
    along, across, mixed = float((y * y).mean()), float((x * x).mean()), float((x * y).mean())
    if math.hypot(along - across, 2.0 * mixed) < LEAST_ELONGATION * (along + across):
        return math.nan
    return 0.5 * math.degrees(math.atan2(2.0 * mixed, along - across))


def _look_doubts(photopeak: Image, coverage: Coverage) -> list[str]:
    look = _Look.at(photopeak)
    if look is None:
        return ["no head stands out in the photopeak's preview: there is nothing to make a map of"]
    found = []
    least, most = coverage.head_ml
    if not least / VOLUME_FACTOR <= look.head_ml <= VOLUME_FACTOR * most:
        found.append(
            f"{look.head_ml:.0f} mL show in the photopeak, in training {least:.0f} to {most:.0f} mL: "
            "this is not one head in the field, or only a part of one"
        )
    if look.second > SECOND_SHARE:
        found.append(
            f"the photopeak shows two parts, the second of {look.second:.0%} of the first's volume: "
            "the network knows one head at a time"
        )
    if look.hottest > HOT_FACTOR * coverage.hottest:
        found.append(
            f"the hottest 5 mL have {look.hottest:.0f} times the level of the head, in training at most "
            f"{coverage.hottest:.0f} times: the image shows foci and hardly a head"
        )
    if abs(look.turn_deg) > FREE_TURN_DEG:
        found.append(
            f"the head's long axis lies {abs(look.turn_deg):.0f} deg from front to back, in training it was turned by "
            "at most 8 deg: the patient lies on the side, or the view angles are wrong"
        )
    return found
