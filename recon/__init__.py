"""From raw SPECT projections to quantitative images: the public names. Each module is imported at first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectac.recon.attenuation import AttenuationModel as AttenuationModel
    from spectac.recon.attenuation import Chang as Chang
    from spectac.recon.attenuation import CTMap as CTMap
    from spectac.recon.attenuation import GivenMap as GivenMap
    from spectac.recon.attenuation import NoAttenuation as NoAttenuation
    from spectac.recon.attenuation import Solver as Solver
    from spectac.recon.attenuation import UniformMap as UniformMap
    from spectac.recon.attenuation_plugins import attenuation_model as attenuation_model
    from spectac.recon.bsrem import RelativeDifferencePrior as RelativeDifferencePrior
    from spectac.recon.collimator import COLLIMATORS as COLLIMATORS
    from spectac.recon.collimator import Collimator as Collimator
    from spectac.recon.collimator import Focus as Focus
    from spectac.recon.contour import Outline as Outline
    from spectac.recon.contour import head_outline as head_outline
    from spectac.recon.em import Update as Update
    from spectac.recon.em import osem as osem
    from spectac.recon.errors import InputError as InputError
    from spectac.recon.geometry import default_grid as default_grid
    from spectac.recon.io import open_study as open_study
    from spectac.recon.nuclides import NUCLIDES as NUCLIDES
    from spectac.recon.pipeline import reconstruct as reconstruct
    from spectac.recon.resample import rebin as rebin
    from spectac.recon.resample import rebin_acquisition as rebin_acquisition
    from spectac.recon.settings import ReconstructionSettings as ReconstructionSettings
    from spectac.recon.settings import StudySettings as StudySettings
    from spectac.recon.system import SystemModel as SystemModel
    from spectac.recon.types import Acquisition as Acquisition
    from spectac.recon.types import EnergyWindow as EnergyWindow
    from spectac.recon.types import Grid as Grid
    from spectac.recon.types import Image as Image
    from spectac.recon.types import Injection as Injection
    from spectac.recon.types import MuMap as MuMap
    from spectac.recon.types import Projections as Projections
    from spectac.recon.types import Result as Result
    from spectac.recon.types import Study as Study

_HOMES = {
    "attenuation": "AttenuationModel CTMap Chang GivenMap NoAttenuation Solver UniformMap",
    "attenuation_plugins": "attenuation_model",
    "bsrem": "RelativeDifferencePrior",
    "collimator": "COLLIMATORS Collimator Focus",
    "contour": "Outline head_outline",
    "em": "Update osem",
    "errors": "InputError",
    "geometry": "default_grid",
    "io": "open_study",
    "nuclides": "NUCLIDES",
    "pipeline": "reconstruct",
    "resample": "rebin rebin_acquisition",
    "settings": "ReconstructionSettings StudySettings",
    "system": "SystemModel",
    "types": "Acquisition EnergyWindow Grid Image Injection MuMap Projections Result Study",
}
"""Public names by their modules."""

__all__ = sorted(name for names in _HOMES.values() for name in names.split())


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"spectac.recon.{home}"), name)
    raise AttributeError(f"module 'spectac.recon' has no attribute {name!r}")
