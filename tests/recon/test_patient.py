"""Whether two inputs are of one person."""

import pytest

from spectac.recon.patient import differences, doubts

JANE = {"PatientID": "7", "PatientName": "Doe^Jane", "PatientBirthDate": "19700203", "PatientSex": "F"}


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"PatientName": "DOE JANE"},
        {"PatientName": "Jane, Doe"},
        {"PatientName": "Doe^Jane=ドウ^ジェーン"},
        {"PatientBirthDate": "1970.02.03"},
        {"PatientSex": "f", "PatientID": " 7 "},
        {"PatientID": "", "PatientBirthDate": "00000000"},
        {"PatientSex": "O"},
    ],
)
def test_spellings_and_gaps_are_no_difference(other):
    assert differences(JANE, JANE | other) == []
    assert doubts(JANE, other, "a and b") == []


@pytest.mark.parametrize(
    ("other", "keys"),
    [
        ({"PatientID": "8"}, ["PatientID"]),
        ({"PatientID": "8", "IssuerOfPatientID": "another hospital"}, ["PatientID"]),
        ({"PatientBirthDate": "19700204", "PatientSex": "M"}, ["PatientBirthDate", "PatientSex"]),
        ({"PatientName": "Doe^Jean"}, ["PatientName"]),
    ],
)
def test_what_differs_is_named_without_its_value(other, keys):
    assert differences(JANE, JANE | other) == keys
    (line,) = doubts(JANE, JANE | other, "a.dcm and b.dcm")
    assert line == f"a.dcm and b.dcm differ in {' and '.join(keys)}: are they of one person?"


def test_ids_of_two_hospitals_say_nothing():
    one = JANE | {"IssuerOfPatientID": "A"}
    assert differences(one, JANE | {"PatientID": "8", "IssuerOfPatientID": "B"}) == []
    assert differences(one, one | {"PatientID": "8"}) == ["PatientID"]
