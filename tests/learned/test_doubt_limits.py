"""Limits of a network's use from validation patients: one outlier does not set them, a few patients are not enough."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

torch = pytest.importorskip("torch", reason="the learned map needs torch: pip install 'spectac[learned]'")

from spectac.learned import doubt_limits  # noqa: E402
from spectac.learned.doubt_limits import (  # noqa: E402
    LEAST_PATIENTS,
    OUTLINE_MARGIN,
    Judged,
    WeighedLimit,
    coverage_of,
    doubt_limit,
    measured_coverage,
    weighed_limit,
)
from spectac.learned.estimate import TrainedNetwork  # noqa: E402
from spectac.learned.network import LARGEST, NetworkSettings, VolumeNetwork  # noqa: E402
from spectac.learned.outline_distance import outline_distance_mm  # noqa: E402
from spectac.learned.spread import spread_errors  # noqa: E402
from spectac.learned.weights_file import shipped_weights  # noqa: E402
from spectac.recon import Grid, Image, InputError, MuMap  # noqa: E402
from spectac.recon.attenuation import default_mu_per_cm  # noqa: E402
from spectac.recon.contour import head_outline  # noqa: E402
from spectac.recon.held_head import HeldHead  # noqa: E402
from spectac.recon.skull_fit import CheckedSkull  # noqa: E402
from spectac.recon.tissues import water_per_cm  # noqa: E402
from spectac.recon.types import SkullFit  # noqa: E402
from spectac.simulate.cohort.patient_arrays import PatientArrays  # noqa: E402
from spectac.simulate.cohort.shards import write_shard  # noqa: E402
from spectac.simulate.scanner import Scanner  # noqa: E402

KEV = 140.5


def test_the_limit_lies_a_margin_above_the_95_percent_quantile():
    """41 patients: the 95 % quantile is the 39th in order, whatever the last two are."""
    values = [0.01 + 0.001 * n for n in range(41)]
    limit = doubt_limit(values, 1.25, "an uncertainty")
    assert limit == pytest.approx(1.25 * (0.01 + 0.001 * 38))
    assert doubt_limit([*values[:-1], 900.0], 1.25, "an uncertainty") == limit


def test_patients_that_show_nothing_are_left_out():
    """No head and no outline are NaN; an outline that shares no slice with the map's is infinitely far."""
    values = [*[2.0] * LEAST_PATIENTS, math.nan, np.inf]
    assert doubt_limit(values, 2.0, "an outline's distance") == 4.0


def test_too_few_patients_are_refused():
    values = [*[2.0] * (LEAST_PATIENTS - 1), math.nan]
    with pytest.raises(InputError, match=r"9 validation patients gave an uncertainty.*larger validation cohort") as few:
        doubt_limit(values, 1.25, "an uncertainty")
    assert "\n" not in str(few.value)


def test_a_weighed_limit_lets_those_fall_back_whose_uniform_map_saves_more_than_it_costs():
    """Above 3 the gains sum to 0.2, above 2.5 to 0.18; of the three that lose more than 5 % two are above."""
    doubts, gains = [1.0, 2.0, 2.5, 3.0, 4.0, 5.0], [-0.1, 0.06, -0.1, -0.02, 0.1, 0.1]
    weighed = weighed_limit(doubts, gains, 9.0)
    assert weighed == WeighedLimit(3.5, 2, 1.0, pytest.approx(2 / 3))
    more = weighed_limit([*doubts, 6.0], [*gains, math.nan], 9.0)
    assert more == weighed


def test_a_weighed_limit_is_the_guard_where_no_fallback_helps():
    weighed = weighed_limit([1.0, 2.0, 3.0], [-0.1, -0.2, -0.1], 4.0)
    assert (weighed.limit, weighed.fall_back) == (4.0, 0)
    assert math.isnan(weighed.better_off)
    assert math.isnan(weighed.caught)
    assert weighed_limit([1.0, 2.0, 3.0], [-0.1, -0.2, -0.1], 2.0).limit == 3.0


@pytest.mark.parametrize(("gain", "outline_mm"), [(0.1, 7.0), (-0.1, 11.0)])
def test_patients_beyond_training_set_the_limits(tmp_path, monkeypatch, gain, outline_mm):
    """40 validation patients whose map is right; 10 beyond training are less sure, and their outline is far off.

    Their map loses 10 %, or the data's outline is wrong, which the uniform map would have.
    """
    for name, number in (("validation", 40), ("beyond", 10)):
        (tmp_path / name).mkdir()
        write_shard(
            tmp_path / name / "shard-00000.h5", {"seed": 1}, number, [(n, head_patient()) for n in range(number)]
        )
    values = iter(
        [(0.01 + 0.0001 * n, 3.0, -0.03) for n in range(40)] + [(0.0135 + 0.001 * n, 11.0, gain) for n in range(10)]
    )
    errors = spread_errors(np.ones((2, 8, 8, 8)), np.ones((8, 8, 8)), 0.06, {"all": np.ones((8, 8, 8), bool)}, 1)
    monkeypatch.setattr(doubt_limits, "_judged", lambda *_: Judged(*next(values), errors))
    network = VolumeNetwork(NetworkSettings(widths=(8, 8)))
    coverage, weighed, _ = measured_coverage(
        network, tmp_path / "validation", tmp_path / "validation", tmp_path / "beyond"
    )
    assert coverage.outline_mm == outline_mm
    if gain < 0:
        assert weighed.fall_back == 0
        return
    # At 0.0134 five validation patients fall back with the ten, which saves 0.85; at 0.0142 none, and one stays: 0.9.
    assert coverage.uncertainty == weighed.limit == pytest.approx(0.0142)
    assert (weighed.fall_back, weighed.better_off, weighed.caught) == (9, 1.0, 0.9)


@pytest.mark.parametrize(("more", "wider", "decided"), [(0.01, 1.5, True), (0.12, 1.0, True), (0.3, 1.0, False)])
def test_what_the_counts_say_of_a_map_counts_as_in_predicted(monkeypatch, more, wider, decided):
    """Confirmed within one standard deviation, contradicted beyond 2.5; its error is that after the check."""
    patient = head_patient()
    after = replace(MuMap(patient.mu_per_cm, patient.grid, KEV), per_cm=1.1 * patient.mu_per_cm)
    skull = CheckedSkull(after, SkullFit(more, 0.07))
    monkeypatch.setattr(doubt_limits, "_as_used", lambda *_: HeldHead(after, "none", skull=skull))
    found = doubt_limits._judged(water_everywhere(), patient)
    assert found.wider == wider
    assert math.isfinite(found.gain) == decided
    if decided:
        value = default_mu_per_cm(KEV, scatter_corrected=True, with_skull=True)
        photopeak, scatter = (Image(patient.preview[row], patient.grid, "cps/mL") for row in (0, 3))
        uniform = value * head_outline(photopeak, scatter).mask
        assert found.gain == doubt_limits._error(patient, after.per_cm) - doubt_limits._error(patient, uniform)


def test_wider_limits_of_confirmed_maps_weigh_as_smaller_doubts(tmp_path, monkeypatch):
    """Ten maps beyond training lose 10 % with twice the spread of the others: unless the counts confirm them, they
    set the limit; a confirmed map's spread counts two thirds.
    """
    for name, number in (("validation", 40), ("beyond", 10)):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "shard-0.h5", {"seed": 1}, number, [(n, head_patient()) for n in range(number)])
    errors = spread_errors(np.ones((2, 8, 8, 8)), np.ones((8, 8, 8)), 0.06, {"all": np.ones((8, 8, 8), bool)}, 1)
    limits = []
    for wider in (1.0, 1.5):
        judged = [Judged(0.01, 3.0, -0.03, errors)] * 40
        values = iter([*judged, *[Judged(0.024, 3.0, 0.1, errors, wider)] * 10])
        monkeypatch.setattr(doubt_limits, "_judged", lambda *_, values=values: next(values))
        coverage, _, _ = measured_coverage(
            VolumeNetwork(NetworkSettings(widths=(8, 8))),
            tmp_path / "validation",
            tmp_path / "validation",
            tmp_path / "beyond",
        )
        limits.append(coverage.uncertainty)
    assert limits == pytest.approx([0.5 * (0.01 + 0.024), 0.5 * (0.01 + 0.016)])


def test_heads_too_small_for_an_outline_give_an_uncertainty_alone(tiny_cohorts):
    """The tiny cohorts' balls have 0.1 to 0.6 L; a validation cohort of 4 is too small for any limit."""
    network = TrainedNetwork.read(shipped_weights()).network
    with pytest.raises(InputError, match="4 validation patients gave an uncertainty, limits need 10"):
        measured_coverage(network, tiny_cohorts / "training", tiny_cohorts / "validation")


def water_everywhere() -> VolumeNetwork:
    network = VolumeNetwork(NetworkSettings(widths=(8, 8)))
    torch.nn.init.zeros_(network.last.weight)
    torch.nn.init.constant_(network.last.bias, -math.log(LARGEST["map"] - 1.0))
    return network


def head_patient() -> PatientArrays:
    """An ellipsoid of 76 x 95 x 95 mm, uniform and blurred, on 32^3 voxels of 8 mm; photopeak and a window below it."""
    grid = Grid.upright((32, 32, 32), (8.0, 8.0, 8.0), (-124.0, -124.0, -124.0))
    z, y, x = np.meshgrid(*grid.centres_mm(), indexing="ij")
    head = ((x / 76.0) ** 2 + (y / 95.0) ** 2 + (z / 95.0) ** 2 <= 1.0).astype(np.float32)
    blurred = gaussian_filter(head, 0.7)
    preview = np.stack([blurred, 0.0 * head, 0.0 * head, gaussian_filter(head, 1.5)])
    scanner = Scanner("test", "siemens-lehr", matrix=(32, 32), pixel_mm=8.0, views=30, radius_mm=140.0, scheme="dew")
    parameters = {"scanner": asdict(scanner), "nuclide": "Tc-99m", "counts": {"photopeak": 1e6, "scatter": 5e5}}
    mu = np.float32(water_per_cm(KEV)) * head
    return PatientArrays(
        grid, preview, np.array([True, False, False, True]), blurred, 1.1 * mu, mu, head,
        head.astype(np.uint8), 1.0 + head, np.ones((30, 32, 32), np.float32),
        np.ones((3, 30, 32, 32), np.float16), KEV, parameters,
    )  # fmt: skip


def test_a_network_that_gives_water_everywhere_is_as_sure_as_it_is_far_from_the_outline(tmp_path):
    """Its passes agree, so that the limit of their spread is 0; the outline's is OUTLINE_MARGIN distances."""
    network, patient = water_everywhere(), head_patient()
    write_shard(tmp_path / "shard-00000.h5", {"seed": 1}, 10, [(index, patient) for index in range(10)])
    coverage, _, scale = measured_coverage(network, tmp_path, tmp_path)
    assert coverage.uncertainty == pytest.approx(0.0, abs=1e-6)
    # All voxels outside the head are wrong by water, and nothing tells which: 4 in 5 of those that count.
    assert scale.of_voxels(np.array([0.0]))[0] == pytest.approx(1.0, abs=1e-3)
    photopeak, scatter = (Image(patient.preview[row], patient.grid, "cps/mL") for row in (0, 3))
    water = MuMap(np.full(patient.grid.shape, water_per_cm(KEV)), patient.grid, KEV)
    assert coverage.outline_mm == pytest.approx(
        OUTLINE_MARGIN * outline_distance_mm(photopeak, scatter, water), rel=1e-3
    )
    assert coverage == coverage_of([patient], uncertainty=coverage.uncertainty, outline_mm=coverage.outline_mm)
