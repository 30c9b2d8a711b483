"""A report as DICOM objects, in the study that it tells of: a PDF (Encapsulated PDF), a picture (Secondary Capture)."""

import os
from pathlib import Path

import numpy as np
from pydicom.sequence import Sequence

from spectac.recon.errors import InputError
from spectac.recon.io.dicom import nm_write_header as header
from spectac.recon.io.dicom.allowed_values import unique_identifier
from spectac.recon.types import Array, Study

ENCAPSULATED_PDF, SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.7"
NM_IMAGE = "1.2.840.10008.5.1.4.1.1.20"


def write_pdf(path: str | os.PathLike[str], pdf: Path, study: Study, title: str, *, names_patient: bool) -> None:
    """Write a PDF as an Encapsulated PDF object.

    Parameters
    ----------
    path : path-like
        The file; it appears whole or not at all.
    pdf : Path
        The PDF.
    study : Study
        The study that it tells of.
    title : str
        DocumentTitle and SeriesDescription.
    names_patient : bool
        Whether the patient's name stands in it.

    Raises
    ------
    InputError
        Where the file is no PDF.

    Examples
    --------
    >>> write_pdf("report.dcm", Path("report.pdf"), study, "comparison", names_patient=True)  # doctest: +SKIP
    """
    content = Path(pdf).read_bytes()
    if not content.startswith(b"%PDF-"):
        raise InputError(f"{pdf}: not a PDF")
    data = header.identity_dataset(study, ENCAPSULATED_PDF, "DOC", title)
    data.update(
        header.dataset(
            ConversionType="WSD",
            BurnedInAnnotation="YES" if names_patient else "NO",
            AcquisitionDateTime="",
            DocumentTitle=header.text_for("DocumentTitle", title),
            ConceptNameCodeSequence=Sequence([]),
            MIMETypeOfEncapsulatedDocument="application/pdf",
            EncapsulatedDocument=content + b"\0" * (len(content) % 2),
            EncapsulatedDocumentLength=len(content),
        )
    )
    _put_sources(data, study, "SourceInstanceSequence")
    header.save(path, data)


def write_capture(path: str | os.PathLike[str], pixels: Array, study: Study, title: str) -> None:
    """Write a picture as a Secondary Capture object.

    Parameters
    ----------
    path : path-like
        The file; it appears whole or not at all.
    pixels : array
        uint8 (rows, columns, 3), without the patient's name.
    study : Study
        The study that it tells of.
    title : str
        SeriesDescription.

    Raises
    ------
    InputError
        For an array of another type or shape.

    Examples
    --------
    >>> write_capture("page.dcm", np.zeros((8, 8, 3), np.uint8), study, "key page")  # doctest: +SKIP
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InputError(f"a picture must be uint8 (rows, columns, 3), got {pixels.dtype} {pixels.shape}")
    data = header.identity_dataset(study, SECONDARY_CAPTURE, "OT", title)
    rows, columns, _ = pixels.shape
    content = np.ascontiguousarray(pixels).tobytes()
    data.update(
        header.dataset(
            ConversionType="WSD",
            ImageType=["DERIVED", "SECONDARY"],
            BurnedInAnnotation="NO",
            PatientOrientation="",
            SamplesPerPixel=3,
            PhotometricInterpretation="RGB",
            PlanarConfiguration=0,
            Rows=rows,
            Columns=columns,
            BitsAllocated=8,
            BitsStored=8,
            HighBit=7,
            PixelRepresentation=0,
            PixelData=content + b"\0" * (len(content) % 2),
        )
    )
    data["PixelData"].VR = "OB"
    _put_sources(data, study, "SourceImageSequence")
    header.save(path, data)


def _put_sources(data: object, study: Study, keyword: str) -> None:
    """Name the projections that the object was made of."""
    uids = [unique_identifier(uid) for uid in study.patient.get("SOPInstanceUID", "").split("\\") if uid]
    if uids:
        items = [header.dataset(ReferencedSOPClassUID=NM_IMAGE, ReferencedSOPInstanceUID=uid) for uid in uids]
        setattr(data, keyword, Sequence(items))
