"""Images written as DICOM NM RECON TOMO, as `dciodvfy` accepts them.

Slices go from inferior to superior with a positive SpacingBetweenSlices, so that readers that ignore its sign place
them right. Position and orientation stand in the detector item, as DICOM has it; SimpleITK 2.5 reads them there too.
"""

import os
from collections.abc import Iterable

import numpy as np
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import NuclearMedicineImageStorage

from spectac.recon.errors import InputError
from spectac.recon.geometry import signed_deg
from spectac.recon.io.dicom import nm_write_header as header
from spectac.recon.io.dicom.allowed_values import decimal, unique_identifier
from spectac.recon.io.dicom.nm_rescale import put_rescaled
from spectac.recon.types import EnergyWindow, Grid, Image, Study

_IMAGE_TYPE = ["DERIVED", "PRIMARY", "RECON TOMO", "EMISSION"]


def check_header(study: Study) -> None:
    """Encode what every file of a study says about patient, scan and agent.

    Called before long work: what `Study.patient` holds comes from files of any kind.

    Parameters
    ----------
    study : Study
        Study that may have been read from a file of any kind.

    Raises
    ------
    InputError
        Where it cannot be written as DICOM.
    """
    encoded = DicomBytesIO()
    encoded.is_little_endian, encoded.is_implicit_VR = True, False
    try:
        write_dataset(encoded, header.common_dataset(study, _IMAGE_TYPE, "image"))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"the study's header cannot be written as DICOM: {error}") from error


def write_image(
    path: str | os.PathLike[str],
    image: Image,
    *,
    study: Study,
    description: str,
    corrected: Iterable[str] = (),
    photopeak: EnergyWindow | None = None,
) -> None:
    """Write an image as NM RECON TOMO of the same patient, study and frame of reference as `study`.

    The series gets new UIDs. Values are rounded to 16 bits: to the largest / 65535, or / 32767 where some are negative.

    Parameters
    ----------
    path : path-like
        The file; it appears whole or not at all.
    image : Image
        Values (z, y, x).
    study : Study
        The projections that the image is made from.
    description : str
        Algorithm and attenuation; SeriesDescription, cut to 64 characters.
    corrected : iterable of str
        CorrectedImage's terms for what the reconstruction corrected (ATTN, SCAT, DECY), beside the projections' own.
    photopeak : EnergyWindow
        The image's energy window; by default all of the study's are named.

    Raises
    ------
    InputError
        Where the grid's axes are not at right angles.

    Examples
    --------
    >>> import tempfile
    >>> from spectac.recon.io.dicom.nm_read_image import read_image
    >>> from spectac.recon.types import Acquisition, Grid
    >>> acquisition = Acquisition([0, 180], [150, 150], (2, 3), (4, 4), [20, 20], "Tc-99m", None)
    >>> study = Study(acquisition, (EnergyWindow("peak", 126, 154),), np.ones((1, 2, 2, 3)))
    >>> image = Image(np.ones((2, 3, 3)), Grid.upright((2, 3, 3), (4, 4, 4), (-4, -4, 0)), "cps/mL")
    >>> file = tempfile.mkdtemp() + "/image.dcm"
    >>> write_image(file, image, study=study, description="OSEM")
    >>> read_image(file).unit
    'cps/mL'
    """
    grid, acquisition = image.grid, study.acquisition
    slices, rows, columns = _directions(grid)
    sign = 1.0 if np.cross(columns, rows) @ slices > 0 else -1.0
    data = header.common_dataset(study, _IMAGE_TYPE, description)
    if terms := acquisition.corrections.union(corrected):
        data.CorrectedImage = sorted(terms)
    data.DerivationDescription = header.text_for("DerivationDescription", "; ".join(reversed(image.history))[:1024])
    sources = [unique_identifier(uid) for uid in study.patient.get("SOPInstanceUID", "").split("\\") if uid]
    if sources:
        data.SourceImageSequence = Sequence(
            header.dataset(ReferencedSOPClassUID=NuclearMedicineImageStorage, ReferencedSOPInstanceUID=uid)
            for uid in sources
        )
    data.FrameIncrementPointer = 0x00540080
    data.SliceVector = list(range(1, grid.shape[0] + 1))
    data.NumberOfSlices = grid.shape[0]
    if photopeak is not None:
        data.EnergyWindowInformationSequence = Sequence([header.window_item(photopeak)])
    data.NumberOfEnergyWindows, data.NumberOfDetectors = len(data.EnergyWindowInformationSequence), 1
    data.SliceThickness, data.SpacingBetweenSlices = decimal(grid.voxel_mm[0]), decimal(sign * grid.voxel_mm[0])
    views = np.flatnonzero(np.asarray(acquisition.detector) == np.asarray(acquisition.detector)[0])
    steps = signed_deg(np.diff(acquisition.view_angles_deg[views]))
    step = np.copysign(np.median(np.abs(steps)), np.median(steps)) if steps.size else 360.0
    header.put_rotation(data, acquisition, views, float(step), acquisition.radii_mm[views].mean())
    detector = header.collimator_item(acquisition)
    header.put_directions(detector, columns, rows, grid.affine_lps[:3, 3])
    data.DetectorInformationSequence = Sequence([detector])
    header.put_pixels(data, put_rescaled(data, image.values, image.unit), (grid.voxel_mm[1], grid.voxel_mm[2]))
    header.save(path, data)


def _directions(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors along slices, rows and columns; InputError where they are not at right angles."""
    slices, rows, columns = (grid.affine_lps[:3, axis] / grid.voxel_mm[axis] for axis in range(3))
    if max(abs(slices @ rows), abs(slices @ columns), abs(rows @ columns)) > 1e-4:
        raise InputError("NM RECON TOMO needs axes at right angles: resample the image first")
    return slices, rows, columns
