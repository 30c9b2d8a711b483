"""Bounds of the network, its rearranging of voxels, its loss against closed forms, and its weights on disk."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the learned map needs torch: pip install 'spectac[learned]'")

from safetensors.torch import save_file  # noqa: E402

from spectac.learned.coverage import Coverage  # noqa: E402
from spectac.learned.estimate import TrainedNetwork, passes  # noqa: E402
from spectac.learned.inputs import NetworkInput  # noqa: E402
from spectac.learned.loss import correction_loss, factor_error, map_loss, turned  # noqa: E402
from spectac.learned.network import LARGEST, NetworkSettings, VolumeNetwork, blocks, voxels  # noqa: E402
from spectac.learned.weights_file import (  # noqa: E402
    FORMAT,
    read_weights,
    save_weights,
    shipped_weights,
)
from spectac.recon import InputError  # noqa: E402
from spectac.recon.preview import PREVIEW_PROTOCOL  # noqa: E402

TINY = {"target": "map", "widths": [8, 16], "dropout": 0.2}


def tiny(**changes) -> VolumeNetwork:
    asked = TINY | changes
    torch.manual_seed(1)
    return VolumeNetwork(NetworkSettings(asked["target"], tuple(asked["widths"]), asked["dropout"]))


@pytest.mark.parametrize("target", ["map", "correction"])
def test_whatever_comes_in_the_volume_keeps_its_bounds(target):
    given = 100.0 * torch.randn(2, 5, 16, 16, 16, generator=torch.Generator().manual_seed(2))
    found = tiny(target=target)(given).detach()
    assert found.shape == (2, 16, 16, 16)
    assert 0.0 <= float(found.min()) < float(found.max()) <= LARGEST[target]


def test_blocks_and_voxels_are_inverse_and_keep_neighbours_together():
    given = torch.arange(2 * 3 * 4 * 6 * 8, dtype=torch.float32).reshape(2, 3, 4, 6, 8)
    assert torch.equal(voxels(blocks(given)), given)
    # The eight voxels of one block lie in the channels of one place.
    assert set(blocks(given)[0, :8, 1, 2, 3].tolist()) == set(given[0, 0, 2:4, 4:6, 6:8].flatten().tolist())


def test_the_factor_error_of_a_slab_is_its_closed_form():
    """A voxel of a slab n voxels thick: factors exp(-a (k + 1/2)) and exp(-a (n - k - 1/2)) along it, 1 % more mu."""
    n, a = 8, 0.06
    truth = torch.zeros(1, 2, 24, 24)
    truth[:, :, 8 : 8 + n, :] = 1.0
    found = 1.01 * truth
    k = np.arange(n)[:, None]
    j = np.arange(24)[None, :]

    def mean(mu):
        along = np.exp(-mu * (k + 0.5)) + np.exp(-mu * (n - k - 0.5))
        across = np.exp(-mu * (j + 0.5)) + np.exp(-mu * (24 - j - 0.5))
        return 0.25 * (along + across)

    wanted = np.abs(mean(1.01 * a) / mean(a) - 1.0).mean()
    assert float(factor_error(found, truth, torch.tensor([a]), 0.0)) == pytest.approx(wanted, rel=1e-4)
    assert float(factor_error(truth, truth, torch.tensor([a]), 30.0)) == 0.0


def test_turning_by_a_quarter_is_exact():
    given = torch.rand(1, 2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    by_quarter = turned(given, 90.0)
    assert any(torch.allclose(by_quarter, torch.rot90(given, k, (3, 4)), atol=1e-5) for k in (1, 3))


def test_the_map_loss_adds_its_three_terms():
    truth = torch.zeros(1, 8, 8, 8)
    found = torch.zeros(1, 8, 8, 8)
    found[0, 4, 4, 4] = 1.0
    water = torch.tensor([0.06])
    assert float(map_loss(found, truth, water, 0.0, (1.0, 0.0, 0.0))) == pytest.approx(1.0 / 512)
    # One voxel has two differences along each axis, of 7 x 8 x 8.
    assert float(map_loss(found, truth, water, 0.0, (0.0, 1.0, 0.0))) == pytest.approx(2.0 / 448)
    assert float(map_loss(found, truth, water, 0.0, (0.0, 0.0, 1.0))) == 0.0  # no head, no factors that matter


def test_the_correction_loss_is_relative_and_leaves_out_the_air():
    truth = torch.tensor([[[[0.0, 2.0, 4.0]]]])
    found = torch.tensor([[[[7.0, 2.2, 4.4]]]])
    assert float(correction_loss(found, truth)) == pytest.approx(math.log(1.1), rel=1e-5)


def test_passes_repeat_themselves_and_leave_the_generator_alone():
    network = tiny()
    seen = NetworkInput(np.random.default_rng(4).random((16, 16, 16)).astype(np.float32), 140.5)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = passes(network, seen, 140.5), passes(network, seen, 140.5)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first, second)
    assert first.std(axis=0).max() > 0


def test_without_dropout_the_passes_of_a_symmetric_head_are_symmetric():
    """Half of the passes are mirrored: their mean is the mirror image of itself where the input is."""
    half = np.random.default_rng(6).random((16, 16, 8)).astype(np.float32)
    seen = NetworkInput(np.concatenate([half, half[:, :, ::-1]], axis=2), 140.5)
    mean = passes(tiny(dropout=0.0), seen, 140.5).mean(axis=0)
    np.testing.assert_allclose(mean, mean[:, :, ::-1], atol=1e-6)


def test_weights_come_back_in_half_precision_with_their_description(tmp_path):
    network = tiny()
    save_weights(tmp_path / "w.safetensors", network, {"settings": TINY, "epoch": 3})
    back, about = read_weights(tmp_path / "w.safetensors")
    assert about["epoch"] == 3
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], tensor, rtol=1e-3, atol=1e-7)
    assert not back.training


def test_files_that_are_no_weights_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(InputError, match="cannot be read as weights"):
        read_weights(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="cannot be read as weights"):
        read_weights(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="format None"):
        read_weights(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"format": "spectac-network 1", "about": "{}"})
    with pytest.raises(InputError, match=r"spectac-network 1.* train again with spectac train") as six_channels:
        read_weights(path)
    assert "\n" not in str(six_channels.value)
    metadata = {"format": FORMAT, "channels": '["photopeak"]', "about": json.dumps({"settings": TINY})}
    save_file(tiny().state_dict(), path, metadata=metadata | {"preview_protocol": str(PREVIEW_PROTOCOL)})
    with pytest.raises(InputError, match=r"do not fit their description.*photopeak"):
        read_weights(path)
    save_weights(path, tiny(), {"settings": TINY | {"widths": [8, 24]}})
    with pytest.raises(InputError, match="do not fit their description"):
        read_weights(path)
    save_file(tiny().state_dict(), path, metadata=metadata | {"preview_protocol": "99"})
    with pytest.raises(InputError, match=r"previews of protocol 99.*train it again"):
        read_weights(path)
    save_weights(path, tiny(), {"settings": TINY})
    with pytest.raises(InputError, match="training was not finished"):
        TrainedNetwork.read(path)
    coverage = TrainedNetwork.read(shipped_weights()).coverage.to_json()
    for spread in ({}, {"spread": None}):
        save_weights(path, tiny(), {"settings": TINY, "map_of": "head", "coverage": coverage, **spread})
        with pytest.raises(InputError, match=r"does not say how far its maps are off.*train it again"):
            TrainedNetwork.read(path)
    save_weights(path, tiny(target="correction"), {"settings": TINY | {"target": "correction"}})
    with pytest.raises(InputError, match="gives a correction, not a map"):
        TrainedNetwork.read(path)


def test_shipped_weights_are_small_and_say_what_made_them():
    """Digests of cohorts and earlier weights, the settings of the last step, what their training covered."""
    path = shipped_weights()
    assert sum(file.stat().st_size for file in path.parent.glob("*.safetensors")) < 12e6
    network, about = read_weights(path)
    assert list(network.settings.widths) == about["settings"]["widths"]
    digests = [about["training_sha256"], about["validation_sha256"], *about["weights_sha256"].values()]
    assert all(len(bytes.fromhex(digest)) == 32 for digest in digests)
    coverage = Coverage.from_json(about["coverage"])
    assert 0.0 < coverage.uncertainty < 0.05
    assert coverage.energies_kev == pytest.approx((140.5, 159.0), abs=0.05)
    assert shipped_weights("low-counts").stat().st_size < 4e6


@pytest.fixture
def two_threads():
    """Two threads of torch, which has one in each worker of pytest-xdist."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_passes_leave_no_subnormal_number_in_any_of_torchs_threads(subnormals, two_threads):
    """The preview's background of 1e-30 times a weight of 1e-9, on more voxels than one of torch's threads takes."""

    class Faint(torch.nn.Module):
        settings = NetworkSettings("correction")
        dropout = torch.nn.Dropout3d(0.1)

        def forward(self, x):
            seen.append(x[:, 0] * 1e-30 * 1e-9)
            return seen[-1]

    def products():
        return (torch.ones(1_000_000) * 1e-30 * 1e-9).numpy()

    seen = []
    # A thread of its own: those that torch gave to the main thread may have begun in a test of training.
    with ThreadPoolExecutor(1) as plain:
        assert plain.submit(torch.get_num_threads).result() == 2
        assert plain.submit(lambda: subnormals(products())).result() == 1_000_000
        found = plain.submit(passes, Faint(), NetworkInput(np.ones((96, 96, 96), np.float32), 140.5), 140.5).result()
        assert subnormals(found) == sum(subnormals(one.numpy()) for one in seen) == 0
        assert plain.submit(lambda: subnormals(products())).result() == 1_000_000
