"""Refinement of three numbers of a map: the movable map, the gradient, and what the likelihood says without noise."""

import re

import numpy as np
import pytest

from spectac.learned import refine
from spectac.learned.refine import Likelihood, MovableMap, damped_step, refined
from spectac.recon import EnergyWindow, Grid, InputError, MuMap, Study
from spectac.recon.pipeline import Settings, StudySolver
from spectac.recon.scatter import projections
from spectac.recon.tissues import water_per_cm
from spectac.simulate.analytic_head import on_grid

KEV = 140.511
START = np.array([1.0, 1.0, 0.0])


def solver_of(head):
    system, counts, _ = head
    study = Study(system.acquisition, (EnergyWindow("photopeak", 126.0, 155.0),), counts[None])
    return StudySolver(study, projections(study, "none"), Settings(device="cpu"))


def ball(radius_mm, voxel_mm=4.0):
    """A ball of water, voxels on its edge by the share covered along the radius."""
    size = 40
    axis = (np.arange(size) - 0.5 * (size - 1)) * voxel_mm
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    grid = Grid.upright((size,) * 3, (voxel_mm,) * 3, (axis[0],) * 3)
    return MuMap(water_per_cm(KEV) * np.clip(0.5 - (radius - radius_mm) / voxel_mm, 0.0, 1.0), grid, KEV)


def test_the_map_starts_as_given_and_scales_what_it_says(head):
    """(1, 1, 0) is the identity; the scale multiplies all; the skull scale adds to what lies above 1.08 x water."""
    mu = head[2].mu
    movable = MovableMap.of(mu)
    given = mu.per_cm.astype(float)
    # Square of a square root in float64: the last bits alone.
    np.testing.assert_allclose(movable.at(START), given, rtol=1e-14, atol=1e-17)
    np.testing.assert_allclose(movable.at(np.array([0.9, 1.0, 0.0])), 0.9 * given, rtol=1e-14, atol=1e-17)
    excess = np.maximum(given - 1.08 * water_per_cm(KEV), 0.0)
    assert excess.max() > 0.02
    np.testing.assert_allclose(movable.at(np.array([1.0, 1.5, 0.0])) - given, 0.5 * excess, rtol=0, atol=1e-15)


@pytest.mark.parametrize("shift_mm", [-5.0, 5.0])
def test_a_shift_moves_the_outline_of_a_ball_by_so_much(shift_mm, figure):
    """A ball of 60 mm becomes one of 60 mm + shift, by its volume, within 0.3 mm: 1/13 of a voxel."""
    mu = ball(60.0)
    moved = MovableMap.of(mu).at(np.array([1.0, 1.0, shift_mm]))
    assert moved.min() >= 0
    radius = 60.0 * (moved.sum() / mu.per_cm.sum()) ** (1 / 3)
    figure(f"outline of a ball shifted by {shift_mm} mm, error in mm", abs(radius - 60.0 - shift_mm), "0.3")
    assert radius - 60.0 == pytest.approx(shift_mm, abs=0.3)


def test_the_skull_keeps_its_thickness_where_the_outline_moves():
    """Scalp and skull move as one: bone grows with the area it covers, (1 + 3/88)^2 = 1.07, not with the shift.

    Within 0.03: squared roots lose some of a layer of 1.5 voxels (measured 0.02).
    """
    grid = Grid.upright((64, 56, 46), (4.0,) * 3, (-90.0, -110.0, -126.0))
    mu = on_grid(grid, KEV, subsamples=2).mu
    movable = MovableMap.of(mu)
    with_bone, without = (movable.at(np.array([1.0, bone, 3.0])).sum() for bone in (1.0, 0.0))
    bone = np.maximum(mu.per_cm - 1.08 * water_per_cm(KEV), 0.0).sum(dtype=float)
    assert (with_bone - without) / bone == pytest.approx((1 + 3 / 88) ** 2, abs=0.03)


def test_the_gradient_with_the_activity_held_is_that_of_differences(head, figure):
    """Central differences in float64 agree to 1e-6, a factor of 5 above what their truncation leaves for the shift."""
    system, counts, truth = head
    likelihood = Likelihood(system.astype("float64"), counts, np.full_like(counts, 0.5), MovableMap.of(truth.mu))
    image = truth.activity.astype(float) * counts.sum() / system.forward(truth.activity).sum()
    theta = np.array([0.97, 1.1, 1.3])
    gradient = likelihood.loss(theta, image)[1]
    for k, length in enumerate((1e-5, 1e-4, 1e-3)):
        step = length * np.eye(3)[k]
        high, low = (likelihood.loss(theta + sign * step, image)[0] for sign in (1, -1))
        error = abs((high - low) / (2 * length) / gradient[k] - 1.0)
        figure(f"gradient to theta {k} against differences, relative", error, "1e-6")
        assert error < 1e-6


@pytest.mark.slow
def test_the_likelihood_pulls_a_wrong_scale_towards_the_truth(head, figure):
    """Maps scaled by 0.95 and 1.05 are pulled apart by the curvature, and the gap of 0.1 closes to less than half.

    The answers themselves share an offset (the activity is not converged), so the two are compared with each other.
    The scale alone moves here: shift and skull would take part of it, for they look alike.
    """
    system, counts, truth = head
    answers = []
    for scale in (0.95, 1.05):
        mu = MuMap(scale * truth.mu.per_cm, truth.mu.grid, truth.mu.energy_kev)
        score, curvature, _ = Likelihood(system, counts, np.zeros_like(counts), MovableMap.of(mu)).score()
        answers.append(scale * (1.0 - score[0] / curvature[0, 0]))
    figure("gap between answers from scales 0.95 and 1.05", abs(answers[1] - answers[0]), "0.05")
    assert abs(answers[1] - answers[0]) < 0.05


def test_notes_hold_the_three_numbers_of_the_map(head):
    """The map returned is the movable map at the numbers that the note says, and the given map is left alone."""
    mu = MuMap(0.95 * head[2].mu.per_cm, head[2].mu.grid, head[2].mu.energy_kev)
    better, notes = refined(solver_of(head), mu)
    numbers = re.search(r"global scale (\S+), skull scale (\S+), outline shift (\S+) mm", notes[0])
    theta = np.array([float(text) for text in numbers.groups()])
    assert (np.abs(theta - START) <= 2 * np.array(refine.PRIOR) + 0.05).all()
    assert (theta != START).any()
    # Numbers are rounded to 0.001 and 0.1 mm: a hundredth of a voxel, 1 % of the step at the outline.
    np.testing.assert_allclose(better.per_cm, MovableMap.of(mu).at(theta), rtol=0, atol=0.003)
    assert better.grid is mu.grid
    assert better.energy_kev == mu.energy_kev
    assert "without a scatter estimate" in notes[1]


def test_what_the_data_leave_open_does_not_move():
    """No curvature, no step, whatever the score; strong curvature beats prior and error; two deviations at most."""
    np.testing.assert_array_equal(damped_step(np.array([1e3, 10.0, 5.0]), np.zeros((3, 3)), 3e6), 0.0)
    curvature = np.diag([1e6, 1e5, 1e4])
    wanted = np.array([0.01, -0.05, 1.0])
    # Least certain is the scale: its step falls short by (1e6 + 165^2) / (1e6 * 0.03)^2 = 0.1 %.
    np.testing.assert_allclose(damped_step(-curvature @ wanted, curvature, 3e6), wanted, rtol=2e-3)
    np.testing.assert_array_equal(damped_step(-curvature @ (100 * wanted), curvature, 3e6), [0.06, -0.3, 6.0])
    # Errors of the model grow with the counts, as the curvature does: ten times the counts change nothing beyond noise.
    weak = np.diag([8000.0, 90.0, 6.0])
    few, many = (damped_step(-n * weak @ wanted, n * weak, n * 3e6) for n in (1, 10))
    np.testing.assert_allclose(few, many, rtol=0.25)


def test_an_empty_map_is_refused(head):
    mu = MuMap(np.zeros(head[2].mu.grid.shape), head[2].mu.grid, KEV)
    with pytest.raises(InputError, match="no voxel above half of water"):
        refined(solver_of(head), mu)
