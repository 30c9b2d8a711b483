"""Entry points of what needs torch. Where torch is missing the error names what to install."""

from collections.abc import Mapping
from pathlib import Path

from spectac.recon.attenuation import AttenuationModel
from spectac.recon.errors import InputError, MissingExtraError
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
        Weights file of `spectac train`.

    Returns
    -------
    LowCountsModel
        `low_counts.NetworkLowCounts`.

    Raises
    ------
    InputError
        Without weights: spectac comes with none for short scans so far. If they cannot be read or are those of another
        network, or torch or safetensors is not installed.

    Examples
    --------
    >>> build_low_counts(Path("no file"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    spectac.recon.errors.InputError: no file: cannot be read as weights (safetensors): ...
    """
    if weights is None:
        raise InputError(
            "--low-counts network needs --low-counts-weights FILE of your own (spectac train), for spectac comes with "
            "none so far; --low-counts map needs none"
        )
    _check_torch("--low-counts network")
    from spectac.learned.low_counts import NetworkLowCounts, read_low_counts_weights

    return NetworkLowCounts(*read_low_counts_weights(weights))


def _check_torch(what: str) -> None:
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        raise MissingExtraError(f"{what} needs torch", "learned") from None
