"""`spectac train`: a network from cohorts, on one CPU, one GPU or several nodes (Lightning Fabric).

A run is a function of its configuration and its cohorts: the order of patients, their augmentation and dropout follow
from (seed, step), so that a run that was killed goes on from its last checkpoint to the same weights on one device.
The weights that are kept are a running mean over the steps, which is less noisy than the last ones.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from spectac.learned.calibrate import measured_coverage
from spectac.learned.dataset import Cohort
from spectac.learned.loss import correction_loss, factor_error, map_loss
from spectac.learned.network import NetworkSettings, VolumeNetwork
from spectac.learned.rounds import earlier_round
from spectac.learned.training_settings import TrainingSettings
from spectac.learned.weights_file import read_weights, save_weights
from spectac.recon.errors import InputError

VOXEL_CM = 0.4
CHECKED_ANGLES_DEG = (0.0, 45.0)

Report = Callable[[int, int, Mapping[str, float]], None]


def train(settings: TrainingSettings, root: Path, output: Path, *, on_step: Report | None = None) -> Path:
    """Train into `output`: weights.safetensors (best validation), checkpoint.ckpt, log.jsonl, TensorBoard's events.

    Cohorts are folders relative to `root`. A checkpoint in `output` is taken up where its settings and cohorts are the
    same, and refused (InputError) where they are not. Returns the path of the weights.
    """
    output.mkdir(parents=True, exist_ok=True)
    logger = TensorBoardLogger(output, name="", version="")
    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        precision=settings.precision,  # type: ignore[arg-type]
        loggers=[logger],
    )
    fabric.launch()
    corrected = None if settings.first_round is None else earlier_round(root / settings.first_round)
    training, validation = (
        Cohort(root / folder, target=settings.target, augmented=augmented, seed=settings.seed, corrected=corrected)
        for folder, augmented in ((settings.training, True), (settings.validation, False))
    )
    torch.manual_seed(settings.seed)
    network: Any = VolumeNetwork(NetworkSettings(settings.target, settings.widths, settings.dropout))
    if settings.begin_with is not None:
        begin_with(network, root / settings.begin_with)
    network = network.to(memory_format=torch.channels_last_3d)
    average = fabric.to_device(deepcopy(network).requires_grad_(False))
    optimizer: Any = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    network, optimizer = fabric.setup(network, optimizer)
    per_epoch = len(training) // settings.batch
    if per_epoch == 0 or settings.batch % fabric.world_size:
        raise InputError(
            f"a batch of {settings.batch} needs at least as many patients ({len(training)} are there), and a multiple "
            f"of the {fabric.world_size} devices"
        )
    steps = settings.epochs * per_epoch
    about = {
        "settings": asdict(settings),
        "training_sha256": training.sha256,
        "validation_sha256": validation.sha256,
        "patients": len(training),
        "validation_patients": len(validation),
        "rounds": 1 if settings.first_round is None else 2,
    }
    state: dict[str, Any] = {
        "network": network, "average": average, "optimizer": optimizer,
        "step": 0, "best": math.inf, "since_best": 0, "seconds": 0.0,
    }  # fmt: skip
    checkpoint = output / "checkpoint.ckpt"
    _resume(fabric, checkpoint, state, about)
    mark = time.monotonic()

    def save() -> None:
        nonlocal mark
        state["seconds"] += time.monotonic() - mark
        mark = time.monotonic()
        fabric.save(checkpoint, {**state, "about": json.dumps(about)})

    saved = mark
    while state["step"] < steps and state["since_best"] < settings.patience:
        training.epoch, first = divmod(state["step"], per_epoch)
        order = np.random.default_rng([settings.seed, training.epoch]).permutation(len(training))
        network.train()
        for n in range(first, per_epoch):
            chosen = order[n * settings.batch : (n + 1) * settings.batch][fabric.global_rank :: fabric.world_size]
            loss = _step(fabric, state, training, chosen, steps, settings)
            state["step"] += 1
            fabric.log("loss", loss, step=state["step"])
            if on_step is not None:
                on_step(state["step"], steps, {"loss": loss, "best": state["best"]})
            if time.monotonic() - saved > 60.0 * settings.checkpoint_minutes:
                save()
                saved = mark
        measured = validate(average, validation, settings)
        fabric.log_dict(measured, step=state["step"])
        better = measured["error"] < state["best"]
        state["best"] = min(state["best"], measured["error"])
        state["since_best"] = 0 if better else state["since_best"] + 1
        save()
        if fabric.is_global_zero:
            with (output / "log.jsonl").open("a", encoding="utf-8") as stream:
                line = {"epoch": training.epoch + 1, "loss": loss, **measured, "seconds": round(state["seconds"])}
                stream.write(json.dumps(line) + "\n")
            if better:
                done = {"epoch": training.epoch + 1, "validation": measured, "seconds": round(state["seconds"])}
                save_weights(output / "weights.safetensors", average, {**about, **done})
    if fabric.is_global_zero:
        finish(output / "weights.safetensors", root / settings.training, root / settings.validation)
    return output / "weights.safetensors"


def finish(weights: Path, training: Path, validation: Path) -> None:
    """Write into the weights of a map network what its training covered; without that they are not used."""
    network, about = read_weights(weights)
    if network.settings.target == "map" and "coverage" not in about:
        coverage = measured_coverage(network, training, validation)
        save_weights(weights, network, {**about, "coverage": coverage.to_json()})


def _resume(fabric: Fabric, checkpoint: Path, state: dict[str, Any], about: Mapping[str, Any]) -> None:
    """Take up a checkpoint that is there."""
    if not checkpoint.exists():
        return
    rest = fabric.load(checkpoint, state)
    if json.loads(rest["about"]) != json.loads(json.dumps(about)):
        raise InputError(f"{checkpoint}: belongs to other settings or cohorts: give another folder with -o")


def _step(
    fabric: Fabric, state: Mapping[str, Any], training: Cohort, chosen: Any, steps: int, settings: TrainingSettings
) -> float:
    """One step of the optimizer, and of the running mean; the loss."""
    network, average, optimizer, step = (state[name] for name in ("network", "average", "optimizer", "step"))
    items = zip(*(training[int(i)] for i in chosen), strict=True)
    inputs, targets, water = (fabric.to_device(torch.stack(part)) for part in items)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, steps, settings)
    torch.manual_seed(settings.seed * 1_000_003 + step)
    angle = float(np.random.default_rng([settings.seed, step]).uniform(0.0, 90.0))
    found = network(inputs.contiguous(memory_format=torch.channels_last_3d))
    if settings.target == "map":
        loss = map_loss(found, targets, VOXEL_CM * water, angle, settings.loss_weights)
    else:
        loss = correction_loss(found, targets)
    optimizer.zero_grad()
    fabric.backward(loss)
    fabric.clip_gradients(network, optimizer, max_norm=1.0)
    optimizer.step()
    decay = min(settings.average_decay, (1.0 + step) / (10.0 + step))
    with torch.no_grad():
        for mean, value in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(value.to(mean.dtype), 1.0 - decay)
    return float(loss.detach())


def learning_rate(step: int, steps: int, settings: TrainingSettings) -> float:
    """Linear warm-up, then half a cosine to a hundredth."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0))))


@torch.no_grad()
def validate(network: Any, validation: Cohort, settings: TrainingSettings) -> dict[str, float]:
    """Means over patients: `error`, of mean attenuation factors or of corrections; `map_error`, NMAE in the head."""
    network.eval()
    device = next(network.parameters()).device
    errors, maps = [], []
    for batch in DataLoader(validation, batch_size=settings.batch):
        inputs, targets, water = (part.to(device) for part in batch)
        found: Tensor = network(inputs)
        for one, true, mu in zip(found, targets, water, strict=True):
            if settings.target == "correction":
                errors.append(float(correction_loss(one[None], true[None])))
                continue
            head = true > 0.5
            maps.append(float((one - true)[head].abs().mean() / true[head].mean()))
            parts = [factor_error(one[None], true[None], VOXEL_CM * mu[None], angle) for angle in CHECKED_ANGLES_DEG]
            errors.append(float(torch.stack(parts).mean()))
    return {"error": float(np.mean(errors)), **({"map_error": float(np.mean(maps))} if maps else {})}


def begin_with(network: VolumeNetwork, path: Path) -> None:
    """Put the weights of a file into a network of the same shape."""
    given, _ = read_weights(path)
    network.load_state_dict(given.state_dict())
