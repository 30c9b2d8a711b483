"""From counts to activity: a camera's calibration factor from a phantom, and images in kBq/mL by it.

An image in cps/mL holds the counts per second that one head would record, in the photopeak, of the activity in a mL at
the start of the acquisition, were nothing attenuated or scattered. Divided by the counts per second of 1 kBq it is
in kBq/mL. That factor belongs to one camera, nuclide, collimator, photopeak window and scatter correction, and is the
mean of the heads; view times, decay, views and voxels are in the system model and do not enter it.
"""

import json
import math
import os
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.quantify import voi_mean
from spectac.recon.scatter import photopeak_index
from spectac.recon.side_windows import limits
from spectac.recon.types import Array, EnergyWindow, Image, Projections, Result, Study

FORMAT, VERSION = "spectac-calibration", 1

SAME_WINDOW_KEV = 0.5
"""Limits of two energy windows that differ by less than this are the same."""

_NOT_CORRECTED = (
    "the image is not corrected for attenuation, so that its values depend on the depth: reconstruct with "
    "--attenuation, or leave the calibration out"
)

MOST_HALF_LIVES = 10.0
"""An assay further away than this (a thousandth of the activity) has a wrong date, or says nothing."""


@dataclass(frozen=True)
class Calibration:
    """Counts per second of one head per kBq in air, and what it belongs to.

    `collimator` by name, `window` the photopeak, `scatter_method` as in Projections, `note` where it is from.
    """

    cps_per_kbq: float
    nuclide: str
    collimator: str
    window: EnergyWindow
    scatter_method: str
    note: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cps_per_kbq) and self.cps_per_kbq > 0):
            raise InputError(f"a calibration needs cps per kBq above 0, got {self.cps_per_kbq}")
        for what, text in (("collimator", self.collimator), ("scatter method", self.scatter_method)):
            if not text:
                raise InputError(f"a calibration needs the name of its {what}")
        object.__setattr__(self, "nuclide", nuclide_by_name(self.nuclide).name)

    def check(self, study: Study, photopeak: str | None = None) -> None:
        """InputError where the calibration does not belong to a study: nuclide, collimator, photopeak or view times.

        It needs no image, so that it can be asked before the long work. `photopeak` as in `reconstruct`.
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
        """InputError for an image of another scatter correction, and one without attenuation correction.

        As `check` it needs no image. `scatter_method` as in Projections, `attenuation` the model's name.
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

        `result` as `reconstruct` made it from `study`, in cps/mL; the image's history gains a line.
        Raises InputError as `check`, for an image in another unit, one without attenuation correction and one of
        another scatter correction.
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

    `result` as `reconstruct` made it from `study`, in cps/mL, with attenuation correction; `voi` weights (z, y, x) of a
    volume well inside the phantom, see `cps_per_kbq`; `activity_mbq` in the whole `volume_ml` at the time `assayed`,
    what stayed in the syringe subtracted. Without scatter correction the factor holds for objects of the phantom's size
    alone.
    Raises InputError where start, collimator or view times of the study are unknown, for images that are not
    quantitative, and for a VOI that is larger than the phantom.
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
    """Counts per second of one head per kBq: the mean of an image in cps/mL in a VOI over the true concentration.

    `kbq_per_ml` at the start of the acquisition, to which the image is corrected. Between heads of different
    sensitivity it is their mean, weighted as the views are.

    Assumes: the activity is uniform within two FWHM of the image around the VOI (some 30 mm), beyond which edges and
    partial volume do not reach. An image cannot tell: a VOI that touches the phantom's edge gives too small a factor.
    Raises InputError as `quantify.voi_mean`, for an image that is not in cps/mL, and where nothing or no activity is in
    the VOI.
    """
    if image.unit != "cps/mL":
        raise InputError(f"a calibration needs an image in cps/mL, this one is in {image.unit}")
    if not (math.isfinite(kbq_per_ml) and kbq_per_ml > 0):
        raise InputError(f"a calibration needs an activity concentration above 0 kBq/mL, got {kbq_per_ml}")
    mean = voi_mean(image.values, voi)
    if not mean > 0:
        raise InputError(f"the image's mean in the VOI is {mean:g} cps/mL: it does not lie in the phantom")
    return mean / kbq_per_ml


def concentration_kbq_per_ml(
    activity_mbq: float, volume_ml: float, assayed: datetime, nuclide: str, start: datetime
) -> float:
    """Concentration in kBq/mL at `start` of an activity measured at the time `assayed`, before or after it.

    Raises InputError for activity or volume that is not above 0, for times of which only one has a time zone, and for
    times more than 10 half-lives apart.
    """
    for what, value in (("an activity in MBq", activity_mbq), ("a volume in mL", volume_ml)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"a phantom needs {what} above 0, got {value}")
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
    """Activity that is left after so many hours, activity * 2^(-hours / half-life), in its unit; hours may be < 0."""
    return activity * 2.0 ** (-hours * 3600.0 / nuclide_by_name(nuclide).half_life_s)


def write_calibration(path: str | os.PathLike[str], calibration: Calibration) -> None:
    """Write a calibration as JSON, whole or not at all; every number comes back to the last bit."""
    content = {"format": FORMAT, "version": VERSION, **asdict(calibration)}
    with written(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Calibration from a file of `write_calibration`; InputError for every other file, and for a newer version."""
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
        return Calibration(
            _entry(content, "cps_per_kbq", float),
            _entry(content, "nuclide", str),
            _entry(content, "collimator", str),
            EnergyWindow(
                _entry(window, "name", str), _entry(window, "lower_kev", float), _entry(window, "upper_kev", float)
            ),
            _entry(content, "scatter_method", str),
            _entry(content, "note", str),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _entry(content: dict[str, Any], key: str, kind: type) -> Any:
    """Value of a key, a text, number or object as `kind` says; InputError where it is missing or another thing."""
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
    """Name of the study's collimator; InputError where it is unknown."""
    if study.acquisition.collimator is None:
        raise InputError(
            "the study's collimator is unknown, and a calibration holds for one collimator: give --collimator or --psf"
        )
    return study.acquisition.collimator.name


def _quantitative(result: Result) -> Projections:
    """Projections of a result; InputError for an image that activity cannot be read from."""
    if result.image.unit != "cps/mL":
        raise InputError(f"a calibration needs an image in cps/mL, this one is in {result.image.unit}")
    if result.projections is None or result.attenuation is None:
        raise InputError(
            "the result does not tell its scatter and attenuation correction: a calibration needs one of reconstruct()"
        )
    if result.attenuation == "none":
        raise InputError(_NOT_CORRECTED)
    return result.projections
