"""Files of a comparison: report.html, comparison.csv, record.json and the images."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spectac.app.anonymous import hidden
from spectac.app.comparison import Comparison
from spectac.app.measures import Row
from spectac.app.record import used, versions
from spectac.recon.io.nifti import write_image, write_labels, write_mu_map
from spectac.recon.io.sidecar import bids_keys
from spectac.recon.setting_fields import as_options
from spectac.recon.voi import GROUPS, Vois

IMAGES = "images"
FILES = ("report.html", "comparison.csv", "record.json", IMAGES)


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write all files of a comparison into a folder."""
    from spectac.app.report.page import render

    _write_images(folder / IMAGES, comparison)
    with (folder / "comparison.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.DictWriter(stream, Row.COLUMNS)
        writer.writeheader()
        writer.writerows(row.as_text() for row in comparison.rows)
    (folder / "report.html").write_text(render(comparison), encoding="utf-8")
    (folder / "record.json").write_text(json.dumps(_record(comparison), indent=2) + "\n", encoding="utf-8")


def _write_images(folder: Path, comparison: Comparison) -> None:
    """METHOD.nii.gz, METHOD_mu.nii.gz and vois.nii.gz."""
    folder.mkdir()
    for name, method in comparison.methods.items():
        about = bids_keys(comparison.study, method.result, comparison.request.parameters(method))
        write_image(folder / f"{name}.nii.gz", method.image, about)
        if method.result.mu is not None:
            write_mu_map(folder / f"{name}_mu.nii.gz", method.result.mu)
    if comparison.regions.vois is not None:
        _write_vois(folder / "vois.nii.gz", comparison.regions.vois)


def _write_vois(path: Path, vois: Vois) -> None:
    """The VOIs that are no union of others as labels, each voxel with the one that has most of it."""
    parts = [name for name, of in GROUPS.items() if of == (name,) and name in vois.masks]
    names = parts or [name for name in vois.masks if not name.endswith(" box")]
    most = np.full(vois.grid.shape, 0.25, np.float32)
    labels = np.zeros(vois.grid.shape, np.uint8)
    for label, name in enumerate(names, 1):
        share = vois.masks[name]
        labels[share > most] = label
        most = np.maximum(most, share)
    write_labels(path, labels, vois.grid, dict(enumerate(names, 1)))


def _record(comparison: Comparison) -> dict[str, Any]:
    """Content of record.json."""
    request = comparison.request
    shown: Callable[[Mapping[str, Any]], Mapping[str, Any]] = hidden if request.comparison.anonymous else dict
    vois, refused = comparison.regions.vois, comparison.refused
    return {
        "inputs_sha256": dict(comparison.inputs_sha256),
        "study_sha256": comparison.study_sha256,
        "request": {name: shown(as_options(of)) for name, of in vars(request).items()},
        "study": comparison.facts,
        "tracer": comparison.regions.tracer,
        "vois": None if vois is None else vois.source,
        "reference": None if comparison.reference is None else comparison.reference.name,
        "methods": {
            name: {
                "parameters": shown(request.parameters(method)),
                "device": method.result.device,
                "used": used(method.result),
                "seconds": round(method.seconds, 3),
                "notes": list(method.result.notes),
            }
            for name, method in comparison.methods.items()
        },
        "refused": {name: refusal.reason for name, refusal in refused.items()},
        "missing_extras": {name: one.missing_extra for name, one in refused.items() if one.missing_extra is not None},
        "calibration": "" if comparison.scale is None else comparison.scale.text,
        "warnings": list(comparison.warnings),
        "versions": versions(),
    }
