"""Slices of the report: the volumes of images and maps that its script (viewer.js) cuts and draws."""

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from spectac.app.regions import Regions
from spectac.recon import Image, MuMap
from spectac.recon.contour import Outline
from spectac.recon.resample import resample
from spectac.recon.types import Array, Grid

VOLUME_BYTES = 6_000_000
"""Of all volumes of a report before compression."""
MARGIN_MM = 20.0
"""Shown beyond the head's outline, so that a head-holder is seen."""
HEIGHT_MM = 220.0
"""Shown below the outline's top: the rest is neck."""
FINE_LEVELS = 4096
"""Levels of an image, each 0.02 % of its range."""
SHOWN_PERCENT = 99.95
"""Percentile of the voxels that gets the brightest colour: some 2 mL of a head are above."""


class Pack:
    """Bytes of many arrays in one text, each known by the place where it begins."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def add(self, levels: Array) -> int:
        """Append an array of levels from 0 to 255; returns where it begins."""
        begin, data = self._length, np.ascontiguousarray(levels, np.uint8).tobytes()
        self._parts.append(data)
        self._length += len(data)
        return begin

    def add_fine(self, levels: Array) -> int:
        """Append an array of levels from 0 to 65535: all high bytes, which compress well, then all low ones."""
        begin = self.add(levels >> 8)
        self.add(levels & 255)
        return begin

    @property
    def text(self) -> str:
        """All arrays: zlib's deflate, then base64."""
        return base64.b64encode(zlib.compress(b"".join(self._parts), 9)).decode("ascii")


def levels_of(values: Array, top: float) -> Array:
    """Levels 0 to 255 for values from 0 to `top`; values beyond are cut."""
    return np.rint(np.clip(values / max(top, 1e-30), 0.0, 1.0) * 255.0).astype(np.uint8)


def display_grid(grid: Grid, outline: Outline | None, most: float) -> Grid:
    """Grid of at most `most` cubic voxels around the head, on the image's own lattice where that is cubic.

    The voxel length is a whole multiple of the image's, of its smallest length where voxels are not cubic.
    """
    axes = [np.array(axis) for axis in grid.centres_mm()]
    low, high = (np.array([axis[end] for axis in axes]) for end in (0, -1))
    if outline is not None:
        inside = resample(outline.mask, outline.grid, grid) > 0.5
        for axis, centres in enumerate(axes):
            seen = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
            if seen.size:
                low[axis] = max(low[axis], centres[seen[0]] - MARGIN_MM)
                high[axis] = min(high[axis], centres[seen[-1]] + MARGIN_MM)
        low[0] = max(low[0], high[0] - MARGIN_MM - HEIGHT_MM)
    shortest = min(grid.voxel_mm)
    many = 1
    while np.prod((high - low) / (many * shortest) + 1.0) > most:
        many += 1
    length = many * shortest
    first = []
    for axis, centres in enumerate(axes):
        start = int(np.searchsorted(centres, low[axis] - 1e-6))
        first.append(float(centres[start]) - 0.5 * grid.voxel_mm[axis] + 0.5 * length)
    z, y, x = (
        max(1, int((end + 0.5 * shortest - begin + 0.5 * length) / length + 1e-6))
        for begin, end in zip(first, high, strict=True)
    )
    return Grid.upright((z, y, x), (length,) * 3, (first[2], first[1], first[0]))


def _fine(values: Array, pack: Pack) -> dict[str, float]:
    """Pack an image in FINE_LEVELS; value = low + step * level."""
    low = float(values.min())
    step = max(float(values.max()) - low, 1e-30) / (FINE_LEVELS - 1)
    return {"begin": pack.add_fine(np.rint((values - low) / step).astype(np.uint16)), "low": low, "step": step}


def volumes(
    images: Mapping[str, Image], maps: Mapping[str, MuMap | None], outline: Outline | None, pack: Pack, share: float
) -> dict[str, Any]:
    """Grid and, by name, where the levels of each image and map begin, and what value a level means.

    Each image has a scale of its own; maps share one, whose level 255 is `topMu`. `share` of VOLUME_BYTES may be
    filled.
    """
    first = next(iter(images.values()))
    count = 2 * len(images) + sum(mu is not None for mu in maps.values())
    grid = display_grid(first.grid, outline, share * VOLUME_BYTES / count)
    shown = {name: resample(image.values, image.grid, grid) for name, image in images.items()}
    attenuating = {name: resample(mu.per_cm, mu.grid, grid) for name, mu in maps.items() if mu is not None}
    top_mu = max((float(values.max()) for values in attenuating.values()), default=0.0)
    return {
        "shape": list(grid.shape),
        "voxelMm": grid.voxel_mm[0],
        "firstMm": [float(axis[0]) for axis in grid.centres_mm()],
        "unit": first.unit,
        "topMu": top_mu,
        "show": max(float(np.percentile(values, SHOWN_PERCENT)) for values in shown.values()),
        "images": {name: _fine(values, pack) for name, values in shown.items()},
        "maps": {name: pack.add(levels_of(values, top_mu)) for name, values in attenuating.items()},
    }


def cross_hair(regions: Regions, grid: Grid) -> list[float]:
    """First position of the cross-hair (z, y, x) in LPS mm: the striata's or the brain's centre, else the grid's."""
    axes = grid.centres_mm()
    for name in ("striata", "brain"):
        mask = regions.voi(name)
        if mask is not None:
            total = float(mask.sum())
            sums = (mask.sum(axis=(1, 2)), mask.sum(axis=(0, 2)), mask.sum(axis=(0, 1)))
            return [float(axis @ part) / total for axis, part in zip(axes, sums, strict=True)]
    return [0.5 * float(axis[0] + axis[-1]) for axis in axes]
