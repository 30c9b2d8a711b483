"""Weights on disk: safetensors in half precision, with the training that they came from as metadata. Never pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from spectac.learned.network import LARGEST, NetworkSettings, VolumeNetwork
from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written

FORMAT = "spectac-network 1"


def save_weights(path: Path, network: torch.nn.Module, about: Mapping[str, Any]) -> None:
    """Write a network's weights and what they came from; `about` holds the training's "settings"."""
    plain = {name: t.detach().cpu().to(torch.float16).contiguous() for name, t in network.state_dict().items()}
    with written(path) as temporary:
        save_file(plain, temporary, metadata={"format": FORMAT, "about": json.dumps(about)})


def read_weights(path: Path) -> tuple[VolumeNetwork, Mapping[str, Any]]:
    """Network in evaluation mode, and what is known of its training.

    Raises InputError where the file is missing, damaged, or holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as weights (safetensors): {error}") from None
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path}: format {metadata.get('format')!r}, this spectac reads {FORMAT!r}")
    try:
        about = json.loads(metadata["about"])
        asked = about["settings"]
        network = VolumeNetwork(NetworkSettings(asked["target"], tuple(asked["widths"]), asked["dropout"]))
        if asked["target"] not in LARGEST:
            raise KeyError(asked["target"])
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: the weights do not fit their description: {error!r}") from None
    return network.eval(), about
