"""Calibration: a camera's counts per second per kBq from a phantom, and images in kBq/mL by it.

An image in cps/mL holds the counts per second of a mL that one head records in the photopeak at the start of the
acquisition, without attenuation and scatter. Divided by the counts per second of 1 kBq it is in kBq/mL. That factor
belongs to one camera, nuclide, collimator, photopeak window and scatter correction, and is the mean of the heads. View
times, decay, views and voxels are part of the system model and do not enter it.
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from spectac.recon.checks import check_above_zero
from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written
from spectac.recon.io.foci import in_words
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.photopeak import limits, photopeak_index
from spectac.recon.quantify import voi_mean
from spectac.recon.types import Array, EnergyWindow, Image, Projections, Result, Study

FORMAT, VERSION = "spectac-calibration", 1

SAME_WINDOW_KEV = 0.5
"""Limits of two energy windows that differ by less than this are the same."""
MOST_HALF_LIVES = 10.0
"""Largest time between assay and scan: after it a thousandth of the activity is left, or a date is wrong."""

_NOT_CORRECTED = (
    "the image is not corrected for attenuation, so that its values depend on the depth: reconstruct with "
    "--attenuation, or leave the calibration out"
)


@dataclass(frozen=True)
class Calibration:
    """Counts per second of one head per kBq in air, and the camera settings that it belongs to.

    Parameters
    ----------
    cps_per_kbq
        Counts per second per kBq.
    nuclide
        Name of the nuclide.
    collimator
        Name of the collimator.
    window
        Photopeak window.
    scatter_method
        Scatter correction, as in Projections.
    note
        Where the calibration comes from, for readers.

    Raises
    ------
    InputError
        For a factor that is not above 0, an unknown nuclide, and empty names.

    Examples
    --------
    >>> Calibration(0.09, "Tc-99m", "ge-lehr", EnergyWindow("peak", 126.0, 154.0), "none").cps_per_kbq
    0.09
    """

    cps_per_kbq: float
    nuclide: str
    collimator: str
    window: EnergyWindow
    scatter_method: str
    note: str = ""

    def __post_init__(self) -> None:
        check_above_zero({"the calibration's cps per kBq": self.cps_per_kbq})
        for what, text in (("collimator", self.collimator), ("scatter method", self.scatter_method)):
            if not text:
                raise InputError(f"a calibration needs the name of its {what}")
        object.__setattr__(self, "nuclide", nuclide_by_name(self.nuclide).name)

    def check(self, study: Study, photopeak: str | None = None) -> None:
        """Check that the calibration belongs to a study, by nuclide, collimator, photopeak and view times.

        No image is needed, so that it can be checked before the reconstruction. `photopeak` is the name of a window, or
        None, as in `reconstruct`. Raises InputError where it belongs to another study.
        """
        acquisition = study.acquisition
        if acquisition.nuclide != self.nuclide:
            raise InputError(f"the calibration is for {self.nuclide}, the study is of {acquisition.nuclide}")
        name = _collimator(study)
        if name != self.collimator:
            raise InputError(
                f"the calibration is for collimator {self.collimator}, the study has {name}: use one calibration for "
                "each collimator"
            )
        window = study.windows[photopeak_index(study, photopeak)]
        apart = max(abs(window.lower_kev - self.window.lower_kev), abs(window.upper_kev - self.window.upper_kev))
        if apart > SAME_WINDOW_KEV:
            raise InputError(
                f"the calibration is for a photopeak of {limits(self.window)}, the study's is {limits(window)}: "
                "calibrate with the same window"
            )
        if not acquisition.times_known:
            raise InputError("kBq/mL needs counts per second, but the study's view times are unknown")

    def check_corrections(self, scatter_method: str, attenuation: str | None) -> None:
        """Check the corrections of an image.

        `scatter_method` as in Projections; `attenuation` is the name of the model. Raises InputError for another
        scatter correction, and without attenuation correction.
        """
        if scatter_method != self.scatter_method:
            raise InputError(
                f"the calibration was made with scatter: {self.scatter_method}, the image with scatter: "
                f"{scatter_method}: reconstruct with the same scatter correction"
            )
        if attenuation == "none":
            raise InputError(_NOT_CORRECTED)

    def applied(self, result: Result, study: Study) -> Image:
        """Image of a result in kBq/mL, values / cps_per_kbq, of the activity at the start of the acquisition.

        `result` is that of `reconstruct` from `study`, in cps/mL. Raises InputError as `check` and `check_corrections`,
        and for an image in another unit.
        """
        projections, image = _quantitative(result), result.image
        self.check(study, projections.window)
        self.check_corrections(projections.scatter_method, result.attenuation)
        line = f"calibrated: {self.cps_per_kbq:.6g} cps per kBq ({self.nuclide}, {self.collimator})"
        return replace(image, values=image.values / self.cps_per_kbq, unit="kBq/mL", history=(*image.history, line))


def calibrate(
    result: Result,
    study: Study,
    voi: Array,
    *,
    activity_mbq: float,
    volume_ml: float,
    assayed: datetime,
) -> Calibration:
    """Calibration from the image of a uniform phantom of known activity.

    Without scatter correction the factor holds for objects of the phantom's size alone.

    Parameters
    ----------
    result
        Result of `reconstruct` from `study`, in cps/mL and with attenuation correction.
    study
        Study of the phantom.
    voi
        Weights (z, y, x) from 0 to 1 of a volume well inside the phantom (`cps_per_kbq`).
    activity_mbq
        Activity in the phantom in MBq, without what stayed in the syringe.
    volume_ml
        Volume that holds the activity, in mL.
    assayed
        Date and time of the assay.

    Returns
    -------
    Calibration
        Calibration of the study's camera settings.

    Raises
    ------
    InputError
        Where start, collimator or view times of the study are unknown, for images that are not quantitative, and for a
        VOI that is larger than the phantom.

    Examples
    --------
    >>> from spectac.recon import COLLIMATORS, Acquisition, default_grid
    >>> nine, peak = datetime(2026, 11, 2, 9), EnergyWindow("peak", 126.0, 154.0)
    >>> acquisition = Acquisition(
    ...     [0.0], [150.0], (2, 4), (8.0, 8.0), [10.0], "Tc-99m", COLLIMATORS["ge-lehr"], start=nine
    ... )
    >>> study = Study(acquisition, (peak,), np.ones((1, 1, 2, 4)))
    >>> image = Image(np.full((2, 4, 4), 3.0), default_grid(acquisition), "cps/mL")
    >>> projections = Projections(acquisition, study.counts[0], 140.5, photopeak=peak)
    >>> result = Result(image, projections=projections, attenuation="chang")
    >>> voi = np.ones((2, 4, 4))
    >>> calibrate(result, study, voi, activity_mbq=200.0, volume_ml=5000.0, assayed=nine).cps_per_kbq
    0.075
    """
    projections, image = _quantitative(result), result.image
    if study.acquisition.start is None:
        raise InputError("the study does not say when it began, so that the activity then is unknown: give --start")
    name = study.acquisition.nuclide
    concentration = concentration_kbq_per_ml(activity_mbq, volume_ml, assayed, name, study.acquisition.start)
    factor = cps_per_kbq(image, voi, concentration)
    held_ml = float(np.sum(voi, dtype=np.float64)) * image.grid.voxel_ml
    if held_ml > volume_ml:
        raise InputError(f"the VOI holds {held_ml:.0f} mL, the phantom {volume_ml:g} mL: take one well inside it")
    note = (
        f"{activity_mbq:g} MBq in {volume_ml:g} mL at {assayed.isoformat()}, {concentration:.6g} kBq/mL at "
        f"{study.acquisition.start.isoformat()}, VOI of {held_ml:.1f} mL"
    )
    peak = study.windows[photopeak_index(study, projections.window)]
    return Calibration(factor, name, _collimator(study), peak, projections.scatter_method, note)


def cps_per_kbq(image: Image, voi: Array, kbq_per_ml: float) -> float:
    """Counts per second of one head per kBq: the mean of an image in a VOI over the true concentration.

    Between heads of different sensitivity it is their mean, weighted as the views are.

    Assumes: the activity is uniform within two FWHM of the image around the VOI (some 30 mm). An image cannot tell: a
    VOI that touches the phantom's edge gives too small a factor.

    Parameters
    ----------
    image
        Image in cps/mL.
    voi
        Weights (z, y, x) from 0 to 1.
    kbq_per_ml
        True concentration at the start of the acquisition.

    Returns
    -------
    float
        Counts per second per kBq.

    Raises
    ------
    InputError
        As `quantify.voi_mean`, for an image in another unit, and where image or concentration hold no activity.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((2, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> cps_per_kbq(Image(np.full(grid.shape, 3.0), grid, "cps/mL"), np.ones(grid.shape), 30.0)
    0.1
    """
    _check_unit(image)
    check_above_zero({"the activity concentration in kBq/mL": kbq_per_ml})
    mean = voi_mean(image.values, voi)
    if not mean > 0:
        raise InputError(f"the image's mean in the VOI is {mean:g} cps/mL: it does not lie in the phantom")
    return mean / kbq_per_ml


def concentration_kbq_per_ml(
    activity_mbq: float, volume_ml: float, assayed: datetime, nuclide: str, start: datetime
) -> float:
    """Concentration in a phantom at the start of the acquisition.

    Parameters
    ----------
    activity_mbq
        Activity in MBq at the assay.
    volume_ml
        Volume in mL.
    assayed
        Date and time of the assay, before or after the acquisition.
    nuclide
        Name of the nuclide.
    start
        Beginning of the acquisition.

    Returns
    -------
    float
        Concentration in kBq/mL.

    Raises
    ------
    InputError
        For activity or volume that is not above 0, for times of which only one has a time zone, and for times more than
        10 half-lives apart.

    Examples
    --------
    >>> nine = datetime(2026, 11, 2, 9)
    >>> concentration_kbq_per_ml(200.0, 5000.0, nine, "Tc-99m", nine)
    40.0
    """
    check_above_zero({"the phantom's activity in MBq": activity_mbq, "the phantom's volume in mL": volume_ml})
    if (assayed.tzinfo is None) != (start.tzinfo is None):
        without = "the assay's" if assayed.tzinfo is None else "the study's"
        raise InputError(
            f"assayed at {assayed.isoformat()}, scanned at {start.isoformat()}: {without} time has no time zone, give "
            "both alike"
        )
    hours = (start - assayed).total_seconds() / 3600.0
    half_lives = abs(hours) * 3600.0 / nuclide_by_name(nuclide).half_life_s
    if half_lives > MOST_HALF_LIVES:
        raise InputError(
            f"assayed at {assayed.isoformat()}, scanned at {start.isoformat()}: {half_lives:.0f} half-lives of "
            f"{nuclide} apart: check the dates"
        )
    return decayed(activity_mbq, nuclide, hours) * 1000.0 / volume_ml


def decayed(activity: float, nuclide: str, hours: float) -> float:
    """Activity after a time, activity * 2^(-hours / half-life).

    Parameters
    ----------
    activity
        Activity in any unit.
    nuclide
        Name of the nuclide.
    hours
        Time in hours; negative for an earlier time.

    Returns
    -------
    float
        Activity in the same unit.

    Examples
    --------
    >>> round(decayed(100.0, "Tc-99m", 6.0067), 6)
    50.0
    """
    return activity * 2.0 ** (-hours * 3600.0 / nuclide_by_name(nuclide).half_life_s)


def write_calibration(path: str | os.PathLike[str], calibration: Calibration) -> None:
    """Write a calibration as JSON, whole or not at all; every number comes back to the last bit.

    Parameters
    ----------
    path
        File to write.
    calibration
        Calibration.

    Examples
    --------
    >>> import tempfile
    >>> calibration = Calibration(0.09, "Tc-99m", "ge-lehr", EnergyWindow("peak", 126.0, 154.0), "none")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_calibration(f"{folder}/camera.json", calibration)
    ...     read_calibration(f"{folder}/camera.json") == calibration
    True
    """
    content = {"format": FORMAT, "version": VERSION, **asdict(calibration)}
    with written(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Calibration of a file.

    Parameters
    ----------
    path
        File of `write_calibration`.

    Returns
    -------
    Calibration
        Calibration.

    Raises
    ------
    InputError
        For any other file, and for a newer version.

    Examples
    --------
    >>> read_calibration("no-such-file.json")
    Traceback (most recent call last):
    spectac.recon.errors.InputError: no-such-file.json: no such file
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"{path}: no such file")
    try:
        content = json.loads(source.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: no calibration: 'format' must be {FORMAT!r}; make one with spectac calibrate")
    if content.get("version") != VERSION:
        raise InputError(f"{path}: version {content.get('version')!r} of calibrations is not known, only {VERSION}")
    try:
        window = _entry(content, "window", dict)
        names = {key: _entry(content, key, str) for key in ("nuclide", "collimator", "scatter_method", "note")}
        limits_kev = (_entry(window, key, float) for key in ("lower_kev", "upper_kev"))
        peak = EnergyWindow(_entry(window, "name", str), *limits_kev)
        return Calibration(_entry(content, "cps_per_kbq", float), window=peak, **names)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _entry(content: dict[str, Any], key: str, kind: type) -> Any:
    """Value of a key, a text, number or object as `kind` says; InputError where it is missing or of another kind."""
    if key not in content:
        raise InputError(f"{key!r} is missing")
    value = content[key]
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300:
        value = float(value)
    if not isinstance(value, kind):
        wanted = {str: "a text", float: "a number", dict: "an object"}[kind]
        raise InputError(f"{key!r} must be {wanted}, got {str(value)[:60]!r}")
    return value


def _collimator(study: Study) -> str:
    """Name of the study's collimator, with its focus; InputError where it is unknown."""
    acquisition = study.acquisition
    if acquisition.collimator is None:
        raise InputError(
            "the study's collimator is unknown, and a calibration holds for one collimator: give --collimator or --psf"
        )
    focus = f", focal length {in_words(acquisition.foci)}" if acquisition.foci else ""
    return acquisition.collimator.name + focus


def _check_unit(image: Image) -> None:
    if image.unit != "cps/mL":
        raise InputError(f"a calibration needs an image in cps/mL, this one is in {image.unit}")


def _quantitative(result: Result) -> Projections:
    """Projections of a result; InputError for an image that activity cannot be read from."""
    _check_unit(result.image)
    if result.projections is None or result.attenuation is None:
        raise InputError(
            "the result does not tell its scatter and attenuation correction: a calibration needs one of reconstruct()"
        )
    if result.attenuation == "none":
        raise InputError(_NOT_CORRECTED)
    return result.projections
