"""Differences between the patients of the study and those of training."""

import numpy as np
import pytest

from benchmarks.attenuation.patients import BENCHMARK, CLINICAL, SETS, draw_patient
from spectac.simulate.anatomy.ranges import OUTSIDE_TRAINING, TRAINING, draw_shape
from spectac.simulate.regions import LABEL
from spectac.simulate.scanner import TRAINING as CAMERAS


def test_cameras_are_drawn_as_training_draws_them_but_for_the_clinical_matrix():
    assert {name for name, chosen in SETS.items() if chosen.sampling is not None} == {"clinical matrix"}
    assert SETS["clinical matrix"].sampling == CLINICAL
    assert {name for name, chosen in SETS.items() if chosen.scanners is not CAMERAS} == {"other scanners"}
    assert {name for name, chosen in SETS.items() if chosen.scheme or chosen.counts != 1.0} == {
        "fifth of counts",
        "no scatter window",
    }


def test_frontal_sinuses_outside_training_are_larger_than_any_in_training():
    """4 standard deviations of a side, so that 1500 draws of training stay below where the other range begins."""
    sides = ("right_frontal_sinus", "left_frontal_sinus")
    trained, other = (
        np.array([[draw_shape(np.random.default_rng([BENCHMARK, n]), ranges)[side] for side in sides] for n in numbers])
        for ranges, numbers in ((TRAINING, range(1500)), (OUTSIDE_TRAINING, range(300)))
    )
    assert trained.max() < OUTSIDE_TRAINING.frontal_sinus[0]
    assert np.median(other) > OUTSIDE_TRAINING.frontal_sinus[0]


@pytest.mark.parametrize("name", ["unusual heads", pytest.param("other heads", marks=pytest.mark.slow)])
def test_a_head_with_usual_bones_differs_in_their_density_alone(name):
    patient, usual, _, _ = draw_patient(5, SETS[name], 0)
    head = patient.head
    np.testing.assert_array_equal(head.labels, usual.labels)
    assert usual.parameters["bone_density"] == 1.0
    assert head.parameters | {"bone_density": 1.0} == usual.parameters
    changed = head.density != usual.density
    # A voxel of a jaw is bone alone; the skull's walls and spine share voxels with soft tissue.
    jaw = head.labels == LABEL["dense bone"]
    ratio = np.median(head.density[jaw & changed] / usual.density[jaw & changed])
    assert ratio == pytest.approx(head.parameters["bone_density"], rel=1e-3)
    assert not changed[np.isin(head.labels, (LABEL["outside"], LABEL["air cavity"], LABEL["ventricles"]))].any()
