"""DICOM objects of a comparison: the image of each method, of the same patient, study and frame as the projections."""

from pathlib import Path

from spectac.app.comparison import Comparison
from spectac.app.reconstruct import corrected_terms
from spectac.recon.io.dicom import nm as dicom_nm
from spectac.recon.io.dicom.elements import open_dicom


def write_objects(folder: Path, comparison: Comparison, report: Path) -> dict[str, str]:
    """SOP instance of every object that is written into `folder`, by its file's name."""
    study = comparison.study
    for name, method in comparison.methods.items():
        projections = method.result.projections
        dicom_nm.write_image(
            folder / f"{name}.dcm",
            method.image,
            study=study,
            description=f"spectac {comparison.request.reconstruction.algorithm}, attenuation {name}",
            corrected=corrected_terms(study, method.result),
            photopeak=None if projections is None else projections.photopeak,
        )
    return {path.name: str(open_dicom(path, pixels=False).text("SOPInstanceUID")) for path in sorted(folder.iterdir())}
