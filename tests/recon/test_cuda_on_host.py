"""The CUDA source compiled as C++ and run on the CPU, launched by the code that launches it on a GPU."""

import ctypes
import itertools
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from spectac.recon import geometry, system
from spectac.recon.bsrem import RelativeDifferencePrior
from spectac.recon.collimator import Collimator, Focus
from spectac.recon.em import osem
from spectac.recon.errors import DeviceError
from spectac.recon.kernels import cuda_projector
from spectac.recon.kernels.cpu_projector import CpuProjector
from spectac.recon.kernels.subnormal import FAINT, subnormals_are_zero
from spectac.recon.kernels.view_tables import ViewTables
from spectac.recon.system import SystemModel
from spectac.recon.types import Grid, MuMap

COMPILER = shutil.which("g++") or shutil.which("clang++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (g++ or clang++)")

# Small enough that tiny grids need several tiles, and blurs reach from one into the next.
LANES, ROWS, TILE = 4, 2, (4, 8)


class HostEngine:
    """Blocks one after the other, each by one thread; memory that a block did not write is not a number."""

    xp = np
    processors = 1
    shared_bytes = 1 << 18

    def __init__(self, folder, free_bytes=1 << 30):
        self._folder, self.memory_bytes = folder, free_bytes

    def free_bytes(self):
        return self.memory_bytes

    def get(self, array):
        return array

    def module(self, options):
        # What is no definition is for NVIDIA's compiler; a mode of the thread stands for its -ftz.
        options = [option for option in options if option.startswith("-D")]
        name = self._folder / ("_".join(o.removeprefix("-D") for o in options).replace("=", "") + ".so")
        if not name.exists():
            source = self._folder / "spect.cpp"
            source.write_text(cuda_projector.source())
            command = [COMPILER, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *options]
            subprocess.run([*command, str(source), "-o", str(name)], check=True)
        return ctypes.CDLL(str(name))

    def launch(self, module, name, grid, shared, arguments):
        assert shared <= self.shared_bytes
        kinds = {np.int32: ctypes.c_int, np.int64: ctypes.c_longlong, np.float64: ctypes.c_double}
        passed = []
        for one in arguments:
            if one is None:
                passed.append(ctypes.c_void_p(None))
            elif isinstance(one, np.ndarray):
                assert one.flags.c_contiguous
                passed.append(ctypes.c_void_p(one.ctypes.data))
            else:
                passed.append(kinds[type(one)](one))
        with subnormals_are_zero():
            for z, y, x in itertools.product(*(range(n) for n in reversed(grid))):
                module.begin_block(x, y, z)
                getattr(module, name)(*passed)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cuda")


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(cuda_projector, "LANES", LANES)
    monkeypatch.setattr(cuda_projector, "ROWS", ROWS)
    monkeypatch.setattr(cuda_projector, "TILES", (TILE,))
    monkeypatch.setattr(cuda_projector, "FEWEST_PLANES", 2)


# shape (z, y, x), columns u, offset of the grid's centre from the axis in mm (x, y), u_offset in mm, voxel in mm, focus
CASES = {
    "odd, centred": ((3, 5, 7), 7, (0.0, 0.0), 0.0, 4.4, None),
    "even, several tiles": ((18, 6, 4), 10, (0.0, 0.0), 0.0, 4.4, None),
    "mixed, detector narrower": ((4, 5, 6), 4, (0.0, 0.0), 0.0, 4.4, None),
    "mixed, off centre": ((9, 6, 5), 8, (5.3, -3.1), 0.0, 4.4, None),
    "odd, axis off the detector's centre": ((2, 5, 6), 7, (-2.2, 0.0), 3.7, 4.4, None),
    "fan, several rays": ((9, 7, 8), 9, (3.3, -2.1), 1.7, 2.1, Focus(88.0, offset_mm=-5.1)),
}


@pytest.fixture
def both(make_acquisition, small_tiles, folder):
    """Function (case, dtype, attenuated, blurred, **options) -> projectors of the CPU and of the CUDA source."""

    def make(case, dtype, attenuated, blurred, limit=None, half=False, free_bytes=1 << 30, orbit=None):
        shape, columns, (dx, dy), u_offset, voxel, focus = CASES[case]
        nz, ny, nx = shape
        angles = (0.0, 17.0, 45.0, 133.0, 250.3)
        acquisition = make_acquisition(
            angles,
            (nz, columns),
            4.4,
            radii_mm=np.array([22.0, 35.0, 28.0, 41.0, 24.5]),
            u_offset_mm=np.full(5, u_offset),
            collimator=Collimator.from_line(2.5, 0.06, 12.0),
            foci=() if focus is None else (focus,),
        )
        first = (dx - 0.5 * voxel * (nx - 1), dy - 0.5 * voxel * (ny - 1), -2.2 * (nz - 1))
        grid = Grid.upright(shape, (4.4, voxel, voxel), first)
        everywhere = np.ones((ny, nx), bool)
        inside = everywhere if orbit is None else orbit(everywhere)
        frames = geometry.camera_frames(acquisition, grid, inside)
        sigma = (
            Collimator.from_line(2.5, 0.06).sigma_mm(frames.distance_mm, 140.5) if blurred else 0 * frames.distance_mm
        )
        weights_s = np.array([1.0, 2.0, 0.5, 3.0, 1.5])
        tables = ViewTables.of(acquisition, grid, inside, frames, (sigma, 1.3 * sigma), weights_s)
        engine = HostEngine(folder, free_bytes)
        host = CpuProjector(tables, np.dtype(dtype), None)
        device = cuda_projector.CudaProjector(tables, np.dtype(dtype), limit, half_factors=half, engine=engine)
        if attenuated:
            mu = np.random.default_rng(11).uniform(0.0, 0.5, (ny, nx, nz))
            host, device = host.with_mu(mu), device.with_mu(mu)
        return host, device

    return make


def arrays(projector, seed, dtype, views):
    tables = projector.tables
    nz, ny, nx = tables.shape
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((ny, nx, nz)).astype(dtype)
    counts = rng.standard_normal((views.size, tables.matrix[1], tables.matrix[0])).astype(dtype)
    return image, counts


def close(found, wanted, limit):
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=0, atol=limit * np.abs(wanted).max())


@pytest.mark.parametrize("attenuated", [True, False], ids=["attenuated", "in air"])
@pytest.mark.parametrize("blurred", [True, False], ids=["blur", "sharp"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-14), ("float32", 2e-6)])
def test_the_cuda_source_computes_what_the_cpu_does(both, case, blurred, attenuated, dtype, limit):
    """Differences are roundings of sums of some hundred terms; the views in any order, one of them twice."""
    host, device = both(case, dtype, attenuated, blurred)
    for views in (np.arange(5), np.array([3, 0, 3])):
        image, counts = arrays(host, 5, dtype, views)
        close(device.forward(image, views), host.forward(image, views), limit)
        close(device.adjoint(counts, views), host.adjoint(counts, views), limit)
        close(device.gradient_mu(image, counts, views), host.gradient_mu(image, counts, views), limit)
        measured, scatter = np.abs(counts), np.full_like(counts, 0.1)
        measured[0, 0] = 7.0
        for extra in (None, scatter):
            found, wanted = (one.em_backprojection(np.abs(image), measured, extra, views) for one in (device, host))
            close(found[0], wanted[0], 10 * limit)
            assert float(found[1]) == pytest.approx(float(wanted[1]), rel=1e-6)


@pytest.mark.parametrize("kept", [True, False], ids=["factors kept", "factors made again"])
@pytest.mark.parametrize("batches", [1, 2, 4])
def test_batches_and_factors_made_again_give_the_same(batches, kept, both):
    """Little memory: fewer views at once, factors of a batch at a time, other planes in a block's sum."""
    case, views = "even, several tiles", np.array([4, 2, 0, 1])
    whole = both(case, "float64", True, True)[1]
    few = both(case, "float64", True, True, limit=2**30 if kept else 0)[1]
    one_view = int(whole.tables.points.max()) * whole.tables.shape[0] * 8 * (1 if kept else 2)
    few.engine.memory_bytes = 4 * (one_view * 4 // batches + 8)
    few = few.with_mu(few.mu)
    assert len(few.batches(views)) == batches
    assert (few.factors is not None) == kept
    image, counts = arrays(whole, 6, "float64", views)
    close(few.forward(image, views), whole.forward(image, views), 1e-14)
    close(few.adjoint(counts, views), whole.adjoint(counts, views), 1e-14)
    close(*(one.gradient_mu(image, counts, views) for one in (few, whole)), 1e-14)


@pytest.mark.parametrize("pitch_mm", [(2.0, 5.0), (5.0, 2.0)], ids=["wide along z", "wide along u"])
def test_blurs_of_any_width_and_another_along_each_axis(pitch_mm, make_acquisition, small_tiles, folder):
    """Half-widths of 0 to 12, each with another one beside it: every way through the kernels' choice of width."""
    pitch_z, pitch_u = pitch_mm
    acquisition = make_acquisition([0.0, 17.0], (13, 15), 1.0, radii_mm=np.full(2, 60.0))
    acquisition = replace(acquisition, pixel_mm=pitch_mm)
    grid = Grid.upright((13, 15, 15), (pitch_z, pitch_u, pitch_u), (-7 * pitch_u, -7 * pitch_u, -6 * pitch_z))
    frames = geometry.camera_frames(acquisition, grid)
    sigma = np.linspace(0.0, 6.8, frames.depths) * np.ones((2, 1))
    tables = ViewTables.of(acquisition, grid, np.ones((15, 15), bool), frames, (sigma, sigma), np.array([1.0, 2.0]))
    widest = tables.half_z if pitch_z < pitch_u else tables.half_u
    assert set(widest.ravel().tolist()) >= set(range(13))
    host = CpuProjector(tables, np.dtype("float64"), None)
    device = cuda_projector.CudaProjector(tables, np.dtype("float64"), None, engine=HostEngine(folder))
    views = np.arange(2)
    image, counts = arrays(host, 12, "float64", views)
    projected, returned = host.forward(image, views), host.adjoint(counts, views)
    close(device.forward(image, views), projected, 1e-14)
    close(device.adjoint(counts, views), returned, 1e-14)
    # And plane by plane: the projection without blur, then numpy's convolutions.
    plain = ViewTables.of(acquisition, grid, tables.inside, frames, (0 * sigma, 0 * sigma), np.array([1.0, 2.0]))
    wanted = np.zeros_like(projected)
    for d in range(frames.depths):
        only = replace(
            plain, frames=replace(frames, last=np.where(np.arange(frames.depths) == d, frames.last, frames.first))
        )
        one = CpuProjector(only, np.dtype("float64"), None).forward(image, views)
        for view in views:
            ku, kz = (
                np.concatenate([kernel[view, d, half[view, d] : 0 : -1], kernel[view, d, : half[view, d] + 1]])
                for kernel, half in ((tables.kernel_u, tables.half_u), (tables.kernel_z, tables.half_z))
            )
            blurred = np.apply_along_axis(np.convolve, 0, one[view], ku, "full")
            blurred = np.apply_along_axis(np.convolve, 1, blurred, kz, "full")
            hu, hz = ku.size // 2, kz.size // 2
            wanted[view] += blurred[hu : hu + 15, hz : hz + 13]
    close(projected, wanted, 1e-14)


@pytest.mark.parametrize("case", ["even, several tiles", "mixed, off centre"])
def test_what_lies_outside_counts_as_nothing(both, case):
    """A ragged part of the grid: both see an image and a map as if they were 0 elsewhere, and write nothing there."""

    def ragged(everywhere):
        y, x = np.indices(everywhere.shape)
        return (np.abs(y - 2.6) + np.abs(x - 1.7) < 3.5) & (x + 9 * y != 20)

    host, device = both(case, "float64", True, True, orbit=ragged)
    full = both(case, "float64", True, True)[0]
    inside = host.tables.inside[:, :, None]
    assert 0 < inside.sum() < inside.size - 3
    full = full.with_mu(full.mu * inside)
    views = np.arange(5)
    image, counts = arrays(host, 9, "float64", views)
    for one in (host, device):
        close(one.forward(image, views), full.forward(image * inside, views), 1e-14)
        close(one.adjoint(counts, views), full.adjoint(counts, views) * inside, 1e-14)
        close(one.gradient_mu(image, counts, views), full.gradient_mu(image * inside, counts, views) * inside, 1e-14)


def test_an_update_multiplies_where_the_inverse_is_positive(both):
    """And ends what lies below FAINT of the largest, here 0.8 FAINT at most, beside a largest above 1.9."""
    host, device = both("mixed, off centre", "float32", False, False)
    rng = np.random.default_rng(10)
    image, backprojected, inverse = (rng.uniform(0.5, 2, (6, 5, 9)).astype(np.float32) for _ in range(3))
    inverse[rng.uniform(size=inverse.shape) < 0.3] = 0
    faint = rng.uniform(size=image.shape) < 0.3
    image[faint] *= np.float32(0.4 * FAINT)
    wanted = np.where(faint, 0, np.where(inverse > 0, image * backprojected * inverse, image))
    for one in (host, device):
        found = image.copy()
        one.em_update(found, backprojected, inverse)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_factors_in_half_precision_are_off_by_a_rounding(both):
    host, device = both("mixed, off centre", "float32", True, True, half=True)
    views = np.arange(5)
    image, counts = arrays(host, 7, "float32", views)
    assert device.factors.dtype == np.uint16
    close(device.forward(np.abs(image), views), host.forward(np.abs(image), views), 2.0**-11)
    # Both ways see the same rounded factors: the adjoint stays exact.
    ax, aty = device.forward(image, views).astype(float), device.adjoint(counts, views).astype(float)
    assert abs(np.vdot(ax, counts) - np.vdot(image, aty)) < 1e-6 * np.linalg.norm(ax) * np.linalg.norm(counts)


@pytest.mark.parametrize("half", [False, True], ids=["float", "half"])
def test_factors_hold_no_subnormal_number(half, both):
    """Below the smallest normal number of their type they are 0, in half precision below 6e-5, both ways alike."""
    device = both("even, several tiles", "float32", True, True, half=half)[1]
    device = device.with_mu(np.full((*device.tables.shape[1:], device.tables.shape[0]), 20.0 if half else 100.0))
    kind = np.float16 if half else np.float32
    factors = device.factors.view(kind)
    assert (factors == 0).any()
    assert factors[factors > 0].min() >= np.finfo(kind).tiny
    views = np.arange(5)
    image, counts = arrays(device, 7, "float32", views)
    ax, aty = device.forward(image, views).astype(float), device.adjoint(counts, views).astype(float)
    assert abs(np.vdot(ax, counts) - np.vdot(image, aty)) < 1e-6 * np.linalg.norm(ax) * np.linalg.norm(counts)


def test_too_little_memory_is_refused_with_what_to_do(both):
    device = both("odd, centred", "float32", True, True, free_bytes=1000)[1]
    image, _ = arrays(device, 8, "float32", np.arange(5))
    with pytest.raises(DeviceError, match="--device cpu"):
        device.forward(image, np.arange(5))


@pytest.fixture
def as_if_on_a_gpu(monkeypatch, small_tiles, folder):
    """SystemModel(device="cuda") computes by the CUDA source on the host."""

    def projector(device, tables, dtype, limit, half):
        if device == "cpu":
            return CpuProjector(tables, dtype, limit)
        return cuda_projector.CudaProjector(tables, dtype, limit, half_factors=half, engine=HostEngine(folder))

    monkeypatch.setattr(system, "projector", projector)
    monkeypatch.setattr(system, "select_device", lambda name: name)


@pytest.mark.parametrize("prior", [None, RelativeDifferencePrior(0.01)], ids=["OSEM", "MAP"])
@pytest.mark.parametrize(("half", "limit"), [(False, 1e-5), (True, 1e-3)], ids=["float", "half"])
def test_whole_reconstructions_by_the_cuda_source(half, limit, prior, as_if_on_a_gpu, make_acquisition):
    """Start, sensitivities, updates, lost counts and the crop as on the CPU; float32 rounds in another order."""
    acquisition = make_acquisition(
        22.5 * np.arange(16), (5, 22), 10.0, radii_mm=np.full(16, 45.0), collimator=Collimator.from_line(4.0, 0.05)
    )
    grid = geometry.default_grid(acquisition)
    _, y, x = grid.centres_mm()
    disk = np.broadcast_to(np.hypot(x, y[:, None]) < 40, grid.shape).astype(np.float32)
    mu = MuMap(0.15 * disk, grid, 140.5)
    images, lost = [], []
    for device in ("cpu", "cuda"):
        model = SystemModel(
            acquisition, grid, mu=mu, device=device, crop_to_orbit=True, half_factors=half and device == "cuda"
        )
        if not images:
            counts = np.random.default_rng(2).poisson(200 * model.forward(disk)).astype(np.float32)
        seen = []
        image = osem(
            model,
            counts,
            iterations=3,
            subsets=4,
            prior=prior,
            scatter=None,
            on_update=lambda update, seen=seen: seen.append(update.lost),
        )
        images.append(image)
        lost.append([float(one) for one in seen])
    assert images[0].max() > 50
    assert np.abs(images[1] - images[0]).max() < limit * images[0].max()
    np.testing.assert_allclose(lost[1], lost[0], rtol=1e-6)
