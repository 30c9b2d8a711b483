"""Perfusion tracers (I-123 IMP, Tc-99m ECD and HMPAO): grey over white matter, with regional deficits.

Levels are relative to healthy cortex. Those without a source in a comment are assumed from what clinical images show.
"""

from typing import TYPE_CHECKING

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import Array
from spectac.simulate.draws import around, between, one_of
from spectac.simulate.regions import BRAIN, CORTEX, LOBES, SIDES
from spectac.simulate.tracers import painting as paint

if TYPE_CHECKING:
    from spectac.simulate.head import Head

KINDS = {"normal": 0.30, "alzheimer": 0.17, "lewy": 0.10, "frontotemporal": 0.12, "stroke": 0.20, "focus": 0.11}
"""Shares of the cases; "focus" is a hyperperfused spot, as of a seizure."""

NUCLIDES = {"I-123": 0.45, "Tc-99m": 0.55}
"""Shares of the nuclides."""

AGENTS = {"I-123": {"IMP": 1.0}, "Tc-99m": {"ECD": 0.5, "HMPAO": 0.5}}
"""Shares of the agents of each nuclide."""

GREY_TO_WHITE = (2.6, 4.4)
"""True ratio, about 4 in the phantoms that stand for perfusion."""

INJECTED_MBQ = {"IMP": (111.0, 222.0), "ECD": (555.0, 1110.0), "HMPAO": (370.0, 925.0)}
BRAIN_SHARE = {"IMP": (0.05, 0.09), "ECD": (0.045, 0.065), "HMPAO": (0.035, 0.07)}
"""Of the injected activity in the brain. HMPAO: 3.5-7.0 % (Ceretec, product information); the others are assumed."""

DIASCHISIS_SHARE = 1.0 / 3.0
"""Strokes with crossed cerebellar diaschisis: 17 of 51 in SPECT (BMC Neuroscience 2020;21:46)."""

DEFICITS = {
    "alzheimer": {
        "cingulate cortex": (0.15, 0.45),
        "parietal cortex": (0.15, 0.45),
        "temporal cortex": (0.10, 0.35),
        "frontal cortex": (0.0, 0.15),
    },
    "lewy": {"occipital cortex": (0.15, 0.40), "parietal cortex": (0.05, 0.25), "temporal cortex": (0.0, 0.15)},
    "frontotemporal": {"frontal cortex": (0.20, 0.45), "temporal cortex": (0.15, 0.40)},
}
"""Lost share of the perfusion (least, most) by region. In frontotemporal dementia the temporal loss lies in front."""


_BESIDE_CORTEX = {
    "brainstem": (0.5, 0.8),
    "spinal cord": (0.3, 0.5),
    "csf": (0.005, 0.03),
    "ventricles": (0.005, 0.03),
    "choroid plexus": (0.3, 1.0),
    "eye": (0.03, 0.15),
}
"""Range of the level of each region over the cortex's."""

HOURS_AFTER_INJECTION = {"IMP": (0.25, 0.75), "ECD": (0.5, 2.0), "HMPAO": (0.5, 2.0)}
"""Begin of the acquisition."""


def draw(head: "Head", rng: np.random.Generator, nuclide: str | None = None, kind: str | None = None) -> paint.Painted:
    """Uptake of a perfusion scan in a head.

    All kinds use the same random numbers, so that one seed gives one patient with different diseases.

    Parameters
    ----------
    head
        Virtual head.
    rng
        Generator.
    nuclide
        I-123 or Tc-99m, drawn unless it is given.
    kind
        Case of KINDS, drawn unless it is given.

    Returns
    -------
    Painted
        Uptake whose parameters hold the agent, the levels and the deficits.

    Raises
    ------
    InputError
        For another nuclide and for an unknown kind.

    Examples
    --------
    >>> from spectac.recon.types import Grid
    >>> from spectac.simulate.head import Head
    >>> from spectac.simulate.regions import LABEL
    >>> grid = Grid.upright((2, 2, 2), (10.0, 10.0, 10.0), (-5.0, -5.0, -5.0))
    >>> cortex = np.full(grid.shape, LABEL["left parietal cortex"], np.uint8)
    >>> head = Head(grid, cortex, np.ones(grid.shape, np.float32), {})
    >>> drawn = [draw(head, np.random.default_rng(1), kind=kind).relative.mean() for kind in ("normal", "alzheimer")]
    >>> bool(drawn[0] > drawn[1])
    True
    """
    kind = paint.chosen_kind(rng, KINDS, kind)
    drawn = one_of(rng, NUCLIDES.items())
    chosen = nuclide_by_name(drawn if nuclide is None else nuclide).name
    if chosen not in AGENTS:
        raise InputError(f"there is no perfusion tracer with {chosen}: use one of {', '.join(AGENTS)}")
    agent = one_of(rng, AGENTS[chosen].items())
    levels = _levels(rng, agent)
    spacing_mm, sd = between(rng, 14.0, 30.0), between(rng, 0.025, 0.05)
    factors = paint.texture(rng, head.grid, sd, spacing_mm)
    relative = paint.painted(head.labels, paint.table(levels), factors)

    parameters: dict[str, paint.Parameter] = {"kind": kind, "agent": agent, "texture_sd": sd, "texture_mm": spacing_mm}
    disease, stroke, focus = rng.spawn(3)
    lesion = None
    if kind in DEFICITS:
        _degenerate(relative, head, disease, kind, parameters)
    elif kind == "stroke":
        lesion = _stroke(relative, head, stroke, parameters)
    elif kind == "focus":
        lesion = _focus(relative, head, focus, parameters)

    kbq, numbers = paint.dose(rng, chosen, INJECTED_MBQ[agent], BRAIN_SHARE[agent], HOURS_AFTER_INJECTION[agent])
    parameters |= numbers | paint.named("level", levels)
    return paint.Painted(relative, kbq, BRAIN, chosen, parameters, lesion)


def _levels(rng: np.random.Generator, agent: str) -> dict[str, float]:
    """Levels of all regions; the cortex is about 1."""
    white = 1.0 / between(rng, *GREY_TO_WHITE)
    levels = {f"{side} {lobe} cortex": around(rng, 1.0, 0.04, 0.9, 1.1) for lobe in LOBES for side in SIDES}
    for side in SIDES:
        levels[f"{side} cingulate cortex"] *= 1.08
    tilt = rng.normal(1.0, 0.02)
    for name, least, most in (("caudate", 0.9, 1.15), ("putamen", 0.95, 1.2), ("thalamus", 0.95, 1.2)):
        level = between(rng, least, most)
        levels |= {f"right {name}": level * float(tilt), f"left {name}": level / float(tilt)}
    levels["cerebellar cortex"] = between(rng, 1.0, 1.25)
    # Twenty normal subjects, "SPECT imaging of normal subjects with Tc-99m-HMPAO and Tc-99m-ECD" (J Nucl Med 1997):
    # HMPAO is high in basal ganglia and cerebellum, ECD in the medial occipital lobe.
    strength = between(rng, 1.05, 1.2)
    if agent == "HMPAO":
        for name in ("right caudate", "left caudate", "right putamen", "left putamen", "cerebellar cortex"):
            levels[name] *= strength
    if agent == "ECD":
        for side in SIDES:
            levels[f"{side} occipital cortex"] *= strength
    levels["white matter"] = white
    levels["cerebellar white matter"] = white * between(rng, 1.0, 1.6)
    levels |= paint.drawn_levels(rng, _BESIDE_CORTEX)
    scale = between(rng, 0.25, 0.6)
    return levels | {name: level * scale for name, level in paint.soft_tissues(rng).items()}


def _degenerate(
    relative: Array, head: "Head", rng: np.random.Generator, kind: str, parameters: dict[str, paint.Parameter]
) -> None:
    """Lower the cortex of a neurodegenerative disease in place, one side more than the other."""
    severity, asymmetry = rng.random(), between(rng, 0.6, 1.4)
    for name, (least, most) in DEFICITS[kind].items():
        middle = least + (most - least) * float(np.clip(severity + rng.normal(0.0, 0.15), 0.0, 1.0))
        for side, share in zip(SIDES, (asymmetry, 2.0 - asymmetry), strict=True):
            loss = min(middle * share, 0.6)
            mask = paint.region(head.labels, f"{side} {name}")
            lost: Array | float = loss
            if kind == "frontotemporal" and name == "temporal cortex":
                lost = np.minimum(loss * 2.0 * (1.0 - paint.front_to_back(mask, head.grid)), 0.8)
            relative[mask] *= np.float32(1.0) - np.asarray(lost, np.float32)
            parameters[f"loss_{side}_{name.replace(' ', '_')}"] = loss


def _stroke(relative: Array, head: "Head", rng: np.random.Generator, parameters: dict[str, paint.Parameter]) -> Array:
    """Lower a wedge of one hemisphere in place, as of the middle cerebral artery or a branch of it; its mask.

    The wedge opens from the side's thalamus outwards. With crossed cerebellar diaschisis the cerebellar cortex of the
    other side falls too.
    """
    side, other = SIDES if rng.random() < 0.5 else SIDES[::-1]
    azimuth, elevation = np.radians(rng.uniform(-55.0, 55.0)), np.radians(rng.uniform(-10.0, 45.0))
    half_deg, start_mm, remaining = between(rng, 14.0, 45.0), between(rng, 8.0, 25.0), between(rng, 0.05, 0.45)
    is_crossed, crossed = bool(rng.random() < DIASCHISIS_SHARE), between(rng, 0.10, 0.35)

    deep = paint.points_mm(paint.region(head.labels, f"{side} thalamus"), head.grid)
    sign = 1.0 if side == "left" else -1.0
    apex = deep.mean(axis=0) if len(deep) else np.array([sign * 12.0, 10.0, 5.0])
    direction = np.array(
        [sign * np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    )
    mask = paint.region(
        head.labels, *(f"{side} {name}" for name in (*(f"{lobe} cortex" for lobe in LOBES), "white matter"))
    )
    mask |= paint.region(head.labels, f"{side} caudate", f"{side} putamen")
    away = paint.points_mm(mask, head.grid) - apex
    far = np.linalg.norm(away, axis=1)
    angle = np.degrees(np.arccos(np.clip(away @ direction / np.maximum(far, 1e-9), -1.0, 1.0)))
    # The rim is penumbra: it falls over 8 deg and 6 mm.
    depth = np.clip((half_deg - angle) / 8.0 + 0.5, 0.0, 1.0) * np.clip((far - start_mm) / 6.0 + 0.5, 0.0, 1.0)
    relative[mask] *= (1.0 - (1.0 - remaining) * depth).astype(np.float32)
    if is_crossed:
        relative[paint.region(head.labels, f"{other} cerebellar cortex")] *= np.float32(1.0 - crossed)
    parameters |= {
        "lesion_side": side,
        "lesion_half_angle_deg": half_deg,
        "lesion_remaining": remaining,
        "diaschisis": is_crossed,
        "diaschisis_side": other if is_crossed else "none",
        "diaschisis_loss": crossed if is_crossed else 0.0,
    }
    lesion = np.zeros(relative.shape, bool)
    lesion[mask] = depth > 0.5
    return lesion


def _focus(relative: Array, head: "Head", rng: np.random.Generator, parameters: dict[str, paint.Parameter]) -> Array:
    """Raise a ball of the brain about a place in the cortex in place; its mask."""
    radius_mm, strength = between(rng, 7.0, 20.0), between(rng, 0.3, 1.2)
    cortex = np.isin(head.labels, CORTEX)
    part = paint.ball(head.grid, paint.somewhere(rng, cortex, head.grid), radius_mm)
    part *= np.isin(head.labels, BRAIN)
    relative *= 1.0 + np.float32(strength) * part
    parameters |= {"lesion_mm": radius_mm, "lesion_gain": 1.0 + strength}
    return np.asarray(part > 0.5)
