"""Entry point of the attenuation model `predicted`. Where torch is missing the error names what to install."""

from collections.abc import Mapping

from spectac.recon.attenuation import AttenuationModel
from spectac.recon.errors import MissingExtraError


def build(options: Mapping[str, str]) -> AttenuationModel:
    """Attenuation model `predicted`.

    Parameters
    ----------
    options
        See `predict.build_predicted`.

    Returns
    -------
    AttenuationModel
        `predict.PredictedMap` with these options.

    Raises
    ------
    InputError
        If torch or safetensors is not installed, or an option is unknown.

    Examples
    --------
    >>> build({}).name
    'predicted'
    """
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        raise MissingExtraError("attenuation predicted needs torch", "learned") from None
    from spectac.learned.predict import build_predicted

    return build_predicted(options)
