"""Rigid motions between two frames of reference, as angles and millimetres that a user can check."""

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy.spatial.transform import Rotation

from spectac.recon.checks import numbers
from spectac.recon.errors import InputError
from spectac.recon.types import Array, Grid, Image, MuMap

LARGE_MM, LARGE_DEG = 10.0, 5.0
"""A shift or rotation beyond these is unusual between two scans of one bed position, and the user is told."""

Placed = TypeVar("Placed", Image, MuMap)


@dataclass(frozen=True)
class RigidShift:
    """Rotation about a centre followed by a shift, all in LPS: q = R (p - centre) + centre + shift.

    Parameters
    ----------
    rotation_deg
        Angles (x, y, z) in degrees: R = Rz Ry Rx, each counter-clockwise seen from the tip of its axis.
    shift_mm
        Shift (x, y, z) of the centre in mm; it does not depend on where the origin lies.
    centre_mm
        Centre (x, y, z) of the rotation in mm.
    warnings
        What a user should look at.

    Raises
    ------
    InputError
        For numbers that are not finite.

    Examples
    --------
    >>> shift = RigidShift((0.0, 0.0, 5.0), (3.0, 4.0, 0.0))
    >>> shift.distance_mm, round(shift.angle_deg, 6)
    (5.0, 5.0)
    """

    rotation_deg: tuple[float, float, float]
    shift_mm: tuple[float, float, float]
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rotation_deg", "shift_mm", "centre_mm"):
            object.__setattr__(self, name, numbers(getattr(self, name), "xyz", name))
        object.__setattr__(self, "warnings", tuple(self.warnings))

    @property
    def rotation(self) -> Rotation:
        """The rotation R."""
        return Rotation.from_euler("xyz", self.rotation_deg, degrees=True)

    @property
    def matrix(self) -> Array:
        """Matrix (4, 4) of the motion on columns (x, y, z, 1) in LPS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation.as_matrix()
        matrix[:3, 3] = np.add(self.centre_mm, self.shift_mm) - matrix[:3, :3] @ self.centre_mm
        return matrix

    @classmethod
    def from_matrix(cls, matrix: Array, centre_mm: tuple[float, float, float]) -> "RigidShift":
        """Motion of a matrix (4, 4) as a rotation about `centre_mm` and the shift of that centre.

        Raises InputError where the matrix is no rigid motion (to 1e-6).
        """
        turn = np.asarray(matrix, float)[:3, :3]
        if not (np.allclose(turn @ turn.T, np.eye(3), atol=1e-6) and np.linalg.det(turn) > 0):
            raise InputError("a rigid motion needs a matrix that rotates without stretching or mirroring")
        a, b, c = Rotation.from_matrix(turn).as_euler("xyz", degrees=True).tolist()
        x, y, z = (turn @ centre_mm + np.asarray(matrix, float)[:3, 3] - centre_mm).tolist()
        return cls((a, b, c), (x, y, z), centre_mm)

    @property
    def angle_deg(self) -> float:
        """The rotation as one angle about its own axis, in degrees."""
        return math.degrees(self.rotation.magnitude())

    @property
    def distance_mm(self) -> float:
        """Distance in mm that the centre moves."""
        return math.hypot(*self.shift_mm)

    @property
    def warning(self) -> str | None:
        """Warning about a motion beyond 10 mm or 5 deg; None for a smaller one."""
        if self.distance_mm <= LARGE_MM and self.angle_deg <= LARGE_DEG:
            return None
        return (
            f"the CT was moved to fit the SPECT, by more than {LARGE_MM:g} mm or {LARGE_DEG:g} deg: {self}; look at it"
        )

    def __str__(self) -> str:
        shift = ", ".join(f"{value:.1f}" for value in self.shift_mm)
        angles = ", ".join(f"{value:.1f}" for value in self.rotation_deg)
        return (
            f"shift ({shift}) mm, {self.distance_mm:.1f} mm in all; rotation ({angles}) deg, {self.angle_deg:.1f} deg "
            "in all (x left, y posterior, z superior)"
        )

    def moved_grid(self, grid: Grid) -> Grid:
        """The grid after the motion: the same voxels at other places, tilted."""
        return Grid(grid.shape, grid.voxel_mm, self.matrix @ grid.affine_lps)

    def moved(self, placed: Placed) -> Placed:
        """An image or mu-map after the motion: the same values on the moved grid, so nothing is interpolated."""
        return replace(placed, grid=self.moved_grid(placed.grid))
