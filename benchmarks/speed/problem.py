"""Problems of the speed benchmarks: an ellipsoidal head, its attenuation and its projections, for every program."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectac.recon.collimator import Collimator
from spectac.recon.em import ordered_subsets
from spectac.recon.geometry import default_grid
from spectac.recon.resample import rebin
from spectac.recon.system import SystemModel
from spectac.recon.types import Acquisition, Array, Grid, MuMap
from spectac.simulate.analytic_head import Ellipsoid, on_grid

KEV = 140.511
MU_PER_CM = 0.15
SIGMA0_MM, SLOPE = 1.466, 0.0163

HEAD = (
    Ellipsoid("attenuator", (0, 0, 0), (78, 96, 120), 0.0, "soft tissue"),
    Ellipsoid("brain", (0, 0, 0), (70, 88, 110), 1.0, "soft tissue"),
    Ellipsoid("right striatum", (-26, -6, 5), (10, 20, 13), 6.0, "soft tissue", turn_deg=-15),
    Ellipsoid("left striatum", (26, -6, 5), (10, 20, 13), 6.0, "soft tissue", turn_deg=15),
)
"""An ellipsoid's activity replaces that of the ellipsoids before it: the striata are 5 above the brain."""


@dataclass(frozen=True)
class Problem:
    """`columns` x `columns` x `rows` voxels of `pixel_mm`, `views` over 360 deg at `radius_mm`, OSEM with `subsets`."""

    columns: int
    rows: int
    views: int
    pixel_mm: float = 4.4
    radius_mm: float = 150.0
    subsets: int = 10

    @property
    def name(self) -> str:
        """Name as "128x128x64x120@4.4": voxels along x, y, z, then views, then the pixel in mm."""
        return f"{self.columns}x{self.columns}x{self.rows}x{self.views}@{self.pixel_mm:g}"

    def acquisition(self, finer: int = 1) -> Acquisition:
        """Acquisition whose views weigh 1 per voxel: projections are plain sums, in all programs.

        `finer` divides the pixels; voxels then weigh finer^-3, so that rebinned projections are on the same scale.
        """
        return Acquisition(
            # From half a step, so that no view falls onto the axes, where every rotation is exact.
            view_angles_deg=(np.arange(self.views) + 0.5) * (360.0 / self.views),
            radii_mm=np.full(self.views, self.radius_mm),
            matrix=(self.rows * finer, self.columns * finer),
            pixel_mm=(self.pixel_mm / finer, self.pixel_mm / finer),
            view_seconds=np.full(self.views, 1000.0 / self.pixel_mm**3),
            nuclide="Tc-99m",
            collimator=Collimator.from_line(SIGMA0_MM, SLOPE),
            corrections=frozenset({"DECY"}),
        )


GROWING = (Problem(64, 32, 60), Problem(128, 64, 120), Problem(128, 128, 120), Problem(256, 128, 120))
FIXED_FIELD = (Problem(64, 32, 60, 8.8), Problem(128, 64, 120), Problem(256, 128, 120, 2.2))
TIGHT = Problem(72, 64, 120)
"""Just large enough for the head: a peer's memory traffic fits into the caches."""
PROBLEMS = {problem.name: problem for problem in (*GROWING, *FIXED_FIELD, TIGHT)}
"""What --sizes accepts; a new size is a new entry."""


def head(grid: Grid, subsamples: int) -> tuple[Array, MuMap]:
    """Activity (z, y, x) and attenuation of the head, averaged over subsamples^3 points a voxel."""
    sampled = on_grid(grid, KEV, HEAD, subsamples)
    inside = np.sum(list(sampled.fractions.values()), axis=0, dtype=np.float32)
    return sampled.activity, MuMap(MU_PER_CM * inside, grid, KEV)


def write_problem(problem: Problem, path: Path, seed: int) -> tuple[Array, Array]:
    """Write the problem as plain arrays for programs that do not know spectac; return truth and brain mask (z, y, x).

    The projections have no noise. They are sums over pixels of half the size, so that no program reconstructs
    projections of its own projector.
    """
    fine = problem.acquisition(finer=2)
    grid = default_grid(fine)
    activity, mu = head(grid, subsamples=2)
    # Factors of all views at this sampling would take gigabytes and are used once.
    counts = rebin(SystemModel(fine, grid, mu=mu, factor_memory_bytes=0).forward(activity), 2, 2)

    acquisition = problem.acquisition()
    grid = default_grid(acquisition)
    truth, mu = head(grid, subsamples=4)
    subset_of_view = np.empty(problem.views, np.int64)
    for k, views in enumerate(ordered_subsets(acquisition.view_angles_deg, problem.subsets)):
        subset_of_view[views] = k
    np.savez(
        path,
        counts=counts.astype(np.float32),
        object=truth,
        mu_per_cm=mu.per_cm,
        angles_deg=acquisition.view_angles_deg,
        radius_mm=problem.radius_mm,
        pixel_mm=problem.pixel_mm,
        sigma0_mm=SIGMA0_MM,
        slope=SLOPE,
        energy_kev=KEV,
        subset_of_view=subset_of_view,
        seed=seed,
    )
    z, y, x = np.meshgrid(*grid.centres_mm(), indexing="ij")
    return truth, HEAD[1].contains(x, y, z)
