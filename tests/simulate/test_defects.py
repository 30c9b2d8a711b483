"""Focal defects: they change what they should by the number that was asked for, and nothing else."""

import numpy as np
import pytest

from spectac.recon import InputError
from spectac.simulate.defects import KINDS, Defect, with_defect
from spectac.simulate.regions import BRAIN, LABEL
from spectac.simulate.tracers import painting as paint
from spectac.simulate.uptake import draw_uptake

from .test_uptake import made_up_head


@pytest.fixture(scope="module")
def head():
    return made_up_head()


@pytest.fixture(scope="module")
def healthy(head):
    return draw_uptake("dat", head, np.random.default_rng(3), kind="healthy")


def put(uptake, head, text, seed=1):
    return with_defect(uptake, head, Defect.read(text), np.random.default_rng(seed))


def label_mask(head, *names):
    return np.isin(head.labels, [LABEL[name] for name in names])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_outside_the_defect(head, healthy, kind):
    changed = put(healthy, head, kind)
    outside = ~changed.lesion
    np.testing.assert_array_equal(changed.kbq_per_ml[outside], healthy.kbq_per_ml[outside])
    assert changed.lesion.any()
    assert (changed.kbq_per_ml != healthy.kbq_per_ml)[changed.lesion].mean() > 0.9
    assert changed.parameters["defect"] == kind
    assert changed.parameters["defect_size"] == KINDS[kind].size


@pytest.mark.parametrize("radius_mm", [8.0, 12.0, 20.0])
def test_a_cold_lesion_is_a_ball_of_its_volume_inside_the_brain(head, healthy, radius_mm):
    for seed in range(4):
        cold = put(healthy, head, f"cold:{radius_mm}", seed)
        assert not cold.kbq_per_ml[cold.lesion].any()
        assert np.isin(head.labels[cold.lesion], BRAIN).mean() > 0.97
        volume_mm3 = cold.lesion.sum() * 1000.0 * head.grid.voxel_ml
        # Voxels of 4 mm: a surface voxel in or out.
        assert volume_mm3 == pytest.approx(4.0 / 3.0 * np.pi * radius_mm**3, rel=0.15 * 8.0 / radius_mm)
        centre = paint.points_mm(cold.lesion, head.grid).mean(axis=0)
        told = [cold.parameters[f"defect_{axis}_mm"] for axis in "xyz"]
        np.testing.assert_allclose(centre, told, atol=0.5)
    assert (put(healthy, head, "cold:8", 1).lesion != put(healthy, head, "cold:8", 2).lesion).any()


@pytest.mark.parametrize("lost", [0.1, 0.3, 1.0])
def test_an_early_loss_takes_its_share_of_the_binding_at_the_back_of_one_putamen(head, healthy, lost):
    changed = put(healthy, head, f"early:{lost}")
    side = changed.parameters["defect_side"]
    mask = label_mask(head, f"{side} putamen")
    place = paint.front_to_back(mask, head.grid)
    reference = healthy.kbq_per_ml[label_mask(head, "right occipital cortex", "left occipital cortex")].mean()
    before, after = (one.kbq_per_ml[mask] / reference - 1.0 for one in (healthy, changed))
    np.testing.assert_array_equal(after[place < 0.4], before[place < 0.4])
    np.testing.assert_allclose(after[place > 0.6], (1.0 - lost) * before[place > 0.6], rtol=0, atol=1e-5)
    other = {"right": "left", "left": "right"}[side]
    assert changed.parameters[f"sbr_{other}_putamen"] == healthy.parameters[f"sbr_{other}_putamen"]
    # About half of the putamen lies behind its middle.
    kept = changed.parameters[f"sbr_{side}_putamen"] / healthy.parameters[f"sbr_{side}_putamen"]
    assert kept == pytest.approx(1.0 - 0.5 * lost, abs=0.06 * lost + 0.01)


def test_a_striatum_without_uptake_has_no_binding_and_the_other_all_of_it(head, healthy):
    changed = put(healthy, head, "striatum")
    side = changed.parameters["defect_side"]
    other = {"right": "left", "left": "right"}[side]
    assert changed.parameters[f"sbr_{side}_striatum"] == pytest.approx(0.0, abs=1e-5)
    assert changed.parameters[f"sbr_{other}_striatum"] == healthy.parameters[f"sbr_{other}_striatum"]
    half = put(healthy, head, "striatum:0.5")
    assert half.parameters[f"sbr_{side}_striatum"] == pytest.approx(
        0.5 * healthy.parameters[f"sbr_{side}_striatum"], rel=1e-4
    )


def test_hot_glands_are_as_hot_as_asked(head, healthy):
    changed = put(healthy, head, "glands:7")
    glands = label_mask(head, "right parotid gland", "left submandibular gland")
    np.testing.assert_allclose(changed.kbq_per_ml[glands], 7.0 * healthy.kbq_per_ml[glands], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("warm", "use one of cold, early, striatum, glands"),
        ("cold:1", "radius in mm.* from 2 to 40, not 1"),
        ("early:1.5", "from 0 to 1, not 1.5"),
        ("cold:", "give KIND or KIND:SIZE"),
        ("cold:1e1", "give KIND or KIND:SIZE"),
        ("cold:nan", "give KIND or KIND:SIZE"),
    ],
)
def test_what_is_no_defect_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        Defect.read(text)


def test_a_defect_belongs_to_its_tracer_and_its_region(head):
    perfusion = draw_uptake("perfusion", head, np.random.default_rng(3))
    with pytest.raises(InputError, match="early is for the tracer dat, not perfusion"):
        put(perfusion, head, "early")
    bare = made_up_head()
    bare.labels[label_mask(bare, "right putamen", "left putamen", "right caudate", "left caudate")] = 0
    uptake = draw_uptake("dat", bare, np.random.default_rng(3))
    for text in ("early", "striatum"):
        with pytest.raises(InputError, match="the head holds no"):
            put(uptake, bare, text)
