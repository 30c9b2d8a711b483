"""The coefficient of a baseline: chosen by the least median, from rows of this code and seed alone."""

from argparse import Namespace
from types import SimpleNamespace

import pytest

from benchmarks.attenuation import tuning
from benchmarks.attenuation.files import TUNING_COLUMNS, TUNING_CSV, read_rows
from benchmarks.attenuation.methods import TUNED, Choice
from benchmarks.attenuation.table import tuning_table
from benchmarks.attenuation.tuning import COARSE_PER_CM, tune, tuned_values
from benchmarks.provenance import write_csv
from spectac.recon import InputError

METHOD, NUCLIDE = TUNED[0], "I-123"


def row(patient, value, error, **other):
    about = {"patient": str(patient), "method": METHOD, "nuclide": NUCLIDE, "tracer": "dat", "mu_per_cm": str(value)}
    return about | {"raw_mean": str(error), "code": "new", "seed": "5"} | other


def written(folder, rows):
    write_csv(folder / TUNING_CSV, rows, TUNING_COLUMNS)
    return folder / TUNING_CSV


def test_the_least_median_is_chosen(tmp_path, set_code):
    """By the mean 0.150 would win: one patient whose outline is grossly wrong must not choose."""
    set_code("new")
    errors = {0.150: (4.0, 4.0, 4.0), 0.156: (2.0, 2.0, 30.0)}
    rows = [row(patient, value, error) for value, of_value in errors.items() for patient, error in enumerate(of_value)]
    assert tuned_values(written(tmp_path, rows), 5) == {(METHOD, NUCLIDE): 0.156}


def test_a_value_with_fewer_patients_does_not_count(tmp_path, set_code):
    set_code("new")
    rows = [row(patient, 0.150, 4.0) for patient in range(3)] + [row(0, 0.156, 1.0), row(1, 0.156, 1.0)]
    rows.append(row(2, 0.156, ""))
    assert tuned_values(written(tmp_path, rows), 5) == {(METHOD, NUCLIDE): 0.150}


@pytest.mark.parametrize("stale", [{"code": "old"}, {"seed": "6"}, {"raw_mean": ""}])
def test_stale_rows_and_refusals_give_no_coefficient(tmp_path, set_code, stale):
    set_code("new")
    path = written(tmp_path, [row(patient, 0.150, 4.0, **stale) for patient in range(3)])
    choice = Choice(tuned_values(path, 5))
    with pytest.raises(InputError, match=f"{METHOD}: no coefficient for {NUCLIDE} .* run with --tune first"):
        choice.settings(METHOD, NUCLIDE)
    assert choice.settings("chang", NUCLIDE) == ""


class Tuner:
    """Stands in for simulation and reconstruction: raw error grows with the distance from 0.1595 /cm."""

    def __init__(self):
        self.simulated = []
        self.killed_at = None

    def case(self, _seed, _chosen, index, _histories):
        if index == self.killed_at:
            raise KeyboardInterrupt
        if index == 1:
            raise InputError("the orbit hits the head")
        self.simulated.append(index)
        return "I-123" if index % 2 == 0 else "Tc-99m"

    def rows(self, nuclide, values_per_cm):
        for method, values in values_per_cm.items():
            for value in values:
                yield {"method": method, "nuclide": nuclide, "tracer": "dat", "mu_per_cm": f"{value:.5g}"} | {
                    "raw_mean": f"{1000.0 * abs(value - 0.1595):.5g}"
                }


@pytest.fixture
def tuner(monkeypatch, set_code):
    set_code("new")
    stub = Tuner()

    def case(*arguments):
        return SimpleNamespace(about={"nuclide": stub.case(*arguments)})

    monkeypatch.setattr(tuning, "virtual_case", case)
    monkeypatch.setattr(tuning, "tried", lambda case, values: stub.rows(case.about["nuclide"], values))
    return stub


def test_tuning_goes_on_around_the_best_skips_who_cannot_be_simulated_and_resumes(tmp_path, tuner, capsys):
    """Coarse values give 0.162, the fine ones 0.160; a patient twice simulated is one of two stages."""
    options = Namespace(output=tmp_path, seed=5, tuning=4)
    tuner.killed_at = 3
    with pytest.raises(KeyboardInterrupt):
        tune(options)
    tuner.killed_at = None
    tune(options)
    assert tuner.simulated == [0, 2, 3, 0, 2, 3]
    assert set(tuned_values(tmp_path / TUNING_CSV, 5).values()) == {0.160}
    rows = read_rows(tmp_path / TUNING_CSV, TUNING_COLUMNS)
    assert len(rows) == 3 * len(TUNED) * (len(COARSE_PER_CM) + 4)
    assert len({(row["patient"], row["method"], row["mu_per_cm"]) for row in rows}) == len(rows)
    printed = capsys.readouterr().out
    assert "tuning patient 1: skipped, not simulated: the orbit hits the head" in printed
    assert "median of 2 patients" in printed
    tuner.simulated.clear()
    tune(options)
    assert tuner.simulated == []
    table = tuning_table(rows)
    assert "2 with I-123, 1 with Tc-99m" in table


def test_tuning_of_another_seed_keeps_what_is_there(tmp_path, tuner):
    for seed in (5, 6):
        tune(Namespace(output=tmp_path, seed=seed, tuning=1))
    numbers = [
        sum(row["seed"] == seed for row in read_rows(tmp_path / TUNING_CSV, TUNING_COLUMNS)) for seed in ("5", "6")
    ]
    assert numbers == [len(TUNED) * (len(COARSE_PER_CM) + 4)] * 2


def test_a_file_of_other_columns_is_made_anew(tmp_path, tuner):
    write_csv(tmp_path / TUNING_CSV, [{"patient": "0", "ratio_error": "1"}])
    tune(Namespace(output=tmp_path, seed=5, tuning=1))
    assert len(read_rows(tmp_path / TUNING_CSV, TUNING_COLUMNS)) == len(TUNED) * (len(COARSE_PER_CM) + 4)


def test_tuning_without_any_result_says_so(tmp_path, tuner, monkeypatch, capsys):
    def refused(_nuclide, values_per_cm):
        for row in Tuner().rows("I-123", values_per_cm):
            yield row | {"raw_mean": ""}

    monkeypatch.setattr(tuner, "rows", refused)
    tune(Namespace(output=tmp_path, seed=5, tuning=1))
    assert capsys.readouterr().out.count("no patient gave a result") == 2 * len(TUNED)
    assert "No result" in tuning_table(read_rows(tmp_path / TUNING_CSV, TUNING_COLUMNS))
