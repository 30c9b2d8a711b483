"""DICOM objects of a comparison: the image of each method, the report as a PDF, and its key page as a picture.

All are of the same patient and study as the projections, the images in the same frame of reference.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

from spectac.app.comparison import Comparison
from spectac.app.node.pdf import write_report_pdf
from spectac.app.reconstruct import corrected_terms, described
from spectac.app.report.key_page import draw_key_page, pixels_of
from spectac.recon.io.dicom import nm as dicom_nm
from spectac.recon.io.dicom.elements import open_dicom
from spectac.recon.io.dicom.report_write import write_capture, write_pdf


def write_objects(folder: Path, comparison: Comparison, report: Path) -> tuple[dict[str, str], list[str]]:
    """Write all objects into `folder`; SOP instance of each by its file's name, and notes.

    `report` is the folder of the comparison's report; report.pdf is added there.
    """
    study = comparison.study
    if comparison.request.comparison.anonymous:
        # All objects of a job are of one study, which nobody can tell the patient of.
        digest = hashlib.sha256(comparison.study_sha256.encode()).hexdigest()
        named = {**study.patient, "StudyInstanceUID": f"2.25.{int(digest[:32], 16)}"}
        study = replace(study, patient=named, acquisition=replace(study.acquisition, frame_of_reference_uid=None))
    for name, method in comparison.chosen.items():
        projections = method.result.projections
        dicom_nm.write_image(
            folder / f"{name}.dcm",
            method.image,
            study=study,
            description=described(name, method.result),
            corrected=corrected_terms(study, method.result),
            photopeak=None if projections is None else projections.photopeak,
        )
    write_capture(folder / "key_page.dcm", pixels_of(draw_key_page(comparison)), study, "spectac key page")
    note = write_report_pdf(report / "report.pdf", comparison, report)
    anonymous = comparison.request.comparison.anonymous
    write_pdf(folder / "report.dcm", report / "report.pdf", study, "spectac report", names_patient=not anonymous)
    sops = {path.name: str(open_dicom(path, pixels=False).text("SOPInstanceUID")) for path in sorted(folder.iterdir())}
    return sops, [] if note is None else [note]
