"""What the network sees: preview images made independent of counts, uptake and camera. The one home of normalisation.

Channels: photopeak, scatter window (zeros where there is none), a flag for the scatter window, and the photon energy.
Each image is divided by its own head level, which disease does not change: the mean over the brightest 1.2 L after the
hottest 40 mL (two striata, glands or foci with their blur) are cut off. A square root then brings scalp and brain closer.
"""

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.types import Array

CHANNELS = 4
HEAD_ML, HOT_ML = 1200.0, 40.0
REFERENCE_KEV = 150.0
KEV_PER_UNIT = 10.0
LARGEST = 4.0
"""Head levels beyond which an image is cut: what lies above is a focus, and says nothing about attenuation."""


def head_level(values: Array, voxel_ml: float) -> float:
    """Mean of an image (z, y, x) over its brightest HEAD_ML, the hottest HOT_ML of it left out.

    Raises InputError for an image without activity.
    """
    first, last = (min(int(ml / voxel_ml), values.size - 1) for ml in (HOT_ML, HEAD_ML))
    ordered = np.partition(values.ravel(), values.size - 1 - last)[values.size - 1 - last :]
    level = float(np.sort(ordered)[: max(1, last - first)].mean())
    if not level > 0:
        raise InputError("the preview image holds no activity in a head's volume: no map can be estimated")
    return level


def network_input(photopeak: Array, scatter: Array | None, voxel_ml: float, energy_kev: float) -> Array:
    """Input (4, z, y, x) float32 of the network from preview images (z, y, x) of one grid.

    Raises InputError where the photopeak image is empty; an empty scatter image counts as none.
    """
    channels = np.zeros((CHANNELS, *photopeak.shape), np.float32)
    channels[0] = normalised(photopeak, voxel_ml)
    if scatter is not None and scatter.max(initial=0.0) > 0:
        channels[1] = normalised(scatter, voxel_ml)
        channels[2] = 1.0
    channels[3] = (energy_kev - REFERENCE_KEV) / KEV_PER_UNIT
    return channels


def normalised(values: Array, voxel_ml: float) -> Array:
    """Image (z, y, x) over its head level, cut at LARGEST, its square root."""
    return np.sqrt(np.clip(values / head_level(values, voxel_ml), 0.0, LARGEST)).astype(np.float32)
