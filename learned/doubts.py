"""Reasons why a network must not be trusted with a study, or its map not be used: sentences with their numbers.

Numbers without another source were set on 48 patients of an earlier cohort (seed 200), so that none of them
tripped, and on the same turned, cut at the sides or with swapped windows, which must.
"""

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from spectac.learned.appearance import SHAPE_SIGMA_MM, Appearance, columns_mm, edge_share, sharper
from spectac.learned.coverage import Coverage, preview_pixel_mm
from spectac.learned.outline_distance import outline_distance_mm, solid
from spectac.recon.attenuation import Solver
from spectac.recon.contour_preview import largest, measured
from spectac.recon.errors import InputError
from spectac.recon.scatter import photopeak_index
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Acquisition, Array, Image, MuMap

ENERGY_KEV = 2.0
"""A line so near to a covered one has the same attenuation within 0.5 % (water, 140 keV)."""
COUNTS_SHARE, SIGMA_SHARE, PIXEL_FACTOR, HEIGHT_SHARE, WIDTH_SHARE, VIEWS_SHARE = 0.5, 0.15, 1.25, 0.85, 0.25, 0.5
"""How far below the least counts, beyond the range of blur, above the pixels, below the height, beyond the range of the
photopeak's width and below the fewest views a study may lie: chosen, not measured."""
GAP_DEG = 30.0
"""As recon.pipeline's note on views that leave an arc uncovered."""
SUPINE = (None, "HFS", "FFS")
SECOND_SHARE = 0.25
"""A second part of that volume over the first is no noise, gland or pillow: these reach 0.02."""
FREE_TURN_DEG = 30.0
"""The long axis of those 48 heads lay within 16 deg of front to back."""
VOLUME_FACTOR, EDGE_MARGIN, SHARPER_SHARE, HOT_FACTOR = 1.3, 0.08, 0.97, 1.3
"""Margins about what training had. A photopeak had 1.06 times the detail of a window below it at least (293 windows of
272 patients of an earlier cohort), so that swapped windows have 0.94 at most; heads cut to 160 mm have 0.18 or more
beside them."""
MISSING_SHARE, BLUR_VOXELS = 0.05, 2
"""Activity outside of a map and of the 8 mm around it, where it is blurred to: 0.02 at most for true maps."""


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
        _pixel_doubt(acquisition, coverage),
        _peak_doubt(solver, coverage),
        _views_doubt(acquisition, coverage),
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
            f"the network's passes differ by {uncertainty:.1%} of the map, the limit from validation patients is "
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
        apart_mm = outline_distance_mm(photopeak, scatter, mu)
    except InputError as error:
        return (*found, f"the outline of the predicted map cannot be compared with the data: {error}")
    if apart_mm is not None and not apart_mm <= coverage.outline_mm:
        found.append(
            f"the predicted map's outline lies {apart_mm:.1f} mm on average from the one that the data show, the limit "
            f"from validation patients is {coverage.outline_mm:.1f} mm: it is another head's, or misplaced"
        )
    return tuple(found)


def _missing_share(photopeak: Image, body: Array) -> float:
    """Share of the head's activity that lies outside of a map; foci count no more than the level of the head."""
    preview = measured(photopeak)
    if preview is None or preview.head <= 0:
        return 0.0
    smooth = gaussian_filter(preview.values, SHAPE_SIGMA_MM / preview.voxel_mm, mode="nearest")
    bright = np.where(largest(smooth > 0.5 * preview.head), np.minimum(smooth, preview.head), 0.0)
    inside = solid(body)[preview.first : preview.first + len(bright)] > 0.5
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


def _pixel_doubt(acquisition: Acquisition, coverage: Coverage) -> str | None:
    pixel_mm = max(preview_pixel_mm(acquisition.pixel_mm))
    if pixel_mm <= PIXEL_FACTOR * coverage.pixel_mm:
        return None
    return (
        f"the pixels of {pixel_mm:.1f} mm are coarser than training's {coverage.pixel_mm:.1f} mm: "
        "the preview shows edges as the network has not learned them"
    )


def _peak_doubt(solver: Solver, coverage: Coverage) -> str | None:
    study = solver.study
    window = study.windows[photopeak_index(study, solver.projections.window)]
    width = 2.0 * window.width_kev / (window.lower_kev + window.upper_kev)
    least, most = coverage.peak_width
    if (1.0 - WIDTH_SHARE) * least <= width <= (1.0 + WIDTH_SHARE) * most:
        return None
    return (
        f"the photopeak's window is {width:.0%} wide, training had {least:.0%} to {most:.0%}: "
        "it holds another share of scattered photons"
    )


def _views_doubt(acquisition: Acquisition, coverage: Coverage) -> str | None:
    if acquisition.views >= VIEWS_SHARE * coverage.views:
        return None
    return (
        f"{acquisition.views} views, training had {coverage.views:.0f} at least and half of that is the limit: "
        "the preview shows streaks that the network does not know"
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
    columns = columns_mm(acquisition.matrix[1], acquisition.pixel_mm[1])
    share = edge_share(counts, columns - float(np.asarray(acquisition.u_offset_mm).mean()))
    if share <= coverage.edge_share + EDGE_MARGIN:
        return None
    return (
        f"the columns at the sides of the field hold {share:.0%} of the counts in the middle of the head, "
        f"in training at most {coverage.edge_share:.0%}: the head is cut off at the sides, or not alone in the field"
    )


def _swap_doubt(photopeak: Image, scatter: Image, coverage: Coverage) -> str | None:
    ratio = sharper(photopeak.values, scatter.values, photopeak.grid.voxel_ml)
    if not ratio < min(1.0, SHARPER_SHARE * coverage.sharper):
        return None
    return (
        f"the photopeak's image holds {ratio:.2f} times the detail of the scatter window's, in training at least "
        f"{coverage.sharper:.2f} times: the windows are swapped, or the photopeak misses the line"
    )


def _look_doubts(photopeak: Image, coverage: Coverage) -> list[str]:
    look = Appearance.of(photopeak)
    if look is None:
        return ["no head stands out in the photopeak's preview: there is nothing to make a map of"]
    found = []
    least, most = coverage.head_ml
    if not least / VOLUME_FACTOR <= look.head_ml <= VOLUME_FACTOR * most:
        found.append(
            f"{look.head_ml:.0f} mL show in the photopeak, in training {least:.0f} to {most:.0f} mL: "
            "this is not one head in the field, or only a part of one"
        )
    if look.height_mm < HEIGHT_SHARE * coverage.height_mm:
        found.append(
            f"the field reaches {look.height_mm:.0f} mm down from the top of the head, in training at least "
            f"{coverage.height_mm:.0f} mm: the lower part of the head is missing"
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
            f"the head's long axis lies {abs(look.turn_deg):.0f} deg from front to back, those of training less than "
            f"{FREE_TURN_DEG:.0f} deg: the patient lies on the side, or the view angles are wrong"
        )
    return found
