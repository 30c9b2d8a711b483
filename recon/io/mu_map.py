"""Mu-maps from files of every format that has them: NIfTI, Interfile images, DICOM NM reconstructions."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from spectac.recon.ct import scale_energy
from spectac.recon.errors import FileError, InputError, naming
from spectac.recon.io import nifti
from spectac.recon.io.content import NIFTI_ENDINGS, refuse_packed
from spectac.recon.io.dicom import nm_read_image
from spectac.recon.io.dicom.elements import name_of, open_dicom, plain
from spectac.recon.io.dicom.patient_elements import read_patient
from spectac.recon.io.interfile import image as interfile_image
from spectac.recon.io.interfile.dialect import SIMIND
from spectac.recon.io.interfile.header import read_header
from spectac.recon.io.interfile.patient import read_patient as read_interfile_patient
from spectac.recon.io.open import format_of
from spectac.recon.types import Acquisition, MuMap

SAME_KEV = 1.0
"""Energies closer than this are the same."""

KINDS = "a mu-map is a NIfTI or Interfile image in 1/cm, or a DICOM NM reconstruction (RECON TOMO) whose unit is 1/cm"

_NO_UNIT = (None, "", "NONE", "1", "PROPCNTS")
"""What DICOM's Units says of an image whose unit it does not name."""

_MOST_LISTED = 8
"""Images of a folder that an error names."""


@dataclass(frozen=True)
class ReadMap:
    """A mu-map as a file has it.

    Parameters
    ----------
    mu : MuMap
        Values in 1/cm.
    notes : tuple of str
        Lines for the user.
    placed : bool
        True where it lies about the rotation axis, wherever that is.
    patient : mapping
        Whose map it is, by DICOM keyword, where the file says so.

    Examples
    --------
    >>> import numpy as np
    >>> from spectac.recon.types import Grid
    >>> grid = Grid.upright((2, 2, 2), (4, 4, 4), (0, 0, 0))
    >>> ReadMap(MuMap(np.full(grid.shape, 0.15), grid, 140.5), notes=(), placed=False).mu.energy_kev
    140.5
    """

    mu: MuMap
    notes: tuple[str, ...]
    placed: bool
    patient: Mapping[str, str] = field(default_factory=dict)


def read_mu_map(
    path: str | os.PathLike[str],
    acquisition: Acquisition,
    photopeak_kev: float,
    *,
    given_kev: float | None = None,
) -> ReadMap:
    """Mu-map of a file, or of a folder that holds one, at the energy of the photopeak.

    A map of another energy is converted voxel by voxel (ct.scale_energy), which a note says.

    Parameters
    ----------
    path : path-like
        NIfTI, an Interfile image, a DICOM NM reconstruction, or a folder with one of them.
    acquisition : Acquisition
        How the projections were taken; an Interfile map lies around its axis.
    photopeak_kev : float
        Energy of the result.
    given_kev : float
        Energy of the map; without it what its file says, else the photopeak's.

    Returns
    -------
    ReadMap
        Map in 1/cm at the energy of the photopeak, on the grid of its file.

    Raises
    ------
    InputError
        For folders without a map or with several, for other files, and for other units.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from spectac.recon.types import Grid
    >>> grid = Grid.upright((2, 2, 2), (4, 4, 4), (0, 0, 0))
    >>> file = tempfile.mkdtemp() + "/mu.nii.gz"
    >>> nifti.write_mu_map(file, MuMap(np.full(grid.shape, 0.1536), grid, 140.5))
    >>> acquisition = Acquisition([0, 90], [200, 200], (1, 2), (4, 4), [20, 20], "I-123", None)
    >>> round(float(read_mu_map(file, acquisition, 159.0).mu.per_cm.max()), 3)
    0.148
    """
    source, notes = _file(Path(path))
    read = _read(source, acquisition, photopeak_kev, given_kev)
    mu, notes = read.mu, [*notes, *read.notes]
    if given_kev is not None:
        if abs(mu.energy_kev - photopeak_kev) > SAME_KEV and abs(mu.energy_kev - given_kev) > SAME_KEV:
            notes.append(f"{source.name} says {mu.energy_kev:g} keV: {given_kev:g} keV was taken, as given")
        mu = replace(mu, energy_kev=float(given_kev))
    if abs(mu.energy_kev - photopeak_kev) > SAME_KEV:
        notes.append(
            f"the mu-map is at {mu.energy_kev:g} keV: each voxel was converted to {photopeak_kev:g} keV as the mixture "
            "of tissues that has its coefficient"
        )
        try:
            mu = scale_energy(mu, photopeak_kev)
        except InputError as error:
            origin = "as given" if given_kev is not None else "as it says (EnergyKeV); --mu-map-kev gives the true one"
            raise FileError(source, f"{error}: the map is at {mu.energy_kev:g} keV {origin}") from error
    return replace(read, mu=mu, notes=tuple(notes))


def _read(path: Path, acquisition: Acquisition, photopeak_kev: float, given_kev: float | None) -> ReadMap:
    kind = format_of(path)
    if kind == "Interfile":
        mu, notes = interfile_image.read_mu_map(path, acquisition, photopeak_kev)
        return ReadMap(mu, notes, True, _interfile_patient(path))
    if kind == "DICOM":
        mu, notes = _read_dicom(path, photopeak_kev)
        return ReadMap(mu, notes, False, read_patient(open_dicom(path, pixels=False)))
    if not path.name.lower().endswith(NIFTI_ENDINGS):
        refuse_packed(path)
        raise FileError(path, f"{KINDS}; NIfTI files end in .nii or .nii.gz")
    mu, notes = nifti.read_noted_mu_map(path, photopeak_kev, given_kev=given_kev)
    return ReadMap(mu, notes, False)


def _interfile_patient(path: Path) -> dict[str, str]:
    """Whose map it is, without the name that SIMIND makes of that of its output file."""
    header = read_header(path)
    patient = read_interfile_patient(header)
    return {key: text for key, text in patient.items() if key != "PatientName" or header.dialect is not SIMIND}


def _read_dicom(path: Path, energy_kev: float) -> tuple[MuMap, tuple[str, ...]]:
    """Mu-map at `energy_kev` of a DICOM NM reconstruction whose unit is plainly 1/cm, and notes.

    The unit is that of RealWorldValueMappingSequence or Units. Where neither names one, values that a slope makes those
    of tissue in 1/cm are taken for it, with a note. Raises InputError, saying how to convert, for all others.
    """
    convert = f"convert it to NIfTI in 1/cm (e.g. with dcm2niix, then scale its values) and give that file; {KINDS}"
    item = open_dicom(path, pixels=False)
    image_type = [part.upper() for part in item.texts("ImageType")]
    if "RECON TOMO" not in image_type:
        if item.text("Modality") == "CT" and "NM" not in image_type:
            raise FileError(path, "a DICOM CT slice, no map: attenuation ct takes the folder of its series")
        stated = plain("\\".join(image_type)) or "missing"
        raise FileError(path, f"{name_of('ImageType')} of this DICOM file is {stated[:80]}, not RECON TOMO: {convert}")
    volume = nm_read_image.read_volume(path, transmission=True)
    unit = volume.unit or volume.item.text("Units")
    factor = None if unit is None else nifti.per_cm_factor(unit)
    notes: tuple[str, ...] = ()
    if factor is None:
        if unit not in _NO_UNIT or not volume.scaled:
            raise FileError(
                path,
                f"a DICOM image whose unit is {unit or 'not said'}, not 1/cm "
                f"({name_of('RealWorldValueMappingSequence')}, {name_of('Units')}): {convert}",
            )
        factor, notes = 1.0, (f"{path.name} names no unit: its scaled values were taken for 1/cm",)
    values, clipped = nifti.without_rounding(volume.values * factor, path.name)
    with naming(path):
        return MuMap(values, volume.grid, energy_kev), (*notes, *clipped)


def _file(path: Path) -> tuple[Path, list[str]]:
    """The file itself, or the only map in a folder and a note that names it."""
    if not path.exists():
        raise FileError(path, "no such file or folder")
    if not path.is_dir():
        return path, []
    files = [entry for entry in sorted(path.iterdir()) if entry.is_file() and not entry.name.startswith(".")]
    maps = [entry for entry in files if _is_map(entry)]
    if len(maps) == 1:
        return maps[0], [f"{path.name} is a folder: its only map {maps[0].name} was used"]
    if maps:
        names = ", ".join(entry.name for entry in maps[:_MOST_LISTED]) + (", ..." if len(maps) > _MOST_LISTED else "")
        raise InputError(f"{path} is a folder with {len(maps)} images: give the file of the mu-map, one of {names}")
    series = any(format_of(entry) == "DICOM" for entry in files)
    hint = "; a CT is given as the folder of its series, for attenuation ct" if series else ""
    raise InputError(f"{path} is a folder without a mu-map among its {len(files)} files: {KINDS}{hint}")


def _is_map(path: Path) -> bool:
    """Tell whether a file of a folder is an image that may be a map."""
    kind = format_of(path)
    try:
        if kind == "DICOM":
            return "RECON TOMO" in [part.upper() for part in open_dicom(path, pixels=False).texts("ImageType")]
        if kind == "Interfile":
            return (read_header(path).text("process status") or "").lower() != "acquired"
    except InputError:
        return False
    return path.name.lower().endswith(NIFTI_ENDINGS)
