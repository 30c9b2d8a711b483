"""Volumes of interest (VOIs): from a label image, or placed on an image by a template head.

A VOI is an array of weights from 0 to 1 on the image's grid, the share of each voxel that lies inside, as
recon/quantify.py takes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from spectac.recon import filters
from spectac.recon.contour_preview import HEAD_ML, exceeded
from spectac.recon.errors import InputError
from spectac.recon.resample import resample
from spectac.recon.types import Array, Grid, Image

SIDES = ("right", "left")
LOBES = ("frontal", "parietal", "temporal", "occipital", "cingulate")
"""Cortical regions of each side; "cingulate" is the posterior cingulate and precuneus."""
_PAIRED = ("caudate", "putamen", "thalamus", "white matter", "cerebellar cortex", *(f"{lobe} cortex" for lobe in LOBES))

GROUPS: dict[str, tuple[str, ...]] = {
    **{name: tuple(f"{side} {name}" for side in SIDES) for name in _PAIRED},
    **{f"{side} {name}": (f"{side} {name}",) for side in SIDES for name in _PAIRED},
    **{f"{side} striatum": (f"{side} caudate", f"{side} putamen") for side in SIDES},
    "striata": tuple(f"{side} {part}" for part in ("caudate", "putamen") for side in SIDES),
    "reference": tuple(f"{side} occipital cortex" for side in SIDES),
    "cortex": tuple(f"{side} {lobe} cortex" for lobe in LOBES for side in SIDES),
    "cerebellum": (*(f"{side} cerebellar cortex" for side in SIDES), "cerebellar white matter"),
    "brainstem": ("brainstem",),
    "ventricles": ("ventricles",),
    "brain": (*(f"{side} {name}" for name in _PAIRED for side in SIDES), "cerebellar white matter", "brainstem"),
}
GROUPS["inside the skull"] = (*GROUPS["brain"], "csf", "ventricles", "choroid plexus")
"""Regions that studies report, by the names of their labels; "reference" is that of DAT scans."""

BOX_MM = 15.0
"""How far the large VOI of the Southampton method reaches beyond a striatum: 3.5 sigma of 10 mm FWHM."""
DEEP_MM = 8.0
"""How deep the reference of that method, the brain beyond the boxes, lies below the skull.

Folds and ventricles are then in both, and no edge loses counts: ratios stay within 5 % for blurs from 0 to 8 mm FWHM.
"""
CUT_SHARE = 0.02
"""Share of a VOI outside of the grid beyond which it counts as cut."""
LEAST_SHARE = 0.05
"""A VOI without a voxel that lies inside by more than this share is left out."""

TRACERS = ("dat", "perfusion")
TEMPLATE = files("spectac.recon") / "templates" / "head.nii.gz"
"""Labels of a typical head (simulate/typical_head.py), 2 mm."""

_SOFT = {"skin": 0.5, "fat": 0.15, "muscle": 0.4, "mucosa": 1.0, "skull": 0.1, "diploe": 0.3, "spine": 0.4,
         "spinal cord": 0.7, "csf": 0.1, "ventricles": 0.1, "eye": 0.2}  # fmt: skip
LEVELS: dict[str, dict[str, float]] = {
    "dat": _SOFT | dict.fromkeys(GROUPS["brain"], 1.0) | dict.fromkeys(GROUPS["striata"], 4.5),
    "perfusion": {name: 0.4 * level for name, level in _SOFT.items()}
    | dict.fromkeys(GROUPS["brain"], 1.0)
    | dict.fromkeys((*GROUPS["white matter"], "cerebellar white matter"), 0.35),
}
"""Uptake of a typical patient over that of the cortex, the middle of the ranges in simulate/tracers."""

LEAST_CORRELATION = 0.85
"""Below this a template does not fit: of virtual patients none comes under 0.9 (benchmarks/images/voi_placement.py)."""
_SAMPLE_MM = 6.0
"""Distance of the samples that the search compares."""
_FWHM_MM = 12.0
"""Blur of the template and of the image when they are compared."""
_IMAGE_FWHM_MM = 9.0
"""Blur that the image is taken to have already."""
_CAP = {"dat": 2.5, "perfusion": 1.6}
"""Multiple of the level that 400 mL exceed at which values are cut, so that a diseased striatum fits as well."""
_STARTS_DEG = (0.0, -12.0, 12.0)
"""Pitches from which the search starts."""
_STEPS = np.array([6.0, 4.0, 4.0, 6.0, 6.0, 6.0, 3.0, 3.0, 3.0])
"""Steps of the search: turns (x, y, z) in deg, shifts (x, y, z) in mm, scales (x, y, z) in %."""
_SCALE_COST = 2e-4
"""Cost of a squared step of a scale, which keeps a field that cuts the head from making up a size."""


@dataclass(frozen=True, eq=False)
class Vois:
    """VOIs on one grid.

    Parameters
    ----------
    masks
        Weights (z, y, x) from 0 to 1, by name.
    grid
        Voxel grid.
    source
        Where the VOIs come from, in words.
    tracer
        Tracer whose template fitted, "dat" or "perfusion"; None for VOIs from labels.
    cut
        Names of the VOIs of which more than 2 % lie outside of the grid.
    fits
        Correlations of the templates, by tracer.

    Examples
    --------
    >>> grid = Grid.upright((2, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> Vois({"brain": np.ones(grid.shape)}, grid, "labels").cut
    ()
    """

    masks: Mapping[str, Array]
    grid: Grid
    source: str
    tracer: str | None = None
    cut: tuple[str, ...] = ()
    fits: Mapping[str, float] = field(default_factory=dict)


def grouped(labels: Array, names: Mapping[int, str]) -> dict[str, Array]:
    """Masks of the regions in GROUPS, and of labels by other names.

    A region of which some part has no label is left out, and so are the other tissues of a virtual head. Every other
    label is a region by its name, or "label 3" where it has none.

    Parameters
    ----------
    labels
        Numbers (z, y, x) of the labels.
    names
        Names by number.

    Returns
    -------
    dict
        Masks (z, y, x) of booleans by name.

    Examples
    --------
    >>> sorted(grouped(np.array([[[1, 2, 3]]]), {1: "right caudate", 2: "right putamen"}))
    ['label 3', 'right caudate', 'right putamen', 'right striatum']
    """
    numbers = {name: label for label, name in names.items()}
    of_head = set(template()[2].values())
    present = [int(label) for label in np.unique(labels) if label > 0]
    wanted = {name: parts for name, parts in GROUPS.items() if set(parts) <= set(numbers)}
    masks = {name: np.isin(labels, [numbers[part] for part in parts]) for name, parts in wanted.items()}
    others = {names.get(label, f"label {label}"): label for label in present}
    masks |= {name: labels == label for name, label in others.items() if name not in of_head}
    return {name: mask for name, mask in masks.items() if mask.any()}


def from_labels(labels: Array, label_grid: Grid, names: Mapping[int, str], grid: Grid, source: str) -> Vois:
    """VOIs of a label image on another grid; striata get a large VOI besides.

    Parameters
    ----------
    labels
        Numbers (z, y, x) of the labels.
    label_grid
        Their grid.
    names
        Names by number.
    grid
        Wanted grid.
    source
        Where the labels come from, in words.

    Returns
    -------
    Vois
        VOIs as shares of each voxel.

    Raises
    ------
    InputError
        Where no label lies on the grid.

    Examples
    --------
    >>> grid = Grid.upright((2, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> list(from_labels(np.ones(grid.shape, int), grid, {1: "tumour"}, grid, "a drawing").masks)
    ['tumour']
    """
    masks, cut = on_grid(grouped(labels, names), label_grid, grid)
    if not masks:
        raise InputError(f"{source}: no labelled region lies in the image: the label image belongs to another position")
    return Vois(masks, grid, source, cut=cut)


def place(image: Image, tracer: str | None = None, grid: Grid | None = None) -> Vois:
    """VOIs placed on an image of the brain by a typical head that is fitted to it.

    The head is moved, turned and scaled along its axes until the correlation of the image and the painted template,
    both blurred, is largest (Powell's search from three pitches).

    Assumes: an image corrected for attenuation, head first, tilts up to about 20 deg. Regions are those of a healthy
    brain: a VOI does not follow what disease or surgery has moved.

    Parameters
    ----------
    image
        Image of the brain.
    tracer
        "dat" or "perfusion", what a typical patient shows; None: the one that fits better.
    grid
        Grid of the VOIs; None: that of the image.

    Returns
    -------
    Vois
        VOIs as shares of each voxel.

    Raises
    ------
    InputError
        Where the image shows no such brain (correlation below LEAST_CORRELATION).

    Examples
    --------
    >>> grid = Grid.upright((8, 16, 16), (8.0, 8.0, 8.0), (-60.0, -60.0, 0.0))
    >>> place(Image(np.zeros(grid.shape), grid, "cps/mL"))
    Traceback (most recent call last):
    spectac.recon.errors.InputError: the image shows no head: fewer than 400 mL hold any activity
    """
    if tracer is not None and tracer not in TRACERS:
        raise InputError(f"tracer {tracer!r} is not one of {', '.join(TRACERS)}")
    target, places, values = _sampled(image)
    fits = {name: _fitted(name, target, places, values) for name in (TRACERS if tracer is None else (tracer,))}
    best = max(fits, key=lambda name: fits[name][0])
    correlation, parameters = fits[best]
    if correlation < LEAST_CORRELATION:
        raise InputError(
            f"the image does not look like a brain's {' or '.join(fits)} scan (correlation with the template "
            f"{correlation:.2f}): VOIs cannot be placed, give a label image"
        )
    labels, label_grid, names = template()
    to_template = _matrix(parameters, target, _centre(label_grid))
    moved = np.linalg.solve(to_template, label_grid.affine_lps)
    lengths = np.linalg.norm(moved[:3, :3], axis=0)
    placed = Grid(label_grid.shape, (float(lengths[0]), float(lengths[1]), float(lengths[2])), moved)
    wanted = image.grid if grid is None else grid
    masks, cut = on_grid(grouped(labels, names), placed, wanted)
    correlations = {name: fit[0] for name, fit in fits.items()}
    listed = ", ".join(f"{name} {value:.3f}" for name, value in correlations.items())
    source = f"placed by the template of a typical head (correlation {listed})"
    return Vois(masks, wanted, source, best, cut, correlations)


def on_grid(masks: Mapping[str, Array], from_grid: Grid, grid: Grid) -> tuple[dict[str, Array], tuple[str, ...]]:
    """VOIs on a grid from masks on another.

    With both striata there are "right striatum box", its left twin, and "brain without striata" beyond the boxes and
    DEEP_MM below the skull.

    Parameters
    ----------
    masks
        Masks (z, y, x) of booleans by name.
    from_grid
        Their grid.
    grid
        Wanted grid.

    Returns
    -------
    tuple
        Shares (z, y, x) of the voxels by name, empty ones left out, and the names of those that the grid cuts.

    Examples
    --------
    >>> grid = Grid.upright((2, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> shares, cut = on_grid({"brain": np.ones(grid.shape, bool)}, grid, grid)
    >>> float(shares["brain"].min()), cut
    (1.0, ())
    """
    boxed = dict(masks)
    if {"right striatum", "left striatum"} <= set(masks):
        away = {side: _distance_mm(masks[f"{side} striatum"], from_grid) for side in SIDES}
        for side, other in zip(SIDES, SIDES[::-1], strict=True):
            boxed[f"{side} striatum box"] = (away[side] <= BOX_MM) & (away[side] < away[other])
        if "inside the skull" in masks:
            depth = distance_transform_edt(masks["inside the skull"], sampling=from_grid.voxel_mm)
            boxed["brain without striata"] = (depth > DEEP_MM) & (np.minimum(away["right"], away["left"]) > BOX_MM)
    shares = {name: share_on_grid(mask, from_grid, grid) for name, mask in boxed.items()}
    voxel_ml = abs(float(np.linalg.det(from_grid.affine_lps[:3, :3]))) / 1000.0
    least = {name: (1.0 - CUT_SHARE) * float(mask.sum()) * voxel_ml for name, mask in boxed.items()}
    kept = {name: share for name, share in shares.items() if share.max() > LEAST_SHARE}
    cut = tuple(name for name, share in kept.items() if float(share.sum()) * grid.voxel_ml < least[name])
    return kept, cut


def share_on_grid(mask: Array, from_grid: Grid, grid: Grid) -> Array:
    """Share of each voxel of a grid that a mask on another grid covers, computed around the mask alone.

    Parameters
    ----------
    mask
        Mask (z, y, x) of booleans.
    from_grid
        Its grid.
    grid
        Wanted grid.

    Returns
    -------
    Array
        Shares (z, y, x) from 0 to 1.

    Examples
    --------
    >>> fine = Grid.upright((1, 1, 2), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> share_on_grid(np.array([[[True, False]]]), fine, fine).tolist()
    [[[1.0, 0.0]]]
    """
    if from_grid.same_as(grid):
        return mask.astype(np.float32)
    share = np.zeros(grid.shape, np.float32)
    places = [np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    if not all(place.size for place in places):
        return share
    ends = [(place[0] - 1.0, place[-1] + 1.0) for place in places]
    corners = np.stack([*(axis.ravel() for axis in np.meshgrid(*ends, indexing="ij")), np.ones(8)])
    index = np.linalg.solve(grid.affine_lps, from_grid.affine_lps @ corners)[:3]
    low = np.clip(np.floor(index.min(axis=1)).astype(int) - 1, 0, grid.shape)
    high = np.clip(np.ceil(index.max(axis=1)).astype(int) + 2, 0, grid.shape)
    if (high <= low).any():
        return share
    affine = np.array(grid.affine_lps)
    affine[:3, 3] += affine[:3, :3] @ low
    size = high - low
    part = Grid((int(size[0]), int(size[1]), int(size[2])), grid.voxel_mm, affine)
    around = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    share[around] = np.clip(resample(mask.astype(np.float32), from_grid, part), 0.0, 1.0)
    return share


def _distance_mm(mask: Array, grid: Grid) -> Array:
    return np.asarray(distance_transform_edt(~mask, sampling=grid.voxel_mm))


@cache
def template() -> tuple[Array, Grid, dict[int, str]]:
    """Template of a typical head.

    Returns
    -------
    tuple
        Numbers (z, y, x) of the labels, their grid, and names by number.

    Examples
    --------
    >>> template()[1].voxel_mm
    (2.0, 2.0, 2.0)
    """
    from spectac.recon.io.nifti import read_labels

    labels, grid, names = read_labels(Path(str(TEMPLATE)))
    labels.flags.writeable = False
    return labels, grid, names


@cache
def _painted(tracer: str) -> tuple[Array, Grid]:
    """The template (z, y, x) as a blurred, capped image in units of the cortex, with air around it."""
    labels, grid, names = template()
    table = np.zeros(max(names) + 1, np.float32)
    for label, name in names.items():
        table[label] = LEVELS[tracer].get(name, 0.0)
    pad = round(3 * _FWHM_MM / grid.voxel_mm[0])
    # Below the template's last row the neck goes on.
    values = np.pad(np.pad(table[labels], ((pad, 0), (0, 0), (0, 0)), mode="edge"), ((0, pad), (pad, pad), (pad, pad)))
    affine = np.array(grid.affine_lps)
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, float(pad))
    shape = (values.shape[0], values.shape[1], values.shape[2])
    return filters.gaussian(values, grid.voxel_mm, _FWHM_MM), Grid(shape, grid.voxel_mm, affine)


def _sampled(image: Image) -> tuple[Array, Array, Array]:
    """The head's centre (3,) in LPS mm, sample places (3, n) around the head, and the blurred values (n,) there."""
    fwhm = float(np.sqrt(max(_FWHM_MM**2 - _IMAGE_FWHM_MM**2, 0.0)))
    grid = image.grid
    values = filters.gaussian(np.maximum(image.values, 0), grid.voxel_mm, fwhm)
    level = exceeded(values, HEAD_ML, np.array(grid.voxel_mm))
    if level <= 0:
        raise InputError("the image shows no head: fewer than 400 mL hold any activity")
    head = values > 0.4 * level
    points = np.argwhere(head) @ grid.affine_lps[:3, :3].T + grid.affine_lps[:3, 3]
    top = float(np.percentile(points[:, 2], 99.5))
    brain = points[points[:, 2] > top - 120.0]
    centre = np.array([*np.median(brain[:, :2], axis=0), top - 65.0])
    axes = [np.arange(-reach, reach + 1, _SAMPLE_MM) for reach in (90.0, 105.0, 84.0)]
    places = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")]) + centre[:, None]
    index = np.linalg.solve(grid.affine_lps[:3, :3], places - grid.affine_lps[:3, 3:])
    within = np.all((index > -0.5) & (index < np.array(grid.shape)[:, None] - 0.5), axis=0)
    samples = map_coordinates(values, index[:, within], order=1, mode="nearest")
    return centre, places[:, within], samples / level


def _centre(grid: Grid) -> Array:
    """The place of the template that is laid on the head's centre: 72 mm below its top, skin and bone included."""
    z, y, x = grid.centres_mm()
    return np.array([0.5 * (x[0] + x[-1]), 0.5 * (y[0] + y[-1]), z[-1] - 72.0])


def _matrix(parameters: Sequence[float] | Array, target: Array, source: Array) -> Array:
    """Matrix (4, 4) from the image's to the template's LPS mm: turned by (x, y, z) deg, shifted by mm, scaled by %.

    q = S R^T (p - target - shift) + source.
    """
    turn = Rotation.from_euler("xyz", parameters[:3], degrees=True).as_matrix()
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(np.exp(-0.01 * np.asarray(parameters[6:9]))) @ turn.T
    matrix[:3, 3] = source - matrix[:3, :3] @ (target + np.asarray(parameters[3:6]))
    return matrix


def _fitted(tracer: str, target: Array, places: Array, values: Array) -> tuple[float, Array]:
    """Correlation and parameters (deg, mm, %) of the best fit of a tracer's template."""
    painted, grid = _painted(tracer)
    source = _centre(template()[1])
    into = np.linalg.inv(grid.affine_lps)
    columns = np.vstack([places, np.ones(places.shape[1])])
    wanted = np.minimum(values, _CAP[tracer])

    def correlation(parameters: Array, every: int) -> float:
        index = (into @ _matrix(parameters, target, source))[:3] @ columns[:, ::every]
        samples = np.minimum(map_coordinates(painted, index, order=1, mode="constant"), _CAP[tracer])
        if not np.ptp(samples) > 0:
            return 0.0
        return float(np.corrcoef(samples, wanted[::every])[0, 1])

    def search(start: Array, every: int, **options: float) -> tuple[float, Array]:
        done = minimize(
            lambda unit: _SCALE_COST * float(unit[6:] @ unit[6:]) - correlation(unit * _STEPS, every),
            start / _STEPS,
            method="Powell",
            options=options,
        )
        return float(done.fun), done.x * _STEPS

    starts = [np.array([pitch, 0, 0, 0, 0, 0, 0, 0, 0]) for pitch in _STARTS_DEG]
    coarse = [search(start, 5, maxiter=4, xtol=0.02, ftol=1e-5) for start in starts]
    _, best = search(min(coarse, key=lambda one: one[0])[1], 3, xtol=0.01, ftol=1e-6)
    return correlation(best, 1), best
