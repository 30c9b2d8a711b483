"""Dopamine transporter tracer (I-123 ioflupane): striata over an almost even brain, healthy or with losses.

Levels are relative to the occipital cortex, the usual reference. Binding ratios are of the tissue itself: what a camera
shows is lower by its resolution. Levels without a source in a comment are assumed from what clinical images show.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import Array
from spectac.simulate.regions import BRAIN, LOBES, SIDES
from spectac.simulate.tracers.painting import (
    Painted,
    Parameter,
    around,
    ball,
    between,
    front_to_back,
    one_of,
    painted,
    region,
    soft_tissues,
    somewhere,
    table,
    texture,
)

if TYPE_CHECKING:
    from spectac.simulate.head import Head

KINDS = {"healthy": 0.30, "unilateral": 0.22, "bilateral": 0.30, "absent": 0.10, "infarct": 0.08}
"""Shares of the cases: no loss; putamen of one side; both sides; no putamen left; a small infarct and no other loss."""

SBR_AT_60 = (5.5, 0.9)
"""Mean and standard deviation of healthy striata at 60 years (assumed: images show about 4 after their blur)."""

LOSS_PER_DECADE = 0.066
"""6.6 % a decade: J Nucl Med 2018;59(suppl 1):1646 (I-123 ioflupane, 133 normal scans, 41-80 years, CI 3.7-9.5 %);
Volkow et al., J Nucl Med 1996;37:554-559 (PET) find the same."""

INJECTED_MBQ = (111.0, 185.0)
"""Range of the product information (EMA)."""

BRAIN_SHARE = (0.03, 0.05)
"""Of the injected activity, 3-6 h after injection: 7 % at 10 min and 3 % at 5 h (product information)."""


def draw(head: "Head", rng: np.random.Generator, kind: str | None = None) -> Painted:
    """Uptake of a DAT scan in a head; `kind` is drawn from KINDS unless it is given.

    All kinds use the same random numbers, so that one seed gives one patient with different losses.
    """
    drawn = one_of(rng, KINDS)
    if kind is not None and kind not in KINDS:
        raise InputError(f"kind {kind!r} is not one of {', '.join(KINDS)}")
    kind = drawn if kind is None else kind
    age = float(head.parameters.get("age_years", 60.0))
    levels = _background(rng, age)
    ratios, losses, more = _striata(rng, age, kind)
    for name, ratio in ratios.items():
        levels[name] = 1.0 + ratio * (1.0 - losses[name])

    spacing_mm, sd = between(rng, 14.0, 30.0), between(rng, 0.025, 0.05)
    factors = texture(rng, head.grid, sd, spacing_mm)
    steepness = between(rng, 0.2, 0.7)
    for side in SIDES:
        mask = region(head.labels, f"{side} putamen")
        factors[mask] *= _gradient(
            front_to_back(mask, head.grid), levels[f"{side} putamen"] - 1.0, losses, side, steepness
        )
    relative = painted(head.labels, table(levels), factors)

    infarct_side = SIDES[int(rng.integers(2))]
    infarct_mm = between(rng, 5.0, 10.0)
    remaining = between(rng, 0.0, 0.3)
    centre_mm = somewhere(rng, region(head.labels, f"{infarct_side} caudate", f"{infarct_side} putamen"), head.grid)
    lesion = None
    if kind == "infarct":
        part = ball(head.grid, centre_mm, infarct_mm)
        part *= region(head.labels, "caudate", "putamen", "white matter")
        relative *= 1.0 - np.float32(1.0 - remaining) * part
        lesion = np.asarray(part > 0.5)

    injected, share, hours = between(rng, *INJECTED_MBQ), between(rng, *BRAIN_SHARE), between(rng, 3.0, 6.0)
    decay = float(np.exp2(-hours * 3600.0 / nuclide_by_name("I-123").half_life_s))
    parameters: dict[str, Parameter] = {
        "kind": kind,
        "steepness": steepness,
        "texture_sd": sd,
        "texture_mm": spacing_mm,
        "injected_mbq": injected,
        "brain_share": share,
        "hours_after_injection": hours,
        **more,
        **{f"loss_{name.replace(' ', '_')}": loss for name, loss in losses.items()},
        **{f"level_{name.replace(' ', '_')}": level for name, level in levels.items()},
    }
    if lesion is not None:
        parameters |= {"lesion_side": infarct_side, "lesion_mm": infarct_mm, "lesion_remaining": remaining}
    return Painted(relative, 1000.0 * injected * share * decay, BRAIN, "I-123", parameters, lesion)


def _background(rng: np.random.Generator, age: float) -> dict[str, float]:
    """Levels of all regions but the striata; the occipital cortex is 1."""
    levels = {f"{lobe} cortex": around(rng, 1.0, 0.05, 0.85, 1.15) for lobe in LOBES}
    levels["occipital cortex"] = 1.0
    levels["white matter"] = between(rng, 0.82, 1.02)
    levels["cerebellar white matter"] = between(rng, 0.82, 1.0)
    levels["cerebellar cortex"] = between(rng, 0.85, 1.05)
    # Serotonin transporters, 3 h after injection: diencephalon 0.51 +- 0.10 and midbrain 0.21 +- 0.12 over occipital
    # (jnm.snmjournals.org/highwire/markup/60917, table 2); thalamus -8.2, pons -6.8 % a decade (Koch et al.,
    # "Extrastriatal binding of [123I]FP-CIT in the thalamus and pons", 103 healthy controls).
    levels["thalamus"] = 1.0 + around(rng, 0.45, 0.15, 0.1, 0.9) * 0.918 ** ((age - 60.0) / 10.0)
    levels["brainstem"] = 1.0 + around(rng, 0.21, 0.12, 0.0, 0.5) * 0.932 ** ((age - 60.0) / 10.0)
    levels["csf"] = between(rng, 0.05, 0.2)
    levels["ventricles"] = between(rng, 0.05, 0.2)
    levels["choroid plexus"] = between(rng, 0.6, 2.5)
    levels["spinal cord"] = between(rng, 0.5, 0.9)
    levels["eye"] = between(rng, 0.1, 0.4)
    return levels | soft_tissues(rng)


def _striata(
    rng: np.random.Generator, age: float, kind: str
) -> tuple[dict[str, float], dict[str, float], dict[str, Parameter]]:
    """Healthy binding ratios and lost shares by region ("right caudate", ...), and what else was drawn.

    At the onset of Parkinson's disease 51-64 % of the putamen and 39-51 % of the striatum are lost (I-123 beta-CIT,
    less and more affected side: Tissingh et al. 1998 in the table of Ann Neurol 2010;67:715, doi 10.1002/ana.21995):
    the caudate follows the putamen late.
    """
    healthy = around(rng, *SBR_AT_60, 3.5, 7.5) * (1.0 - LOSS_PER_DECADE) ** ((max(age, 20.0) - 60.0) / 10.0)
    caudate = between(rng, 0.95, 1.15)
    ratios = {}
    for side in SIDES:
        ratios[f"{side} caudate"] = healthy * caudate * between(rng, 0.96, 1.04)
        ratios[f"{side} putamen"] = healthy * between(rng, 0.96, 1.04)
    ratios = {name: float(np.clip(ratio, 1.5, 8.0)) for name, ratio in ratios.items()}

    worse = SIDES[int(rng.integers(2))]
    early, late, gone = between(rng, 0.25, 0.75), between(rng, 0.40, 0.85), between(rng, 0.88, 0.98)
    other, lag = between(rng, 0.4, 0.95), between(rng, 0.2, 0.45)
    putamen = {"unilateral": early, "bilateral": late, "absent": gone}.get(kind, 0.0)
    least = {"unilateral": 0.0, "bilateral": late * other, "absent": gone}.get(kind, 0.0)
    losses: dict[str, float] = {}
    for side in SIDES:
        loss = putamen if side == worse else least
        losses[f"{side} putamen"] = loss
        losses[f"{side} caudate"] = max(0.0, loss - lag)
    return ratios, losses, {"worse_side": worse if putamen else "none", "healthy_sbr": healthy, "age_years": age}


def _gradient(place: Array, ratio: float, losses: Mapping[str, float], side: str, steepness: float) -> Array:
    """Factors of the uptake along the putamen: where part is lost, more is left in front than at the back."""
    loss = losses[f"{side} putamen"]
    if loss == 0.0 or place.size == 0:
        return np.ones(place.size, np.float32)
    lost = np.clip(loss * (1.0 + steepness * (2.0 * place - 1.0)), 0.0, 0.995)
    binding = ratio * (1.0 - lost) / max(float(np.mean(1.0 - lost)), 1e-6)
    return np.asarray((1.0 + binding) / (1.0 + ratio), dtype=np.float32)
