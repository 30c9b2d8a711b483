"""What an anonymous comparison leaves out: patient, dates, the history of reading, and names of files."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from spectac.recon import Study

KEPT = ("Manufacturer", "ManufacturerModelName")
"""Of what a study says about patient and camera."""
_NAMING = ("Name", "ID", "Date", "Number")
"""Ends of the DICOM keywords whose values name somebody or a day; ages and weights are in no text of ours."""
_SHORTEST = 3


def anonymised(study: Study, hide: Callable[[str], str]) -> Study:
    """The study without patient, start, time of injection and history, and its warnings without names of files."""
    return replace(
        study,
        patient={key: text for key, text in study.patient.items() if key in KEPT},
        acquisition=replace(study.acquisition, start=None),
        injection=None if study.injection is None else replace(study.injection, at=None),
        history=(),
        warnings=tuple(hide(line) for line in study.warnings),
    )


def hider(paths: Iterable[Path], study: Study) -> Callable[[str], str]:
    """Function that takes the paths and names of these files and folders, and the patient's, out of a text.

    Names without their ending, of folders too, are taken out where they are no plain word: "scan" stays, "scan_17" not.
    """
    words: set[str] = set()
    for key, value in study.patient.items():
        if key.endswith(_NAMING) and key not in KEPT:
            words |= {value, *re.split(r"[\^\s]+", value)}
    for path in paths:
        words |= {str(path), str(path.resolve()), path.name if path.suffix else ""}
        words |= {name for name in (path.name, path.stem, path.parent.name) if re.search(r"[\W\d_]", name)}
    listed = sorted((re.escape(word) for word in words if len(word) >= _SHORTEST), key=len, reverse=True)
    if not listed:
        return str
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(listed)})(?!\w)", re.IGNORECASE)
    return lambda text: pattern.sub("(left out)", text)


def without_paths(digests: Mapping[str, str]) -> dict[str, str]:
    """Digests by number instead of by file."""
    return {f"input {number}": digest for number, digest in enumerate(digests.values(), 1)}


def hidden(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a reconstruction without the paths that options and calibration name."""
    options = dict.fromkeys(parameters["attenuation_options"], "given")
    calibration = None if parameters["calibration"] is None else "given"
    return {**parameters, "attenuation_options": options, "calibration": calibration}
