"""Fixtures shared by all tests: figures for the report at the end of a run, and projections known in closed form.

Test modules cannot import each other (import mode importlib), so shared code comes as fixtures that return functions.
"""

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spectac.recon import Acquisition, EnergyWindow, Grid, Study, SystemModel, default_grid, rebin, rebin_acquisition
from spectac.recon import device as device_choice
from spectac.recon.collimator import collimator
from spectac.recon.ct import CTVolume, tissue_hu, tissue_mu
from spectac.recon.device import no_gpu
from spectac.recon.kernels.subnormal import MODE_BITS
from spectac.recon.types import Array
from spectac.simulate.analytic_head import HeadOnGrid, on_grid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """One thread of torch and BLAS in each worker of pytest-xdist, and in what it starts, unless the user says more.

    There are as many workers as cores: threads of two workers on one core wait for each other in busy loops.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, float, str], None]:
    """Function (name, value, limit) that puts a measured number into the list printed after the last test."""

    def report(name: str, value: float, limit: str) -> None:
        record_property("figure", f"{name}: {value:.4g} (limit {limit})")

    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures that tests reported, so that every number of the closing note can be read off a test run."""
    lines = [
        value
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call"
        for name, value in report.user_properties
        if name == "figure"
    ]
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(f"FIGURE {line}")


@pytest.fixture(autouse=True)
def on_the_cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that are not marked gpu find none, nor do the programs that they start: "auto" is the CPU everywhere."""
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setattr(device_choice, "no_gpu", lambda: "this test is for the CPU")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Every device of a SystemModel; a GPU where one works."""
    if request.param == "cuda" and (reason := no_gpu()) is not None:
        pytest.skip(reason)
    return str(request.param)


def count_subnormals(values: Array) -> int:
    """How many numbers lie between 0 and the smallest normal one, by their bits: comparisons depend on the mode."""
    numbers = np.ascontiguousarray(values)
    kind = np.dtype(f"u{numbers.itemsize}")
    size = numbers.view(kind) & kind.type((1 << (8 * numbers.itemsize - 1)) - 1)
    least = np.array(np.finfo(numbers.dtype).tiny).view(kind)
    return int(((size > 0) & (size < least)).sum())


@pytest.fixture(scope="session")
def subnormals() -> Callable[[Array], int]:
    """Function (array) -> how many of its numbers are subnormal; it skips where no mode of the processor is known."""
    if MODE_BITS == 0:
        pytest.skip(f"how a {platform.machine()} is told to take subnormal numbers for 0 is not known")
    return count_subnormals


class HostArrays:
    """A SystemModel whose operations take and return numpy arrays, wherever it computes."""

    def __init__(self, system: SystemModel) -> None:
        self._system = system

    def __getattr__(self, name: str) -> Any:
        """Whatever else the system has; systems that it makes are wrapped as well."""
        found = getattr(self._system, name)
        if name in ("subset", "astype"):
            return lambda argument: HostArrays(found(argument))
        if name in ("forward", "adjoint", "gradient_mu"):
            return lambda *arrays: self._system.get(found(*(self._system.put(array) for array in arrays)))
        if name == "em_backprojection":
            return lambda *arrays: tuple(
                self._system.get(one)
                for one in found(*(None if array is None else self._system.put(array) for array in arrays))
            )
        if name == "with_mu":
            return lambda per_cm: HostArrays(found(self._system.put(per_cm)))
        return found


@pytest.fixture(scope="session")
def host_arrays() -> Callable[[SystemModel], HostArrays]:
    """Function that wraps a system, so that one test serves all devices."""
    return HostArrays


@pytest.fixture(scope="session")
def make_acquisition() -> Callable[..., Acquisition]:
    """Function that builds an Acquisition of one second a view, decay corrected, so that all views weigh 1 s."""

    def make(
        angles_deg: Sequence[float] | Array, matrix: tuple[int, int], pixel_mm: float, **other: Any
    ) -> Acquisition:
        views = len(angles_deg)
        values: dict[str, Any] = {
            "radii_mm": np.full(views, 200.0),
            "view_seconds": np.ones(views),
            "nuclide": "Tc-99m",
            "collimator": None,
            "corrections": frozenset({"DECY"}),
        }
        values.update(other)
        return Acquisition(
            view_angles_deg=np.asarray(angles_deg, float), matrix=matrix, pixel_mm=(pixel_mm, pixel_mm), **values
        )

    return make


@dataclass(frozen=True)
class Ellipsoid:
    """A uniform ellipsoid in LPS mm, turned by `turn_deg` about z from x to y; an infinite axis makes a cylinder."""

    centre_mm: tuple[float, float, float]
    semi_axes_mm: tuple[float, float, float]
    value: float
    turn_deg: float = 0.0

    def scaled(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """Vectors (x, y, z) turned into the ellipsoid's axes and divided by its semi-axes."""
        turn = np.deg2rad(self.turn_deg)
        along = x * np.cos(turn) + y * np.sin(turn)
        across = y * np.cos(turn) - x * np.sin(turn)
        a, b, c = self.semi_axes_mm
        return along / a, across / b, z / c

    def chord(self, x: Array, y: Array, z: Array, direction: tuple[float, float]) -> tuple[Array, Array]:
        """Where the lines (x, y, z) + s * direction enter and leave, as s in mm; both the same where they miss."""
        p = self.scaled(x - self.centre_mm[0], y - self.centre_mm[1], z - self.centre_mm[2])
        q = self.scaled(np.float64(direction[0]), np.float64(direction[1]), np.float64(0.0))
        square = sum(b * b for b in q)
        middle = -sum(a * b for a, b in zip(p, q, strict=True)) / square
        inside = middle**2 - (sum(a * a for a in p) - 1.0) / square
        half = np.sqrt(np.maximum(inside, 0.0))
        return middle - half, middle + half


def _sub_points(samples: int) -> Array:
    """Centres of the equal parts of a pixel, in pixels from its centre."""
    return (np.arange(samples) + 0.5) / samples - 0.5


def voxelise(bodies: Sequence[Ellipsoid], grid: Grid, samples: int) -> Array:
    """Sum (z, y, x) of the bodies' values, each voxel the mean of samples^3 points."""
    out = np.zeros(grid.shape)
    offsets = _sub_points(samples)
    for body in bodies:
        reach = [max(body.semi_axes_mm[:2]), max(body.semi_axes_mm[:2]), body.semi_axes_mm[2]]
        box, axes = [], []
        for centres, middle, half, step in zip(
            grid.centres_mm(), body.centre_mm[::-1], reach[::-1], grid.voxel_mm, strict=True
        ):
            near = np.flatnonzero(np.abs(centres - middle) <= half + step)
            box.append(slice(near[0], near[-1] + 1))
            axes.append((centres[near] - middle)[:, None] + step * offsets)
        z, y, x = axes
        part = np.zeros([axis.shape[0] for axis in axes])
        for i in range(samples):
            for j in range(samples):
                a, b, _ = body.scaled(x[None, :, i], y[:, None, j], np.float64(0.0))
                plane = (a**2 + b**2)[None]
                for k in range(samples):
                    _, _, c = body.scaled(np.float64(0.0), np.float64(0.0), z[:, None, None, k])
                    part += plane + c**2 <= 1.0
        out[tuple(box)] += body.value * part / samples**3
    return out


def line_integrals(
    bodies: Sequence[Ellipsoid],
    attenuator: Ellipsoid | None,
    angles_deg: Sequence[float] | Array,
    matrix: tuple[int, int],
    pixel_mm: float,
    samples: int,
) -> Iterator[Array]:
    """For each view the exact attenuated integrals (z, u), in value * mm, each pixel the mean of samples^2 rays.

    The convention is written out here and not taken from geometry.py: in LPS (x, y) the detector stands along
    n = (sin a, cos a), its columns grow along e = (-cos a, sin a). A ray is u e + z + s n, with s growing towards the
    detector. With mu uniform in the attenuator, left at s_e, activity a between s_1 and s_2 gives
    a (exp(-mu (s_e - s_2)) - exp(-mu (s_e - s_1))) / mu. Bodies lie inside the attenuator.
    """
    rows, columns = matrix
    offsets = _sub_points(samples)
    u = pixel_mm * ((np.arange(columns) - 0.5 * (columns - 1))[:, None] + offsets).ravel()[None, :]
    z = pixel_mm * ((np.arange(rows) - 0.5 * (rows - 1))[:, None] + offsets).ravel()[:, None]
    for angle in np.deg2rad(angles_deg):
        n = (float(np.sin(angle)), float(np.cos(angle)))
        x, y = -np.cos(angle) * u, np.sin(angle) * u
        rays = np.zeros((z.size, u.size))
        if attenuator is not None:
            _, leave = attenuator.chord(x, y, z, n)
            mu = attenuator.value / 10.0
        for body in bodies:
            near, far = body.chord(x, y, z, n)
            if attenuator is None:
                rays += body.value * (far - near)
            else:
                rays += body.value * (np.exp(-mu * (leave - far)) - np.exp(-mu * (leave - near))) / mu
        yield rays.reshape(rows, samples, columns, samples).mean(axis=(1, 3))


@pytest.fixture(scope="session")
def closed_form() -> SimpleNamespace:
    """Ellipsoid, voxelise, line_integrals, and a head: `bodies` (activity) in an `attenuator` (1/cm).

    The head is a brain with two striata, turned by +15 deg at the left and -15 deg at the right. Turned the other way
    its errors at 4.4 and 2.2 mm are 1.43 and 0.69 %, instead of 1.40 and 0.70 %.
    """
    bodies = (
        Ellipsoid((0.0, 0.0, 0.0), (70.0, 88.0, 110.0), 1.0),
        Ellipsoid((26.0, -6.0, 5.0), (10.0, 20.0, 13.0), 5.0, 15.0),
        Ellipsoid((-26.0, -6.0, 5.0), (10.0, 20.0, 13.0), 5.0, -15.0),
    )
    attenuator = Ellipsoid((0.0, 0.0, 0.0), (78.0, 96.0, 120.0), 0.15)
    return SimpleNamespace(
        Ellipsoid=Ellipsoid, voxelise=voxelise, line_integrals=line_integrals, bodies=bodies, attenuator=attenuator
    )


I123_KEV = 158.97
FRAME_OF_REFERENCE = "2.25.290213747182736450918273645091827364"


def fine_acquisition(views: int = 120, size: int = 64, pixel_mm: float = 4.4) -> Acquisition:
    """I-123 on two heads with LEHR collimators at 140 mm, pixels half as large as those of the study."""
    fine_mm = pixel_mm / 2
    return Acquisition(
        view_angles_deg=np.arange(views) * 360.0 / views,
        radii_mm=np.full(views, 140.0),
        matrix=(size * 2, size * 2),
        pixel_mm=(fine_mm, fine_mm),
        view_seconds=np.full(views, 20.0),
        nuclide="I-123",
        collimator=collimator("siemens-lehr"),
        detector=np.repeat([0, 1], views // 2),
        axis_lps_mm=(0.0, 0.0, -0.5 * (size * 2 - 1) * fine_mm),
        frame_of_reference_uid=FRAME_OF_REFERENCE,
        patient_position="HFS",
        corrections=frozenset({"UNIF", "COR"}),
    )


def analytic_study(acquisition: Acquisition, counts: float, seed: int) -> tuple[Study, HeadOnGrid, float]:
    """Noisy photopeak projections of the analytic head, primary photons only; its truth; cps/mL per unit uptake."""
    fine = on_grid(default_grid(acquisition), I123_KEV)
    expected = SystemModel(acquisition, fine.mu.grid, mu=fine.mu).forward(fine.activity)
    level = counts / float(expected.sum(dtype=np.float64))
    coarse = rebin_acquisition(acquisition, 2, 2)
    noisy = np.random.default_rng(seed).poisson(rebin(expected, 2, 2).astype(np.float64) * level)
    window = EnergyWindow("photopeak", 0.9 * I123_KEV, 1.1 * I123_KEV)
    return Study(coarse, (window,), noisy[None]), on_grid(default_grid(coarse), I123_KEV), level


def analytic_ct(voxel_mm: float) -> CTVolume:
    """CT of the analytic head at 120 kV without noise, in the study's frame of reference."""
    shape = (int(260 / voxel_mm), int(220 / voxel_mm), int(180 / voxel_mm))
    grid = Grid.upright(shape, (voxel_mm,) * 3, [-0.5 * (n - 1) * voxel_mm for n in shape[::-1]])
    hu = np.interp(on_grid(grid, I123_KEV).mu.per_cm, tissue_mu(I123_KEV), tissue_hu(120.0)).astype(np.float32)
    return CTVolume(hu, grid, 120.0, FRAME_OF_REFERENCE)


@pytest.fixture(scope="session")
def analytic() -> SimpleNamespace:
    """The analytic head in a camera: `study(acquisition, counts, seed)`, `acquisition(...)`, `ct(voxel_mm)`."""
    return SimpleNamespace(study=analytic_study, acquisition=fine_acquisition, ct=analytic_ct, frame=FRAME_OF_REFERENCE)
