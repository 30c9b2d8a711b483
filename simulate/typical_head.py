"""The head that recon/templates/head.nii.gz shows: typical in everything, straight and symmetric in pose.

python -m spectac.simulate.typical_head        writes the file again
"""

from dataclasses import fields
from pathlib import Path

import numpy as np

import spectac.recon.voi as voi
from spectac.recon.io.nifti import write_labels
from spectac.recon.types import Array, Grid
from spectac.simulate.anatomy.ranges import ADULT_AND_CHILD, HeadRanges
from spectac.simulate.head import Head, draw_head
from spectac.simulate.regions import BESIDE, LABEL

_STRAIGHT = ("deformation_mm", "petalia_mm", "sinus_deviation_mm", "pitch_deg", "yaw_deg", "roll_deg", "shift_mm")
_AGE_YEARS = 60.0


def typical_head() -> Head:
    """A man of 60 years in the middle of every range of ADULT_AND_CHILD, without tilt, shift or deformation."""
    middle: dict[str, float | tuple[float, float]] = {}
    for field in fields(ADULT_AND_CHILD):
        value = getattr(ADULT_AND_CHILD, field.name)
        if isinstance(value, tuple):
            centre = 0.0 if field.name in _STRAIGHT else 0.5 * (value[0] + value[1])
            middle[field.name] = (centre, centre)
        else:
            middle[field.name] = 0.0
    middle["age_years"] = (_AGE_YEARS, _AGE_YEARS)
    return draw_head(np.random.default_rng(0), ranges=HeadRanges(**middle))  # type: ignore[arg-type]


def template() -> tuple[Array, Grid]:
    """Labels (z, y, x) uint8 of the typical head's own tissue, on the smallest grid around it."""
    head = typical_head()
    labels = np.where(np.isin(head.labels, BESIDE), np.uint8(0), head.labels)
    places = [np.flatnonzero(labels.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    low, high = [int(place[0]) for place in places], [int(place[-1]) + 1 for place in places]
    inside = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    z, y, x = head.grid.centres_mm()
    cut = np.ascontiguousarray(labels[inside])
    shape = (cut.shape[0], cut.shape[1], cut.shape[2])
    return cut, Grid.upright(shape, head.grid.voxel_mm, (x[low[2]], y[low[1]], z[low[0]]))


def main() -> None:
    """Write the template into the package."""
    labels, grid = template()
    write_labels(Path(str(voi.TEMPLATE)), labels, grid, {label: name for name, label in LABEL.items()})


if __name__ == "__main__":
    main()
