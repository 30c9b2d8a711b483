"""State of a training run on disk: what a checkpoint holds, and to which run it belongs."""

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric import Fabric

from spectac.learned.inputs import CHANNELS
from spectac.learned.loss import MORE_BIAS, UNFILTERED
from spectac.learned.low_counts_dataset import MAKING, Examples
from spectac.learned.low_counts_input import LOW_COUNTS_CHANNELS
from spectac.learned.network import LOW_COUNTS, NetworkSettings, VolumeNetwork
from spectac.learned.training_settings import SHIPPED, TrainingSettings
from spectac.learned.weights_file import HEAD, read_weights, shipped_weights
from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written


def new_state(fabric: Fabric, settings: TrainingSettings, root: Path) -> dict[str, Any]:
    """State before the first step: network, running mean, optimizer, counters and log.

    Parameters
    ----------
    fabric
        Devices of the run, launched.
    settings
        Settings of the run.
    root
        Folder to which `settings.begin_with` is relative.

    Returns
    -------
    dict[str, Any]
        Objects and plain values by name, which a checkpoint holds. "loss" is NaN and "best" infinite.

    Raises
    ------
    InputError
        If the weights to begin with cannot be read or are those of another network.

    Examples
    --------
    >>> fabric = Fabric(accelerator="cpu", devices=1)
    >>> fabric.launch()
    >>> new_state(fabric, TrainingSettings("training", "validation", widths=(8, 8)), Path())["step"]
    0
    """
    torch.manual_seed(settings.seed)
    channels = LOW_COUNTS_CHANNELS if settings.target == LOW_COUNTS else CHANNELS
    network: Any = VolumeNetwork(NetworkSettings(settings.target, settings.widths, settings.dropout, len(channels)))
    if (first := first_weights(settings, root)) is not None:
        begin_with(network, first)
    network = network.to(memory_format=torch.channels_last_3d)
    average = fabric.to_device(deepcopy(network).requires_grad_(False))
    optimizer: Any = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    network, optimizer = fabric.setup(network, optimizer)
    return {
        "network": network, "average": average, "optimizer": optimizer, "step": 0, "validated": 0,
        "loss": math.nan, "best": math.inf, "since_best": 0, "seconds": 0.0, "log": [],
    }  # fmt: skip


def first_weights(settings: TrainingSettings, root: Path) -> Path | None:
    """File that `settings.begin_with` names; None: random weights.

    Parameters
    ----------
    settings
        Settings of the run.
    root
        Folder to which `settings.begin_with` is relative.

    Returns
    -------
    Path | None
        Weights file, which need not exist.

    Examples
    --------
    >>> first_weights(TrainingSettings("training", "validation", begin_with="shipped"), Path()).name
    'map.safetensors'
    """
    if settings.begin_with is None:
        return None
    return shipped_weights(settings.target) if settings.begin_with == SHIPPED else root / settings.begin_with


def begin_with(network: VolumeNetwork, path: Path) -> None:
    """Load the weights of a file into a network of the same target and widths, in place.

    Parameters
    ----------
    network
        Network to change.
    path
        Safetensors file.

    Raises
    ------
    InputError
        If the weights cannot be read or are those of another network.

    Examples
    --------
    >>> from spectac.learned.weights_file import shipped_weights
    >>> begin_with(VolumeNetwork(NetworkSettings(widths=(24, 48, 96, 128))), shipped_weights())
    """
    other, _ = read_weights(path)
    present, needed = (f"a {one.settings.target} with widths {list(one.settings.widths)}" for one in (other, network))
    if present != needed:
        raise InputError(f"{path}: begin_with needs weights of {needed}, these are of {present}")
    network.load_state_dict(other.state_dict())


NO_MATTER = ("training", "validation", "beyond", "begin_with", "checkpoint_minutes")
"""Settings that no weight follows from. Folders' names would tell whose machine it was; digests say what they held."""


def description(settings: TrainingSettings, root: Path, training: Examples, validation: Examples) -> dict[str, Any]:
    """All that the weights of a run follow from: settings but NO_MATTER, and digests of the inputs.

    Parameters
    ----------
    settings
        Settings of the run.
    root
        Folder to which `settings.begin_with` is relative.
    training, validation
        The two cohorts.

    Returns
    -------
    dict[str, Any]
        Plain values that JSON can hold. Only a run with an equal description continues a checkpoint.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> class Patients(list):
    ...     sha256 = "0a1b"
    >>> cohort = Patients([None] * 12)
    >>> description(TrainingSettings("training", "validation"), Path(), cohort, cohort)["patients"]
    12
    """
    file = first_weights(settings, root)
    begun = {} if file is None else {"begin_with": hashlib.sha256(file.read_bytes()).hexdigest()}
    return {
        # What lies beside the head is given (--holder) or fitted.
        **({"map_of": HEAD} if settings.target == "map" else {}),
        **({"examples": MAKING, "loss": [UNFILTERED, MORE_BIAS]} if settings.target == LOW_COUNTS else {}),
        "settings": {name: value for name, value in asdict(settings).items() if name not in NO_MATTER},
        "training_sha256": training.sha256,
        "validation_sha256": validation.sha256,
        "weights_sha256": begun,
        "patients": len(training),
        "validation_patients": len(validation),
    }


def save_checkpoint(fabric: Fabric, path: Path, state: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all. All devices take part.

    Parameters
    ----------
    fabric
        Devices of the run.
    path
        File of the checkpoint.
    state
        See `new_state`.
    about
        See `description`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(Fabric(accelerator="cpu", devices=1), Path(folder) / "checkpoint.ckpt", {"step": 3}, {})
    """
    # Fabric's own whole write goes through /tmp, which may be another file system.
    with written(path) if fabric.is_global_zero else nullcontext(path) as temporary:
        fabric.save(temporary, {**state, "about": json.dumps(about)})


def resume(fabric: Fabric, path: Path, state: dict[str, Any], about: Mapping[str, Any]) -> None:
    """Load a checkpoint into a state, in place; nothing without one.

    Parameters
    ----------
    fabric
        Devices of the run.
    path
        File of the checkpoint.
    state
        See `new_state`.
    about
        See `description`.

    Raises
    ------
    InputError
        If the file is no checkpoint, damaged, or another run's. The state is then as it was.

    Examples
    --------
    >>> resume(Fabric(accelerator="cpu", devices=1), Path("no file"), {}, {})
    """
    if not path.exists():
        return
    try:
        other = json.loads(fabric.load(path, weights_only=True)["about"])
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, UnpicklingError, OSError, EOFError, KeyError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{path}: no checkpoint of spectac, or damaged ({type(error).__name__}: {reason}): "
            "delete it to begin again, or give another folder with -o"
        ) from None
    asked = json.loads(json.dumps(about))
    if other != asked:
        sides = [{**one, **one.get("settings", {})} for one in (other, asked)]
        names = sorted(set(sides[0]) | set(sides[1]))
        unequal = [name for name in names if name != "settings" and sides[0].get(name) != sides[1].get(name)]
        raise InputError(
            f"{path}: belongs to other settings or cohorts ({', '.join(unequal)}): give another folder with -o"
        )
    fabric.load(path, state, weights_only=True)
