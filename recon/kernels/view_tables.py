"""Tables that the projector's kernels read on any device: the lattice and the blur of every view."""

from dataclasses import dataclass

import numpy as np

from spectac.recon.collimator import pixel_kernel
from spectac.recon.geometry import CameraFrames
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
    voxel_cm
        Transaxial voxel size in cm.
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
        Seconds times mL (v,).
    """

    shape: tuple[int, int, int]
    matrix: tuple[int, int]
    voxel_cm: float
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
        sigma_mm: Array,
        weights_s: Array,
    ) -> "ViewTables":
        """Tables of camera frames whose planes are blurred by sigma_mm (v, d), views weighing weights_s (v,)."""
        widths = frames.last - frames.first
        # A plane without points needs no blur, and the widest one decides how much memory the kernels touch.
        sigma_mm = np.where(widths > 0, sigma_mm, 0.0)
        kernel_z, half_z = pixel_kernel(sigma_mm, acquisition.pixel_mm[0])
        kernel_u, half_u = pixel_kernel(sigma_mm, acquisition.pixel_mm[1])
        return cls(
            shape=grid.shape,
            matrix=acquisition.matrix,
            voxel_cm=grid.voxel_mm[2] / 10.0,
            inside=inside,
            frames=frames,
            starts=np.cumsum(widths, axis=1) - widths,
            points=widths.sum(axis=1),
            kernel_u=kernel_u,
            half_u=half_u,
            kernel_z=kernel_z,
            half_z=half_z,
            weights=weights_s * grid.voxel_ml,
        )
