"""Focal defects put into a virtual patient's uptake: what a method for short scans may invent or wipe out.

The activity elsewhere stays as it was, so that one patient can be had with and without the defect.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from spectac.recon.errors import InputError
from spectac.recon.types import Array
from spectac.simulate.regions import BRAIN, SIDES
from spectac.simulate.tracers import painting as paint
from spectac.simulate.uptake import Uptake, measured

if TYPE_CHECKING:
    from spectac.simulate.head import Head

BACK_HALF_RAMP = 0.1
"""An early loss begins over this share of the putamen's length on either side of its middle."""


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


KINDS: Mapping[str, Kind] = {
    "cold": Kind(8.0, (2.0, 40.0), "radius in mm", ("dat", "perfusion", "randomised")),
    "early": Kind(0.3, (0.0, 1.0), "lost share of the binding in the back half of a putamen", ("dat",)),
    "striatum": Kind(1.0, (0.0, 1.0), "lost share of the binding in a caudate and putamen", ("dat",)),
    "glands": Kind(5.0, (0.0, 100.0), "factor of the salivary glands", ("dat", "perfusion", "randomised")),
}
"""Kinds of defects."""


@dataclass(frozen=True)
class Defect:
    """A focal defect.

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
            For another form, an unknown kind, or a size beyond the kind's limits.

        Examples
        --------
        >>> Defect.read("glands").size
        5.0
        """
        found = re.fullmatch(r"\w+(:\d+(\.\d*)?)?", text.strip())
        kind, _, size = text.strip().partition(":")
        if found is None:
            raise InputError(f"{text!r} is no defect: give KIND or KIND:SIZE, such as cold:8")
        return cls(kind, float(size) if size else KINDS[kind].size if kind in KINDS else 0.0)


def with_defect(uptake: Uptake, head: "Head", defect: Defect, rng: np.random.Generator) -> Uptake:
    """An uptake with a defect; its numbers are measured anew.

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
        The activity is changed inside the defect alone, `lesion` is the defect's mask.

    Raises
    ------
    InputError
        For a tracer that the defect is not for, and a head that lacks the region.

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
    tracers = KINDS[defect.kind].tracers
    if uptake.tracer not in tracers:
        raise InputError(f"the defect {defect.kind} is for the tracer {' or '.join(tracers)}, not {uptake.tracer}")
    side = SIDES[int(rng.integers(2))]
    factors, about = _FACTORS[defect.kind](uptake, head, defect.size, side, rng)
    activity = np.asarray(uptake.kbq_per_ml * factors, np.float32)
    numbers: dict[str, paint.Parameter] = {"defect": defect.kind, "defect_size": defect.size, **about}
    parameters = {**uptake.parameters, **numbers, **measured(activity, head.labels)}
    return replace(uptake, kbq_per_ml=activity, parameters=parameters, lesion=factors != 1.0)


About = dict[str, paint.Parameter]


def _cold(uptake: Uptake, head: "Head", radius_mm: float, side: str, rng: np.random.Generator) -> tuple[Array, About]:
    """A sharp ball without activity inside the brain: in a random place that is deep enough, or in the deepest one."""
    depth_mm = distance_transform_edt(np.isin(head.labels, BRAIN), sampling=head.grid.voxel_mm)
    if not depth_mm.any():
        raise InputError("the head holds no brain for a cold lesion")
    enough = depth_mm >= min(radius_mm, float(depth_mm.max()))
    centre = paint.somewhere(rng, enough, head.grid)
    z, y, x = head.grid.centres_mm()
    away = np.sqrt(
        (z[:, None, None] - centre[2]) ** 2 + (y[None, :, None] - centre[1]) ** 2 + (x[None, None, :] - centre[0]) ** 2
    )
    place = {f"defect_{axis}_mm": float(mm) for axis, mm in zip("xyz", centre, strict=True)}
    return np.where(away <= radius_mm, np.float32(0.0), np.float32(1.0)), dict(place)


def _reference(uptake: Uptake, head: "Head") -> float:
    """Mean of the occipital cortex, over which binding is counted."""
    mask = paint.region(head.labels, "occipital cortex")
    if not mask.any():
        raise InputError("the head holds no occipital cortex, over which binding is counted")
    return float(uptake.kbq_per_ml.mean(where=mask, dtype=np.float64))


def _less_binding(uptake: Uptake, head: "Head", mask: Array, lost: Array | float) -> Array:
    """Factors (z, y, x) that take a share of the activity above the reference from a mask."""
    reference, here = _reference(uptake, head), uptake.kbq_per_ml[mask].astype(np.float64)
    factors = np.ones(head.labels.shape, np.float32)
    binding = np.maximum(here - reference, 0.0)
    factors[mask] = 1.0 - np.divide(lost * binding, here, out=np.zeros_like(here), where=here > 0)
    return factors


def _early(uptake: Uptake, head: "Head", lost: float, side: str, rng: np.random.Generator) -> tuple[Array, About]:
    mask = paint.region(head.labels, f"{side} putamen")
    if not mask.any():
        raise InputError(f"the head holds no {side} putamen")
    place = paint.front_to_back(mask, head.grid)
    share = np.clip((place - 0.5) / (2.0 * BACK_HALF_RAMP) + 0.5, 0.0, 1.0)
    return _less_binding(uptake, head, mask, lost * share), {"defect_side": side}


def _striatum(uptake: Uptake, head: "Head", lost: float, side: str, rng: np.random.Generator) -> tuple[Array, About]:
    mask = paint.region(head.labels, f"{side} caudate", f"{side} putamen")
    if not mask.any():
        raise InputError(f"the head holds no {side} striatum")
    return _less_binding(uptake, head, mask, lost), {"defect_side": side}


def _glands(uptake: Uptake, head: "Head", factor: float, side: str, rng: np.random.Generator) -> tuple[Array, About]:
    mask = paint.region(head.labels, "parotid gland", "submandibular gland")
    if not mask.any():
        raise InputError("the head holds no salivary glands")
    return np.where(mask, np.float32(factor), np.float32(1.0)), {}


_FACTORS: Mapping[str, Callable[[Uptake, "Head", float, str, np.random.Generator], tuple[Array, About]]] = {
    "cold": _cold,
    "early": _early,
    "striatum": _striatum,
    "glands": _glands,
}
