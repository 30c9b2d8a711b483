"""Density of the holder under a head, estimated from the counts: the share that makes them most likely."""

from dataclasses import replace

import numpy as np

from spectac.recon.map_likelihood import MapLikelihood
from spectac.recon.types import HolderShare, MuMap, Projections

USUAL_SHARE = 0.6
"""About the mean of virtual patients. Scatter is transported through so much of the holder, whose share follows."""
PRIOR_SD = 1.0
"""Standard deviation of the share about that of a typical holder, 1, before any counts."""
MODEL_SD = 0.15
"""Error of the share that no count lessens: of the head's map, the holder's shape, the scatter. Noise
included it was 0.18 for 17 true drawn heads, and 0.33 for 12 of real people (benchmarks/results/counts_check.csv)."""
LARGEST_SHARE = 2.0
"""A larger share is cut to this: it is not that of a holder."""


def holder_share(projections: Projections, head: MuMap, held: MuMap) -> HolderShare:
    """Share s of a holder that makes the counts most likely.

    The log-likelihood of images with the shares 0, 0.5 and 1 gives L(s) = L(0) + b s + c s^2. The share is the largest
    L(s) - (s - 1)^2 / (2 PRIOR_SD^2), (b + 1 / PRIOR_SD^2) / (1 / PRIOR_SD^2 - 2 c).

    Assumes: a full turn of views with known times (`map_likelihood.unfit`), views of equal sensitivity (1 % between
    opposite ones is 0.1 of the share), a patient who did not move, and a map with the true back of the head.
    Uncorrected scatter raises the share.

    Parameters
    ----------
    projections
        Photopeak (v, z, u) and its expected scatter.
    head, held
        Maps of the head alone and of the head in the whole holder, on one grid.

    Returns
    -------
    HolderShare
        Share from 0 to LARGEST_SHARE; its standard deviation is that of the counts' noise and MODEL_SD.

    Examples
    --------
    >>> holder_share(projections, head, held)  # doctest: +SKIP
    HolderShare(share=0.74, sd=0.17)
    """
    likelihood, holder = MapLikelihood(projections), held.per_cm - head.per_cm

    def log_likelihood(share: float) -> float:
        mu = replace(head, per_cm=head.per_cm + np.float32(share) * holder)
        return likelihood.of(likelihood.system(mu))

    none, half, whole = map(log_likelihood, (0.0, 0.5, 1.0))
    return most_likely(none, half, whole)


def most_likely(none: float, half: float, whole: float) -> HolderShare:
    """Share of three log-likelihoods, see `holder_share`.

    Parameters
    ----------
    none, half, whole
        Log-likelihoods with 0, 0.5 and 1 of the holder.

    Returns
    -------
    HolderShare
        Share; 1 where they have no maximum.

    Examples
    --------
    >>> round(most_likely(0.0, 175.0, 100.0).share, 2)
    0.6
    """
    c = 2.0 * (whole - 2.0 * half + none)
    b = whole - none - c
    prior = 1.0 / PRIOR_SD**2
    share = (b + prior) / (prior - 2.0 * c) if c < 0 else 1.0
    variance = 1.0 / (prior + max(0.0, -2.0 * c)) + MODEL_SD**2
    return HolderShare(float(np.clip(share, 0.0, LARGEST_SHARE)), variance**0.5)
