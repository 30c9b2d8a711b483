"""The fixed protocol of previews: where the grid of 64^3 voxels of 4 mm lies, and how pixels are rebinned to it."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from spectac.recon.preview import preview_factors, preview_grid
from spectac.recon.types import Grid


@pytest.mark.parametrize(
    ("pixel_mm", "factors"), [((4.0, 4.0), (1, 1)), ((2.2, 2.2), (2, 2)), ((1.2, 4.8), (3, 1)), ((9.0, 9.0), (1, 1))]
)
def test_pixels_are_rebinned_to_the_nearest_to_4_mm(pixel_mm, factors):
    assert preview_factors(pixel_mm) == factors


def test_the_preview_is_centred_on_the_head_in_plane_and_below_the_vertex():
    grid = Grid.upright((100, 64, 64), (4.0, 4.0, 4.0), (-126.0, -126.0, 0.0))
    values = np.zeros(grid.shape, np.float32)
    values[:80, 20:50, 10:40] = 1.0
    placed = preview_grid(values, grid)
    z, y, x = placed.centres_mm()
    # Bright voxels: x index 10-39 -> mean -126 + 4 * 24.5 = -28 mm; y 20-49 -> 12 mm; highest z 79 * 4 = 316 mm.
    assert x.mean() == pytest.approx(-28.0)
    assert y.mean() == pytest.approx(12.0)
    assert z[-1] + 2.0 == pytest.approx(316.0 + 24.0)


def test_the_preview_s_place_does_not_follow_noise_or_a_background(figure):
    """Under a broad background of a tenth of the head, with noise of a twentieth, the head is where it was.

    The noise of single voxels exceeds a fifth of the head's level above the vertex; the same heads seen with other
    noise may differ by a slice at the head's rounded top.
    """
    grid = Grid.upright((80, 72, 72), (4.0, 4.0, 4.0), (-142.0, -142.0, 0.0))
    z, y, x = (axis - middle for axis, middle in zip(grid.centres_mm(), (150.0, 8.0, -5.0), strict=True))
    size = np.sqrt((z[:, None, None] / 90.0) ** 2 + (y[:, None] / 95.0) ** 2 + (x / 75.0) ** 2)
    head = gaussian_filter((size < 1).astype(np.float32), 1.35)
    dome = 0.1 * np.exp(-0.5 * (z[:, None, None] ** 2 + y[:, None] ** 2 + x**2) / 130.0**2)
    bare = preview_grid(head, grid)
    top = bare.centres_mm()[0][-1] + 2.0
    # The head's top at 240 mm, less half a slice: between centres at 236 and 240 mm; then 24 mm.
    assert abs(top - (240.0 + 24.0)) <= 4.0
    moved = []
    for seed in range(8):
        noise = gaussian_filter(np.random.default_rng([11, seed]).normal(size=head.shape), 0.6)
        seen = head + dome + 0.05 * noise / noise.std()
        placed = preview_grid(np.maximum(seen, 0).astype(np.float32), grid)
        moved.append(np.subtract([a.mean() for a in placed.centres_mm()], [a.mean() for a in bare.centres_mm()]))
    moved = np.abs(moved).mean(axis=0)
    figure("preview: mean shift along z under noise and background, mm", moved[0], "4")
    assert moved[0] <= 4.0
    assert moved[1:].max() <= 4.0


def test_a_focus_above_the_head_does_not_lift_the_preview():
    """A hot voxel or a contaminated spot is no head: one voxel of ten times the head's level, 60 mm above it."""
    grid = Grid.upright((100, 64, 64), (4.0, 4.0, 4.0), (-126.0, -126.0, 0.0))
    values = np.zeros(grid.shape, np.float32)
    values[:70, 20:50, 10:40] = 1.0
    bare = preview_grid(values, grid)
    values[85, 30, 30] = 10.0
    assert preview_grid(values, grid).same_as(bare)


def test_a_short_field_is_previewed_whole():
    grid = Grid.upright((40, 64, 64), (4.0, 4.0, 4.0), (-126.0, -126.0, 10.0))
    z, _, _ = preview_grid(np.ones(grid.shape), grid).centres_mm()
    assert z.mean() == pytest.approx(10.0 + 0.5 * 39 * 4.0)
