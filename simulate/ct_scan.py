"""The CT of a virtual head: CT numbers of its own materials, seen through the beam that recon.ct assumes."""

import numpy as np

from spectac.recon.ct import CTVolume, beam, tissue_per_cm
from spectac.simulate.head import Head
from spectac.simulate.materials import INDEX, cm2_per_g
from spectac.simulate.photons.histories import Body

KVP = 120.0
NOISE_HU = 10.0
"""Standard deviation of the noise in a voxel: a low-dose CT for attenuation correction, averaged to 2 mm (assumed)."""


def ct_scan(
    head: Head,
    rng: np.random.Generator,
    *,
    frame_of_reference_uid: str | None = None,
) -> CTVolume:
    """CT of a head at 120 kV on its own grid, in the camera's coordinates.

    CT numbers come from the head's materials and densities, most of which do not lie on the curve from HU to mu that
    recon.ct reads them with; white noise is added. Left out: beam hardening, the reconstruction's blur.
    """
    energies, share = beam(KVP)
    body = Body.of(head.grid, head.labels, head.density)
    mass = np.array(
        [sum(cm2_per_g(name, float(e)) * w for e, w in zip(energies, share, strict=True)) for name in INDEX]
    )
    water, air = (
        sum(tissue_per_cm(name, float(e)) * w for e, w in zip(energies, share, strict=True))
        for name in ("water", "air")
    )
    per_cm = mass[body.materials] * body.density
    hu = 1000.0 * (per_cm - water) / (water - air) + rng.normal(0.0, NOISE_HU, head.grid.shape)
    return CTVolume(hu.astype(np.float32), head.grid, KVP, frame_of_reference_uid)
