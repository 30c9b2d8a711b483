"""The entry point of the attenuation model `predicted`, which says what to install where torch is missing."""

from collections.abc import Mapping

from spectac.recon.attenuation import AttenuationModel
from spectac.recon.errors import MissingExtraError


def build(options: Mapping[str, str]) -> AttenuationModel:
    """Build `predicted`; InputError where torch or safetensors is not installed, and for unknown options."""
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        raise MissingExtraError("attenuation predicted needs torch", "learned") from None
    from spectac.learned.predict import build_predicted

    return build_predicted(options)
