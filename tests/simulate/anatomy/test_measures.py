"""The measures must read known bodies truly, and adults drawn must measure like adults."""

from dataclasses import replace

import numpy as np
import pytest

from spectac.recon.types import Array
from spectac.simulate.anatomy.measures import analyse
from spectac.simulate.anatomy.placement import CENTRE, axes_mm, grid_of
from spectac.simulate.anatomy.ranges import ADULT_AND_CHILD
from spectac.simulate.head import Head, draw_head
from spectac.simulate.regions import LABEL

STRAIGHT_POSE = {f"{name}_deg": 0.0 for name in ("pitch", "yaw", "roll")} | {f"shift_{axis}_mm": 0.0 for axis in "xyz"}


def shells(radii_mm: tuple[float, float, float]) -> Head:
    """Balls of brain, skull and fat about the brain's middle, with a chin's worth of dense bone."""
    z, y, x = axes_mm(np.full(3, -100.0), np.full(3, 100.0), 2.0)
    radius = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
    labels = np.zeros(radius.shape, np.uint8)
    for limit, name in zip(radii_mm, ("fat", "skull", "left white matter"), strict=True):
        labels[radius < limit] = LABEL[name]
    chin = (z[:, None, None] + CENTRE[2] < -75) & (y[None, :, None] < -50) & (radius < 200) & (x[None, None, :] > 0)
    labels[chin & (z[:, None, None] > -91)] = LABEL["dense bone"]
    return Head(grid_of(z, y, x, 2.0), labels, np.ones(labels.shape, np.float32), dict(STRAIGHT_POSE))


def test_balls_measure_as_they_are(figure) -> None:
    """Thickness to a fifth of a voxel; the volume of a ball; lengths to a voxel.

    8 mm are four voxels: along an axis a shell of 7 mm would truly be three of them.
    """
    found = analyse(shells((84.0, 78.0, 70.0)))
    for region in ("frontal", "parietal", "temporal", "occipital", "vault"):
        figure(f"thickness of an 8 mm shell, {region}", found[f"{region}_thickness_mm"], "8 +- 0.4")
        assert found[f"{region}_thickness_mm"] == pytest.approx(8.0, abs=0.4)
    assert found["brain_ml"] == pytest.approx(4 / 3 * np.pi * 7.0**3, rel=0.01)
    assert found["length_mm"] == pytest.approx(168, abs=2)
    assert found["breadth_mm"] == pytest.approx(168, abs=2)
    # From the vertex (+84) to the lower edge of the bone (-90).
    assert found["height_mm"] == pytest.approx(174, abs=3)


def test_the_pose_does_not_change_the_measures(figure) -> None:
    """A head measured straight and the same head tilted agree: the measures follow the head's own axes."""
    straight = replace(ADULT_AND_CHILD, child_probability=0, pitch_deg=(0, 0), yaw_deg=(0, 0), roll_deg=(0, 0))
    tilted = replace(straight, pitch_deg=(10.0, 10.0), roll_deg=(6.0, 6.0))
    a, b = (analyse(draw_head(np.random.default_rng(3), voxel_mm=2.5, ranges=ranges)) for ranges in (straight, tilted))
    for name, limit in (("length_mm", 4.0), ("breadth_mm", 4.0), ("occipital_thickness_mm", 1.0)):
        figure(f"{name}, tilted less straight", b[name] - a[name], f"{limit:g}")
        # Voxels of 2.5 mm, and a deformation of up to some mm that stays in the camera while the head turns.
        assert b[name] == pytest.approx(a[name], abs=limit)
    assert b["intracranial_ml"] == pytest.approx(a["intracranial_ml"], rel=0.03)


@pytest.mark.slow
def test_hyperostosis_thickens_the_frontal_bone_alone(figure) -> None:
    """The same woman with and without hyperostosis frontalis: some mm more in front, nothing at the occiput."""
    none = replace(
        ADULT_AND_CHILD, child_probability=0, female_probability=1, age_years=(60, 60), hyperostosis_probability=0
    )
    with_it = replace(none, hyperostosis_probability=1.0, hyperostosis_mm=(6.0, 6.0))
    a, b = (analyse(draw_head(np.random.default_rng(8), ranges=ranges)) for ranges in (none, with_it))
    more = b["frontal_thickness_mm"] - a["frontal_thickness_mm"]
    figure("hyperostosis of 6 mm at its lobes adds to the median in mm", more, "1 to 7")
    assert 1.0 < more < 7.0
    assert b["occipital_thickness_mm"] == pytest.approx(a["occipital_thickness_mm"], abs=0.3)
    assert b["brain_ml"] < a["brain_ml"]


# Published means: head length and breadth of the US Army 1988 (197 and 187, 152 and 144 mm; from memory); skull of 177
# cadavers (doi 10.14456/clmj.2022.41): frontal 7.8 and 7.4, occipital 9.4 and 8.6 mm; intracranial volume by MR 1496
# and 1311 mL (Ahmad et al., J Biomed Clin Sci); brain 1260 and 1130 mL; both caudates 8.4 and both putamina 8.9 mL of
# 100 adults of both sexes by MR (J Zhejiang Univ Med Sci). Men first; limits as fractions of the mean: populations
# differ by several per cent, and the standard error of 25 heads is 1 to 3 %.
PUBLISHED = {
    "length_mm": (197, 187, 0.04), "breadth_mm": (152, 144, 0.05), "frontal_thickness_mm": (7.8, 7.4, 0.15),
    "occipital_thickness_mm": (9.4, 8.6, 0.2), "intracranial_ml": (1496, 1311, 0.08), "brain_ml": (1260, 1130, 0.1),
}  # fmt: skip


@pytest.mark.slow
def test_adults_measure_like_adults(figure) -> None:
    ranges = replace(ADULT_AND_CHILD, child_probability=0.0, hyperostosis_probability=0.0, craniotomy_probability=0.0)
    heads = [draw_head(np.random.default_rng(seed), ranges=ranges) for seed in range(500, 560)]
    found = [analyse(head) for head in heads]
    male = np.array([head.parameters["sex"] == "male" for head in heads])
    age = np.array([float(head.parameters["age_years"]) for head in heads])

    def values(name: str) -> Array:
        return np.array([each[name] for each in found])

    for name, (men, women, limit) in PUBLISHED.items():
        for sex, mean, chosen in (("men", men, male), ("women", women, ~male)):
            figure(f"{name} of {sex} over published", float(values(name)[chosen].mean() / mean), f"1 +- {limit:g}")
            assert values(name)[chosen].mean() == pytest.approx(mean, rel=limit), (name, sex)
    caudates = values("right_caudate_ml") + values("left_caudate_ml")
    putamina = values("right_putamen_ml") + values("left_putamen_ml")
    assert caudates.mean() == pytest.approx(8.4, rel=0.15)
    assert putamina.mean() == pytest.approx(8.9, rel=0.15)
    assert (values("occipital_thickness_mm") > values("temporal_thickness_mm") + 1).mean() > 0.95
    assert (values("parietal_thickness_mm") > values("temporal_thickness_mm")).mean() > 0.9
    # Brains shrink and ventricles grow with age.
    share = values("brain_ml") / values("intracranial_ml")
    assert share[age < 40].mean() > share[age > 75].mean() + 0.04
    assert values("ventricles_ml")[age > 75].mean() > 1.2 * values("ventricles_ml")[age < 40].mean()
