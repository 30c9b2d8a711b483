"""The benchmark of short scans: its table on rows whose slope, error and spread are known, and what it resumes."""

import numpy as np
import pytest

from benchmarks.low_counts.run import kept, regions, table
from benchmarks.provenance import write_csv
from spectac.simulate.head import draw_head
from spectac.simulate.regions import BRAIN

TRUE = {"a": (2.0, 5.0), "b": (3.0, 7.0)}


def row(method, patient, measure, true, mean, sd):
    return {
        "method": method, "patient": patient, "measure": measure, "true": str(true), "mean": str(mean), "sd": str(sd)
    }  # fmt: skip


@pytest.fixture
def rows():
    """Full time: 0.8 of the truth. Another method: half of its slope, 1.5 and 6 times its spread in two measures."""
    made = []
    for patient, pair in TRUE.items():
        for measure, true, ratio in zip(("x", "y"), pair, (1.5, 6.0), strict=True):
            made.append(row("full time", patient, measure, true, 0.8 * true, 0.1))
            made.append(row("half", patient, measure, true, 0.4 * true + 1.0, 0.1 * ratio))
    return made


def test_the_table_has_the_slopes_errors_and_spreads_that_were_put_in(rows):
    full, half = table(rows)
    assert (full["method"], half["method"]) == ("full time", "half")
    assert full["slope on truth"] == pytest.approx(0.8)
    assert full["error to truth, %"] == pytest.approx(20.0)
    assert (full["slope on full"], full["error to full, %"], full["SD / full's"]) == pytest.approx((1.0, 0.0, 1.0))
    assert half["slope on truth"] == pytest.approx(0.4)
    assert half["slope on full"] == pytest.approx(0.5)
    # Opposite errors do not cancel: 0.4 t + 1 is above t for small t and below for large.
    errors = [0.4 + 1.0 / true - 1.0 for pair in TRUE.values() for true in pair]
    assert half["error to truth, %"] == pytest.approx(100.0 * np.sqrt(np.mean(np.square(errors))))
    assert half["SD / full's"] == pytest.approx(3.0)
    assert half["the same over slope"] == pytest.approx(6.0)
    # Each quarter holds one value; 7 is read as 3.8 instead of 5.6.
    assert half["bias of a quarter, %"] == pytest.approx(-100.0 * 1.8 / 5.6)


def test_rows_of_another_seed_number_or_code_are_made_again(tmp_path):
    key = {"seed": "1", "realisations": "20", "code": "abc"}
    others = [{name: "2" if name == changed else value for name, value in key.items()} for changed in key]
    write_csv(tmp_path / "rows.csv", [key | {"mean": "5"}, *others])
    assert kept(tmp_path / "rows.csv", key) == [key | {"mean": "5"}]
    write_csv(tmp_path / "old.csv", [{"seed": "1"}])
    assert kept(tmp_path / "old.csv", key) == []
    assert kept(tmp_path / "none.csv", key) == []


@pytest.mark.parametrize("tracer", ["dat", "perfusion"])
def test_regions_do_not_overlap(tracer):
    labels = draw_head(np.random.default_rng(7), voxel_mm=4.0).labels
    masks = regions(labels, tracer)
    assert len(masks) >= 5
    brain = masks.pop("brain", np.isin(labels, BRAIN))
    assert sum(mask.astype(int) for mask in masks.values()).max() == 1
    assert not any((mask & ~brain).any() for mask in masks.values())
