"""Weights on disk: safetensors in half precision, with a description of their training as metadata. Never pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from spectac.learned.inputs import CHANNELS
from spectac.learned.low_counts_input import LOW_COUNTS_CHANNELS
from spectac.learned.network import LARGEST, LOW_COUNTS, NetworkSettings, VolumeNetwork
from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written
from spectac.recon.low_counts import LOW_COUNTS_PROTOCOL
from spectac.recon.preview import PREVIEW_PROTOCOL

FORMAT = "spectac-network 2"
"""Format 1 had two input channels more, for the image that an earlier map had corrected."""


HEAD = "head"
"""Value of "map_of" in the description of networks that were trained on maps of the head alone."""


def shipped_weights(target: str = "map") -> Path:
    """Path of the weights that come with spectac.

    Parameters
    ----------
    target
        Target of the network: "map" or "low-counts".

    Returns
    -------
    Path
        Safetensors file in the installed package.

    Examples
    --------
    >>> shipped_weights().name
    'map.safetensors'
    """
    return Path(__file__).parent / "weights" / f"{target}.safetensors"


def save_weights(path: Path, network: torch.nn.Module, about: Mapping[str, Any]) -> None:
    """Write the weights of a network in half precision, with a description of their training.

    Parameters
    ----------
    path
        Safetensors file.
    network
        A `VolumeNetwork`, or a copy of one.
    about
        Plain values for JSON; "settings" must hold the network's target, widths and dropout.

    Examples
    --------
    >>> import tempfile
    >>> from dataclasses import asdict
    >>> network = VolumeNetwork(NetworkSettings(widths=(8, 8)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "weights.safetensors"
    ...     save_weights(path, network, {"settings": asdict(network.settings), "epoch": 3})
    ...     read_weights(path)[1]["epoch"]
    3
    """
    halves = {name: t.detach().cpu().to(torch.float16).contiguous() for name, t in network.state_dict().items()}
    short = about["settings"]["target"] == LOW_COUNTS
    channels = LOW_COUNTS_CHANNELS if short else CHANNELS
    metadata = {
        "format": FORMAT,
        "channels": json.dumps(channels),
        "preview_protocol": str(PREVIEW_PROTOCOL),
        **({"low_counts_protocol": str(LOW_COUNTS_PROTOCOL)} if short else {}),
        "about": json.dumps(about),
    }
    with written(path) as temporary:
        save_file(halves, temporary, metadata=metadata)


def read_weights(path: Path) -> tuple[VolumeNetwork, Mapping[str, Any]]:
    """Network of a weights file in evaluation mode, and the description of its training.

    Parameters
    ----------
    path
        Safetensors file from `save_weights`.

    Returns
    -------
    tuple[VolumeNetwork, Mapping[str, Any]]
        Network with float32 weights, and the description.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another format or of another preview protocol, or holds something else.

    Examples
    --------
    >>> network, about = read_weights(shipped_weights())
    >>> network.settings.widths, about["patients"]
    ((24, 48, 96, 128), 724)
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as weights (safetensors): {error}") from None
    if metadata.get("format") != FORMAT:
        present = metadata.get("format")
        raise InputError(f"{path}: format {present!r}, this spectac reads {FORMAT!r}: train again with spectac train")
    # Weights without it are older than the number; images of short scans lie on the previews' grid.
    protocols = {
        "previews": (metadata.get("preview_protocol", "1"), PREVIEW_PROTOCOL),
        "images of short scans": (metadata.get("low_counts_protocol", LOW_COUNTS_PROTOCOL), LOW_COUNTS_PROTOCOL),
    }
    for images, (protocol, present) in protocols.items():
        if str(protocol) != str(present):
            raise InputError(
                f"{path}: trained with {images} of protocol {protocol}, this spectac makes those of protocol "
                f"{present}: train it again on a new cohort"
            )
    try:
        about, channels = json.loads(metadata["about"]), json.loads(metadata["channels"])
        settings = about["settings"]
        short = settings["target"] == LOW_COUNTS
        known = channels == list(LOW_COUNTS_CHANNELS if short else CHANNELS)
        if not known or settings["target"] not in (*LARGEST, LOW_COUNTS):
            raise ValueError(f"channels {channels}, target {settings['target']}")
        network = VolumeNetwork(
            NetworkSettings(settings["target"], tuple(settings["widths"]), settings["dropout"], len(channels))
        )
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: the weights do not fit their description: {error!r}") from None
    return network.eval(), about
