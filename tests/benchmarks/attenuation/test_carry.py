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


def test_rows_with_the_same_numbers_are_kept_and_name_the_code_that_made_them():
    kept = carry.carried(rows(), 2, again(notes="in other words"))
    assert {(row["code"], row["made_by"], row["seconds"]) for row in kept} == {("new", "old", "3")}
    assert [row["made_by"] for row in carry.carried(rows(made_by="first"), 1, again())] == ["first"] * 4


@pytest.mark.parametrize("remade", [again("1.501"), again(""), lambda before: [], again(fell_back=1)])
def test_rows_with_other_numbers_stay(remade):
    assert carry.carried(rows(), 3, remade) == rows()


def test_methods_are_kept_apart():
    """One that came out otherwise, and one that the sample does not hold."""
    both = [*rows(), *rows(method="chang"), rows(method="none")[3]]

    def remade(before):
        return [row | {"seconds": 1.0, "raw_mean_vs_ct": "2" if row["method"] == "chang" else "1.5"} for row in before]

    kept = carry.carried(both, 3, remade)
    assert {row["method"]: row["code"] for row in kept} == {METHOD: "new", "chang": "old", "none": "old"}


def test_the_sample_is_of_as_many_patients_and_not_of_present_rows():
    seen = []
    carry.carried([*rows(code="new"), *rows()], 3, lambda before: seen.append(before[0]["patient"]) or again()(before))
    assert seen == ["0", "1", "2"]
    assert carry.carried(rows(code="new"), 3, None) == rows(code="new")


@pytest.mark.parametrize(
    ("new", "old", "same"),
    [
        ("8.9319", "8.932", True),
        ("0.03734", "0.037344", True),
        ("", "", True),
        ("8.93", "8.94", False),
        ("", "1", False),
    ],
)
def test_the_fifth_digit_of_another_processor_is_no_other_number(new, old, same):
    assert carry.alike(new, old) == same
