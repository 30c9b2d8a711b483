"""What a head is painted on: labels and points of the grid, and the boxes around structures."""

from dataclasses import dataclass, field
from itertools import product

import numpy as np

from spectac.recon.types import Array
from spectac.simulate.anatomy.distance_fields import Points
from spectac.simulate.anatomy.placement import Placement
from spectac.simulate.regions import LABEL

Corner = tuple[float, float, float]

SIDES = ((-1, "right"), (1, "left"))
"""Sign of x and name of each side."""

SOFT = ("fat", "muscle", "mucosa")
"""Soft tissue that bone and glands may cover."""


@dataclass(frozen=True)
class Part:
    """A box of the grid: its slices (z, y, x) and a view of the labels in it.

    Parameters
    ----------
    box
        Slices (z, y, x).
    labels
        View of the labels in the box.

    Examples
    --------
    >>> part = Part((slice(None),) * 3, np.zeros((1, 1, 2), np.uint8))
    >>> part.paint(np.array([[[True, False]]]), "skull")
    >>> part.isin("skull").tolist()
    [[[True, False]]]
    """

    box: tuple[slice, slice, slice]
    labels: Array = field(repr=False)

    def isin(self, *names: str) -> Array:
        """Mask (z, y, x) of the voxels with one of these labels."""
        return np.isin(self.labels, [LABEL[name] for name in names])

    def paint(self, mask: Array, label: str, over: tuple[str, ...] = ()) -> None:
        """Give the voxels where the mask holds that label, only over the labels `over` where given.

        Parameters
        ----------
        mask
            (z, y, x) bool.
        label
            Name of a region.
        over
            Names of the regions that may be painted over; empty for all.
        """
        self.labels[mask & self.isin(*over) if over else mask] = LABEL[label]


@dataclass(frozen=True)
class Canvas:
    """Grid axes (z, y, x) in mm, anatomical points and labels (z, y, x); later paint covers earlier paint.

    Parameters
    ----------
    placement
        Pose and proportions.
    z
        Voxel centres along z in mm.
    y
        Voxel centres along y in mm.
    x
        Voxel centres along x in mm.
    points
        Anatomical points of the voxels.
    labels
        (z, y, x) uint8 of regions.LABEL.

    Examples
    --------
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> rng = np.random.default_rng(1)
    >>> placement = Placement.draw(rng, draw_shape(rng, HeadRanges()))
    >>> axis = np.arange(-10.0, 11.0, 5.0)
    >>> bool(Canvas.empty(placement, axis, axis, axis).whole.isin("outside").all())
    True
    """

    placement: Placement
    z: Array
    y: Array
    x: Array
    points: Points
    labels: Array = field(repr=False)

    @classmethod
    def empty(cls, placement: Placement, z: Array, y: Array, x: Array) -> "Canvas":
        """All "outside".

        Parameters
        ----------
        placement
            Pose and proportions.
        z
            Voxel centres along z in mm.
        y
            Voxel centres along y in mm.
        x
            Voxel centres along x in mm.

        Returns
        -------
        Canvas
            Canvas with the anatomical points of all voxels.
        """
        return cls(placement, z, y, x, placement.anatomical(z, y, x), np.zeros((z.size, y.size, x.size), np.uint8))

    @property
    def whole(self) -> Part:
        """The whole grid."""
        return Part((slice(None),) * 3, self.labels)

    def box(self, low: Corner, high: Corner) -> tuple[Part, Points]:
        """Part that holds the anatomical box low..high (x, y, z), with room for the deformation, and its points.

        Parameters
        ----------
        low
            Lowest corner (x, y, z) in anatomical mm.
        high
            Highest corner.

        Returns
        -------
        tuple of Part and Points
            Part, whose labels are a view of the canvas, and the points of its voxels.
        """
        corners = np.array(list(product(*zip(low, high, strict=True))), float)
        # The face's stretch is undone here: lower points move up or down with it.
        face = self.placement.shape["face_height"]
        stretched = corners.copy()
        stretched[:, 2] += (face - 1) * np.minimum(stretched[:, 2] + 25, 0)
        both = self.placement.camera(np.concatenate([corners, stretched]))
        reach = 3.5 * self.placement.shape["deformation_mm"] + 0.5 * abs(self.placement.shape["petalia_mm"])
        first, last = both.min(axis=0) - reach, both.max(axis=0) + reach
        z, y, x = (
            slice(*np.searchsorted(centres, (first[axis], last[axis])).tolist())
            for axis, centres in ((2, self.z), (1, self.y), (0, self.x))
        )
        return Part((z, y, x), self.labels[z, y, x]), self.points[z, y, x]

    def side(self, sign: int, low: Corner, high: Corner) -> tuple[Part, Points]:
        """box() of one side, where x counts away from the midline: sign +1 left, -1 right.

        Parameters
        ----------
        sign
            +1 left, -1 right.
        low
            Lowest corner (x, y, z) in anatomical mm.
        high
            Highest corner.

        Returns
        -------
        tuple of Part and Points
            As `box` gives them; x of the points grows away from the midline.
        """
        if sign > 0:
            return self.box(low, high)
        part, points = self.box((-high[0], low[1], low[2]), (-low[0], high[1], high[2]))
        return part, points.lateral(sign)
