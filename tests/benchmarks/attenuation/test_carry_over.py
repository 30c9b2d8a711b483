"""Rows carry over to new code only where every number of the sample that was made again is the same."""

import sys
from argparse import Namespace

import pytest

from benchmarks.attenuation import carry_over
from benchmarks.attenuation.carry_over import carry_methods, carry_tuning
from benchmarks.attenuation.files import METHODS_COLUMNS, METHODS_CSV, NO_CASE, TUNING_COLUMNS, TUNING_CSV, read_rows
from benchmarks.attenuation.methods import TUNED
from benchmarks.provenance import write_csv
from spectac.recon import InputError

OPTIONS = Namespace(sample=3, weights=None, direct_weights=None, phantom=None)


def row(patient, method="none", **other):
    about = {"set": "unseen", "patient": str(patient), "method": method, "code": "old", "seed": "5", "histories": "0"}
    numbers = {"nuclide": "I-123", "raw_mean_vs_ct": "2.5", "seconds": "1", "notes": "before"}
    return dict.fromkeys(METHODS_COLUMNS, "") | about | numbers | other


@pytest.fixture
def again(monkeypatch, set_code):
    """Function that sets what rows become when they are made again: a function of the row."""
    set_code("new")

    def become(change):
        made = []

        def pairs(rows, _options):
            made.extend(one["patient"] for one in rows)
            return [(one, one | {"seconds": "9", "notes": "after"} | change(one)) for one in rows]

        monkeypatch.setattr(carry_over, "methods_again", pairs)
        return made

    return become


def test_rows_whose_sample_is_the_same_carry_over_with_both_digests_on_record(again):
    made = again(lambda _: {})
    rows = [row(patient) for patient in range(5)]
    (record,) = carry_methods(rows, OPTIONS)
    assert made == ["0", "1", "2"]
    assert {one["code"] for one in rows} == {"new"}
    assert (record["old_code"], record["new_code"], record["sample"], record["seed"]) == ("old", "new", "0 1 2", 5)
    assert (record["changed"], record["carried_rows"]) == (0, 5)
    assert record["numbers"] > 3 * 50
    assert {"commit", "machine"} <= record.keys()
    # Neither seconds nor texts of the comparison replace those of the run.
    assert {(one["seconds"], one["notes"]) for one in rows} == {("1", "before")}


def test_one_changed_digit_keeps_the_rows_of_that_method_alone(again):
    again(lambda one: {"raw_mean_vs_ct": "2.5001"} if (one["method"], one["patient"]) == ("chang", "1") else {})
    rows = [row(patient, method) for patient in range(4) for method in ("none", "chang")]
    records = {record["method"]: record for record in carry_methods(rows, OPTIONS)}
    assert {(one["method"], one["code"]) for one in rows} == {("none", "new"), ("chang", "old")}
    assert records["chang"]["first_change"] == "patient 1: raw_mean_vs_ct was 2.5, is 2.5001"
    assert float(records["chang"]["largest_change_percent"]) == pytest.approx(0.004)
    assert (records["chang"]["changed"], records["chang"]["carried_rows"]) == (1, 0)


def test_sets_and_versions_are_compared_apart_and_current_rows_not_at_all(again):
    made = again(lambda one: {"raw_mean_vs_ct": "9"} if one["set"] == "other heads" else {})
    rows = [row(0), row(0, set="other heads"), row(1, code="older"), row(2, code="new"), row(3, method=NO_CASE)]
    records = list(carry_methods(rows, OPTIONS))
    assert [(one["set"], one["old_code"], one["carried_rows"]) for one in records] == [
        ("unseen", "old", 1),
        ("other heads", "old", 0),
        ("unseen", "older", 1),
    ]
    assert made == ["0", "0", "1"]
    assert [one["code"] for one in rows] == ["new", "old", "new", "new", "old"]


def test_rows_stay_where_a_patient_or_a_method_cannot_be_made_again(monkeypatch, set_code):
    set_code("new")

    def refused(_rows, _options):
        raise InputError("the mr head needs its files")

    monkeypatch.setattr(carry_over, "methods_again", refused)
    rows = [row("dat", set="mr head")]
    (record,) = carry_methods(rows, OPTIONS)
    assert rows[0]["code"] == "old"
    assert "the mr head needs its files" in record["first_change"]
    monkeypatch.setattr(carry_over, "methods_again", lambda *_: [])
    rows = [row(0, "direct")]
    (record,) = carry_methods(rows, OPTIONS)
    assert rows[0]["code"] == "old"
    assert "weights" in record["first_change"]


def test_files_of_other_code_stay_as_they_are(tmp_path, monkeypatch, again):
    made = again(lambda _: {})
    (tmp_path / TUNING_CSV).write_text("method,value\nchang,0.11\n")
    monkeypatch.setattr(sys, "argv", ["carry_over", "-o", str(tmp_path)])
    carry_over.main()
    assert (tmp_path / TUNING_CSV).read_text() == "method,value\nchang,0.11\n"
    assert [path.name for path in tmp_path.iterdir()] == [TUNING_CSV]
    write_csv(tmp_path / METHODS_CSV, [row(patient) for patient in range(4)], METHODS_COLUMNS)
    carry_over.main()
    assert made == ["0", "1", "2"]
    assert {one["code"] for one in read_rows(tmp_path / METHODS_CSV)} == {"new"}
    (record,) = read_rows(tmp_path / carry_over.CARRIED_CSV, None)
    assert record["carried_rows"] == "4"


def test_of_a_tuned_method_lowest_chosen_and_highest_value_are_made_again(monkeypatch):
    values = {"0.10": "5", "0.12": "2", "0.14": "3", "0.16": "6"}
    about = {"code": "old", "seed": "5", "nuclide": "I-123", "patient": "0", "method": TUNED[0]}
    rows = [
        dict.fromkeys(TUNING_COLUMNS, "") | about | {"mu_per_cm": value, "raw_mean": error}
        for value, error in values.items()
    ]
    asked = {}

    def tried(_case, methods):
        asked.update(methods)
        return [{"mu_per_cm": value} for values in methods.values() for value in values]

    monkeypatch.setattr(carry_over, "virtual_case", lambda *_: None)
    monkeypatch.setattr(carry_over, "tried", tried)
    pairs = carry_over.tuning_again(rows, "0")
    assert asked == {TUNED[0]: [0.10, 0.12, 0.16]}
    assert [(float(old["mu_per_cm"]), float(new["mu_per_cm"])) for old, new in pairs] == [
        (v, v) for v in asked[TUNED[0]]
    ]


def test_tuned_coefficients_carry_over_by_method(monkeypatch, set_code):
    set_code("new")
    about = {"code": "old", "seed": "5", "nuclide": "I-123"}
    rows = [
        dict.fromkeys(TUNING_COLUMNS, "") | about | {"patient": str(patient), "method": method, "raw_mean": "3"}
        for patient in range(4)
        for method in TUNED
    ]

    def pairs(group, patient):
        return [
            (one, one | ({"raw_mean": "4"} if one["method"] == TUNED[1] else {}))
            for one in group
            if one["patient"] == patient
        ]

    monkeypatch.setattr(carry_over, "tuning_again", pairs)
    records = list(carry_tuning(rows, OPTIONS))
    assert [record["carried_rows"] for record in records] == [4, 0, 4]
    assert {(one["method"], one["code"]) for one in rows} == {(TUNED[0], "new"), (TUNED[1], "old"), (TUNED[2], "new")}
