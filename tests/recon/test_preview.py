"""The fixed protocol of previews: where the grid of 64^3 voxels of 4 mm lies, and how pixels are rebinned to it."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from spectac.recon import Collimator, Focus
from spectac.recon.geometry import focal_lines
from spectac.recon.preview import FIELD_MM, preview_columns, preview_factors, preview_grid, preview_image
from spectac.recon.types import Acquisition, Grid


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


def field(columns, pixel_mm=4.0, collimator=None, radius_mm=140.0):
    angles = np.arange(0.0, 360.0, 15.0)
    return Acquisition(
        angles, np.full(24, radius_mm), (3, columns), (4.0, pixel_mm), np.full(24, 10.0), "I-123", collimator
    )


def seen_disc(acquisition, middle_mm, level):
    """Counts of a disc of 90 mm at (x, y), and a level of counts everywhere."""
    angles = np.deg2rad(acquisition.view_angles_deg)[:, None]
    place = (np.arange(acquisition.matrix[1]) - 0.5 * (acquisition.matrix[1] - 1)) * acquisition.pixel_mm[1]
    there = place - (middle_mm[0] * np.cos(angles) + middle_mm[1] * np.sin(angles))
    chords = np.sqrt(np.maximum(90.0**2 - there**2, 0.0)) + level
    return np.repeat(chords[:, None], acquisition.matrix[0], axis=1).astype(np.float32)


def test_a_wide_field_s_preview_is_that_of_its_middle():
    """Also with counts from everywhere, which a reconstruction of the whole field puts elsewhere."""
    wide, narrow = field(128), field(76)
    counts = seen_disc(wide, (5.0, -8.0), 200.0)
    whole, middle = preview_image(wide, counts), preview_image(narrow, counts[:, :, 26:102])
    assert whole.grid.same_as(middle.grid)
    np.testing.assert_array_equal(whole.values, middle.values)


@pytest.mark.parametrize("columns", [64, 70, 74])
def test_a_field_as_wide_as_training_s_is_not_cut(columns):
    acquisition = field(columns)
    assert preview_columns(acquisition, seen_disc(acquisition, (0.0, 0.0), 10.0)) == slice(0, columns)


def test_the_field_is_wider_for_a_head_that_lies_far_from_the_axis():
    acquisition = field(128)
    kept = preview_columns(acquisition, seen_disc(acquisition, (70.0, 0.0), 200.0))
    # The disc reaches 160 mm from the axis, and its chord falls below 0.3 at 86 mm, whatever lies over all columns.
    assert 4.0 * (kept.stop - kept.start) == pytest.approx(2 * (70.0 + 86.0 + 45.0), abs=12.0)
    assert kept.start == 128 - kept.stop
    assert preview_columns(acquisition, np.zeros(acquisition.shape)) == slice(26, 102)


def test_a_fan_s_field_is_cut_at_the_same_distance_from_the_axis():
    """A line through the focus at the distance s from the axis meets the detector at Fc tan(asin(s / (F - R)))."""
    fan = Collimator("fan", 1.5, 40.0, 0.2, 3.8, 10.0, focus=Focus(500.0))
    acquisition = field(200, pixel_mm=3.0, collimator=fan)
    kept = preview_columns(acquisition, np.ones(acquisition.shape, np.float32) * (np.abs(np.arange(200) - 99.5) < 10))
    lines = focal_lines(acquisition)
    ahead_mm, crystal_mm = lines.face_mm[0] - 140.0, lines.crystal_mm[0]
    half = crystal_mm * np.tan(np.arcsin(0.5 * FIELD_MM / ahead_mm))
    assert 3.0 * (kept.stop - kept.start) == pytest.approx(2 * half, abs=6.0)
    assert kept.start == 200 - kept.stop > 0
