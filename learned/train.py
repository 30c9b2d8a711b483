"""Training of a network from cohorts, on one CPU, one GPU or several nodes (Lightning Fabric).

Tested on one CPU and with two processes on one CPU; never on CUDA or several nodes.

A run is a function of its settings and cohorts. The order of patients, their augmentation and dropout follow from
(seed, step). An interrupted run continues from its last checkpoint. On a CPU with the same number of threads it ends
with the same weights, bit for bit; CUDA sums gradients of interpolations in any order.

At the end of an epoch weights, checkpoint and log are written in this order, so that an interruption between them loses
nothing. The weights are a running mean over the steps, which is less noisy than the last ones.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import TensorBoardLogger
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader

from spectac.learned.checkpoint import description, first_weights, new_state, resume, save_checkpoint
from spectac.learned.dataset import CohortDataset, shards_of
from spectac.learned.doubt_limits import CHECKED_ANGLES_DEG, LEAST_PATIENTS, measured_coverage
from spectac.learned.loss import correction_loss, factor_error, low_counts_loss, map_loss
from spectac.learned.low_counts import LowCountsCoverage
from spectac.learned.low_counts_dataset import Examples, LowCountsDataset
from spectac.learned.network import LOW_COUNTS
from spectac.learned.training_settings import TrainingSettings
from spectac.learned.weights_file import read_weights, save_weights
from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written
from spectac.recon.kernels.subnormal import subnormals_are_zero

Report = Callable[[int, int, Mapping[str, float]], None]
"""Called with (steps done, all steps, measures) after every step."""

Progress = Callable[[int, int], None]
"""Called with (patients read, all patients)."""


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
    """Train a network.

    Files in `output`: weights.safetensors (best validation), checkpoint.ckpt, log.jsonl, and TensorBoard's events. A
    checkpoint there is continued if its settings, cohorts and first weights are the same.

    Parameters
    ----------
    settings
        Settings of the run.
    root
        Folder to which the paths in `settings` are relative.
    output
        Folder of the run.
    on_step
        Called with (steps done, all steps, measures) after every step.
    on_load
        Called with (patients read, all patients), for one cohort after the other.

    Returns
    -------
    Path
        File of the weights, `output`/weights.safetensors.

    Raises
    ------
    InputError
        If a checkpoint belongs to another run, a device is missing, cohorts are too small or share patients, or the
        loss is no longer finite.

    Examples
    --------
    >>> import tempfile
    >>> settings = TrainingSettings("no cohort", "no cohort", accelerator="cpu", precision="32-true")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     train(settings, Path(), Path(folder))
    Traceback (most recent call last):
    spectac.recon.errors.InputError: no cohort: no shards of a cohort: make one with spectac cohort -o no cohort
    """
    first, result = first_weights(settings, root), output / "weights.safetensors"
    if first is not None and first.resolve() == result.resolve():
        raise InputError(f"{result} is read by begin_with and would be replaced: give another folder with -o")
    output.mkdir(parents=True, exist_ok=True)
    settings = with_precision(settings)
    fabric = _fabric(settings, output)
    if not fabric.is_global_zero:
        on_step = on_load = None
    if settings.beyond is not None:
        if settings.target != "map":
            raise InputError(f"beyond sets limits of maps: a {settings.target} has none")
        shards_of(root / settings.beyond)  # before hours of training
    training, validation = (
        _dataset(settings, root / folder, output, augmented=augmented, on_load=on_load)
        for folder, augmented in ((settings.training, True), (settings.validation, False))
    )
    _check_cohorts(training, validation, settings, fabric.world_size)
    state = new_state(fabric, settings, root)
    for examples in (training, validation):
        if isinstance(examples, LowCountsDataset):
            examples.make(on_load, fabric.global_rank, fabric.world_size)
    about = description(settings, root, training, validation)
    resume(fabric, output / "checkpoint.ckpt", state, about)
    run = _Run(fabric, settings, output, training, validation, about, state, on_step)
    for epoch in range(state["validated"], settings.epochs):
        if state["since_best"] >= settings.patience:
            break
        run.train_epoch(epoch)
        run.validate_epoch(epoch)
    # Other devices do not wait for what follows: with a large cohort it takes longer than they may.
    fabric.barrier()
    weights = output / "weights.safetensors"
    if fabric.is_global_zero:
        write_log(output / "log.jsonl", state["log"])
        beyond = None if settings.beyond is None else root / settings.beyond
        finish(weights, root / settings.training, root / settings.validation, beyond)
    return weights


def _dataset(
    settings: TrainingSettings,
    folder: Path,
    output: Path,
    *,
    augmented: bool,
    on_load: Progress | None,
) -> Examples:
    """Examples of a cohort's patients for the settings' target."""
    if settings.target == LOW_COUNTS:
        return LowCountsDataset(folder, output / "examples", augmented=augmented, seed=settings.seed)
    return CohortDataset(folder, target=settings.target, augmented=augmented, seed=settings.seed, on_load=on_load)


def with_precision(settings: TrainingSettings) -> TrainingSettings:
    """Settings with the precision that "auto" means on this machine.

    A processor without bfloat16 emulates it: an AMD EPYC (family 25 model 1) trained 40 times slower than in float32.

    Parameters
    ----------
    settings
        Settings of a run.

    Returns
    -------
    TrainingSettings
        The same settings where a precision is given.

    Examples
    --------
    >>> with_precision(TrainingSettings("training", "validation", precision="32-true")).precision
    '32-true'
    """
    if settings.precision != "auto":
        return settings
    on_gpu = settings.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if on_gpu:
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        on_cpu = settings.accelerator in ("auto", "cpu") and torch.backends.mkldnn.is_available()
        native = on_cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return replace(settings, precision="bf16-mixed" if native else "32-true")


def _fabric(settings: TrainingSettings, output: Path) -> Fabric:
    """Devices and logger of a run, launched; InputError where this machine does not have them."""
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            precision="bf16-mixed" if settings.precision == "bf16-mixed" else "32-true",
            loggers=[TensorBoardLogger(output, name="", version="")],
        )
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        asked = f"accelerator {settings.accelerator}, devices {settings.devices}, precision {settings.precision}"
        raise InputError(f"{asked}: this machine cannot: {' '.join(str(error).split())}") from None
    fabric.launch()
    return fabric


def _check_cohorts(training: Examples, validation: Examples, settings: TrainingSettings, devices: int) -> None:
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


@dataclass(eq=False)
class _Run:
    """A run between its checkpoints; `state` is that of checkpoint.new_state."""

    fabric: Fabric
    settings: TrainingSettings
    output: Path
    training: Examples
    validation: Examples
    about: Mapping[str, Any]
    state: dict[str, Any]
    on_step: Report | None
    started: float = field(init=False)
    saved: float = field(init=False)

    def __post_init__(self) -> None:
        self.saved = time.monotonic()
        self.started = self.saved - self.state["seconds"]

    def train_epoch(self, epoch: int) -> None:
        """All steps of an epoch that are not done yet."""
        state, settings, fabric = self.state, self.settings, self.fabric
        per_epoch = len(self.training) // settings.batch
        steps = settings.epochs * per_epoch
        self.training.epoch = epoch
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(self.training))
        state["network"].train()
        for n in range(state["step"] - epoch * per_epoch, per_epoch):
            chosen = order[n * settings.batch : (n + 1) * settings.batch][fabric.global_rank :: fabric.world_size]
            try:
                state["loss"] = self.step(chosen, steps)
            except torch.OutOfMemoryError:
                raise InputError(f"{fabric.device} has too little memory for a batch of {settings.batch}") from None
            state["step"] += 1
            fabric.log("loss", state["loss"], step=state["step"])
            # Clocks differ, and all devices must take part.
            if fabric.broadcast(time.monotonic() - self.saved > 60.0 * settings.checkpoint_minutes):
                self.save()
            if self.on_step is not None:
                self.on_step(state["step"], steps, {"loss": state["loss"], "best": state["best"]})

    def validate_epoch(self, epoch: int) -> None:
        """Errors after an epoch; weights if they are the best, checkpoint and log."""
        state, settings, fabric = self.state, self.settings, self.fabric
        measured: Any = None
        if fabric.is_global_zero:
            measured = validate(state["average"], self.validation, settings)
            measured["error_network"] = validate(state["network"].module, self.validation, settings)["error"]
        measured = fabric.broadcast(measured)
        fabric.log_dict(measured, step=state["step"])
        if not math.isfinite(measured["error"]):
            raise InputError(f"the validation error of epoch {epoch + 1} is not finite: try a lower learning_rate")
        better = measured["error"] < state["best"]
        state["best"] = min(state["best"], measured["error"])
        state["since_best"] = 0 if better else state["since_best"] + 1
        state["validated"] = epoch + 1
        seconds = round(time.monotonic() - self.started)
        state["log"].append({"epoch": epoch + 1, "loss": state["loss"], **measured, "seconds": seconds})
        if better and fabric.is_global_zero:
            about = {**self.about, "epoch": epoch + 1, "validation": measured, "seconds": seconds}
            save_weights(self.output / "weights.safetensors", state["average"], about)
        self.save()
        if fabric.is_global_zero:
            write_log(self.output / "log.jsonl", state["log"])

    def save(self) -> None:
        """Write the checkpoint."""
        self.saved = time.monotonic()
        self.state["seconds"] = self.saved - self.started
        save_checkpoint(self.fabric, self.output / "checkpoint.ckpt", self.state, self.about)

    def step(self, chosen: Any, steps: int) -> float:
        """One step of the optimizer and of the running mean; the loss, averaged over devices.

        Raises InputError where the loss or its gradient is not finite; the weights are then as they were.
        """
        fabric, settings = self.fabric, self.settings
        network, average, optimizer, step = (self.state[name] for name in ("network", "average", "optimizer", "step"))
        items = zip(*(self.training[int(i)] for i in chosen), strict=True)
        inputs, targets, water_per_voxel = (fabric.to_device(torch.stack(part)) for part in items)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, settings)
        # Devices must not drop the same channels.
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, step, fabric.global_rank]).generate_state(1)[0]))
        angle_deg = float(np.random.default_rng([settings.seed, step]).uniform(0.0, 90.0))
        volumes = network(inputs.flatten(0, -5).contiguous(memory_format=torch.channels_last_3d))
        if settings.target == LOW_COUNTS:
            loss = low_counts_loss(volumes.view_as(targets), targets, inputs[:, :, 0])[0].mean()
        elif settings.target == "map":
            loss = map_loss(volumes, targets, water_per_voxel, angle_deg, settings.loss_weights)
        else:
            loss = correction_loss(volumes, targets)
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
    """Learning rate of a step: linear warm-up, then half a cosine to a hundredth.

    Parameters
    ----------
    step, steps
        Number of the step from 0, and of all steps.
    settings
        Learning rate and warm-up.

    Returns
    -------
    float
        Rate in the unit of `settings.learning_rate`, which is its largest value.

    Examples
    --------
    >>> learning_rate(49, 1000, TrainingSettings("training", "validation"))
    0.0005
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0))))


@torch.no_grad()
def validate(network: Any, validation: Examples, settings: TrainingSettings) -> dict[str, float]:
    """Mean errors over the validation patients.

    Parameters
    ----------
    network
        A `VolumeNetwork`; it is left in evaluation mode.
    validation
        Validation cohort.
    settings
        Target and batch.

    Returns
    -------
    dict[str, float]
        "error": of mean attenuation factors, of corrections, or the loss of short scans. "map_error", for maps: mean
        |error| over the mean of the map, inside the head. "bias", for short scans: squared bias over the image's error;
        of a hospital's own studies both hold the targets' noise.

    Examples
    --------
    >>> from spectac.learned.network import NetworkSettings, VolumeNetwork
    >>> patient = torch.zeros(5, 16, 16, 16), torch.ones(16, 16, 16), torch.tensor(0.06)
    >>> network = VolumeNetwork(NetworkSettings(widths=(8, 8)))
    >>> sorted(validate(network, [patient], TrainingSettings("training", "validation")))
    ['error', 'map_error']
    """
    network.eval()
    device = next(network.parameters()).device
    errors, map_errors, biases = [], [], []
    for batch in DataLoader(validation, batch_size=settings.batch):
        inputs, targets, water_per_voxel = (part.to(device) for part in batch)
        volumes: Tensor = network(inputs.flatten(0, -5))
        if settings.target == LOW_COUNTS:
            loss, bias = low_counts_loss(volumes.view_as(targets), targets, inputs[:, :, 0])
            errors.extend(loss.tolist())
            biases.extend(bias.tolist())
            continue
        for volume, truth, water in zip(volumes.split(1), targets.split(1), water_per_voxel.split(1), strict=True):
            if settings.target == "correction":
                errors.append(float(correction_loss(volume, truth)))
                continue
            head = truth > 0.5
            map_errors.append(float((volume - truth)[head].abs().mean() / truth[head].mean()))
            parts = [factor_error(volume, truth, water, angle) for angle in CHECKED_ANGLES_DEG]
            errors.append(float(torch.stack(parts).mean()))
    more = {"map_error": map_errors, "bias": biases}
    return {"error": float(np.mean(errors))} | {name: float(np.mean(one)) for name, one in more.items() if one}


def write_log(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    r"""Write the log: one line of JSON per epoch.

    Parameters
    ----------
    path
        File of the log.
    lines
        Plain values of each epoch.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_log(Path(folder) / "log.jsonl", [{"epoch": 1}])
    ...     (Path(folder) / "log.jsonl").read_text()
    '{"epoch": 1}\n'
    """
    with written(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def finish(weights: Path, training: Path, validation: Path, beyond: Path | None = None) -> None:
    """Add the coverage to the weights of a network of maps or of short scans, without which they are refused.

    Parameters
    ----------
    weights
        Safetensors file, which is replaced.
    training, validation, beyond
        Folders of cohorts, see `doubt_limits.measured_coverage`.

    Raises
    ------
    InputError
        If too few validation patients show a head.

    Examples
    --------
    >>> from spectac.learned.weights_file import shipped_weights
    >>> finish(shipped_weights(), Path("not needed"), Path("not needed"))
    """
    network, about = read_weights(weights)
    if network.settings.target == LOW_COUNTS and "coverage" not in about:
        dataset = LowCountsDataset(training, weights.parent / "examples", seed=about["settings"]["seed"])
        examples = dataset.make().examples
        of_scans = LowCountsCoverage.of(scan for example in examples for scan in example.scans)
        save_weights(weights, network, {**about, "coverage": of_scans.to_json()})
    if network.settings.target == "map" and "coverage" not in about:
        coverage, weighed, scale = measured_coverage(network, training, validation, beyond)
        measured = {"coverage": coverage.to_json(), "uncertainty_limit": asdict(weighed), "spread": scale.to_json()}
        save_weights(weights, network, {**about, **measured})
