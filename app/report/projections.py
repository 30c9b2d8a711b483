"""Projections and sinograms of the report."""

from typing import Any

import numpy as np

from spectac.app.report.slices import Pack, levels_of
from spectac.recon import Study

STRIP_BYTES = 2_500_000
"""Of all projections of a report before compression."""
FEWEST_PIXELS = 48
"""Pixels are summed while a side keeps more than this; then views are left out."""


def strip(study: Study, pack: Pack, share: float) -> dict[str, Any]:
    """Projections of every window, pixels summed and views left out until they fit into that share of STRIP_BYTES."""
    views, windows = study.acquisition.views, study.windows
    angles = np.mod(study.acquisition.view_angles_deg, 360.0)
    rows, columns = study.acquisition.matrix
    many, every = 1, 1
    while len(windows) * (views // every) * (rows // many) * (columns // many) > share * STRIP_BYTES:
        if max(rows, columns) // many > FEWEST_PIXELS:
            many += 1
        else:
            every += 1
    chosen = np.argsort(angles, kind="stable")[::every]
    cut = study.counts[:, chosen, : rows // many * many, : columns // many * many]
    summed = cut.reshape(len(windows), chosen.size, rows // many, many, columns // many, many).sum(axis=(3, 5))
    shown = []
    for window, counts in zip(windows, summed, strict=True):
        top = float(counts.max())
        name = f"{window.name}, {window.lower_kev:g}-{window.upper_kev:g} keV"
        shown.append({"name": name, "begin": pack.add(levels_of(counts, top)), "top": top})
    return {
        "shape": list(summed.shape[1:]),
        "summed": many,
        "angles": [round(float(angle), 2) for angle in angles[chosen]],
        "views": [int(view) for view in chosen],
        "pixelMm": [length * many for length in study.acquisition.pixel_mm],
        "windows": shown,
    }
