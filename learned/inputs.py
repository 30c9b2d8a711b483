"""What the network sees: preview images made independent of counts, uptake and camera. The one home of normalisation.

Each image is divided by its own head level, which disease does not change: the mean over the brightest 1.2 L after the
hottest 40 mL (two striata, glands or foci with their blur) are cut off. A square root then brings scalp and brain
closer.
"""

from dataclasses import dataclass

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.scatter import windows_below
from spectac.recon.types import Array, EnergyWindow, Study

CHANNELS = ("photopeak", "scatter", "energy loss", "energy", "corrected", "has corrected")
"""Constants fill a channel: the scatter window's mean energy loss (0 without one), the photons' energy, and a flag."""

HEAD_ML, HOT_ML = 1200.0, 40.0
REFERENCE_KEV = 150.0
KEV_PER_UNIT = 10.0
LOSS_PER_UNIT = 0.2
LARGEST = 4.0
"""Head levels beyond which an image is cut: what lies above is a focus, and says nothing about attenuation."""


@dataclass(frozen=True, eq=False)
class Previews:
    """Normalised images (z, y, x) of one patient: the photopeak, and where there are any the others.

    `energy_loss` is that of the window in `scatter`; `corrected` the photopeak's image after an earlier round's map.
    """

    photopeak: Array
    energy_kev: float
    scatter: Array | None = None
    energy_loss: float = 0.0
    corrected: Array | None = None

    def channels(self) -> Array:
        """Input (6, z, y, x) float32 of the network, in the order of CHANNELS."""
        out = np.zeros((len(CHANNELS), *self.photopeak.shape), np.float32)
        out[0] = self.photopeak
        if self.scatter is not None:
            out[1] = self.scatter
            out[2] = self.energy_loss / LOSS_PER_UNIT
        out[3] = (self.energy_kev - REFERENCE_KEV) / KEV_PER_UNIT
        if self.corrected is not None:
            out[4] = self.corrected
            out[5] = 1.0
        return out


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


def normalised(values: Array, voxel_ml: float) -> Array:
    """Image (z, y, x) over its head level, cut at LARGEST, its square root; InputError as `head_level`."""
    return np.sqrt(np.clip(values / head_level(values, voxel_ml), 0.0, LARGEST)).astype(np.float32)


def side_windows(study: Study, peak: int) -> list[int]:
    """Windows below the photopeak, the widest first: it holds the most scattered photons."""
    return sorted(windows_below(study, peak), key=lambda i: -study.windows[i].width_kev)


def energy_loss(peak: EnergyWindow, side: EnergyWindow) -> float:
    """How far the side window's middle lies below the photopeak's, as a share of the latter."""
    return 1.0 - (side.lower_kev + side.upper_kev) / (peak.lower_kev + peak.upper_kev)
