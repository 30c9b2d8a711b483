"""A head made of ellipsoids: skull, brain, ventricles, two striata and an air sinus, with its truth on any grid.

It serves tests and timing: every boundary is a formula, so its truth is exact at any voxel size. It is not an anatomy;
`head.draw_head` draws virtual patients.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.tissues import mu_per_cm
from spectac.recon.types import Array, Grid, MuMap


@dataclass(frozen=True)
class Ellipsoid:
    """Ellipsoid of one activity and material, which replace those of earlier ellipsoids inside it.

    Parameters
    ----------
    name
        Name of the region.
    centre_mm
        (x, y, z) in LPS mm.
    semi_axes_mm
        (x, y, z) in mm.
    activity
        Relative activity per mL.
    material
        Name in recon.tissues.
    turn_deg
        Turn about z, from x to y.

    Examples
    --------
    >>> ball = Ellipsoid("ball", (10.0, 0.0, 0.0), (5.0, 5.0, 5.0), activity=1.0, material="water")
    >>> ball.contains(np.array([0.0, 12.0]), np.zeros(2), np.zeros(2)).tolist()
    [False, True]
    """

    name: str
    centre_mm: tuple[float, float, float]
    semi_axes_mm: tuple[float, float, float]
    activity: float
    material: str
    turn_deg: float = 0.0

    def contains(self, x: Array, y: Array, z: Array) -> Array:
        """True where LPS points lie inside.

        Parameters
        ----------
        x
            LPS mm; x, y, z broadcast.
        y
            See x.
        z
            See x.

        Returns
        -------
        Array
            Mask in the shape that x, y and z broadcast to.
        """
        cosine, sine = math.cos(math.radians(self.turn_deg)), math.sin(math.radians(self.turn_deg))
        dx, dy, dz = x - self.centre_mm[0], y - self.centre_mm[1], z - self.centre_mm[2]
        a, b, c = self.semi_axes_mm
        along, across = cosine * dx + sine * dy, cosine * dy - sine * dx
        return (along / a) ** 2 + (across / b) ** 2 + (dz / c) ** 2 <= 1.0


# Uptake of a DAT scan: striatal binding ratio 5 on the right and 3 on the left (a one-sided loss), little in the scalp.
DAT_HEAD = (
    Ellipsoid("scalp", (0, 0, 0), (78, 97, 120), 0.25, "soft tissue"),
    Ellipsoid("skull", (0, 1, 0), (72, 91, 114), 0.08, "cranium"),
    Ellipsoid("brain", (0, 2, 0), (65, 83, 107), 1.0, "brain"),
    Ellipsoid("sinus", (0, -84, -45), (22, 8, 16), 0.0, "air"),
    Ellipsoid("right ventricle", (-12, 8, 18), (6, 30, 9), 0.0, "brain", turn_deg=8),
    Ellipsoid("left ventricle", (12, 8, 18), (6, 30, 9), 0.0, "brain", turn_deg=-8),
    Ellipsoid("right striatum", (-26, -6, 5), (8, 19, 12), 6.0, "brain", turn_deg=15),
    Ellipsoid("left striatum", (26, -6, 5), (8, 19, 12), 4.0, "brain", turn_deg=-15),
)


@dataclass(frozen=True, eq=False)
class HeadOnGrid:
    """The head averaged over the voxels of a grid.

    Parameters
    ----------
    activity
        (z, y, x).
    mu
        Attenuation map.
    fractions
        Share (z, y, x) of every voxel inside each region, by name.

    Examples
    --------
    >>> grid = Grid.upright((1, 1, 1), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
    >>> left_of_0 = Ellipsoid("ball", (1000.0, 0.0, 0.0), (1000.0,) * 3, activity=1.0, material="water")
    >>> on_grid(grid, 159.0, (left_of_0,), subsamples=2).fractions["ball"].tolist()
    [[[0.5]]]
    """

    activity: Array
    mu: MuMap
    fractions: dict[str, Array]


def on_grid(
    grid: Grid, energy_kev: float, ellipsoids: tuple[Ellipsoid, ...] = DAT_HEAD, subsamples: int = 3
) -> HeadOnGrid:
    """Head averaged over subsamples^3 points of every voxel of an upright grid.

    Parameters
    ----------
    grid
        Upright grid.
    energy_kev
        Photon energy in keV.
    ellipsoids
        Bodies; later ones replace earlier ones.
    subsamples
        Points along each axis of a voxel.

    Returns
    -------
    HeadOnGrid
        Activity, map in 1/cm and shares on the grid.

    Raises
    ------
    InputError
        For fewer than 1 subsample.

    Examples
    --------
    >>> grid = Grid.upright((16, 16, 16), (16.0, 16.0, 16.0), (-120.0, -120.0, -120.0))
    >>> head = on_grid(grid, 159.0, subsamples=2)
    >>> float(head.activity.max()) > 1.0
    True
    """
    if subsamples < 1:
        raise InputError(f"subsamples must be at least 1, not {subsamples}")
    z, y, x = (
        np.add.outer(centres, (np.arange(subsamples) + 0.5) / subsamples * length - length / 2)
        for centres, length in zip(grid.centres_mm(), grid.voxel_mm, strict=True)
    )
    counts = np.zeros((len(ellipsoids), *grid.shape), np.uint16)
    for a, b, c in product(range(subsamples), repeat=3):
        points = x[None, None, :, c], y[None, :, None, b], z[:, None, None, a]
        innermost = np.full(grid.shape, -1, np.int8)
        for index, ellipsoid in enumerate(ellipsoids):
            innermost[ellipsoid.contains(*points)] = index
        for index in range(len(ellipsoids)):
            counts[index] += innermost == index
    activity, per_cm = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    fractions = {}
    for ellipsoid, part in zip(ellipsoids, counts.astype(np.float32) / subsamples**3, strict=True):
        activity += np.float32(ellipsoid.activity) * part
        per_cm += np.float32(mu_per_cm(ellipsoid.material, energy_kev)) * part
        fractions[ellipsoid.name] = part
    return HeadOnGrid(activity, MuMap(per_cm, grid, energy_kev), fractions)
