"""Fan beams: projections as those of parallel holes, what opposite rays say about the focus, and what views cut off."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from spectac.recon import geometry
from spectac.recon.collimator import FWHM_PER_SIGMA
from spectac.recon.errors import InputError
from spectac.recon.system import view_weights_s
from spectac.recon.types import Acquisition, Array

BETTER = 0.85
"""Another reading of the focus is named where opposite rays differ by less than this share of that as given."""
LEAST_DIFFERENCE = 0.01
"""Smaller differences of opposite rays as given need no other reading."""
SMOOTHED_FWHM_MM = 30.0
"""Gaussian on the detector before opposite rays are compared.

Noise would hide what they tell, and a fan's interpolation lowers it more than that of parallel rays.
"""
CUT = 0.1
"""Share of a view's highest column that its outermost columns hold where the object is cut off."""
CUT_VIEWS = 0.05
"""Share of the views from which on an object counts as cut off."""
HEAD_MM = 120.0
"""No head reaches farther than this from the rotation axis."""


def as_parallel(acquisition: Acquisition, counts: Array, pixel_mm: float) -> tuple[Acquisition, Array]:
    """Projections of parallel holes along the same lines, by interpolation in the sinogram.

    A count of a fan beam is w pixel_z pixel_u F/Fc cos^4(theta) times the integral of the activity along its ray, one
    of parallel holes w pixel_z pixel times it. Every view is read at the columns of the parallel detector, and every
    column between the two nearest angles. Noise becomes correlated.

    Assumes: no attenuation and no blur; nothing beyond the circle that all views see.

    Parameters
    ----------
    acquisition
        Fan-beam acquisition.
    counts
        Counts (v, z, u) of any sign.
    pixel_mm
        Pixel of the parallel detector, in mm.

    Returns
    -------
    tuple
        Acquisition of parallel holes with one second a view, decay corrected, at as many even angles as the fan has
        different ones; and its counts (v, z, u).

    Raises
    ------
    InputError
        Where views are not spaced evenly all around, or do not see the rotation axis.

    References
    ----------
    .. [1] Kak and Slaney, Principles of Computerized Tomographic Imaging, IEEE Press 1988, section 3.4.3.

    Examples
    --------
    >>> from spectac.recon import Collimator, Focus
    >>> fan = Collimator("fan", 1.5, 40.0, 0.2, 3.8, 5.0, focus=Focus(350.0))
    >>> angles = np.arange(0.0, 360.0, 6.0)
    >>> acquisition = Acquisition(angles, np.full(60, 140.0), (1, 32), (4.0, 8.0), np.ones(60), "Tc-99m", fan)
    >>> parallel, counts = as_parallel(acquisition, np.ones(acquisition.shape), 4.0)
    >>> parallel.foci, counts.shape
    ((), (60, 1, 30))
    """
    theta_deg, places_mm = geometry.ray_lines(acquisition)
    theta_deg = np.asarray(acquisition.view_angles_deg)[:, None] - theta_deg
    cosine, gain = geometry.ray_tables(acquisition)
    pixel_z, pixel_u = acquisition.pixel_mm
    weights_s = view_weights_s(acquisition)
    columns = 2 * int(seen_radius_mm(acquisition) / pixel_mm)
    if columns < 2:
        raise InputError(
            "some view does not see the rotation axis: check --focus-offset, --focal-length and the detector's offset"
        )
    wanted_mm = (np.arange(columns) - 0.5 * (columns - 1)) * pixel_mm
    views = np.unique(np.round(np.mod(acquisition.view_angles_deg, 360.0), 2)).size
    angles_deg = np.arange(views) * 360.0 / views
    total = np.zeros((views + 1, columns, acquisition.matrix[0]))
    weight = np.zeros((views + 1, columns))
    each = np.arange(columns)
    for view in range(acquisition.views):
        lines = counts[view].T / (weights_s[view] * pixel_u * gain[view] * cosine[view])[:, None] * pixel_mm
        read = _read(lines, places_mm[view], wanted_mm)
        angle_deg = acquisition.view_angles_deg[view] - np.interp(wanted_mm, places_mm[view], theta_deg[view])
        bin_ = np.mod(angle_deg, 360.0) * views / 360.0
        low = np.minimum(bin_.astype(int), views - 1)
        for index, share in ((low, 1.0 - (bin_ - low)), (low + 1, bin_ - low)):
            share = share * weights_s[view]
            total[index, each] += share[:, None] * read
            weight[index, each] += share
    total[0] += total[views]
    weight[0] += weight[views]
    weight, total = weight[:views], total[:views]
    if not weight.all():
        raise InputError(
            "fan-beam projections become parallel ones where views are spaced evenly all around (360 deg): use OSEM"
        )
    rebinned = total / weight[..., None]
    parallel = replace(
        acquisition,
        view_angles_deg=angles_deg,
        radii_mm=np.full(views, acquisition.radii_mm.mean()),
        matrix=(acquisition.matrix[0], columns),
        pixel_mm=(pixel_z, pixel_mm),
        view_seconds=np.ones(views),
        view_start_s=None,
        detector=None,
        u_offset_mm=None,
        foci=(),
        collimator=None,
        corrections=acquisition.corrections | {"DECY"},
    )
    return parallel, rebinned.transpose(0, 2, 1)


def _read(lines: Array, places_mm: Array, wanted_mm: Array) -> Array:
    """Lines (n, z) at wanted places (n,) from lines (u, z) at rising ones (u,), by linear interpolation."""
    place = np.interp(wanted_mm, places_mm, np.arange(places_mm.size))
    left = np.minimum(place.astype(int), places_mm.size - 2)
    part = (place - left)[:, None]
    return np.asarray((1 - part) * lines[left] + part * lines[left + 1])


def opposite_rays(acquisition: Acquisition, counts: Array) -> dict[str, float]:
    """How much rays along the same line from opposite sides differ, for several readings of the focus.

    In a full turn of a fan beam, rays (beta, gamma) and (beta + 180 deg - 2 gamma, -gamma) share a line.

    Parameters
    ----------
    acquisition
        Acquisition of a fan beam.
    counts
        Counts (v, z, u) of one window.

    Returns
    -------
    dict
        RMS difference over RMS mean, by reading: "as given", "F + L mm" and "F - L mm" with the length L of the
        collimator's holes, "parallel". A reading is left out where its rays do not go all around evenly.

    Examples
    --------
    >>> from spectac.recon import Collimator, Focus
    >>> fan = Collimator("fan", 1.5, 40.0, 0.2, 3.8, 5.0, focus=Focus(350.0))
    >>> angles = np.arange(0.0, 360.0, 6.0)
    >>> acquisition = Acquisition(angles, np.full(60, 140.0), (1, 32), (4.0, 8.0), np.ones(60), "Tc-99m", fan)
    >>> {name: round(value, 2) for name, value in opposite_rays(acquisition, np.ones(acquisition.shape)).items()}
    {'as given': 0.0, '350 + 40 mm': 0.0, '350 - 40 mm': 0.0, 'parallel': 0.0}
    """
    collimator = acquisition.collimator
    if not acquisition.foci or collimator is None:
        return {}
    plain = replace(acquisition, collimator=replace(collimator, focus=None))
    given_mm, length_mm = acquisition.foci[0].length_mm, collimator.length_mm
    added_mm = {
        "as given": 0.0,
        f"{given_mm:g} + {length_mm:g} mm": length_mm,
        f"{given_mm:g} - {length_mm:g} mm": -length_mm,
        "parallel": None,
    }
    smoothed = gaussian_filter1d(
        counts.sum(axis=1, keepdims=True, dtype=np.float64),
        SMOOTHED_FWHM_MM / FWHM_PER_SIGMA / acquisition.pixel_mm[1],
        axis=2,
        mode="constant",
    )
    differences = {}
    for name, more_mm in added_mm.items():
        try:
            foci = tuple(
                replace(focus, length_mm=focus.length_mm + more_mm) for focus in acquisition.foci if more_mm is not None
            )
            read = replace(plain, foci=foci)
            _, sinogram = as_parallel(read, smoothed, geometry.object_pixel_mm(read)[1])
        except InputError:
            continue
        half = len(sinogram) // 2
        if len(sinogram) == 2 * half and sinogram.any():
            front, back = sinogram[:half], sinogram[half:, :, ::-1]
            differences[name] = float(np.linalg.norm(front - back) / np.linalg.norm(0.5 * (front + back)))
    return differences


def focus_doubt(differences: Mapping[str, float]) -> str | None:
    """What opposite rays say against the focus as given.

    Parameters
    ----------
    differences
        Differences of `opposite_rays`.

    Returns
    -------
    str or None
        A sentence for the user, None where no other reading fits clearly better.

    Examples
    --------
    >>> focus_doubt({"as given": 0.10, "parallel": 0.05})
    'opposite rays differ by 10.0 % with the focus as given, by 5.0 % as parallel: check --focal-length'
    """
    if "as given" not in differences:
        return None
    best = min(differences, key=lambda name: differences[name])
    if differences["as given"] < LEAST_DIFFERENCE or differences[best] >= BETTER * differences["as given"]:
        return None
    as_other = "as parallel" if best == "parallel" else f"with {best}"
    return (
        f"opposite rays differ by {differences['as given']:.1%} with the focus as given, by {differences[best]:.1%} "
        f"{as_other}: check --focal-length"
    ).replace("%", " %")


def seen_radius_mm(acquisition: Acquisition) -> float:
    """Radius in mm of the circle about the rotation axis that every view sees whole.

    Parameters
    ----------
    acquisition
        Acquisition with the views.

    Returns
    -------
    float
        (F - R) sin(atan(W/(2 Fc))) for a focal line in the middle of a detector of width W.

    Examples
    --------
    >>> from spectac.recon import Collimator, Focus
    >>> fan = Collimator("fan", 1.5, 40.0, 0.2, 3.8, 5.0, focus=Focus(350.0))
    >>> acquisition = Acquisition([0.0], [140.0], (1, 101), (4.0, 4.0), [1.0], "Tc-99m", fan)
    >>> round(seen_radius_mm(acquisition))
    95
    """
    places_mm = geometry.ray_lines(acquisition)[1]
    return float(min(-places_mm[:, 0].max(), places_mm[:, -1].min()))


def truncation_doubt(acquisition: Acquisition, counts: Array) -> str | None:
    """What the outermost columns of a fan beam say about an object that reaches beyond them.

    Parameters
    ----------
    acquisition
        Acquisition of a fan beam.
    counts
        Counts (v, z, u) of one window.

    Returns
    -------
    str or None
        A sentence for the user, None where the outermost columns are dark in all but CUT_VIEWS of the views.

    Examples
    --------
    >>> from spectac.recon import Collimator, Focus
    >>> fan = Collimator("fan", 1.5, 40.0, 0.2, 3.8, 5.0, focus=Focus(350.0))
    >>> acquisition = Acquisition([0.0], [140.0], (1, 101), (4.0, 4.0), [1.0], "Tc-99m", fan)
    >>> truncation_doubt(acquisition, np.full(acquisition.shape, 100.0))[:61]
    'the object reaches beyond the detector in 1 of 1 views: all s'
    """
    if not acquisition.foci:
        return None
    profile = counts.sum(axis=1, dtype=np.float64)
    edges = np.maximum(profile[:, :2].mean(axis=1), profile[:, -2:].mean(axis=1))
    # An edge is the mean of two columns, summed over the rows; three of its standard deviations may be noise.
    cut = int((edges - 3.0 * np.sqrt(np.maximum(edges, 0.0) / 2.0) > CUT * profile.max(axis=1)).sum())
    radius_mm = seen_radius_mm(acquisition)
    if cut < max(1.0, CUT_VIEWS * acquisition.views) or radius_mm <= 0:
        return None
    return (
        f"the object reaches beyond the detector in {cut} of {acquisition.views} views: all see a circle of "
        f"{radius_mm:.0f} mm about the axis, images are less certain outside"
    )


def focus_reach_doubt(acquisition: Acquisition) -> str | None:
    """What lies too near to the focal lines for the projector's model.

    Parameters
    ----------
    acquisition
        Acquisition with usable foci.

    Returns
    -------
    str or None
        A sentence for the user, None where no head reaches so far.

    Examples
    --------
    >>> from spectac.recon import Collimator, Focus
    >>> fan = Collimator("fan", 1.5, 40.0, 0.2, 3.8, 5.0, focus=Focus(350.0))
    >>> focus_reach_doubt(Acquisition([0.0], [200.0], (1, 4), (4.0, 4.0), [1.0], "Tc-99m", fan))[:60]
    'activity more than 98 mm behind the rotation axis is missing'
    """
    lines = geometry.focal_lines(acquisition)
    if lines is None:
        return None
    reach_mm = float(((1.0 - geometry.NEAREST_TO_FOCUS) * lines.face_mm - acquisition.radii_mm).min())
    if reach_mm >= HEAD_MM:
        return None
    return (
        f"activity more than {reach_mm:.0f} mm behind the rotation axis is missing from the model of a view, where it "
        "lies too near to the focal line: check --focal-length and --radius-mm"
    )


def fan_doubts(acquisition: Acquisition, counts: Array) -> list[str]:
    """What looks wrong with a fan-beam study: `focus_doubt`, `truncation_doubt` and `focus_reach_doubt`.

    Parameters
    ----------
    acquisition
        Acquisition with usable foci; parallel holes give no doubts.
    counts
        Counts (v, z, u) of the photopeak, without scatter where it is known.

    Returns
    -------
    list of str
        Sentences for the user.

    Examples
    --------
    >>> fan_doubts(Acquisition([0.0], [140.0], (1, 4), (4.0, 4.0), [1.0], "Tc-99m", None), np.ones((1, 1, 4)))
    []
    """
    doubts = (
        focus_doubt(opposite_rays(acquisition, counts)),
        truncation_doubt(acquisition, counts),
        focus_reach_doubt(acquisition),
    )
    return [doubt for doubt in doubts if doubt is not None]
