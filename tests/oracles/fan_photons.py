"""Photons one by one through the holes of a fan-beam collimator, written from its drawing; shares no code with spectac.

Depth 0 is the collimator's face, the source lies before it, the focal line at depth -F and u = 0. Round holes stand in
their densest array on the crystal's side, at random places for every photon. Their axes point at the focal line: a
hole whose middle lies at u on the back lies at u F/(F + L) on the face. Lead is black. A photon passes where it is
inside one and the same hole on both faces.
"""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class FanHoles:
    """Holes of diameter `hole_mm` on the crystal's side and what lies about them.

    Tapered holes narrow in u as their distances do; the others keep their section, which leaves thinner septa in front.
    """

    hole_mm: float
    septa_mm: float
    length_mm: float
    gap_mm: float
    focal_mm: float
    tapered: bool = True

    def passed(self, rng, u, z, distance_mm):
        """Places (m, 2) on the crystal (u, z) of the photons that pass, and their share of those born.

        Photon n is born at u[n], z[n] and distance_mm[n] before the face, into a random direction of a cone about its
        way from the focal line. The cone is wide enough for all holes, so that none could pass beside it.
        """
        narrowing = self.focal_mm / (self.focal_mm + self.length_mm)
        nearest = self.focal_mm - distance_mm.max()
        half_angle = np.arctan(1.01 * self.hole_mm / self.length_mm * self.focal_mm / narrowing / nearest)
        directions = self._cone(rng, u / (self.focal_mm - distance_mm), half_angle)
        slope_u, slope_z = directions[0] / directions[2], directions[1] / directions[2]
        face = np.stack([u + slope_u * distance_mm, z + slope_z * distance_mm])
        back = face + np.stack([slope_u, slope_z]) * self.length_mm
        hole = self._nearest_hole(rng, back)
        beside_back = back - hole
        beside_face = face - hole * np.array([[narrowing], [1.0]])
        if self.tapered:
            beside_face[0] /= narrowing
        radius2 = (0.5 * self.hole_mm) ** 2
        passes = ((beside_back**2).sum(axis=0) < radius2) & ((beside_face**2).sum(axis=0) < radius2)
        places = back[:, passes] + np.stack([slope_u, slope_z])[:, passes] * self.gap_mm
        return places.T, passes.mean() * 0.5 * (1.0 - np.cos(half_angle))

    def parallel_share(self):
        """Share of all photons that pass parallel holes: hole area / cell area * hole area / (4 pi L^2)."""
        area = np.pi * self.hole_mm**2 / 4.0
        return area / self._cell * area / (4.0 * np.pi * self.length_mm**2)

    def parallel(self):
        """The same holes with parallel axes."""
        return replace(self, focal_mm=1e9)

    @property
    def _cell(self):
        return np.sqrt(0.75) * (self.hole_mm + self.septa_mm) ** 2

    @staticmethod
    def _cone(rng, slope, half_angle):
        """Random directions (3, n), as many as slopes of the cones' axes in u."""
        turn = rng.uniform(0.0, 2.0 * np.pi, slope.size)
        cosine = rng.uniform(np.cos(half_angle), 1.0, slope.size)
        sine = np.sqrt(1.0 - cosine**2)
        across, axial = sine * np.cos(turn), sine * np.sin(turn)
        length = np.hypot(1.0, slope)
        return np.stack([(cosine * slope + across) / length, axial, (cosine - across * slope) / length])

    def _nearest_hole(self, rng, places):
        """Middle (2, n) of the hole nearest to each place on the back, of an array that lies anywhere."""
        pitch = self.hole_mm + self.septa_mm
        cell = np.array([[pitch], [np.sqrt(3.0) * pitch]])
        origin = rng.random(places.shape) * cell
        rows = [origin + 0.5 * shift * cell for shift in (0.0, 1.0)]
        found = [row + np.rint((places - row) / cell) * cell for row in rows]
        off = [((places - middle) ** 2).sum(axis=0) for middle in found]
        return np.where(off[0] < off[1], found[0], found[1])
