"""What a virtual patient has taken up: kBq/mL in every voxel, its true numbers, and the regions to measure in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.quantify import striatal_binding_ratio
from spectac.recon.types import Array
from spectac.recon.voi import grouped
from spectac.simulate.regions import BRAIN, LABEL, SIDES
from spectac.simulate.tracers import dat, perfusion, randomised
from spectac.simulate.tracers.painting import Painted, Parameter, named

if TYPE_CHECKING:
    from spectac.simulate.head import Head

_DRAW = {"dat": dat.draw, "perfusion": perfusion.draw, "randomised": randomised.draw}

TRACERS = tuple(_DRAW)
"""Names of the tracers."""
KINDS: Mapping[str, tuple[str, ...]] = {
    "dat": tuple(dat.KINDS), "perfusion": tuple(perfusion.KINDS), "randomised": tuple(randomised.KINDS)
}  # fmt: skip
"""Cases of each tracer's patients."""


@dataclass(frozen=True, eq=False)
class Uptake:
    """Activity in a head at the beginning of the acquisition.

    Parameters
    ----------
    kbq_per_ml
        (z, y, x) float32 on the head's grid.
    nuclide
        Name of the nuclide.
    tracer
        One of TRACERS.
    parameters
        Everything that was drawn, and the true numbers measured in the result ("sbr_...", "asymmetry_...", "mean_...").
    lesion
        (z, y, x) bool of a focal change, None where there is none.

    Examples
    --------
    >>> uptake = Uptake(np.full((2, 2, 2), 5.0, np.float32), "I-123", "dat", parameters={})
    >>> float(uptake.kbq_per_ml.mean())
    5.0
    """

    kbq_per_ml: Array
    nuclide: str
    tracer: str
    parameters: Mapping[str, Parameter]
    lesion: Array | None = None


def draw_uptake(
    tracer: str,
    head: "Head",
    rng: np.random.Generator,
    *,
    nuclide: str | None = None,
    kind: str | None = None,
) -> Uptake:
    """A random uptake of a tracer in a head, a function of `rng` alone.

    Parameters
    ----------
    tracer
        One of TRACERS.
    head
        Virtual head.
    rng
        Generator.
    nuclide
        Name of a nuclide; drawn among those of the tracer unless it is given.
    kind
        The patient's case, of dat.KINDS, perfusion.KINDS or randomised.KINDS; drawn unless it is given.

    Returns
    -------
    Uptake
        Activity at the beginning of the acquisition, and all that was drawn.

    Raises
    ------
    InputError
        For an unknown tracer or kind, a nuclide that the tracer does not come with, and a head in which the tracer has
        nowhere to go.

    Examples
    --------
    >>> from spectac.simulate.head import draw_head
    >>> head = draw_head(np.random.default_rng(7), voxel_mm=4.0)
    >>> uptake = draw_uptake("dat", head, np.random.default_rng(8), kind="healthy")
    >>> uptake.nuclide, uptake.parameters["kind"]
    ('I-123', 'healthy')
    """
    if tracer not in TRACERS:
        raise InputError(f"tracer {tracer!r} is not one of {', '.join(TRACERS)}")
    if not np.isin(head.labels, randomised.PATIENT if tracer == "randomised" else BRAIN).any():
        raise InputError("the head holds none of the regions that take up the tracer: its field is too small")
    drawn = _DRAW[tracer](head, rng, nuclide, kind)
    activity = _scaled(drawn, head)
    parameters = dict(drawn.parameters) | {"kbq": drawn.kbq} | measured(activity, head.labels)
    lesion = drawn.lesion if drawn.lesion is not None and drawn.lesion.any() else None
    return Uptake(activity, drawn.nuclide, tracer, parameters, lesion)


def _scaled(drawn: Painted, head: "Head") -> Array:
    """Activity (z, y, x) in kBq/mL."""
    wanted = np.zeros(len(LABEL), bool)
    wanted[list(drawn.over)] = True
    inside = float(drawn.relative.sum(where=wanted[head.labels], dtype=np.float64)) * head.grid.voxel_ml
    if not inside > 0:
        raise InputError("no region of the head has taken up anything: draw another uptake")
    return np.asarray(drawn.relative * np.float32(drawn.kbq / inside), dtype=np.float32)


def measured(activity: Array, labels: Array) -> dict[str, Parameter]:
    """True numbers of an activity.

    Parameters
    ----------
    activity
        (z, y, x) in kBq/mL.
    labels
        (z, y, x) labels of the head.

    Returns
    -------
    dict of str to float
        Means in kBq/mL, binding ratios of the striata, their asymmetry, grey to white; those whose regions are there.

    Examples
    --------
    >>> labels = np.array([[[LABEL["left putamen"], LABEL["left occipital cortex"]]]])
    >>> round(measured(np.array([[[6.0, 2.0]]]), labels)["sbr_left_putamen"], 6)
    2.0
    """
    masks = vois(labels)

    def mean(name: str) -> float:
        return float(activity.mean(where=masks[name], dtype=np.float64))

    reported = ("reference", "cortex", "white matter", "cerebellum", "striata", "brain")
    means = {name: mean(name) for name in reported if name in masks}
    numbers = named("mean", means)
    if means.get("white matter", 0.0) > 0 and "cortex" in means:
        numbers["grey_to_white"] = means["cortex"] / means["white matter"]
    reference = means.get("reference", 0.0)
    for part in ("caudate", "putamen", "striatum") if reference > 0 else ():
        values = {side: mean(f"{side} {part}") for side in SIDES if f"{side} {part}" in masks}
        for side, value in values.items():
            numbers[f"sbr_{side}_{part}"] = striatal_binding_ratio(value, reference)
        if len(values) == 2 and sum(values.values()) > 0:
            right, left = values.values()
            numbers[f"asymmetry_{part}_percent"] = 200.0 * abs(right - left) / (right + left)
    return numbers


def vois(labels: Array, lesion: Array | None = None) -> dict[str, Array]:
    """Masks (z, y, x) by name of the regions that studies report; those that the head lacks are left out.

    Per side ("right ..." and "left ...") and together: caudate, putamen, thalamus, white matter, cerebellar cortex, and
    the cortex of every lobe; "right striatum", "left striatum", "striata"; "reference" (the occipital cortex, as in DAT
    scans); "cortex", "cerebellum", "brainstem", "brain", "ventricles", "inside the skull"; "lesion" where one is given.

    Parameters
    ----------
    labels
        (z, y, x) labels of a head.
    lesion
        (z, y, x) mask of a focal change.

    Returns
    -------
    dict of str to Array
        Masks (z, y, x) bool by name.

    Examples
    --------
    >>> labels = np.full((2, 2, 2), LABEL["left putamen"], np.uint8)
    >>> sorted(vois(labels))
    ['brain', 'inside the skull', 'left putamen', 'left striatum', 'putamen', 'striata']
    """
    masks = grouped(labels, {label: name for name, label in LABEL.items()})
    if lesion is not None:
        masks["lesion"] = np.asarray(lesion, bool)
    return {name: mask for name, mask in masks.items() if mask.any()}
