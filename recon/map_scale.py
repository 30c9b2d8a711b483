"""Scale of a head's attenuation map, estimated from the counts.

Two opposite views see the same activity through different parts of the head. A map that is too thin as a whole
contradicts them, whatever the activity: the projections of attenuated activity fulfil conditions that depend on the
map [1]_. So of all multiples of a map one makes the counts most likely, maximum likelihood of activity and attenuation
together [2]_ with one number for the attenuation.

The likelihood of an image that was fitted to the counts holds a part of their noise, which grows with the attenuation.
It is found from halves of the counts, whose noise is twice as large: 2 whole - mean of halves is free of it to first
order.

References
----------
.. [1] F. Natterer, Inverse Problems 2001;17:113, doi:10.1088/0266-5611/17/1/309.
.. [2] J. Nuyts et al., IEEE Trans Med Imaging 1999;18:393, doi:10.1109/42.774167.
"""

from dataclasses import dataclass, replace

import numpy as np

from spectac.recon.attenuation import map_on_grid
from spectac.recon.em import FEWEST_VIEWS, osem
from spectac.recon.geometry import default_grid, object_pixel_mm
from spectac.recon.resample import rebin, rebin_acquisition
from spectac.recon.system import SystemModel
from spectac.recon.types import Array, MuMap, Projections

PIXEL_MM = 8.0
"""Projections are rebinned to the pixel nearest to this."""
ITERATIONS, SUBSETS = 4, 10
"""Of OSEM; fewer subsets where one would have fewer than 4 views."""
STEP = 0.1
"""The scales are 1 less STEP, 1, and 1 more STEP."""
SPLITS = 2
"""How often the counts are split into halves."""


@dataclass(frozen=True)
class MapScale:
    """Factor on the map of a head that the counts ask for.

    Parameters
    ----------
    factor
        Factor; NaN where no scale is the most likely.
    sd
        Its standard deviation by the noise of the counts.

    Examples
    --------
    >>> MapScale(1.04, 0.01).factor
    1.04
    """

    factor: float
    sd: float


def map_scale(projections: Projections, head: MuMap, held: MuMap, rng: np.random.Generator) -> MapScale:
    """Factor on a head's map that makes the counts most likely.

    Assumes scatter that is known but for its noise, a full turn of views with known times, and whole counts.

    Parameters
    ----------
    projections
        Photopeak (v, z, u), whole counts, and their expected scatter.
    head, held
        Maps of the head alone and of the head with what lies beside it, which is not scaled, on one grid.
    rng
        Generator that splits the counts.

    Returns
    -------
    MapScale
        Factor and its standard deviation.

    Examples
    --------
    >>> map_scale(projections, head, held, np.random.default_rng(1))  # doctest: +SKIP
    MapScale(factor=1.02, sd=0.015)
    """
    factors = tuple(max(1, round(PIXEL_MM / length)) for length in object_pixel_mm(projections.acquisition))
    acquisition = rebin_acquisition(projections.acquisition, *factors)
    counts = rebin(projections.counts, *factors)
    scatter = None if projections.scatter is None else rebin(projections.scatter, *factors).astype(np.float32)
    grid = default_grid(acquisition)
    systems = [
        SystemModel(
            acquisition, grid, mu=map_on_grid(replace(held, per_cm=held.per_cm + np.float32(step) * head.per_cm), grid),
            energy_kev=projections.energy_kev, resolution=acquisition.collimator is not None, crop_to_orbit=True,
        )
        for step in (-STEP, 0.0, STEP)
    ]  # fmt: skip
    subsets = max(1, min(SUBSETS, acquisition.views // FEWEST_VIEWS))

    def log_likelihood(system: SystemModel, part: Array, share: float) -> float:
        part = part.astype(np.float32)
        expected_scatter = None if scatter is None else np.float32(share) * scatter
        image = osem(system, part, iterations=ITERATIONS, subsets=subsets, scatter=expected_scatter)
        expected = system.forward(image).astype(np.float64)
        if expected_scatter is not None:
            expected += expected_scatter
        seen = expected > 0
        return float((part[seen] * np.log(expected[seen]) - expected[seen]).sum(dtype=np.float64))

    def vertex(part: Array, share: float) -> tuple[float, float]:
        low, middle, high = (log_likelihood(system, part, share) for system in systems)
        bend = high - 2.0 * middle + low
        return (0.5 * STEP * (low - high) / bend, STEP / (-bend) ** 0.5) if bend < 0 else (np.nan, np.nan)

    whole, sd = vertex(counts, 1.0)
    halves = []
    for _ in range(SPLITS):
        half = rng.binomial(np.rint(counts).astype(np.int64), 0.5)
        halves += [vertex(half, 0.5)[0], vertex(counts - half, 0.5)[0]]
    return MapScale(1.0 + 2.0 * whole - float(np.mean(halves)), sd)
