"""The low-counts network: its loss, its examples, its limits and the noise that it states."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `learned`")

from spectac.learned import checkpoint, low_counts, low_counts_dataset, low_counts_uptake  # noqa: E402
from spectac.learned.loss import (  # noqa: E402
    LOW_COUNTS_FWHM,
    LOW_COUNTS_SCALES,
    MORE_BIAS,
    UNFILTERED,
    low_counts_errors,
    low_counts_loss,
    post_filtered,
)
from spectac.learned.low_counts import (  # noqa: E402
    LowCountsCoverage,
    NetworkLowCounts,
    denoised,
    read_low_counts_weights,
)
from spectac.learned.low_counts_dataset import LowCountsDataset, sources  # noqa: E402
from spectac.learned.low_counts_examples import example_of  # noqa: E402
from spectac.learned.low_counts_input import LOW_COUNTS_CHANNELS, LowCountsInput  # noqa: E402
from spectac.learned.low_counts_studies import example_of_study  # noqa: E402
from spectac.learned.low_counts_uptake import (  # noqa: E402
    BACK_CHANGED,
    BACK_FACTORS,
    CORTEX,
    CORTEX_CHANGED,
    CORTEX_FACTORS,
    FOCI,
    PUTAMEN,
    STRIATUM,
    STRIATUM_CHANGED,
    STRIATUM_FACTORS,
    other_uptake,
    with_more,
)
from spectac.learned.network import NetworkSettings, VolumeNetwork  # noqa: E402
from spectac.learned.predict import PredictedMap  # noqa: E402
from spectac.learned.train import train  # noqa: E402
from spectac.learned.training_settings import TrainingSettings  # noqa: E402
from spectac.learned.weights_file import save_weights, shipped_weights  # noqa: E402
from spectac.recon import (  # noqa: E402
    EnergyWindow,
    GivenMap,
    Grid,
    InputError,
    MuMap,
    ReconstructionSettings,
    Study,
    filters,
    reconstruct,
)
from spectac.recon.io.hdf5 import write_study  # noqa: E402
from spectac.recon.low_counts import OutsideOfTraining, ShortScan, low_counts_model, noise_spread  # noqa: E402
from spectac.recon.pipeline import StudySolver  # noqa: E402
from spectac.recon.types import Projections  # noqa: E402
from spectac.simulate.regions import LABEL  # noqa: E402

COVERAGE = LowCountsCoverage((140.511,), 1.0, (2.0, 8.0), 9.0, 12)


def test_the_errors_of_a_pair_tell_bias_and_noise_apart():
    """Pairs of constant errors bias + noise, which no filter changes: b^2 + v and b^2 at every scale."""
    rng, bias, sigma = np.random.default_rng(2), 0.3, 0.5
    levels = bias + sigma * rng.standard_normal((5000, 2, 1, 1, 1))
    errors = torch.from_numpy(np.broadcast_to(levels, (5000, 2, 4, 4, 4)).copy())
    squares, biases = low_counts_errors(errors, torch.zeros_like(errors), torch.zeros_like(errors))
    scales = UNFILTERED + sum(LOW_COUNTS_SCALES.values())
    assert float(squares.mean()) == pytest.approx(scales * (bias**2 + sigma**2), rel=0.05)
    assert float(biases.mean()) == pytest.approx(scales * bias**2, rel=0.1)


def test_the_least_error_is_the_mean_of_what_the_truth_may_be():
    """A third of the patients with the same image has twice the height: neither weight shrinks the mean, 4/3."""
    images = torch.full((3, 2, 4, 4, 4), 2.0)
    truths = torch.tensor([1.0, 1.0, 2.0]).view(3, 1, 1, 1, 1) * images
    factor = torch.tensor(1.2, requires_grad=True)
    for _ in range(50):
        loss = low_counts_errors(factor * images, truths, images)[0].mean()
        factor = (factor - 0.1 * torch.autograd.grad(loss, factor)[0]).detach().requires_grad_()
    assert float(factor.detach()) == pytest.approx(4.0 / 3.0, rel=1e-3)


def test_short_scans_count_as_much_as_long_ones():
    """Estimates with a quarter of their images' squared errors, whatever those are, in one scan: no bias."""
    truths = torch.ones(2, 2, 8, 8, 8)
    noise = torch.zeros_like(truths)
    noise[:, 0] = torch.tensor([0.1, 3.0]).view(2, 1, 1, 1)
    loss, bias = low_counts_loss(truths + 0.5 * noise, truths, truths + noise)
    np.testing.assert_allclose(loss.numpy(), 0.25, rtol=1e-5)
    np.testing.assert_array_equal(bias.numpy(), 0.0)


EVERY_SIGN = torch.cartesian_prod(*(torch.tensor([-1.0, 1.0], dtype=torch.float64),) * 3)


def test_more_bias_shrinks_less():
    """Truths of variance S, noise of variance N: the best factor is (1 + m) S / ((1 + m) S + N), not S / (S + N)."""
    truths = 1e-4 * EVERY_SIGN[:, :1].view(8, 1, 1, 1, 1).expand(8, 2, 4, 4, 4)
    images = truths + 0.7e-4 * EVERY_SIGN[:, 1:].view(8, 2, 1, 1, 1)
    factor = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    for _ in range(40):
        squares, biases = low_counts_errors(factor * images, truths, images)
        loss = 1e8 * (squares + MORE_BIAS * biases).mean()
        factor = (factor - 0.03 * torch.autograd.grad(loss, factor)[0]).detach().requires_grad_()
    assert float(factor.detach()) == pytest.approx((1.0 + MORE_BIAS) / (1.0 + MORE_BIAS + 0.49), rel=1e-3)


@pytest.mark.parametrize("level", [1.05, 2.0])
def test_noise_that_the_image_and_its_estimate_share_is_no_bias(level):
    """Half of the noise is left, also where the weights of hot parts begin: over all of its signs a b has mean 0."""
    truths = torch.full((4, 2, 4, 4, 4), level, dtype=torch.float64)
    noise = 0.1 * EVERY_SIGN[:4, 1:].view(4, 2, 1, 1, 1)
    assert float(low_counts_errors(truths + 0.5 * noise, truths, truths + noise)[1].mean()) == pytest.approx(0.0)


def test_what_the_filter_takes_away_counts_a_little():
    """Errors +-1 from voxel to voxel, of which the Gaussian of two voxels leaves a thousandth of their square."""
    errors = torch.from_numpy((-1.0) ** np.indices((16, 16, 16)).sum(axis=0)).expand(1, 2, 16, 16, 16)
    nothing = torch.zeros_like(errors)
    assert float(low_counts_errors(errors, nothing, nothing)[0]) == pytest.approx(UNFILTERED, rel=0.1)


def test_the_post_filter_is_the_usual_gaussian():
    image = np.random.default_rng(3).standard_normal((1, 2, 12, 12, 12))
    wanted = [[filters.gaussian(one, (1.0, 1.0, 1.0), LOW_COUNTS_FWHM) for one in pair] for pair in image]
    inner = (..., *(slice(3, -3),) * 3)
    np.testing.assert_allclose(post_filtered(torch.from_numpy(image))[inner], np.array(wanted)[inner], atol=2e-3)


def test_hot_parts_count_as_much_as_all_the_rest():
    """A block in 64 is 3 above the level: errors over 1 + f count once over all voxels, once over the hot ones."""
    truths = torch.ones(1, 2, 16, 16, 16)
    truths[..., 4:8, 4:8, 4:8] = 4.0
    errors = torch.full_like(truths, 0.1)
    # The division follows the filter, so that each block keeps its own.
    scales = UNFILTERED + sum(LOW_COUNTS_SCALES.values())
    expected = scales * 0.1**2 * (63.0 / 64.0 / 4.0 + 1.0 / 64.0 / 25.0 + 1.0 / 25.0)
    assert float(low_counts_errors(truths + errors, truths, truths)[0]) == pytest.approx(expected, rel=1e-4)


def test_a_fresh_network_gives_the_image_that_it_sees():
    grid = Grid.upright((16, 16, 16), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    image = np.random.default_rng(1).random(grid.shape, np.float32)
    seen = LowCountsInput(image, grid, 3.0, 30.0, 6.0, 140.5, 4.0, 60)
    network = VolumeNetwork(NetworkSettings("low-counts", (8, 8), channels=4)).eval()
    np.testing.assert_allclose(denoised(network, seen), 3.0 * image, rtol=1e-5)


@pytest.fixture(scope="module")
def patient(tiny_cohorts):
    from spectac.simulate.cohort.shards import read_patients

    return next(patient for _, patient in read_patients(tiny_cohorts / "training" / "shard-00000.h5"))


def test_pairs_are_independent_scans_of_one_length(patient):
    """The noise of both is the same in size and uncorrelated; images of short and long scans have one level."""
    example = example_of(patient, np.random.default_rng(1), pairs=8)
    assert len(example.scans) == len(example.levels) == 16
    images = [level * one.image.astype(float) for level, one in zip(example.levels, example.scans, strict=True)]
    exact = np.mean(images, axis=0)
    inside = exact > 0.3 * exact.max()
    noise = [(image - exact)[inside] for image in images]
    lengths = np.array([scan.counts_per_voxel for scan in example.scans])
    np.testing.assert_allclose(lengths[::2], lengths[1::2], rtol=0.2)
    np.testing.assert_allclose([image[inside].mean() for image in images], exact[inside].mean(), rtol=0.05)
    assert example.targets[0][inside].mean() == pytest.approx(exact[inside].mean(), rel=0.05)
    sizes = np.array([one.std() for one in noise])
    # One size is known to about 15 %, from some 50 independent parts of the noise.
    assert abs(np.log(sizes[::2] / sizes[1::2]).mean()) < 0.15
    np.testing.assert_allclose(sizes[::2], sizes[1::2], rtol=0.5)
    assert abs(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(noise[::2], noise[1::2], strict=True)])) < 0.15
    # A quarter of the counts, twice the noise; OSEM's noise grows a little slower.
    slope = np.polyfit(np.log(lengths), np.log(sizes), 1)[0]
    assert -0.65 < slope < -0.3


def test_other_uptakes_change_single_parts(patient):
    """Striata by 0.3 to 1.7, half of them; lobes by 0.4 to 1.3; white matter by foci alone; nothing outside."""
    activity = np.zeros(patient.grid.shape, np.float32)
    labels = np.zeros(activity.shape, np.uint8)
    labels[2:14], activity[2:14] = LABEL["left white matter"], 2.0
    labels[:, 4:8, 4:8], activity[:, 4:8, 4:8] = STRIATUM[0], 6.0
    labels[:, 10:14], activity[:, 10:14] = CORTEX[-1], 3.0
    whole = replace(patient, labels=labels, activity_kbq_per_ml=activity)
    changes = [other_uptake(whole, np.random.default_rng(seed)) for seed in range(300)]
    factors = {
        name: np.array([1.0 + float(np.median((change / np.where(there, activity, 1.0))[there])) for change in changes])
        for name, there in (
            ("striatum", labels == STRIATUM[0]), ("lobe", labels == CORTEX[-1]),
            ("white matter", labels == LABEL["left white matter"]),
        )
    }  # fmt: skip
    changed = {name: values[values != 1.0] for name, values in factors.items()}
    for name, share, (least, most) in (
        ("striatum", STRIATUM_CHANGED, STRIATUM_FACTORS), ("lobe", CORTEX_CHANGED, CORTEX_FACTORS),
    ):  # fmt: skip
        assert len(changed[name]) / 300 == pytest.approx(share, abs=0.09)
        assert least <= changed[name].min() < changed[name].max() <= most
        assert np.ptp(changed[name]) > 0.7 * (most - least)
    assert len(changed["white matter"]) == 0
    of_white = [float(np.abs(change[labels == LABEL["left white matter"]]).max()) for change in changes]
    assert np.mean(np.array(of_white) > 0) == pytest.approx(FOCI, abs=0.12)
    assert all(not change[labels == 0].any() for change in changes)
    assert min(float((change + activity).min()) for change in changes) >= 0


def test_the_back_of_a_putamen_changes_alone(patient, monkeypatch):
    """A quarter of the putamina, from a place between 0.2 and 0.8 of their length on, by 0.4 to 1.3."""
    monkeypatch.setattr(low_counts_uptake, "FOCI", 0.0)
    labels = np.zeros(patient.grid.shape, np.uint8)
    labels[4:8, 2:14, 4:8] = PUTAMEN[0]
    activity = np.where(labels > 0, np.float32(6.0), np.float32(0.0))
    whole = replace(patient, labels=labels, activity_kbq_per_ml=activity)
    changes = [other_uptake(whole, np.random.default_rng(seed)) for seed in range(200)]
    lines = np.array([1.0 + (change / 6.0)[4, 2:14, 4] for change in changes])
    factors = lines[:, -1] / lines[:, 0]
    changed = lines[np.abs(factors - 1.0) > 1e-6]
    assert len(changed) / 200 == pytest.approx(BACK_CHANGED, abs=0.1)
    assert BACK_FACTORS[0] <= factors.min() < factors.max() <= BACK_FACTORS[1]
    ends = np.isclose(changed, changed[:, :1]).sum(axis=1) / 12
    assert 0.2 - 1 / 12 <= ends.min() < 0.4
    assert 0.6 < ends.max() <= 0.8 + 1 / 12


def test_more_activity_gives_its_own_counts(head):
    """Half of the activity more: half of the counts and of the scatter more, bin by bin."""
    system, counts, truth = head
    grid, scatter = truth.mu.grid, 0.2 * counts
    projections = Projections(system.acquisition, 1.2 * counts, 140.511, scatter=scatter.astype(np.float32))
    scan = ShortScan(projections, truth.mu, grid)
    activity = truth.activity * float(counts.sum(dtype=np.float64) / system.forward(truth.activity).sum())
    expected, scattered = with_more(scan, 0.5 * activity)
    np.testing.assert_allclose(scattered, 1.5 * scan.scatter, rtol=0.01)
    np.testing.assert_allclose(expected, 1.5 * scan.counts, rtol=0.02, atol=0.02 * float(counts.max()))
    np.testing.assert_allclose(with_more(scan, np.zeros(grid.shape))[0], scan.counts, rtol=1e-6)


def test_each_device_makes_its_own_share_first(tiny_cohorts, tmp_path, monkeypatch):
    """The shares of two devices are all examples, and both hold them in the same order."""
    made: list[str] = []
    monkeypatch.setattr(
        low_counts_dataset, "_kept_example", lambda _, source, __: made.append(source.name) or source.name
    )
    both = [LowCountsDataset(tiny_cohorts / "validation", tmp_path).make(None, device, 2) for device in range(2)]
    names = [source.name for source in sources(tiny_cohorts / "validation")]
    assert sorted(made[:2] + made[4:6]) == names
    assert both[0].examples == both[1].examples == names


def test_examples_are_made_once(tiny_cohorts, tmp_path, monkeypatch):
    first = LowCountsDataset(tiny_cohorts / "validation", tmp_path).make()
    monkeypatch.setattr(low_counts_dataset, "example_of", lambda *_, **__: pytest.fail("made again"))
    again = LowCountsDataset(tiny_cohorts / "validation", tmp_path).make()
    for one, other in zip(*([each[n] for n in range(4)] for each in (first, again)), strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert first[0][0].shape == (2, 4, 16, 16, 16)
    assert first[0][1].shape == (2, 16, 16, 16)


def test_training_lowers_the_error_and_records_what_it_covered(tiny_cohorts, tmp_path):
    settings = TrainingSettings(
        "training", "validation", target="low-counts", widths=(8, 8), epochs=14, batch=4, learning_rate=2e-3,
        warmup_steps=2, average_decay=0.5, accelerator="cpu", precision="32-true",
    )  # fmt: skip
    network, coverage = read_low_counts_weights(train(settings, tiny_cohorts, tmp_path))
    errors = [json.loads(line)["error"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert errors[-1] < 0.9 * errors[0]
    assert network.settings.channels == 4
    assert coverage.views == 12
    assert len(coverage.energies_kev) == 2


@pytest.mark.parametrize(("name", "value"), [("MORE_BIAS", 1.0), ("MAKING", 0)])
def test_a_run_does_not_go_on_with_another_loss_or_other_examples(tiny_cohorts, tmp_path, monkeypatch, name, value):
    settings = TrainingSettings(
        "training", "validation", target="low-counts", widths=(8, 8), epochs=1, batch=4, accelerator="cpu",
        precision="32-true",
    )  # fmt: skip
    train(settings, tiny_cohorts, tmp_path)
    monkeypatch.setattr(checkpoint, name, value)
    with pytest.raises(InputError, match="belongs to other settings or cohorts"):
        train(settings, tiny_cohorts, tmp_path)


def measured(acquisition, counts) -> Study:
    """Study of counts as a camera counts them."""
    windows = tuple(EnergyWindow(name, low, low + 29.0) for name, low in (("below", 97.0), ("peak", 126.0)))
    return Study(replace(acquisition, corrections=frozenset()), windows, np.stack([0.0 * counts, counts]))


def test_parts_of_a_study_and_their_target_are_independent(head, monkeypatch):
    """Of a hospital's own study: the noise of two parts and of the rest is uncorrelated, and all have one mean."""
    system, counts, truth = head
    noisy = np.random.default_rng(6).poisson(4.0 * counts).astype(np.float32)
    study = measured(system.acquisition, noisy)
    monkeypatch.setattr(PredictedMap, "estimate", lambda self, solver: (truth.mu, None, ()))
    example = example_of_study(study, np.random.default_rng(1), pairs=2)
    assert len(example.targets) == 2
    scans = [level * one.image.astype(float) for level, one in zip(example.levels, example.scans, strict=True)]
    exact = filters.gaussian(example.targets.astype(float).mean(axis=0), (4.0, 4.0, 4.0), 8.0)
    inside = exact > 0.5 * np.quantile(exact, 0.99)
    for first, second, target in zip(scans[::2], scans[1::2], example.targets.astype(float), strict=True):
        noise = np.array([(one - exact)[inside] for one in (first, second, target)])
        np.testing.assert_allclose([one[inside].mean() for one in (first, second)], target[inside].mean(), rtol=0.03)
        assert noise[2].std() < min(noise[0].std(), noise[1].std())
        assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.3


def test_a_folder_of_studies_is_read_as_one(head, tmp_path):
    system, counts, _ = head
    for name, seed in (("a.h5", 1), ("b.h5", 2)):
        noisy = np.random.default_rng(seed).poisson(counts).astype(np.float32)
        write_study(tmp_path / name, measured(system.acquisition, noisy))
    listed = sources(tmp_path)
    assert [Path(one.name).name for one in listed] == ["a.h5", "b.h5"]
    corrected = replace(measured(system.acquisition, noisy), warnings=("read again",))
    nearer = replace(
        system.acquisition, corrections=frozenset(), radii_mm=0.99 * np.asarray(system.acquisition.radii_mm)
    )
    write_study(tmp_path / "b.h5", replace(corrected, acquisition=nearer))
    assert sources(tmp_path)[1].sha256 != listed[1].sha256  # kept examples are of the orbit too
    (tmp_path / "c.h5").write_bytes((tmp_path / "a.h5").read_bytes())
    with pytest.raises(InputError, match=r"c\.h5 is there twice"):
        LowCountsDataset(tmp_path, tmp_path / ".kept")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"view_seconds": np.full(16, np.nan)}, r"a\.h5: the view times are unknown"),
        ({"collimator": None}, r"a\.h5: the collimator is unknown: .* must name it"),
    ],
)
def test_studies_that_cannot_be_learned_from_are_named(head, tmp_path, change, words):
    system, counts, _ = head
    study = measured(system.acquisition, np.round(counts))
    write_study(tmp_path / "a.h5", replace(study, acquisition=replace(study.acquisition, **change)))
    with pytest.raises(InputError, match=words):
        LowCountsDataset(tmp_path, tmp_path / ".kept").make()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network with a coverage, whose image is replaced by the smoothed one."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    network = VolumeNetwork(NetworkSettings("low-counts", (8, 8), channels=4))
    settings = {"target": "low-counts", "widths": [8, 8], "dropout": 0.1}
    save_weights(path, network, {"settings": settings, "coverage": COVERAGE.to_json()})
    smoothed = LOW_COUNTS_CHANNELS.index("smoothed image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(low_counts, "denoised", lambda network, seen: seen.channels()[smoothed] * seen.level)
        yield path


def model_of(path: Path, **options) -> NetworkLowCounts:
    return NetworkLowCounts(*read_low_counts_weights(path), **options)


@pytest.fixture(scope="module")
def scan(head):
    """A fifth of the analytic head's counts, on 32^3 voxels of 8 mm."""
    system, counts, truth = head
    grid = Grid.upright((32, 32, 32), (8.0, 8.0, 8.0), (-124.0, -124.0, -124.0))
    mu = MuMap(truth.mu.per_cm, truth.mu.grid, 140.511)
    noisy = np.random.default_rng(4).poisson(0.2 * counts).astype(np.float32)
    return ShortScan(Projections(system.acquisition, noisy, 140.511), mu, grid)


@pytest.mark.slow
def test_a_study_is_the_same_one_in_every_process(head, tmp_path):
    """Else a run would not go on, nor two processes share it: the order of a set of texts follows a seed of each."""
    system, counts, _ = head
    study = measured(system.acquisition, np.round(counts))
    both = replace(study, acquisition=replace(study.acquisition, corrections=frozenset({"UNIF", "COR"})))
    write_study(tmp_path / "a.h5", both)
    code = (
        "import sys; from pathlib import Path; from spectac.learned.low_counts_studies import study_sha256\n"
        "print(study_sha256(Path(sys.argv[1])))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a.h5")],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "3")
    }  # fmt: skip
    assert len(digests) == 1


def test_repeated_scans_spread_as_real_ones_do(head, weights):
    """The final image's standard deviation over 8 real scans, and over the 6 that were simulated from one of them."""
    system, counts, truth = head
    settings = ReconstructionSettings(
        subsets=4, iterations=4, scatter="none", device="cpu", low_counts="network", low_counts_weights=weights
    )
    rng = np.random.default_rng(9)
    results = [
        reconstruct(
            measured(system.acquisition, rng.poisson(0.2 * counts).astype(np.float32)), GivenMap(truth.mu), settings
        )
        for _ in range(8)
    ]
    values = np.stack([result.image.values for result in results])
    inside = values.mean(axis=0) > 0.5 * np.quantile(values.mean(axis=0), 0.99)
    told = noise_spread(results[0].repeats).values[inside].mean()
    assert 0.75 < told / values.std(axis=0, ddof=1)[inside].mean() < 1.35


def test_four_times_the_counts_halve_the_spread(scan, weights):
    longer = scan.with_counts(4.0 * scan.counts, None)
    one, other = (model_of(weights).estimate(each) for each in (scan, longer))
    head = one.image.values > 0.5 * one.image.values.max()
    relative = [
        (noise_spread([one.image for one in each.repeats]).values[head] / each.image.values[head]).mean()
        for each in (one, other)
    ]
    assert relative[1] / relative[0] == pytest.approx(0.5, rel=0.25)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"energies_kev": (159.0,)}, "has 140.511 keV, training had 159 keV"),
        ({"counts_per_voxel": 1e4}, "counts for each voxel of 4 mm in the brain, training had 1e\\+04 at least"),
        ({"sigma_mm": (20.0, 30.0)}, "blur at the axis is sigma"),
        ({"pixel_mm": 2.0}, "pixels of 8.8 mm, training had 2.0 mm at most"),
        ({"views": 120}, "16 views, training had 120 at least"),
    ],
)
def test_scans_outside_of_training_are_refused_with_the_reason(scan, tmp_path, change, words):
    path = tmp_path / "w.safetensors"
    network = VolumeNetwork(NetworkSettings("low-counts", (8, 8), channels=4))
    settings = {"target": "low-counts", "widths": [8, 8], "dropout": 0.1}
    save_weights(path, network, {"settings": settings, "coverage": replace(COVERAGE, **change).to_json()})
    with pytest.raises(OutsideOfTraining, match=words):
        model_of(path).estimate(scan)
    assert model_of(path, repeats=0, heed_limits=False).estimate(scan).repeats == ()


def test_weights_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    network = VolumeNetwork(NetworkSettings("correction", (8, 8)))
    save_weights(path, network, {"settings": {"target": "correction", "widths": [8, 8], "dropout": 0.1}})
    with pytest.raises(InputError, match="gives a correction, not the image of a short scan"):
        read_low_counts_weights(path)
    short = VolumeNetwork(NetworkSettings("low-counts", (8, 8), channels=4))
    save_weights(path, short, {"settings": {"target": "low-counts", "widths": [8, 8], "dropout": 0.1}})
    with pytest.raises(InputError, match="training was not finished"):
        read_low_counts_weights(path)


def test_weights_that_cannot_be_used_are_refused_before_anything_takes_time(head, tmp_path):
    system, counts, _ = head
    for weights in (tmp_path / "none.safetensors", tmp_path):
        settings = ReconstructionSettings(low_counts="network", low_counts_weights=weights, device="cpu")
        with pytest.raises(InputError, match="cannot be read as weights"):
            StudySolver(measured(system.acquisition, counts), settings)


def test_without_a_file_the_weights_are_those_that_come_with_spectac():
    network, coverage = read_low_counts_weights(shipped_weights("low-counts"))
    model = low_counts_model("network")
    assert model.coverage == coverage
    for name, value in network.state_dict().items():
        torch.testing.assert_close(model.network.state_dict()[name], value)


def test_the_network_of_a_file_enters_the_reconstruction(head, weights):
    """A network that gives the smoothed image: the anchor lessens the noise, and scans are repeated to tell it."""
    system, counts, truth = head
    noisy = np.random.default_rng(3).poisson(0.2 * counts).astype(np.float32)
    study = measured(system.acquisition, noisy)
    plain = ReconstructionSettings(subsets=4, scatter="none", device="cpu")
    network = replace(plain, low_counts="network", low_counts_weights=weights)
    (exact, rough), (expected, steadied) = (
        [reconstruct(replace(study, counts=np.stack([0.0 * data, data])), GivenMap(truth.mu), settings)
         for data in (0.2 * counts, noisy)]
        for settings in (plain, network)
    )  # fmt: skip
    assert (rough.low_counts.method, steadied.low_counts.method) == ("none", "network")
    inside = exact.image.values > 0.5 * np.quantile(exact.image.values, 0.99)
    noise = [(a.image.values - b.image.values)[inside].std() for a, b in ((rough, exact), (steadied, expected))]
    assert noise[1] < 0.6 * noise[0]
    assert steadied.image.values[inside].mean() == pytest.approx(rough.image.values[inside].mean(), rel=0.05)
    assert sum("usually --post-filter gaussian:8" in note for note in steadied.notes) == 1
    assert len(steadied.repeats) == 6
