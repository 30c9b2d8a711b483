"""Thickness of the skull in a head's attenuation map, checked and corrected by the counts.

What a network has not seen in training it does not predict, and it need not show in the spread of its passes: skulls
thicker than any of training came out as thick as those. The counts tell (`map_likelihood`): a factor on a band of the
skull makes them more likely. That needs the expected scatter by photon transport: energy windows estimate its amount
well, but not its shape, and their error asks for 3 to 15 % less attenuation where nothing is wrong.

A fitted image holds a part of the counts' noise, the more of it the more a map attenuates, so that noise asks for a
thicker skull. Halves of the counts have twice the variance: 2 whole - mean of halves is free of that to first order.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt

from spectac.recon.errors import InputError
from spectac.recon.map_likelihood import MapLikelihood
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array, MuMap, Projections, SkullFit

STEP = 0.1
"""Likelihoods are compared with this share of the head's attenuation less, with the map, and with as much more."""
FARTHEST = 0.3
"""Largest change by one fit: a parabola through three points this close tells no more. The next one may add to it."""
ROUNDS = 4
"""Most fits of one map, each with the scatter of the map as it is by then."""
DEPTH_MM, WIDTH_MM = 10.0, 5.0
"""Depth below the skin of the middle of the band, and its standard deviation."""
MODEL_SD = 0.06
"""Error of a fit that no count lessens. Predicted maps of 23 usual heads, right to 6 % in the brain's factors, asked
for -13 to +12 %, a root mean square of 6 % (benchmarks/results/counts_check.csv). Pixels of 12 mm have their part in
it: without noise and scatter the true map of one patient asked for 12 % more, and for 13 % less on pixels of 3 mm."""
CONTRADICTED_SD = 2.5
"""The counts contradict a map where they ask for more than so many standard deviations. That they ask for less says
nothing: bone adds 4 to 12 % to the attenuation of virtual heads, and there is no skull without bone."""
TELLING_SD = 0.08
"""A fit with a larger standard deviation confirms no map."""


def skull_band(head: MuMap) -> Array:
    """Band in which a skull lies: water's coefficient about DEPTH_MM below the surface, falling off as a Gaussian.

    Parameters
    ----------
    head
        Map of a head alone.

    Returns
    -------
    Array
        float32 (z, y, x) in 1/cm.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((16, 16, 16), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> per_cm = np.zeros(grid.shape)
    >>> per_cm[2:14, 2:14, 2:14] = 0.15
    >>> band = skull_band(MuMap(per_cm, grid, 140.5))
    >>> bool(band[8, 8, 4] > 0.1), bool(band[8, 8, 8] > 0.1), float(band[8, 8, 0])
    (True, False, 0.0)
    """
    water = water_per_cm(head.energy_kev)
    body = binary_fill_holes(head.per_cm > 0.5 * water)
    depth_mm = distance_transform_edt(body, head.grid.voxel_mm)
    return np.asarray(water * np.exp(-0.5 * ((depth_mm - DEPTH_MM) / WIDTH_MM) ** 2) * body, np.float32)


def skull_fit(projections: Projections, head: MuMap, held: MuMap, band: Array, rng: np.random.Generator) -> SkullFit:
    """How much of a band the counts ask for.

    Assumes a full turn of views with known times (`map_likelihood.unfit`), scatter that is known but for its noise, and
    a patient who did not move.

    Parameters
    ----------
    projections
        Photopeak (v, z, u), whole counts, and its expected scatter.
    head, held
        Maps of the head alone and of the head with what lies beside it, on one grid.
    band
        See `skull_band`.
    rng
        Generator that splits the counts into halves.

    Returns
    -------
    SkullFit
        The vertex of the parabola through three log-likelihoods, with its bias by noise taken off.

    Examples
    --------
    >>> skull_fit(projections, head, held, skull_band(head), np.random.default_rng(1))  # doctest: +SKIP
    SkullFit(more=0.02, sd=0.011)
    """
    likelihood = MapLikelihood(projections)
    step = STEP * float(head.per_cm.sum(dtype=np.float64) / band.sum(dtype=np.float64)) * band
    systems = [
        likelihood.system(replace(held, per_cm=np.maximum(held.per_cm + np.float32(sign) * step, 0.0)))
        for sign in (-1, 0, 1)
    ]

    def vertex(counts: Array, share: float) -> tuple[float, float]:
        less, as_is, more = (likelihood.of(system, counts, share) for system in systems)
        bend = more - 2.0 * as_is + less
        return (0.5 * STEP * (less - more) / bend, STEP / (-bend) ** 0.5) if bend < 0 else (np.nan, np.nan)

    counts = np.rint(likelihood.counts).astype(np.int64)
    half = rng.binomial(counts, 0.5)
    more, sd = vertex(counts, 1.0)
    of_halves = [vertex(part, 0.5)[0] for part in (half, counts - half)]
    more = float(np.clip(2.0 * more - np.mean(of_halves), -FARTHEST, FARTHEST))
    return SkullFit(more, float(np.hypot(sd, MODEL_SD)))


@dataclass(frozen=True, eq=False)
class CheckedSkull:
    """A map after the check.

    Parameters
    ----------
    head
        The head alone; the map that was given where the counts do not contradict it.
    fit
        Last fit, of this map.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((1, 1, 1), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> mu = MuMap(np.zeros(grid.shape), grid, 140.5)
    >>> CheckedSkull(mu, SkullFit(0.02, 0.03)).note
    "skull: the counts ask for +2.0% +- 3.0% of the head's attenuation more"
    """

    head: MuMap
    fit: SkullFit

    @property
    def contradicted(self) -> bool:
        """Whether more is missing, or too much was added, than noise and model explain."""
        more = abs(self.fit.more) if self.fit.added else self.fit.more
        return more > CONTRADICTED_SD * self.fit.sd

    @property
    def confirmed(self) -> bool:
        """Whether the counts tell, and agree with the map."""
        return abs(self.fit.more) <= self.fit.sd < TELLING_SD

    @property
    def note(self) -> str:
        """What a user should know."""
        asked = f"{self.fit.more:+.1%} +- {self.fit.sd:.1%} of the head's attenuation more"
        if not self.fit.added:
            return f"skull: the counts ask for {asked}"
        return (
            f"skull: {self.fit.added:+.1%} was put there, as the counts contradicted the map; they now ask for {asked}"
        )


def checked_skull(
    head: MuMap, hold: Callable[[MuMap], tuple[MuMap, Projections]], rng: np.random.Generator
) -> CheckedSkull:
    """Map whose skull is thickened until the counts agree with it; as it is where they do not contradict it.

    Parameters
    ----------
    head
        Map of a head alone.
    hold
        Gives a head with what lies beside it, on its grid, and the photopeak with the scatter by photon transport.
    rng
        Generator.

    Returns
    -------
    CheckedSkull
        After ROUNDS fits at most.

    Raises
    ------
    InputError
        Where the likelihood has no maximum, or the map no head.

    Examples
    --------
    >>> checked_skull(head, lambda head: (head, projections), np.random.default_rng(1))  # doctest: +SKIP
    """
    band, given, added = skull_band(head), float(head.per_cm.sum(dtype=np.float64)), 0.0
    if not band.any():
        raise InputError("the map holds nothing as dense as tissue")
    held, projections = hold(head)
    for left in reversed(range(ROUNDS)):
        fit = skull_fit(projections, head, held, band, rng)
        if np.isnan(fit.more):
            if added:
                break  # the map before stays contradicted
            raise InputError("no map makes them more likely than others")
        checked = CheckedSkull(head, replace(fit, added=added / given))
        wrong = abs(fit.more) > fit.sd if added else checked.contradicted
        if not (wrong and left):
            break
        wanted = max(fit.more * float(head.per_cm.sum(dtype=np.float64)), -added)
        added += wanted
        more = np.float32(wanted / band.sum(dtype=np.float64)) * band
        head = replace(head, per_cm=np.maximum(head.per_cm + more, 0.0))
        try:
            held, projections = hold(head)
        except InputError:
            break
    return checked
