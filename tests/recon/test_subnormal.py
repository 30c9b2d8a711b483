"""No subnormal numbers anywhere: on processors where each costs 100 cycles, time would depend on the values.

Counted, not timed: the same on every machine.
"""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from llvmlite import binding, ir

from spectac.recon import filters, geometry
from spectac.recon.backprojection import fbp
from spectac.recon.bsrem import RelativeDifferencePrior
from spectac.recon.collimator import Collimator
from spectac.recon.em import osem
from spectac.recon.kernels import cpu_projector
from spectac.recon.kernels.subnormal import FAINT, exchanged, flushing_threads, subnormals_are_zero
from spectac.recon.preview import preview_image
from spectac.recon.resample import resample
from spectac.recon.system import SystemModel
from spectac.recon.types import Grid, MuMap


@pytest.fixture(scope="module")
def camera(make_acquisition):
    """32 views of a cylinder of 50 mm radius in a field three times as wide: acquisition, grid, activity, map."""
    acquisition = make_acquisition(
        np.arange(32) * 11.25, (8, 32), 10.0, radii_mm=np.full(32, 120.0), collimator=Collimator.from_line(2.0, 0.03)
    )
    grid = geometry.default_grid(acquisition)
    _, y, x = grid.centres_mm()
    cylinder = np.broadcast_to(np.hypot(x, y[:, None]) < 50, grid.shape).astype(np.float32)
    return acquisition, grid, cylinder, MuMap(0.15 * cylinder, grid, 140.5)


def test_what_the_tests_count(subnormals):
    """0 and the smallest normal number are none, their neighbours are, of either sign."""
    tiny = np.finfo(np.float32).tiny
    values = np.array([0.0, -0.0, tiny, -tiny, tiny / 2, -tiny / 2, 1e-45], np.float32)
    assert subnormals(values) == 3
    assert subnormals(np.array([1e-310, 3e-308])) == 1


def test_a_mode_of_the_thread_that_is_given_back(subnormals):
    """Products and operands below the smallest normal number are 0 inside, as ever outside, after an error as well."""
    small, half = np.full(9, 1e-39, np.float32), np.float32(0.5)
    with subnormals_are_zero():
        assert not (small * half).any()
        assert not (np.full(9, 1e-20, np.float32) * np.float32(1e-20)).any()
        with subnormals_are_zero():
            pass
        assert not (small + small).any()
    assert subnormals(small * half) == 9
    with pytest.raises(KeyError), subnormals_are_zero():
        raise KeyError
    assert subnormals(small * half) == 9


def test_threads_of_our_own_flush_and_others_do_not(subnormals):
    small, half = np.full(9, 1e-39, np.float32), np.float32(0.5)
    with flushing_threads(2) as ours, ThreadPoolExecutor(1) as another:
        assert [subnormals(done) for done in ours.map(lambda n: small * half, range(4))] == [0] * 4
        assert subnormals(another.submit(lambda: small * half).result()) == 9


@pytest.mark.parametrize(
    ("triple", "instructions"),
    [
        ("x86_64-pc-windows-msvc", ("stmxcsr", "ldmxcsr")),
        ("aarch64-unknown-linux-gnu", ("mrs", "msr")),
        ("arm64-apple-darwin", ("mrs", "msr")),
        ("riscv64-unknown-linux-gnu", ()),
    ],
)
def test_the_mode_of_other_processors(triple, instructions):
    """Machine code for them: the mode is read, then written; on one that is not known nothing happens."""
    word = ir.IntType(32)
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(word, [word]), "exchange")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(exchanged(builder, function.args[0], triple.partition("-")[0].replace("arm64", "aarch64")))
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    parsed = binding.parse_assembly(str(module))
    parsed.triple = triple
    code = binding.Target.from_triple(triple).create_target_machine().emit_assembly(parsed).lower()
    assert tuple(re.findall(r"\b(stmxcsr|ldmxcsr|mrs|msr)\b", code)) == instructions
    assert code.count("fpcr") == (2 if "mrs" in instructions else 0)


def test_flags_of_the_floating_point_unit_stay():
    """numpy warns by them: what happens inside and around is still told."""
    zero = np.zeros(3, np.float32)
    with subnormals_are_zero(), pytest.raises(FloatingPointError), np.errstate(divide="raise"):
        1 / zero
    with pytest.raises(FloatingPointError), np.errstate(divide="raise"):
        1 / zero


@pytest.mark.parametrize("prior", [None, RelativeDifferencePrior(0.01)], ids=["EM", "MAP"])
@pytest.mark.parametrize("subsets", [1, 8])
@pytest.mark.parametrize("scale", [1.0, 1e-15, 1e-25])
def test_iterations_leave_none(camera, scale, subsets, prior, subnormals):
    """Beside the object voxels decay by a factor in every update; the counts' scale moves the image, not its shape."""
    acquisition, grid, cylinder, mu = camera
    model = SystemModel(acquisition, grid, mu=mu, crop_to_orbit=True)
    counts = np.random.default_rng(1).poisson(20 * model.forward(cylinder)).astype(np.float32)
    seen, least = [], []

    def note(update):
        if update.done % subsets == 0:
            seen.append(subnormals(update.image))
            least.append(update.image[update.image > 0].min() / update.image.max())

    iterations = 12 if subsets > 1 else 60
    image = osem(model, counts * np.float32(scale), iterations=iterations, subsets=subsets, prior=prior, on_update=note)
    assert seen == [0] * iterations
    assert subnormals(model.forward(image)) == subnormals(model.adjoint(model.forward(image))) == 0
    # The case is worth the test: much has decayed to 0, within the object nothing has.
    assert min(least) < 1e-8
    inside = geometry.orbit_support(acquisition, grid)
    # BSREM's steps shrink: 60 of them do not get there.
    if prior is None or subsets > 1:
        assert (image[:, inside] == 0).mean() > 0.2
    assert image[cylinder > 0].min() > 1e-3 * image.max()


def test_a_faint_voxel_ends_and_every_other_one_keeps_its_bits(camera, monkeypatch):
    """Below FAINT nothing reaches a sum in single precision; float64, whose last bits are finer, agrees to them."""
    acquisition, grid, cylinder, mu = camera
    model = SystemModel(acquisition, grid, mu=mu)
    counts = np.random.default_rng(1).poisson(20 * model.forward(cylinder)).astype(np.float32)
    wanted = osem(model, counts, iterations=12, subsets=8)
    monkeypatch.setattr(cpu_projector, "FAINT", 0.0)
    found = osem(model, counts, iterations=12, subsets=8)
    large = found > 1e-12 * found.max()
    np.testing.assert_array_equal(wanted[large], found[large])
    assert found[wanted == 0].max() < 1e3 * FAINT * found.max()
    assert (found[wanted == 0] > 0).any()


def test_a_start_far_too_large_loses_no_voxel(camera):
    """The largest value is that before the update: an image scaled down by it loses nothing."""
    acquisition, grid, cylinder, mu = camera
    model = SystemModel(acquisition, grid, mu=mu)
    counts = 20 * model.forward(cylinder)
    one, other = (
        osem(model, counts, iterations=1, subsets=8, start=np.full(grid.shape, level, np.float32))
        for level in (1.0, 1e25)
    )
    np.testing.assert_array_equal(one > 0, other > 0)


@pytest.mark.parametrize("background", [1e-39, 1e-36, 1e-30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_projections_of_a_faint_background_hold_none(camera, background, dtype, subnormals):
    """The tails of its blur and its attenuated parts are subnormal, in the kernels' scratch as well."""
    acquisition, grid, cylinder, mu = camera
    model = SystemModel(acquisition, grid, mu=mu, dtype=dtype)
    faint = np.where(cylinder > 0, cylinder, np.float32(background))
    for image in (faint, np.float32(background) * np.ones_like(faint), 1e-15 * faint):
        projections = model.forward(image)
        assert subnormals(projections) == 0
        for result in (model.adjoint(projections), model.adjoint(np.full_like(projections, background))):
            assert subnormals(result) == 0
        assert subnormals(model.gradient_mu(image, projections)) == 0
        explained, _ = model.em_backprojection(image, projections, np.full_like(projections, background))
        assert subnormals(explained) == 0


def test_projections_stay_linear_and_their_transpose_exact(camera):
    """Flushing is a rounding below 1.2e-38: an image 1e-15 as large gives projections 1e-15 as large."""
    acquisition, grid, _, mu = camera
    model = SystemModel(acquisition, grid, mu=mu)
    rng = np.random.default_rng(3)
    image = rng.standard_normal(grid.shape).astype(np.float32)
    counts = rng.standard_normal(acquisition.shape).astype(np.float32)
    scale = np.float32(2.0**-50)
    np.testing.assert_array_equal(model.forward(scale * image), scale * model.forward(image))
    np.testing.assert_array_equal(model.adjoint(scale * counts), scale * model.adjoint(counts))
    faint = np.where(np.abs(image) > 1, image, np.float32(1e-39))
    np.testing.assert_array_equal(model.forward(faint), model.forward(np.where(faint == np.float32(1e-39), 0, faint)))
    ax, aty = model.forward(faint).astype(float), model.adjoint(counts).astype(float)
    assert abs(np.vdot(ax, counts) - np.vdot(faint, aty)) < 1e-6 * np.linalg.norm(ax) * np.linalg.norm(counts)


@pytest.mark.parametrize(("dtype", "per_cm"), [("float32", 5.0), ("float64", 50.0)])
def test_tables_hold_none_and_long_paths_let_nothing_through(camera, dtype, per_cm, subnormals):
    """Through lead the factors pass every size down to exp(-path) = 0 within the object."""
    acquisition, grid, cylinder, _ = camera
    model = SystemModel(acquisition, grid, dtype=dtype).with_mu(np.full_like(cylinder, per_cm, dtype))
    tables, factors = model.projector.tables, np.concatenate(model.projector.factors)
    assert subnormals(factors) == 0
    assert (factors == 0).any()
    assert factors[factors > 0].min() < 1e6 * np.finfo(dtype).tiny
    for kernel in (tables.kernel_u, tables.kernel_z):
        assert subnormals(kernel) == subnormals(kernel.astype(np.float32)) == 0
    assert subnormals(tables.weights) == 0
    assert subnormals(tables.frames.rows) == 0


@pytest.mark.parametrize("scale", [1.0, 1e-15, 1e-30])
def test_filters_leave_none(camera, scale, subnormals):
    """A Gaussian's tails reach 5e-17 of a voxel in one pass, a Butterworth filter of high order cuts to 1e-40."""
    _, grid, cylinder, _ = camera
    for background in (0.0, 1e-39, 1e-30):
        image = np.float32(scale) * np.where(cylinder > 0, cylinder, np.float32(background))
        once = filters.gaussian(image, grid.voxel_mm, 30.0)
        for result in (once, filters.gaussian(once, grid.voxel_mm, 30.0)):
            assert subnormals(result) == 0
            assert (result[result > 0] >= FAINT * result.max()).all()
        assert subnormals(filters.butterworth(image, grid.voxel_mm, 0.05, 40.0)) == 0
        assert subnormals(-filters.gaussian(-image, grid.voxel_mm, 30.0)) == 0


@pytest.mark.parametrize("scale", [1.0, 1e-15, 1e-30])
def test_filtered_backprojections_previews_and_resampled_images_hold_none(camera, scale, subnormals):
    acquisition, grid, cylinder, mu = camera
    counts = np.random.default_rng(4).poisson(20 * SystemModel(acquisition, grid, mu=mu).forward(cylinder))
    counts = counts.astype(np.float32) * np.float32(scale)
    assert subnormals(fbp(acquisition, counts, grid)) == 0
    preview = preview_image(acquisition, counts)
    assert subnormals(preview.values) == 0
    finer = Grid.upright((16, 70, 70), (4.0, 4.0, 4.0), (-138.0, -138.0, -30.0))
    of_cylinder = np.where(cylinder > 0, np.float32(scale), np.float32(2e-38))
    for values, of in ((preview.values, preview.grid), (of_cylinder, grid)):
        assert subnormals(resample(values, of, finer)) == 0
