"""Defects and hot spots put into a virtual patient's uptake: what a method for short scans may invent or wipe out.

The activity elsewhere stays as it was, so that one patient can be had with and without the change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from spectac.recon.errors import InputError
from spectac.recon.types import Array
from spectac.simulate.regions import BRAIN, SIDES
from spectac.simulate.tracers import painting as paint
from spectac.simulate.tracers.randomised import PATIENT
from spectac.simulate.uptake import Uptake, measured

if TYPE_CHECKING:
    from spectac.simulate.head import Head

RAMP = 0.1
"""An early loss begins over this share of the putamen's length on either side of its middle."""
WITHOUT_LOSS = ("healthy", "infarct")
"""Kinds of DAT patients whose striata have lost no binding over their whole length."""


class Kind(NamedTuple):
    """What a kind of defect needs.

    Parameters
    ----------
    size
        Usual size.
    limits
        Smallest and largest size.
    unit
        Unit of the size, in words.
    tracers
        Tracers that it is for.

    Examples
    --------
    >>> KINDS["cold"].unit
    'radius in mm'
    """

    size: float
    limits: tuple[float, float]
    unit: str
    tracers: tuple[str, ...]


_ANY = ("dat", "perfusion", "randomised")
KINDS: Mapping[str, Kind] = {
    "cold": Kind(8.0, (2.0, 16.0), "radius in mm", _ANY),
    "early": Kind(0.3, (0.01, 1.0), "lost share of the binding in the back half of a putamen", ("dat",)),
    "striatum": Kind(1.0, (0.01, 1.0), "lost share of the binding in a caudate and putamen", ("dat",)),
    "glands": Kind(5.0, (0.0, 100.0), "factor of the salivary glands", _ANY),
}
"""Kinds of defects. The deepest places of three drawn brains lay 16.5 to 18.5 mm from their surface."""


@dataclass(frozen=True)
class Defect:
    """A defect or hot spot.

    Parameters
    ----------
    kind
        One of KINDS.
    size
        Its size in the unit of the kind.

    Raises
    ------
    InputError
        For an unknown kind and for a size beyond the kind's limits.

    Examples
    --------
    >>> Defect.read("cold:12")
    Defect(kind='cold', size=12.0)
    """

    kind: str
    size: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"there is no defect {self.kind!r}: use one of {', '.join(KINDS)}")
        _, (least, most), unit, _ = KINDS[self.kind]
        if not least <= self.size <= most:
            raise InputError(f"the size of {self.kind} ({unit}) must be from {least:g} to {most:g}, not {self.size:g}")

    @classmethod
    def read(cls, text: str) -> "Defect":
        """Defect of a text KIND or KIND:SIZE; without a size the usual one.

        Parameters
        ----------
        text
            The text.

        Raises
        ------
        InputError
            For an unknown kind, and a size that is no number or beyond the kind's limits.

        Examples
        --------
        >>> Defect.read("glands").size
        5.0
        """
        kind, colon, size = text.strip().partition(":")
        try:
            number = float(size) if colon else KINDS[kind].size
        except KeyError:
            number = 0.0  # the kind is refused below
        except ValueError:
            raise InputError(f"{text!r} is no defect: give a number after the colon, such as cold:8") from None
        return cls(kind, number)

    def check_tracer(self, tracer: str) -> None:
        """InputError where the defect is not for a tracer.

        Parameters
        ----------
        tracer
            Name of the tracer.
        """
        tracers = KINDS[self.kind].tracers
        if tracer not in tracers:
            raise InputError(f"the defect {self.kind} is for the tracer {' or '.join(tracers)}, not {tracer}")


def with_defect(uptake: Uptake, head: "Head", defect: Defect, rng: np.random.Generator) -> Uptake:
    """An uptake with a defect.

    What is measured in the activity ("kbq", "mean_...", "sbr_...", "asymmetry_...") is measured anew; what was drawn
    stays.

    Parameters
    ----------
    uptake
        Uptake of the head.
    head
        Virtual head.
    defect
        What is put in.
    rng
        Generator of side and place.

    Returns
    -------
    Uptake
        The activity is changed inside the defect alone, which joins `lesion`.

    Raises
    ------
    InputError
        For a tracer that the defect is not for, a patient who has lost the binding already, a head without the region,
        and a defect that changes nothing.

    Examples
    --------
    >>> from spectac.recon.types import Grid
    >>> from spectac.simulate.head import Head
    >>> from spectac.simulate.regions import LABEL
    >>> grid = Grid.upright((1, 1, 2), (10.0, 10.0, 10.0), (-5.0, 0.0, 0.0))
    >>> labels = np.array([[[LABEL["right parotid gland"], LABEL["right white matter"]]]], np.uint8)
    >>> head = Head(grid, labels, np.ones(grid.shape, np.float32), {})
    >>> uptake = Uptake(np.ones(grid.shape, np.float32), "I-123", "dat", {})
    >>> with_defect(uptake, head, Defect("glands", 4.0), np.random.default_rng(1)).kbq_per_ml.tolist()
    [[[4.0, 1.0]]]
    """
    defect.check_tracer(uptake.tracer)
    side = SIDES[int(rng.integers(2))]
    numbers: dict[str, paint.Parameter] = {"defect": defect.kind, "defect_size": defect.size}
    if defect.kind == "cold":
        factors, centre_mm = _cold_ball(head, defect.size, rng)
        numbers |= {f"defect_{axis}_mm": float(mm) for axis, mm in zip("xyz", centre_mm, strict=True)}
    elif defect.kind == "glands":
        factors = _glands(head, defect.size)
    else:
        kind = str(uptake.parameters.get("kind", "healthy"))
        if kind not in WITHOUT_LOSS:
            raise InputError(f"the patient's striata have lost binding already (kind {kind}): use the kind healthy")
        factors = _BINDING[defect.kind](uptake, head, side, defect.size)
        numbers["defect_side"] = side
    changed = factors != 1.0
    if not changed.any():
        raise InputError(f"the defect {defect.kind} of size {defect.size:g} changes nothing in this patient")
    activity = np.asarray(uptake.kbq_per_ml * factors, np.float32)
    inside = np.isin(head.labels, PATIENT if uptake.tracer == "randomised" else BRAIN)
    numbers["kbq"] = float(activity.sum(where=inside, dtype=np.float64)) * head.grid.voxel_ml
    return replace(
        uptake,
        kbq_per_ml=activity,
        parameters={**uptake.parameters, **numbers, **measured(activity, head.labels)},
        lesion=changed if uptake.lesion is None else changed | uptake.lesion,
    )


def _cold_ball(head: "Head", radius_mm: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Factors (z, y, x) of a sharp ball without activity inside the brain, and its centre (x, y, z) in mm."""
    brain = np.isin(head.labels, BRAIN)
    deep = distance_transform_edt(brain, sampling=head.grid.voxel_mm) >= radius_mm
    if not deep.any():
        raise InputError(f"no ball of {radius_mm:g} mm lies inside this head's brain: use a smaller one")
    centre_mm = paint.somewhere(rng, deep, head.grid)
    z, y, x = head.grid.centres_mm()
    square = (
        (z[:, None, None] - centre_mm[2]) ** 2
        + (y[None, :, None] - centre_mm[1]) ** 2
        + (x[None, None, :] - centre_mm[0]) ** 2
    )
    return np.where(square <= radius_mm**2, np.float32(0.0), np.float32(1.0)), centre_mm


def _glands(head: "Head", factor: float) -> Array:
    """Factors (z, y, x) of the salivary glands."""
    return np.where(_region(head, "parotid gland", "submandibular gland"), np.float32(factor), np.float32(1.0))


def _early(uptake: Uptake, head: "Head", side: str, lost: float) -> Array:
    """Factors (z, y, x) of a loss in the back half of a putamen."""
    putamen = _region(head, f"{side} putamen")
    place = paint.front_to_back(putamen, head.grid)
    return _less_binding(uptake, head, putamen, lost * np.clip((place - 0.5) / (2.0 * RAMP) + 0.5, 0.0, 1.0))


def _striatum(uptake: Uptake, head: "Head", side: str, lost: float) -> Array:
    """Factors (z, y, x) of a loss in a caudate and putamen."""
    return _less_binding(uptake, head, _region(head, f"{side} caudate", f"{side} putamen"), lost)


_BINDING: Mapping[str, Callable[[Uptake, "Head", str, float], Array]] = {"early": _early, "striatum": _striatum}
"""Factors of the defects that take binding, by kind."""


def _less_binding(uptake: Uptake, head: "Head", mask: Array, lost: Array | float) -> Array:
    """Factors (z, y, x) that bring the activity in a mask nearer to the reference, by a share of the distance."""
    reference = float(uptake.kbq_per_ml.mean(where=_region(head, "occipital cortex"), dtype=np.float64))
    activity = uptake.kbq_per_ml[mask].astype(np.float64)
    factors = np.ones(head.labels.shape, np.float32)
    lowered = lost * (activity - reference)
    factors[mask] = 1.0 - np.divide(lowered, activity, out=np.zeros_like(activity), where=activity > 0)
    return factors


def _region(head: "Head", *names: str) -> Array:
    """Mask (z, y, x) of regions; InputError where the head holds none of them."""
    mask = paint.region(head.labels, *names)
    if not mask.any():
        raise InputError(f"the head holds no {' or '.join(names)}")
    return mask
