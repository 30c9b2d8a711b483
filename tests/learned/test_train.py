"""Training: a function of seed and cohort, that a kill does not change; its configuration is checked."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'spectac[train]'")

from safetensors.torch import load_file  # noqa: E402

from spectac.learned.coverage import Coverage  # noqa: E402
from spectac.learned.dataset import CohortDataset  # noqa: E402
from spectac.learned.doubt_limits import WeighedLimit  # noqa: E402
from spectac.learned.network import NetworkSettings, VolumeNetwork  # noqa: E402
from spectac.learned.spread import SpreadScale  # noqa: E402
from spectac.learned.training_settings import TrainingSettings  # noqa: E402
from spectac.learned.weights_file import (  # noqa: E402
    read_weights,
    save_weights,
    shipped_weights,
)
from spectac.recon import InputError  # noqa: E402
from spectac.recon.tissues import water_per_cm  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def training():
    """The module under test; it takes seconds to import, which only the worker that runs these tests spends."""
    for package in ("lightning", "tensorboard"):
        pytest.importorskip(package, reason=f"training needs {package}: pip install 'spectac[train]'")
    return import_module("spectac.learned.train")


@pytest.fixture
def settings() -> TrainingSettings:
    return TrainingSettings(
        "training", "validation", widths=(8, 16), epochs=3, batch=2, warmup_steps=2, precision="32-true"
    )


@pytest.fixture(autouse=True)
def no_limits(training, monkeypatch):
    """Tiny balls are no heads with an outline, and 4 of them too few: test_doubt_limits.py has the tests of limits."""
    coverage = Coverage(
        (140.5,), 1.0, 1.0, (1.0, 2.0), 0.1, 1.0, (1.0, 2.0), 1.0, 180.0, 4.0, 60.0, (0.15, 0.2), (0.1, 0.25), 0.1, 5.0
    )
    weighed, scale = WeighedLimit(0.1, 0, 1.0, 1.0), SpreadScale((0.0, 1.0), (0.0, 1.0), 2.0, 1.0, 2.0)
    monkeypatch.setattr(training, "measured_coverage", lambda *_: (coverage, weighed, scale))
    monkeypatch.setattr(training, "LEAST_PATIENTS", 4)


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_bfloat16_is_for_processors_that_have_it(training, monkeypatch, native, precision):
    """Emulated it was 40 times slower than float32; the weights say which of them was used."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    settings = TrainingSettings("training", "validation", accelerator="cpu")
    assert settings.precision == "auto"
    assert training.with_precision(settings).precision == precision
    given = TrainingSettings("training", "validation", accelerator="cpu", precision="bf16-mixed")
    assert training.with_precision(given) == given


def test_examples_repeat_themselves_and_change_with_the_epoch(tiny_cohorts):
    first, second = (CohortDataset(tiny_cohorts / "training", augmented=True, seed=1) for _ in range(2))
    assert first.sha256 == second.sha256 != CohortDataset(tiny_cohorts / "validation").sha256
    assert all(torch.equal(a, b) for a, b in zip(first[3], second[3], strict=True))
    second.epoch = 1
    assert not torch.equal(first[3][0], second[3][0])


def test_input_and_target_move_together(tiny_cohorts):
    """The ball of activity is the ball of water, mirrored and shifted or not."""
    cohort = CohortDataset(tiny_cohorts / "training", augmented=True, seed=2)
    for epoch in range(4):
        cohort.epoch = epoch
        for given, target, _ in (cohort[n] for n in range(len(cohort))):
            np.testing.assert_array_equal(given[0].numpy() > 0, target.numpy() > 0.5)


def test_the_target_is_the_heads_map_without_what_lies_beside_it(tiny_cohorts):
    """The whole map of the balls is 1.1 times the head's, which is water."""
    cohort = CohortDataset(tiny_cohorts / "training")
    assert [float(target.max()) for _, target, _ in (cohort[n] for n in range(8))] == pytest.approx([1.0] * 8, abs=1e-3)


def test_a_folder_of_cohorts_is_all_of_them_and_a_copy_is_told(tiny_cohorts, tmp_path):
    """Linked folders count as others do."""
    for name in ("training", "validation"):
        (tmp_path / name).symlink_to(tiny_cohorts / name)
    assert len(CohortDataset(tmp_path)) == 12
    (tmp_path / "again").symlink_to(tiny_cohorts / "validation")
    with pytest.raises(InputError, match="4 patients are there twice"):
        CohortDataset(tmp_path)


def test_the_scatter_window_is_missing_at_random(tiny_cohorts):
    cohort = CohortDataset(tiny_cohorts / "training", augmented=True, seed=3)
    with_one = [n for n in range(8) if cohort.examples[n].seen.scatter is not None]
    shown = []
    for epoch in range(60):
        cohort.epoch = epoch
        shown += [float(cohort[n][0][1].max()) > 0 for n in with_one]
    assert np.mean(shown) == pytest.approx(0.7, abs=4 * np.sqrt(0.21 / len(shown)))


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(InputError, match="no shards of a cohort"):
        CohortDataset(tmp_path)


def test_water_per_voxel_follows_the_grid_and_loading_is_reported(tiny_cohorts):
    """Voxels of the tiny patients are 8 mm long."""
    told = []
    cohort = CohortDataset(tiny_cohorts / "training", on_load=lambda done, total: told.append((done, total)))
    assert told == [(n, 8) for n in range(1, 9)]
    for n, example in enumerate(cohort.examples):
        kev = 159.0 if example.index % 2 else 140.5
        assert float(cohort[n][2]) == pytest.approx(0.8 * water_per_cm(kev), rel=1e-6)


class Killed(BaseException):
    """Stands for the signal that ends a run."""


def kill(training, monkeypatch, name, call, after=False):
    """Stop training in the given call of one of its functions, before or after it did its work."""
    whole, calls = getattr(training, name), []

    def watched(*given, **named):
        calls.append(name)
        done = whole(*given, **named) if after or len(calls) != call else None
        if len(calls) == call:
            raise Killed
        return done

    monkeypatch.setattr(training, name, watched)


@pytest.fixture(scope="module")
def whole_run(training, tiny_cohorts, tmp_path_factory):
    """Weights and log of a run of two epochs of four steps that nothing stopped, with no checkpoint within an epoch."""
    output = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "finish", lambda *_: None)
        patch.setattr(training, "LEAST_PATIENTS", 4)
        path = training.train(short(checkpoint_minutes=5.0), tiny_cohorts, output)
    return load_file(path), log_of(output)


def short(**other):
    values = {"widths": (8, 8), "epochs": 2, "batch": 2, "warmup_steps": 2, "precision": "32-true"}
    return TrainingSettings("training", "validation", **{**values, **other})


def log_of(output):
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.parametrize(
    ("name", "call", "after", "minutes"),
    [
        pytest.param("learning_rate", 7, False, 0.0, id="within an epoch, after a checkpoint of its own"),
        pytest.param("learning_rate", 7, False, 5.0, id="within an epoch, after the last one's checkpoint"),
        pytest.param("save_checkpoint", 9, True, 0.0, id="after the checkpoint of an epoch's last step"),
        pytest.param("validate", 3, False, 5.0, id="within validation"),
        pytest.param("save_weights", 1, True, 5.0, id="between weights and checkpoint"),
        pytest.param("write_log", 1, False, 5.0, id="between checkpoint and log"),
    ],
)
def test_a_killed_run_ends_with_the_same_weights(
    training, tiny_cohorts, tmp_path, monkeypatch, whole_run, name, call, after, minutes
):
    """Bit for bit the weights of the run that nothing stopped, and its log: every epoch once."""
    settings = short(checkpoint_minutes=minutes)
    with monkeypatch.context() as patch:
        kill(training, patch, name, call, after)
        with pytest.raises(Killed):
            training.train(settings, tiny_cohorts, tmp_path)
    weights, log = load_file(training.train(settings, tiny_cohorts, tmp_path)), log_of(tmp_path)
    for part, tensor in whole_run[0].items():
        assert torch.equal(tensor, weights[part]), part
    assert log == whole_run[1]
    assert [line["epoch"] for line in log] == [1, 2]
    assert list(tmp_path.glob("events.out.tfevents*"))


def test_training_stops_when_validation_gets_no_better(training, tiny_cohorts, tmp_path, monkeypatch):
    """Best in the first epoch, worse in all others: with a patience of 2 the third is the last, and not kept."""
    errors = iter((0.3, 0.4, 0.5, 0.6, 0.7))
    averages = iter(error for error in errors for _ in ("mean weights", "last weights"))
    monkeypatch.setattr(training, "validate", lambda *arguments: {"error": next(averages)})
    _, about = read_weights(training.train(short(epochs=5, patience=2), tiny_cohorts, tmp_path))
    assert [line["epoch"] for line in log_of(tmp_path)] == [1, 2, 3]
    assert about["epoch"] == 1


def test_checkpoints_within_an_epoch_change_nothing(training, tiny_cohorts, tmp_path, whole_run):
    path = training.train(short(checkpoint_minutes=0.0), tiny_cohorts, tmp_path)
    assert all(torch.equal(tensor, whole_run[0][part]) for part, tensor in load_file(path).items())


@pytest.mark.slow
def test_training_learns_to_look_at_the_image(training, tiny_cohorts, tmp_path, settings):
    """Well below the error of the mean map of the training patients, the best that a blind network could give."""
    longer = TrainingSettings(
        **{**vars(settings), "epochs": 150, "patience": 150, "learning_rate": 1e-2, "dropout": 0.0}
    )
    path = training.train(longer, tiny_cohorts, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    known, unseen = CohortDataset(tiny_cohorts / "training"), CohortDataset(tiny_cohorts / "validation")
    blind = torch.stack([known[n][1] for n in range(len(known))]).mean(dim=0)
    errors = [float((blind - true)[true > 0.5].abs().mean()) for true in (unseen[n][1] for n in range(len(unseen)))]
    assert min(line["map_error"] for line in lines) < 0.7 * np.mean(errors)
    _, about = read_weights(path)
    assert about["training_sha256"] == known.sha256
    assert about["settings"]["seed"] == 1
    assert about["coverage"]["energies_kev"] == [140.5]


def test_another_configuration_does_not_go_on_with_a_checkpoint(training, tiny_cohorts, tmp_path):
    """Seed, widths (whose tensors would not fit) and the weights it began with, whose name alone stays the same."""
    first = tmp_path / "first.safetensors"

    def write_first(seed):
        torch.manual_seed(seed)
        network = VolumeNetwork(NetworkSettings(widths=(8, 8)))
        save_weights(first, network, {"settings": vars(network.settings)})

    write_first(1)
    settings = short(epochs=1, begin_with=str(first))
    training.train(settings, tiny_cohorts, tmp_path / "out")
    for other in (replace(settings, seed=2), replace(settings, widths=(8, 16), begin_with=None)):
        with pytest.raises(InputError, match="belongs to other settings or cohorts"):
            training.train(other, tiny_cohorts, tmp_path / "out")
    write_first(2)
    with pytest.raises(InputError, match="belongs to other settings or cohorts"):
        training.train(settings, tiny_cohorts, tmp_path / "out")


def test_weights_name_no_folder_of_the_machine(training, tiny_cohorts, tmp_path):
    first = tmp_path / "first.safetensors"
    network = VolumeNetwork(NetworkSettings(widths=(8, 8)))
    save_weights(first, network, {"settings": vars(network.settings)})
    given = replace(
        short(epochs=1, begin_with=str(first)),
        training=str(tiny_cohorts / "training"), validation=str(tiny_cohorts / "validation"),
    )  # fmt: skip
    path = training.train(given, Path(), tmp_path / "out")
    _, about = read_weights(path)
    assert str(tiny_cohorts) not in json.dumps(about)
    assert str(tmp_path) not in json.dumps(about)
    assert len(about["weights_sha256"]["begin_with"]) == 64


@pytest.mark.parametrize("damage", ["cut", "text", "another program's"])
def test_a_damaged_checkpoint_is_refused_with_what_to_do(training, tiny_cohorts, tmp_path, damage):
    checkpoint = tmp_path / "checkpoint.ckpt"
    if damage == "cut":
        training.train(short(epochs=1), tiny_cohorts, tmp_path)
        checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    elif damage == "text":
        checkpoint.write_text("no checkpoint")
    else:
        torch.save({"step": 3}, checkpoint)
    with pytest.raises(InputError, match=r"checkpoint\.ckpt: no checkpoint of spectac, or damaged .* delete it"):
        training.train(short(epochs=1), tiny_cohorts, tmp_path)


def test_weights_of_something_else_are_refused(training, tiny_cohorts, tmp_path):
    begin_with = import_module("spectac.learned.checkpoint").begin_with
    correction = NetworkSettings("correction", (8, 8), 0.1)
    path = tmp_path / "w.safetensors"
    save_weights(path, VolumeNetwork(correction), {"settings": vars(correction)})
    with pytest.raises(InputError, match="begin_with needs weights of a map with widths"):
        begin_with(VolumeNetwork(NetworkSettings("map", (8, 8))), path)
    with pytest.raises(InputError, match="begin_with needs weights of a correction with widths"):
        begin_with(VolumeNetwork(NetworkSettings("correction", (8, 16))), path)
    with pytest.raises(InputError, match="begin_with needs weights of a map"):
        training.train(short(begin_with=str(path)), tiny_cohorts, tmp_path / "out")


def test_the_weights_that_a_run_begins_with_stay(training, tiny_cohorts, tmp_path):
    (tmp_path / "weights.safetensors").write_text("the first run's")
    begun = short(begin_with=str(tmp_path / "weights.safetensors"))
    with pytest.raises(InputError, match="is read by begin_with and would be replaced"):
        training.train(begun, tiny_cohorts, tmp_path)
    assert (tmp_path / "weights.safetensors").read_text() == "the first run's"


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(training, tiny_cohorts, tmp_path, monkeypatch):
    loss, calls = training.map_loss, []

    def breaks(*given):
        calls.append(1)
        return loss(*given) * (math.nan if len(calls) == 3 else 1.0)

    monkeypatch.setattr(training, "map_loss", breaks)
    with pytest.raises(InputError, match=r"step 3 of 8: the loss is nan .* lower learning_rate") as failed:
        training.train(short(), tiny_cohorts, tmp_path)
    assert "\n" not in str(failed.value)


def test_a_validation_that_is_not_finite_does_not_pass_for_earlier_weights(
    training, tiny_cohorts, tmp_path, monkeypatch
):
    """Weights of another run that lie in the folder are not this run's result."""
    (tmp_path / "weights.safetensors").write_text("of another run")
    monkeypatch.setattr(training, "validate", lambda *_: {"error": math.nan})
    with pytest.raises(InputError, match=r"validation error of epoch 1 is not finite.*lower learning_rate"):
        training.train(short(), tiny_cohorts, tmp_path)
    assert (tmp_path / "weights.safetensors").read_text() == "of another run"


def test_cohorts_that_are_too_small_are_refused_before_training(training, tiny_cohorts, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "LEAST_PATIENTS", 5)
    with pytest.raises(InputError, match=r"4 patients, limits .* need 5: make a larger validation cohort"):
        training.train(short(), tiny_cohorts, tmp_path)
    with pytest.raises(InputError, match="at least as many patients"):
        training.train(short(batch=9), tiny_cohorts, tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_one_line(training, tiny_cohorts, tmp_path):
    with pytest.raises(InputError, match=r"accelerator cuda, devices 1.*this machine cannot") as failed:
        training.train(short(accelerator="cuda"), tiny_cohorts, tmp_path)
    assert "\n" not in str(failed.value)


TWO_PROCESSES = """
import os, sys
from pathlib import Path
from spectac.learned import train as training
from spectac.learned.training_settings import TrainingSettings

root, output, stop = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
training.LEAST_PATIENTS = 4
training.finish = lambda *_: None
rate, calls = training.learning_rate, []

def stopping(*given):
    calls.append(1)
    if len(calls) == stop:
        os._exit(3)
    return rate(*given)

training.learning_rate = stopping
training.train(
    TrainingSettings(
        "training", "validation", widths=(8, 8), epochs=2, batch=2, warmup_steps=2, precision="32-true",
        accelerator="cpu", devices=2, checkpoint_minutes=0.0,
    ),
    root, output,
)
"""


@pytest.mark.slow
def test_two_processes_write_one_run_that_a_kill_does_not_change(tiny_cohorts, tmp_path):
    """Both take part in every checkpoint; gradients of two are added in one order, so that results repeat."""
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)

    def run(output, stop):
        command = [sys.executable, script, tiny_cohorts, tmp_path / output, str(stop)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)

    whole = run("whole", 0)
    assert whole.returncode == 0, whole.stderr
    assert run("killed", 7).returncode != 0
    assert len(log_of(tmp_path / "killed")) == 1
    resumed = run("killed", 0)
    assert resumed.returncode == 0, resumed.stderr
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[part], other[part]) for part in one)
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "killed")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training = ", "not a TOML file"),
        ('training = "a"', "validation missing"),
        ('training = "a"\nvalidation = "b"\nepoch = 3', "unknown key epoch"),
        ('training = "a"\nvalidation = "b"\nepochs = 1.5', "epochs = 1.5, it needs a whole number"),
        ('training = 3\nvalidation = "b"', "training = 3, it needs a text"),
        ('training = "a"\nvalidation = "b"\nbegin_with = 3', "begin_with = 3, it needs a text"),
        ('training = "a"\nvalidation = "b"\nseed = true', "seed = True, it needs a whole number"),
        ('training = "a"\nvalidation = "b"\ndropout = "0.1"', r"it needs a number in \[0, 1\)"),
        ('training = "a"\nvalidation = "b"\nfirst_round = "w.safetensors"', "unknown key first_round"),
        ('training = "a"\nvalidation = "b"\nwidths = [12, 24]', "multiples of 8"),
        ('training = "a"\nvalidation = "b"\ntarget = "image"', "map, correction or low-counts"),
        ('training = "a"\nvalidation = "b"\nbatch = 0', "at least 1"),
        ('training = "a"\nvalidation = "b"\nwidths = [8]', "2 to 5 widths"),
        ('training = "a"\nvalidation = "b"\nwidths = [8, 8, 8, 8, 8, 8]', "2 to 5 widths"),
        ('training = "a"\nvalidation = "b"\nloss_weights = [1.0, 2.0]', "3 numbers"),
        ('training = "a"\nvalidation = "b"\nloss_weights = [1.0, 2.0, -1.0]', "3 numbers"),
        ('training = "a"\nvalidation = "b"\nlearning_rate = 0.0', "above 0"),
        ('training = "a"\nvalidation = "b"\nlearning_rate = nan', "above 0"),
        ('training = "a"\nvalidation = "b"\naverage_decay = 1.0', r"\[0, 1\)"),
        ('training = "a"\nvalidation = "b"\nwarmup_steps = -1', "not negative"),
        ('training = "a"\nvalidation = "b"\ncheckpoint_minutes = -1.0', "not negative"),
        ('training = "a"\nvalidation = "b"\nprecision = "half"', "one of auto, 32-true, bf16-mixed"),
        ('training = "a"\nvalidation = "b"\naccelerator = "tpu"', "one of auto, cpu, gpu, cuda, mps"),
    ],
)
def test_configurations_that_cannot_be_are_refused(tmp_path, text, message):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as refused:
        TrainingSettings.read(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_cohorts_that_share_patients_are_refused(training, tiny_cohorts, settings, tmp_path):
    with pytest.raises(InputError, match="training and training share 8 patients"):
        training.train(replace(settings, validation="training"), tiny_cohorts, tmp_path)


def test_the_committed_configurations_are_whole(training):
    folder = Path(training.__file__).parent / "weights"
    targets = {path.name: TrainingSettings.read(path).target for path in folder.glob("*.toml")}
    maps = dict.fromkeys(("map.toml", "map_portion1.toml", "map_portion2.toml", "map_portion3.toml"), "map")
    assert targets == maps | {"correction.toml": "correction", "low-counts.toml": "low-counts"}


def test_training_takes_subnormal_numbers_for_0_and_gives_the_mode_back(
    training, settings, tmp_path, monkeypatch, subnormals
):
    """Moments of the optimizer decay by a factor in every step where gradients vanish."""
    products = []

    def stopped(*_, **__):
        products.append(torch.full((9,), 1e-20) * 1e-20)
        raise InputError("far enough")

    monkeypatch.setattr(training, "CohortDataset", stopped)
    with pytest.raises(InputError, match="far enough"):
        training.train(settings, tmp_path, tmp_path / "run")
    products.append(torch.full((9,), 1e-20) * 1e-20)
    assert [subnormals(one.numpy()) for one in products] == [0, 9]


def test_training_may_begin_with_the_shipped_weights():
    checkpoint = import_module("spectac.learned.checkpoint")
    fabric = import_module("lightning.fabric").Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    settings = TrainingSettings("training", "validation", begin_with="shipped", widths=(24, 48, 96, 128))
    state = checkpoint.new_state(fabric, settings, Path("nowhere"))["average"].state_dict()
    for name, value in read_weights(shipped_weights())[0].state_dict().items():
        torch.testing.assert_close(state[name], value)
