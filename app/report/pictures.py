"""Volumes and projections as the report's script reads them: whole numbers, compressed, as text."""

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from spectac.recon import Image, MuMap, Study
from spectac.recon.contour import Outline
from spectac.recon.resample import resample
from spectac.recon.types import Array, Grid

VOLUME_BYTES = 6_000_000
"""Of all volumes of a report before compression."""
STRIP_BYTES = 2_500_000
"""Of all projections of a report before compression."""
MARGIN_MM = 20.0
"""Beyond the head's outline: a head-holder shows there."""
HEIGHT_MM = 220.0
"""Shown below the outline's top: the rest is neck."""
FINE_LEVELS = 4096
"""Of an image: a level is 0.02 % of what it spans."""
SHOWN_PERCENT = 99.95
"""Of the voxels below the brightest colour: some 2 mL of a head are above."""


class Pack:
    """Bytes of many arrays in one text, each known by where it begins."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def add(self, levels: Array) -> int:
        """Append an array of levels from 0 to 255; where it begins."""
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


def display_grid(grid: Grid, outline: Outline | None, most: float) -> Grid:
    """At most so many cubic voxels around the head, on the grid's own lattice where that is cubic.

    A voxel is a whole number of the grid's, of its smallest length where they are not cubic.
    """
    z, y, x = (np.array(axis) for axis in grid.centres_mm())
    low, high = (np.array([axis[end] for axis in (z, y, x)]) for end in (0, -1))
    if outline is not None:
        inside = resample(outline.mask, outline.grid, grid) > 0.5
        for axis, centres in enumerate((z, y, x)):
            seen = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
            if seen.size:
                low[axis] = max(low[axis], centres[seen[0]] - MARGIN_MM)
                high[axis] = min(high[axis], centres[seen[-1]] + MARGIN_MM)
        low[0] = max(low[0], high[0] - MARGIN_MM - HEIGHT_MM)
    own = min(grid.voxel_mm)
    many = 1
    while np.prod((high - low) / (many * own) + 1.0) > most:
        many += 1
    length = many * own
    first = []
    for axis, centres in enumerate((z, y, x)):
        start = int(np.searchsorted(centres, low[axis] - 1e-6))
        first.append(float(centres[start]) - 0.5 * grid.voxel_mm[axis] + 0.5 * length)
    shape = [max(1, int((high[axis] + 0.5 * own - first[axis] + 0.5 * length) / length + 1e-6)) for axis in range(3)]
    return Grid.upright((shape[0], shape[1], shape[2]), (length,) * 3, (first[2], first[1], first[0]))


def _levels(values: Array, top: float) -> Array:
    """0 to 255 for values from 0 to `top`; what lies beyond is cut."""
    return np.rint(np.clip(values / max(top, 1e-30), 0.0, 1.0) * 255.0).astype(np.uint8)


def _fine(values: Array, pack: Pack) -> dict[str, float]:
    """Pack an image in FINE_LEVELS; value = low + step * level."""
    low = float(values.min())
    step = max(float(values.max()) - low, 1e-30) / (FINE_LEVELS - 1)
    begin = pack.add_fine(np.rint((values - low) / step).astype(np.uint16))
    return {"begin": begin, "low": low, "step": step}


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
    z, y, x = grid.centres_mm()
    return {
        "shape": list(grid.shape),
        "voxelMm": grid.voxel_mm[0],
        "firstMm": [float(z[0]), float(y[0]), float(x[0])],
        "unit": first.unit,
        "topMu": top_mu,
        "show": max(float(np.percentile(values, SHOWN_PERCENT)) for values in shown.values()),
        "images": {name: _fine(values, pack) for name, values in shown.items()},
        "maps": {name: pack.add(_levels(values, top_mu)) for name, values in attenuating.items()},
    }


def strip(study: Study, pack: Pack, share: float) -> dict[str, Any]:
    """Projections of every window, pixels summed and views left out until they fit into that share of STRIP_BYTES."""
    views = study.acquisition.views
    order = np.argsort(np.mod(study.acquisition.view_angles_deg, 360.0), kind="stable")
    rows, columns = study.acquisition.matrix
    many, every = 1, 1
    while len(study.windows) * (views // every) * (rows // many) * (columns // many) > share * STRIP_BYTES:
        if rows // many > 48 or columns // many > 48:
            many += 1
        else:
            every += 1
    chosen = order[::every]
    cut = study.counts[:, chosen, : rows // many * many, : columns // many * many]
    summed = cut.reshape(len(study.windows), chosen.size, rows // many, many, columns // many, many).sum(axis=(3, 5))
    shown = []
    for window, counts in zip(study.windows, summed, strict=True):
        top = float(counts.max())
        shown.append(
            {
                "name": f"{window.name}, {window.lower_kev:g}-{window.upper_kev:g} keV",
                "begin": pack.add(_levels(counts, top)),
                "top": top,
            }
        )
    return {
        "shape": list(summed.shape[1:]),
        "summed": many,
        "angles": [round(float(angle), 2) for angle in np.mod(study.acquisition.view_angles_deg, 360.0)[chosen]],
        "views": [int(view) for view in chosen],
        "pixelMm": [length * many for length in study.acquisition.pixel_mm],
        "windows": shown,
    }


def regular_axis(low: float, high: float, parts: int = 5) -> list[float]:
    """Round numbers from `low` to `high` for a chart's axis, about `parts` steps."""
    span = max(high - low, 1e-12)
    raw = span / parts
    size = 10.0 ** np.floor(np.log10(raw))
    step = float(size * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw * 0.999))
    first = np.ceil(low / step - 1e-9) * step
    return [float(value) for value in np.arange(first, high + 1e-9 * span, step)]
