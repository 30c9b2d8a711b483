"""Tracers in a made-up head: the drawn numbers are in the image, diseases change what they should and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest

from spectac.recon import Grid, InputError
from spectac.simulate.regions import BESIDE, BRAIN, LABEL, LOBES
from spectac.simulate.tracers import dat, perfusion, randomised
from spectac.simulate.tracers.painting import COLD
from spectac.simulate.uptake import TRACERS, draw_uptake, vois

SIDES = {"right": -1.0, "left": 1.0}


def made_up_head(age=60.0):
    """Ellipsoids of 4 mm voxels, symmetric about x = 0: a shell of cortex by octants about white matter and nuclei."""
    grid = Grid.upright((45, 49, 40), (4.0, 4.0, 4.0), (-78.0, -96.0, -88.0))
    z, y, x = np.meshgrid(*grid.centres_mm(), indexing="ij")
    labels = np.zeros(grid.shape, np.uint8)

    def put(name, centre, semi, only=True):
        inside = sum(((a - c) / s) ** 2 for a, c, s in zip((x, y, z), centre, semi, strict=True)) <= 1.0
        labels[inside & only] = LABEL[name]

    put("skin", (0, 0, 0), (75, 92, 87))
    put("skull", (0, 0, 0), (69, 86, 81))
    put("csf", (0, 0, 0), (63, 80, 75))
    for side, sign in SIDES.items():
        own = sign * x > 0
        put(f"{side} frontal cortex", (0, 0, 0), (60, 77, 72), own & (y < -20))
        put(f"{side} temporal cortex", (0, 0, 0), (60, 77, 72), own & (y >= -20) & (z < 0))
        put(f"{side} parietal cortex", (0, 0, 0), (60, 77, 72), own & (y >= -20) & (z >= 0))
        put(f"{side} occipital cortex", (0, 0, 0), (60, 77, 72), own & (y > 45))
        put(f"{side} white matter", (0, 0, 0), (52, 69, 64), own)
        put(f"{side} cingulate cortex", (sign * 6, 45, 20), (6, 12, 12))
        put("ventricles", (sign * 8, 5, 15), (5, 22, 6))
        put("choroid plexus", (sign * 8, 15, 15), (3, 5, 4))
        put(f"{side} caudate", (sign * 13, -15, 8), (5, 13, 9))
        put(f"{side} putamen", (sign * 26, -3, 2), (6, 20, 11))
        put(f"{side} thalamus", (sign * 11, 14, 2), (8, 13, 9))
        put(f"{side} cerebellar cortex", (sign * 20, 50, -50), (16, 18, 14))
        put(f"{side} parotid gland", (sign * 62, 20, -55), (8, 10, 12))
        put(f"{side} submandibular gland", (sign * 25, -30, -78), (8, 10, 6))
    put("brainstem", (0, 28, -40), (9, 9, 20))
    put("cerebellar white matter", (0, 50, -48), (14, 9, 8))
    put("air cavity", (0, -75, -40), (12, 10, 12))
    put("head holder", (0, 93, 0), (30, 2, 40))
    return SimpleNamespace(grid=grid, labels=labels, parameters={"age_years": age})


@pytest.fixture(scope="module")
def head():
    return made_up_head()


def mean(uptake, head, *names):
    """Mean of regions by their full names, not through vois."""
    return float(uptake.kbq_per_ml[np.isin(head.labels, [LABEL[name] for name in names])].mean(dtype=np.float64))


def reference(uptake, head):
    return mean(uptake, head, "right occipital cortex", "left occipital cortex")


@pytest.mark.parametrize("kind", sorted(dat.KINDS))
def test_binding_ratios_of_the_image_are_those_of_the_parameters(head, kind):
    """(striatum - occipital) / occipital of the voxels is what the parameters say, and what was drawn for it."""
    for seed in range(4):
        uptake = draw_uptake("dat", head, np.random.default_rng(seed), kind=kind)
        base = reference(uptake, head)
        for side in SIDES:
            for part in ("caudate", "putamen"):
                found = mean(uptake, head, f"{side} {part}") / base - 1.0
                assert uptake.parameters[f"sbr_{side}_{part}"] == pytest.approx(found, abs=1e-4)
                if kind != "infarct":
                    drawn = uptake.parameters[f"level_{side}_{part}"] - 1.0
                    assert found == pytest.approx(drawn, abs=1e-4)
            found = mean(uptake, head, f"{side} caudate", f"{side} putamen") / base - 1.0
            assert uptake.parameters[f"sbr_{side}_striatum"] == pytest.approx(found, abs=1e-4)


def test_unilateral_loss_lowers_that_side_alone(head):
    """The same patient with and without the disease: the drawn share is gone from one putamen, nothing else moves."""
    for seed in range(4):
        sick, well = (
            draw_uptake("dat", head, np.random.default_rng(seed), kind=kind) for kind in ("unilateral", "healthy")
        )
        worse = sick.parameters["worse_side"]
        loss = sick.parameters[f"loss_{worse}_putamen"]
        assert 0.25 <= loss <= 0.75
        assert sick.parameters[f"sbr_{worse}_putamen"] == pytest.approx(
            (1.0 - loss) * well.parameters[f"sbr_{worse}_putamen"], rel=1e-3
        )
        elsewhere = ~np.isin(head.labels, [LABEL[f"{worse} putamen"], LABEL[f"{worse} caudate"]])
        np.testing.assert_allclose(
            sick.kbq_per_ml[elsewhere] / reference(sick, head),
            well.kbq_per_ml[elsewhere] / reference(well, head),
            rtol=1e-5,
        )


def test_the_back_of_the_putamen_is_lost_first(head):
    """Over 8 patients the back half of the worse putamen binds less than its front half, healthy ones do not differ."""
    y = head.grid.centres_mm()[1][None, :, None]
    ratios = {"unilateral": [], "healthy": []}
    for seed in range(8):
        for kind, found in ratios.items():
            uptake = draw_uptake("dat", head, np.random.default_rng(seed), kind=kind)
            side = draw_uptake("dat", head, np.random.default_rng(seed), kind="unilateral").parameters["worse_side"]
            inside = head.labels == LABEL[f"{side} putamen"]
            base = reference(uptake, head)
            back = uptake.kbq_per_ml[inside & (y > -3.0)].mean() / base - 1.0
            front = uptake.kbq_per_ml[inside & (y < -3.0)].mean() / base - 1.0
            found.append(back / front)
    assert max(ratios["unilateral"]) < 0.97
    assert np.mean(ratios["unilateral"]) < 0.8
    # Texture alone: 2.5-5 % standard deviation.
    np.testing.assert_allclose(ratios["healthy"], 1.0, atol=0.15)


def test_the_caudate_is_spared_before_it_is_lost(head):
    for seed in range(6):
        for kind in ("unilateral", "bilateral", "absent"):
            drawn = draw_uptake("dat", head, np.random.default_rng(seed), kind=kind).parameters
            for side in SIDES:
                assert drawn[f"loss_{side}_caudate"] <= max(0.0, drawn[f"loss_{side}_putamen"] - 0.2)
        assert drawn["sbr_right_putamen"] < 1.0
        assert drawn["sbr_left_putamen"] < 1.0


def test_striata_span_the_clinical_range_and_fade_with_age(figure):
    """Ratios of 2.5 to 9 in the healthy at all ages; -6.6 % a decade (J Nucl Med 2018;59 suppl 1:1646)."""
    found = {}
    for age in (20.0, 50.0, 60.0, 90.0):
        own = made_up_head(age)
        found[age] = np.array(
            [
                draw_uptake("dat", own, np.random.default_rng(seed), kind="healthy").parameters[f"sbr_{side}_putamen"]
                for seed in range(8)
                for side in SIDES
            ]
        )
    every = np.concatenate(list(found.values()))
    assert every.min() - 1e-3 >= 1.5
    assert every.max() <= 8.001
    figure("healthy putaminal SBR at 60 years, mean", found[60.0].mean(), "4.5..6.5")
    assert 4.5 < found[60.0].mean() < 6.5
    # Between 50 and 90 years no draw of these reaches the limits of 1.5 and 8.
    np.testing.assert_allclose(found[90.0] / found[50.0], 0.934**4, rtol=1e-3)


def test_serotonin_transporters_show_in_thalamus_and_brainstem(head):
    """Over occipital 3 h after injection: diencephalon 0.51 +- 0.10, midbrain 0.21 +- 0.12 in 5 healthy controls.

    Means of 40 draws with a spread of 0.15 are known to 0.024; the controls' own mean to 0.05.
    """
    drawn = [draw_uptake("dat", head, np.random.default_rng(seed)) for seed in range(40)]
    thalamus = np.mean([mean(u, head, "right thalamus", "left thalamus") / reference(u, head) - 1.0 for u in drawn])
    brainstem = np.mean([mean(u, head, "brainstem") / reference(u, head) - 1.0 for u in drawn])
    assert thalamus == pytest.approx(0.48, abs=0.1)
    assert brainstem == pytest.approx(0.21, abs=0.08)


def test_an_infarct_is_cold_and_lies_in_one_striatum(head):
    for seed in range(4):
        uptake = draw_uptake("dat", head, np.random.default_rng(seed), kind="infarct")
        healthy = draw_uptake("dat", head, np.random.default_rng(seed), kind="healthy")
        assert uptake.lesion.any()
        x = np.broadcast_to(head.grid.centres_mm()[2], head.grid.shape)
        sign = SIDES[uptake.parameters["lesion_side"]]
        assert (sign * x[uptake.lesion] > 0).all()
        change = uptake.kbq_per_ml[uptake.lesion] / healthy.kbq_per_ml[uptake.lesion]
        assert change.max() < 0.75  # half of at least 0.7 is gone at the rim, and the brain's total is kept


@pytest.mark.parametrize(("tracer", "hours"), [("dat", 13.2234), ("perfusion", 6.0067)])
def test_the_brain_holds_its_share_of_the_injection(head, tracer, hours, figure):
    """Injected activity times brain share times 2^(-t / half-life) is the sum over the brain's voxels."""
    nuclide = "I-123" if tracer == "dat" else "Tc-99m"
    levels = []
    for seed in range(6):
        uptake = draw_uptake(tracer, head, np.random.default_rng(seed), nuclide=nuclide)
        drawn = uptake.parameters
        expected = (
            1000.0 * drawn["injected_mbq"] * drawn["brain_share"] * 0.5 ** (drawn["hours_after_injection"] / hours)
        )
        inside = np.isin(head.labels, BRAIN)
        found = uptake.kbq_per_ml[inside].sum(dtype=np.float64) * 0.064
        assert found == pytest.approx(expected, rel=1e-5)
        levels.append(found / (inside.sum() * 0.064))
    low, high = (1.0, 10.0) if tracer == "dat" else (10.0, 70.0)
    figure(f"brain kBq/mL, {tracer} {nuclide}", float(np.mean(levels)), f"{low:g}..{high:g}")
    assert low < min(levels)
    assert max(levels) < high


@pytest.mark.parametrize("tracer", ["dat", "perfusion"])
def test_tissues_are_never_empty_and_air_always_is(head, tracer):
    for seed in range(3):
        activity = draw_uptake(tracer, head, np.random.default_rng(seed)).kbq_per_ml
        cold = np.isin(head.labels, COLD)
        assert activity[~cold].min() > 0
        assert not activity[cold].any()
        assert set(BESIDE) < set(COLD)


def test_grey_over_white_and_empty_csf_in_50_perfusion_scans(head, figure):
    ratios, csf = [], []
    cortex = [f"{side} {lobe} cortex" for side in SIDES for lobe in LOBES]
    for seed in range(50):
        uptake = draw_uptake("perfusion", head, np.random.default_rng(seed), kind="normal")
        grey = mean(uptake, head, *cortex)
        ratios.append(grey / mean(uptake, head, "right white matter", "left white matter"))
        csf.append(mean(uptake, head, "csf", "ventricles") / grey)
        assert uptake.parameters["grey_to_white"] == pytest.approx(ratios[-1], rel=1e-5)
    figure("grey:white, least of 50", min(ratios), ">= 2.5")
    figure("grey:white, most of 50", max(ratios), "<= 4.8")
    # 2.6 to 4.4 for a cortex of 1; ECD's occipital lobe of up to 1.2 lifts the mean of all lobes by 4 %.
    assert min(ratios) >= 2.5
    assert max(ratios) <= 4.8
    assert np.ptp(ratios) > 1.0
    assert max(csf) < 0.05


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        ("alzheimer", {"cingulate": 0.09, "parietal": 0.09, "temporal": 0.06}),
        ("lewy", {"occipital": 0.09}),
        ("frontotemporal", {"frontal": 0.12, "temporal": 0.05}),
    ],
)
def test_diseases_lower_their_own_lobes(head, kind, lost):
    """The same patient with and without the disease, over the cerebellum: at least the least loss times 0.6 is gone."""
    touched = {name.removesuffix(" cortex") for name in perfusion.DEFICITS[kind]}
    for seed in range(4):
        sick, well = (
            draw_uptake("perfusion", head, np.random.default_rng(seed), kind=name) for name in (kind, "normal")
        )
        base = [mean(u, head, "right cerebellar cortex", "left cerebellar cortex") for u in (sick, well)]
        for lobe in LOBES:
            for side in SIDES:
                values = [mean(u, head, f"{side} {lobe} cortex") for u in (sick, well)]
                ratio = (values[0] / base[0]) / (values[1] / base[1])
                if lobe not in touched:
                    assert ratio == pytest.approx(1.0, abs=1e-4)
                else:
                    assert ratio <= 1.0 - lost.get(lobe, 0.0) + 1e-4


def test_frontotemporal_loss_lies_in_the_front_of_the_temporal_lobe(head):
    sick, well = (
        draw_uptake("perfusion", head, np.random.default_rng(2), kind=kind) for kind in ("frontotemporal", "normal")
    )
    y = head.grid.centres_mm()[1][None, :, None]
    inside = head.labels == LABEL["left temporal cortex"]
    front, back = inside & (y < 0), inside & (y > 25)
    ratio = sick.kbq_per_ml / np.where(well.kbq_per_ml > 0, well.kbq_per_ml, 1.0)
    assert ratio[front].mean() < ratio[back].mean()


def test_diaschisis_lies_opposite_to_the_stroke(head):
    """Crossed: the cerebellum of the other side falls by the drawn share, that of the same side does not."""
    crossed = 0
    sides = set()
    for seed in range(24):
        sick, well = (
            draw_uptake("perfusion", head, np.random.default_rng(seed), kind=kind) for kind in ("stroke", "normal")
        )
        drawn = sick.parameters
        side = drawn["lesion_side"]
        other = {"right": "left", "left": "right"}[side]
        x = np.broadcast_to(head.grid.centres_mm()[2], head.grid.shape)
        assert (SIDES[side] * x[sick.lesion] > 0).all()
        assert drawn["lesion_remaining"] <= 0.45
        # The thalamus of the other side is untouched by both: it stands for the patient's scale.
        base = [mean(u, head, f"{other} thalamus") for u in (sick, well)]
        change = {
            name: mean(sick, head, f"{name} cerebellar cortex") / mean(well, head, f"{name} cerebellar cortex")
            * base[1] / base[0]
            for name in SIDES
        }  # fmt: skip
        assert change[side] == pytest.approx(1.0, abs=1e-4)
        assert change[other] == pytest.approx(1.0 - drawn["diaschisis_loss"], abs=1e-4)
        inside = sick.kbq_per_ml[sick.lesion] / well.kbq_per_ml[sick.lesion] * base[1] / base[0]
        assert inside.max() < 0.73  # half of at least 0.55 is gone at the rim
        if drawn["diaschisis"]:
            crossed += 1
            assert drawn["diaschisis_side"] == other
            assert drawn["diaschisis_loss"] >= 0.10
        sides.add(side)
    assert sides == set(SIDES)
    # A third of 24, give or take 2.6 standard deviations.
    assert 2 <= crossed <= 14


def test_a_focus_is_hot_in_its_ball_alone(head):
    sick, well = (draw_uptake("perfusion", head, np.random.default_rng(6), kind=kind) for kind in ("focus", "normal"))
    tissue = well.kbq_per_ml > 0
    ratio = sick.kbq_per_ml[tissue] / well.kbq_per_ml[tissue]
    usual = np.median(ratio)
    gain = sick.parameters["lesion_gain"] - 1.0
    assert (ratio[sick.lesion[tissue]] / usual).min() > 1.0 + 0.45 * gain
    assert (ratio[~sick.lesion[tissue]] / usual).max() < 1.0 + 0.55 * gain


def test_randomised_uptake_separates_anatomy_from_any_tracer(head):
    """Regions are drawn on their own: striata above and below the cortex, empty ones, and whole heads that are flat."""
    drawn = [draw_uptake("randomised", head, np.random.default_rng(seed)) for seed in range(50)]
    assert {uptake.parameters["kind"] for uptake in drawn} == set(randomised.KINDS)
    assert {uptake.nuclide for uptake in drawn} == {"I-123", "Tc-99m"}
    free = [uptake.parameters for uptake in drawn if uptake.parameters["kind"] == "independent"]
    left, white, skin = (
        np.array([levels[f"level_{name}"] for levels in free]) for name in ("left_putamen", "left_white_matter", "skin")
    )
    for one, other in ((left, white), (left, skin), (white, skin)):
        # Of about 35 independent pairs a correlation has a standard deviation of 0.17.
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.5
    assert (left > 2 * white).any()
    assert (white > 2 * left).any()
    assert (np.concatenate([left, white, skin]) == 0).any()
    pairs = np.array([levels["level_right_putamen"] == levels["level_left_putamen"] for levels in free])
    assert 0.3 < pairs.mean() < 0.95
    assert any(uptake.lesion is not None for uptake in drawn)


def test_a_flat_head_varies_by_its_slope_alone(head):
    uptake = draw_uptake("randomised", head, np.random.default_rng(1), kind="flat")
    inside = ~np.isin(head.labels, COLD)
    values = uptake.kbq_per_ml[inside]
    expected = np.hypot(uptake.parameters["gradient_sd"], uptake.parameters["texture_sd"])
    assert values.std() / values.mean() < 2.0 * expected + 0.02
    assert values.mean() == pytest.approx(uptake.parameters["mean_kbq_per_ml"], rel=1e-4)


def test_texture_is_a_few_per_cent_within_a_region(head):
    """The drawn standard deviation is that of an endless field; a region of some lattice cells has less or more."""
    spreads = []
    for seed in range(10):
        uptake = draw_uptake("dat", head, np.random.default_rng(seed), kind="healthy")
        inside = uptake.kbq_per_ml[head.labels == LABEL["left white matter"]]
        spreads.append(inside.std() / inside.mean() / uptake.parameters["texture_sd"])
    assert min(spreads) > 0.5
    assert max(spreads) < 1.6
    assert np.mean(spreads) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("tracer", TRACERS)
def test_uptake_belongs_to_its_seed(head, tracer):
    one, again, other = (draw_uptake(tracer, head, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert one.kbq_per_ml.dtype == np.float32
    np.testing.assert_array_equal(one.kbq_per_ml, again.kbq_per_ml)
    assert one.parameters == again.parameters
    assert not np.array_equal(one.kbq_per_ml, other.kbq_per_ml)
    assert {type(value) for value in one.parameters.values()} <= {float, int, bool, str}


def test_vois_are_the_labels_under_their_names(head):
    lesion = head.labels == LABEL["left putamen"]
    masks = vois(head.labels, lesion)
    sides = [masks[f"{side} striatum"] for side in SIDES]
    np.testing.assert_array_equal(masks["striata"], sides[0] | sides[1])
    np.testing.assert_array_equal(masks["lesion"], masks["left putamen"])
    assert not (sides[0] & sides[1]).any()
    occipital = [LABEL["right occipital cortex"], LABEL["left occipital cortex"]]
    np.testing.assert_array_equal(masks["reference"], np.isin(head.labels, occipital))
    np.testing.assert_array_equal(masks["brain"], np.isin(head.labels, BRAIN))
    x = np.broadcast_to(head.grid.centres_mm()[2], head.grid.shape)
    assert x[masks["left caudate"]].min() > 0
    without = vois(np.where(np.isin(head.labels, [LABEL["left caudate"]]), 0, head.labels))
    assert "left caudate" not in without
    assert "lesion" not in without


def test_wrong_tracers_are_refused(head):
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="tracer 'fdg' is not one of dat, perfusion, randomised"):
        draw_uptake("fdg", head, rng)
    with pytest.raises(InputError, match="I-123 ioflupane: there is none with Tc-99m"):
        draw_uptake("dat", head, rng, nuclide="Tc-99m")
    with pytest.raises(InputError, match="no perfusion tracer with In-111"):
        draw_uptake("perfusion", head, rng, nuclide="In-111")
    with pytest.raises(InputError, match="kind 'stroke' is not one of healthy"):
        draw_uptake("dat", head, rng, kind="stroke")
    with pytest.raises(InputError, match="kind 'healthy' is not one of normal"):
        draw_uptake("perfusion", head, rng, kind="healthy")
    empty = SimpleNamespace(grid=head.grid, labels=np.zeros_like(head.labels), parameters={})
    for tracer in TRACERS:
        with pytest.raises(InputError, match="none of the regions that take up the tracer"):
            draw_uptake(tracer, empty, rng)


def test_a_drawn_head_takes_up_every_tracer():
    """On a real virtual head all regions that the tracers name are there, and DAT shows its striata."""
    from spectac.simulate.head import draw_head

    drawn = draw_head(np.random.default_rng(4), voxel_mm=4.0)
    for tracer in TRACERS:
        uptake = draw_uptake(tracer, drawn, np.random.default_rng(4))
        assert uptake.kbq_per_ml.shape == drawn.grid.shape
        assert np.isfinite(uptake.kbq_per_ml).all()
        assert uptake.kbq_per_ml.min() == 0.0
    uptake = draw_uptake("dat", drawn, np.random.default_rng(4), kind="healthy")
    brightest = np.unravel_index(uptake.kbq_per_ml.argmax(), uptake.kbq_per_ml.shape)
    masks = vois(drawn.labels)
    glands = np.isin(
        drawn.labels, [LABEL[f"{side} {name} gland"] for side in SIDES for name in ("parotid", "submandibular")]
    )
    assert (masks["striata"] | glands)[brightest]
    assert 1.5 <= uptake.parameters["sbr_right_putamen"] <= 8.001
