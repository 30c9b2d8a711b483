"""Defects: they change what they should by the number that was asked for, and nothing else."""

import numpy as np
import pytest

from spectac.recon import InputError
from spectac.simulate.defects import KINDS, Defect, with_defect
from spectac.simulate.head import draw_head
from spectac.simulate.regions import BRAIN, LABEL
from spectac.simulate.tracers import dat
from spectac.simulate.uptake import draw_uptake

from .test_uptake import made_up_head

OTHER = {"right": "left", "left": "right"}
GLANDS = tuple(f"{side} {gland} gland" for side in OTHER for gland in ("parotid", "submandibular"))


@pytest.fixture(scope="module", params=["ellipsoids", "drawn"])
def head(request):
    return made_up_head() if request.param == "ellipsoids" else draw_head(np.random.default_rng(7))


@pytest.fixture(scope="module")
def healthy(head):
    return draw_uptake("dat", head, np.random.default_rng(3), kind="healthy")


def put(uptake, head, text, seed=1):
    return with_defect(uptake, head, Defect.read(text), np.random.default_rng(seed))


def label_mask(head, *names):
    return np.isin(head.labels, [LABEL[name] for name in names])


def binding(uptake, head, mask):
    """Activity over the occipital cortex's mean, less 1."""
    occipital = label_mask(head, "right occipital cortex", "left occipital cortex")
    return uptake.kbq_per_ml[mask] / uptake.kbq_per_ml[occipital].mean(dtype=np.float64) - 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_outside_the_region(head, healthy, kind):
    changed = put(healthy, head, kind)
    about = changed.parameters
    side = about.get("defect_side")
    if kind == "cold":
        z, y, x = np.meshgrid(*head.grid.centres_mm(), indexing="ij")
        away = sum((a - about[f"defect_{n}_mm"]) ** 2 for a, n in ((x, "x"), (y, "y"), (z, "z")))
        region = away <= 8.0**2
    else:
        names = {"early": (f"{side} putamen",), "striatum": (f"{side} caudate", f"{side} putamen"), "glands": GLANDS}
        region = label_mask(head, *names[kind])
    np.testing.assert_array_equal(changed.kbq_per_ml[~region], healthy.kbq_per_ml[~region])
    assert not changed.lesion[~region].any()
    assert changed.lesion.any()
    assert (about["defect"], about["defect_size"]) == (kind, KINDS[kind].size)
    brain = float(changed.kbq_per_ml[np.isin(head.labels, BRAIN)].sum(dtype=np.float64)) * head.grid.voxel_ml
    assert about["kbq"] == pytest.approx(brain, rel=1e-6)


@pytest.mark.parametrize("radius_mm", [8.0, 12.0])
def test_a_cold_lesion_is_a_ball_of_its_volume_inside_the_brain(head, healthy, radius_mm):
    for seed in range(4):
        cold = put(healthy, head, f"cold:{radius_mm}", seed)
        assert not cold.kbq_per_ml[cold.lesion].any()
        assert np.isin(head.labels[cold.lesion], BRAIN).all()
        volume_mm3 = cold.lesion.sum() * 1000.0 * head.grid.voxel_ml
        assert volume_mm3 == pytest.approx(4.0 / 3.0 * np.pi * radius_mm**3, rel=0.05 * head.grid.voxel_mm[0])
    assert (put(healthy, head, "cold:8", 1).lesion != put(healthy, head, "cold:8", 2).lesion).any()


@pytest.mark.parametrize("lost", [0.1, 1.0])
def test_an_early_loss_takes_its_share_of_the_binding_at_the_back_of_one_putamen(head, healthy, lost):
    changed = put(healthy, head, f"early:{lost}")
    side = changed.parameters["defect_side"]
    putamen = label_mask(head, f"{side} putamen")
    back_mm = np.meshgrid(*head.grid.centres_mm(), indexing="ij")[1][putamen]  # y grows towards the back
    kept = binding(changed, head, putamen) / binding(healthy, head, putamen)
    front, back = (back_mm < np.quantile(back_mm, 0.2)), (back_mm > np.quantile(back_mm, 0.8))
    np.testing.assert_allclose(kept[front], 1.0, atol=1e-5)
    np.testing.assert_allclose(kept[back], 1.0 - lost, atol=1e-4)
    assert kept.mean() == pytest.approx(1.0 - 0.5 * lost, abs=0.1 * lost)
    name = f"sbr_{OTHER[side]}_putamen"
    assert changed.parameters[name] == healthy.parameters[name]


def test_a_striatum_without_binding_and_the_other_with_all_of_it(head, healthy):
    gone, half = (put(healthy, head, text) for text in ("striatum", "striatum:0.5"))
    side = gone.parameters["defect_side"]
    name, other = f"sbr_{side}_striatum", f"sbr_{OTHER[side]}_striatum"
    assert gone.parameters[name] == pytest.approx(0.0, abs=1e-5)
    assert gone.parameters[other] == healthy.parameters[other]
    assert half.parameters[name] == pytest.approx(0.5 * healthy.parameters[name], rel=1e-4)


def test_a_striatum_with_an_infarct_has_no_binding_below_zero(head):
    infarct = draw_uptake("dat", head, np.random.default_rng(3), kind="infarct")
    changed = put(infarct, head, "striatum")
    assert changed.parameters[f"sbr_{changed.parameters['defect_side']}_striatum"] == pytest.approx(0.0, abs=1e-5)
    assert changed.lesion[infarct.lesion].all()


@pytest.mark.parametrize("factor", [0.0, 7.0])
def test_glands_are_as_hot_as_asked(head, healthy, factor):
    changed = put(healthy, head, f"glands:{factor}")
    glands = label_mask(head, *GLANDS)
    np.testing.assert_allclose(changed.kbq_per_ml[glands], factor * healthy.kbq_per_ml[glands], rtol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in dat.KINDS if kind not in ("healthy", "infarct")])
def test_binding_that_is_lost_already_is_not_taken_again(head, kind):
    ill = draw_uptake("dat", head, np.random.default_rng(3), kind=kind)
    for text in ("early", "striatum"):
        with pytest.raises(InputError, match=f"kind {kind}.*use the kind healthy"):
            put(ill, head, text)


def test_a_ball_that_no_brain_holds_and_a_defect_that_changes_nothing_are_refused(healthy, head):
    with pytest.raises(InputError, match="changes nothing"):
        put(healthy, head, "glands:1")
    small = made_up_head()
    small.labels[:, :, ::2] = 0
    uptake = draw_uptake("dat", small, np.random.default_rng(3), kind="healthy")
    with pytest.raises(InputError, match="no ball of 16 mm lies inside"):
        put(uptake, small, "cold:16")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("warm", "use one of cold, early, striatum, glands"),
        ("warm:3", "use one of cold, early, striatum, glands"),
        ("cold:1", "radius in mm.* from 2 to 16, not 1"),
        ("cold:nan", "from 2 to 16, not nan"),
        ("early:1.5", "from 0.01 to 1, not 1.5"),
        ("glands:-1", "from 0 to 100, not -1"),
        ("cold:", "a number after the colon"),
        ("early:30%", "a number after the colon"),
    ],
)
def test_what_is_no_defect_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        Defect.read(text)


def test_a_defect_belongs_to_its_tracer_and_its_region():
    head = made_up_head()
    perfusion = draw_uptake("perfusion", head, np.random.default_rng(3))
    with pytest.raises(InputError, match="early is for the tracer dat, not perfusion"):
        put(perfusion, head, "early")
    head.labels[label_mask(head, "right putamen", "left putamen", "right caudate", "left caudate")] = 0
    uptake = draw_uptake("dat", head, np.random.default_rng(3), kind="healthy")
    for text in ("early", "striatum"):
        with pytest.raises(InputError, match="the head holds no"):
            put(uptake, head, text)
