"""`spectac train`: a network from cohorts, on one CPU, one GPU or several nodes (Lightning Fabric).

Run so far: one CPU, and two processes on one; CUDA and several nodes never.

A run is a function of its configuration and its cohorts: the order of patients, their augmentation and dropout follow
from (seed, step), so that a run that was killed goes on from its last checkpoint; on a CPU with the same number of
threads to the same weights, bit for bit (CUDA's gradients of interpolations sum in any order).
An epoch ends with weights, checkpoint and log in this order: whatever a kill leaves out is written again.
The weights that are kept are a running mean over the steps, which is less noisy than the last ones.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import TensorBoardLogger
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader

from spectac.learned.calibrate import LEAST_PATIENTS, measured_coverage
from spectac.learned.dataset import Cohort
from spectac.learned.loss import correction_loss, factor_error, map_loss
from spectac.learned.network import NetworkSettings, VolumeNetwork
from spectac.learned.rounds import earlier_round
from spectac.learned.training_settings import TrainingSettings
from spectac.learned.weights_file import read_weights, save_weights
from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written
from spectac.recon.kernels.subnormal import subnormals_are_zero

CHECKED_ANGLES_DEG = (0.0, 45.0)

Report = Callable[[int, int, Mapping[str, float]], None]
Progress = Callable[[int, int], None]


# Moments of the optimizer decay where gradients vanish. torch's threads inherit the mode when they begin in here.
@subnormals_are_zero()
def train(
    settings: TrainingSettings,
    root: Path,
    output: Path,
    *,
    on_step: Report | None = None,
    on_load: Progress | None = None,
) -> Path:
    """Train into `output`: weights.safetensors (best validation), checkpoint.ckpt, log.jsonl, TensorBoard's events.

    Cohorts are folders relative to `root`. A checkpoint in `output` is taken up where its settings, its cohorts and the
    weights that it began with are the same. `on_load` is called with (patients read, all patients) for one cohort after
    the other, earlier round included; `on_step` after every step. Returns the path of the weights.
    Raises InputError where a checkpoint belongs to something else, for a device that is not there, for cohorts that are
    too small, and where the loss is no longer finite.
    """
    output.mkdir(parents=True, exist_ok=True)
    fabric = _fabric(settings, output)
    if not fabric.is_global_zero:
        on_step = on_load = None
    corrected = None if settings.first_round is None else earlier_round(root / settings.first_round)
    training, validation = (
        Cohort(
            root / folder,
            target=settings.target,
            augmented=augmented,
            seed=settings.seed,
            corrected=corrected,
            on_load=on_load,
        )
        for folder, augmented in ((settings.training, True), (settings.validation, False))
    )
    _check_cohorts(training, validation, settings, fabric.world_size)
    per_epoch = len(training) // settings.batch
    steps = settings.epochs * per_epoch
    state = _new_state(fabric, settings, root)
    about = _about(settings, root, training, validation)
    checkpoint, weights, log = (output / name for name in ("checkpoint.ckpt", "weights.safetensors", "log.jsonl"))
    _resume(fabric, checkpoint, state, about)
    started = time.monotonic() - state["seconds"]
    saved = time.monotonic()
    for epoch in range(state["validated"], settings.epochs):
        if state["since_best"] >= settings.patience:
            break
        training.epoch = epoch
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(training))
        state["network"].train()
        for n in range(state["step"] - epoch * per_epoch, per_epoch):
            chosen = order[n * settings.batch : (n + 1) * settings.batch][fabric.global_rank :: fabric.world_size]
            state["loss"] = _step(fabric, state, training, chosen, steps, settings)
            state["step"] += 1
            fabric.log("loss", state["loss"], step=state["step"])
            # Clocks differ, and all devices must take part.
            if fabric.broadcast(time.monotonic() - saved > 60.0 * settings.checkpoint_minutes):
                state["seconds"] = time.monotonic() - started
                _save(fabric, checkpoint, state, about)
                saved = time.monotonic()
            if on_step is not None:
                on_step(state["step"], steps, {"loss": state["loss"], "best": state["best"]})
        measured: Any = _measured(state, validation, settings) if fabric.is_global_zero else None
        measured = fabric.broadcast(measured)
        fabric.log_dict(measured, step=state["step"])
        better = measured["error"] < state["best"]
        state["best"] = min(state["best"], measured["error"])
        state["since_best"] = 0 if better else state["since_best"] + 1
        state["validated"] = epoch + 1
        state["seconds"] = time.monotonic() - started
        seconds = round(state["seconds"])
        state["log"].append({"epoch": epoch + 1, "loss": state["loss"], **measured, "seconds": seconds})
        if better and fabric.is_global_zero:
            save_weights(
                weights, state["average"], {**about, "epoch": epoch + 1, "validation": measured, "seconds": seconds}
            )
        _save(fabric, checkpoint, state, about)
        saved = time.monotonic()
        if fabric.is_global_zero:
            write_log(log, state["log"])
    # Other devices do not wait for what follows: with a large cohort it takes longer than they may.
    fabric.barrier()
    if fabric.is_global_zero:
        write_log(log, state["log"])
        finish(weights, root / settings.training, root / settings.validation)
    return weights


def _fabric(settings: TrainingSettings, output: Path) -> Fabric:
    """Devices and logger of a run, launched; InputError where this machine does not have them."""
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            precision=settings.precision,  # type: ignore[arg-type]
            loggers=[TensorBoardLogger(output, name="", version="")],
        )
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        asked = f"accelerator {settings.accelerator}, devices {settings.devices}, precision {settings.precision}"
        raise InputError(f"{asked}: this machine cannot: {' '.join(str(error).split())}") from None
    fabric.launch()
    return fabric


def _check_cohorts(training: Cohort, validation: Cohort, settings: TrainingSettings, devices: int) -> None:
    """InputError, before hours of training, for cohorts that are too small or share patients, and for odd batches."""
    if len(training) < settings.batch or settings.batch % devices:
        raise InputError(
            f"a batch of {settings.batch} needs at least as many patients ({len(training)} are there), and a multiple "
            f"of the {devices} devices"
        )
    if settings.target == "map" and len(validation) < LEAST_PATIENTS:
        raise InputError(
            f"{settings.validation}: {len(validation)} patients, limits of a map network's use need {LEAST_PATIENTS}: "
            "make a larger validation cohort"
        )
    shared = len(training.patients_sha256 & validation.patients_sha256)
    if shared:
        raise InputError(
            f"{settings.training} and {settings.validation} share {shared} patients: "
            "make the validation cohort with another seed"
        )


def _new_state(fabric: Fabric, settings: TrainingSettings, root: Path) -> dict[str, Any]:
    """What a checkpoint keeps: network, running mean and optimizer before the first step, and counters."""
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
    return {
        "network": network, "average": average, "optimizer": optimizer, "step": 0, "validated": 0,
        "loss": math.nan, "best": math.inf, "since_best": 0, "seconds": 0.0, "log": [],
    }  # fmt: skip


def _about(settings: TrainingSettings, root: Path, training: Cohort, validation: Cohort) -> dict[str, Any]:
    """All that the weights follow from, and the devices; not how often checkpoints were written."""
    files = {"first_round": settings.first_round, "begin_with": settings.begin_with}
    return {
        "settings": {name: value for name, value in asdict(settings).items() if name != "checkpoint_minutes"},
        "training_sha256": training.sha256,
        "validation_sha256": validation.sha256,
        "weights_sha256": {
            name: hashlib.sha256((root / file).read_bytes()).hexdigest()
            for name, file in files.items()
            if file is not None
        },
        "patients": len(training),
        "validation_patients": len(validation),
        "rounds": 1 if settings.first_round is None else 2,
    }


def _save(fabric: Fabric, checkpoint: Path, state: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all: Fabric's own goes through /tmp, which may be another file system."""
    with written(checkpoint) if fabric.is_global_zero else nullcontext(checkpoint) as path:
        fabric.save(path, {**state, "about": json.dumps(about)})


def _resume(fabric: Fabric, checkpoint: Path, state: dict[str, Any], about: Mapping[str, Any]) -> None:
    """Take up a checkpoint that is there; InputError where it is another run's, before anything is taken from it."""
    if not checkpoint.exists():
        return
    try:
        held = fabric.load(checkpoint, weights_only=True)
        known = json.loads(held["about"])
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, UnpicklingError, OSError, EOFError, KeyError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{checkpoint}: no checkpoint of spectac, or damaged ({type(error).__name__}: {reason}): "
            "delete it to begin again, or give another folder with -o"
        ) from None
    if known != json.loads(json.dumps(about)):
        raise InputError(f"{checkpoint}: belongs to other settings or cohorts: give another folder with -o")
    fabric.load(checkpoint, state, weights_only=True)


def write_log(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write the log, a line of JSON for every epoch."""
    with written(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def finish(weights: Path, training: Path, validation: Path) -> None:
    """Write into the weights of a map network what its training covered; without that they are not used."""
    network, about = read_weights(weights)
    if network.settings.target == "map" and "coverage" not in about:
        coverage = measured_coverage(network, training, validation)
        save_weights(weights, network, {**about, "coverage": coverage.to_json()})


def _step(
    fabric: Fabric, state: Mapping[str, Any], training: Cohort, chosen: Any, steps: int, settings: TrainingSettings
) -> float:
    """One step of the optimizer, and of the running mean; the loss, averaged over devices.

    Raises InputError where the loss or its gradient is not finite; the weights are then as they were.
    """
    network, average, optimizer, step = (state[name] for name in ("network", "average", "optimizer", "step"))
    items = zip(*(training[int(i)] for i in chosen), strict=True)
    inputs, targets, water_per_voxel = (fabric.to_device(torch.stack(part)) for part in items)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, steps, settings)
    # Devices must not drop the same channels.
    torch.manual_seed(int(np.random.SeedSequence([settings.seed, step, fabric.global_rank]).generate_state(1)[0]))
    angle = float(np.random.default_rng([settings.seed, step]).uniform(0.0, 90.0))
    found = network(inputs.contiguous(memory_format=torch.channels_last_3d))
    if settings.target == "map":
        loss = map_loss(found, targets, water_per_voxel, angle, settings.loss_weights)
    else:
        loss = correction_loss(found, targets)
    optimizer.zero_grad()
    fabric.backward(loss)
    norm: Any = fabric.clip_gradients(network, optimizer, max_norm=1.0, error_if_nonfinite=False)
    mean_loss = float(fabric.all_reduce(loss.detach(), reduce_op="mean"))  # type: ignore[arg-type]
    if not (math.isfinite(mean_loss) and math.isfinite(norm)):
        raise InputError(
            f"step {step + 1} of {steps}: the loss is {mean_loss:g} and the norm of its gradient {float(norm):g}: "
            f"lower learning_rate ({settings.learning_rate:g}), and begin again in another folder"
        )
    optimizer.step()
    decay = min(settings.average_decay, (1.0 + step) / (10.0 + step))
    with torch.no_grad():
        for mean, value in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(value.to(mean.dtype), 1.0 - decay)
    return mean_loss


def learning_rate(step: int, steps: int, settings: TrainingSettings) -> float:
    """Linear warm-up, then half a cosine to a hundredth."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0))))


def _measured(state: Mapping[str, Any], validation: Cohort, settings: TrainingSettings) -> dict[str, float]:
    """Errors of the running mean as it is used, in one round, where there is one also in a second; and of the network.

    The first decides which weights are kept: `error` and `map_error` as `validate` gives them. `error_second` sees the
    corrected images; `error_network` is that of the last weights instead of their mean.
    """
    one_round = validation.without_corrected()
    measured = validate(state["average"], one_round, settings)
    if settings.first_round is not None:
        measured["error_second"] = validate(state["average"], validation, settings)["error"]
    measured["error_network"] = validate(state["network"].module, one_round, settings)["error"]
    return measured


@torch.no_grad()
def validate(network: Any, validation: Cohort, settings: TrainingSettings) -> dict[str, float]:
    """Means over patients: `error`, of mean attenuation factors or of corrections; `map_error`, NMAE in the head."""
    network.eval()
    device = next(network.parameters()).device
    errors, maps = [], []
    for batch in DataLoader(validation, batch_size=settings.batch):
        inputs, targets, water_per_voxel = (part.to(device) for part in batch)
        found: Tensor = network(inputs)
        for one, true, water in zip(found, targets, water_per_voxel, strict=True):
            if settings.target == "correction":
                errors.append(float(correction_loss(one[None], true[None])))
                continue
            head = true > 0.5
            maps.append(float((one - true)[head].abs().mean() / true[head].mean()))
            parts = [factor_error(one[None], true[None], water[None], angle) for angle in CHECKED_ANGLES_DEG]
            errors.append(float(torch.stack(parts).mean()))
    return {"error": float(np.mean(errors)), **({"map_error": float(np.mean(maps))} if maps else {})}


def begin_with(network: VolumeNetwork, path: Path) -> None:
    """Put the weights of a file into a network of the same target and widths; InputError for another one."""
    given, _ = read_weights(path)
    there, wanted = (f"a {one.settings.target} with widths {list(one.settings.widths)}" for one in (given, network))
    if there != wanted:
        raise InputError(f"{path}: begin_with needs weights of {wanted}, these are of {there}")
    network.load_state_dict(given.state_dict())
