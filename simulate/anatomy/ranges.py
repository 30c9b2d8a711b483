"""How heads vary: named ranges, and the draw of one head's shape from them.

A range is (low, high) and drawn uniformly, but for those named in NORMAL, which are (mean - 2 sd, mean + 2 sd) of a
normal distribution cut at 2.5 sd. Ranges without a source in a comment are assumed from general anatomy.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from spectac.simulate.draws import between
from spectac.simulate.regions import SIDES

Range = tuple[float, float]


@dataclass(frozen=True)
class HeadRanges:
    """Ranges of everything that is drawn; lengths in mm, angles in degrees, bare names are factors or fractions.

    Sizes are factors on the adult male reference of this package (skull.py); children come with probability
    `child_probability` and are scaled down by age.

    Parameters
    ----------
    unusual_probability
        Share of the heads whose numbers named in UNUSUAL are drawn from there.
    opaque_sinus_probability, hyperostosis_probability, craniotomy_probability, edentulous_probability
        Shares of the heads; hyperostosis after 40 years, lost teeth after 60.

    Examples
    --------
    >>> straight = HeadRanges(pitch_deg=(0.0, 0.0), child_probability=0.0)
    >>> draw_shape(np.random.default_rng(1), straight)["pitch_deg"]
    0.0
    """

    age_years: Range = (18.0, 90.0)
    child_age_years: Range = (5.0, 17.0)
    child_probability: float = 0.12
    female_probability: float = 0.5
    unusual_probability: float = 0.0
    """Of heads whose numbers named in UNUSUAL are drawn from there."""

    size: Range = (0.895, 1.005)
    """Of the reference, which is larger than the average man."""
    breadth: Range = (0.955, 1.045)
    height: Range = (0.95, 1.05)
    face_height: Range = (0.92, 1.08)
    nose: Range = (0.8, 1.2)
    neck: Range = (0.85, 1.2)
    jaw: Range = (0.92, 1.08)
    vertex: Range = (2.05, 2.45)
    """Power of the vault's superellipsoid: 2 is round, more is boxy."""
    egg: Range = (0.04, 0.16)
    """How much narrower the frontal end is than the occipital."""
    deformation_mm: Range = (0.8, 2.4)
    petalia_mm: Range = (-1.5, 4.0)
    """Left occiput behind the right and right frontal pole before the left, as in most people."""
    sinus_deviation_mm: Range = (-4.0, 4.0)

    skull_thickness_mm: Range = (5.6, 9.6)
    temporal_thickness: Range = (0.42, 0.66)
    occipital_thickness: Range = (0.12, 0.42)
    protuberance_mm: Range = (1.0, 6.0)
    diploe_share: Range = (0.32, 0.56)
    bone_density: Range = (0.92, 1.08)
    scalp_mm: Range = (4.2, 7.5)
    temporalis_mm: Range = (4.0, 9.0)
    fat: Range = (0.5, 1.8)
    frontal_sinus: Range = (0.0, 1.25)
    maxillary_sinus: Range = (0.7, 1.12)
    sphenoid_sinus: Range = (0.45, 1.1)
    ethmoid_cells: Range = (0.6, 1.1)
    mastoid_cells: Range = (0.1, 1.0)
    nasal_airway: Range = (0.6, 1.3)
    pharynx: Range = (0.6, 1.3)
    mouth_air_mm: Range = (0.0, 5.0)
    opaque_sinus_probability: float = 0.08
    hyperostosis_probability: float = 0.08
    hyperostosis_mm: Range = (3.0, 8.0)
    craniotomy_probability: float = 0.05
    flap_radius_mm: Range = (22.0, 42.0)
    edentulous_probability: float = 0.2
    """Of those above 60 years."""

    cortex_mm: Range = (2.3, 3.2)
    """Fischl and Dale, PNAS 2000, 97:11050: 1 to 4.5 mm, mean about 2.5 mm."""
    gyrus_mm: Range = (8.6, 10.4)
    sulcus_mm: Range = (0.4, 0.9)
    ventricles: Range = (0.9, 1.7)
    atrophy: Range = (0.0, 1.0)
    """Position within what is usual for the age, 0 little, 1 much."""
    caudate: Range = (0.87, 1.13)
    putamen: Range = (0.87, 1.13)
    thalamus: Range = (0.9, 1.1)

    pitch_deg: Range = (-16.0, 16.0)
    yaw_deg: Range = (-8.0, 8.0)
    roll_deg: Range = (-7.0, 7.0)
    shift_mm: Range = (-12.0, 12.0)
    neck_length_mm: Range = (5.0, 40.0)
    """How much of the neck below the chin lies in the field."""
    holder_probability: float = 0.75
    pillow_probability: float = 0.6
    holder_mm: Range = (2.0, 4.0)
    holder_gap_mm: Range = (4.0, 22.0)
    pillow_mm: Range = (8.0, 25.0)


NORMAL = frozenset(
    {"size", "breadth", "height", "face_height", "skull_thickness_mm", "caudate", "putamen", "thalamus", "bone_density"}
    | {"pitch_deg", "yaw_deg", "roll_deg", "shift_mm", "vertex", "scalp_mm", "petalia_mm"}
)

UNUSUAL: dict[str, Range] = {
    "breadth": (0.915, 1.085),
    "vertex": (1.87, 2.63),
    "petalia_mm": (-4.0, 6.5),
    "skull_thickness_mm": (4.0, 13.0),
    "scalp_mm": (2.5, 10.5),
    "bone_density": (0.85, 1.16),
}
"""Uniform ranges of unusual heads: skull and scalp vary so far, each for itself, that the data alone tell them."""

ADULT_AND_CHILD = HeadRanges()
"""Heads as they are."""

AS_IN_CT = replace(ADULT_AND_CHILD, skull_thickness_mm=(4.9, 9.3), bone_density=(0.88, 1.08))
"""The same with skulls 6 % thinner and 2 % less dense on average.

CTs of 60 patients have a tenth less bone per skin than ADULT_AND_CHILD's heads (benchmarks/results/bodies.csv).
"""

TRAINING = replace(AS_IN_CT, unusual_probability=0.5)
"""What networks are trained on: a skull unlike all that a network saw comes out too thin, mostly without a warning."""

OUTSIDE_TRAINING = replace(
    ADULT_AND_CHILD,
    size=(1.03, 1.06),
    breadth=(0.85, 0.9),
    height=(1.08, 1.14),
    skull_thickness_mm=(13.8, 15.2),
    deformation_mm=(3.2, 4.2),
    petalia_mm=(7.5, 11.5),
    scalp_mm=(11.0, 12.6),
    frontal_sinus=(1.9, 2.3),
    sinus_deviation_mm=(5.0, 8.0),
    bone_density=(1.175, 1.215),
    pitch_deg=(21.0, 27.0),
    child_probability=0.0,
    female_probability=0.0,
)
"""Long, narrow, large, thick-skulled and lopsided men's heads, tilted far, with large frontal sinuses.

The ranges named here lie outside of training's, unusual heads included. The frontal sinuses' begins four standard
deviations of a side's own variation above training's, but one side alone may fall back. All other ranges, as of face,
neck, brain, other sinuses and holder, are training's.
"""


SINUSES = (
    "right maxillary", "left maxillary", "sphenoid", "right frontal", "left frontal", "right mastoid", "left mastoid",
)  # fmt: skip
"""Sinuses that may be opaque, in the order of the draw."""

_PAIRED = {"maxillary_sinus": 0.12, "mastoid_cells": 0.12, "frontal_sinus": 0.12, "caudate": 0.02, "putamen": 0.02}
"""Structures whose sides vary together, and the relative standard deviation of each side for itself."""

_SMALLER_IN_CHILDREN = {
    # Head circumference is 51 cm at 5 years and 57 cm in men (WHO and Nellhaus charts); faces grow later.
    "size": 0.085,
    "face_height": 0.17,
    "skull_thickness_mm": 0.36,
    "protuberance_mm": 0.6,
    "neck": 0.22,
    "scalp_mm": 0.25,
    "temporalis_mm": 0.25,
    "nose": 0.3,
    "right_frontal_sinus": 1.4,
    "left_frontal_sinus": 1.4,
    "right_maxillary_sinus": 0.3,
    "left_maxillary_sinus": 0.3,
    "sphenoid_sinus": 0.3,
    "right_mastoid_cells": 0.4,
    "left_mastoid_cells": 0.4,
}
"""Share that a child of 5 years lacks; in proportion to the years up to 18, and never below 0."""

_SMALLER_IN_WOMEN = {"size": 0.955, "face_height": 0.965, "neck": 0.88}
"""Factors. Head breadth and length of women are 94 to 95 % of men's (ANSUR II, see benchmarks/simulation/heads.py)."""


@dataclass(frozen=True)
class HeadShape:
    """One head's draws: `numbers` for every range, and what is there or not.

    Parameters
    ----------
    numbers
        A value for every range; `shape[name]` reads it.
    sex
        "male" or "female".
    child, hyperostosis, edentulous, holder, pillow
        Whether it is a child, has frontal hyperostosis, lacks teeth, rests in a holder, and on a pillow.
    craniotomy
        "none", "missing", "thinned" or "re-set".
    opaque
        Names of the sinuses without air.

    Examples
    --------
    >>> shape = draw_shape(np.random.default_rng(1), HeadRanges(child_probability=1.0))
    >>> shape.child, 5.0 <= shape["age_years"] <= 17.0
    (True, True)
    """

    numbers: dict[str, float]
    sex: str
    child: bool
    hyperostosis: bool
    craniotomy: str
    edentulous: bool
    holder: bool
    pillow: bool
    opaque: tuple[str, ...]

    def __getitem__(self, name: str) -> float:
        return self.numbers[name]

    def plain(self) -> dict[str, float | int | bool | str]:
        """Everything as plain values."""
        kept = {name: getattr(self, name) for name in _FLAGS}
        numbers = {name: round(value, 5) for name, value in self.numbers.items()}
        return {**numbers, **kept, "opaque_sinuses": ", ".join(self.opaque)}


_FLAGS = ("sex", "child", "hyperostosis", "craniotomy", "edentulous", "holder", "pillow")


def draw_shape(rng: np.random.Generator, ranges: HeadRanges) -> HeadShape:
    """Shape of one head: every range drawn, then what depends on sex and age put on top.

    Parameters
    ----------
    rng
        Generator.
    ranges
        What to draw from.

    Returns
    -------
    HeadShape
        Shape, a function of the generator's state and of the ranges.

    Examples
    --------
    >>> draw_shape(np.random.default_rng(1), ADULT_AND_CHILD).craniotomy
    'none'
    """
    numbers = _numbers(rng, ranges)
    chance = rng.random(12)
    child = bool(chance[0] < ranges.child_probability)
    female = bool(chance[1] < ranges.female_probability)
    child_age = numbers.pop("child_age_years")
    if child:
        numbers["age_years"] = child_age
    age = numbers["age_years"]
    craniotomy = "none"
    if chance[2] < ranges.craniotomy_probability:
        craniotomy = ("missing", "thinned", "re-set")[int(chance[3] * 3)]
    shape = HeadShape(
        numbers=numbers,
        sex="female" if female else "male",
        child=child,
        # Seen in the second half of life, far more often in women.
        hyperostosis=bool(age > 40 and chance[4] < ranges.hyperostosis_probability * (1.6 if female else 0.4)),
        craniotomy=craniotomy,
        edentulous=bool(age > 60 and chance[5] < ranges.edentulous_probability),
        holder=bool(chance[6] < ranges.holder_probability),
        pillow=bool(chance[7] < ranges.pillow_probability),
        opaque=tuple(
            name
            for name, luck in zip(SINUSES, rng.random(len(SINUSES)), strict=True)
            if luck < ranges.opaque_sinus_probability
        ),
    )
    # Where a flap and the hyperostosis lie.
    numbers["flap_azimuth_deg"] = between(rng, -180, 180)
    numbers["flap_elevation_deg"] = between(rng, 15, 65)
    _grow(numbers, female, age)
    return shape


def _numbers(rng: np.random.Generator, ranges: HeadRanges) -> dict[str, float]:
    """A value for every range, in the order of its fields."""
    numbers: dict[str, float] = {}
    unusual = ranges.unusual_probability > 0 and bool(rng.random() < ranges.unusual_probability)
    for field in fields(ranges):
        name, value = field.name, getattr(ranges, field.name)
        if not isinstance(value, tuple):
            continue
        if name == "shift_mm":
            numbers |= {f"shift_{axis}_mm": _draw(rng, name, value) for axis in "xyz"}
        elif name in _PAIRED:
            both = _draw(rng, name, value)
            for side in SIDES:
                numbers[f"{side}_{name}"] = max(0.0, both * (1 + _PAIRED[name] * float(rng.standard_normal())))
        elif unusual and name in UNUSUAL:
            # One value instead of a range is that of every head.
            numbers[name] = between(rng, *(value if value[0] == value[1] else UNUSUAL[name]))
        else:
            numbers[name] = _draw(rng, name, value)
    return numbers


def _draw(rng: np.random.Generator, name: str, limits: Range) -> float:
    low, high = limits
    if name not in NORMAL:
        return between(rng, low, high)
    return float(0.5 * (low + high) + 0.25 * (high - low) * np.clip(rng.standard_normal(), -2.5, 2.5))


def _grow(numbers: dict[str, float], female: bool, age: float) -> None:
    """Put sex and age into the numbers: women's heads are smaller, children's grow, brains shrink from 30 on."""
    if female:
        for name, factor in _SMALLER_IN_WOMEN.items():
            numbers[name] *= factor
    if age < 18:
        for name, share in _SMALLER_IN_CHILDREN.items():
            numbers[name] *= max(0.0, 1 - share * ((18 - age) / 13))
    # Fraction of atrophy: 0 in the young, up to 1 in very old brains that shrank more than most.
    decades = max(0.0, age - 30) / 60
    numbers["atrophy"] = decades * (0.35 + 0.65 * numbers["atrophy"])
