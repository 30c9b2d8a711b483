"""Where a head lies in the camera: its grid, and the anatomical coordinates of every voxel.

Anatomical coordinates are those of this package's reference head, in mm: the anterior commissure is the origin, the
plane of both commissures is horizontal, x grows to the left, y to posterior, z to superior. Pose, size, proportions and
a smooth random deformation lie between them and the camera.
"""

from dataclasses import dataclass

import numpy as np

from spectac.recon.types import Array, Grid
from spectac.simulate.anatomy.distance_fields import FIELD_REACH_MM, Points, SmoothField, step
from spectac.simulate.anatomy.ranges import HeadShape

CENTRE = (0.0, 20.0, 9.0)
"""Anatomical coordinates of the middle of the brain, the point that is put on the camera's axis, plus the shift."""


def rotation(pitch_deg: float, yaw_deg: float, roll_deg: float) -> Array:
    """Matrix (3, 3) from a straight head to the camera: pitch about x (chin down > 0), roll about y, yaw about z.

    Parameters
    ----------
    pitch_deg
        About x; chin down is positive.
    yaw_deg
        About z.
    roll_deg
        About y.

    Returns
    -------
    Array
        float64 (3, 3) for columns (x, y, z).

    Examples
    --------
    >>> rotation(0.0, 0.0, 0.0).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    p, w, r = np.radians([pitch_deg, yaw_deg, roll_deg])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_y = np.array([[np.cos(r), 0, np.sin(r)], [0, 1, 0], [-np.sin(r), 0, np.cos(r)]])
    about_z = np.array([[np.cos(w), -np.sin(w), 0], [np.sin(w), np.cos(w), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y)


@dataclass(frozen=True)
class Placement:
    """Pose and proportions of one head, and its deformation fields (x, y, z).

    Parameters
    ----------
    shape
        Draws of the head.
    fields
        Deformation (x, y, z).

    Examples
    --------
    >>> from spectac.simulate.anatomy.ranges import HeadRanges, draw_shape
    >>> rng = np.random.default_rng(1)
    >>> placement = Placement.draw(rng, draw_shape(rng, HeadRanges()))
    >>> bool(np.allclose(placement.camera([CENTRE]), placement.shift_mm))
    True
    """

    shape: HeadShape
    fields: tuple[SmoothField, SmoothField, SmoothField]

    @classmethod
    def draw(cls, rng: np.random.Generator, shape: HeadShape) -> "Placement":
        """Placement with a deformation from the generator; its wavelengths are long against the structures.

        Parameters
        ----------
        rng
            Generator.
        shape
            Draws of the head.

        Returns
        -------
        Placement
            Placement of a head of this shape.
        """
        return cls(shape, (SmoothField(rng, 62.0), SmoothField(rng, 62.0), SmoothField(rng, 62.0)))

    @property
    def scale(self) -> Array:
        """Size factors (x, y, z)."""
        size, breadth, height = (self.shape[name] for name in ("size", "breadth", "height"))
        # A broader head is shorter: the cranial index varies more than the volume.
        return np.array([size * breadth, size / np.sqrt(breadth), size * height])

    @property
    def turn(self) -> Array:
        """Rotation matrix (3, 3) from anatomical to camera axes."""
        return rotation(self.shape["pitch_deg"], self.shape["yaw_deg"], self.shape["roll_deg"])

    @property
    def shift_mm(self) -> Array:
        """Where CENTRE falls in the camera (x, y, z), without the deformation."""
        return np.array([self.shape[f"shift_{axis}_mm"] for axis in "xyz"])

    def anatomical(self, z: Array, y: Array, x: Array) -> Points:
        """Anatomical coordinates (z, y, x) of the voxels whose centres lie at these camera positions (LPS mm).

        Parameters
        ----------
        z
            Camera positions along z in mm.
        y
            Camera positions along y in mm.
        x
            Camera positions along x in mm.

        Returns
        -------
        Points
            Coordinates in mm, each (z, y, x).
        """
        turn, scale = self.turn, self.scale
        rows = []
        for axis in range(3):
            inverse = (turn[:, axis] / scale[axis]).astype(np.float32)
            rows.append(
                (inverse[2] * (z - self.shift_mm[2]).astype(np.float32))[:, None, None]
                + (inverse[1] * (y - self.shift_mm[1]).astype(np.float32))[None, :, None]
                + (inverse[0] * (x - self.shift_mm[0]).astype(np.float32))[None, None, :]
                + np.float32(CENTRE[axis])
            )
        amplitude = np.float32(self.shape["deformation_mm"])
        px, py, pz = (row + amplitude * field.on_axes(z, y, x) for row, field in zip(rows, self.fields, strict=True))
        # Petalia: the left half slides back, the right half forward (Le May, Ann NY Acad Sci 1976).
        py -= np.float32(self.shape["petalia_mm"] * 0.5) * np.tanh(px * np.float32(1 / 25))
        return self._face(px, py, pz)

    def _face(self, x: Array, y: Array, z: Array) -> Points:
        """Stretch of z below the orbits (in front) and below the skull (behind): faces differ more than brains."""
        more = np.float32(1 / self.shape["face_height"] - 1)
        behind = step((y + 20) / 35)
        z = z + more * (np.minimum(z + 25, 0) * (1 - behind) + np.minimum(z + 66, 0) * behind)
        return Points(x, y, z)

    def camera(self, points: Array) -> Array:
        """Camera positions (n, 3) (x, y, z) of anatomical points (n, 3), to the deformation and the face's stretch.

        Parameters
        ----------
        points
            (n, 3) anatomical points (x, y, z) in mm.

        Returns
        -------
        Array
            float64 (n, 3) in LPS mm.
        """
        points = np.asarray(points, float)
        return np.asarray((points - CENTRE) * self.scale @ self.turn.T + self.shift_mm)


def axes_mm(low: Array, high: Array, voxel_mm: float) -> tuple[Array, Array, Array]:
    """Voxel centres along (z, y, x) of the smallest grid over low..high (x, y, z): multiples of a voxel plus a half.

    Parameters
    ----------
    low
        Lowest corner (x, y, z) in mm.
    high
        Highest corner (x, y, z) in mm.
    voxel_mm
        Edge of a voxel in mm.

    Returns
    -------
    tuple of Array
        Centres in mm along z, y and x, so that voxel faces lie at multiples of `voxel_mm`.

    Examples
    --------
    >>> [axis.tolist() for axis in axes_mm(np.array([-3.0, 0.0, -8.0]), np.array([3.0, 4.0, 8.0]), 4.0)]
    [[-6.0, -2.0, 2.0, 6.0], [2.0], [-2.0, 2.0]]
    """
    axes = []
    for axis in (2, 1, 0):
        first, last = np.floor(low[axis] / voxel_mm), np.ceil(high[axis] / voxel_mm)
        axes.append((np.arange(first, last) + 0.5) * voxel_mm)
    return axes[0], axes[1], axes[2]


def grid_of(z: Array, y: Array, x: Array, voxel_mm: float) -> Grid:
    """Upright grid with these centres.

    Parameters
    ----------
    z
        Voxel centres along z in mm.
    y
        Voxel centres along y in mm.
    x
        Voxel centres along x in mm.
    voxel_mm
        Edge of a voxel in mm.

    Returns
    -------
    Grid
        Grid with cubic voxels.

    Examples
    --------
    >>> grid = grid_of(np.array([-2.0, 2.0]), np.array([2.0]), np.array([-2.0, 2.0]), 4.0)
    >>> grid.shape, grid.voxel_ml
    ((2, 1, 2), 0.064)
    """
    return Grid.upright((z.size, y.size, x.size), (voxel_mm,) * 3, (x[0], y[0], z[0]))


COARSE_MM = 5.0
"""Voxels of the grid on which a head's extent is found."""


def coarse_axes() -> tuple[Array, Array, Array]:
    """Centres (z, y, x) of a coarse grid that any head fits in.

    Returns
    -------
    tuple of Array
        Centres in mm along z, y and x, COARSE_MM apart.

    Examples
    --------
    >>> [(float(axis[0]), float(axis[-1])) for axis in coarse_axes()]
    [(-200.0, 135.0), (-170.0, 170.0), (-125.0, 125.0)]
    """
    reach = FIELD_REACH_MM - 20
    axis = np.arange(-reach, reach + 1, COARSE_MM)
    return axis[axis < 140], axis[np.abs(axis) < 175], axis[np.abs(axis) < 130]
