"""Whether two inputs are of one person: compared wherever files meet."""

from collections.abc import Mapping

IDENTITY = ("PatientID", "PatientBirthDate", "PatientSex", "PatientName")
"""DICOM keywords by which persons differ."""


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Keywords in which two patients differ; what either does not say is no difference.

    Values are text by DICOM keyword. Names are compared by their words, whatever their order; IDs of two issuers
    are not compared. No value is returned, so that the answer can stand in an anonymous report.
    """
    found = []
    for keyword in IDENTITY:
        mine, theirs = _plain(keyword, one.get(keyword, "")), _plain(keyword, other.get(keyword, ""))
        if not mine or not theirs or mine == theirs:
            continue
        if keyword == "PatientID" and _issuer(one) and _issuer(other) and _issuer(one) != _issuer(other):
            continue
        if keyword == "PatientSex" and "o" in (mine, theirs):
            # "Other" is what anonymisers and defaults write.
            continue
        found.append(keyword)
    return found


def doubts(one: Mapping[str, str], other: Mapping[str, str], inputs: str) -> list[str]:
    """A warning where two inputs, named in `inputs`, seem to be of different persons; nothing where they do not."""
    found = differences(one, other)
    return [f"{inputs} differ in {' and '.join(found)}: are they of one person?"] if found else []


def _issuer(patient: Mapping[str, str]) -> str:
    return _plain("IssuerOfPatientID", patient.get("IssuerOfPatientID", ""))


def _plain(keyword: str, text: str) -> str:
    if keyword == "PatientName":
        # Alphabetic group alone: "Wang^XiaoDong=..." has the same name in other scripts behind it.
        words = text.split("=")[0].replace("^", " ").replace(",", " ").casefold().split()
        return " ".join(sorted(words))
    if keyword == "PatientBirthDate":
        return "".join(character for character in text if character.isdigit()).strip("0")
    return text.strip().casefold()
