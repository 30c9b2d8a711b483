"""Whether two inputs are of one person, compared wherever files meet."""

from collections.abc import Mapping

IDENTITY = ("PatientID", "PatientBirthDate", "PatientSex", "PatientName")
"""DICOM keywords by which persons differ."""


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Keywords in which two patients differ.

    What either does not say is no difference. Names are compared by their words, whatever their order. IDs of two
    issuers are not compared. No value is returned, so that the answer can stand in an anonymous report.

    Parameters
    ----------
    one, other
        Text by DICOM keyword.

    Returns
    -------
    list of str
        Keywords.

    Examples
    --------
    >>> differences({"PatientName": "Wang^Ann", "PatientID": "7"}, {"PatientName": "ANN WANG", "PatientID": "8"})
    ['PatientID']
    """

    def differ(keyword: str) -> bool:
        first, second = (_plain(keyword, patient.get(keyword, "")) for patient in (one, other))
        if not first or not second or first == second:
            return False
        if keyword == "PatientID":
            issuers = {_plain("IssuerOfPatientID", patient.get("IssuerOfPatientID", "")) for patient in (one, other)}
            return "" in issuers or len(issuers) == 1
        # Anonymisers and defaults write "Other".
        return keyword != "PatientSex" or "o" not in (first, second)

    return [keyword for keyword in IDENTITY if differ(keyword)]


def doubts(one: Mapping[str, str], other: Mapping[str, str], inputs: str) -> list[str]:
    """Warning where two inputs seem to be of different persons.

    Parameters
    ----------
    one, other
        Text by DICOM keyword.
    inputs
        Names of the two inputs.

    Returns
    -------
    list of str
        One warning, or none.

    Examples
    --------
    >>> doubts({"PatientID": "7"}, {"PatientID": "8"}, "CT and SPECT")
    ['CT and SPECT differ in PatientID: are they of one person?']
    """
    keywords = differences(one, other)
    return [f"{inputs} differ in {' and '.join(keywords)}: are they of one person?"] if keywords else []


def _plain(keyword: str, text: str) -> str:
    if keyword == "PatientName":
        # The alphabetic group alone: other scripts of the name follow a "=".
        words = text.split("=")[0].replace("^", " ").replace(",", " ").casefold().split()
        return " ".join(sorted(words))
    if keyword == "PatientBirthDate":
        return "".join(character for character in text if character.isdigit()).strip("0")
    return text.strip().casefold()
