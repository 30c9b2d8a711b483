"""Network inputs: normalised preview images of one patient, independent of counts, uptake and camera.

Each image is divided by its head level, which disease hardly changes. A square root then brings scalp and brain closer
together. This module is the one home of the normalisation.
"""

from dataclasses import dataclass

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.photopeak import windows_below
from spectac.recon.types import Array, EnergyWindow, Study

CHANNELS = ("photopeak", "scatter", "energy loss", "energy", "recovered")
"""Channels of the input.

Energy loss of the scatter window (0 without one) and energy are constants; "recovered" is the photopeak with resolution
recovery.
"""

HEAD_ML = 1200.0
"""The head level is the mean over the brightest voxels of this volume."""

HOT_ML = 40.0
"""Volume of the hottest voxels that the head level leaves out: two striata, glands or foci with their blur."""

REFERENCE_KEV = 150.0
"""Photon energy at which the energy channel is 0."""

KEV_PER_UNIT = 10.0
"""Photon energy in keV by which the energy channel grows by 1."""

LOSS_PER_UNIT = 0.2
"""Relative energy loss by which the energy loss channel grows by 1."""

LARGEST = 4.0
"""Images are clipped at this multiple of the head level: brighter voxels are foci, without use for attenuation."""


@dataclass(frozen=True, eq=False)
class NetworkInput:
    """Normalised preview images of one patient.

    Parameters
    ----------
    photopeak
        Image (z, y, x) of the photopeak, from `normalised`.
    energy_kev
        Energy of the imaged line in keV.
    scatter
        Image (z, y, x) of a window below the photopeak, from `normalised`; None without such a window.
    energy_loss
        Relative energy loss of the window in `scatter`, from `energy_loss`.
    recovered
        Image (z, y, x) of the photopeak with resolution recovery, from `normalised`; None where no network needs it.

    Examples
    --------
    >>> NetworkInput(np.zeros((8, 8, 8)), 159.0).channels().shape
    (5, 8, 8, 8)
    """

    photopeak: Array
    energy_kev: float
    scatter: Array | None = None
    energy_loss: float = 0.0
    recovered: Array | None = None

    def channels(self) -> Array:
        """Input of the network: float32 (channel, z, y, x), in the order of CHANNELS."""
        out = np.zeros((len(CHANNELS), *self.photopeak.shape), np.float32)
        out[0] = self.photopeak
        if self.scatter is not None:
            out[1] = self.scatter
            out[2] = self.energy_loss / LOSS_PER_UNIT
        out[3] = (self.energy_kev - REFERENCE_KEV) / KEV_PER_UNIT
        if self.recovered is not None:
            out[4] = self.recovered
        return out


def head_level(values: Array, voxel_ml: float) -> float:
    """Mean of an image over its brightest HEAD_ML, without the hottest HOT_ML.

    Parameters
    ----------
    values
        Image (z, y, x).
    voxel_ml
        Volume of a voxel in mL.

    Returns
    -------
    float
        Level in the unit of the image, above 0.

    Raises
    ------
    InputError
        If the level is not above 0.

    Examples
    --------
    >>> head_level(np.full((8, 8, 8), 3.0), voxel_ml=8.0)
    3.0
    """
    first, last = (min(int(ml / voxel_ml), values.size - 1) for ml in (HOT_ML, HEAD_ML))
    ordered = np.partition(values.ravel(), values.size - 1 - last)[values.size - 1 - last :]
    level = float(np.sort(ordered)[: max(1, last - first)].mean())
    if not level > 0:
        raise InputError("the preview image holds no activity in a head's volume: no map can be estimated")
    return level


def normalised(values: Array, voxel_ml: float) -> Array:
    """Square root of an image over its head level, clipped at LARGEST.

    Parameters
    ----------
    values
        Image (z, y, x).
    voxel_ml
        Volume of a voxel in mL.

    Returns
    -------
    Array
        float32 (z, y, x).

    Raises
    ------
    InputError
        If the head level is not above 0.

    Examples
    --------
    >>> float(normalised(np.full((8, 8, 8), 3.0), voxel_ml=8.0).max())
    1.0
    """
    return np.sqrt(np.clip(values / head_level(values, voxel_ml), 0.0, LARGEST)).astype(np.float32)


def side_windows(study: Study, peak: int) -> list[int]:
    """Windows below the photopeak, the widest first: it holds the most scattered photons.

    Parameters
    ----------
    study
        Study with all its windows.
    peak
        Index of the photopeak's window.

    Returns
    -------
    list[int]
        Indices of windows.

    Examples
    --------
    >>> from spectac.simulate.scanner import Scanner
    >>> scanner = Scanner("tiny", "siemens-lehr", matrix=(8, 8), views=8, scheme="tew+scatter")
    >>> windows = scanner.windows("I-123")
    >>> counts = np.zeros((len(windows), scanner.views, *scanner.matrix))
    >>> study = Study(scanner.acquisition("I-123"), windows, counts)
    >>> [study.windows[side].name for side in side_windows(study, 0)]
    ['scatter', 'lower']
    """
    return sorted(windows_below(study, peak), key=lambda i: -study.windows[i].width_kev)


def energy_loss(peak: EnergyWindow, side: EnergyWindow) -> float:
    """Distance of the side window's middle below the photopeak's, relative to the latter.

    Parameters
    ----------
    peak
        Window of the photopeak.
    side
        Window below it.

    Returns
    -------
    float
        Ratio; 0 for two windows with the same middle.

    Examples
    --------
    >>> round(energy_loss(EnergyWindow("photopeak", 126.0, 154.0), EnergyWindow("scatter", 92.0, 126.0)), 3)
    0.221
    """
    return 1.0 - (side.lower_kev + side.upper_kev) / (peak.lower_kev + peak.upper_kev)
