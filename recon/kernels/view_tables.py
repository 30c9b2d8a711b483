"""Tables that the projector's kernels read on any device: the lattice and the blur of every view."""

from dataclasses import dataclass

import numpy as np

from spectac.recon.collimator import pixel_kernel
from spectac.recon.geometry import CameraFrames, ray_tables
from spectac.recon.types import Acquisition, Array, Grid


@dataclass(frozen=True, eq=False)
class ViewTables:
    """Tables of one system, by view v and depth plane d.

    Parameters
    ----------
    shape
        Shape (z, y, x) of images.
    matrix
        Shape (z, u) of projections.
    step_cm
        Lengths (v, u) in cm of the rays between two planes.
    column_weights
        Weights (v, u) of the columns: 1 for parallel holes, F/Fc cos^3(theta) for a fan beam.
    inside
        True (y, x) where the grid counts; elsewhere images and maps are 0, and nothing is projected back.
    frames
        Lattice of every view.
    starts
        Where a plane's first column lies in the view's lattice points (v, d).
    points
        Number of lattice points (v,).
    kernel_u, kernel_z
        Half kernels (v, d, taps) in float64.
    half_u, half_z
        Half-widths (v, d) of the kernels.
    weights
        Seconds times mL (v,), the volume of a lattice point at the crystal.
    """

    shape: tuple[int, int, int]
    matrix: tuple[int, int]
    step_cm: Array
    column_weights: Array
    inside: Array
    frames: CameraFrames
    starts: Array
    points: Array
    kernel_u: Array
    half_u: Array
    kernel_z: Array
    half_z: Array
    weights: Array

    @classmethod
    def of(
        cls,
        acquisition: Acquisition,
        grid: Grid,
        inside: Array,
        frames: CameraFrames,
        sigma_mm: tuple[Array, Array],
        weights_s: Array,
    ) -> "ViewTables":
        """Tables of camera frames whose planes are blurred by sigma_mm, (v, d) along z and along u.

        Views weigh weights_s (v,).
        """
        widths = frames.last - frames.first
        # A plane without points needs no blur, and the widest one decides how much memory the kernels touch.
        (kernel_z, half_z), (kernel_u, half_u) = (
            pixel_kernel(np.where(widths > 0, sigma, 0.0), pixel_mm)
            for sigma, pixel_mm in zip(sigma_mm, acquisition.pixel_mm, strict=True)
        )
        cosine, gain = ray_tables(acquisition)
        voxel_cm = grid.voxel_mm[2] / 10.0
        point_ml = grid.voxel_ml
        if acquisition.foci:
            point_ml *= acquisition.pixel_mm[1] / grid.voxel_mm[2]
        return cls(
            shape=grid.shape,
            matrix=acquisition.matrix,
            step_cm=voxel_cm / cosine,
            column_weights=gain,
            inside=inside,
            frames=frames,
            starts=np.cumsum(widths, axis=1) - widths,
            points=widths.sum(axis=1),
            kernel_u=kernel_u,
            half_u=half_u,
            kernel_z=kernel_z,
            half_z=half_z,
            weights=weights_s * point_ml,
        )
