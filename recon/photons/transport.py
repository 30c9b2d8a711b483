"""Photon transport in a voxel body: births, free paths, and Compton and Rayleigh scattering, by Woodcock's tracking.

Absorption is a weight, not an end: at each interaction the weight falls by the share of scattering in the total
cross-section, and the lost part is counted as absorbed energy.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.kernels.compiled import compiled
from spectac.recon.photons.cross_sections import (
    ELECTRON_KEV,
    ENERGY_STEP_KEV,
    HC_KEV_ANGSTROM,
    LOWEST_KEV,
    X_STEP,
    CrossSections,
    interpolated,
)
from spectac.recon.tissues import MATERIALS
from spectac.recon.types import Array, Grid

EVENT = np.dtype(
    [
        ("x", "f4"), ("y", "f4"), ("z", "f4"), ("dx", "f4"), ("dy", "f4"), ("dz", "f4"),
        ("kev", "f4"), ("weight", "f4"), ("material", "u1"), ("order", "u1"),
    ]
)  # fmt: skip
"""A birth (order 0) or an interaction (order 1, 2, ...): place in LPS mm; direction, energy and weight before it."""

EMITTED, ABSORBED, ESCAPED, STOPPED = range(4)
"""Entries of the energy balance in keV: born, left behind in the body, carried out, dropped below the energy cut."""


class Source(NamedTuple):
    """Where photons are born.

    Parameters
    ----------
    voxels
        (n,) flat indices of the active voxels.
    cumulated
        (n,) running share of the activity.

    Examples
    --------
    >>> Source.of(np.array([[[0.0, 1.0, 3.0]]])).cumulated.tolist()
    [0.25, 1.0]
    """

    voxels: Array
    cumulated: Array

    @classmethod
    def of(cls, activity: Array) -> "Source":
        """Source of an activity (z, y, x) that is positive somewhere.

        Parameters
        ----------
        activity
            (z, y, x), positive somewhere.

        Returns
        -------
        Source
            Voxels in the order of the flat array.
        """
        flat = np.asarray(activity, np.float64).ravel()
        voxels = np.flatnonzero(flat > 0)
        cumulated = np.cumsum(flat[voxels])
        return cls(voxels, cumulated / cumulated[-1])


class Medium(NamedTuple):
    """A body as the kernels read it; `majorant_per_cm` (e,) is its largest attenuation coefficient at each energy.

    Parameters
    ----------
    materials
        (z, y, x) uint8 indices in tissues.MATERIALS.
    density
        (z, y, x) float32 in g/cm3.
    majorant_per_cm
        (e,) largest attenuation coefficient of the body at each energy of the tables.
    first_mm
        Centre (x, y, z) of the first voxel.
    voxel_mm
        Edge of a voxel.
    """

    materials: Array
    density: Array
    majorant_per_cm: Array
    first_mm: tuple[float, float, float]
    voxel_mm: float


@dataclass(frozen=True, eq=False)
class Body:
    """What photons travel through.

    Parameters
    ----------
    grid
        Upright grid with cubic voxels.
    materials
        (z, y, x) index of each voxel's material in `tissues.MATERIALS`.
    density
        (z, y, x) in g/cm3.

    Raises
    ------
    InputError
        For another kind of grid, for shapes that do not fit it, and for indices beyond the table.

    Examples
    --------
    >>> from spectac.recon.tissues import INDEX
    >>> grid = Grid.upright((8, 8, 8), (4.0, 4.0, 4.0), (-14.0, -14.0, -14.0))
    >>> Body(grid, np.full(grid.shape, INDEX["water"]), np.ones(grid.shape)).density.dtype.name
    'float32'
    """

    grid: Grid
    materials: Array
    density: Array

    def __post_init__(self) -> None:
        if not (self.grid.is_upright and np.ptp(self.grid.voxel_mm) <= 1e-6 * self.grid.voxel_mm[0]):
            raise InputError(
                f"photons need an upright grid with cubic voxels, not {self.grid.voxel_mm} mm: resample the body to one"
            )
        for name, values in (("materials", self.materials), ("density", self.density)):
            if values.shape != self.grid.shape:
                raise InputError(f"{name} (z, y, x) must have the grid's shape {self.grid.shape}, got {values.shape}")
        if self.materials.max() >= len(MATERIALS):
            raise InputError(f"materials must be indices below {len(MATERIALS)}, got {self.materials.max()}")
        object.__setattr__(self, "materials", np.ascontiguousarray(self.materials, dtype=np.uint8))
        object.__setattr__(self, "density", np.ascontiguousarray(self.density, dtype=np.float32))

    def medium(self, tables: CrossSections) -> Medium:
        """The body for `trace`. In a vacuum the majorant is 1e-6 /cm.

        Parameters
        ----------
        tables
            Cross-sections.
        """
        densest = np.zeros(tables.total.shape[0])
        np.maximum.at(densest, self.materials.ravel(), self.density.ravel())
        majorant = np.maximum((densest[:, None] * tables.total).max(axis=0), 1e-6)
        x, y, z = (float(place) for place in self.grid.affine_lps[:3, 3])
        return Medium(self.materials, self.density, majorant, (x, y, z), self.grid.voxel_mm[0])


class Block(NamedTuple):
    """Histories `first` <= n < `last` of a run of `histories`, which share a stream of random numbers.

    Parameters
    ----------
    first
        First history.
    last
        The one after the last.
    histories
        Number of histories of the run.
    """

    first: int
    last: int
    histories: int


class Limits(NamedTuple):
    """Energy of the births in keV, and where a history ends: below `lowest_kev` or after `orders` interactions.

    Parameters
    ----------
    energy_kev
        Energy of the births.
    lowest_kev
        A history ends below this energy.
    orders
        A history ends after so many interactions.
    """

    energy_kev: float
    lowest_kev: float
    orders: int


@compiled
def trace(rng, block, source, medium, tables, limits):  # type: ignore[no-untyped-def]
    """Events (EVENT) of a block's histories, and their energy balance (4,) in keV.

    History n is born where the running share of the activity reaches (n + random) / histories, so that births are
    spread evenly. A history also ends outside the grid.

    Parameters
    ----------
    rng
        numpy Generator.
    block
        Block of histories.
    source
        Source of the births.
    medium
        `Body.medium` of the body.
    tables
        Cross-sections up to the energy of the births.
    limits
        Limits of a history.

    Returns
    -------
    events
        (n,) of EVENT: births, and interactions before their scatter.
    balance
        (4,) energy in keV that photons were born with, left in the body, carried out, and had when they were dropped.

    Examples
    --------
    >>> from spectac.recon.photons.cross_sections import cross_sections
    >>> from spectac.recon.tissues import INDEX
    >>> grid = Grid.upright((8, 8, 8), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
    >>> body, tables = Body(grid, np.full(grid.shape, INDEX["water"]), np.ones(grid.shape)), cross_sections(140.511)
    >>> source, limits = Source.of(np.ones(grid.shape)), Limits(140.511, lowest_kev=60.0, orders=3)
    >>> _, balance = trace(np.random.default_rng(1), Block(0, 100, 100), source, body.medium(tables), tables, limits)
    >>> bool(np.isclose(balance[0], balance[1:].sum()))
    True
    """
    events = np.empty((block.last - block.first) * (limits.orders + 1), EVENT)
    balance = np.zeros(4)
    lowest_kev = max(limits.lowest_kev, LOWEST_KEV)
    used = 0
    for history in range(block.first, block.last):
        x, y, z, material = _birth_place(rng, (history + rng.random()) / block.histories, source, medium.materials)
        dx, dy, dz = _isotropic(rng)
        kev, weight = limits.energy_kev, 1.0
        balance[EMITTED] += kev
        for order in range(limits.orders + 1):
            event = events[used]
            used += 1
            event.x = medium.first_mm[0] + (x - 0.5) * medium.voxel_mm
            event.y = medium.first_mm[1] + (y - 0.5) * medium.voxel_mm
            event.z = medium.first_mm[2] + (z - 0.5) * medium.voxel_mm
            event.dx, event.dy, event.dz = dx, dy, dz
            event.kev, event.weight, event.material, event.order = kev, weight, material, order
            if order > 0:
                share, after_kev, cosine = _scatter(rng, kev, material, tables)
                balance[ABSORBED] += weight * (1.0 - share) * kev
                weight *= share
                balance[ABSORBED] += weight * (kev - after_kev)
                kev = after_kev
                dx, dy, dz = turned(dx, dy, dz, cosine, 2.0 * math.pi * rng.random())
                if kev < lowest_kev or order == limits.orders:
                    balance[STOPPED] += weight * kev
                    break
            inside, x, y, z, material = _fly(rng, (x, y, z), (dx, dy, dz), kev, medium, tables.total)
            if not inside:
                balance[ESCAPED] += weight * kev
                break
    return events[:used].copy(), balance


@compiled
def _birth_place(rng, share, source, materials):  # type: ignore[no-untyped-def]
    """Place (x, y, z) in voxels from the corner of the grid, and the material there."""
    _, ny, nx = materials.shape
    voxel = source.voxels[min(np.searchsorted(source.cumulated, share), source.voxels.size - 1)]
    iz, iy, ix = voxel // (ny * nx), (voxel // nx) % ny, voxel % nx
    z, y, x = iz + rng.random(), iy + rng.random(), ix + rng.random()
    return x, y, z, materials[iz, iy, ix]


@compiled
def _isotropic(rng):  # type: ignore[no-untyped-def]
    """Unit direction (x, y, z), uniform over the sphere."""
    dz = 2.0 * rng.random() - 1.0
    turn = 2.0 * math.pi * rng.random()
    across = math.sqrt(1.0 - dz * dz)
    return across * math.cos(turn), across * math.sin(turn), dz


@compiled
def _scatter(rng, kev, material, tables):  # type: ignore[no-untyped-def]
    """Share of scattering in the total, energy after the interaction, cosine of its angle."""
    place = kev / ENERGY_STEP_KEV
    compton, rayleigh = interpolated(tables.compton[material], place), interpolated(tables.rayleigh[material], place)
    share = (compton + rayleigh) / interpolated(tables.total[material], place)
    if rng.random() * (compton + rayleigh) < compton:
        cosine = compton_cosine(rng, kev, tables.incoherent[material])
        return share, kev / (1.0 + kev / ELECTRON_KEV * (1.0 - cosine)), cosine
    return share, kev, rayleigh_cosine(rng, kev, tables.rayleigh_x2[material, int(place + 0.5)])


@compiled
def _fly(rng, start, way, kev, medium, total):  # type: ignore[no-untyped-def]
    """Whether the photon interacts inside the grid, its place (x, y, z) in voxels, and the material there."""
    nz, ny, nx = medium.density.shape
    x, y, z = start
    place = kev / ENERGY_STEP_KEV
    e = int(place)
    # Energy changes only at interactions: the majorant holds for the whole flight.
    most = max(medium.majorant_per_cm[e], medium.majorant_per_cm[e + 1])
    mean_voxels = 10.0 / (most * medium.voxel_mm)
    while True:
        step = -math.log(1.0 - rng.random()) * mean_voxels
        x += step * way[0]
        y += step * way[1]
        z += step * way[2]
        if x < 0 or y < 0 or z < 0 or x >= nx or y >= ny or z >= nz:
            return False, x, y, z, medium.materials[0, 0, 0]
        iz, iy, ix = int(z), int(y), int(x)
        material = medium.materials[iz, iy, ix]
        if rng.random() * most < medium.density[iz, iy, ix] * interpolated(total[material], place):
            return True, x, y, z, material


@compiled
def compton_cosine(rng, kev, incoherent):  # type: ignore[no-untyped-def]
    """Cosine of a Compton angle drawn from Klein-Nishina times S(x).

    The energy ratio is drawn by composition and rejection, S by rejection.

    Parameters
    ----------
    rng
        numpy Generator.
    kev
        Energy before the scatter.
    incoherent
        (x,) row of `CrossSections.incoherent`.

    Returns
    -------
    float
        Cosine, from -1 to 1.

    Examples
    --------
    >>> from spectac.recon.photons.cross_sections import cross_sections
    >>> from spectac.recon.tissues import INDEX
    >>> rng, row = np.random.default_rng(1), cross_sections(140.511).incoherent[INDEX["water"]]
    >>> forward = np.mean([compton_cosine(rng, 140.0, row) > 0.0 for _ in range(2000)])
    >>> bool(0.5 < forward < 0.7)
    True
    """
    k = kev / ELECTRON_KEV
    smallest = 1.0 / (1.0 + 2.0 * k)
    log_part = -math.log(smallest)
    square_part = 0.5 * (1.0 - smallest * smallest)
    most = incoherent[int(kev / HC_KEV_ANGSTROM / X_STEP) + 1]
    while True:
        if rng.random() * (log_part + square_part) < log_part:
            ratio = math.exp(-log_part * rng.random())
        else:
            ratio = math.sqrt(smallest * smallest + (1.0 - smallest * smallest) * rng.random())
        away = (1.0 - ratio) / (k * ratio)
        sine2 = away * (2.0 - away)
        if rng.random() * (1.0 + ratio * ratio) > 1.0 + ratio * ratio - ratio * sine2:
            continue
        if rng.random() * most < interpolated(
            incoherent, math.sqrt(max(0.5 * away, 0.0)) * kev / HC_KEV_ANGSTROM / X_STEP
        ):
            return 1.0 - away


@compiled
def rayleigh_cosine(rng, kev, quantiles):  # type: ignore[no-untyped-def]
    """Cosine of a Rayleigh angle drawn from (1 + cos^2) F(x)^2: x^2 by its quantiles, Thomson's factor by rejection.

    Parameters
    ----------
    rng
        numpy Generator.
    kev
        Photon energy.
    quantiles
        (q,) row of `CrossSections.rayleigh_x2`.

    Returns
    -------
    float
        Cosine, from -1 to 1.

    Examples
    --------
    >>> from spectac.recon.photons.cross_sections import cross_sections
    >>> from spectac.recon.tissues import INDEX
    >>> tables = cross_sections(140.511)
    >>> rng, row = np.random.default_rng(1), tables.rayleigh_x2[INDEX["water"], -1]
    >>> bool(np.mean([rayleigh_cosine(rng, 140.0, row) for _ in range(2000)]) > 0.9)
    True
    """
    scale = 2.0 * (HC_KEV_ANGSTROM / kev) ** 2
    while True:
        place = (1.0 - (1.0 - rng.random()) ** (1.0 / 3.0)) * (quantiles.size - 1)
        cosine = 1.0 - min(scale * interpolated(quantiles, place), 2.0)
        if rng.random() * 2.0 < 1.0 + cosine * cosine:
            return cosine


@compiled
def turned(dx, dy, dz, cosine, turn):  # type: ignore[no-untyped-def]
    """Unit direction turned by an angle of that cosine, about itself by `turn` radians.

    Parameters
    ----------
    dx, dy, dz
        Unit direction.
    cosine
        Cosine of the angle between the old and the new direction.
    turn
        Azimuth in radians.

    Returns
    -------
    tuple of float
        New unit direction (x, y, z).

    Examples
    --------
    >>> [round(one, 6) for one in turned(0.0, 0.0, 1.0, 0.0, 0.0)]
    [1.0, 0.0, 0.0]
    """
    sine = math.sqrt(max(0.0, 1.0 - cosine * cosine))
    a, b = sine * math.cos(turn), sine * math.sin(turn)
    across = math.sqrt(dx * dx + dy * dy)
    if across < 1e-6:
        return a, b, cosine if dz > 0.0 else -cosine
    x = dx * cosine + (a * dx * dz - b * dy) / across
    y = dy * cosine + (a * dy * dz + b * dx) / across
    z = dz * cosine - a * across
    length = 1.0 / math.sqrt(x * x + y * y + z * z)
    return x * length, y * length, z * length
