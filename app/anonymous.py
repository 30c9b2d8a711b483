"""Anonymous results: without the patient, dates, the history of reading, and names of files."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spectac.app.comparison import CompareRequest, Comparison
from spectac.recon import ReconstructionSettings, Study
from spectac.recon.io import files_of
from spectac.recon.setting_fields import options
from spectac.recon.settings import ComparisonSettings

KEPT = ("Manufacturer", "ManufacturerModelName")
"""DICOM keys of a study that stay."""
_NAMING = ("Name", "ID", "Date", "Number")
"""Ends of the DICOM keywords whose values name a person or a day; ages and weights stand in no text."""
_SHORTEST = 3
"""Shorter words are left in texts."""


def anonymised(study: Study, hide: Callable[[str], str]) -> Study:
    """The study without patient, start, time of injection and history; `hide` takes names out of its warnings."""
    return replace(
        study,
        patient={key: text for key, text in study.patient.items() if key in KEPT},
        acquisition=replace(study.acquisition, start=None),
        injection=None if study.injection is None else replace(study.injection, at=None),
        history=(),
        warnings=tuple(map(hide, study.warnings)),
    )


def anonymous_comparison(comparison: Comparison, hide: Callable[[str], str]) -> Comparison:
    """The comparison with an anonymised study, without paths, and with `hide` applied to every text."""
    read = len(comparison.study.history)
    methods = {
        name: replace(
            method,
            image=replace(method.image, history=tuple(map(hide, method.image.history[read:]))),
            result=replace(
                method.result,
                notes=tuple(map(hide, method.result.notes)),
                holder=None if method.result.holder is None else hide(method.result.holder),
            ),
        )
        for name, method in comparison.methods.items()
    }
    vois, scale = comparison.regions.vois, comparison.scale
    digests = comparison.inputs_sha256.values()
    return replace(
        comparison,
        study=anonymised(comparison.study, hide),
        sources=("study",),
        regions=replace(comparison.regions, vois=None if vois is None else replace(vois, source=hide(vois.source))),
        methods=methods,
        refused={name: replace(one, reason=hide(one.reason)) for name, one in comparison.refused.items()},
        rows=tuple(replace(row, reason=hide(row.reason)) for row in comparison.rows),
        warnings=tuple(map(hide, comparison.warnings)),
        scale=None if scale is None else replace(scale, source=hide(scale.source)),
        inputs_sha256={f"input {number}": digest for number, digest in enumerate(digests, 1)},
    )


def hider_of(request: CompareRequest, paths: Sequence[Path], study: Study) -> Callable[[str], str]:
    """Function that takes the names of a comparison's inputs and of the patient out of a text.

    `paths` are the files and folders that were read; the tables of healthy subjects are not among them.
    """
    files = [file for path in paths for file in files_of(path)]
    named = [
        path
        for path in (request.comparison.truth, request.comparison.labels, request.comparison.normals)
        if path is not None
    ]
    return hider([*paths, *files, *named], study)


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


def hidden(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the options' names with "given" in place of paths, dates and options of attenuation models."""
    declared = (*options(ComparisonSettings), *options(ReconstructionSettings))
    secret = {option.name for option in declared if option.kind is Path} | {"start"}
    shown = {name: "given" if name in secret and value is not None else value for name, value in values.items()}
    if "attenuation_options" in values:
        shown["attenuation_options"] = dict.fromkeys(values["attenuation_options"], "given")
    if "given" in values:
        shown["given"] = hidden(values["given"])
    return shown
