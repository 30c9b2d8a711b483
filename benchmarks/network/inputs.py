"""What a network's input lacks: small networks trained with one more kind of input each, on the same patients.

    spectac cohort -o TRAINING -n 384 --seed 7100 --cameras low-energy
    spectac cohort -o VALIDATION -n 64 --seed 7200 --cameras low-energy
    python -m benchmarks.network.inputs --training TRAINING --validation VALIDATION -o FOLDER

Writes network_inputs.csv, a row a trial and seed: the error of mean attenuation factors and of the map on the
validation patients, and the seconds that the input takes. Inputs are computed first (half an hour for 448 patients) and
kept in FOLDER; then 20,000 samples a trial, 10 to 17 minutes each. Rows that are in the CSV are not made again.
Volumes have voxels of 8 mm, half of the preview's resolution and an eighth of its time: trials compare inputs, their
errors are no network's. Seconds are those of a process beside another one. The typical head is fitted to images that
are not corrected for attenuation; `fitted` is the share of the validation patients in which it fits.
"""

import argparse
import csv
import hashlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from benchmarks.provenance import provenance, write_csv
from spectac.learned.cohort_inputs import patient_input, scanner_of
from spectac.learned.dataset import shards_of
from spectac.learned.doubt_limits import CHECKED_ANGLES_DEG
from spectac.learned.inputs import head_level, normalised
from spectac.learned.loss import factor_error
from spectac.learned.network import NetworkSettings, VolumeNetwork
from spectac.learned.train import learning_rate
from spectac.learned.training_settings import TrainingSettings
from spectac.recon import filters, voi
from spectac.recon.em import osem
from spectac.recon.errors import InputError
from spectac.recon.geometry import default_grid, object_pixel_mm
from spectac.recon.io.atomic import written
from spectac.recon.preview import (
    PREVIEW_FWHM_MM,
    PREVIEW_ITERATIONS,
    PREVIEW_SUBSETS,
    placed,
    preview_factors,
    preview_image,
)
from spectac.recon.resample import rebin, rebin_acquisition
from spectac.recon.system import SystemModel
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Acquisition, Array, Image
from spectac.simulate.cohort.patient_arrays import WINDOWS, PatientArrays
from spectac.simulate.cohort.shards import read_patients

SHIPPED = ("photopeak", "scatter", "energy loss", "energy")
"""Channels that are always kept: those of the first shipped network."""

MORE = ("recovered", "lower", "upper", "left to right", "front to back", "inside the skull")
"""Channels on trial, in the order in which they are kept."""

OF_SIDE_WINDOWS = ("scatter", "energy loss", "lower", "upper")
"""Channels that an augmented example without side windows lacks."""

NO_SIDE_WINDOWS = 0.3
"""Share of those examples, as in training."""

SAMPLES, BATCH = 20_000, 4
WIDTHS = (16, 32, 64)
LOSS_WEIGHTS = (1.0, 0.5, 4.0)
AVERAGE_DECAY = 0.998
SKIN = 0.5
"""The head's surface lies at half of water."""


@dataclass(frozen=True)
class Trial:
    """Channels beside the shipped ones, and the weight of the head's shape in the loss."""

    channels: tuple[str, ...] = ()
    shape_weight: float = 0.0


TRIALS: Mapping[str, Trial] = {
    "as shipped": Trial(),
    "resolution recovery": Trial(("recovered",)),
    "both windows": Trial(("lower", "upper")),
    "opposite views": Trial(("left to right", "front to back")),
    "typical head": Trial(("inside the skull",)),
    "shape in the loss": Trial(shape_weight=1.0),
}


@dataclass(frozen=True, eq=False)
class Inputs:
    """Channels (patient, channel, z, y, x) float16 of SHIPPED and MORE, targets, and seconds of each of MORE."""

    channels: Array
    targets: Array
    water_per_voxel: Array
    seconds: Array


def coarse(values: Array) -> Array:
    """Means over blocks of 2 x 2 x 2 voxels."""
    z, y, x = (n // 2 for n in values.shape)
    return np.asarray(values.reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5)), np.float32)


def camera(patient: PatientArrays) -> tuple[Acquisition, Array]:
    """Views and counts of the photopeak, rebinned as previews are."""
    scanner = scanner_of(patient)
    head: Any = SimpleNamespace(labels=patient.labels, grid=patient.grid) if scanner.orbit == "contour" else None
    acquisition = scanner.acquisition(str(patient.parameters["nuclide"]), head)
    factors = preview_factors(object_pixel_mm(acquisition))
    return rebin_acquisition(acquisition, *factors), rebin(patient.counts, *factors)


def recovered(acquisition: Acquisition, counts: Array, patient: PatientArrays) -> Array:
    """The preview with resolution recovery."""
    grid = default_grid(acquisition)
    system = SystemModel(acquisition, grid, energy_kev=patient.energy_kev)
    subsets = max(1, min(PREVIEW_SUBSETS, acquisition.views // 4))
    values = osem(system, counts, iterations=PREVIEW_ITERATIONS, subsets=subsets)
    image = Image(filters.gaussian(values, grid.voxel_mm, PREVIEW_FWHM_MM), grid, "cps/mL")
    return normalised(placed(image, patient.grid).values, patient.grid.voxel_ml)


def opposite_views(acquisition: Acquisition, counts: Array, patient: PatientArrays) -> tuple[Array, Array]:
    """Backprojected difference of opposite views, weighted by the direction to the detector in x and in y.

    Without attenuation and blur opposite views are each other's mirror image, and both are 0. Relative to the
    backprojection's level in the head, with its sign under the square root.
    """
    angles = acquisition.view_angles_deg
    apart = np.abs((angles[:, None] - angles[None, :] + 360.0) % 360.0 - 180.0)
    difference = counts - counts[apart.argmin(axis=1)][:, :, ::-1]
    grid = default_grid(acquisition)
    system = SystemModel(acquisition, grid, resolution=False)

    def image(values: Array) -> Array:
        back = filters.gaussian(system.adjoint(np.ascontiguousarray(values, np.float32)), grid.voxel_mm, 12.0)
        return placed(Image(back, grid, "cps/mL"), patient.grid).values

    level = head_level(image(counts), patient.grid.voxel_ml)
    radians = np.radians(angles)[:, None, None]
    parts = [image(difference * direction) / level for direction in (np.sin(radians), np.cos(radians))]
    left, back = (np.sign(part) * np.sqrt(np.minimum(np.abs(part), 4.0)) for part in parts)
    return left, back


def side_window(patient: PatientArrays, name: str) -> Array:
    """Square root of a window's preview over the photopeak's head level; zeros without the window."""
    level = head_level(patient.preview[0], patient.grid.voxel_ml)
    return np.sqrt(np.clip(patient.preview[WINDOWS.index(name)] / level, 0.0, 4.0)).astype(np.float32)


def inside_the_skull(patient: PatientArrays) -> Array:
    """Share of each voxel inside the skull of a typical head that is fitted to the preview; zeros where none fits."""
    try:
        return voi.place(Image(patient.preview[0], patient.grid, "cps/mL")).masks["inside the skull"]
    except (InputError, KeyError):
        return np.zeros(patient.grid.shape, np.float32)


def computed(patient: PatientArrays) -> tuple[Array, Array, float, Array]:
    """Channels, target, attenuation of a voxel of water and seconds of one patient."""
    seen = patient_input(patient).channels()[: len(SHIPPED)]
    acquisition, counts = camera(patient)
    parts, seconds = [], []
    for one in (
        lambda: (recovered(acquisition, counts, patient),),
        lambda: (
            side_window(patient, "lower"),
            side_window(patient, "upper"),
            # What the previews of two windows take, which a cohort has already.
            [preview_image(acquisition, counts) for _ in range(2)],
        )[:2],
        lambda: opposite_views(acquisition, counts, patient),
        lambda: (inside_the_skull(patient),),
    ):
        begun = time.perf_counter()
        parts += one()
        seconds.append(time.perf_counter() - begun)
    channels = np.stack([coarse(values) for values in (*seen, *parts)]).astype(np.float16)
    water = water_per_cm(patient.energy_kev)
    target = coarse(patient.head_mu_per_cm / np.float32(water)).astype(np.float16)
    return channels, target, 0.2 * patient.grid.voxel_mm[2] * water, np.array(seconds)


def of_shard(path: Path) -> list[tuple[Array, Array, float, Array]]:
    """`computed` of all patients of a shard, those without a head in their preview left out."""
    found = []
    for _, patient in read_patients(path):
        try:
            found.append(computed(patient))
        except InputError:
            continue
    return found


def inputs_of(folder: Path, kept: Path, workers: int) -> Inputs:
    """Inputs of a cohort, computed once and kept in a file for each shard."""
    kept.mkdir(parents=True, exist_ok=True)
    shards = shards_of(folder)
    files = [kept / f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.npz" for path in shards]
    missing = [(path, file) for path, file in zip(shards, files, strict=True) if not file.is_file()]
    names = ("channels", "targets", "water", "seconds")
    with ProcessPoolExecutor(workers) as pool:
        for found, (_, file) in zip(pool.map(of_shard, [path for path, _ in missing]), missing, strict=True):
            parts = {name: np.stack(part) for name, part in zip(names, zip(*found, strict=True), strict=True)}
            with written(file) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **parts)
    stored = [dict(np.load(file)) for file in files]
    every = {name: np.concatenate([one[name] for one in stored]) for name in names}
    return Inputs(every["channels"], every["targets"], every["water"].astype(np.float32), every["seconds"])


def augmented(inputs: Inputs, index: int, names: tuple[str, ...], rng: np.random.Generator) -> tuple[Array, Array]:
    """Channels and target of a patient: shifted by up to a voxel, mirrored, without side windows at random."""
    every = SHIPPED + MORE
    channels = inputs.channels[index][[every.index(name) for name in names]].astype(np.float32)
    target = inputs.targets[index].astype(np.float32)
    if rng.random() < NO_SIDE_WINDOWS:
        channels[[n for n, name in enumerate(names) if name in OF_SIDE_WINDOWS]] = 0.0
    shift = tuple(rng.integers(-1, 2, 3))
    padded = np.pad(channels, ((0, 0), (1, 1), (1, 1), (1, 1)), mode="edge")
    padded_target = np.pad(target, 1, mode="edge")
    part = tuple(slice(1 - s, 1 - s + n) for s, n in zip(shift, target.shape, strict=True))
    channels, target = padded[(slice(None), *part)], padded_target[part]
    if rng.random() < 0.5:
        channels, target = channels[..., ::-1].copy(), target[..., ::-1]
        if "left to right" in names:
            channels[names.index("left to right")] *= -1.0
    return np.ascontiguousarray(channels), np.ascontiguousarray(target)


def loss_of(estimate: torch.Tensor, truth: torch.Tensor, water: torch.Tensor, angle_deg: float, trial: Trial) -> Any:
    """The loss of training, and the mean distance of soft masks of the head where the trial asks for it."""
    error = estimate - truth
    on_edges = torch.stack([error.diff(dim=axis).abs().mean() for axis in (1, 2, 3)]).mean()
    terms = (error.abs().mean(), on_edges, factor_error(estimate, truth, water, angle_deg))
    loss = sum(weight * term for weight, term in zip(LOSS_WEIGHTS, terms, strict=True))
    if trial.shape_weight:
        masks = [torch.sigmoid((volume - SKIN) / 0.1) for volume in (estimate, truth)]
        loss = loss + trial.shape_weight * (masks[0] - masks[1]).abs().mean()
    return loss


@torch.no_grad()
def errors(network: VolumeNetwork, inputs: Inputs, names: tuple[str, ...]) -> dict[str, float]:
    """Mean errors in % over the patients: of factors, of factors without side windows, of the map in the head."""
    network.eval()
    chosen = [(SHIPPED + MORE).index(name) for name in names]
    sides = [n for n, name in enumerate(names) if name in OF_SIDE_WINDOWS]
    found: dict[str, list[float]] = {"factors": [], "factors_photopeak_alone": [], "map": []}
    for channels, target, water in zip(inputs.channels, inputs.targets, inputs.water_per_voxel, strict=True):
        seen = torch.from_numpy(channels[chosen].astype(np.float32))[None]
        truth, one_voxel = torch.from_numpy(target.astype(np.float32))[None], torch.tensor([water])
        alone = seen.clone()
        alone[:, sides] = 0.0
        for column, given in (("factors", seen), ("factors_photopeak_alone", alone)):
            volume = network(given)
            parts = [factor_error(volume, truth, one_voxel, angle) for angle in CHECKED_ANGLES_DEG]
            found[column].append(float(torch.stack(parts).mean()))
            if column == "factors":
                head = truth > SKIN
                found["map"].append(float((volume - truth)[head].abs().mean() / truth[head].mean()))
    return {f"{name}_error_percent": round(100.0 * float(np.mean(values)), 3) for name, values in found.items()}


def trained(training: Inputs, trial: Trial, seed: int, samples: int = SAMPLES) -> VolumeNetwork:
    """Running mean of a network's weights after so many examples."""
    names = SHIPPED + trial.channels
    torch.manual_seed(seed)
    settings = NetworkSettings(widths=WIDTHS, channels=len(names))
    network = VolumeNetwork(settings).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    average = VolumeNetwork(settings)
    average.load_state_dict(network.state_dict())
    schedule = TrainingSettings("", "")
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=schedule.weight_decay)
    steps, patients = samples // BATCH, len(training.targets)
    order = np.concatenate(
        [np.random.default_rng([seed, n]).permutation(patients) for n in range(-(-samples // patients))]
    )
    network.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, schedule)
        chosen = order[step * BATCH : (step + 1) * BATCH]
        items = [augmented(training, int(i), names, np.random.default_rng([seed, step, int(i)])) for i in chosen]
        inputs, targets = (torch.from_numpy(np.stack(part)) for part in zip(*items, strict=True))
        water = torch.from_numpy(training.water_per_voxel[chosen])
        angle_deg = float(np.random.default_rng([seed, step]).uniform(0.0, 90.0))
        volumes = network(inputs.contiguous(memory_format=torch.channels_last_3d))
        loss = loss_of(volumes, targets, water, angle_deg, trial)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        decay = min(AVERAGE_DECAY, (1.0 + step) / (10.0 + step))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, 1.0 - decay)
    return average


def rows(options: argparse.Namespace, done: set[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """A row a trial and seed, but for those that are done."""
    training, validation = (
        inputs_of(folder, options.output / "inputs", options.workers)
        for folder in (options.training, options.validation)
    )
    cost = dict(zip(list(TRIALS)[1:5], validation.seconds.mean(axis=0), strict=True))
    for seed in options.seeds:
        for name, trial in TRIALS.items():
            if (name, str(seed)) in done:
                continue
            begun = time.perf_counter()
            network = trained(training, trial, seed)
            measured = errors(network, validation, SHIPPED + trial.channels)
            yield {
                **provenance(seed),
                "trial": name,
                "training_patients": len(training.targets),
                "validation_patients": len(validation.targets),
                "samples": SAMPLES,
                **measured,
                "input_seconds": round(float(cost.get(name, 0.0)), 2),
                "fitted": round(float(validation.channels[:, -1].any(axis=(1, 2, 3)).mean()), 3),
                "training_seconds": round(time.perf_counter() - begun),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--training", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--validation", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], metavar="N", help="(1 2)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="(2)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    path, kept = options.output / "network_inputs.csv", []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as stream:
            kept = list(csv.DictReader(stream))
    for row in rows(options, {(row["trial"], row["seed"]) for row in kept}):
        kept.append(row)
        write_csv(path, kept)
        print(*(row[name] for name in list(row)[5:]), flush=True)


if __name__ == "__main__":
    main()
