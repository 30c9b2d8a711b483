"""record.json: everything needed to know how an image was made, and to make it again."""

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from spectac.app.describe import describe
from spectac.recon import Acquisition, ReconstructionSettings, Result, Study, StudySettings
from spectac.recon import device as devices
from spectac.recon.io import files_of
from spectac.recon.setting_fields import as_options
from spectac.recon.settings import AttenuationSettings

_PACKAGES = (
    "spectac",
    "numpy",
    "scipy",
    "numba",
    "h5py",
    "nibabel",
    "pydicom",
    "SimpleITK",
    "xraylib",
    "torch",
    "cupy-cuda12x",
    "cupy-cuda13x",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    by_name = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            by_name[name] = version(name)
        except PackageNotFoundError:
            by_name[name] = "not installed"
    return by_name


def sha256_of(paths: Iterable[Path]) -> dict[str, str]:
    """Digests, by path, of all files that reading these files and folders takes numbers from."""
    digests = {}
    for file in (file for path in paths for file in files_of(path)):
        with file.open("rb") as stream:
            digests[str(file)] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def sha256_of_study(study: Study) -> str:
    """Digest of a study's counts and angles, the same in every format and whatever lies beside its files."""
    digest = hashlib.sha256()
    for values in (study.counts, study.acquisition.view_angles_deg):
        digest.update(np.asarray(values, np.float64).tobytes())
    return digest.hexdigest()


def parameters_of(
    given: StudySettings, attenuation: AttenuationSettings, settings: ReconstructionSettings, result: Result
) -> dict[str, Any]:
    """Settings of a reconstruction for record.json: those that the result's algorithm does not use are None."""
    return settings.used(result.algorithm) | {
        "attenuation": attenuation.attenuation,
        "attenuation_options": attenuation.chosen_options(),
        "given": as_options(given, changed=True),
    }


def record(
    inputs_sha256: Mapping[str, str], parameters: Mapping[str, Any], study: Study, result: Result, seconds: float
) -> dict[str, Any]:
    """Content of record.json: digests of the inputs, parameters, warnings and versions.

    `study` and `used` describe the projections that were reconstructed, whatever the parameters asked for;
    `acquisition` and `image` hold the numbers that were used, unrounded.
    """
    image = result.image
    return {
        "inputs_sha256": dict(inputs_sha256),
        "parameters": dict(parameters),
        "device": _device(str(parameters["device"]), result.device),
        "study": describe(study, result.projections),
        "used": used(result),
        "acquisition": _acquisition(study.acquisition),
        "image": {
            "unit": image.unit,
            "shape_z_y_x": list(image.grid.shape),
            "voxel_mm_z_y_x": list(image.grid.voxel_mm),
            "affine_lps": image.grid.affine_lps.tolist(),
            "history": list(image.history),
        },
        "warnings": list(result.notes),
        "versions": versions(),
        "seconds": round(seconds, 3),
    }


def _device(asked: str, used: str) -> dict[str, Any]:
    """Device of the reconstruction and, for a CPU that "auto" chose, the reason why no GPU did it."""
    device = {"used": used, "name": devices.device_name(used), "threads": devices.cpu_threads()}
    return {**device, "no_gpu": devices.no_gpu()} if asked == "auto" and used == "cpu" else device


def used(result: Result) -> dict[str, Any]:
    """Photopeak, scatter, attenuation and low counts of a result of `reconstruct`."""
    projections = result.projections
    attenuation = {
        "attenuation": result.attenuation,
        "fallback": result.fallback,
        "holder": result.holder,
        "holder_share": None if result.holder_share is None else asdict(result.holder_share),
        "skull": None if result.skull is None else asdict(result.skull),
        "low_counts": asdict(result.low_counts),
    }
    if projections is None:
        return attenuation
    return {
        "photopeak": None if projections.photopeak is None else asdict(projections.photopeak),
        "line_kev": projections.energy_kev,
        "scatter_method": projections.scatter_method,
        "scatter_windows": [asdict(window) for window in projections.scatter_windows],
        "scatter_parameters": dict(projections.scatter_parameters),
        **attenuation,
    }


def _acquisition(acquisition: Acquisition) -> dict[str, Any]:
    collimator = acquisition.collimator
    by_view = ("view_angles_deg", "radii_mm", "view_start_s", "u_offset_mm")
    return {
        **{name: np.asarray(getattr(acquisition, name)).tolist() for name in by_view},
        "collimator": None if collimator is None else asdict(collimator),
        "foci": [asdict(focus) for focus in acquisition.foci],
        "energy_resolution": acquisition.energy_resolution,
        "crystal_mm": acquisition.crystal_mm,
    }
