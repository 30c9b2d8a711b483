"""Photon histories in a voxel head: where photons are born and where they scatter, by Woodcock's delta tracking.

Absorption is a weight, not an end: at each interaction the weight falls by the share of scattering in the total
cross-section, and what is lost is counted as absorbed energy.
"""

import math
from dataclasses import dataclass

import numpy as np

from spectac.recon.kernels.compiled import compiled
from spectac.recon.types import Array, Grid
from spectac.simulate.anatomy import MATERIAL_OF_LABEL
from spectac.simulate.photons.cross_sections import (
    ELECTRON_KEV,
    ENERGY_STEP_KEV,
    HC_KEV_ANGSTROM,
    LOWEST_KEV,
    X_STEP,
    CrossSections,
)

_STEP = ENERGY_STEP_KEV
_ELECTRON = ELECTRON_KEV
_HC = HC_KEV_ANGSTROM
_X_STEP = X_STEP

EVENT = np.dtype(
    [
        ("x", "f4"), ("y", "f4"), ("z", "f4"), ("dx", "f4"), ("dy", "f4"), ("dz", "f4"),
        ("kev", "f4"), ("weight", "f4"), ("material", "u1"), ("order", "u1"),
    ]
)  # fmt: skip
"""A birth (order 0) or an interaction (order 1, 2, ...): place in LPS mm; direction, energy and weight before it."""

EMITTED, ABSORBED, ESCAPED, STOPPED = range(4)
"""Entries of the energy balance in keV: born, left behind in the head, carried out, dropped below the energy cut."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where photons are born: `voxels` (n,) flat indices of the grid, `cumulated` (n,) the activity's running share."""

    voxels: Array
    cumulated: Array

    @classmethod
    def of(cls, activity: Array) -> "Source":
        """Source of an activity (z, y, x) that is positive somewhere."""
        flat = np.asarray(activity, np.float64).ravel()
        voxels = np.flatnonzero(flat > 0)
        cumulated = np.cumsum(flat[voxels])
        return cls(voxels, cumulated / cumulated[-1])


@dataclass(frozen=True, eq=False)
class Body:
    """What photons travel through: `materials` (z, y, x) uint8 and `density` (z, y, x) in g/cm3 on an upright grid."""

    grid: Grid
    materials: Array
    density: Array

    @classmethod
    def of(cls, grid: Grid, labels: Array, density: Array) -> "Body":
        """Body of a label volume with the anatomy's labels."""
        table = np.array(MATERIAL_OF_LABEL, np.uint8)
        return cls(grid, np.ascontiguousarray(table[labels]), np.ascontiguousarray(density, dtype=np.float32))


def trace(
    rng: np.random.Generator,
    first: int,
    last: int,
    histories: int,
    source: Source,
    body: Body,
    tables: CrossSections,
    majorant_per_cm: Array,
    energy_kev: float,
    lowest_kev: float,
    orders: int,
) -> tuple[Array, Array]:
    """Events (EVENT) of the histories `first` to `last` of `histories`, and their energy balance (4,) in keV.

    History i is born where the running share of the activity reaches (i + random) / histories, so that births are
    spread evenly. `majorant_per_cm` (e,) is the largest attenuation coefficient in the body at each energy of the
    tables. A history ends outside the grid, below `lowest_kev`, or after `orders` interactions.
    """
    events = np.empty((last - first) * (orders + 1), EVENT)
    balance = np.zeros(4)
    origin_mm = body.grid.affine_lps[:3, 3]
    used = _trace(
        rng, first, last, histories, source.voxels, source.cumulated, body.materials, body.density, origin_mm,
        body.grid.voxel_mm[0], tables.total, tables.compton, tables.rayleigh, tables.incoherent,
        tables.rayleigh_x2, majorant_per_cm, energy_kev, max(lowest_kev, LOWEST_KEV), orders, events, balance,
    )  # fmt: skip
    return events[:used].copy(), balance


@compiled
def _trace(  # type: ignore[no-untyped-def]
    rng, first, last, histories, voxels, cumulated, materials, density, origin_mm, voxel_mm, total, compton, rayleigh,
    incoherent, rayleigh_x2, majorant, energy_kev, lowest_kev, orders, events, balance,
):  # fmt: skip
    nz, ny, nx = density.shape
    used = 0
    for history in range(first, last):
        voxel = voxels[min(np.searchsorted(cumulated, (history + rng.random()) / histories), voxels.size - 1)]
        iz, iy, ix = voxel // (ny * nx), (voxel // nx) % ny, voxel % nx
        # Places in voxels from the corner of the grid.
        z, y, x = iz + rng.random(), iy + rng.random(), ix + rng.random()
        dz = 2.0 * rng.random() - 1.0
        turn = 2.0 * math.pi * rng.random()
        across = math.sqrt(1.0 - dz * dz)
        dx, dy = across * math.cos(turn), across * math.sin(turn)
        kev, weight, order = energy_kev, 1.0, 0
        material = materials[iz, iy, ix]
        balance[0] += kev
        while True:
            event = events[used]
            event.x = origin_mm[0] + (x - 0.5) * voxel_mm
            event.y = origin_mm[1] + (y - 0.5) * voxel_mm
            event.z = origin_mm[2] + (z - 0.5) * voxel_mm
            event.dx, event.dy, event.dz = dx, dy, dz
            event.kev, event.weight, event.material, event.order = kev, weight, material, order
            used += 1
            if order > 0:
                place = kev / _STEP
                e = int(place)
                f = place - e
                all_of_it = (1 - f) * total[material, e] + f * total[material, e + 1]
                by_compton = (1 - f) * compton[material, e] + f * compton[material, e + 1]
                by_rayleigh = (1 - f) * rayleigh[material, e] + f * rayleigh[material, e + 1]
                scattered = (by_compton + by_rayleigh) / all_of_it
                balance[1] += weight * (1.0 - scattered) * kev
                weight *= scattered
                if rng.random() * (by_compton + by_rayleigh) < by_compton:
                    cosine = _compton_cosine(rng, kev, incoherent[material])
                    after = kev / (1.0 + kev / _ELECTRON * (1.0 - cosine))
                    balance[1] += weight * (kev - after)
                    kev = after
                else:
                    cosine = _rayleigh_cosine(rng, kev, rayleigh_x2[material, int(place + 0.5)])
                dx, dy, dz = _turned(dx, dy, dz, cosine, 2.0 * math.pi * rng.random())
                if kev < lowest_kev or order == orders:
                    balance[3] += weight * kev
                    break
            # Energy changes only at interactions: the majorant holds for the whole flight.
            place = kev / _STEP
            e = int(place)
            f = place - e
            most = max(majorant[e], majorant[e + 1])
            mean_voxels = 10.0 / (most * voxel_mm)
            inside = True
            while True:
                step = -math.log(1.0 - rng.random()) * mean_voxels
                x += step * dx
                y += step * dy
                z += step * dz
                if x < 0 or y < 0 or z < 0 or x >= nx or y >= ny or z >= nz:
                    inside = False
                    break
                iz, iy, ix = int(z), int(y), int(x)
                material = materials[iz, iy, ix]
                mu = density[iz, iy, ix] * ((1 - f) * total[material, e] + f * total[material, e + 1])
                if rng.random() * most < mu:
                    break
            if not inside:
                balance[2] += weight * kev
                break
            order += 1
    return used


@compiled
def _compton_cosine(rng, kev, incoherent):  # type: ignore[no-untyped-def]
    """Cosine drawn from Klein-Nishina times S(x): the energy ratio by composition and rejection, S by rejection."""
    k = kev / _ELECTRON
    smallest = 1.0 / (1.0 + 2.0 * k)
    log_part = -math.log(smallest)
    square_part = 0.5 * (1.0 - smallest * smallest)
    most = incoherent[int(kev / _HC / _X_STEP) + 1]
    while True:
        if rng.random() * (log_part + square_part) < log_part:
            ratio = math.exp(-log_part * rng.random())
        else:
            ratio = math.sqrt(smallest * smallest + (1.0 - smallest * smallest) * rng.random())
        away = (1.0 - ratio) / (k * ratio)
        sine2 = away * (2.0 - away)
        if rng.random() * (1.0 + ratio * ratio) > 1.0 + ratio * ratio - ratio * sine2:
            continue
        place = math.sqrt(max(0.5 * away, 0.0)) * kev / _HC / _X_STEP
        i = int(place)
        f = place - i
        if rng.random() * most < (1 - f) * incoherent[i] + f * incoherent[i + 1]:
            return 1.0 - away


@compiled
def _rayleigh_cosine(rng, kev, quantiles):  # type: ignore[no-untyped-def]
    """Cosine drawn from (1 + cos^2) F(x)^2: x^2 by its quantiles, Thomson's factor by rejection."""
    scale = 2.0 * (_HC / kev) ** 2
    while True:
        place = (1.0 - (1.0 - rng.random()) ** (1.0 / 3.0)) * (quantiles.size - 1)
        i = int(place)
        f = place - i
        cosine = 1.0 - min(scale * ((1 - f) * quantiles[i] + f * quantiles[i + 1]), 2.0)
        if rng.random() * 2.0 < 1.0 + cosine * cosine:
            return cosine


@compiled
def _turned(dx, dy, dz, cosine, turn):  # type: ignore[no-untyped-def]
    """Unit direction turned by an angle of that cosine, about itself by `turn`."""
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
