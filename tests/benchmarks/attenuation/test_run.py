"""The run over all patients: valid rows are kept and stale rows made again, also after it was killed."""

from argparse import Namespace
from types import SimpleNamespace

import pytest

from benchmarks.attenuation import run as study
from benchmarks.attenuation.files import METHODS_CSV, NO_CASE, read_rows
from benchmarks.attenuation.methods import UNLIMITED, Choice
from benchmarks.attenuation.rows import same
from spectac.recon import InputError


class Patients:
    """Stands in for simulation and reconstruction, and counts both."""

    def __init__(self):
        self.made, self.killed_at, self.impossible = [], None, None

    def case(self, set_name, patient, *_):
        if patient == self.killed_at:
            raise KeyboardInterrupt
        if patient == self.impossible:
            raise InputError("the orbit hits the head")
        return SimpleNamespace(name=f"{set_name} {patient}")

    def rows(self, case, methods, _choice):
        self.made += [(case.name, method) for method in methods]
        for method in methods:
            yield {"method": method, "settings": "", "nuclide": "I-123", "raw_mean_vs_ct": "1"}


@pytest.fixture
def patients(monkeypatch, set_code):
    set_code("new")
    stub = Patients()
    monkeypatch.setattr(study, "rebuilt", stub.case)
    monkeypatch.setattr(study, "measured", stub.rows)
    return stub


def options(folder, *methods, number=3):
    return Namespace(
        output=folder, patients=number, sets=("unseen",), bodies=None, phantom=None, visible_human=None,
        methods=list(methods), seed=5, histories=0, weights=None, direct_weights=None,
    )  # fmt: skip


def test_a_killed_run_goes_on_with_what_is_missing(tmp_path, patients):
    patients.killed_at = "2"
    with pytest.raises(KeyboardInterrupt):
        study.run(options(tmp_path, "none", "chang"))
    assert len(read_rows(tmp_path / METHODS_CSV)) == 4
    patients.killed_at = None
    patients.made.clear()
    study.run(options(tmp_path, "none", "chang"))
    assert patients.made == [("unseen 2", "none"), ("unseen 2", "chang")]
    patients.made.clear()
    study.run(options(tmp_path, "none", "uniform"))
    assert patients.made == [(f"unseen {index}", "uniform") for index in range(3)]
    assert len(read_rows(tmp_path / METHODS_CSV)) == 9


def test_rows_of_other_code_are_made_again_and_dropped_where_not_asked_for(tmp_path, patients, set_code):
    set_code("old")
    study.run(options(tmp_path, "none", "chang"))
    set_code("new")
    patients.made.clear()
    study.run(options(tmp_path, "none", number=2))
    assert patients.made == [("unseen 0", "none"), ("unseen 1", "none")]
    codes = {(row["patient"], row["method"]): row["code"] for row in read_rows(tmp_path / METHODS_CSV)}
    assert codes == {("0", "none"): "new", ("1", "none"): "new", ("2", "none"): "old", ("2", "chang"): "old"}


def test_a_patient_that_cannot_be_simulated_is_one_row_and_tried_again(tmp_path, patients):
    patients.impossible = "1"
    study.run(options(tmp_path, "none"))
    rows = {row["patient"]: row for row in read_rows(tmp_path / METHODS_CSV)}
    assert rows["1"]["method"] == NO_CASE
    assert rows["1"]["notes"] == "not simulated: the orbit hits the head"
    patients.impossible = None
    patients.made.clear()
    study.run(options(tmp_path, "none"))
    assert patients.made == [("unseen 1", "none")]
    assert {row["method"] for row in read_rows(tmp_path / METHODS_CSV)} == {"none"}


def test_a_missing_coefficient_is_found_before_anything_is_simulated(tmp_path, patients):
    with pytest.raises(InputError, match="run with --tune first"):
        study.run(options(tmp_path, "none", "uniform tuned, data outline"))
    assert patients.made == []


def test_where_the_scatter_is_that_of_a_map_methods_without_one_are_left_out(tmp_path, patients):
    asked = options(tmp_path, "none", "ct", number=1)
    asked.sets = ("scatter by Monte Carlo", "unseen")
    study.run(asked)
    assert patients.made == [("unseen 0", "none"), ("unseen 0", "ct"), ("scatter by Monte Carlo 0", "ct")]


def test_sets_whose_files_are_not_given_are_left_out(tmp_path):
    asked = options(tmp_path, number=2)
    asked.sets = tuple(study.SETS)
    assert {name for name, _ in study.asked_for(asked)} == set(study.PATIENTS) - {"real bodies"}
    asked.phantom = tmp_path
    assert [one for one in study.asked_for(asked) if "mr head" in one[0]] == [
        (name, tracer) for name in ("mr head", "mr head, scatter by Monte Carlo") for tracer in ("dat", "perfusion")
    ]


def test_slices_of_other_code_or_seed_are_not_drawn(tmp_path, patients, monkeypatch):
    """The title's number must be of the slices beneath it."""
    figures = pytest.importorskip(
        "benchmarks.attenuation.figures", reason="figures need matplotlib", exc_type=ImportError
    )
    monkeypatch.setattr(figures, "row_code", lambda: "new")
    choice = Choice({("uniform tuned, data outline", "I-123"): 0.156})
    study.run(options(tmp_path, "none", number=1))
    row = read_rows(tmp_path / METHODS_CSV)[0]
    figures.check_current([row], 5, choice)
    for other in ({"code": "old"}, {"seed": "6"}, {"settings": "weights 0123"}):
        with pytest.raises(InputError, match=f"slices of unseen 0 are not drawn: its row has {next(iter(other))}"):
            figures.check_current([row | other], 5, choice)


def test_an_image_is_made_again_only_where_it_can_be_another():
    bare, fallen = SimpleNamespace(fallback=None, holder="none"), SimpleNamespace(fallback="uniform", holder=None)
    assert same("predicted, holder none", {"predicted": (bare, 1.0)}) is None
    assert same(UNLIMITED, {"predicted, holder file": (bare, 2.0)}) == (bare, 2.0)
    assert same(UNLIMITED, {"predicted, holder file": (fallen, 2.0)}) is None
    assert same(UNLIMITED, {}) is None
    assert same("ct", {"ct": (bare, 3.0)}) == (bare, 3.0)
