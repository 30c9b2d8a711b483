"""Training: a function of seed and cohort, that a kill does not change; its configuration is checked."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'spectac[train]'")
pytest.importorskip("lightning", reason="training needs lightning: pip install 'spectac[train]'")
pytest.importorskip("tensorboard", reason="training needs tensorboard: pip install 'spectac[train]'")

from safetensors.torch import load_file  # noqa: E402

from spectac.learned import train as training  # noqa: E402
from spectac.learned.coverage import Coverage  # noqa: E402
from spectac.learned.dataset import Cohort  # noqa: E402
from spectac.learned.training_settings import TrainingSettings  # noqa: E402
from spectac.learned.weights_file import read_weights  # noqa: E402
from spectac.recon import InputError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::DeprecationWarning")


@pytest.fixture
def settings() -> TrainingSettings:
    return TrainingSettings(
        "training", "validation", widths=(8, 16), epochs=3, batch=2, warmup_steps=2, precision="32-true"
    )


@pytest.fixture(autouse=True)
def no_calibration(monkeypatch):
    """Tiny balls are no heads whose outline could be found: the last step has its own tests."""
    coverage = Coverage((140.5,), 1.0, (1.0, 2.0), 0.1, 1.0, (1.0, 2.0), 1.0, 180.0, 4.0, 60.0, (0.15, 0.2), (0.1, 0.25), 0.1, 5.0)
    monkeypatch.setattr(training, "measured_coverage", lambda *_: coverage)


def test_examples_repeat_themselves_and_change_with_the_epoch(tiny_cohorts):
    first, second = (Cohort(tiny_cohorts / "training", augmented=True, seed=1) for _ in range(2))
    assert first.sha256 == second.sha256 != Cohort(tiny_cohorts / "validation").sha256
    assert all(torch.equal(a, b) for a, b in zip(first[3], second[3], strict=True))
    second.epoch = 1
    assert not torch.equal(first[3][0], second[3][0])


def test_input_and_target_move_together(tiny_cohorts):
    """The ball of activity is the ball of water, mirrored and shifted or not."""
    cohort = Cohort(tiny_cohorts / "training", augmented=True, seed=2)
    for epoch in range(4):
        cohort.epoch = epoch
        for given, target, _ in (cohort[n] for n in range(len(cohort))):
            np.testing.assert_array_equal(given[0].numpy() > 0, target.numpy() > 0.5)


def test_the_scatter_window_is_missing_at_random(tiny_cohorts):
    cohort = Cohort(tiny_cohorts / "training", augmented=True, seed=3)
    with_one = [n for n in range(8) if cohort.examples[n].seen.scatter is not None]
    shown = []
    for epoch in range(60):
        cohort.epoch = epoch
        shown += [float(cohort[n][0][1].max()) > 0 for n in with_one]
    assert np.mean(shown) == pytest.approx(0.7, abs=4 * np.sqrt(0.21 / len(shown)))


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(InputError, match="no shards of a cohort"):
        Cohort(tmp_path)


def test_a_killed_run_ends_with_the_same_weights(tiny_cohorts, tmp_path, settings):
    """Stopped within the second epoch, after a checkpoint, and once more: bit for bit the weights of one run."""
    whole = training.train(settings, tiny_cohorts, tmp_path / "whole")
    always = TrainingSettings(**{**vars(settings), "checkpoint_minutes": 0.0})
    straight = training.train(always, tiny_cohorts, tmp_path / "straight")

    def stop_at(step):
        def watch(done, total, measured):
            if done == step:
                raise KeyboardInterrupt

        return watch

    for step in (6, 10):
        with pytest.raises(KeyboardInterrupt):
            training.train(always, tiny_cohorts, tmp_path / "killed", on_step=stop_at(step))
    killed = training.train(always, tiny_cohorts, tmp_path / "killed")
    for other in (straight, killed):
        for name, tensor in load_file(whole).items():
            assert torch.equal(tensor, load_file(other)[name]), name
    assert len((tmp_path / "killed" / "log.jsonl").read_text().splitlines()) == 3
    assert list((tmp_path / "killed").glob("events.out.tfevents*"))


@pytest.mark.slow
def test_training_learns_to_look_at_the_image(tiny_cohorts, tmp_path, settings):
    """Half the error of the mean map of the training patients, which is the best that a blind network could give."""
    longer = TrainingSettings(
        **{**vars(settings), "epochs": 150, "patience": 150, "learning_rate": 1e-2, "dropout": 0.0}
    )
    path = training.train(longer, tiny_cohorts, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    known, unseen = Cohort(tiny_cohorts / "training"), Cohort(tiny_cohorts / "validation")
    blind = torch.stack([known[n][1] for n in range(len(known))]).mean(dim=0)
    errors = [float((blind - true)[true > 0.5].abs().mean()) for true in (unseen[n][1] for n in range(len(unseen)))]
    assert min(line["map_error"] for line in lines) < 0.5 * np.mean(errors)
    _, about = read_weights(path)
    assert about["training_sha256"] == known.sha256
    assert about["settings"]["seed"] == 1
    assert about["coverage"]["energies_kev"] == [140.5]


def test_another_configuration_does_not_go_on_with_a_checkpoint(tiny_cohorts, tmp_path, settings):
    training.train(settings, tiny_cohorts, tmp_path / "out")
    other = TrainingSettings(**{**vars(settings), "seed": 2})
    with pytest.raises(InputError, match="belongs to other settings or cohorts"):
        training.train(other, tiny_cohorts, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training = ", "not a TOML file"),
        ('training = "a"', "validation missing"),
        ('training = "a"\nvalidation = "b"\nepoch = 3', "unknown key epoch"),
        ('training = "a"\nvalidation = "b"\nepochs = 1.5', "wrong type"),
        ('training = "a"\nvalidation = "b"\nwidths = [12, 24]', "multiples of 8"),
        ('training = "a"\nvalidation = "b"\ntarget = "image"', "map or correction"),
        ('training = "a"\nvalidation = "b"\nbatch = 0', "at least 1"),
    ],
)
def test_configurations_that_cannot_be_are_refused(tmp_path, text, message):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        TrainingSettings.read(path)


def test_the_committed_configurations_are_whole():
    folder = training.Path(training.__file__).parent / "weights"
    found = {path.name: TrainingSettings.read(path).target for path in sorted(folder.glob("*.toml"))}
    assert found == {
        "correction.toml": "correction",
        "map.toml": "map",
        "map_first.toml": "map",
        "map_large.toml": "map",
    }
