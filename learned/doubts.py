"""Reasons for doubt: why a network must not be trusted with a study, or its map not be used.

Each reason is a sentence with its numbers. Limits without another source were set on 48 patients of an earlier cohort
(seed 200): none of them raises a doubt, and all do when turned, cut at the sides or with swapped windows.
"""

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from spectac.learned.appearance import (
    SHAPE_SIGMA_MM,
    Appearance,
    detail_ratio,
    edge_share,
    preview_pixel_mm,
)
from spectac.learned.coverage import Coverage
from spectac.learned.outline_distance import outline_distance_mm, solid
from spectac.recon.attenuation import Solver
from spectac.recon.contour_preview import largest, measured
from spectac.recon.errors import InputError
from spectac.recon.geometry import LARGEST_GAP_DEG, axis_sigma_mm, gaps_deg, object_pixel_mm, ray_lines
from spectac.recon.photopeak import photopeak_index
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array, Image, MuMap

ENERGY_KEV = 2.0
"""Largest distance from a line of training. Attenuation differs by less than 0.5 % (water, 140 keV)."""

COUNTS_SHARE = 0.44
"""Least counts relative to the least of training. The virtual patient that had so few (benchmarks/results/
attenuation_methods.csv, a fifth of the counts) had a map 2.8 % better than the uniform one."""

SHARPER_BLUR = 0.85
"""Least blur of the collimator relative to the least of training: chosen, as are the limits without another source."""

SOFTER_BLUR = 1.48
"""Largest blur relative to the largest of training. Of 14 virtual patients with 1.15 to 1.48 times as much
(medium-energy collimators, the same file, other scanners) 12 had a map better than the uniform one, none one that was
5 % worse."""

PIXEL_FACTOR = 1.25
"""Largest pixel relative to the largest of training."""

HEIGHT_SHARE = 0.85
"""Least height of the field below the vertex relative to the least of training."""

NARROWER = 0.75
"""Least width of the photopeak relative to the least of training."""

WIDER = 1.3
"""Largest width relative to the largest of training. Windows 1.25 and 1.3 times as wide (the same file, other scanners)
gave one map that was 0.1 % better than the uniform one and one that was 0.4 % worse."""

VIEWS_SHARE = 0.5
"""Fewest views relative to the fewest of training."""

SUPINE = (None, "HFS", "FFS")
"""Patient positions of training; None: unknown."""

SECOND_SHARE = 0.25
"""Largest second part relative to the head. Noise, glands and pillows reach 0.02."""

FREE_TURN_DEG = 30.0
"""Largest angle between the long axis and front to back. Those 48 heads lay within 16 deg."""

VOLUME_FACTOR = 1.3
"""Margin of the head's volume around the range of training."""

EDGE_MARGIN = 0.08
"""Margin of `edge_share` above the largest of training. Heads cut to 160 mm have 0.18 or more."""

SHARPER_SHARE = 0.97
"""Least detail ratio relative to the least of training. Photopeaks had 1.06 or more (293 windows of 272 patients of an
earlier cohort), so that swapped windows have 0.94 at most."""

HOT_FACTOR = 1.3
"""Largest level of the hottest 5 mL relative to the largest of training."""

MISSING_SHARE = 0.05
"""Largest share of the head's activity outside of the map. True maps leave 0.02 at most."""

CONFIRMED_FACTOR = 1.5
"""Factor on the limits of uncertainty and outline for maps that the counts confirm."""

BLUR_VOXELS = 2
"""Widening of the map by the blur of the preview, 8 mm."""


Check = tuple[bool, str]
"""Whether there is a doubt, and its sentence."""


def input_doubts(solver: Solver, photopeak: Image, scatter: Image | None, coverage: Coverage) -> tuple[str, ...]:
    """Reasons why a network must not be trusted with a study; none for a study like those of its training.

    Parameters
    ----------
    solver
        Solver of the study.
    photopeak, scatter
        Previews that the network will see.
    coverage
        What the training of the network covered.

    Returns
    -------
    tuple[str, ...]
        One sentence each, with the values of the study and of the training data.

    Examples
    --------
    >>> from spectac.learned.estimate import TrainedNetwork
    >>> from spectac.learned.weights_file import shipped_weights
    >>> from spectac.recon import ReconstructionSettings, Study
    >>> from spectac.recon.pipeline import StudySolver
    >>> from spectac.simulate.scanner import Scanner
    >>> scanner = Scanner("tiny", "siemens-lehr", matrix=(16, 16), pixel_mm=16.0, views=16, scheme="photopeak")
    >>> study = Study(scanner.acquisition("I-123"), scanner.windows("I-123"), np.ones((1, 16, 16, 16)))
    >>> solver = StudySolver(study, ReconstructionSettings(device="cpu"))
    >>> coverage = TrainedNetwork.read(shipped_weights()).coverage
    >>> input_doubts(solver, solver.preview(), None, coverage)[0][:35]
    'the photopeak holds 4.1e+03 counts,'
    """
    acquisition = solver.projections.acquisition
    counts = np.asarray(solver.projections.counts)
    share = edge_share(counts, ray_lines(acquisition)[1].mean(axis=0))
    checks = [
        (
            share > coverage.edge_share + EDGE_MARGIN,
            f"the columns at the sides of the field hold {share:.0%} of the counts in the middle of the head, in "
            f"training at most {coverage.edge_share:.0%}: the head is cut off at the sides, or not alone in the field",
        )
    ]
    if scatter is not None:
        ratio = detail_ratio(photopeak.values, scatter.values, photopeak.grid.voxel_ml)
        checks.append(
            (
                ratio < min(1.0, SHARPER_SHARE * coverage.sharper),
                f"the photopeak's image holds {ratio:.2f} times the detail of the scatter window's, in training at "
                f"least {coverage.sharper:.2f} times: the windows are swapped, or the photopeak misses the line",
            )
        )
    return (*_reasons([*_acquisition_checks(solver, coverage), *checks]), *head_doubts(photopeak, coverage))


def map_doubts(
    photopeak: Image,
    scatter: Image | None,
    mu: MuMap,
    uncertainty: float,
    coverage: Coverage,
    *,
    confirmed: bool = False,
) -> tuple[str, ...]:
    """Reasons why a network's map must not be used: it is uncertain, or it misses the head.

    The outline is compared with that of the data (recon.contour) where the data show one.

    Parameters
    ----------
    photopeak, scatter
        Previews that the network saw.
    mu
        Map on the grid of the previews.
    uncertainty
        See `Estimate`.
    coverage
        What the training of the network covered.
    confirmed
        Whether the counts agree with the map (`StudySolver.checked`): limits are wider then.

    Raises
    ------
    InputError
        If map and previews lie on different grids.

    Returns
    -------
    tuple[str, ...]
        One sentence each, with the values of the map and their limits.

    Examples
    --------
    >>> from spectac.learned.estimate import TrainedNetwork
    >>> from spectac.learned.weights_file import shipped_weights
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((8, 8, 8), (4.0, 4.0, 4.0), (-14.0, -14.0, -14.0))
    >>> photopeak, air = Image(np.ones(grid.shape), grid, "cps/mL"), MuMap(np.zeros(grid.shape), grid, 140.5)
    >>> map_doubts(photopeak, None, air, 0.01, TrainedNetwork.read(shipped_weights()).coverage)
    ('no voxel of the predicted map reaches half of water: it holds no head',)
    """
    if not mu.grid.same_as(photopeak.grid):
        raise InputError(f"the map's grid {mu.grid.shape} is not the preview's {photopeak.grid.shape}")
    wider = CONFIRMED_FACTOR if confirmed else 1.0
    limit, farthest_mm = wider * coverage.uncertainty, wider * coverage.outline_mm
    spread = (
        not uncertainty <= limit,
        f"the network's passes differ by {uncertainty:.2%} of the map, the limit is {limit:.2%}: "
        "it does not know this kind of image",
    )
    body = np.clip(mu.per_cm / water_per_cm(mu.energy_kev), 0.0, 1.0)
    if not (body > 0.5).any():
        return _reasons([spread, (True, "no voxel of the predicted map reaches half of water: it holds no head")])
    missing = _missing_share(photopeak, body)
    outside = (
        missing > MISSING_SHARE,
        f"{missing:.0%} of the activity of the head lies outside of the predicted map: a part of it is missing",
    )
    try:
        apart_mm = outline_distance_mm(photopeak, scatter, mu)
    except InputError as error:
        unknown = f"the outline of the predicted map cannot be compared with the data: {error}"
        return _reasons([spread, outside, (True, unknown)])
    apart_mm = 0.0 if apart_mm is None else apart_mm
    misplaced = (
        not apart_mm <= farthest_mm,
        f"the predicted map's outline lies {apart_mm:.1f} mm on average from the one that the data show, the limit "
        f"from validation patients is {farthest_mm:.1f} mm: it is another head's, or misplaced",
    )
    return _reasons([spread, outside, misplaced])


def _reasons(checks: list[Check]) -> tuple[str, ...]:
    return tuple(sentence for doubtful, sentence in checks if doubtful)


def _missing_share(photopeak: Image, body: Array) -> float:
    """Share of the head's activity outside of a map; foci count no more than the level of the head."""
    preview = measured(photopeak)
    if preview is None or preview.head <= 0:
        return 0.0
    smooth = gaussian_filter(preview.values, SHAPE_SIGMA_MM / preview.voxel_mm, mode="nearest")
    bright = np.where(largest(smooth > 0.5 * preview.head), np.minimum(smooth, preview.head), 0.0)
    inside = solid(body)[preview.first : preview.first + len(bright)] > 0.5
    inside = binary_dilation(inside, iterations=BLUR_VOXELS)
    return float(bright[~inside].sum() / max(bright.sum(), 1e-30))


def _acquisition_checks(solver: Solver, coverage: Coverage) -> list[Check]:
    """Checks of energy, counts, camera, protocol and position."""
    study, acquisition, energy_kev = solver.study, solver.projections.acquisition, solver.energy_kev
    lines = " and ".join(f"{line:g}" for line in coverage.energies_kev)
    counts = float(np.asarray(solver.projections.counts).sum(dtype=np.float64))
    pixel_mm = preview_pixel_mm(object_pixel_mm(acquisition))
    window = study.windows[photopeak_index(study, solver.projections.window)]
    width = 2.0 * window.width_kev / (window.lower_kev + window.upper_kev)
    narrowest, widest = coverage.peak_width
    gap_deg = float(gaps_deg(acquisition.view_angles_deg).max())
    return [
        (
            all(abs(energy_kev - line) > ENERGY_KEV for line in coverage.energies_kev),
            f"the imaged line of {acquisition.nuclide} has {energy_kev:g} keV, training had {lines} keV: "
            "the network knows no attenuation at this energy",
        ),
        (
            counts < COUNTS_SHARE * coverage.least_counts,
            f"the photopeak holds {counts:.3g} counts, training had {coverage.least_counts:.3g} at least and "
            f"{COUNTS_SHARE:g} times that is the limit: the preview is too noisy for a map",
        ),
        _blur_check(solver, coverage),
        (
            pixel_mm > PIXEL_FACTOR * coverage.pixel_mm,
            f"the pixels of {pixel_mm:.1f} mm are coarser than training's {coverage.pixel_mm:.1f} mm: "
            "the preview shows edges as the network has not learned them",
        ),
        (
            not NARROWER * narrowest <= width <= WIDER * widest,
            f"the photopeak's window is {width:.0%} wide, training had {narrowest:.0%} to {widest:.0%}: "
            "it holds another share of scattered photons",
        ),
        (
            acquisition.views < VIEWS_SHARE * coverage.views,
            f"{acquisition.views} views, training had {coverage.views:.0f} at least and half of that is the limit: "
            "the preview shows streaks that the network does not know",
        ),
        (
            gap_deg > LARGEST_GAP_DEG,
            f"the views leave {gap_deg:.0f} deg uncovered, training had full circles: "
            "the uncorrected image is distorted in a way that the network does not know",
        ),
        (
            acquisition.patient_position not in SUPINE,
            f"the patient's position is {acquisition.patient_position}, training had heads that lie on their back "
            "(HFS, FFS): the map would be that of a head turned another way",
        ),
    ]


def _blur_check(solver: Solver, coverage: Coverage) -> Check:
    acquisition = solver.projections.acquisition
    if acquisition.collimator is None:
        return True, (
            "the collimator is unknown: whether the preview is as sharp as those of training cannot be told, "
            "give --collimator or --psf"
        )
    sigma_mm = float(np.mean(axis_sigma_mm(acquisition, solver.energy_kev)))
    least, most = coverage.sigma_mm
    edges = "softer" if sigma_mm > most else "sharper"
    return (
        not SHARPER_BLUR * least <= sigma_mm <= SOFTER_BLUR * most,
        f"the collimator's blur at the axis is sigma {sigma_mm:.1f} mm, training had {least:.1f} to {most:.1f} mm: "
        f"edges are {edges} than the network has learned",
    )


def head_doubts(photopeak: Image, coverage: Coverage) -> tuple[str, ...]:
    """Reasons why a preview does not show one whole, upright head like those of training.

    Parameters
    ----------
    photopeak
        Preview of the photopeak.
    coverage
        What the training of the network covered.

    Returns
    -------
    tuple[str, ...]
        One sentence each.

    Examples
    --------
    >>> from spectac.learned.estimate import TrainedNetwork
    >>> from spectac.learned.weights_file import shipped_weights
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((8, 8, 8), (4.0, 4.0, 4.0), (-14.0, -14.0, -14.0))
    >>> air = Image(np.zeros(grid.shape), grid, "cps/mL")
    >>> head_doubts(air, TrainedNetwork.read(shipped_weights()).coverage)[0][:18]
    'no head stands out'
    """
    head = Appearance.of(photopeak)
    if head is None:
        return ("no head stands out in the photopeak's preview: there is nothing to make a map of",)
    least, most = coverage.head_ml
    checks: list[Check] = [
        (
            not least / VOLUME_FACTOR <= head.head_ml <= VOLUME_FACTOR * most,
            f"{head.head_ml:.0f} mL show in the photopeak, in training {least:.0f} to {most:.0f} mL: "
            "this is not one head in the field, or only a part of one",
        ),
        (
            head.height_mm < HEIGHT_SHARE * coverage.height_mm,
            f"the field reaches {head.height_mm:.0f} mm down from the top of the head, in training at least "
            f"{coverage.height_mm:.0f} mm: the lower part of the head is missing",
        ),
        (
            head.second > SECOND_SHARE,
            f"the photopeak shows two parts, the second of {head.second:.0%} of the first's volume: "
            "the network knows one head at a time",
        ),
        (
            head.hottest > HOT_FACTOR * coverage.hottest,
            f"the hottest 5 mL have {head.hottest:.0f} times the level of the head, in training at most "
            f"{coverage.hottest:.0f} times: the image shows foci and hardly a head",
        ),
        (
            abs(head.turn_deg) > FREE_TURN_DEG,
            f"the head's long axis lies {abs(head.turn_deg):.0f} deg from front to back, those of training less than "
            f"{FREE_TURN_DEG:.0f} deg: the patient lies on the side, or the view angles are wrong",
        ),
    ]
    return _reasons(checks)
