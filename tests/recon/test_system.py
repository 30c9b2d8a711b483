"""The system model as an operator: its transpose, its explicit matrix, its derivative to mu, its weights."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from rotated_view import one_view_by_rotation

from spectac.recon import geometry
from spectac.recon.collimator import Collimator, Focus, pixel_kernel
from spectac.recon.errors import InputError
from spectac.recon.kernels import reference
from spectac.recon.orbit_check import check_map_radius
from spectac.recon.system import SystemModel, view_weights_s
from spectac.recon.types import Grid, MuMap

KEV = 140.511
LOW_ENERGY = Collimator("test", 1.5, 25.0, 0.2, 3.8)


def signed_noise(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


def mismatch(forward, adjoint, x, y):
    """|<Ax, y> - <x, A'y>| / (|Ax| |y|), the sums in float64."""
    ax, aty = forward(x).astype(float), adjoint(y).astype(float)
    return abs(np.vdot(ax, y) - np.vdot(x, aty)) / (np.linalg.norm(ax) * np.linalg.norm(y))


@pytest.fixture
def clinical(make_acquisition, device, host_arrays):
    """Function (angle, dtype) -> system of one view: 64 x 64 x 32 voxels of 4.4 mm, attenuation and blur."""

    def make(angle_deg, dtype):
        acquisition = make_acquisition([angle_deg], (32, 64), 4.4, radii_mm=[150.0], collimator=LOW_ENERGY)
        grid = geometry.default_grid(acquisition)
        _, y, x = grid.centres_mm()
        head = (x / 78.0) ** 2 + (y[:, None] / 96.0) ** 2 < 1
        mu = 0.15 * head * np.random.default_rng(7).uniform(0.5, 1.5, grid.shape)
        return host_arrays(SystemModel(acquisition, grid, mu=MuMap(mu, grid, KEV), dtype=dtype, device=device))

    return make


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("angle_deg", [17.0, 45.0, 133.0])
def test_adjoint_of_one_oblique_view(angle_deg, dtype, limit, clinical, figure):
    """Signed noise and a single oblique view: positive data or a mean over views would hide a wrong transpose."""
    system = clinical(angle_deg, dtype)
    x = signed_noise(system.image_shape, 1).astype(dtype)
    y = signed_noise(system.projections_shape, 2).astype(dtype)
    value = mismatch(system.forward, system.adjoint, x, y)
    figure(f"adjoint, {dtype}, {angle_deg:g} deg", value, f"{limit:g}")
    assert value < limit


@pytest.mark.parametrize("angle_deg", [17.0, 45.0])
def test_a_rotate_back_adjoint_is_rejected(angle_deg, clinical, figure):
    """The criterion sees the classical mistake, and nothing else: the same code with transposed weights passes."""
    system = clinical(angle_deg, "float64")
    x, y = signed_noise(system.image_shape, 1), signed_noise(system.projections_shape, 2)
    _, yc, xc = system.grid.centres_mm()
    head = (xc / 78.0) ** 2 + (yc[:, None] / 96.0) ** 2 < 1
    mu = (0.15 * head * np.random.default_rng(7).uniform(0.5, 1.5, system.image_shape)).astype(np.float32).astype(float)
    # Planes of 4.4 mm about the axis, 150 mm to the face; 92 of them cover a square of 64 voxels at every angle.
    depths = 92
    distance_mm = np.maximum(150.0 - 4.4 * (0.5 * (depths - 1) - np.arange(depths)), 0.0)

    right = one_view_by_rotation(system, mu, distance_mm, "transpose")
    # geometry.py rounds a lattice's steps to 1e-9 voxel, which adds up to 1e-7 voxel over a hundred of them.
    assert mismatch(system.forward, right, x, y) < 1e-8
    np.testing.assert_allclose(right(y), system.adjoint(y), rtol=0, atol=1e-7 * np.abs(right(y)).max())

    # How wrong depends on the noise drawn, from 1e-4 to 4e-3: every pair must fail the limit of float32, and by far.
    back = one_view_by_rotation(system, mu, distance_mm, "rotate")
    wrong = np.array(
        [
            mismatch(
                system.forward,
                back,
                signed_noise(system.image_shape, 10 + pair),
                signed_noise(system.projections_shape, 20 + pair),
            )
            for pair in range(4)
        ]
    )
    figure(
        f"adjoint by rotating back, {angle_deg:g} deg, RMS of 4 (must fail)", float(np.sqrt((wrong**2).mean())), "1e-6"
    )
    assert wrong.min() > 10 * 1e-6
    assert np.sqrt((wrong**2).mean()) > 1e-4


ANGLES_DEG = (0.0, 17.0, 45.0, 133.0, 250.3)
FAN = Collimator.from_line(2.5, 0.06, length_mm=12.0)


@dataclass(frozen=True)
class Tiny:
    """A tiny system: grid of `shape` (z, y, x), its centre (x, y) beside the axis, `columns` of 4.4 mm."""

    shape: tuple[int, int, int]
    columns: int
    centre_mm: tuple[float, float] = (0.0, 0.0)
    u_offset_mm: float = 0.0
    focus: Focus | None = None
    voxel_mm: float = 4.4


TINY = {
    "odd, centred": Tiny((3, 5, 7), 7),
    "even, centred": Tiny((2, 6, 4), 6),
    "mixed, detector narrower": Tiny((4, 5, 6), 4),
    "mixed, off centre": Tiny((3, 6, 5), 8, (5.3, -3.1)),
    "odd, axis off the detector's centre": Tiny((2, 5, 6), 7, (-2.2, 0.0), 3.7),
    "fan": Tiny((3, 5, 7), 7, focus=Focus(90.0)),
    "fan, off centre": Tiny((2, 7, 8), 9, (3.3, -2.1), 1.7, Focus(100.0, "crystal", -5.1), 2.1),
}


@pytest.fixture
def tiny(make_acquisition, device, host_arrays):
    """Function (case, attenuated, blurred, circular) -> float64 system of five views on a tiny grid."""

    def make(case, attenuated, blurred, circular, **options):
        one = TINY[case]
        nz, ny, nx = one.shape
        radii = np.full(5, 30.0) if circular else np.array([22.0, 35.0, 28.0, 41.0, 24.5])
        acquisition = make_acquisition(
            ANGLES_DEG,
            (nz, one.columns),
            4.4,
            radii_mm=radii,
            view_seconds=np.array([1.0, 2.0, 0.5, 3.0, 1.5]),
            u_offset_mm=np.full(5, one.u_offset_mm),
            collimator=FAN,
            foci=() if one.focus is None else (one.focus,),
        )
        (dx, dy), voxel = one.centre_mm, one.voxel_mm
        first = (dx - 0.5 * voxel * (nx - 1), dy - 0.5 * voxel * (ny - 1), -2.2 * (nz - 1))
        grid = Grid.upright(one.shape, (4.4, voxel, voxel), first)
        mu = MuMap(tiny_mu(one.shape), grid, KEV) if attenuated else None
        system = SystemModel(acquisition, grid, mu=mu, resolution=blurred, dtype="float64", device=device, **options)
        return host_arrays(system)

    return make


def tiny_mu(shape):
    """Random mu in 1/cm in steps of 2^-12: float32 holds it, and it plus a step of 2^-10, exactly."""
    return np.random.default_rng(11).integers(200, 2000, shape) / 4096.0


@dataclass(frozen=True)
class ReferenceView:
    """What reference.py needs for one view, and the weight of the view."""

    rotation: np.ndarray
    factors: np.ndarray
    kernels: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    step_cm: np.ndarray
    weight: float


def reference_view(system, case, view, mu, blurred):
    """Rays of a fan beam: at distance z from the face columns lie pixel (F - z)/Fc apart and weigh F/Fc cos^3."""
    one, seconds = TINY[case], [1.0, 2.0, 0.5, 3.0, 1.5][view]
    nz, ny, nx = system.image_shape
    columns = system.acquisition.matrix[1]
    frames = geometry.camera_frames(system.acquisition, system.grid)
    rotation = reference.rotation_matrix(frames.rows[view], frames.rays[view], columns, ny, nx)
    mu = np.zeros((ny, nx, nz)) if mu is None else mu.transpose(1, 2, 0)
    distance_mm = frames.distance_mm[view]
    sigma = 2.5 + 0.06 * distance_mm if blurred else np.zeros_like(distance_mm)
    cosine, gain, magnification = np.ones(columns), np.ones(columns), 1.0
    if one.focus is not None:
        face_mm = one.focus.length_mm - (12.0 if one.focus.counted_from == "crystal" else 0.0)
        u = 4.4 * (np.arange(columns) - 0.5 * (columns - 1)) - one.focus.offset_mm
        cosine = np.cos(np.arctan(u / (face_mm + 12.0)))
        gain = face_mm / (face_mm + 12.0) * cosine**3
        magnification = (face_mm + 12.0) / (face_mm - distance_mm)
    step_cm = 0.1 * one.voxel_mm / cosine
    factors = reference.attenuation_factors(mu, rotation, frames.depths, step_cm) * gain[:, None]
    kernels = (*pixel_kernel(sigma * magnification, 4.4), *pixel_kernel(sigma, 4.4))
    return ReferenceView(rotation, factors, kernels, step_cm, seconds * 4.4**2 * one.voxel_mm / 1000.0)


@pytest.mark.parametrize("angle_deg", [17.0, 90.0])
def test_nothing_far_beyond_the_orbit_is_computed(angle_deg, make_acquisition, device, host_arrays):
    """Whatever lies there, images and maps count as 0, and all that can reach the detector from within is the same."""
    acquisition = make_acquisition(
        angle_deg + 60.0 * np.arange(6), (4, 36), 8.8, radii_mm=np.full(6, 45.0), collimator=LOW_ENERGY
    )
    grid = geometry.default_grid(acquisition)
    _, y, x = grid.centres_mm()
    support = geometry.orbit_support(acquisition, grid)
    # The orbit's six faces, 60 mm farther out, make a hexagon.
    assert support[np.hypot(x, y[:, None]) <= 105.0].all()
    assert not support[np.hypot(x, y[:, None]) > 105.0 * 2 / math.sqrt(3)].any()
    mu = MuMap(np.random.default_rng(1).uniform(0, 0.04, grid.shape), grid, KEV)
    within = MuMap(mu.per_cm * support, grid, KEV)
    settings = {"dtype": "float64", "device": device}
    whole = host_arrays(SystemModel(acquisition, grid, mu=within, **settings))
    inside = host_arrays(SystemModel(acquisition, grid, mu=mu, crop_to_orbit=True, **settings))
    points = [system.projector.tables.points.sum() for system in (whole, inside)]
    assert points[1] < 0.7 * points[0]
    image, counts = signed_noise(whole.image_shape, 2), signed_noise(whole.projections_shape, 3)
    for found, wanted in (
        (inside.forward(image), whole.forward(image * support)),
        (inside.adjoint(counts), whole.adjoint(counts) * support),
        (inside.gradient_mu(image, counts), whole.gradient_mu(image * support, counts) * support),
    ):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())


def test_a_grid_far_beyond_the_orbit_is_refused(make_acquisition):
    acquisition = make_acquisition([0.0, 90.0, 180.0, 270.0], (2, 80), 4.4, radii_mm=np.full(4, 30.0))
    beside = Grid.upright((2, 4, 4), (4.4, 4.4, 4.4), (110.0, 110.0, -2.2))
    with pytest.raises(InputError, match="no voxel of the grid lies near the orbit"):
        SystemModel(acquisition, beside, resolution=False, crop_to_orbit=True)


def test_a_result_keeps_no_other_memory_alive(tiny, device):
    """Every thread sums an image of its own; OSEM keeps a sensitivity for each subset."""
    if device != "cpu":
        pytest.skip("threads are the CPU's")
    system = tiny("even, centred", True, True, True)
    base = system.adjoint(np.ones(system.projections_shape))
    held = base.nbytes
    while base.base is not None:
        base = base.base
    assert base.nbytes == held


def test_images_in_another_layout_are_not_improved(tiny):
    """In place means in this memory: a copy would be changed and lost."""
    system = tiny("odd, centred", False, False, True)
    ones = np.ones(system.image_shape)
    with pytest.raises(InputError, match="as_image"):
        system.em_update(ones, ones, ones)


@pytest.mark.parametrize("circular", [True, False], ids=["circular", "non-circular"])
@pytest.mark.parametrize("blurred", [True, False], ids=["blur", "sharp"])
@pytest.mark.parametrize("attenuated", [True, False], ids=["attenuated", "in air"])
@pytest.mark.parametrize("case", TINY)
def test_explicit_matrix(case, attenuated, blurred, circular, tiny):
    """Column by column, forward is the transpose of adjoint and the reference's matrix times the weight of the view.

    Differences are roundings of sums of some hundred float64 terms.
    """
    system = tiny(case, attenuated, blurred, circular)
    nz, ny, nx = system.image_shape
    columns = system.acquisition.matrix[1]
    voxels, bins = nz * ny * nx, math.prod(system.projections_shape)

    forward = np.stack([system.forward(unit.reshape(system.image_shape)).ravel() for unit in np.eye(voxels)], axis=1)
    adjoint = np.stack([system.adjoint(unit.reshape(system.projections_shape)).ravel() for unit in np.eye(bins)])
    scale = np.abs(forward).max()
    np.testing.assert_allclose(adjoint, forward, rtol=0, atol=1e-14 * scale)

    mu = tiny_mu(system.image_shape) if attenuated else None
    by_view = forward.reshape(5, nz * columns, voxels)
    for view in range(5):
        one = reference_view(system, case, view, mu, blurred)
        matrix = reference.view_matrix(one.rotation, one.factors, one.kernels)
        # (u, z, y * x, z') -> (z, u, z', y * x)
        wanted = matrix.transpose(1, 0, 3, 2).reshape(nz * columns, voxels) * one.weight
        np.testing.assert_allclose(by_view[view], wanted, rtol=0, atol=1e-14 * scale)


@pytest.mark.parametrize("blurred", [True, False], ids=["blur", "sharp"])
@pytest.mark.parametrize("case", ["odd, centred", "mixed, off centre", "fan, off centre"])
def test_gradient_mu_on_every_voxel(case, blurred, tiny, figure):
    """Central differences with h = 2^-10 /cm: their own error is (voxel_cm h)^2 / 6 = 3e-8 times the third derivative.

    MuMap keeps float32, so mu and mu +- h are multiples of 2^-12 and exact.
    """
    system = tiny(case, True, blurred, False)
    shape, mu, step = system.image_shape, tiny_mu(system.image_shape), 2.0**-10
    x, r = signed_noise(shape, 3), signed_noise(system.projections_shape, 4)
    gradient = system.gradient_mu(x, r)
    differences = np.empty(shape)
    for voxel in np.ndindex(*shape):
        values = []
        for sign in (1, -1):
            moved = mu.copy()
            moved[voxel] += sign * step
            other = SystemModel(
                system.acquisition,
                system.grid,
                mu=MuMap(moved, system.grid, KEV),
                resolution=blurred,
                dtype="float64",
            )
            values.append(np.vdot(r, other.forward(x)))
        differences[voxel] = (values[0] - values[1]) / (2 * step)
    error = np.abs(gradient - differences).max() / np.abs(gradient).max()
    figure(f"gradient_mu against differences, {case}, {'blur' if blurred else 'sharp'}", error, "1e-6")
    assert error <= 1e-6


@pytest.mark.parametrize("attenuated", [True, False], ids=["attenuated", "at mu = 0"])
@pytest.mark.parametrize("blurred", [True, False], ids=["blur", "sharp"])
@pytest.mark.parametrize("case", TINY)
def test_gradient_mu_equals_the_reference(case, blurred, attenuated, tiny):
    system = tiny(case, attenuated, blurred, False)
    x, r = signed_noise(system.image_shape, 3), signed_noise(system.projections_shape, 4)
    mu = tiny_mu(system.image_shape) if attenuated else None
    wanted = np.zeros(system.image_shape)
    for view in range(5):
        one = reference_view(system, case, view, mu, blurred)
        gradient = reference.gradient_mu_view(
            x.transpose(1, 2, 0), r[view].T, one.rotation, one.factors, one.kernels, one.step_cm
        )
        wanted += gradient.transpose(2, 0, 1) * one.weight
    np.testing.assert_allclose(system.gradient_mu(x, r), wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())


def test_factors_computed_again_are_the_cached_ones(tiny):
    """Same sums in the same order, so the results are the same bits."""
    cached = tiny("mixed, off centre", True, True, False)
    again = tiny("mixed, off centre", True, True, False, factor_memory_bytes=0)
    assert cached.projector.factors is not None
    assert again.projector.factors is None
    x, y = signed_noise(cached.image_shape, 5), signed_noise(cached.projections_shape, 6)
    np.testing.assert_array_equal(again.forward(x), cached.forward(x))
    np.testing.assert_array_equal(again.adjoint(y), cached.adjoint(y))
    np.testing.assert_array_equal(again.gradient_mu(x, y), cached.gradient_mu(x, y))


def test_subsets_are_parts_of_the_whole(tiny):
    """Views in any order, subsets of subsets, a view taken twice: each is the whole system's own row of views."""
    system = tiny("odd, centred", True, True, False)
    x, y = signed_noise(system.image_shape, 5), signed_noise(system.projections_shape, 6)
    whole = system.forward(x)
    for views in ([0, 1], [3, 0, 4], [2, 2], [4]):
        part = system.subset(views)
        assert part.projections_shape == (len(views), *whole.shape[1:])
        np.testing.assert_array_equal(part.forward(x), whole[views])
    np.testing.assert_array_equal(system.subset([3, 0, 4]).subset([2, 0]).forward(x), whole[[4, 3]])
    parts = [[0, 3], [1, 4], [2]]
    for method, arguments in (("adjoint", ()), ("gradient_mu", (x,))):
        total = sum(getattr(system.subset(views), method)(*arguments, y[views]) for views in parts)
        np.testing.assert_allclose(
            total, getattr(system, method)(*arguments, y), rtol=0, atol=1e-13 * np.abs(total).max()
        )


def test_order_of_the_views_does_not_matter(make_acquisition):
    angles = np.array([250.3, 0.0, 133.0, 17.0, -90.0, 377.0])
    radii = np.array([41.0, 22.0, 35.0, 28.0, 24.5, 28.0])
    x = signed_noise((3, 7, 7), 8)

    def projected(order):
        acquisition = make_acquisition(
            angles[order], (3, 7), 4.4, radii_mm=radii[order], collimator=Collimator.from_line(2.5, 0.06)
        )
        grid = geometry.default_grid(acquisition)
        return SystemModel(acquisition, grid, mu=MuMap(tiny_mu(grid.shape), grid, KEV), dtype="float64").forward(x)

    plain = projected(np.arange(6))
    order = np.array([5, 2, 0, 4, 1, 3])
    np.testing.assert_array_equal(projected(order), plain[order])
    # 377 deg is 17 deg, at the same radius.
    np.testing.assert_allclose(plain[5], plain[3], rtol=0, atol=1e-12 * np.abs(plain).max())


def test_float32_follows_float64(clinical):
    """Rounding of float32 (6e-8) over sums of a few hundred terms."""
    single, double = clinical(17.0, "float32"), clinical(17.0, "float64")
    x, y = signed_noise(single.image_shape, 1), signed_noise(single.projections_shape, 2)
    for one, other in (
        (single.forward(x), double.forward(x)),
        (single.adjoint(y), double.adjoint(y)),
        (single.gradient_mu(x, y), double.gradient_mu(x, y)),
    ):
        assert one.dtype == np.float32
        assert other.dtype == np.float64
        assert np.linalg.norm(one - other) / np.linalg.norm(other) < 1e-6


def test_astype_is_the_system_built_in_that_precision(tiny, clinical):
    """Not the same tables cast: kernels and factors of float32 would show at 1e-8. One twin serves all subsets."""
    single, double = clinical(17.0, "float32"), clinical(17.0, "float64")
    x, y = signed_noise(single.image_shape, 1), signed_noise(single.projections_shape, 2)
    np.testing.assert_array_equal(single.astype("float64").forward(x), double.forward(x))
    np.testing.assert_array_equal(double.astype(np.float32).adjoint(y), single.adjoint(y))
    assert single.astype("float32")._system is single._system

    for options in ({}, {"factor_memory_bytes": 0}):
        system = tiny("even, centred", True, True, False, **options)
        x = signed_noise(system.image_shape, 3)
        twin = system.subset([4, 2]).astype("float32")
        assert twin.view_indices.tolist() == [4, 2]
        assert twin.projector is system.astype("float32").projector
        assert (twin.projector.factors is None) == bool(options)
        np.testing.assert_allclose(
            twin.forward(x), system.forward(x)[[4, 2]], rtol=0, atol=1e-6 * system.forward(x).max()
        )


def test_any_memory_layout_is_accepted_and_left_as_it_was(tiny):
    system = tiny("even, centred", True, True, True)
    x, y = signed_noise(system.image_shape, 5), signed_noise(system.projections_shape, 6)
    forward, adjoint = system.forward(x), system.adjoint(y)
    for other in (np.asfortranarray, lambda a: a.astype(">f8"), lambda a: a[::-1].copy()[::-1]):
        given_x, given_y = other(x), other(y)
        given_x.flags.writeable = given_y.flags.writeable = False
        np.testing.assert_array_equal(system.forward(given_x), forward)
        np.testing.assert_array_equal(system.adjoint(given_y), adjoint)
        np.testing.assert_array_equal(given_x, x)
        np.testing.assert_array_equal(given_y, y)
    # The system's own results are already stored as the kernels want them.
    assert forward.transpose(0, 2, 1).flags.c_contiguous
    assert adjoint.transpose(1, 2, 0).flags.c_contiguous
    kept = adjoint.copy()
    system.forward(adjoint)
    np.testing.assert_array_equal(adjoint, kept)


def test_a_detector_beside_the_patient_sees_nothing(make_acquisition):
    acquisition = make_acquisition([17.0], (3, 5), 4.4, u_offset_mm=[500.0], collimator=Collimator.from_line(2.0, 0.02))
    grid = geometry.default_grid(acquisition)
    system = SystemModel(acquisition, grid, mu=MuMap(tiny_mu(grid.shape), grid, KEV))
    assert not system.forward(np.ones(grid.shape)).any()
    assert not system.adjoint(np.ones(system.projections_shape)).any()
    assert not system.gradient_mu(np.ones(grid.shape), np.ones(system.projections_shape)).any()


def test_counts_are_proportional_to_the_time_of_a_view(make_acquisition):
    x = np.abs(signed_noise((3, 6, 6), 10))

    def projected(seconds):
        acquisition = make_acquisition([0.0, 17.0, 45.0], (3, 6), 4.4, view_seconds=np.array(seconds))
        system = SystemModel(acquisition, geometry.default_grid(acquisition), resolution=False, dtype="float64")
        return system.forward(x), system.adjoint(np.ones(system.projections_shape))

    one, one_back = projected([1.0, 1.0, 1.0])
    mixed, _ = projected([0.5, 20.0, 3.0])
    np.testing.assert_allclose(mixed, one * np.array([0.5, 20.0, 3.0])[:, None, None], rtol=1e-14)
    double, double_back = projected([2.0, 2.0, 2.0])
    np.testing.assert_allclose(double, 2 * one, rtol=1e-14)
    np.testing.assert_allclose(double_back, 2 * one_back, rtol=1e-14)
    # 1 count per second and mL in every voxel: a 0 deg view counts the 6 voxels behind a pixel, of 4.4^3 mm3 each.
    acquisition = make_acquisition([0.0], (3, 6), 4.4, view_seconds=np.array([30.0]))
    system = SystemModel(acquisition, geometry.default_grid(acquisition), resolution=False, dtype="float64")
    np.testing.assert_allclose(system.forward(np.ones((3, 6, 6))), 30.0 * 6 * 0.085184, rtol=1e-14)


def test_decay_during_and_between_views(make_acquisition):
    """Tc-99m halves in 6.0067 h: a first view of that length weighs T_half / (2 ln 2), the next one half of that."""
    half_life = 6.0067 * 3600.0
    acquisition = make_acquisition(
        [0.0, 90.0, 180.0],
        (1, 4),
        4.4,
        view_seconds=np.array([half_life, half_life, 10.0]),
        view_start_s=np.array([0.0, half_life, 2 * half_life]),
        corrections=frozenset(),
    )
    weights = view_weights_s(acquisition)
    first = half_life / (2 * math.log(2.0))
    assert weights[0] == pytest.approx(first, rel=1e-12)
    assert weights[1] == pytest.approx(first / 2, rel=1e-12)
    # A short view: a quarter of the activity is left, and 10 s take away half of lambda * 10 s of that.
    assert weights[2] == pytest.approx(2.5 * (1 - 0.5 * math.log(2.0) * 10.0 / half_life), rel=1e-7)


def test_heads_turn_together_unless_start_times_say_otherwise(make_acquisition):
    """Views of one head follow each other; two heads measure at once, so their weights are pairwise the same."""
    acquisition = make_acquisition(
        [0.0, 30.0, 180.0, 210.0],
        (1, 4),
        4.4,
        view_seconds=np.full(4, 1800.0),
        detector=np.array([1, 1, 2, 2]),
        corrections=frozenset(),
    )
    np.testing.assert_array_equal(acquisition.view_start_s, [0.0, 1800.0, 0.0, 1800.0])
    weights = view_weights_s(acquisition)
    np.testing.assert_array_equal(weights[:2], weights[2:])
    assert weights[1] / weights[0] == pytest.approx(0.5 ** (0.5 / 6.0067), rel=1e-12)


def test_decay_corrected_or_untimed_data_have_plain_weights(make_acquisition):
    seconds = np.array([1000.0, 2000.0])
    corrected = make_acquisition([0.0, 90.0], (1, 4), 4.4, view_seconds=seconds)
    np.testing.assert_array_equal(view_weights_s(corrected), seconds)
    untimed = make_acquisition([0.0, 90.0], (1, 4), 4.4, view_seconds=np.full(2, np.nan), corrections=frozenset())
    np.testing.assert_array_equal(view_weights_s(untimed), [1.0, 1.0])


def test_bad_arguments_are_refused_with_what_to_do(make_acquisition):
    acquisition = make_acquisition([0.0, 90.0], (3, 6), 4.4, radii_mm=[30.0, 30.0])
    grid = geometry.default_grid(acquisition)
    system = SystemModel(acquisition, grid, resolution=False)
    mu = np.full(grid.shape, 0.15)
    cases = [
        (lambda: SystemModel(acquisition, grid), "--no-resolution"),
        (lambda: SystemModel(acquisition, grid, resolution=False, dtype="float16"), "float32 or float64, not float16"),
        (lambda: SystemModel(acquisition, grid, resolution=False, device="tpu"), "device 'tpu' is not available"),
        (
            lambda: SystemModel(acquisition, grid, resolution=False, mu=MuMap(mu, grid, 159.0)),
            "159 keV but the photopeak",
        ),
        (lambda: system.forward(np.ones((3, 6, 5))), r"image \(z, y, x\) needs shape \(3, 6, 6\), got \(3, 6, 5\)"),
        (lambda: system.adjoint(np.ones((3, 3, 6))), r"needs shape \(2, 3, 6\), got \(3, 3, 6\)"),
        (lambda: system.gradient_mu(np.ones((3, 6, 6)), np.ones((2, 3, 5))), r"residual .* got \(2, 3, 5\)"),
        (lambda: system.forward([[1.0]]), "must be a numpy array for device 'cpu', got list"),
        (lambda: system.subset([2]), "view indices from 0 to 1, got"),
        (lambda: system.subset([-1]), "view indices from 0 to 1"),
        (lambda: system.subset([]), "view indices from 0 to 1"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()


def test_a_map_that_lies_elsewhere_is_refused(make_acquisition):
    acquisition = make_acquisition([0.0], (3, 6), 4.4, radii_mm=[30.0])
    grid = geometry.default_grid(acquisition)
    moved = Grid.upright(grid.shape, grid.voxel_mm, grid.affine_lps[:3, 3] + [0.01, 0, 0])
    with pytest.raises(InputError, match="lies elsewhere: resample it"):
        SystemModel(acquisition, grid, resolution=False, mu=MuMap(np.zeros(grid.shape), moved, KEV))


def test_a_collimator_inside_the_body_is_refused(make_acquisition):
    """A body whose voxel centres end at y = +11 mm: the face may stand at 7 mm (one voxel of 4.4 mm), not at 6 mm."""
    grid_mu = np.zeros((3, 6, 6))
    grid_mu[1, 5, 2] = 0.1

    def system(radius_mm):
        acquisition = make_acquisition([180.0, 0.0], (3, 6), 4.4, radii_mm=[6.0, radius_mm])
        grid = geometry.default_grid(acquisition)
        # What is thinner than tissue may stand there: a holder of foam.
        check_map_radius(acquisition, MuMap(0.4 * grid_mu, grid, KEV))
        return SystemModel(acquisition, grid, resolution=False, mu=MuMap(grid_mu, grid, KEV))

    assert system(7.0).views == 2
    with pytest.raises(InputError, match=r"view 1 lies 6 mm from the axis, but the mu-map reaches 11 mm"):
        system(6.0)
