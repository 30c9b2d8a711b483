"""Uptake of no real tracer: the level of every region is drawn on its own, so that a network learns anatomy."""

from typing import TYPE_CHECKING

import numpy as np

from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.simulate.draws import between, one_of
from spectac.simulate.regions import REGIONS, SIDES
from spectac.simulate.tracers import painting as paint

if TYPE_CHECKING:
    from spectac.simulate.head import Head

KINDS = {"independent": 0.70, "flat": 0.12, "focal": 0.18}
"""Every region on its own; the whole head alike; a few hot regions over next to nothing."""

PATIENT = tuple(label for label in range(len(REGIONS)) if label not in paint.COLD)
"""Labels of the regions of the patient."""

NUCLIDES = {"I-123": 0.7, "Tc-99m": 0.3}
"""Shares of the nuclides."""

MEAN_KBQ_PER_ML = (1.5, 20.0)
"""Of the whole head: between a DAT scan of I-123 and a perfusion scan of Tc-99m."""


def draw(head: "Head", rng: np.random.Generator, nuclide: str | None = None, kind: str | None = None) -> paint.Painted:
    """Random uptake in a head.

    Parameters
    ----------
    head
        Virtual head.
    rng
        Generator.
    nuclide
        Name of a nuclide, drawn from NUCLIDES unless it is given.
    kind
        Case of KINDS, drawn unless it is given.

    Returns
    -------
    Painted
        Uptake whose mean over the patient, air left out, is the drawn mean_kbq_per_ml.

    Raises
    ------
    InputError
        For an unknown kind.

    Examples
    --------
    >>> from spectac.recon.types import Grid
    >>> from spectac.simulate.head import Head
    >>> from spectac.simulate.regions import LABEL
    >>> grid = Grid.upright((2, 2, 2), (10.0, 10.0, 10.0), (-5.0, -5.0, -5.0))
    >>> head = Head(grid, np.full(grid.shape, LABEL["muscle"], np.uint8), np.ones(grid.shape, np.float32), {})
    >>> drawn = draw(head, np.random.default_rng(1))
    >>> round(drawn.kbq / 8.0, 6) == round(drawn.parameters["mean_kbq_per_ml"], 6)
    True
    """
    kind = paint.chosen_kind(rng, KINDS, kind)
    drawn = one_of(rng, NUCLIDES.items())
    chosen = nuclide_by_name(drawn if nuclide is None else nuclide).name
    levels = _levels(rng, kind)
    strength, length_mm = between(rng, 0.0, 0.35), between(rng, 40.0, 90.0)
    fine, fine_mm = between(rng, 0.02, 0.10), between(rng, 12.0, 30.0)
    factors = paint.texture(rng, head.grid, fine, fine_mm)
    relative = paint.painted(head.labels, paint.table(levels), factors)
    # After the levels, so that the slope runs through the regions and not only inside of them.
    relative *= paint.texture(rng, head.grid, strength, length_mm)

    parameters: dict[str, paint.Parameter] = {"kind": kind, "gradient_sd": strength, "gradient_mm": length_mm}
    parameters |= {"texture_sd": fine, "texture_mm": fine_mm}
    patient = np.isin(head.labels, PATIENT)
    spots = int(rng.integers(0, 4)) if rng.random() < 0.3 else 0
    lesion = np.zeros(patient.shape, bool) if spots else None
    usual = float(relative[patient].mean())
    for number in range(spots):
        radius_mm, gain = between(rng, 6.0, 20.0), between(rng, -1.0, 3.0)
        part = paint.ball(head.grid, paint.somewhere(rng, patient, head.grid), radius_mm) * patient
        # Towards gain * the usual level above what is there; -1 takes everything away.
        relative += np.float32(gain) * part * (relative if gain < 0 else np.float32(usual))
        lesion = (part > 0.5) | lesion if lesion is not None else None
        parameters |= {f"spot_{number}_mm": radius_mm, f"spot_{number}_gain": gain}

    mean = float(np.exp(rng.uniform(*np.log(MEAN_KBQ_PER_ML))))
    parameters |= {"mean_kbq_per_ml": mean, "spots": spots}
    parameters |= paint.named("level", levels)
    kbq = mean * float(patient.sum()) * head.grid.voxel_ml
    return paint.Painted(relative, kbq, PATIENT, chosen, parameters, lesion)


def _levels(rng: np.random.Generator, kind: str) -> dict[str, float]:
    """Level of every region of the patient, at least one of them above 0; sides are alike in three of five pairs."""
    names = [REGIONS[label].name for label in PATIENT]
    levels: dict[str, float] = {}
    alike: dict[str, bool] = {}
    hot = {names[int(rng.integers(len(names)))] for _ in range(int(rng.integers(1, 5)))}
    floor, peak = between(rng, 0.0, 0.08), between(rng, 3.0, 12.0)
    for name in names:
        level = 0.0 if rng.random() < 0.12 else float(rng.uniform(0.0, 1.0) ** 1.5)
        if name.endswith("gland") and rng.random() < 0.5:
            level *= peak
        if kind == "flat":
            level = 1.0
        elif kind == "focal":
            level = peak * between(rng, 0.3, 1.0) if name in hot else floor * rng.random()
        first, _, rest = name.partition(" ")
        if first in SIDES:
            alike.setdefault(rest, bool(rng.random() < 0.6))
            if alike[rest] and f"{SIDES[0]} {rest}" in levels:
                level = levels[f"{SIDES[0]} {rest}"]
        levels[name] = level
    if not any(levels.values()):
        levels["skin"] = 1.0
    return levels
