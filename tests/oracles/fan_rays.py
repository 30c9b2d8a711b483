"""Rays of a fan-beam camera in closed form, written from the drawing in docs/conventions.md and not from geometry.py.

In LPS (x, y) the detector stands along n = (sin a, cos a), its columns grow along e = (-cos a, sin a). The focal line
crosses the plane at (R - F) n + place e; a ray goes from there to the place u e + (R + thickness) n on the plane of
interaction.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FanRays:
    """Camera of one view: radius R, focal length F from the face, thickness from the face to the plane of interaction.

    `place_mm` is where the focal line lies across the view, from the axis towards growing u.
    """

    angle_deg: float
    radius_mm: float
    focal_mm: float
    thickness_mm: float
    place_mm: float = 0.0

    @property
    def normal(self):
        return np.array([np.sin(np.deg2rad(self.angle_deg)), np.cos(np.deg2rad(self.angle_deg))])

    @property
    def across(self):
        return np.array([-np.cos(np.deg2rad(self.angle_deg)), np.sin(np.deg2rad(self.angle_deg))])

    @property
    def focus(self):
        return (self.radius_mm - self.focal_mm) * self.normal + self.place_mm * self.across

    def place_of(self, x, y):
        """u in mm, from the normal through the axis, of points (x, y): straight from the focus to the crystal."""
        from_focus = np.stack([x, y], axis=-1) - self.focus
        slope = (from_focus @ self.across) / (from_focus @ self.normal)
        return self.place_mm + slope * (self.focal_mm + self.thickness_mm)

    def sensitivity(self, x, y):
        """Sensitivity of points against parallel holes: F/(F - z) cos^3(theta)."""
        from_focus = np.stack([x, y], axis=-1) - self.focus
        ahead = from_focus @ self.normal
        return self.focal_mm / ahead * (ahead / np.linalg.norm(from_focus, axis=-1)) ** 3

    def line_integrals(self, bodies, attenuator, u_mm, z_mm):
        """F/Fc cos^4(theta) times the attenuated integrals (z, u) in value * mm along the rays that meet u_mm.

        The attenuated integral through a body of value a between s_1 and s_2 is
        a (exp(-mu (s_e - s_2)) - exp(-mu (s_e - s_1))) / mu, s_e where the ray leaves the attenuator.
        """
        crystal = self.focal_mm + self.thickness_mm
        ends = (self.radius_mm + self.thickness_mm) * self.normal + u_mm[:, None] * self.across
        along = ends - self.focus
        length = np.linalg.norm(along, axis=1)
        direction = (along / length[:, None]).T
        x, y, z = ends[:, 0][None], ends[:, 1][None], z_mm[:, None]
        integrals = np.zeros((z_mm.size, u_mm.size))
        mu = 0.0 if attenuator is None else attenuator.value / 10.0
        leave = 0.0 if attenuator is None else attenuator.chord(x, y, z, direction)[1]
        for body in bodies:
            near, far = body.chord(x, y, z, direction)
            if mu:
                integrals += body.value * (np.exp(-mu * (leave - far)) - np.exp(-mu * (leave - near))) / mu
            else:
                integrals += body.value * (far - near)
        return self.focal_mm / crystal * (crystal / length) ** 4 * integrals
