"""Mu-maps from files of every format that has them: NIfTI, Interfile images, DICOM NM reconstructions."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from spectac.recon.ct import scale_energy
from spectac.recon.errors import InputError, naming
from spectac.recon.io import nifti
from spectac.recon.io.dicom import nm_read_image
from spectac.recon.io.dicom.elements import looks_like_dicom, name_of, open_dicom, plain
from spectac.recon.io.dicom.patient_elements import read_patient
from spectac.recon.io.interfile import image as interfile_image
from spectac.recon.io.interfile import patient as interfile_patient
from spectac.recon.io.interfile.geometry import dialect_of
from spectac.recon.io.interfile.header import looks_like_interfile, read_header
from spectac.recon.io.packed import refuse_packed
from spectac.recon.types import Acquisition, MuMap

NIFTI = (".nii", ".nii.gz")
SAME_KEV = 1.0
KINDS = "a mu-map is a NIfTI or Interfile image in 1/cm, or a DICOM NM reconstruction (RECON TOMO) whose unit is 1/cm"


@dataclass(frozen=True)
class ReadMap:
    """A map, notes for the user, and whose it is, where the file says so.

    `placed`: True where it lies about the rotation axis, wherever that is.
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

    A map is at `given_kev`, else at the energy that its file says, else at the photopeak's. One of another energy is
    converted voxel by voxel (ct.scale_energy), which a note says.
    Raises InputError for folders without a map or with several, for other files, and for other units.
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
            said = "as given" if given_kev is not None else "as it says (EnergyKeV); --mu-map-kev gives the true energy"
            raise InputError(f"{source}: {error}: the map is at {mu.energy_kev:g} keV {said}") from error
    return replace(read, mu=mu, notes=tuple(notes))


def _read(path: Path, acquisition: Acquisition, photopeak_kev: float, given_kev: float | None) -> ReadMap:
    start = _start(path)
    if looks_like_interfile(start):
        mu, notes = interfile_image.read_mu_map(path, acquisition, photopeak_kev)
        return ReadMap(mu, notes, True, _interfile_patient(path))
    if looks_like_dicom(start):
        mu, notes = read_dicom(path, photopeak_kev)
        return ReadMap(mu, notes, False, read_patient(open_dicom(path, pixels=False)))
    if not path.name.lower().endswith(NIFTI):
        refuse_packed(path)
        raise InputError(f"{path}: {KINDS}; NIfTI files end in .nii or .nii.gz")
    mu, notes = nifti.read_noted_mu_map(path, photopeak_kev, given_kev=given_kev)
    return ReadMap(mu, notes, False)


def _interfile_patient(path: Path) -> dict[str, str]:
    """Whose map it is, without the name that SIMIND makes of that of its output file."""
    header = read_header(path)
    patient = interfile_patient.read_patient(header)
    if dialect_of(header)[0] == "SIMIND":
        patient.pop("PatientName", None)
    return patient


def read_dicom(path: str | os.PathLike[str], energy_kev: float) -> tuple[MuMap, tuple[str, ...]]:
    """Mu-map at `energy_kev` of a DICOM NM reconstruction whose unit is plainly 1/cm, and notes.

    The unit is that of RealWorldValueMappingSequence or Units. Where neither names one, values that a slope makes those
    of tissue in 1/cm are taken for it, with a note. Raises InputError, saying how to convert, for all others.
    """
    source = Path(path)
    convert = f"convert it to NIfTI in 1/cm (e.g. with dcm2niix, then scale its values) and give that file; {KINDS}"
    item = open_dicom(source, pixels=False)
    kind = [one.upper() for one in item.texts("ImageType")]
    if "RECON TOMO" not in kind:
        said = plain("\\".join(kind)) or "missing"
        if item.text("Modality") == "CT" and "NM" not in kind:
            raise InputError(f"{source}: a DICOM CT slice, no map: attenuation ct takes the folder of its series")
        raise InputError(
            f"{source}: {name_of('ImageType')} of this DICOM file is {said[:80]}, not RECON TOMO: {convert}"
        )
    volume = nm_read_image.read_volume(source, transmission=True)
    stated = volume.item.text("Units")
    unit = volume.unit or stated
    notes = []
    factor = None if unit is None else nifti.per_cm_factor(unit)
    if factor is None:
        if unit not in (None, "", "NONE", "1", "PROPCNTS") or not volume.scaled:
            raise InputError(
                f"{source}: a DICOM image whose unit is {unit or 'not said'}, not 1/cm "
                f"({name_of('RealWorldValueMappingSequence')}, {name_of('Units')}): {convert}"
            )
        factor = 1.0
        notes.append(f"{source.name} names no unit: its scaled values were taken for 1/cm")
    values, clipped = nifti.without_rounding(volume.values * factor, source.name)
    with naming(source):
        return MuMap(values, volume.grid, energy_kev), (*notes, *clipped)


def _file(path: Path) -> tuple[Path, list[str]]:
    """The file itself, or the only map in a folder and a note that names it."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not path.is_dir():
        return path, []
    files = [entry for entry in sorted(path.iterdir()) if entry.is_file() and not entry.name.startswith(".")]
    maps = [entry for entry in files if _is_map(entry)]
    if len(maps) == 1:
        return maps[0], [f"{path.name} is a folder: its only map {maps[0].name} was used"]
    if len(maps) > 1:
        listed = ", ".join(entry.name for entry in maps[:8]) + (", ..." if len(maps) > 8 else "")
        raise InputError(f"{path} is a folder with {len(maps)} images: give the file of the mu-map, one of {listed}")
    series = any(looks_like_dicom(_start(entry)) for entry in files)
    hint = "; a CT is given as the folder of its series, for attenuation ct" if series else ""
    raise InputError(f"{path} is a folder without a mu-map among its {len(files)} files: {KINDS}{hint}")


def _is_map(path: Path) -> bool:
    """Tell whether a file of a folder is an image that may be a map."""
    start = _start(path)
    if looks_like_dicom(start):
        try:
            return "RECON TOMO" in [one.upper() for one in open_dicom(path, pixels=False).texts("ImageType")]
        except InputError:
            return False
    if looks_like_interfile(start):
        try:
            return (read_header(path).text("process status") or "").lower() != "acquired"
        except InputError:
            return False
    return path.name.lower().endswith(NIFTI)


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(4096)
