"""Limits of a network's use from validation patients: one outlier does not set them, a few patients are not enough."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the learned map needs torch: pip install 'spectac[learned]'")

from spectac.learned import calibrate  # noqa: E402
from spectac.recon import InputError  # noqa: E402
from spectac.recon.tissues import water_per_cm  # noqa: E402


class Patient:
    """Stands for a patient of a cohort; `number` says what the network and the outline give for it."""

    energy_kev = 140.5
    grid = None

    def __init__(self, number):
        self.number = number


@pytest.fixture
def calibrated(monkeypatch):
    """Function of (spread as a share of the map, distance in mm) for every patient: the limits that follow.

    InputError instead of a number stands for a patient that is refused there.
    """

    def measure(values):
        def passes(network, seen, energy_kev):
            spread = values[seen.number][0]
            if spread is InputError:
                raise InputError("no activity in a head's volume")
            return np.float64(water_per_cm(energy_kev)) * np.array([1.0 - spread, 1.0 + spread])[:, None, None, None]

        def distance(photopeak, scatter, mu):
            apart_mm = values[photopeak][1]
            if apart_mm is InputError:
                raise InputError("no outline")
            return apart_mm

        monkeypatch.setattr(calibrate, "_patients", lambda folder: map(Patient, range(len(values))))
        monkeypatch.setattr(
            calibrate, "previews_of", lambda p: SimpleNamespace(number=p.number, photopeak=np.ones((1, 1, 1)))
        )
        monkeypatch.setattr(calibrate, "_image", lambda patient, window: patient.number)
        monkeypatch.setattr(calibrate, "_side", lambda patient: None)
        monkeypatch.setattr(calibrate, "MuMap", lambda *_: None)
        monkeypatch.setattr(calibrate, "passes", passes)
        monkeypatch.setattr(calibrate, "outline_distance_mm", distance)
        monkeypatch.setattr(calibrate.Coverage, "of", lambda patients, **limits: limits)
        return calibrate.measured_coverage(None, None, None)

    return measure


def test_limits_lie_a_margin_above_the_95_percent_quantile(calibrated):
    """41 patients: the 95 % quantile is the 39th in order, whatever the last two are."""
    values = [(0.01 + 0.001 * n, 1.0 + 0.1 * n) for n in range(41)]
    limits = calibrated(values)
    assert limits["uncertainty"] == pytest.approx(1.25 * (0.01 + 0.001 * 38))
    assert limits["outline_mm"] == pytest.approx(2.0 * (1.0 + 0.1 * 38))
    assert calibrated([*values[:-1], (0.9, 900.0)]) == pytest.approx(limits)


def test_patients_that_show_nothing_are_left_out(calibrated):
    """Refused by the network's input or by the outline, without an outline, or with an infinite distance."""
    values = [(0.02, 2.0)] * 10
    odd = [(InputError, 2.0), (0.02, InputError), (0.02, None), (0.02, np.inf), (1.0 - 1e-9, np.nan)]
    limits = calibrated([*values, *odd[:-1]])
    assert limits == pytest.approx({"uncertainty": 1.25 * 0.02, "outline_mm": 2.0 * 2.0})
    assert calibrated([*values, *odd])["outline_mm"] == pytest.approx(2.0 * 2.0)


def test_too_few_patients_are_refused(calibrated):
    with pytest.raises(InputError, match=r"9 validation patients gave an uncertainty.*make a larger validation cohort"):
        calibrated([(0.02, 2.0)] * 9)
    with pytest.raises(InputError, match="9 validation patients gave an outline's distance") as failed:
        calibrated([*[(0.02, 2.0)] * 9, (0.02, None)])
    assert "\n" not in str(failed.value)
