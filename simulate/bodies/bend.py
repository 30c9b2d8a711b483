"""Random bends of a body, so that one person's CT gives many heads.

A network that saw the same 48 heads in other poses learned these persons: images of their heads came out right on
average, those of 12 other people 1 % too low (docs/accuracy.md).
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from spectac.recon.types import Array

STRETCH = 0.05
"""Each axis is stretched by up to this share. Lengths and breadths of heads differ by 5 % and 4 % (standard deviations
of 60 persons, benchmarks/results/bodies.csv)."""
NODES_MM = 50.0
"""Distance of the nodes of the bending's cubic B-splines."""
NODES = 11
"""Nodes along an axis, from -250 to 250 mm about the brain's middle."""
BEND_MM = 9.0
"""Standard deviation of their coefficients. Places then move by 3 mm, and thicknesses up to 20 mm change by 7 % (both
standard deviations)."""


@dataclass(frozen=True, eq=False)
class Bend:
    """Where the voxels of a bent body come from.

    Parameters
    ----------
    stretch
        Factors along x, y, z by which the body grows.
    coefficients
        (3, z, y, x) in mm: cubic B-splines of the shifts of x, y and z.

    Examples
    --------
    >>> straight = Bend(np.full(3, 2.0), np.zeros((3, NODES, NODES, NODES)))
    >>> [float(at[0, 0, 0]) for at in straight.sources((np.full((1, 1, 1), 10.0),) * 3)]
    [5.0, 5.0, 5.0]
    """

    stretch: Array
    coefficients: Array

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "Bend":
        """A random bend.

        Parameters
        ----------
        rng
            Generator.

        Examples
        --------
        >>> bool((np.abs(Bend.drawn(np.random.default_rng(1)).stretch - 1.0) < STRETCH).all())
        True
        """
        stretch = rng.uniform(1.0 - STRETCH, 1.0 + STRETCH, 3)
        return cls(stretch, rng.normal(0.0, BEND_MM, (3, NODES, NODES, NODES)))

    def sources(self, places_mm: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """Positions in the body as it is of positions in the bent one.

        Parameters
        ----------
        places_mm
            x, y and z, each (z, y, x), in mm from the middle of the brain.

        Returns
        -------
        tuple of arrays
            float32, as `places_mm`.
        """
        x, y, z = places_mm
        nodes = [axis / NODES_MM + (NODES - 1) / 2 for axis in (z, y, x)]
        shifts = (map_coordinates(one, nodes, order=3, mode="nearest", prefilter=False) for one in self.coefficients)
        x, y, z = (
            (axis / factor + shift).astype(np.float32)
            for axis, factor, shift in zip(places_mm, self.stretch, shifts, strict=True)
        )
        return x, y, z
