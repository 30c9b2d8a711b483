"""From raw SPECT projections to quantitative images: the public names, each imported when it is first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectac.recon.attenuation import (
        AttenuationModel,
        Chang,
        CTMap,
        GivenMap,
        NoAttenuation,
        Solver,
        UniformMap,
    )
    from spectac.recon.attenuation_plugins import attenuation_model
    from spectac.recon.collimator import COLLIMATORS, Collimator
    from spectac.recon.contour import Outline, head_outline
    from spectac.recon.em import RelativeDifferencePrior, Update, osem
    from spectac.recon.errors import InputError
    from spectac.recon.geometry import default_grid
    from spectac.recon.io import open_study
    from spectac.recon.nuclides import NUCLIDES
    from spectac.recon.pipeline import reconstruct
    from spectac.recon.resample import rebin, rebin_acquisition
    from spectac.recon.settings import ReconstructionSettings, StudySettings
    from spectac.recon.system import SystemModel
    from spectac.recon.types import (
        Acquisition,
        EnergyWindow,
        Grid,
        Image,
        Injection,
        MuMap,
        Projections,
        Result,
        Study,
    )

__all__ = [
    "COLLIMATORS",
    "NUCLIDES",
    "Acquisition",
    "AttenuationModel",
    "CTMap",
    "Chang",
    "Collimator",
    "EnergyWindow",
    "GivenMap",
    "Grid",
    "Image",
    "Injection",
    "InputError",
    "MuMap",
    "NoAttenuation",
    "Outline",
    "Projections",
    "ReconstructionSettings",
    "RelativeDifferencePrior",
    "Result",
    "Solver",
    "Study",
    "StudySettings",
    "SystemModel",
    "UniformMap",
    "Update",
    "attenuation_model",
    "default_grid",
    "head_outline",
    "open_study",
    "osem",
    "rebin",
    "rebin_acquisition",
    "reconstruct",
]

_HOMES = {
    "attenuation": "AttenuationModel CTMap Chang GivenMap NoAttenuation Solver UniformMap",
    "attenuation_plugins": "attenuation_model",
    "collimator": "COLLIMATORS Collimator",
    "contour": "Outline head_outline",
    "errors": "InputError",
    "geometry": "default_grid",
    "io": "open_study",
    "nuclides": "NUCLIDES",
    "em": "RelativeDifferencePrior Update osem",
    "pipeline": "reconstruct",
    "resample": "rebin rebin_acquisition",
    "settings": "ReconstructionSettings StudySettings",
    "system": "SystemModel",
    "types": "Acquisition EnergyWindow Grid Image Injection MuMap Projections Result Study",
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"spectac.recon.{home}"), name)
    raise AttributeError(f"module 'spectac.recon' has no attribute {name!r}")
