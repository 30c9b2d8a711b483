"""Whether the camera's orbit fits around the object. An orbit through it means a wrong radius or a misplaced map."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from spectac.recon import geometry
from spectac.recon.errors import InputError
from spectac.recon.types import Acquisition, MuMap, Projections

BODY_PER_CM = 0.05
"""Coefficient in 1/cm above which a voxel of a map is body, not air or foam."""
QUARTER_TURN_DEG = 10.0
"""A view this near to a quarter turn from another shows how far the object reaches along the other's normal."""


def check_map_radius(acquisition: Acquisition, mu: MuMap, what: str = "the mu-map") -> None:
    """Check that the body in a map stays inside the orbit.

    Parameters
    ----------
    acquisition
        Acquisition with the orbit.
    mu
        Map on an upright grid.
    what
        Name of the map in the message.

    Raises
    ------
    InputError
        Where the body reaches more than a voxel through the collimator's face of some view.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> acquisition = Acquisition([0.0], [100.0], (1, 4), (8.0, 8.0), [1.0], "Tc-99m", None)
    >>> grid = Grid.upright((1, 4, 4), (8.0, 8.0, 8.0), (-12.0, -12.0, 0.0))
    >>> check_map_radius(acquisition, MuMap(np.full(grid.shape, 0.15), grid, 140.5))
    """
    _, y, x = mu.grid.centres_mm()
    iy, ix = np.nonzero((mu.per_cm > BODY_PER_CM).any(axis=0))
    if iy.size == 0:
        return
    axis = geometry.axis_position_mm(acquisition)
    points = np.stack([x[ix] - axis[0], y[iy] - axis[1]])
    reach_mm = (geometry.view_normals(acquisition.view_angles_deg) @ points).max(axis=1)
    excess_mm = reach_mm - np.asarray(acquisition.radii_mm)
    worst = int(np.argmax(excess_mm))
    if excess_mm[worst] > mu.grid.voxel_mm[2]:
        raise InputError(
            f"the collimator face of view {worst} lies {acquisition.radii_mm[worst]:g} mm from the axis, but {what} "
            f"reaches {reach_mm[worst]:.0f} mm towards it: check the radius (--radius-mm) and the map's position"
        )


def check_orbit(projections: Projections) -> None:
    """Check that the activity stays inside the orbit.

    The object's extent along a view's normal is read off the views a quarter turn away, at half of their profile's
    maximum. That underestimates any rounded object, so that only an impossible orbit is refused.

    Parameters
    ----------
    projections
        Photopeak projections.

    Raises
    ------
    InputError
        Where the activity reaches more than a pixel through the collimator's face of some view.

    Examples
    --------
    >>> acquisition = Acquisition([0.0, 90.0], [10.0, 10.0], (1, 9), (4.0, 4.0), [1.0, 1.0], "Tc-99m", None)
    >>> check_orbit(Projections(acquisition, np.eye(1, 9, 4)[None].repeat(2, axis=0), 140.5))
    """
    acquisition = projections.acquisition
    profiles = gaussian_filter1d(projections.counts.sum(axis=1, dtype=np.float64), 1.5, axis=1)
    places_mm = geometry.ray_lines(acquisition)[1]
    pitch = acquisition.pixel_mm[1]
    for view, angle_deg in enumerate(acquisition.view_angles_deg):
        for turn_deg, sign in ((90.0, 1.0), (-90.0, -1.0)):
            apart_deg = np.abs(geometry.signed_deg(acquisition.view_angles_deg - angle_deg - turn_deg))
            other = int(np.argmin(apart_deg))
            if apart_deg[other] > QUARTER_TURN_DEG or not profiles[other].any():
                continue
            bright = profiles[other] >= 0.5 * profiles[other].max()
            reach_mm = float((sign * places_mm[other, bright]).max())
            if reach_mm > acquisition.radii_mm[view] + pitch:
                raise InputError(
                    f"the collimator face of view {view} lies {acquisition.radii_mm[view]:g} mm from the axis, but the "
                    f"activity reaches {reach_mm:.0f} mm towards it: check the radius (--radius-mm)"
                )
