"""The head that recon/templates/head.nii.gz shows: typical in everything, straight and symmetric in pose.

python -m spectac.simulate.typical_head        writes the file again
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.ndimage import find_objects

import spectac.recon.voi as voi
from spectac.recon.io.nifti import write_labels
from spectac.recon.types import Array, Grid
from spectac.simulate.anatomy.ranges import ADULT_AND_CHILD, HeadRanges
from spectac.simulate.head import Head, draw_head
from spectac.simulate.regions import BESIDE, LABEL

_STRAIGHT = ("deformation_mm", "petalia_mm", "sinus_deviation_mm", "pitch_deg", "yaw_deg", "roll_deg", "shift_mm")
_AGE_YEARS = 60.0


def typical_head() -> Head:
    """A man of 60 years in the middle of every range of ADULT_AND_CHILD, without tilt, shift or deformation.

    Returns
    -------
    Head
        Head with voxels of 2 mm.

    Examples
    --------
    >>> typical_head().parameters["sex"]  # doctest: +SKIP
    'male'
    """
    middle: dict[str, float | tuple[float, float]] = {}
    for name, value in asdict(ADULT_AND_CHILD).items():
        # A number alone is a probability.
        centre = 0.0 if name in _STRAIGHT or not isinstance(value, tuple) else 0.5 * (value[0] + value[1])
        middle[name] = (centre, centre) if isinstance(value, tuple) else centre
    middle["age_years"] = (_AGE_YEARS, _AGE_YEARS)
    return draw_head(np.random.default_rng(0), ranges=HeadRanges(**middle))  # type: ignore[arg-type]


def template() -> tuple[Array, Grid]:
    """Labels (z, y, x) uint8 of the typical head's own tissue, on the smallest grid around it.

    Returns
    -------
    Array
        Labels (z, y, x) uint8 of regions.LABEL; 0 outside the head.
    Grid
        Where the voxels lie, in LPS mm.

    Examples
    --------
    >>> labels, grid = template()  # doctest: +SKIP
    >>> grid.shape  # doctest: +SKIP
    (126, 107, 82)
    """
    head = typical_head()
    labels = np.where(np.isin(head.labels, BESIDE), np.uint8(0), head.labels)
    inside = find_objects((labels > 0).astype(np.uint8))[0]
    cut = np.ascontiguousarray(labels[inside])
    z, y, x = (axis[part.start] for axis, part in zip(head.grid.centres_mm(), inside, strict=True))
    return cut, Grid.upright(cut.shape, head.grid.voxel_mm, (x, y, z))


def main() -> None:
    """Write the template into the package."""
    labels, grid = template()
    write_labels(Path(str(voi.TEMPLATE)), labels, grid, {label: name for name, label in LABEL.items()})


if __name__ == "__main__":
    main()
