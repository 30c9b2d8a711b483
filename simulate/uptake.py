"""What a virtual patient has taken up: kBq/mL in every voxel, its true numbers, and the regions to measure in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.quantify import striatal_binding_ratio
from spectac.recon.types import Array
from spectac.recon.voi import grouped
from spectac.simulate.regions import BRAIN, LABEL, SIDES
from spectac.simulate.tracers import dat, perfusion, randomised
from spectac.simulate.tracers.painting import Painted, Parameter

if TYPE_CHECKING:
    from spectac.simulate.head import Head

TRACERS = ("dat", "perfusion", "randomised")


@dataclass(frozen=True, eq=False)
class Uptake:
    """Activity in a head at the beginning of the acquisition.

    `kbq_per_ml` (z, y, x) float32 on the head's grid; `tracer` one of TRACERS; `parameters` everything that was drawn
    and the true numbers measured in the result ("sbr_...", "asymmetry_...", "mean_..."); `lesion` (z, y, x) bool marks
    a focal change, None where there is none.
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

    `nuclide` is drawn among those of the tracer unless it is given, and so is `kind`, the patient's case: one of
    dat.KINDS, perfusion.KINDS or randomised.KINDS.
    Raises InputError for an unknown tracer or kind, a nuclide that the tracer does not come with, and a head in which
    the tracer has nowhere to go.
    """
    if tracer not in TRACERS:
        raise InputError(f"tracer {tracer!r} is not one of {', '.join(TRACERS)}")
    if not np.isin(head.labels, randomised.PATIENT if tracer == "randomised" else BRAIN).any():
        raise InputError("the head holds none of the regions that take up the tracer: its field is too small")
    if tracer == "dat":
        if nuclide is not None and nuclide_by_name(nuclide).name != "I-123":
            raise InputError(f"the DAT tracer here is I-123 ioflupane: there is none with {nuclide}")
        drawn = dat.draw(head, rng, kind)
    elif tracer == "perfusion":
        drawn = perfusion.draw(head, rng, nuclide, kind)
    else:
        drawn = randomised.draw(head, rng, nuclide, kind)
    activity = _scaled(drawn, head)
    parameters = dict(drawn.parameters) | {"kbq": drawn.kbq} | _measured(activity, head.labels)
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


def _measured(activity: Array, labels: Array) -> dict[str, Parameter]:
    """True numbers of an activity: means in kBq/mL, binding ratios of the striata, their asymmetry, grey to white."""
    masks = vois(labels)
    means = {
        name: float(activity.mean(where=masks[name], dtype=np.float64))
        for name in ("reference", "cortex", "white matter", "cerebellum", "striata", "brain")
        if name in masks
    }
    found: dict[str, Parameter] = {f"mean_{name.replace(' ', '_')}": mean for name, mean in means.items()}
    if means.get("white matter", 0.0) > 0 and "cortex" in means:
        found["grey_to_white"] = means["cortex"] / means["white matter"]
    reference = means.get("reference", 0.0)
    if reference > 0:
        for part in ("caudate", "putamen", "striatum"):
            values = []
            for side in SIDES:
                if f"{side} {part}" in masks:
                    value = float(activity.mean(where=masks[f"{side} {part}"], dtype=np.float64))
                    found[f"sbr_{side}_{part}"] = striatal_binding_ratio(value, reference)
                    values.append(value)
            if len(values) == 2 and sum(values) > 0:
                found[f"asymmetry_{part}_percent"] = 200.0 * abs(values[0] - values[1]) / sum(values)
    return found


def vois(labels: Array, lesion: Array | None = None) -> dict[str, Array]:
    """Masks (z, y, x) by name of the regions that studies report; those that the head lacks are left out.

    Per side ("right ..." and "left ...") and together: caudate, putamen, thalamus, white matter, cerebellar cortex, and
    the cortex of every lobe; "right striatum", "left striatum", "striata"; "reference" (the occipital cortex, as in DAT
    scans); "cortex", "cerebellum", "brainstem", "brain", "ventricles", "inside the skull"; "lesion" where one is given.
    """
    masks = grouped(labels, {label: name for name, label in LABEL.items()})
    if lesion is not None:
        masks["lesion"] = np.asarray(lesion, bool)
    return {name: mask for name, mask in masks.items() if mask.any()}
