"""Patient, study and posture: the elements that are read and written, and the codes of the posture."""

from spectac.recon.io.dicom.elements import Item

PERSON = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
BODY = ("PatientAge", "PatientSize", "PatientWeight")
STUDY = ("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber")
PLACE = ("StudyDescription", "ReferringPhysicianName", "InstitutionName")
EQUIPMENT = ("Manufacturer", "ManufacturerModelName")

MUST_EXIST = tuple(word for word in (*PERSON, *STUDY) if word not in ("IssuerOfPatientID", "StudyInstanceUID"))
"""Elements that every file has, empty where nothing is known (type 2)."""

GANTRY = {"HF": ("headfirst", "102540008", "F-10470"), "FF": ("feet-first", "102541007", "F-10480")}
"""How the patient enters the gantry, as PatientPosition begins: meaning, SNOMED CT and SNOMED RT code."""

POSTURE = {
    "S": ("supine", "40199007", "F-10340"),
    "P": ("prone", "1240000", "F-10310"),
    "DR": ("right lateral decubitus", "102535000", "F-10317"),
    "DL": ("left lateral decubitus", "102536004", "F-10319"),
}
"""How the patient lies, as PatientPosition ends: meaning, SNOMED CT and SNOMED RT code."""


def read_patient(item: Item) -> dict[str, str]:
    """Patient and study as text by DICOM keyword, of what is there.

    Parameters
    ----------
    item : Item
        Dataset of the file.

    Returns
    -------
    dict of str to str
        Texts as the file has them; an unfit one is left out with a warning.

    Examples
    --------
    >>> from pydicom import Dataset
    >>> from pathlib import Path
    >>> data = Dataset()
    >>> data.PatientName, data.Modality = "Doe^Jane", "NM"
    >>> read_patient(Item(data, Path("scan.dcm")))
    {'PatientName': 'Doe^Jane'}
    """
    keywords = (*PERSON, *BODY, *STUDY, *PLACE, *EQUIPMENT, "SeriesDescription", "SOPInstanceUID")
    return {keyword: text for keyword in keywords if (text := item.optional_text(keyword))}


def read_posture(item: Item) -> tuple[str | None, str | None]:
    """How the patient lies: "HF" or "FF", and "S", "P", "DL" or "DR"; None for what the file does not say.

    Parameters
    ----------
    item : Item
        Dataset of the file.

    Returns
    -------
    str or None
        How the patient enters the gantry: a key of GANTRY.
    str or None
        How the patient lies: a key of POSTURE.

    Examples
    --------
    >>> from pydicom import Dataset
    >>> from pathlib import Path
    >>> data = Dataset()
    >>> data.PatientPosition = "HFS"
    >>> read_posture(Item(data, Path("scan.dcm")))
    ('HF', 'S')
    """
    position = (item.text("PatientPosition") or "").upper()
    if position[:2] in GANTRY and position[2:] in POSTURE:
        return position[:2], position[2:]
    gantry = posture = None
    for code in item.items("PatientGantryRelationshipCodeSequence"):
        gantry = _by_code(code, GANTRY) or gantry
    for code in item.items("PatientOrientationCodeSequence"):
        for modifier in code.items("PatientOrientationModifierCodeSequence"):
            posture = _by_code(modifier, POSTURE) or posture
    return gantry, posture


def _by_code(code: Item, table: dict[str, tuple[str, str, str]]) -> str | None:
    value = (code.text("CodeValue") or "").upper()
    return next((name for name, (_, *codes) in table.items() if value in codes), None)
