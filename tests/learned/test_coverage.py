"""What training covered: ranges measured on patients, surfaces compared, and each reason why new data are not trusted.

The head here is two ellipsoids, brain and scalp, blurred as a preview is; its projections are those of the ellipsoid.
"""

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

pytest.importorskip("torch", reason="the learned map needs torch: pip install 'spectac[learned]'")

from spectac.learned.coverage import Coverage
from spectac.learned.doubt_limits import coverage_of
from spectac.learned.doubts import _acquisition_checks, input_doubts, map_doubts
from spectac.learned.estimate import TrainedNetwork
from spectac.learned.outline_distance import (
    mean_distance_mm,
    mean_outline_distance_mm,
    outline_distance_mm,
    surface_mm,
)
from spectac.learned.weights_file import shipped_weights
from spectac.recon import EnergyWindow, Grid, Image, InputError, MuMap, Projections, Study
from spectac.recon.collimator import COLLIMATORS, Collimator
from spectac.recon.kernels.subnormal import subnormals_are_zero
from spectac.recon.tissues import water_per_cm
from spectac.simulate.cameras import MEDIUM_ENERGY, draw_camera
from spectac.simulate.cohort.patient_arrays import PatientArrays
from spectac.simulate.scanner import Scanner

KEV = 158.97
GRID = Grid.upright((64, 64, 64), (4.0, 4.0, 4.0), (-126.0, -126.0, -126.0))
COVERAGE = Coverage(
    (140.511, KEV),
    3e5,
    1e5,
    (2.8, 5.5),
    0.15,
    1.1,
    (1500.0, 6500.0),
    60.0,
    180.0,
    4.0,
    60.0,
    (0.15, 0.2),
    (0.1, 0.25),
    0.1,
    5.0,
)
SCANNER = Scanner("test", "siemens-lehr", matrix=(64, 64), pixel_mm=4.0, views=60, radius_mm=140.0, scheme="dew")


def ellipsoid(x_mm: float, y_mm: float, z_mm: float, middle_mm=(0.0, 0.0, 0.0)):
    z, y, x = np.meshgrid(*GRID.centres_mm(), indexing="ij")
    cx, cy, cz = middle_mm
    return ((x - cx) / x_mm) ** 2 + ((y - cy) / y_mm) ** 2 + ((z - cz) / z_mm) ** 2 <= 1.0


def head_image(middle_mm=(0.0, 0.0, 0.0), striata: float = 4.0) -> np.ndarray:
    """A brain of 1 with two spheres of `striata` in scalp of 0.4 with 8 mm of dark skull between, blurred by 5 mm."""
    x, y, z = middle_mm
    values = 0.4 * ellipsoid(76.0, 95.0, 95.0, middle_mm) - 0.4 * ellipsoid(71.0, 90.0, 90.0, middle_mm)
    values += 1.0 * ellipsoid(64.0, 83.0, 83.0, middle_mm)
    for side in (-24.0, 24.0):
        values += (striata - 1.0) * ellipsoid(12.0, 16.0, 12.0, (x + side, y - 10.0, z))
    return gaussian_filter(values.astype(np.float32), 1.25)


def image(values: np.ndarray) -> Image:
    return Image(values, GRID, "cps/mL")


def head_counts(total: float = 1e6, half_mm: tuple[float, float] = (64.0, 83.0)) -> np.ndarray:
    """Chords (v, z, u) of an ellipsoid without attenuation, scaled to a total."""
    angles = np.deg2rad(SCANNER.view_angles_deg())
    u = (np.arange(64) - 31.5) * 4.0
    widths = np.hypot(half_mm[0] * np.cos(angles), half_mm[1] * np.sin(angles))
    inside = 1.0 - (u / widths[:, None])[:, None, :] ** 2 - (u / 83.0)[None, :, None] ** 2
    counts = np.sqrt(np.maximum(inside, 0.0))
    return (counts * total / counts.sum()).astype(np.float32)


def solver(
    counts: np.ndarray | None = None,
    energy_kev: float = KEV,
    views: int = 60,
    peak_kev=(143.0, 175.0),
    **header: object,
) -> SimpleNamespace:
    counts = head_counts() if counts is None else counts
    acquisition = replace(SCANNER, views=views).acquisition("I-123")
    counts = counts[:: 60 // views][:views]
    acquisition = replace(acquisition, **{"matrix": counts.shape[1:], **header})
    study = Study(acquisition, (EnergyWindow("photopeak", *peak_kev),), counts[None])
    return SimpleNamespace(study=study, projections=Projections(acquisition, counts, energy_kev), energy_kev=energy_kev)


PHOTOPEAK = image(head_image())
SCATTER = image(gaussian_filter(head_image(striata=2.0), 3.0))
HEAD_MAP = MuMap((water_per_cm(KEV) * ellipsoid(76.0, 95.0, 95.0)).astype(np.float32), GRID, KEV)


def test_a_study_like_those_of_training_raises_no_doubt():
    assert input_doubts(solver(), PHOTOPEAK, SCATTER, COVERAGE) == ()
    assert input_doubts(solver(), PHOTOPEAK, None, COVERAGE) == ()
    assert map_doubts(PHOTOPEAK, None, HEAD_MAP, 0.05, COVERAGE) == ()


def camera_doubts(scanner: Scanner, nuclide: str, counts: float, coverage: Coverage, **header: object) -> list[str]:
    """Reasons in a study of a camera, its energy and its counts alone."""
    acquisition = replace(replace(scanner, orbit="circular").acquisition(nuclide), **header)
    windows = scanner.windows(nuclide)
    spread = np.full(acquisition.shape, counts / np.prod(acquisition.shape), np.float32)
    study = Study(acquisition, windows, np.stack([spread] * len(windows)))
    projections = Projections(acquisition, spread, KEV if nuclide == "I-123" else 140.511)
    known = SimpleNamespace(study=study, projections=projections, energy_kev=projections.energy_kev)
    return [reason for doubtful, reason in _acquisition_checks(known, coverage) if doubtful]


def test_no_camera_within_trainings_ranges_falls_back():
    """300 cameras of the kind that the shipped network was trained on, with the least counts of its training."""
    coverage = TrainedNetwork.read(shipped_weights()).coverage
    for seed in range(300):
        camera = draw_camera("usual", np.random.default_rng(seed))
        for nuclide in ("I-123", "Tc-99m"):
            assert camera_doubts(camera, nuclide, coverage.least_counts, coverage) == []


def test_cameras_that_the_network_coped_with_do_not_fall_back():
    """Medium-energy collimators; a blur beyond 1.48 times the largest of training does."""
    coverage = TrainedNetwork.read(shipped_weights()).coverage
    for name in MEDIUM_ENERGY:
        camera = Scanner("test", name, matrix=(64, 64), pixel_mm=4.0, views=60, radius_mm=140.0)
        assert camera_doubts(camera, "I-123", 1e6, coverage) == []
    for factor, reasons in ((1.47, 0), (1.49, 1)):
        blurred = Collimator.from_line(factor * coverage.sigma_mm[1], 0.0)
        assert len(camera_doubts(camera, "I-123", 1e6, coverage, collimator=blurred)) == reasons


@pytest.mark.parametrize(
    ("study", "reason"),
    [
        ({"energy_kev": 171.28}, "171.28 keV, training had 140.511 and 158.97 keV"),
        ({"counts": head_counts(1e5)}, "holds 1e+05 counts, training had 3e+05"),
        ({"collimator": COLLIMATORS["siemens-me"], "radii_mm": np.full(60, 240.0)}, "edges are softer"),
        ({"collimator": None}, "the collimator is unknown"),
        ({"view_angles_deg": np.arange(60) * 3.0}, "leave 183 deg uncovered"),
        ({"patient_position": "HFDL"}, "position is HFDL"),
        ({"patient_position": "HFP"}, "position is HFP"),
        ({"counts": np.ascontiguousarray(head_counts()[:, :, 14:-14])}, "cut off at the sides"),
        ({"counts": head_counts() + np.roll(head_counts(), 28, axis=2)}, "not alone in the field"),
        ({"pixel_mm": (6.6, 6.6)}, "coarser than training's 4.0 mm"),
        ({"peak_kev": (150.0, 167.0)}, "window is 11% wide"),
        ({"views": 24}, "24 views, training had 60"),
    ],
)
def test_each_property_of_a_study_outside_training_gives_its_own_reason(study, reason):
    doubts = input_doubts(solver(**study), PHOTOPEAK, None, COVERAGE)
    assert len(doubts) == 1, doubts
    assert reason in doubts[0]


@pytest.mark.parametrize("level", [0.3])
def test_photons_over_all_of_the_field_are_no_truncation(level):
    """I-123's photons above 400 keV lie at a tenth to a third of the head's counts in every bin."""
    counts = head_counts() + level * head_counts().max()
    assert input_doubts(solver(counts), PHOTOPEAK, None, COVERAGE) == ()


def test_swapped_windows_are_told_by_their_detail():
    (doubt,) = input_doubts(solver(), SCATTER, PHOTOPEAK, COVERAGE)
    assert "the windows are swapped" in doubt


def test_noise_in_the_scatter_window_is_no_detail():
    """Noise of half the head's level per voxel: a DAT study's side window after 4 iterations."""
    noisy = SCATTER.values * np.random.default_rng(1).gamma(4.0, 0.25, GRID.shape).astype(np.float32)
    assert input_doubts(solver(), PHOTOPEAK, image(gaussian_filter(noisy, 0.6)), COVERAGE) == ()


def turned(values: np.ndarray, deg: float) -> np.ndarray:
    from scipy.ndimage import rotate

    return np.maximum(rotate(values, deg, axes=(1, 2), reshape=False, order=1), 0.0).astype(np.float32)


@pytest.mark.parametrize("deg", [-45.0, 90.0])
def test_a_head_turned_in_plane_is_told_by_its_long_axis(deg):
    (doubt,) = input_doubts(solver(), image(turned(PHOTOPEAK.values, deg)), None, COVERAGE)
    assert f"long axis lies {abs(deg):.0f} deg" in doubt


@pytest.mark.parametrize("deg", [16.0])
def test_a_head_turned_as_heads_lie_is_not_doubted(deg):
    assert input_doubts(solver(), image(turned(PHOTOPEAK.values, deg)), None, COVERAGE) == ()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros(GRID.shape, np.float32), "no head stands out"),
        (head_image((-55.0, 0.0, -30.0)) + head_image((110.0, 0.0, 30.0)), "two parts"),
        (head_image() * ellipsoid(54.0, 54.0, 50.0), "only a part of one"),
        (head_image(striata=400.0), "foci and hardly a head"),
    ],
)
def test_what_shows_is_not_one_head(values, reason):
    doubts = input_doubts(solver(), image(values.astype(np.float32)), None, COVERAGE)
    assert any(reason in doubt for doubt in doubts), doubts


def moved(mu: MuMap, voxels: int, axis: int) -> MuMap:
    return MuMap(np.roll(mu.per_cm, voxels, axis), GRID, KEV)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mu", "uncertainty", "reason"),
    [
        (HEAD_MAP, 0.12, "passes differ by 12"),
        (MuMap(np.zeros(GRID.shape), GRID, KEV), 0.05, "holds no head"),
        (moved(HEAD_MAP, 5, 2), 0.05, "outline lies"),
        (MuMap(HEAD_MAP.per_cm * (np.arange(64) < 36)[:, None, None], GRID, KEV), 0.05, "a part of it is missing"),
    ],
)
def test_each_fault_of_a_map_gives_its_reason(mu, uncertainty, reason):
    doubts = map_doubts(PHOTOPEAK, None, mu, uncertainty, COVERAGE)
    assert any(reason in doubt for doubt in doubts), doubts


@pytest.mark.slow
def test_an_outline_that_data_do_not_show_is_not_compared():
    """Foci alone: any outline of the data would be a guess, a map is judged by its uncertainty."""
    assert outline_distance_mm(image(head_image(striata=400.0)), None, moved(HEAD_MAP, 5, 2)) is None


def test_a_map_on_another_grid_is_refused():
    other = Grid.upright((64, 64, 64), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    with pytest.raises(InputError, match="grid"):
        map_doubts(PHOTOPEAK, None, MuMap(HEAD_MAP.per_cm, other, KEV), 0.05, COVERAGE)


def test_distance_of_a_larger_head_is_how_much_larger_it_is(figure):
    """Surfaces 8 mm apart everywhere but at the vertex, voxels of 4 mm: within half a millimetre."""
    smaller, larger = ellipsoid(70.0, 90.0, 90.0), ellipsoid(78.0, 98.0, 98.0)
    found = mean_outline_distance_mm(smaller, larger, GRID.voxel_mm)
    figure("mean distance of outlines 8 mm apart, mm", found, "7.5 to 8.5")
    assert found == pytest.approx(8.0, abs=0.5)
    assert mean_outline_distance_mm(larger, smaller, GRID.voxel_mm) == found
    assert mean_outline_distance_mm(smaller, smaller, GRID.voxel_mm) == 0.0


def test_the_distance_of_surfaces_needs_no_subnormal_number():
    """Most points of this surface lie in its first slice: the tree then splits at the number after their place."""
    shares = np.zeros((12, 40, 40))
    shares[:, 18:22, 18:22] = 1.0
    shares[0] = np.random.default_rng(1).random((40, 40))
    points = surface_mm(shares, (40.0, 0.1, 0.1))
    assert (points[:, 0] == points[:, 0].min()).mean() > 0.5
    with subnormals_are_zero():
        assert mean_distance_mm(points, points) == 0.0  # it ended the process


def test_shares_place_the_surface_between_voxels():
    """Half of a voxel more on the two sides that face x, 2 mm, and none on the two others: 1 mm on average."""
    box = np.zeros(GRID.shape)
    box[20:40, 16:48, 16:48] = 1.0
    wider = box.copy()
    wider[20:40, 16:48, [15, 48]] = 0.5001
    near = mean_outline_distance_mm(box, wider, GRID.voxel_mm)
    assert near == pytest.approx(1.0, abs=0.15)  # half of the surface's points moved by 2 mm


def test_the_neck_the_fields_ends_cavities_and_loose_parts_do_not_count():
    head = ellipsoid(76.0, 95.0, 95.0)
    neck = head | (ellipsoid(60.0, 60.0, np.inf) & (np.arange(64) < 20)[:, None, None])
    shorter = neck & (np.arange(64) >= 14)[:, None, None]
    with_sinus = neck & ~ellipsoid(15.0, 15.0, 15.0, (0.0, -70.0, -30.0))
    with_holder = neck.copy()
    with_holder[:, 62, 10:50] = True
    for other in (shorter, with_sinus, with_holder):
        assert mean_outline_distance_mm(neck, other, GRID.voxel_mm) == 0.0
    # The field ends within the head: one outline goes on as a cylinder, the other closes.
    cut = neck[:40]
    goes_on = cut.copy()
    goes_on[36:] = cut[35]
    closed = cut.copy()
    closed[36:] = False
    assert mean_outline_distance_mm(goes_on, closed, GRID.voxel_mm) == 0.0
    assert mean_outline_distance_mm(np.zeros_like(neck), neck, GRID.voxel_mm) == np.inf


def patient(counts: float, radius_mm: float, energy_kev: float, orbit: str = "circular") -> PatientArrays:
    scanner = replace(SCANNER, radius_mm=radius_mm, orbit=orbit, clearance_mm=20.0)
    there = np.array([True, False, False, True])
    preview = np.zeros((4, *GRID.shape), np.float32)
    preview[0], preview[3] = PHOTOPEAK.values, SCATTER.values
    head = ellipsoid(76.0, 95.0, 95.0)
    none = np.zeros(GRID.shape, np.float32)
    return PatientArrays(
        GRID, preview, there, preview[0], 1.1 * HEAD_MAP.per_cm, np.asarray(HEAD_MAP.per_cm), none,
        head.astype(np.uint8), none, head_counts(counts),
        np.stack([head_counts(counts)] * 3).astype(np.float16), energy_kev,
        {"scanner": json.loads(json.dumps(asdict(scanner))), "nuclide": "I-123", "counts": {"scatter": 0.5 * counts}},
    )  # fmt: skip


def test_coverage_is_the_range_of_the_patients_and_survives_json():
    cohort = [patient(8e5, 120.0, KEV), patient(2e6, 150.0, 140.511)]
    coverage = coverage_of(iter(cohort), uncertainty=0.03, outline_mm=4.0)
    assert coverage.energies_kev == (140.511, KEV)
    assert coverage.least_counts == pytest.approx(8e5, rel=1e-6)
    assert coverage.least_side_counts == pytest.approx(4e5)
    lehr = COLLIMATORS["siemens-lehr"]
    assert coverage.sigma_mm == pytest.approx((lehr.sigma_mm(120.0, KEV), lehr.sigma_mm(150.0, 140.511)))
    assert coverage.sharper > 1.0
    assert Coverage.from_json(json.loads(json.dumps(coverage.to_json()))) == coverage
    assert input_doubts(solver(), PHOTOPEAK, SCATTER, coverage) == ()


def test_a_contour_orbits_radii_follow_from_the_labels():
    """An ellipse of 76 x 95 mm and 20 mm more: mean radius 106 mm, but nowhere below the shoulders' 110."""
    coverage = coverage_of([patient(8e5, 300.0, KEV, "contour")], uncertainty=0.03, outline_mm=4.0)
    angles = np.deg2rad(SCANNER.view_angles_deg())
    radii = np.maximum(np.hypot(76.0 * np.sin(angles), 95.0 * np.cos(angles)) + 20.0, 110.0)
    expected = COLLIMATORS["siemens-lehr"].sigma_mm(radii, KEV).mean()
    assert coverage.sigma_mm[0] == pytest.approx(expected, rel=0.02)  # voxels of 4 mm: 2 mm of some 115


def test_what_is_no_coverage_is_refused():
    with pytest.raises(InputError, match="at least one patient"):
        coverage_of([], uncertainty=0.1, outline_mm=5.0)
    with pytest.raises(InputError, match="least_counts"):
        Coverage.from_json({"energies_kev": [140.5]})
