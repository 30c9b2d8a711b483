"""`spectac train`: the network from cohorts, on one CPU, one GPU or several nodes (Lightning Fabric).

A run is a function of its configuration and its cohorts: the order of patients, their augmentation and dropout follow
from (seed, step), so that a run that was killed goes on from its last checkpoint to the same weights on one device.
"""

import json
import math
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from spectac.learned.dataset import Cohort
from spectac.learned.loss import factor_error, map_loss
from spectac.learned.network import MapNetwork, NetworkSettings
from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written

VOXEL_CM = 0.4


@dataclass(frozen=True)
class TrainingSettings:
    """A configuration file (TOML): cohorts as folders relative to it, the first for training, the second to validate."""

    training: str
    validation: str
    widths: tuple[int, ...] = (32, 64, 96, 128)
    dropout: float = 0.1
    epochs: int = 30
    batch: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    patience: int = 10
    loss_weights: tuple[float, float, float] = (1.0, 0.5, 4.0)
    seed: int = 1
    checkpoint_minutes: float = 5.0

    @classmethod
    def read(cls, path: Path) -> "TrainingSettings":
        """Settings from a TOML file; InputError for unknown keys and values that cannot be."""
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a TOML file: {error}") from None
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"{path}: unknown key {', '.join(unknown)}; known keys: {', '.join(sorted(known))}")
        missing = sorted({"training", "validation"} - set(values))
        if missing:
            raise InputError(f"{path}: {' and '.join(missing)} missing: name the folders of two cohorts")
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def learning_rate(step: int, steps: int, settings: TrainingSettings) -> float:
    """Linear warm-up, then half a cosine to a hundredth."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0))))


def train(
    settings: TrainingSettings,
    root: Path,
    output: Path,
    *,
    fabric: Fabric | None = None,
    on_step: Callable[[int, int, Mapping[str, float]], None] | None = None,
) -> Path:
    """Train into `output`: weights.safetensors (best validation), checkpoint.ckpt, log.jsonl; path of the weights.

    A checkpoint in `output` is taken up where its settings are the same, and refused where they are not.
    """
    fabric = Fabric(accelerator="auto", devices=1) if fabric is None else fabric
    fabric.launch()
    output.mkdir(parents=True, exist_ok=True)
    training = Cohort(root / settings.training, augmented=True, seed=settings.seed)
    validation = Cohort(root / settings.validation)
    torch.manual_seed(settings.seed)
    network = MapNetwork(NetworkSettings(settings.widths, settings.dropout))
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    network, optimizer = fabric.setup(network, optimizer)
    held_back = fabric.setup_dataloaders(DataLoader(validation, batch_size=settings.batch))
    per_epoch = len(training) // settings.batch
    steps = settings.epochs * per_epoch
    about = {"settings": asdict(settings), "training_sha256": training.sha256, "validation_sha256": validation.sha256}
    state: dict[str, Any] = {"network": network, "optimizer": optimizer, "step": 0, "best": math.inf, "since_best": 0}
    checkpoint = output / "checkpoint.ckpt"
    if checkpoint.exists():
        rest = fabric.load(checkpoint, state)
        if json.loads(rest["about"]) != json.loads(json.dumps(about)):
            raise InputError(f"{checkpoint}: belongs to other settings or cohorts: give another folder with -o")
    saved = time.monotonic()
    while state["step"] < steps and state["since_best"] < settings.patience:
        epoch, first = divmod(state["step"], per_epoch)
        training.epoch = epoch
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(training))
        network.train()
        for n in range(first, per_epoch):
            chosen = order[n * settings.batch : (n + 1) * settings.batch]
            loss = _step(fabric, network, optimizer, training, chosen, state["step"], steps, settings)
            state["step"] += 1
            if on_step is not None:
                on_step(state["step"], steps, {"loss": loss, "best": state["best"]})
            if time.monotonic() - saved > 60.0 * settings.checkpoint_minutes:
                fabric.save(checkpoint, {**state, "about": json.dumps(about)})
                saved = time.monotonic()
        measured = validate(network, held_back)
        better = measured["factor_error"] < state["best"]
        state["best"] = min(state["best"], measured["factor_error"])
        state["since_best"] = 0 if better else state["since_best"] + 1
        if better and fabric.is_global_zero:
            metadata = {**about, "epoch": epoch + 1, "validation": measured}
            save_weights(output / "weights.safetensors", network, metadata)
        fabric.save(checkpoint, {**state, "about": json.dumps(about)})
        if fabric.is_global_zero:
            with (output / "log.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"epoch": epoch + 1, "loss": loss, **measured}) + "\n")
    return output / "weights.safetensors"


def _step(
    fabric: Fabric,
    network: Any,
    optimizer: Any,
    training: Cohort,
    chosen: Any,
    step: int,
    steps: int,
    settings: TrainingSettings,
) -> float:
    inputs, maps = (fabric.to_device(torch.stack(part)) for part in zip(*(training[int(i)] for i in chosen), strict=True))
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, steps, settings)
    torch.manual_seed(settings.seed * 1_000_003 + step)
    angle = float(np.random.default_rng([settings.seed, step]).uniform(0.0, 90.0))
    loss = map_loss(network(inputs), maps, VOXEL_CM, angle, settings.loss_weights)
    optimizer.zero_grad()
    fabric.backward(loss)
    fabric.clip_gradients(network, optimizer, max_norm=1.0)
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def validate(network: Any, batches: Any) -> dict[str, float]:
    """Means over patients: |error| of the map inside the head over the true mean there, and of attenuation factors."""
    network.eval()
    errors, factors = [], []
    for inputs, maps in batches:
        found = network(inputs)
        for one, true in zip(found, maps, strict=True):
            head = true > 0.05
            errors.append(float((one - true)[head].abs().mean() / true[head].mean()))
            factors.append(float(factor_error(one[None], true[None], VOXEL_CM, 30.0)))
    return {"map_error": float(np.mean(errors)), "factor_error": float(np.mean(factors))}


def save_weights(path: Path, network: Any, about: Mapping[str, Any]) -> None:
    """Weights in half precision with what they came from, as safetensors."""
    plain = {name: tensor.detach().cpu().to(torch.float16).contiguous() for name, tensor in network.state_dict().items()}
    with written(path) as temporary:
        save_file(plain, temporary, metadata={"about": json.dumps(about)})
