"""NIfTI images and mu-maps. NIfTI's world is RAS+; ours is LPS: the one place where the two meet is here."""

import gzip
import itertools
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from spectac.recon.errors import FileError, InputError, naming
from spectac.recon.io.atomic import written
from spectac.recon.io.content import nifti_side_car, refuse_packed
from spectac.recon.types import Array, Grid, Image, MuMap

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ZYX = [2, 1, 0, 3]
"""Columns of the affine: ours belong to (z, y, x, 1), NIfTI's to (x, y, z, 1)."""

_MM_PER = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""By the lowest three bits of xyzt_units: unknown, metres, millimetres, microns."""

_CODES = {1: "scanner", 2: "aligned", 5: "another template", 3: "Talairach", 4: "MNI"}
"""NIfTI's codes of a transform, from the scanner's own millimetres outwards."""

_PER_CM = {"1cm": 1.0, "/cm": 1.0, "cm-1": 1.0, "1/cm": 1.0, "cm^-1": 1.0, "/mm": 10.0, "mm-1": 10.0, "1/mm": 10.0}
"""Side-cars' units, DICOM's Units and UCUM codes of attenuation coefficients, and what makes them 1/cm."""

ROUNDED_PER_CM = 1e-3
"""Values of a map less than this below 0 are air after interpolation or rounding: 1 % of water at 511 keV."""

_SAME_MM = 0.1
"""sform and qform that place every voxel within this are the same: a qform's float32 quaternion rounds."""


def write_image(path: str | os.PathLike[str], image: Image, about: Mapping[str, object] | None = None) -> None:
    """Write an image as NIfTI (float32), with unit and history in a JSON side-car of the same name.

    Parameters
    ----------
    path : path-like
        The file, .nii or .nii.gz.
    image : Image
        Values (z, y, x). The affine is exact to NIfTI-1's float32.
    about : mapping
        Further keys of the side-car, ready for JSON (see sidecar.bids_keys). Units and History are the image's.

    Raises
    ------
    InputError
        For another ending.
    OSError
        As the file system does.

    Examples
    --------
    >>> import tempfile
    >>> grid = Grid.upright((2, 2, 2), (4, 4, 4), (0, 0, 0))
    >>> file = tempfile.mkdtemp() + "/image.nii.gz"
    >>> write_image(file, Image(np.ones(grid.shape), grid, "cps/mL"))
    >>> read_image(file).unit
    'cps/mL'
    """
    notes = {**(about or {}), "Units": image.unit, "History": list(image.history)}
    _write(path, image.values.astype(np.float32), image.grid, notes, image.unit)


def write_mu_map(
    path: str | os.PathLike[str], mu: MuMap, notes: Sequence[str] = (), about: Mapping[str, float] | None = None
) -> None:
    """Write a mu-map in 1/cm as NIfTI (float32), with its energy in a JSON side-car of the same name.

    Parameters
    ----------
    path : path-like
        The file, .nii or .nii.gz.
    mu : MuMap
        Values (z, y, x) in 1/cm.
    notes : sequence of str
        Where the map came from, for the side-car.
    about : mapping
        More keys for the side-car.

    Raises
    ------
    InputError
        For another ending.
    OSError
        As the file system does.

    Examples
    --------
    >>> import tempfile
    >>> grid = Grid.upright((2, 2, 2), (4, 4, 4), (0, 0, 0))
    >>> file = tempfile.mkdtemp() + "/mu.nii.gz"
    >>> write_mu_map(file, MuMap(np.full(grid.shape, 0.15), grid, 159.0))
    >>> read_mu_map(file, energy_kev=140.5).energy_kev
    159.0
    """
    keys: dict[str, Any] = {"Units": "1/cm", "EnergyKeV": mu.energy_kev, **(about or {})}
    if notes:
        keys["Notes"] = list(notes)
    _write(path, mu.per_cm.astype(np.float32), mu.grid, keys, f"mu 1/cm at {mu.energy_kev:g} keV")


def write_labels(path: str | os.PathLike[str], labels: Array, grid: Grid, names: Mapping[int, str]) -> None:
    """Write labels as NIfTI (uint8), with the regions' names in a JSON side-car.

    Parameters
    ----------
    path : path-like
        The file, .nii or .nii.gz.
    labels : array (z, y, x)
        Whole numbers from 0 to 255.
    grid : Grid
        Where the voxels lie.
    names : mapping
        Name of the region of each label.

    Raises
    ------
    InputError
        For another ending.
    OSError
        As the file system does.

    Examples
    --------
    >>> import tempfile
    >>> grid = Grid.upright((2, 2, 2), (4, 4, 4), (0, 0, 0))
    >>> file = tempfile.mkdtemp() + "/labels.nii.gz"
    >>> write_labels(file, np.ones(grid.shape), grid, {1: "putamen"})
    >>> read_labels(file)[2]
    {1: 'putamen'}
    """
    notes = {"Units": "label", "Names": {str(label): name for label, name in names.items()}}
    _write(path, labels.astype(np.uint8), grid, notes, "labels")


def read_mu_map(path: str | os.PathLike[str], energy_kev: float) -> MuMap:
    """Mu-map as `read_noted_mu_map` reads it, without the notes.

    Parameters
    ----------
    path : path-like
        A NIfTI file, .nii or .nii.gz.
    energy_kev : float
        Photon energy of the map in keV unless the side-car's "EnergyKeV" says otherwise.

    Returns
    -------
    MuMap
        Map in 1/cm.

    Raises
    ------
    InputError
        As `read_noted_mu_map` does.

    Examples
    --------
    >>> import tempfile
    >>> grid = Grid.upright((2, 2, 2), (4, 4, 4), (0, 0, 0))
    >>> file = tempfile.mkdtemp() + "/mu.nii.gz"
    >>> write_mu_map(file, MuMap(np.full(grid.shape, 0.15), grid, 140.5))
    >>> round(float(read_mu_map(file, energy_kev=140.5).per_cm.max()), 3)
    0.15
    """
    return read_noted_mu_map(path, energy_kev)[0]


def read_noted_mu_map(
    path: str | os.PathLike[str], energy_kev: float, *, given_kev: float | None = None
) -> tuple[MuMap, tuple[str, ...]]:
    """Mu-map in 1/cm, and notes for the user.

    Parameters
    ----------
    path : path-like
        A NIfTI file, .nii or .nii.gz.
    energy_kev : float
        Photon energy of the map unless the side-car's "EnergyKeV" says otherwise.
    given_kev : float
        Photon energy of the map where the side-car's is no number.

    Returns
    -------
    MuMap
        Map in 1/cm.
    tuple of str
        Conversion of the unit, values set to 0, and what of the file's placement was taken.

    Raises
    ------
    InputError
        For what is not a 3-D NIfTI with a position, for NaN and negative values, and for another unit.

    Examples
    --------
    >>> import tempfile
    >>> grid = Grid.upright((2, 2, 2), (4, 4, 4), (0, 0, 0))
    >>> folder = tempfile.mkdtemp()
    >>> write_mu_map(folder + "/mu.nii.gz", MuMap(np.full(grid.shape, 0.015), grid, 140.5))
    >>> _ = Path(folder, "mu.json").write_text('{"Units": "1/mm"}')
    >>> read_noted_mu_map(folder + "/mu.nii.gz", 140.5)[1]
    ('mu.nii.gz: its values in 1/mm were converted to 1/cm',)
    """
    source = Path(path)
    values, grid, about, notes = _read(source)
    unit = about.get("Units", "1/cm")
    factor = per_cm_factor(unit) if isinstance(unit, str) else None
    if factor is None:
        raise FileError(_side_car(source), f"'Units' is {unit!r}: a mu-map must be in 1/cm")
    if factor != 1.0:
        values = values * np.float32(factor)
        notes.append(f"{source.name}: its values in {unit} were converted to 1/cm")
    energy = about.get("EnergyKeV", energy_kev)
    if isinstance(energy, bool) or not isinstance(energy, (int, float)) or not 0 < energy < 1e30:
        if given_kev is None:
            raise FileError(
                _side_car(source),
                f"'EnergyKeV' must be a number above 0, got {energy!r}: correct it, or give the energy with "
                "--mu-map-kev",
            )
        energy = given_kev
    values, clipped = without_rounding(values, source.name)
    with naming(path):
        return MuMap(values, grid, float(energy)), (*notes, *clipped)


def per_cm_factor(unit: str) -> float | None:
    """Factor from a unit to 1/cm, None for a unit that is none of attenuation coefficients.

    Parameters
    ----------
    unit : str
        Text of a side-car, of DICOM's Units, or a UCUM code; capitals and blanks around it do not count.

    Returns
    -------
    float or None
        1 for 1/cm, 10 for 1/mm.

    Examples
    --------
    >>> per_cm_factor("1/mm"), per_cm_factor("HU")
    (10.0, None)
    """
    # UCUM codes are told apart by case, DICOM's defined terms are capitals.
    return _PER_CM.get(unit.strip().lower())


def without_rounding(values: Array, name: str) -> tuple[Array, tuple[str, ...]]:
    """Values in 1/cm, those that lie less than ROUNDED_PER_CM below 0 set to 0, and a note about it.

    Parameters
    ----------
    values : array
        Attenuation coefficients in 1/cm, in any shape.
    name : str
        Name of the file, for the note.

    Returns
    -------
    array
        The values. They stay as they are where the lowest is ROUNDED_PER_CM or more below 0.
    tuple of str
        The note; empty where no value was changed.

    Examples
    --------
    >>> without_rounding(np.array([-0.0004, 0.15]), "mu.nii.gz")[1]
    ('mu.nii.gz: 1 values below 0, the lowest -0.0004 /cm, were set to 0',)
    """
    lowest = values.min(initial=0.0)
    if not -ROUNDED_PER_CM < lowest < 0:
        return values, ()
    many = int((values < 0).sum())
    return np.maximum(values, 0), (f"{name}: {many} values below 0, the lowest {lowest:.2g} /cm, were set to 0",)


def read_image(path: str | os.PathLike[str], unit: str = "relative") -> Image:
    """Image (z, y, x) of a NIfTI file, with the history that its side-car holds.

    Parameters
    ----------
    path : path-like
        A NIfTI file, .nii or .nii.gz.
    unit : str
        Unit of the values unless the side-car's "Units" says otherwise.

    Returns
    -------
    Image
        Values (z, y, x) float32 in the unit of the side-car.

    Raises
    ------
    InputError
        For what is not a 3-D NIfTI with a position, and for NaN.

    Examples
    --------
    >>> import tempfile
    >>> grid = Grid.upright((2, 2, 2), (4, 4, 4), (0, 0, 0))
    >>> file = tempfile.mkdtemp() + "/image.nii.gz"
    >>> write_image(file, Image(np.ones(grid.shape), grid, "cps/mL", history=("OSEM",)))
    >>> read_image(file).history
    ('OSEM',)
    """
    source = Path(path)
    values, grid, about, notes = _read(source)
    history = about.get("History", [])
    if not isinstance(history, list) or not all(isinstance(line, str) for line in history):
        raise FileError(_side_car(source), "'History' must be a list of texts")
    with naming(path):
        return Image(values, grid, about.get("Units", unit), history=(*history, *notes))


def placement_notes(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """A note where a file's sform and qform place it differently: which was taken, and how far apart they are.

    Parameters
    ----------
    path : path-like
        A NIfTI file, .nii or .nii.gz.

    Returns
    -------
    tuple of str
        Also a note where one of the two cannot place an image. Empty where both agree, or one alone is set.

    Raises
    ------
    InputError
        As reading the file does.

    Examples
    --------
    >>> import tempfile
    >>> image = nibabel.Nifti1Image(np.ones((2, 2, 2), np.float32), np.eye(4))
    >>> image.set_qform(np.diag([3.0, 3.0, 3.0, 1.0]), code=1)
    >>> file = tempfile.mkdtemp() + "/image.nii"
    >>> nibabel.save(image, file)
    >>> len(placement_notes(file))
    1
    """
    with _quiet(Path(path)):
        return tuple(_affine_ras(_load(Path(path)), Path(path))[1])


def read_labels(path: str | os.PathLike[str]) -> tuple[Array, Grid, dict[int, str]]:
    """Labels of a NIfTI file, their grid, and the names that the side-car gives them.

    Parameters
    ----------
    path : path-like
        A NIfTI file, .nii or .nii.gz.

    Returns
    -------
    array
        Labels (z, y, x) int64.
    Grid
        Where the voxels lie.
    dict of int to str
        Name of each label; empty where the side-car has none.

    Raises
    ------
    InputError
        For what is not a 3-D NIfTI with a position, and for values that are no labels.

    Examples
    --------
    >>> import tempfile
    >>> grid = Grid.upright((1, 1, 2), (4, 4, 4), (0, 0, 0))
    >>> file = tempfile.mkdtemp() + "/labels.nii.gz"
    >>> write_labels(file, np.array([[[0, 7]]]), grid, {7: "caudate"})
    >>> read_labels(file)[0].tolist()
    [[[0, 7]]]
    """
    source = Path(path)
    values, grid, about, _ = _read(source)
    if not (np.isfinite(values).all() and values.min(initial=0) >= 0 and (values == np.rint(values)).all()):
        raise FileError(source, "labels must be whole numbers of at least 0")
    names = about.get("Names", {})
    if not isinstance(names, dict) or not all(str(label).isdigit() for label in names):
        raise FileError(_side_car(source), "'Names' must give a name to each label's number")
    return values.astype(np.int64), grid, {int(label): str(name) for label, name in names.items()}


def side_car_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Contents of the JSON side-car of a NIfTI file.

    Parameters
    ----------
    path : path-like
        The NIfTI file, or any other.

    Returns
    -------
    dict
        Values by key; empty without a side-car.

    Raises
    ------
    InputError
        For a side-car that is no JSON object.

    Examples
    --------
    >>> side_car_of("nowhere.nii.gz")
    {}
    """
    side_car = nifti_side_car(Path(path))
    return {} if side_car is None else _read_side_car(side_car)


def _side_car(path: Path) -> Path:
    side_car = nifti_side_car(path)
    if side_car is None:
        raise FileError(path, "a NIfTI file must end in .nii or .nii.gz")
    return side_car


def _write(path: str | os.PathLike[str], values: Array, grid: Grid, notes: dict[str, Any], about: str) -> None:
    target = Path(path)
    side_car = _side_car(target)
    affine_ras = _LPS_FROM_RAS @ grid.affine_lps[:, _ZYX]
    file = nibabel.Nifti1Image(np.ascontiguousarray(values.transpose(2, 1, 0)), affine_ras)
    file.set_sform(affine_ras, code="scanner")
    file.set_qform(affine_ras, code="scanner")
    file.header.set_xyzt_units("mm", "sec")
    file.header["descrip"] = about.encode("ascii", "replace")[:79]
    with written(target) as temporary, written(side_car) as temporary_notes:
        nibabel.save(file, temporary)
        temporary_notes.write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")


def _load(path: Path) -> nibabel.Nifti1Image:
    """The file opened; InputError for another of nibabel's formats."""
    file = nibabel.load(path)
    if not isinstance(file, nibabel.Nifti1Image):
        raise FileError(path, f"{type(file).__name__}, not a NIfTI file")
    return file


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused where it is used
def _read(path: Path) -> tuple[Array, Grid, dict[str, Any], list[str]]:
    """Values (z, y, x) float32, z nearest to superior, y to posterior, x to left; their grid; side-car; notes."""
    if not path.is_file():
        raise FileError(path, "no such file")
    about = _read_side_car(_side_car(path))
    if not path.name.lower().endswith(".gz"):
        refuse_packed(path)
    with _quiet(path):
        file = _load(path)
        _check_length(file, path)
        data = np.asanyarray(file.dataobj)
    shape = data.shape
    if len(shape) > 3 and all(length == 1 for length in shape[3:]):
        data = data.reshape(shape[:3])
    if data.ndim != 3:
        raise FileError(path, f"one 3-D image is needed, it holds an array of shape {shape}")
    if data.dtype.kind not in "fiu":
        raise FileError(path, f"real numbers are needed, it holds {data.dtype}")
    affine, notes = _affine_ras(file, path)
    nearest = nibabel.orientations.io_orientation(affine)
    turn = nibabel.orientations.ornt_transform(nearest, nibabel.orientations.axcodes2ornt("LPS"))
    turned = nibabel.orientations.apply_orientation(data, turn).transpose(2, 1, 0)
    affine_lps = _LPS_FROM_RAS @ (affine @ nibabel.orientations.inv_ornt_aff(turn, data.shape))[:, _ZYX]
    lengths = np.linalg.norm(affine_lps[:3, :3], axis=0)
    grid = Grid(turned.shape, tuple(lengths.tolist()), affine_lps)
    return np.ascontiguousarray(turned, dtype=np.float32), grid, about, notes


def _check_length(file: nibabel.Nifti1Image, path: Path) -> None:
    """InputError where the file holds less than its header promises: nibabel reserves memory for it beforehand."""
    promised = int(file.header.get_data_offset()) + math.prod(file.shape) * int(file.header.get_data_dtype().itemsize)
    if min(file.shape, default=0) < 1:
        raise FileError(path, f"its header gives an array of shape {file.shape}: it is damaged or holds no image")
    held = 0
    if path.name.lower().endswith(".gz"):
        with gzip.open(path) as content:
            while held < promised and (piece := content.read(min(1 << 20, promised - held))):
                held += len(piece)
    else:
        held = path.stat().st_size
    if held < promised:
        raise FileError(
            path, f"holds {held} bytes, its header promises {promised} for shape {file.shape}: damaged or cut short"
        )


@contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """What nibabel raises as one InputError; what it logs about a header that it mends stays out of the terminal."""
    logger = nibabel.imageglobals.logger
    before, logger.disabled = logger.disabled, True
    try:
        yield
    except InputError:
        raise
    except (ImageFileError, HeaderDataError, OSError, EOFError, OverflowError, zlib.error, ValueError) as error:
        raise FileError(path, f"not a NIfTI file, damaged or cut short ({' '.join(str(error).split())})") from error
    finally:
        logger.disabled = before


@np.errstate(over="ignore", invalid="ignore")
def _affine_ras(file: nibabel.Nifti1Image, path: Path) -> tuple[Array, list[str]]:
    """Affine in mm, and a note where sform and qform differ or one of them is unfit.

    Where both are set and fit the one whose code lies nearer to the scanner's millimetres is taken, of equals the
    sform. InputError where neither is set, or none is without NaN, shear and axes of length 0.
    """
    unit = int(file.header["xyzt_units"]) & 7
    if unit not in _MM_PER:
        raise FileError(path, f"xyzt_units holds {unit} as unit of length; NIfTI knows 0 to 3")
    fit, unfit = [], []
    for name in ("sform", "qform"):
        affine, code, fault = _form(file, name, _MM_PER[unit])
        if fault:
            unfit.append(f"its {name} {fault}")
        elif code:
            fit.append((name, code, affine))
    if not fit and unfit:
        raise FileError(path, f"{' and '.join(unfit)}: resample it to a plain grid first")
    if not fit:
        raise FileError(path, "neither sform nor qform is set, so where the image lies is unknown: set one")
    rank = [*_CODES]
    (name, code, affine), *others = sorted(fit, key=lambda form: rank.index(form[1]) if form[1] in rank else len(rank))
    notes = [f"{path.name}: {fault}: the {name} was used" for fault in unfit]
    for other, other_code, other_affine in others:
        apart_mm, turn_deg = _apart(affine, other_affine, file.shape)
        if apart_mm > _SAME_MM:
            notes.append(
                f"{path.name}: its {name} (code {code}, {_CODES.get(code, 'unknown')}) and {other} (code {other_code}, "
                f"{_CODES.get(other_code, 'unknown')}) place it up to {apart_mm:.1f} mm and {turn_deg:.1f} deg apart: "
                f"the {name} was used; if that is wrong copy the {other} over it"
            )
    return affine, notes


def _form(file: nibabel.Nifti1Image, name: str, mm: float) -> tuple[Array, int, str]:
    """Affine in mm of a file's "sform" or "qform", its code (0: not set), and why it cannot place an image ("")."""
    try:
        affine, code = getattr(file, f"get_{name}")(coded=True)
    except (HeaderDataError, ValueError, ArithmeticError) as error:
        return np.eye(4), 0, f"cannot be read ({error})"
    if affine is None or not code:
        return np.eye(4), 0, ""
    affine = np.array(affine, dtype=np.float64)
    affine[:3] *= mm
    if not np.isfinite(affine).all():
        return affine, int(code), "holds NaN or infinity"
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() <= 0:
        return affine, int(code), "has an axis of length 0"
    cosines = affine[:3, :3] / lengths
    # 1e-3 is a shear of a tenth of a millimetre across a voxel row of 10 cm; float32 affines are good to 1e-6.
    sheared = np.abs(cosines.T @ cosines - np.eye(3)).max() > 1e-3
    return affine, int(code), "has axes that are not at right angles (shear)" if sheared else ""


def _apart(one: Array, other: Array, shape: tuple[int, ...]) -> tuple[float, float]:
    """Largest distance in mm of a corner between two placements, and the angle between their axes in degrees."""
    corners = np.array(list(itertools.product(*((0, max(0, size - 1)) for size in shape[:3]))), float)
    far = np.linalg.norm(corners @ (one - other)[:3, :3].T + (one - other)[:3, 3], axis=1)
    axes = [matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (one, other)]
    turn = axes[0] @ axes[1].T
    cosine = np.clip(0.5 * (np.trace(turn) - 1.0), -1.0, 1.0) if np.linalg.det(turn) > 0 else -1.0
    return float(far.max()), float(np.degrees(np.arccos(cosine)))


def _read_side_car(path: Path) -> dict[str, Any]:
    """Contents of the JSON side-car, empty without one."""
    if not path.is_file():
        return {}
    try:
        notes = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise FileError(path, f"not JSON ({error})") from error
    if not isinstance(notes, dict):
        raise FileError(path, f"a JSON object is needed, it holds a {type(notes).__name__}")
    return notes
