"""Differences between the patients of the study and those of training."""

import numpy as np
import pytest

from benchmarks.attenuation.patients import (
    BENCHMARK,
    BODIES_BONE,
    SETS,
    SKULL,
    Sources,
    draw_patient,
    rebuilt,
    with_usual_bones,
)
from spectac.recon import InputError
from spectac.recon.fan_beam import seen_radius_mm
from spectac.simulate.anatomy.ranges import OUTSIDE_TRAINING, TRAINING, draw_shape
from spectac.simulate.cameras import HELD_OUT, HELD_OUT_CAMERAS, draw_held_out
from spectac.simulate.regions import LABEL


def test_cameras_that_no_cohort_has_are_in_one_set_alone():
    assert {name for name, chosen in SETS.items() if chosen.cameras is HELD_OUT_CAMERAS} == {"other cameras"}
    scanners = [draw_held_out(np.random.default_rng([5, n])) for n in range(60)]
    scanners += [draw_patient(5, SETS["other cameras"], index)[2] for index in range(2)]
    for scanner in scanners:
        focus = scanner.collimator_data.focus
        assert focus is None or focus.length_mm == 355.0
        assert (scanner.pixel_mm, scanner.heads) == (5.5, 1)
        assert 0.115 <= scanner.energy_resolution <= 0.13
        assert scanner.radius_mm >= (165.0 if focus is None else 115.0)
        assert seen_radius_mm(scanner.acquisition("Tc-99m")) > 105.0
    assert {scanner.collimator for scanner in scanners} == set(HELD_OUT)


def test_a_fan_of_training_has_no_focus_that_is_held_out():
    _, _, scanner, _ = draw_patient(5, SETS["fan-beam"], 0)
    assert 400.0 <= scanner.collimator_data.focus.length_mm <= 600.0


def test_where_a_head_has_no_file_its_set_says_which_option_gives_it():
    for name, option in (("real bodies", "bodies"), ("mr head", "phantom"), ("visible human", "visible-human")):
        with pytest.raises(InputError, match=f"give --{option}"):
            rebuilt(name, "0", 5, 1, Sources())


def test_frontal_sinuses_outside_training_are_larger_than_any_in_training():
    """4 standard deviations of a side, so that 1500 draws of training stay below where the other range begins."""
    sides = ("right_frontal_sinus", "left_frontal_sinus")
    trained, other = (
        np.array([[draw_shape(np.random.default_rng([BENCHMARK, n]), ranges)[side] for side in sides] for n in numbers])
        for ranges, numbers in ((TRAINING, range(1500)), (OUTSIDE_TRAINING, range(300)))
    )
    assert trained.max() < OUTSIDE_TRAINING.frontal_sinus[0]
    assert np.median(other) > OUTSIDE_TRAINING.frontal_sinus[0]


@pytest.mark.parametrize("name", ["unseen", pytest.param("heads beyond training", marks=pytest.mark.slow)])
def test_a_head_with_usual_bones_differs_in_their_density_alone(name):
    patient, usual, _, _ = draw_patient(5, SETS[name], 0)
    head = patient.head
    np.testing.assert_array_equal(head.labels, usual.labels)
    assert usual.parameters["bone_density"] == 0.98
    assert head.parameters | {"bone_density": 0.98} == usual.parameters
    changed = head.density != usual.density
    # A voxel of a jaw is bone alone; the skull's walls and spine share voxels with soft tissue.
    jaw = head.labels == LABEL["dense bone"]
    ratio = np.median(head.density[jaw & changed] / usual.density[jaw & changed])
    assert ratio == pytest.approx(head.parameters["bone_density"] / 0.98, rel=1e-3)
    assert not changed[np.isin(head.labels, (LABEL["outside"], LABEL["air cavity"], LABEL["ventricles"]))].any()


def test_usual_bones_of_a_real_head_are_as_dense_on_average_as_the_others():
    _, head, _, _ = draw_patient(5, SETS["unseen"], 1)
    found = with_usual_bones(head)
    assert found.density[np.isin(head.labels, SKULL)].mean() == pytest.approx(BODIES_BONE, rel=1e-4)
    brain = head.labels == LABEL["left white matter"]
    np.testing.assert_array_equal(found.density[brain], head.density[brain])
