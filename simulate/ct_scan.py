"""The CT of a virtual head: CT numbers of its own materials, seen through the beam that recon.ct assumes."""

import numpy as np

from spectac.recon.ct import CTVolume, beam, tissue_per_cm
from spectac.recon.tissues import MATERIALS, cm2_per_g
from spectac.simulate.head import Head

KVP = 120.0
"""Tube voltage in kV."""

NOISE_HU = 10.0
"""Standard deviation of the noise in a voxel: a low-dose CT for attenuation correction, averaged to 2 mm (assumed)."""


def ct_scan(head: Head, rng: np.random.Generator, *, frame_of_reference_uid: str | None = None) -> CTVolume:
    """CT of a head at 120 kV on its own grid, in the camera's coordinates.

    CT numbers come from the head's materials and densities, most of which do not lie on the curve from HU to mu that
    recon.ct reads them with; white noise is added. Left out: beam hardening, the reconstruction's blur.

    Parameters
    ----------
    head
        Virtual head.
    rng
        Generator of the noise.
    frame_of_reference_uid
        DICOM's UID of the coordinates.

    Returns
    -------
    CTVolume
        CT numbers (z, y, x) float32 in HU on the grid of the head.

    Examples
    --------
    >>> from spectac.simulate.head import draw_head
    >>> head = draw_head(np.random.default_rng(7), voxel_mm=4.0)
    >>> ct_scan(head, np.random.default_rng(1)).kvp
    120.0
    """
    energies, share = beam(KVP)
    body = head.body
    mass = np.array(
        [sum(cm2_per_g(entry.name, float(e)) * w for e, w in zip(energies, share, strict=True)) for entry in MATERIALS]
    )
    water, air = (
        sum(tissue_per_cm(name, float(e)) * w for e, w in zip(energies, share, strict=True))
        for name in ("water", "air")
    )
    per_cm = mass[body.materials] * body.density
    hu = 1000.0 * (per_cm - water) / (water - air) + rng.normal(0.0, NOISE_HU, head.grid.shape)
    return CTVolume(hu.astype(np.float32), head.grid, KVP, frame_of_reference_uid)
