"""A CT that ends inside the head at its sides: by its reconstruction circle, by padding, by its slices' border."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from spectac.recon import CTMap, Grid, InputError, ReconstructionSettings, reconstruct
from spectac.recon.ct import CTVolume, coarse_factors, covered_on, mu_map
from spectac.recon.ct_cut import sides_of
from spectac.recon.io.dicom.ct import read_series
from spectac.recon.io.dicom.ct_write import write_series
from spectac.recon.tissues import water_per_cm
from spectac.simulate.head import draw_head

KEV = 140.511
WATER = water_per_cm(KEV)
SETTINGS = {"iterations": 3, "subsets": 6, "scatter": "none"}


@pytest.fixture(scope="module")
def scan(analytic):
    return analytic.study(analytic.acquisition(views=60, size=36, pixel_mm=8.0), 2e6, 1)


@pytest.fixture(scope="module")
def volume(analytic):
    """CT of a head of 156 x 194 mm about x = y = 0."""
    return analytic.ct(voxel_mm=4.0)


def away_mm(volume, centre=(0.0, 0.0)):
    _, y, x = volume.grid.centres_mm()
    return np.hypot(y[:, None] - centre[0], x[None, :] - centre[1])


def circle(volume, radius_mm, centre=(0.0, 0.0), outside=-1000.0):
    inside = away_mm(volume, centre) <= radius_mm
    return replace(volume, hu=np.where(inside, volume.hu, np.float32(outside)))


def cropped(volume, first, last):
    """Volume without its first and last columns and rows."""
    affine = volume.grid.affine_lps.copy()
    affine[:3, 3] += affine[:3, 1] * first[0] + affine[:3, 2] * first[1]
    hu = volume.hu[:, first[0] : volume.hu.shape[1] - last[0], first[1] : volume.hu.shape[2] - last[1]]
    return replace(volume, hu=hu, grid=Grid(hu.shape, volume.grid.voxel_mm, affine))


def to_border(volume, half_y_mm):
    """Volume whose slices end at y = +- half_y_mm."""
    _, y, _ = volume.grid.centres_mm()
    inside = np.flatnonzero(np.abs(y) <= half_y_mm)
    return cropped(volume, (inside[0], 0), (y.size - 1 - inside[-1], 0))


def outline_of(volume):
    """What the SPECT would show of the head: its own body."""
    mu = mu_map(volume, KEV, blur_fwhm_mm=0)
    return (mu.per_cm > 0.5 * WATER).astype(np.float32), mu.grid


def sides(volume, outline, grid):
    mu = mu_map(volume, KEV)
    return sides_of(mu, covered_on(volume.covered, mu.grid, coarse_factors(volume.grid)), WATER, outline, grid)


@pytest.mark.parametrize(
    ("change", "end"),
    [
        pytest.param(lambda v: circle(v, 78.0), "a circle of 1[56][0-9] mm", id="circle-in-air"),
        pytest.param(lambda v: circle(v, 80.0, (4.0, -8.0)), "a circle of 1[56][0-9] mm", id="circle-off-centre"),
        pytest.param(lambda v: to_border(v, 78.0), "the edge of its slices", id="slices"),
    ],
)
def test_a_cut_head_is_told_with_its_depth(volume, change, end):
    """The head's half length is 97 mm: cut at 78 it reaches 17 to 19 mm beyond; the deepest tenth is told."""
    found = sides(change(volume), *outline_of(volume))
    assert found.cut
    assert re.fullmatch(end, found.end)
    assert 12.0 <= found.beyond_mm <= 24.0


@pytest.mark.parametrize("outside", [-2000.0, -3024.0])
def test_padding_outside_a_circle_is_no_air(volume, tmp_path, outside):
    """The same cut with values below all air, which the reader keeps apart, on one side of the head alone."""
    write_series(tmp_path, circle(volume, 100.0, (25.0, 0.0), outside))
    read = read_series(tmp_path)
    assert not read.covered[:, away_mm(volume, (25.0, 0.0)) > 100.0].any()
    assert read.hu.min() == -1000.0
    found = sides(read, *outline_of(volume))
    assert found.cut
    assert found.end.startswith("a circle of")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda v: v, id="whole"),
        pytest.param(lambda v: circle(v, 110.0), id="circle-beyond-the-head"),
        pytest.param(lambda v: circle(v, 110.0, outside=-2000.0), id="padding-beyond-the-head"),
        pytest.param(lambda v: to_border(v, 106.0), id="tight-slices"),
    ],
)
@pytest.mark.parametrize("error_mm", [0.0, 5.0])
def test_a_whole_head_is_not_doubted(volume, change, error_mm):
    """Even where the outline from the data lies 5 mm outside the skin everywhere."""
    outline, grid = outline_of(volume)
    wider = distance_transform_edt(outline < 0.5, sampling=grid.voxel_mm) <= error_mm
    assert not sides(change(volume), wider.astype(np.float32), grid).cut


@pytest.mark.parametrize("seed", range(4))
def test_virtual_heads_are_whole(seed):
    """Face, ears, neck and holder on the smallest grid that holds them; an outline of the head's own body."""
    head = draw_head(np.random.default_rng([78, seed]), voxel_mm=4.0)
    hu = np.where(head.density > 0.3, 1000.0 * (head.density - 1.0), -1000.0)
    volume = CTVolume(hu, head.grid, 120.0)
    found = sides(volume, *outline_of(volume))
    assert not found.cut
    assert found.area_cm2 < 2.0


def test_a_round_phantom_fills_its_circle_and_is_whole():
    """A cylinder touches the smallest circle around it all along; the data show nothing outside."""
    grid = Grid.upright((30, 60, 60), (4.0, 4.0, 4.0), (-118.0, -118.0, -58.0))
    _, y, x = grid.centres_mm()
    hu = np.broadcast_to(np.where(np.hypot(y[:, None], x[None, :]) < 100, 0.0, -1000.0), grid.shape)
    volume = CTVolume(hu, grid, 120.0)
    assert not sides(volume, *outline_of(volume)).cut


def test_a_cut_ct_is_told_or_filled(scan, volume, tmp_path, figure):
    """Circle of 166 mm: up to 14 mm of front and back are missing. Air there makes the image darker by 5 %."""
    study, _, _ = scan
    write_series(tmp_path / "whole", volume)
    write_series(tmp_path / "cut", circle(volume, 83.0))
    whole = reconstruct(study, CTMap(str(tmp_path / "whole")), ReconstructionSettings(**SETTINGS))
    assert not any("sides" in note for note in whole.notes)
    told = reconstruct(study, CTMap(str(tmp_path / "cut")), ReconstructionSettings(**SETTINGS))
    (note,) = [note for note in told.notes if "sides" in note]
    assert "cut at its sides by a circle" in note
    assert "--extend-ct fills it" in note
    filled = reconstruct(study, CTMap(str(tmp_path / "cut"), extend=True), ReconstructionSettings(**SETTINGS))
    assert any("filled with soft tissue" in note for note in filled.notes)
    sums = [float(one.image.values.sum()) for one in (whole, told, filled)]
    figure("CT cut by a circle, sum of the image over the whole CT's: air", sums[1] / sums[0], "-")
    figure("CT cut by a circle, sum of the image over the whole CT's: filled", sums[2] / sums[0], "0.97 to 1.03")
    assert sums[1] < sums[2]
    assert sums[2] == pytest.approx(sums[0], rel=0.03)
    assert np.corrcoef(whole.image.values.ravel(), filled.image.values.ravel())[0, 1] > 0.995


def test_a_ct_cut_far_inside_the_head_is_refused(scan, volume, tmp_path):
    study, _, _ = scan
    write_series(tmp_path, circle(volume, 60.0))
    with pytest.raises(InputError, match=r"cut at its sides by a circle.*--extend-ct"):
        reconstruct(study, CTMap(str(tmp_path)), ReconstructionSettings(**SETTINGS))
