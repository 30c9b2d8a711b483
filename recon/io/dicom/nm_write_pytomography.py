"""DICOM NM as PyTomography 3.4 reads it: its reader takes some elements in its own way, so they are written that way.

- ImagePositionPatient of the first head is the corner of the volume around the axis at the top row ("volume" in
  nm_axis_position.py), and must be there; the orientation is that of transaxial slices, which goes with it.
- PixelSpacing is taken as (transaxial, axial), the reverse of DICOM: only square pixels come out right.
- A Manufacturer "Mediso" makes it look for a rotation item for each head, and change the volume's place.
- A volume whose corner has y = 0 makes it look for a table height.
- It ignores RescaleSlope (as everywhere, counts are stored as they are) and CenterOfRotationOffset.
"""

import os
from dataclasses import replace

import numpy as np
from pydicom import dcmread

from spectac.recon.errors import InputError
from spectac.recon.geometry import axis_position_mm
from spectac.recon.io.atomic import written
from spectac.recon.io.dicom.nm_write_header import put_directions, save
from spectac.recon.io.dicom.nm_write_projections import write_study
from spectac.recon.types import MuMap, Study

_NOT_ZERO_MM = 0.001


def write_for_pytomography(path: str | os.PathLike[str], study: Study) -> None:
    """Write raw projections as NM TOMO for pytomography.io.SPECT.dicom; where the axis is unknown it is the origin.

    Parameters
    ----------
    path : path-like
        The file; it appears whole or not at all.
    study : Study
        Counts (w, v, z, u), as `nm_write_projections.write_study` takes them.

    Raises
    ------
    InputError
        As `write_study` does, and for fan beams, pixels that are not square or an axis beside the middle of the
        detector.
    """
    acquisition = study.acquisition
    if acquisition.foci:
        raise InputError("PyTomography's DICOM reader does not know fan beams: reconstruct with spectac")
    pitch_z, pitch_u = acquisition.pixel_mm
    if abs(pitch_z / pitch_u - 1.0) > 1e-4:
        raise InputError(
            f"PyTomography takes DICOM's PixelSpacing the wrong way round, so pixels must be square; these have "
            f"{pitch_z:g} mm along z and {pitch_u:g} mm across: export to stir or simind"
        )
    offset = float(np.abs(np.asarray(acquisition.u_offset_mm)).max())
    if offset > 0:
        raise InputError(
            f"the axis falls up to {offset:g} mm beside the middle of the detector, which PyTomography does not "
            "model: write the study as it was before its views were shifted, or reconstruct with spectac"
        )
    patient = dict(study.patient)
    if patient.get("Manufacturer", "").lower() == "mediso":
        patient["Manufacturer"] = "Mediso, by spectac"
    write_study(path, replace(study, patient=patient))
    data = dcmread(path)
    rows, columns = acquisition.matrix
    x, y, z = axis_position_mm(acquisition)
    half = 0.5 * (columns - 1) * pitch_u
    corner_y = y - half if abs(y - half) > _NOT_ZERO_MM else _NOT_ZERO_MM
    corner = np.array([x - half, corner_y, z + (rows - 1) * pitch_z])
    for item in data.DetectorInformationSequence:
        put_directions(item, np.array([1, 0, 0]), np.array([0, 1, 0]), corner)
    save(path, data)


def write_mu_array(path: str | os.PathLike[str], mu: MuMap) -> None:
    """Write a mu-map in 1/cm as PyTomography's array [x, y, z] (float32 .npy): x to left, y posterior, z superior.

    Parameters
    ----------
    path : path-like
        The file, .npy.
    mu : MuMap
        Values (z, y, x) in 1/cm.

    Raises
    ------
    OSError
        As the file system does.

    Examples
    --------
    >>> import tempfile
    >>> from spectac.recon.types import Grid
    >>> grid = Grid.upright((2, 3, 4), (4, 4, 4), (0, 0, 0))
    >>> file = tempfile.mkdtemp() + "/mu.npy"
    >>> write_mu_array(file, MuMap(np.zeros(grid.shape), grid, 140.5))
    >>> np.load(file).shape
    (4, 3, 2)
    """
    with written(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.ascontiguousarray(mu.per_cm.transpose(2, 1, 0), dtype=np.float32))
