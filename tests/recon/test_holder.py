"""What lies beside the head: its attenuation by hand, where it is put, and what it costs to put it wrongly."""

from dataclasses import replace

import numpy as np
import pytest

from spectac.recon import (
    Acquisition,
    EnergyWindow,
    GivenMap,
    Grid,
    InputError,
    MuMap,
    NoAttenuation,
    Outline,
    ReconstructionSettings,
    Result,
    Study,
    SystemModel,
    UniformMap,
    default_grid,
    reconstruct,
)
from spectac.recon.ct import mu_map
from spectac.recon.filters import gaussian
from spectac.recon.holder import Holder, alone, chosen_holder, measured, typical, write_holder
from spectac.recon.pipeline import StudySolver
from spectac.recon.resample import resample
from spectac.recon.tissues import MATERIALS, cm2_per_g
from spectac.simulate.anatomy.ranges import ADULT_AND_CHILD
from spectac.simulate.ct_scan import ct_scan
from spectac.simulate.head import draw_head
from spectac.simulate.regions import BESIDE

KEV = 140.511
VIEWS = np.arange(24) * 15.0


@pytest.fixture(scope="module")
def acquisition():
    """60 rows of 4 mm, circle of 160 mm."""
    return Acquisition(
        VIEWS, np.full(24, 160.0), (60, 72), (4.0, 4.0), np.full(24, 20.0), "Tc-99m", None, corrections={"DECY"},
        axis_lps_mm=(0.0, 0.0, -118.0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def lying():
    """A virtual head in a holder, and its map with and without the holder on its own grid of 2 mm."""
    ranges = replace(ADULT_AND_CHILD, holder_probability=1.0, pillow_probability=1.0, age_years=(50.0, 60.0))
    head = draw_head(np.random.default_rng(11), ranges=ranges)
    mu = head.mu(KEV)
    return head, mu, replace(mu, per_cm=np.where(np.isin(head.labels, BESIDE), np.float32(0), mu.per_cm))


def ball(grid, at, radius_mm=80.0, value=0.15):
    z, y, x = grid.centres_mm()
    away = np.sqrt((z[:, None, None] - at[2]) ** 2 + (y[:, None] - at[1]) ** 2 + (x - at[0]) ** 2)
    return MuMap(np.where(away <= radius_mm, np.float32(value), np.float32(0)), grid, KEV)


def plate(front_mm, thick_mm=20.0):
    """A plate of 0.05 /cm behind y = front_mm, on voxels of 1 mm in y."""
    grid = Grid.upright((60, 200, 60), (5.0, 1.0, 5.0), (-147.5, 0.5, -147.5))
    y = grid.centres_mm()[1]
    inside = (y > front_mm) & (y < front_mm + thick_mm)
    return MuMap(np.broadcast_to(np.where(inside, 0.05, 0.0)[:, None], grid.shape), grid, KEV)


def test_a_typical_holder_absorbs_what_its_walls_do():
    """3 mm of plastic and 13 + 16.5 mm of foam, in height 130/112 as much; at the sides the shell is open in front."""
    holder = typical(KEV)
    z, y, x = holder.mu.grid.centres_mm()
    column = holder.mu.per_cm[z.size // 2, :, np.abs(x).argmin()]
    per_cm = {one.name: cm2_per_g(one.name, KEV) * one.density_g_per_cm3 for one in MATERIALS}
    assert column.sum() * 0.05 == pytest.approx(130 / 112 * (0.3 * per_cm["plastic"] + 2.95 * per_cm["foam"]), rel=0.05)
    assert holder.mu.per_cm[z > 15].max() == 0
    assert holder.mu.per_cm[:, y < -62].max() == 0


def test_a_typical_holder_lies_around_the_axis(acquisition):
    """The axis 40 mm to the left: so is the shell."""
    beside = replace(acquisition, axis_lps_mm=(40.0, 0.0, -118.0))
    grid = default_grid(beside)
    head = ball(grid, (45.0, 0, 0))
    both, _ = typical(KEV).beside(head, beside)
    _, _, x = grid.centres_mm()
    shell = np.flatnonzero(((both.per_cm - head.per_cm)[:40].max(axis=(0, 1))) > 0.03)
    assert 0.5 * (x[shell[0]] + x[shell[-1]]) == pytest.approx(40.0, abs=4.0)


@pytest.mark.parametrize("height", [0.0, -100.0, -180.0, 150.0])
def test_the_height_of_a_holders_map_does_not_matter(acquisition, height):
    """A plate and a table 60 mm behind it: the plate is under the head wherever the file has it."""
    grid = default_grid(acquisition)
    both = replace(plate(40.0), per_cm=plate(40.0, 5.0).per_cm + plate(105.0, 20.0).per_cm)
    affine = both.grid.affine_lps.copy()
    affine[1, 3] += height
    moved = Holder(replace(both, grid=replace(both.grid, affine_lps=affine)), back_mm=None)
    there = moved.beside(ball(grid, (0, 0, 0)), acquisition)[0].per_cm[30, :, 36]
    y = grid.centres_mm()[1]
    under = there[(y > 78) & (y < 92)]
    assert under.sum() * 0.4 == pytest.approx(0.05 * 0.5, rel=0.1)


@pytest.mark.parametrize("shift", [(0, 0, 0), (9.0, -14.0, 6.0), (-6.0, 12.0, -20.0)])
def test_a_holder_lies_under_the_head_wherever_that_is(acquisition, shift):
    """A given one keeps x and z; a typical one follows the head's top too. Both clear the head by what they should."""
    grid = default_grid(acquisition)
    head = ball(grid, shift)
    y = grid.centres_mm()[1]
    back = shift[1] + 80.0
    for holder, gap_mm in ((Holder(plate(100.0), back_mm=92.0), 8.0), (Holder(plate(40.0), back_mm=None), 0.0)):
        both, notes = holder.beside(head, acquisition)
        np.testing.assert_array_equal(both.per_cm[head.per_cm > 0], head.per_cm[head.per_cm > 0])
        column = (both.per_cm - head.per_cm)[30, :, 36]
        assert column.sum() * 0.4 == pytest.approx(0.05 * 2.0, rel=0.03)
        front = float((column * y).sum() / column.sum()) - 10.0
        assert front == pytest.approx(back + gap_mm, abs=4.0)
        assert "moved by" in notes[0]
    both, _ = typical(KEV).beside(head, acquisition)
    shell = both.per_cm - head.per_cm
    z = grid.centres_mm()[0]
    assert z[shell.max(axis=(1, 2)) > 0.02].max() == pytest.approx(min(shift[2] + 95.0, z[-1]), abs=4.1)


def test_what_is_beyond_the_orbit_is_left_out(acquisition):
    grid = default_grid(acquisition)
    close = replace(acquisition, radii_mm=np.full(24, 110.0))
    both, _ = typical(KEV).beside(ball(grid, (0, 0, 0)), close)
    _, y, x = grid.centres_mm()
    assert np.hypot(x, y[:, None])[both.per_cm.max(axis=0) > 0].max() < 116.0


def test_nothing_behind_the_head_is_refused(acquisition):
    grid = default_grid(acquisition)
    aside = plate(40.0)
    far = aside.grid.affine_lps.copy()
    far[2, 3] += 900.0
    aside = replace(aside, grid=replace(aside.grid, affine_lps=far))
    for back_mm, says in ((None, "nothing under the head"), (92.0, "lies beside the field")):
        with pytest.raises(InputError, match=says):
            Holder(aside, back_mm).beside(ball(grid, (0, 0, 0)), acquisition)


def test_the_head_alone(lying, figure):
    """Holder and pillow go, the head stays to the skin but for thin parts of the ears."""
    _, both, head = lying
    found = alone(both)
    kept = found.per_cm[head.per_cm > 0].sum() / head.per_cm.sum()
    left = found.per_cm[head.per_cm == 0].sum() / (both.per_cm.sum() - head.per_cm.sum())
    figure("head kept when its holder is removed, %", 100 * kept, "> 99.5")
    figure("holder left, %", 100 * left, "10")
    assert kept > 0.995
    assert left < 0.10


def test_a_holder_is_measured_in_the_ct_of_a_head(lying, figure):
    """Its attenuation over the holder's own; the place of the head's back."""
    head, both, own = lying
    volume = ct_scan(head, np.random.default_rng(1))
    beyond = ((0, 0), (0, 15), (0, 0))
    hu = np.pad(volume.hu, beyond, constant_values=-1000.0)
    wide = replace(volume, hu=hu, grid=replace(volume.grid, shape=hu.shape))
    found = measured(wide, KEV)
    z, y, x = both.grid.centres_mm()
    middle = np.ix_(np.abs(z) < 60, np.ones(wide.grid.shape[1], bool), np.abs(x) < 60)
    true = np.pad(both.per_cm - own.per_cm, beyond)
    ratio = float(found.mu.per_cm[middle].sum() / true[middle].sum())
    assert found.back_mm == pytest.approx(y[own.per_cm[z > z[-1] - 150].any(axis=(0, 2))].max() + 1.0, abs=4.0)
    figure("holder from a head's CT over the true one", ratio, "0.97 to 1.03")
    assert ratio == pytest.approx(1.0, abs=0.03)
    with pytest.raises(InputError, match="without --empty"):
        measured(ct_scan(head, np.random.default_rng(1)), KEV, empty=True)
    empty = replace(head, labels=np.where(own.per_cm > 0, np.uint8(0), head.labels),
                    density=np.where(own.per_cm > 0, np.float32(0), head.density))  # fmt: skip
    assert measured(ct_scan(empty, np.random.default_rng(1)), KEV, empty=True).back_mm is None
    with pytest.raises(InputError, match="give --empty"):
        measured(ct_scan(empty, np.random.default_rng(1)), KEV)


def test_a_measured_holder_gives_the_image_of_the_true_map(lying, acquisition, tmp_path, figure):
    """Noise-free projections through head and holder; the head's map with the file of another scan, 30 mm higher."""
    head, both, own = lying
    grid = default_grid(acquisition)
    true, bare = (MuMap(np.maximum(resample(one.per_cm, one.grid, grid), 0), grid, KEV) for one in (both, own))
    inside = resample(((head.labels > 0) & ~np.isin(head.labels, BESIDE)).astype(np.float32), own.grid, grid)
    counts = SystemModel(acquisition, grid, mu=true, resolution=False).forward(100 * inside)
    study = Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), counts[None])
    volume = ct_scan(head, np.random.default_rng(1))
    moved = volume.grid.affine_lps.copy()
    moved[1, 3] -= 30.0
    file = tmp_path / "holder.nii.gz"
    write_holder(file, measured(replace(volume, grid=replace(volume.grid, affine_lps=moved)), KEV))

    def level(mu, **settings):
        result = reconstruct(
            study, GivenMap(mu), ReconstructionSettings(resolution=False, scatter="none", subsets=4, **settings)
        )
        return float(result.image.values[inside > 0.99].mean()), result

    wanted, _ = level(true)
    without, _ = level(bare)
    given, result = level(bare, holder=file)
    replaced, _ = level(true, holder=file)
    removed, _ = level(true, holder="none")
    figure("image without the holder, %", 100 * (without / wanted - 1), "-1.5 and less")
    figure("image with the measured holder, %", 100 * (given / wanted - 1), "0.3")
    assert without < 0.985 * wanted
    assert given == pytest.approx(wanted, rel=0.003)
    assert replaced == pytest.approx(given, rel=0.003)
    assert removed == pytest.approx(without, rel=0.005)
    assert [note for note in result.notes if note.startswith("holder: holder.nii.gz, moved by +")]


def test_uniform_maps_take_a_holder_too(acquisition):
    """Inside the outline they stay uniform, whatever their coefficient."""
    grid = default_grid(acquisition)
    outline = Outline(ball(grid, (0, 0, 0), value=1.0).per_cm, grid)
    study = Study(
        acquisition,
        (EnergyWindow("peak", 126.0, 154.0),),
        SystemModel(acquisition, grid, resolution=False).forward(outline.mask)[None],
    )
    settings = ReconstructionSettings(resolution=False, iterations=1, subsets=4, scatter="none", holder="typical")
    for value in (0.08, 0.15):
        mu = reconstruct(study, UniformMap(value, outline), settings).mu.per_cm
        np.testing.assert_allclose(mu[outline.mask > 0.99], value)
        assert mu[outline.mask == 0].max() > 0.05
    assert reconstruct(study, NoAttenuation(), settings).mu is None


@pytest.mark.parametrize(
    ("asked", "default", "beside"),
    [(None, None, None), (None, "typical", "typical"), ("none", "typical", "none"), ("typical", "none", "typical")],
)
def test_a_models_default_holder_gives_way_to_the_settings(acquisition, asked, default, beside):
    grid = default_grid(acquisition)
    head = ball(grid, (0, 0, 0))
    counts = SystemModel(acquisition, grid, resolution=False).forward(head.per_cm)[None]
    study = Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), counts)
    settings = ReconstructionSettings(resolution=False, iterations=1, subsets=4, scatter="none", holder=asked)

    class WithDefault:
        name = "with default"

        def correct(self, solver):
            mu = solver.beside(head, default)
            return Result(solver(mu), mu=mu)

    result = reconstruct(study, WithDefault(), settings)
    assert result.holder == beside
    held = result.mu.per_cm[head.per_cm == 0].max() > 0.05
    assert held == (beside == "typical")
    assert any("assumed" in note for note in result.notes) == (asked is None and default is not None)


def test_the_blurred_skin_of_a_map_of_the_head_alone_is_kept(acquisition):
    """A Gaussian skin reaches over several voxels: factors in the head follow from all of it."""
    grid = default_grid(acquisition)
    blurred = replace(ball(grid, (0, 0, 0)), per_cm=gaussian(ball(grid, (0, 0, 0)).per_cm, grid.voxel_mm, 30.0))
    counts = SystemModel(acquisition, grid, resolution=False).forward(blurred.per_cm)[None]
    study = Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), counts)
    solver = StudySolver(study, ReconstructionSettings(resolution=False, subsets=4, scatter="none", holder="none"))
    np.testing.assert_array_equal(solver.beside(blurred, head_alone=True).per_cm, blurred.per_cm)
    assert solver.beside(blurred).per_cm.sum() < 0.99 * blurred.per_cm.sum()


def test_an_assumed_holder_that_cannot_be_placed_is_left_out(acquisition):
    """The detector comes so close that a shell would lie behind its face."""
    close = replace(acquisition, radii_mm=np.full(24, 86.0))
    grid = default_grid(close)
    head = ball(grid, (0, 0, 0))
    counts = SystemModel(close, grid, resolution=False).forward(head.per_cm)[None]
    study = Study(close, (EnergyWindow("peak", 126.0, 154.0),), counts)
    settings = ReconstructionSettings(resolution=False, iterations=1, subsets=4, scatter="none")
    solver = StudySolver(study, settings)
    mu = solver.beside(head, "typical")
    np.testing.assert_array_equal(mu.per_cm, head.per_cm)
    assert "holder: none, as no typical one can be placed" in solver.notes[-2]
    with pytest.raises(InputError, match="lies beside the field"):
        StudySolver(study, replace(settings, holder="typical")).beside(head)


def test_files_that_are_no_holder(lying, acquisition, tmp_path):
    _, both, _ = lying
    file = tmp_path / "head.nii.gz"
    write_holder(file, Holder(both, back_mm=None))
    with pytest.raises(InputError, match="spectac holder takes the head out"):
        chosen_holder(str(file), acquisition, KEV)
    with pytest.raises(InputError, match="is a folder"):
        chosen_holder(str(tmp_path), acquisition, KEV)
    with pytest.raises(InputError, match="no such file"):
        chosen_holder(str(tmp_path / "nowhere.nii.gz"), acquisition, KEV)


def test_the_ct_shows_what_the_map_needs(lying):
    """A CT's own map has the holder in it, so that --holder replaces it there as well."""
    head, both, own = lying
    mu = mu_map(ct_scan(head, np.random.default_rng(1)), KEV, blur_fwhm_mm=0.0)
    found = alone(mu)
    beside = own.per_cm == 0
    assert found.per_cm[beside].sum() < 0.1 * mu.per_cm[beside].sum()
