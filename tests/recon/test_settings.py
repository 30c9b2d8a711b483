"""Settings: each is declared once, wrong values name their option, and texts are read as the command line's."""

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from spectac.recon import COLLIMATORS, Collimator, InputError, ReconstructionSettings, StudySettings
from spectac.recon.setting_fields import as_options, from_options, merged, options
from spectac.recon.settings import AttenuationSettings, ComparisonSettings, MapSettings, ProjectionSettings

ALL = (StudySettings, ProjectionSettings, ReconstructionSettings, AttenuationSettings, ComparisonSettings)


@pytest.mark.parametrize("cls", ALL)
def test_every_setting_has_a_help_a_kind_and_a_default_that_is_valid(cls):
    for option in options(cls):
        assert option.shown.description.endswith("."), option.name
        assert option.kind.__name__ in ("bool", "int", "float", "str", "Path", "list"), option.name
    assert as_options(cls(), changed=True) == {}


def test_the_help_says_what_a_value_must_be():
    """Also inside optional and repeated values, once; values without limits have none."""
    limits = {option.name: option.limits for cls in (StudySettings, ReconstructionSettings) for option in options(cls)}
    assert limits["step_deg"] == ("above 0", "at most 180")
    assert limits["pixel_mm"] == ("above 0",)
    assert limits["iterations"] == ("at least 1",)
    assert limits["rotation"] == limits["algorithm"] == ()
    (iterations,) = (option for option in options(ReconstructionSettings) if option.name == "iterations")
    assert iterations.help.endswith(". [at least 1]")


@pytest.mark.parametrize(
    ("cls", "given", "message"),
    [
        (StudySettings, {"radius_mm": -3}, "--radius-mm must be above 0, not -3"),
        (StudySettings, {"radius_mm": "wide"}, "--radius-mm needs a number, not 'wide'"),
        (StudySettings, {"radius_mm": float("nan")}, "--radius-mm must be a finite number"),
        (StudySettings, {"step_deg": 200}, "--step-deg must be at most 180, not 200"),
        (StudySettings, {"rotation": "left"}, "--rotation must be one of cc, cw, not 'left'"),
        (StudySettings, {"head_angles_deg": "a,b"}, "--head-angles needs numbers with commas"),
        (StudySettings, {"head_angles_deg": (0, 400)}, "--head-angles needs angles from -360 to 360 deg, not 0,400"),
        (StudySettings, {"pixel_mm": "8,8,8"}, "--pixel-mm needs one size, or two"),
        (StudySettings, {"pixel_mm": (8, 8, 8)}, "--pixel-mm takes at most 2 values"),
        (StudySettings, {"pixel_mm": 8}, "--pixel-mm needs several values, not 8"),
        (MapSettings, {"ct": 3}, "--ct needs a path, not 3"),
        (StudySettings, {"pixel_mm": "0"}, "--pixel-mm must be above 0, not 0"),
        (StudySettings, {"start": "2026-11-02"}, "--start needs a date and time"),
        (StudySettings, {"collimator": "ge-lehr", "psf": "1:0.02"}, "give one of --collimator, --psf and --holes"),
        (StudySettings, {"holes": "1:0.2:30", "psf": "1:0.02"}, "give one of --collimator, --psf and --holes"),
        (StudySettings, {"holes": "1.5:0.2"}, "--holes needs HOLE:SEPTA:LENGTH[:INTRINSIC] in mm, e.g. 1.5:0.2:35"),
        (StudySettings, {"focal_length_mm": 0}, "--focal-length must be above 0, not 0"),
        (StudySettings, {"focal_length_mm": "nan"}, "--focal-length must be above 0, not nan"),
        (StudySettings, {"focus_from": "front"}, "--focus-from must be one of face, back, crystal, not 'front'"),
        (StudySettings, {"focus_offset_mm": "inf"}, "--focus-offset must be a finite number, not inf"),
        (StudySettings, {"focal_length_mm": "inf", "focus_from": "face"}, "--focal-length inf means parallel data"),
        (StudySettings, {"nuclide": "Xx-1"}, "nuclide 'Xx-1' is not known"),
        (
            ProjectionSettings,
            {"scatter": "magic"},
            "scatter method 'magic' is not installed: use one of auto, dew, montecarlo, none, tew",
        ),
        (ProjectionSettings, {"dew_k": 0.5, "scatter": "none"}, "belongs to scatter methods dew and auto"),
        (ReconstructionSettings, {"iterations": 0}, "--iterations must be at least 1, not 0"),
        (ReconstructionSettings, {"iterations": 2.5}, "--iterations needs a whole number, not 2.5"),
        (ReconstructionSettings, {"algorithm": "map"}, "--prior-beta"),
        (ReconstructionSettings, {"algorithm": "fbp", "fbp_filter": "box"}, "box"),
        (ReconstructionSettings, {"post_filter": "gaussian"}, "gaussian:8"),
        (MapSettings, {"mu_map_kev": 5}, "--mu-map-kev must be at least 30, not 5"),
        (ComparisonSettings, {"tracer": "fdg"}, "--tracer must be one of dat, perfusion, not 'fdg'"),
    ],
)
def test_a_wrong_value_names_its_option(cls, given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        cls(**given)


def test_texts_are_read_as_those_of_the_command_line():
    given = {"head_angles": "0,180", "pixel_mm": "4.8", "start": "2026-11-02T09:30", "rotation": "CC", "psf": "1:0.02"}
    read = from_options(StudySettings, {**given, "radius_mm": "140", "nuclide": "i123"})
    assert read.head_angles_deg == (0.0, 180.0)
    assert read.pixel_mm == (4.8, 4.8)
    assert read.start == datetime(2026, 11, 2, 9, 30)
    assert (read.rotation, read.radius_mm, read.nuclide) == ("cc", 140.0, "I-123")
    assert read.response is not None
    assert read.response.line == (1.0, 0.02)


def test_plain_values_make_the_same_settings_again():
    """What record.json holds is enough to repeat a reconstruction."""
    study = StudySettings(
        nuclide="I-123",
        psf="1.5:0.016",
        head_angles_deg=(0, 120, 240),
        start=datetime(2026, 1, 2, 3, 4),
        pixel_mm="4,5",
    )
    assert from_options(StudySettings, as_options(study)) == study
    named = StudySettings(collimator=COLLIMATORS["ge-lehr"])
    assert from_options(StudySettings, as_options(named, changed=True)) == named
    chosen = ReconstructionSettings(algorithm="map", prior_beta=0.3, scatter_windows="low,high", resolution=False)
    assert from_options(ReconstructionSettings, as_options(chosen)) == chosen


def test_particular_settings_replace_the_general_ones():
    general = StudySettings(nuclide="I-123", radius_mm=140)
    assert merged(general, StudySettings(radius_mm=150, rotation="cw")) == StudySettings(
        nuclide="I-123", radius_mm=150, rotation="cw"
    )


def test_settings_are_frozen_and_checked_again_when_replaced():
    chosen = ReconstructionSettings()
    with pytest.raises(AttributeError):
        chosen.iterations = 3  # type: ignore[misc]
    with pytest.raises(InputError, match="--subsets"):
        replace(chosen, subsets=0)


def test_options_of_a_model_belong_to_it():
    given = AttenuationSettings(attenuation="map", mu_map="mu.nii.gz", mu_map_kev=511)
    assert given.chosen_options() == {"file": "mu.nii.gz", "energy_kev": "511.0"}
    assert given.inputs() == [Path("mu.nii.gz")]
    assert AttenuationSettings(attenuation="ct", attenuation_option=("path=folder",)).inputs() == [Path("folder")]
    with pytest.raises(InputError, match="--ct belongs to --attenuation ct"):
        AttenuationSettings(attenuation="map", ct="folder").chosen_options()
    with pytest.raises(InputError, match="say the same"):
        AttenuationSettings(attenuation="uniform", uniform_mu=0.1, attenuation_option=("mu=0.2",)).chosen_options()
    with pytest.raises(InputError, match="K=V"):
        AttenuationSettings(attenuation_option=("mu",)).chosen_options()


def test_settings_that_the_algorithm_does_not_use_are_recorded_as_none():
    assert ReconstructionSettings(algorithm="fbp", iterations=3, resolution=False).unused == (
        "iterations",
        "resolution",
    )
    assert ReconstructionSettings(algorithm="mlem", subsets=4).unused == ("subsets",)
    assert ReconstructionSettings(algorithm="mlem", subsets=1, iterations=3).unused == ()
    assert ReconstructionSettings(algorithm="mlem", subsets=1, iterations=40).described() == "mlem 40 x 1"
    assert ReconstructionSettings().described() == "osem 10 x 10"
    assert ReconstructionSettings().described("fbp").startswith("fbp, hann")
    fbp = ReconstructionSettings(algorithm="fbp").used()
    assert (fbp["iterations"], fbp["subsets"], fbp["fbp_filter"]) == (None, None, "hann:1")
    assert ReconstructionSettings(algorithm="mlem").used()["subsets"] == 1


def test_a_misspelt_setting_is_refused():
    with pytest.raises(InputError, match="ReconstructionSettings has no setting 'iteration': it has photopeak"):
        ReconstructionSettings(iteration=4)


def test_a_measured_line_keeps_its_digits():
    line = StudySettings(psf="1.4660001:0.01630005")
    assert from_options(StudySettings, as_options(line)).response.line == (1.4660001, 0.01630005)


def test_holes_and_foci_are_recorded_as_their_options_read_them():
    fan = StudySettings(holes="1.4:0.18:27", focal_length_mm=500, focus_from="CRYSTAL", focus_offset_mm=-2)
    recorded = as_options(fan, changed=True)
    assert recorded == {
        "holes": "1.4:0.18:27.0:3.8", "focal_length": 500.0, "focus_from": "crystal", "focus_offset": -2.0,
    }  # fmt: skip
    assert from_options(StudySettings, recorded) == fan
    assert as_options(StudySettings(collimator=fan.holes), changed=True) == {"holes": "1.4:0.18:27.0:3.8"}
    # Strict JSON has no infinity.
    parallel = as_options(StudySettings(focal_length_mm=float("inf")), changed=True)
    assert parallel == {"focal_length": "inf"}
    assert from_options(StudySettings, parallel).focal_length_mm == float("inf")
    line = as_options(StudySettings(psf="1.5:0.016:27"), changed=True)
    assert from_options(StudySettings, line).response.length_mm == 27.0


def test_a_measured_line_given_as_a_collimator_is_recorded_as_such():
    line = Collimator.from_line(1.5, 0.016)
    assert as_options(StudySettings(collimator=line), changed=True) == {"psf": "1.5:0.016"}
