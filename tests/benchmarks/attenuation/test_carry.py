"""Rows of older code count as present ones where a sample comes out alike, and only then."""

import pytest

from benchmarks.attenuation import carry

METHOD = "uniform"


def rows(error="1.5", **other):
    about = {"set": "unseen", "method": METHOD, "raw_mean_vs_ct": error, "seconds": "3", "code": "old"}
    return [about | {"patient": str(patient)} | other for patient in range(4)]


def again(error="1.5", **other):
    def remade(before):
        return [{"method": row["method"], "raw_mean_vs_ct": error, "seconds": 5.0} | other for row in before]

    return remade


@pytest.fixture(autouse=True)
def present(set_code):
    set_code("new")


def test_alike_rows_are_carried_and_keep_the_code_that_made_them():
    found = carry.carried(rows(), 2, again())
    assert {(row["code"], row["made_by"], row["seconds"]) for row in found} == {("new", "old", "3")}
    assert [row["made_by"] for row in carry.carried(rows(made_by="first"), 1, again())] == ["first"] * 4


@pytest.mark.parametrize("remade", [again("1.5001"), again(notes="refused"), lambda before: [], again(fell_back=1)])
def test_rows_that_are_not_alike_stay(remade):
    assert carry.carried(rows(), 3, remade) == rows()


def test_the_sample_is_of_as_many_patients_and_not_of_present_rows():
    seen = []
    carry.carried([*rows(code="new"), *rows()], 3, lambda before: seen.append(before[0]["patient"]) or again()(before))
    assert seen == ["0", "1", "2"]
    assert carry.carried(rows(code="new"), 3, None) == rows(code="new")
