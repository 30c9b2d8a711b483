"""Dopamine transporter tracer (I-123 ioflupane): striata over an almost even brain, healthy or with losses.

Levels are relative to the occipital cortex, the usual reference. Binding ratios are of the tissue itself: what a camera
shows is lower by its resolution. Levels without a source in a comment are assumed from what clinical images show.
"""

from typing import TYPE_CHECKING

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import Array
from spectac.simulate.draws import around, between
from spectac.simulate.regions import BRAIN, LOBES, SIDES
from spectac.simulate.tracers import painting as paint

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


_BRAIN = {"white matter": (0.82, 1.02), "cerebellar white matter": (0.82, 1.0), "cerebellar cortex": (0.85, 1.05)}
"""Range of the level of each region over the occipital cortex's."""

_BESIDE_BRAIN = {
    "csf": (0.05, 0.2),
    "ventricles": (0.05, 0.2),
    "choroid plexus": (0.6, 2.5),
    "spinal cord": (0.5, 0.9),
    "eye": (0.1, 0.4),
}
"""The same outside of the brain."""

HOURS_AFTER_INJECTION = (3.0, 6.0)
"""Begin of the acquisition."""


def draw(head: "Head", rng: np.random.Generator, nuclide: str | None = None, kind: str | None = None) -> paint.Painted:
    """Uptake of a DAT scan in a head.

    All kinds use the same random numbers, so that one seed gives one patient with different losses.

    Parameters
    ----------
    head
        Virtual head.
    rng
        Generator.
    nuclide
        I-123, or None.
    kind
        Case of KINDS, drawn unless it is given.

    Returns
    -------
    Painted
        Uptake whose parameters hold the levels over the occipital cortex's and the losses.

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
    >>> putamen = np.full(grid.shape, LABEL["left putamen"], np.uint8)
    >>> head = Head(grid, putamen, np.ones(grid.shape, np.float32), {"age_years": 60.0})
    >>> drawn = [draw(head, np.random.default_rng(1), kind=kind) for kind in ("healthy", "absent")]
    >>> [round(one.parameters["level_left_putamen"], 1) for one in drawn]
    [8.1, 1.4]
    """
    if nuclide is not None and nuclide_by_name(nuclide).name != "I-123":
        raise InputError(f"the DAT tracer here is I-123 ioflupane: there is none with {nuclide}")
    kind = paint.chosen_kind(rng, KINDS, kind)
    age = float(head.parameters.get("age_years", 60.0))
    levels = _background(rng, age)
    ratios, losses, more = _striata(rng, age, kind)
    for name, ratio in ratios.items():
        levels[name] = 1.0 + ratio * (1.0 - losses[name])

    spacing_mm, sd = between(rng, 14.0, 30.0), between(rng, 0.025, 0.05)
    factors = paint.texture(rng, head.grid, sd, spacing_mm)
    steepness = between(rng, 0.2, 0.7)
    for side in SIDES:
        mask = paint.region(head.labels, f"{side} putamen")
        place, ratio = paint.front_to_back(mask, head.grid), levels[f"{side} putamen"] - 1.0
        factors[mask] *= _gradient(place, ratio, losses[f"{side} putamen"], steepness)
    relative = paint.painted(head.labels, paint.table(levels), factors)
    lesion, infarct = _infarct(relative, head, rng, kind)
    kbq, numbers = paint.dose(rng, "I-123", INJECTED_MBQ, BRAIN_SHARE, HOURS_AFTER_INJECTION)
    parameters: dict[str, paint.Parameter] = {
        "kind": kind,
        "steepness": steepness,
        "texture_sd": sd,
        "texture_mm": spacing_mm,
        **numbers,
        **more,
        **paint.named("loss", losses),
        **paint.named("level", levels),
        **infarct,
    }
    return paint.Painted(relative, kbq, BRAIN, "I-123", parameters, lesion)


def _infarct(
    relative: Array, head: "Head", rng: np.random.Generator, kind: str
) -> tuple[Array | None, dict[str, paint.Parameter]]:
    """Lower a ball of the striatum in place; its mask and numbers. Other kinds draw it and leave it out."""
    side = SIDES[int(rng.integers(2))]
    radius_mm = between(rng, 5.0, 10.0)
    remaining = between(rng, 0.0, 0.3)
    striatum = paint.region(head.labels, f"{side} caudate", f"{side} putamen")
    centre_mm = paint.somewhere(rng, striatum, head.grid)
    if kind != "infarct":
        return None, {}
    part = paint.ball(head.grid, centre_mm, radius_mm)
    part *= paint.region(head.labels, "caudate", "putamen", "white matter")
    relative *= 1.0 - np.float32(1.0 - remaining) * part
    numbers: dict[str, paint.Parameter] = {
        "lesion_side": side, "lesion_mm": radius_mm, "lesion_remaining": remaining
    }  # fmt: skip
    return np.asarray(part > 0.5), numbers


def _background(rng: np.random.Generator, age: float) -> dict[str, float]:
    """Levels of all regions but the striata; the occipital cortex is 1."""
    levels = {f"{lobe} cortex": around(rng, 1.0, 0.05, 0.85, 1.15) for lobe in LOBES}
    levels["occipital cortex"] = 1.0
    levels |= paint.drawn_levels(rng, _BRAIN)
    # Serotonin transporters, 3 h after injection: diencephalon 0.51 +- 0.10 and midbrain 0.21 +- 0.12 over occipital
    # (jnm.snmjournals.org/highwire/markup/60917, table 2); thalamus -8.2, pons -6.8 % a decade (Koch et al.,
    # "Extrastriatal binding of [123I]FP-CIT in the thalamus and pons", 103 healthy controls).
    levels["thalamus"] = 1.0 + around(rng, 0.45, 0.15, 0.1, 0.9) * 0.918 ** ((age - 60.0) / 10.0)
    levels["brainstem"] = 1.0 + around(rng, 0.21, 0.12, 0.0, 0.5) * 0.932 ** ((age - 60.0) / 10.0)
    return levels | paint.drawn_levels(rng, _BESIDE_BRAIN) | paint.soft_tissues(rng)


def _striata(
    rng: np.random.Generator, age: float, kind: str
) -> tuple[dict[str, float], dict[str, float], dict[str, paint.Parameter]]:
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


def _gradient(place: Array, ratio: float, loss: float, steepness: float) -> Array:
    """Factors of the uptake along the putamen: where part is lost, more is left in front than at the back."""
    if loss == 0.0 or place.size == 0:
        return np.ones(place.size, np.float32)
    lost = np.clip(loss * (1.0 + steepness * (2.0 * place - 1.0)), 0.0, 0.995)
    binding = ratio * (1.0 - lost) / max(float(np.mean(1.0 - lost)), 1e-6)
    return np.asarray((1.0 + binding) / (1.0 + ratio), dtype=np.float32)
