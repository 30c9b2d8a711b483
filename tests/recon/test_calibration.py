"""A phantom of known activity gives a camera's sensitivity back, and images in kBq/mL by it."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from spectac.recon import (
    EnergyWindow,
    GivenMap,
    Grid,
    Image,
    InputError,
    MuMap,
    Projections,
    ReconstructionSettings,
    Result,
    Study,
    default_grid,
    reconstruct,
)
from spectac.recon.calibration import (
    Calibration,
    calibrate,
    concentration_kbq_per_ml,
    cps_per_kbq,
    decayed,
    read_calibration,
    write_calibration,
)
from spectac.recon.collimator import Collimator, Focus
from spectac.recon.io.dicom import nm as dicom_nm

START = datetime(2026, 3, 5, 10, 0, 0)
HALF_LIFE = timedelta(hours=6.0067)
"""Of Tc-99m, written out here."""

SENSITIVITY = 0.08
"""Counts per second and kBq: 80 cps per MBq, a low-energy high-resolution collimator's."""

ACTIVITY_MBQ, VOLUME_ML = 400.0, 5000.0
"""80 kBq/mL at START."""

WINDOW = EnergyWindow("photopeak", 126.45, 154.55)
SHARP = Collimator.from_line(0.0, 0.0)


@pytest.fixture(scope="module")
def phantom(make_acquisition, closed_form):
    """Function (seconds a view, start) -> study, its result by OSEM with the true map, and a central VOI.

    A cylinder of water, radius 80 mm, reaching through the whole field, in exact attenuated line integrals (not those
    of SystemModel): counts = (integral of exp(-lambda t) over the view) * s * c * integral in mm * pixel in mm2 / 1000.
    """
    angles = np.arange(60) * 6.0
    matrix, pixel_mm, mu = (12, 48), 5.0, 0.15
    level = SENSITIVITY * ACTIVITY_MBQ * 1000.0 / VOLUME_ML
    body = closed_form.Ellipsoid((0.0, 0.0, 0.0), (80.0, 80.0, np.inf), level)
    water = closed_form.Ellipsoid((0.0, 0.0, 0.0), (80.0, 80.0, np.inf), mu)
    rays = np.stack(list(closed_form.line_integrals([body], water, angles, matrix, pixel_mm, 4)))

    def made(seconds, start=START):
        acquisition = make_acquisition(
            angles,
            matrix,
            pixel_mm,
            view_seconds=np.full(60, seconds),
            corrections=frozenset(),
            collimator=SHARP,
            start=start,
        )
        rate = math.log(2.0) / HALF_LIFE.total_seconds()
        begin = seconds * np.arange(60)
        lived_s = (np.exp(-rate * begin) - np.exp(-rate * (begin + seconds))) / rate
        counts = lived_s[:, None, None] * rays * pixel_mm**2 / 1000.0
        study = Study(acquisition, (WINDOW,), counts[None])
        grid = default_grid(acquisition)
        per_cm = closed_form.voxelise([water], grid, 4)
        model = GivenMap(MuMap(per_cm, grid, 140.511))
        result = reconstruct(study, model, ReconstructionSettings(iterations=10, subsets=6, scatter="none"))
        z, y, x = grid.centres_mm()
        return study, result, np.broadcast_to(np.hypot(y[:, None], x[None, :]) < 50.0, grid.shape)

    return made


@pytest.fixture(scope="module")
def scanned(phantom):
    """The phantom at 30 s a view, half an hour in which 5.6 % decay."""
    return phantom(30.0)


def assay(study_result_voi, **given):
    study, result, voi = study_result_voi
    values = {"activity_mbq": ACTIVITY_MBQ, "volume_ml": VOLUME_ML, "assayed": START, **given}
    return calibrate(result, study, voi, **values)


def test_a_uniform_phantom_gives_the_sensitivity_back(scanned, figure):
    """The voxel grid leaves a uniform region within 0.5 % (docs/physics.md); no other error is in the way.

    Without decay in the model it would be 2.8 % off, without attenuation a factor of 3.
    """
    found = assay(scanned)
    figure("cps per kBq of a cylinder over the true one, percent", 100 * (found.cps_per_kbq / SENSITIVITY - 1), "0.5")
    assert found.cps_per_kbq == pytest.approx(SENSITIVITY, rel=0.005)
    assert (found.nuclide, found.collimator, found.window) == ("Tc-99m", SHARP.name, WINDOW)
    assert found.scatter_method == "none"
    assert "400 MBq in 5000 mL at 2026-03-05T10:00:00, 80 kBq/mL" in found.note


def test_an_assay_one_half_life_before_or_after_gives_the_same_factor(scanned):
    now = assay(scanned).cps_per_kbq
    before = assay(scanned, activity_mbq=2 * ACTIVITY_MBQ, assayed=START - HALF_LIFE)
    after = assay(scanned, activity_mbq=ACTIVITY_MBQ / 2, assayed=START + HALF_LIFE)
    # The half-life is written to 0.36 s of 6 h: 1.7e-5.
    assert before.cps_per_kbq == pytest.approx(now, rel=1e-5)
    assert after.cps_per_kbq == pytest.approx(now, rel=1e-5)


def test_twice_the_view_time_leaves_the_factor(scanned, phantom):
    """The same phantom for an hour: counts nearly double, the factor is that of the camera."""
    longer = phantom(60.0)
    assert longer[0].counts.sum() / scanned[0].counts.sum() == pytest.approx(1.944, abs=0.002)
    assert assay(longer).cps_per_kbq == pytest.approx(assay(scanned).cps_per_kbq, rel=1e-4)


def test_a_voi_that_reaches_beyond_the_phantom_gives_less(scanned):
    """What the docstring warns of: with a VOI of 90 mm around a cylinder of 80 mm a fifth is air, (80/90)^2 = 0.79."""
    study, result, _ = scanned
    image = result.image
    _, y, x = image.grid.centres_mm()
    wide = np.broadcast_to(np.hypot(y[:, None], x[None, :]) < 90.0, image.grid.shape)
    assert assay((study, result, wide)).cps_per_kbq / SENSITIVITY == pytest.approx(0.79, abs=0.01)


def test_the_calibrated_image_holds_the_phantoms_concentration_in_every_format(scanned, tmp_path):
    study, result, voi = scanned
    image, calibrated = result.image, assay(scanned).applied(result, study)
    assert calibrated.unit == "kBq/mL"
    assert calibrated.values[voi].mean() == pytest.approx(80.0, rel=1e-5)
    assert calibrated.history[:-1] == image.history
    assert calibrated.history[-1].startswith("calibrated: 0.0")
    assert calibrated.history[-1].endswith(f"cps per kBq (Tc-99m, {SHARP.name})")
    dicom_nm.write_image(tmp_path / "a.dcm", calibrated, study=study, description="kBq")
    back = dicom_nm.read_image(tmp_path / "a.dcm")
    assert back.unit == "kBq/mL"
    step = calibrated.values.max() / 65535
    assert np.abs(back.values - calibrated.values).max() <= 0.501 * step


def test_decay_by_hand():
    assert decayed(8.0, "Tc-99m", 3 * 6.0067) == pytest.approx(1.0, rel=1e-12)
    assert decayed(8.0, "Tc-99m", -6.0067) == pytest.approx(16.0, rel=1e-12)
    # 185 MBq of I-123 (13.2234 h) five hours later: 2^(-5/13.2234) = 0.76944.
    assert decayed(185.0, "I-123", 5.0) == pytest.approx(142.35, abs=0.005)


def test_times_in_different_zones_are_compared_as_moments():
    """10:00 in a zone two hours ahead is 08:00 UTC; six hours earlier it was 02:00 UTC."""
    ahead = datetime.fromisoformat("2026-03-05T10:00:00+02:00")
    early = ahead.astimezone(UTC) - HALF_LIFE
    assert concentration_kbq_per_ml(50.0, 1000.0, early, "Tc-99m", ahead) == pytest.approx(25.0, rel=1e-9)


def small_image(unit="cps/mL"):
    grid = Grid.upright((2, 3, 4), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    return Image(np.full(grid.shape, 4.0), grid, unit, history=("not read, scatter: x, attenuation: y",))


def small_result(study, unit="cps/mL", attenuation="map", known=True):
    """A result as reconstruct makes it; `known=False` leaves out what was corrected."""
    used = Projections(study.acquisition, study.counts[0], 140.511, photopeak=study.windows[0])
    return Result(small_image(unit), projections=used if known else None, attenuation=attenuation)


def test_the_factor_by_hand():
    # 4 cps/mL of 50 kBq/mL: 0.08 cps per kBq.
    assert cps_per_kbq(small_image(), np.ones((2, 3, 4)), 50.0) == pytest.approx(0.08, rel=1e-12)


def small_study(make_acquisition, **other):
    values = {"collimator": SHARP, "start": START, **other}
    acquisition = make_acquisition([0.0, 90.0, 180.0, 270.0], (2, 4), 5.0, **values)
    return Study(acquisition, (WINDOW,), np.ones((1, 4, 2, 4)))


def a_calibration(**other):
    values = {
        "cps_per_kbq": 0.1 / 3.0,
        "nuclide": "99mTc",
        "collimator": SHARP.name,
        "window": WINDOW,
        "scatter_method": "none",
        "note": "phantom ä",
    }
    return Calibration(**(values | other))


@pytest.mark.parametrize(
    ("result", "study", "calibration", "message"),
    [
        ({}, {"nuclide": "I-123"}, {}, "calibration is for Tc-99m, the study is of I-123"),
        ({}, {"collimator": Collimator.from_line(1.0, 0.02)}, {}, "for collimator psf 0:0, the study has psf 1:0.02"),
        (
            {},
            {"foci": (Focus(350.0),)},
            {},
            "for collimator psf 0:0, the study has psf 0:0, focal length 350 mm from the",
        ),
        ({}, {"collimator": None}, {}, "collimator is unknown, .* give --collimator or --psf"),
        ({}, {"view_seconds": np.full(4, np.nan)}, {}, "view times are unknown"),
        ({}, {}, {"window": EnergyWindow("x", 119.43, 161.59)}, "of 119.43-161.59 keV, the study's is 126.45-154.55"),
        ({"unit": "relative"}, {}, {}, "image in cps/mL, this one is in relative"),
        ({"unit": "kBq/mL"}, {}, {}, "image in cps/mL, this one is in kBq/mL"),
        ({"attenuation": "none"}, {}, {}, "not corrected for attenuation"),
        ({"known": False}, {}, {}, "result does not tell"),
        ({"attenuation": None}, {}, {}, "result does not tell"),
        ({}, {}, {"scatter_method": "tew"}, "made with scatter: tew, the image with scatter: none"),
    ],
)
def test_a_calibration_of_something_else_is_refused(make_acquisition, result, study, calibration, message):
    nuclide = study.get("nuclide", "Tc-99m")
    made = small_study(make_acquisition, **study)
    if nuclide == "I-123":
        made = replace(made, windows=(EnergyWindow("photopeak", 143.1, 174.9),))
    with pytest.raises(InputError, match=message):
        a_calibration(**calibration).applied(small_result(made, **result), made)


def test_the_right_one_is_not(make_acquisition):
    study = small_study(make_acquisition)
    image = a_calibration(cps_per_kbq=0.05).applied(small_result(study), study)
    assert image.values == pytest.approx(np.full((2, 3, 4), 80.0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"activity_mbq": 0.0}, "activity in MBq must be above 0"),
        ({"volume_ml": math.nan}, "volume in mL must be above 0"),
        ({"volume_ml": 2.9}, "VOI holds 3 mL, the phantom 2.9 mL"),
        ({"assayed": START.replace(tzinfo=UTC)}, "the study's time has no time zone"),
        ({"assayed": START - timedelta(days=365)}, "1458 half-lives of Tc-99m apart: check the dates"),
    ],
)
def test_a_phantom_that_cannot_be_is_refused(make_acquisition, given, message):
    study = small_study(make_acquisition)
    with pytest.raises(InputError, match=message):
        assay((study, small_result(study), np.ones((2, 3, 4))), **given)


def test_a_study_without_a_start_cannot_be_calibrated(make_acquisition):
    study = small_study(make_acquisition, start=None)
    with pytest.raises(InputError, match="does not say when it began"):
        assay((study, small_result(study), np.ones((2, 3, 4))))


@pytest.mark.parametrize(
    ("image", "voi", "kbq_per_ml", "message"),
    [
        (small_image("relative"), np.ones((2, 3, 4)), 50.0, "cps/mL, this one is in relative"),
        (small_image(), np.ones((2, 3, 4)), 0.0, "kBq/mL must be above 0 and finite, got 0"),
        (small_image(), np.zeros((2, 3, 4)), 50.0, "VOI is empty"),
        (replace(small_image(), values=np.zeros((2, 3, 4))), np.ones((2, 3, 4)), 50.0, "does not lie in the phantom"),
    ],
)
def test_a_factor_that_does_not_exist(image, voi, kbq_per_ml, message):
    with pytest.raises(InputError, match=message):
        cps_per_kbq(image, voi, kbq_per_ml)


def test_round_trip_keeps_every_bit(tmp_path):
    write_calibration(tmp_path / "c.json", a_calibration())
    assert read_calibration(tmp_path / "c.json") == a_calibration()
    assert json.loads((tmp_path / "c.json").read_text())["window"]["upper_kev"] == 154.55


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cps_per_kbq": None}, "'cps_per_kbq' is missing"),
        ({"cps_per_kbq": "0.08"}, "'cps_per_kbq' must be a number, got '0.08'"),
        ({"cps_per_kbq": True}, "'cps_per_kbq' must be a number"),
        ({"cps_per_kbq": 10**400}, "'cps_per_kbq' must be a number"),
        ({"cps_per_kbq": -1}, "cps per kBq must be above 0 and finite, got -1"),
        ({"cps_per_kbq": math.nan}, "cps per kBq must be above 0 and finite, got nan"),
        ({"collimator": ""}, "needs the name of its collimator"),
        ({"nuclide": "Xx-1"}, "nuclide 'Xx-1' is not known"),
        ({"window": [1, 2]}, "'window' must be an object"),
        ({"window": {"name": "a", "lower_kev": 2, "upper_kev": 1}}, "needs 0 <= lower < upper"),
        ({"format": "other"}, "no calibration: 'format'"),
        ({"version": 2}, "version 2 of calibrations is not known"),
    ],
)
def test_a_file_that_is_no_calibration(tmp_path, change, message):
    path = tmp_path / "c.json"
    write_calibration(path, a_calibration())
    content = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    with pytest.raises(InputError, match=message) as caught:
        read_calibration(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "no calibration"), (b"\xff", "not JSON")])
def test_a_damaged_file(tmp_path, text, message):
    path = tmp_path / "c.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        read_calibration(path)
    with pytest.raises(InputError, match="no such file"):
        read_calibration(tmp_path / "none.json")
