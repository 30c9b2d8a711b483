"""The keys of an Interfile header: those that are read, those that are passed over, and the options instead of them."""

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spectac.recon.io.interfile.header import Header

OPTIONS = MappingProxyType(
    {
        "start angle": "--head-angles",
        "first projection angle": "--head-angles",
        "extent of rotation": "--step-deg",
        "direction of rotation": "--rotation",
        "radi": "--radius-mm",
        "rotation radius": "--radius-mm",
        "first column of": "--radius-mm",
        "scaling factor": "--pixel-mm",
        "time per projection": "--view-seconds",
        "image duration": "--view-seconds",
    }
)
"""The option that replaces a study's key, by how the key begins."""

PATIENT = MappingProxyType(
    {
        "patient name": "PatientName",
        "patient id": "PatientID",
        "patient sex": "PatientSex",
        "patient dob": "PatientBirthDate",
        "patient weight": "PatientWeight",
        "patient age": "PatientAge",
        "study id": "StudyID",
        "original institution": "InstitutionName",
    }
)
"""Keys on patient and study, and DICOM's keywords for them."""

_WITH_UNIT = {
    "scaling factor",
    "radius",
    "radii",
    "time per projection",
    "image duration",
    "study date",
    "study time",
    "focal length",
    "focal distance",
}
"""Keys that may name their unit or form in brackets."""

_READ = {
    "imaging modality", "originating system", "conversion program", "program author", "data description",
    "name of data file", "data offset in bytes", "data starting block", "data compression", "data encode",
    "type of data", "process status", "imagedata byte order", "number format", "number of bytes per pixel",
    "image scaling factor", "patient orientation", "patient rotation", "patient position", "number of energy windows",
    "number of detector heads", "number of images/energy window", "number of time frames", "number of time windows",
    "number of projections", "total number of images", "matrix size[1]", "matrix size[2]", "extent of rotation",
    "direction of rotation", "start angle", "first projection angle in data set", "orbit", "radius of rotation",
    "rotation radius", "radial position", "center of rotation", "centre of rotation", "x offset", "isotope name",
    "radionuclide", "radiopharmaceutical", "collimator", "intrinsic fwhm for the camera", *_WITH_UNIT, *PATIENT,
}  # fmt: skip

_PASSED_OVER = {
    "interfile", "version of keys", "program version", "program date", "date of keys", "contact person", "exam type",
    "acquisition mode", "maximum pixel count", "number of dimensions", "matrix axis label", "calibration factor",
    "image relative start time (sec)", "study duration (sec)", "study duration (elapsed) sec",
    "study duration (acquired) sec", "quantification units", "isotope gamma halflife (sec)",
    "isotope branching factor", "camera zoom factor", "y offset", "preprocessed", "number of runs",
}  # fmt: skip

_BEGINNINGS = ("energy window", "head ", "crystal ", "pixel ", "block ", "gate ", "collimator ")
"""Windows and collimators are read key by key. The others are GATE's, on the camera that it simulated."""


def unknown_keys(header: "Header") -> list[str]:
    """Keys with a value that are neither read nor passed over on purpose, and lines that are no keys.

    Parameters
    ----------
    header : Header
        Header.

    Returns
    -------
    list of str
        Keys and lines in alphabetical order.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spectac.recon.io.interfile.dialect import STIR
    >>> from spectac.recon.io.interfile.header import Header
    >>> unknown_keys(Header(Path("scan.hs"), {"colour of the room": ("green",)}, {}, STIR, None, ()))
    ['colour of the room']
    """

    def is_known(key: str) -> bool:
        plain = re.sub(r"\[\d+\]$", "", key)
        return (
            not {key, plain}.isdisjoint(_READ | _PASSED_OVER)
            or re.sub(r" ?\(.*?\)$", "", plain) in _WITH_UNIT
            or key.startswith(_BEGINNINGS)
        )

    return sorted(
        [*(key for key, values in header.keys.items() if any(values) and not is_known(key)), *header.odd_lines]
    )
