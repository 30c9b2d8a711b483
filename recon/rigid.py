"""A rigid motion between two frames of reference, in words that a user can check: angles and millimetres."""

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.types import Array, Grid, Image, MuMap

LARGE_MM, LARGE_DEG = 10.0, 5.0
"""Beyond these a shift between two scans of one bed position is unusual, and the user is told."""

Placed = TypeVar("Placed", Image, MuMap)


@dataclass(frozen=True)
class RigidShift:
    """Rotation about `centre_mm` followed by a shift, all in LPS: q = R (p - centre) + centre + shift.

    `rotation_deg` (x, y, z): R = Rz Ry Rx, each turning counter-clockwise seen from the tip of its axis. `shift_mm`
    (x, y, z) is how far the centre itself moves, so that it does not depend on where the origin lies. `warnings` say
    what a user should look at.
    """

    rotation_deg: tuple[float, float, float]
    shift_mm: tuple[float, float, float]
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rotation_deg", "shift_mm", "centre_mm"):
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) != 3 or not all(math.isfinite(value) for value in values):
                raise InputError(f"{name} needs three finite numbers (x, y, z), got {getattr(self, name)}")
            object.__setattr__(self, name, values)
        object.__setattr__(self, "warnings", tuple(self.warnings))

    @property
    def matrix(self) -> Array:
        """The motion as a (4, 4) matrix on columns (x, y, z, 1) in LPS mm."""
        a, b, c = (math.radians(angle) for angle in self.rotation_deg)
        about_x = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
        about_y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
        about_z = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
        matrix = np.eye(4)
        matrix[:3, :3] = about_z @ about_y @ about_x
        centre = np.asarray(self.centre_mm)
        matrix[:3, 3] = centre + np.asarray(self.shift_mm) - matrix[:3, :3] @ centre
        return matrix

    @classmethod
    def from_matrix(cls, matrix: Array, centre_mm: tuple[float, float, float]) -> "RigidShift":
        """The motion of a (4, 4) matrix, told as a rotation about `centre_mm` and that centre's shift.

        Raises InputError where the matrix is no rigid motion (to 1e-6).
        """
        turn = np.asarray(matrix, float)[:3, :3]
        if not (np.allclose(turn @ turn.T, np.eye(3), atol=1e-6) and np.linalg.det(turn) > 0):
            raise InputError("a rigid motion needs a matrix that rotates without stretching or mirroring")
        angles = (
            math.degrees(math.atan2(turn[2, 1], turn[2, 2])),
            math.degrees(math.asin(min(1.0, max(-1.0, -turn[2, 0])))),
            math.degrees(math.atan2(turn[1, 0], turn[0, 0])),
        )
        centre = np.asarray(centre_mm, float)
        x, y, z = turn @ centre + np.asarray(matrix, float)[:3, 3] - centre
        return cls(angles, (float(x), float(y), float(z)), centre_mm)

    @property
    def angle_deg(self) -> float:
        """The whole rotation as one angle about its own axis."""
        cosine = 0.5 * (float(np.trace(self.matrix[:3, :3])) - 1.0)
        return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))

    @property
    def distance_mm(self) -> float:
        """How far the centre moves."""
        return math.hypot(*self.shift_mm)

    @property
    def warning(self) -> str | None:
        """What to tell a user when the motion is beyond 10 mm or 5 deg; None for a smaller one."""
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

    def inverse(self) -> "RigidShift":
        """The motion that undoes this one, told about the place where this one leaves the centre."""
        x, y, z = np.add(self.centre_mm, self.shift_mm)
        return RigidShift.from_matrix(np.linalg.inv(self.matrix), (float(x), float(y), float(z)))

    def moved_grid(self, grid: Grid) -> Grid:
        """The grid after the motion: the same voxels at other places; it is tilted, and resample() reads it as such."""
        return Grid(grid.shape, grid.voxel_mm, self.matrix @ grid.affine_lps)

    def moved(self, placed: Placed) -> Placed:
        """An image or mu-map after the motion: the same values on the moved grid, so nothing is interpolated."""
        return replace(placed, grid=self.moved_grid(placed.grid))
