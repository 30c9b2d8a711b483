"""Entry points of what needs torch. Where torch is missing the error names what to install."""

from collections.abc import Mapping
from pathlib import Path

from spectac.recon.attenuation import AttenuationModel
from spectac.recon.errors import MissingExtraError
from spectac.recon.low_counts import LowCountsModel


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
    _check_torch("attenuation predicted")
    from spectac.learned.predict import build_predicted

    return build_predicted(options)


def build_low_counts(weights: Path | None) -> LowCountsModel:
    """Low-counts model `network`.

    Parameters
    ----------
    weights
        Weights file of `spectac train`; None: those that come with spectac.

    Returns
    -------
    LowCountsModel
        `low_counts.NetworkLowCounts`.

    Raises
    ------
    InputError
        If torch or safetensors is not installed, or the weights cannot be read or are those of another network.

    Examples
    --------
    >>> build_low_counts(Path("no file"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    spectac.recon.errors.InputError: no file: cannot be read as weights (safetensors): ...
    """
    _check_torch("--low-counts network")
    from spectac.learned.low_counts import NetworkLowCounts, read_low_counts_weights
    from spectac.learned.network import LOW_COUNTS
    from spectac.learned.weights_file import shipped_weights

    return NetworkLowCounts(*read_low_counts_weights(shipped_weights(LOW_COUNTS) if weights is None else weights))


def _check_torch(what: str) -> None:
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        raise MissingExtraError(f"{what} needs torch", "learned") from None
