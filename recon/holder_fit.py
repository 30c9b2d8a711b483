"""How dense the holder under a head is, as the counts tell.

A view through a holder and the opposite one see the same activity, and head and activity together cannot make up for
what one of them lost. So of all shares of a holder's map one makes the counts most likely: maximum likelihood of
activity and attenuation together [1]_, with one number for the attenuation. The loss is small, and the log-likelihood
nearly a parabola of the share: three images are enough, of coarse projections.

References
----------
.. [1] J. Nuyts et al., IEEE Trans Med Imaging 1999;18:393, doi:10.1109/42.774167.
"""

from dataclasses import replace

import numpy as np

from spectac.recon.attenuation import map_on_grid
from spectac.recon.em import FEWEST_VIEWS, osem
from spectac.recon.geometry import default_grid, gaps_deg, object_pixel_mm
from spectac.recon.resample import rebin, rebin_acquisition
from spectac.recon.system import SystemModel
from spectac.recon.types import HolderShare, MuMap, Projections

PIXEL_MM = 8.0
"""Projections are rebinned to the pixel nearest to this; 4 mm gave the same shares within 0.1."""
ITERATIONS, SUBSETS = 2, 10
"""Of OSEM; fewer subsets where one would have fewer than 4 views."""
WIDEST_GAP_DEG = 30.0
"""Largest gap between neighbouring views of a full turn."""
SHARE_SD = 1.0
"""Standard deviation of the share about that of a typical holder, 1, before any counts."""
LARGEST_SHARE = 2.0


def holder_share(projections: Projections, head: MuMap, held: MuMap) -> HolderShare:
    """Share of a holder that makes the counts most likely.

    Parameters
    ----------
    projections
        Photopeak (v, z, u) and its expected scatter. Uncorrected scatter raises the share, by 0.2 on average.
    head, held
        Maps of the head alone and of the head in the whole holder, on one grid.

    Returns
    -------
    HolderShare
        Share with its standard deviation; 1 with that before any counts where views have no opposite ones.

    Examples
    --------
    >>> holder_share(projections, head, held)  # doctest: +SKIP
    HolderShare(share=0.74, sd=0.08)
    """
    if gaps_deg(projections.acquisition.view_angles_deg).max() > WIDEST_GAP_DEG:
        return HolderShare(1.0, SHARE_SD)
    factors = tuple(max(1, round(PIXEL_MM / length)) for length in object_pixel_mm(projections.acquisition))
    acquisition = rebin_acquisition(projections.acquisition, *factors)
    counts = rebin(projections.counts, *factors).astype(np.float32)
    scatter = None if projections.scatter is None else rebin(projections.scatter, *factors).astype(np.float32)
    grid = default_grid(acquisition)

    def log_likelihood(share: float) -> float:
        mu = replace(head, per_cm=head.per_cm + np.float32(share) * (held.per_cm - head.per_cm))
        system = SystemModel(
            acquisition, grid, mu=map_on_grid(mu, grid), energy_kev=projections.energy_kev,
            resolution=acquisition.collimator is not None, crop_to_orbit=True, half_factors=True,
        )  # fmt: skip
        subsets = max(1, min(SUBSETS, acquisition.views // FEWEST_VIEWS))
        image = osem(system, counts, iterations=ITERATIONS, subsets=subsets, scatter=scatter)
        expected = system.forward(image).astype(np.float64)
        if scatter is not None:
            expected += scatter
        seen = expected > 0
        return float((counts[seen] * np.log(expected[seen]) - expected[seen]).sum(dtype=np.float64))

    none, half, whole = map(log_likelihood, (0.0, 0.5, 1.0))
    # b s + c s^2 through the three, less (s - 1)^2 / (2 SHARE_SD^2).
    c = 2.0 * (whole - 2.0 * half + none)
    b = whole - none - c
    precision = 1.0 / SHARE_SD**2 + max(0.0, -2.0 * c)
    share = (b + 1.0 / SHARE_SD**2) / precision if c < 0 else 1.0
    return HolderShare(float(np.clip(share, 0.0, LARGEST_SHARE)), precision**-0.5)
