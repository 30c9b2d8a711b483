"""Interfile out, as the readers of STIR and SIMIND's users take it: projections of one even sweep, and mu-maps.

One header and one float32 file for each energy window. Angles, rows and the axes of maps are mapped as dialect.py says.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.geometry import default_grid
from spectac.recon.io.atomic import written
from spectac.recon.io.interfile.dialect import SIMIND, STIR, Dialect
from spectac.recon.io.interfile.orbit import SMALLEST_RADIUS_MM
from spectac.recon.io.interfile.sweep import Sweep, even_sweep
from spectac.recon.nuclides import nuclide
from spectac.recon.types import Acquisition, Array, EnergyWindow, MuMap, Study

_ELEMENTS = {
    "Tc": "Technetium", "I": "Iodine", "In": "Indium", "Tl": "Thallium", "Lu": "Lutetium", "Xe": "Xenon",
    "Ga": "Gallium", "Sm": "Samarium",
}  # fmt: skip


def write_stir_study(folder: str | os.PathLike[str], study: Study, name: str = "projections") -> list[Path]:
    """Write NAME_w1.hs and .s, NAME_w2.hs ... for STIR.

    Parameters
    ----------
    folder : path-like
        Where the files go.
    study : Study
        One even sweep of views.
    name : str
        Beginning of the files' names.

    Returns
    -------
    list of Path
        Headers in the order of the study's windows.

    Raises
    ------
    InputError
        For what such a header cannot say: uneven views, unequal view times, an axis that is not in the middle of the
        detector.

    Examples
    --------
    >>> import tempfile
    >>> acquisition = Acquisition([0, 90, 180, 270], [150] * 4, (2, 3), (4, 4), [20] * 4, "Tc-99m", None)
    >>> study = Study(acquisition, (EnergyWindow("peak", 126, 154),), np.ones((1, 4, 2, 3)))
    >>> [path.name for path in write_stir_study(tempfile.mkdtemp(), study)]
    ['projections_w1.hs']
    """
    acquisition = study.acquisition
    _refuse_unsayable(acquisition, "STIR's Interfile")
    sweep = even_sweep(acquisition)

    def header(window: EnergyWindow, frames: Array, data: str) -> str:
        return _stir_header(acquisition, sweep, window, data)

    return _write_windows(Path(folder) / f"{name}_w", (".hs", ".s"), study, sweep, header)


def write_simind_study(folder: str | os.PathLike[str], study: Study, name: str = "projections") -> list[Path]:
    """Write NAME_tot_w1.h00 and .a00, ... and, for an orbit that is not circular, NAME.cor for SIMIND's users.

    Lengths are in mm, as in SIMIND's version 8, but for the orbit file, which is in cm in all versions. The sweep is
    counter-clockwise whatever the camera's, for readers disagree on where a clockwise one of SIMIND begins.

    Parameters
    ----------
    folder : path-like
        Where the files go.
    study : Study
        One even sweep of views.
    name : str
        Beginning of the files' names.

    Returns
    -------
    list of Path
        Headers in the order of the study's windows.

    Raises
    ------
    InputError
        As write_stir_study, and for radii that a reader would take for the other unit.

    Examples
    --------
    >>> import tempfile
    >>> acquisition = Acquisition([0, 90, 180, 270], [150] * 4, (2, 3), (4, 4), [20] * 4, "Tc-99m", None)
    >>> study = Study(acquisition, (EnergyWindow("peak", 126, 154),), np.ones((1, 4, 2, 3)))
    >>> [path.name for path in write_simind_study(tempfile.mkdtemp(), study)]
    ['projections_tot_w1.h00']
    """
    acquisition = study.acquisition
    _refuse_unsayable(acquisition, "SIMIND's Interfile")
    radii = acquisition.radii_mm
    if not (radii.min() >= SMALLEST_RADIUS_MM and radii.max() < 10 * SMALLEST_RADIUS_MM):
        raise InputError(
            f"SIMIND's radii are told apart as mm or cm by their size, which needs {SMALLEST_RADIUS_MM:g} to "
            f"{10 * SMALLEST_RADIUS_MM:g} mm, got {radii.min():g} to {radii.max():g} mm"
        )
    sweep = even_sweep(acquisition, clockwise=False)
    orbit = f"orbit := circular\n;#Radius := {_exact(radii[0])}"
    if np.ptp(radii) > 0:
        orbit = f"orbit := noncircular\n;# Non-Uniform Orbit File := {name}.cor"
        with written(Path(folder) / f"{name}.cor") as temporary:
            temporary.write_text("".join(f"{_exact(radius / 10.0)}\n" for radius in radii[sweep.order].tolist()))

    def header(window: EnergyWindow, frames: Array, data: str) -> str:
        views = _simind_views(acquisition, sweep, frames, orbit)
        return _simind_header(acquisition, window, data) + views + _simind_specific(acquisition)

    return _write_windows(Path(folder) / f"{name}_tot_w", (".h00", ".a00"), study, sweep, header)


def _write_windows(
    stem: Path,
    endings: tuple[str, str],
    study: Study,
    sweep: Sweep,
    header: Callable[[EnergyWindow, Array, str], str],
) -> list[Path]:
    """Write a header and a data file for each window; their names sort in the order of the windows."""
    width = len(str(len(study.windows)))
    paths = []
    for number, window in enumerate(study.windows):
        path = stem.with_name(f"{stem.name}{number + 1:0{width}d}{endings[0]}")
        data = path.stem + endings[1]
        frames = study.counts[number][sweep.order, ::-1]
        _write(path, data, header(window, frames, data), frames)
        paths.append(path)
    return paths


def write_stir_mu_map(path: str | os.PathLike[str], mu: MuMap, acquisition: Acquisition) -> None:
    """Write a mu-map in 1/cm as STIR's Interfile image (.hv and .v) for projections written by write_stir_study.

    Parameters
    ----------
    path : path-like
        The header, .hv.
    mu : MuMap
        Values on the reconstruction's grid (geometry.default_grid).
    acquisition : Acquisition
        How the projections were taken.

    Raises
    ------
    InputError
        For another grid: STIR's projector takes no other.

    Examples
    --------
    >>> import tempfile
    >>> from spectac.recon.geometry import default_grid
    >>> acquisition = Acquisition([0, 90, 180, 270], [150] * 4, (2, 3), (4, 4), [20] * 4, "Tc-99m", None)
    >>> grid = default_grid(acquisition)
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_stir_mu_map(folder / "mu.hv", MuMap(np.zeros(grid.shape), grid, 140.5), acquisition)
    >>> sorted(path.name for path in folder.iterdir())
    ['mu.hv', 'mu.v']
    """
    values, data = _map_values(mu, acquisition, STIR), f"{Path(path).stem}.v"
    nz, ny, nx = values.shape
    dz, dy, dx = map(_exact, mu.grid.voxel_mm)
    keys = f"""!INTERFILE  :=
!imaging modality := nucmed
name of data file := {data}
!GENERAL DATA :=
!GENERAL IMAGE DATA :=
!type of data := PET
imagedata byte order := LITTLEENDIAN
;Units of data := 1/cm
;Photon energy (keV) := {_exact(mu.energy_kev)}
!PET STUDY (General) :=
!PET data type := Image
process status := Reconstructed
!number format := float
!number of bytes per pixel := 4
number of dimensions := 3
matrix axis label [1] := x
!matrix size [1] := {nx}
scaling factor (mm/pixel) [1] := {dx}
matrix axis label [2] := y
!matrix size [2] := {ny}
scaling factor (mm/pixel) [2] := {dy}
matrix axis label [3] := z
!matrix size [3] := {nz}
scaling factor (mm/pixel) [3] := {dz}
number of time frames := 1
!END OF INTERFILE :=
"""
    _write(Path(path), data, keys, values)


def write_simind_mu_map(path: str | os.PathLike[str], mu: MuMap, acquisition: Acquisition) -> None:
    """Write a mu-map in 1/cm as SIMIND's aligned map (.hct and .ict, "mu") for projections of write_simind_study.

    Parameters
    ----------
    path : path-like
        The header, .hct.
    mu : MuMap
        Values on the reconstruction's grid (geometry.default_grid).
    acquisition : Acquisition
        How the projections were taken.

    Raises
    ------
    InputError
        For another grid.

    Examples
    --------
    >>> import tempfile
    >>> from spectac.recon.geometry import default_grid
    >>> acquisition = Acquisition([0, 90, 180, 270], [150] * 4, (2, 3), (4, 4), [20] * 4, "Tc-99m", None)
    >>> grid = default_grid(acquisition)
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_simind_mu_map(folder / "mu.hct", MuMap(np.zeros(grid.shape), grid, 140.5), acquisition)
    >>> sorted(path.name for path in folder.iterdir())
    ['mu.hct', 'mu.ict']
    """
    values, data = _map_values(mu, acquisition, SIMIND), f"{Path(path).stem}.ict"
    nz, ny, nx = values.shape
    dz, dy, dx = mu.grid.voxel_mm
    keys = f"""{_simind_program(data)}!study ID := Aligned CT Map
exam type := CT DATA

!GENERAL IMAGE DATA :=
!type of data := tomographic
imagedata byte order := LITTLEENDIAN
!total number of images := {nz}
!SPECT STUDY (General) :=
!matrix size [1] := {nx}
!matrix size [2] := {ny}
!matrix size [3] := {nz}
scaling factor (mm/pixel) [1] := {_exact(dx)}
scaling factor (mm/pixel) [2] := {_exact(dy)}
;# scaling factor (mm/pixel) [3] := {_exact(dz)}
;# Image Position First image := {-0.5 * nx * dx:.4f} {-0.5 * ny * dy:.4f} {0.5 * nz * dz:.4f}
;# Image Orientation := 1.000 0.000 0.000 0.000 1.000 0.000
!number of bytes per pixel := 4
!number format := short float
;# Units of data (ECT) := mu
;# Photon energy (keV) := {_exact(mu.energy_kev)}
!process status := reconstructed
maximum pixel count := {float(values.max()):.6f}

!END OF INTERFILE :=
"""
    _write(Path(path), data, keys, values)


def _map_values(mu: MuMap, acquisition: Acquisition, dialect: Dialect) -> Array:
    """Values of a map on the reconstruction's grid in the order of the file; InputError for another grid."""
    grid = default_grid(acquisition)
    if not mu.grid.same_as(grid):
        raise InputError(
            f"the mu-map's grid {mu.grid.shape} of {mu.grid.voxel_mm} mm is not that of the reconstruction, "
            f"{grid.shape} of {grid.voxel_mm} mm around the axis: put it there with resample.map_on_grid"
        )
    return dialect.mu_values(np.asarray(mu.per_cm))


def _refuse_unsayable(acquisition: Acquisition, dialect: str) -> None:
    """InputError for geometry and times that no key of the header can hold."""
    if acquisition.foci:
        raise InputError(f"{dialect} has no key for a fan-beam focus: reconstruct with spectac, or write HDF5 or DICOM")
    offset = float(np.abs(np.asarray(acquisition.u_offset_mm)).max())
    if offset > 0:
        raise InputError(
            f"the axis falls up to {offset:g} mm beside the middle of the detector, which {dialect} cannot say: "
            "write the study as it was before its views were shifted, or reconstruct with spectac"
        )
    seconds = acquisition.view_seconds
    if acquisition.times_known and np.ptp(seconds) > 1e-3 * seconds.max():
        raise InputError(
            f"view times go from {seconds.min():g} to {seconds.max():g} s, but {dialect} has one for all views, and "
            "counts are not scaled silently: reconstruct with spectac, or write HDF5"
        )


def _write(path: Path, data: str, keys: str, values: Array) -> None:
    """Write the numbers as little-endian float32 into the file `data` beside the header."""
    # The header appears last: it never names numbers that are not there.
    with written(path) as header, written(path.with_name(data)) as numbers:
        np.ascontiguousarray(values, dtype="<f4").tofile(numbers)
        header.write_text(keys, encoding="utf-8")


def _placed(acquisition: Acquisition) -> str:
    """Posture keys of a head-first, supine patient; spectac's angles are the patient's whatever the posture."""
    if acquisition.patient_position != "HFS":
        return ""
    return "patient orientation := head_in\npatient rotation := supine\n"


def _plain(window: EnergyWindow) -> str:
    """Name of a window on one line, without what would make it a key or a list."""
    return " ".join(window.name.replace("{", "(").replace("}", ")").replace(":=", "=").split())


def _exact(value: float) -> str:
    """Number that reads back to the bit, whatever its type."""
    return repr(float(value))


def _short(value: float) -> str:
    """Number to 1e-10: 360 where a product of thirds came to 360.00000000000006."""
    return repr(round(value, 10))


def _arc(sweep: Sweep, dialect: Dialect) -> tuple[str, str]:
    """Extent of rotation and start angle as a dialect has them."""
    start = dialect.start_deg(sweep.start_deg) % 360.0
    return _short(abs(sweep.step_deg) * len(sweep.order)), _short(start)


def _stir_header(acquisition: Acquisition, sweep: Sweep, window: EnergyWindow, data: str) -> str:
    element, mass = nuclide(acquisition.nuclide).symbol.split("-")
    rows, columns = acquisition.matrix
    pitch_z, pitch_u = map(_exact, acquisition.pixel_mm)
    extent, start = _arc(sweep, STIR)
    radii = [*map(_exact, acquisition.radii_mm[sweep.order])]
    orbit = f"orbit := non-circular\nradii := {{{', '.join(radii)}}}"
    if len(set(radii)) == 1:
        orbit = f"orbit := circular\nradius := {radii[0]}"
    times = ""
    if acquisition.times_known:
        total = float(acquisition.view_seconds[0]) * acquisition.views
        times = f"number of time frames := 1\n!image duration (sec)[1] := {_exact(total)}\n"
        times += "image relative start time (sec)[1] := 0\n"
    return f"""!INTERFILE  :=
!imaging modality := nucmed
!version of keys := 3.3
name of data file := {data}
data offset in bytes := 0

!GENERAL IMAGE DATA :=
!type of data := Tomographic
imagedata byte order := LITTLEENDIAN
!number format := float
!number of bytes per pixel := 4
isotope name := ^{mass}^{_ELEMENTS.get(element, element)}
number of energy windows := 1
;energy window[1] := {_plain(window)}
energy window lower level[1] := {_exact(window.lower_kev)}
energy window upper level[1] := {_exact(window.upper_kev)}

!SPECT STUDY (General) :=
{_placed(acquisition)}!matrix size [2] := {rows}
!scaling factor (mm/pixel) [2] := {pitch_z}
!matrix size [1] := {columns}
!scaling factor (mm/pixel) [1] := {pitch_u}
!number of projections := {acquisition.views}
{times}!extent of rotation := {extent}
!process status := acquired

!SPECT STUDY (acquired data) :=
!direction of rotation := {"CW" if sweep.step_deg < 0 else "CCW"}
start angle := {start}
{orbit}

!END OF INTERFILE :=
"""


def _simind_program(data: str) -> str:
    """Beginning of a header in SIMIND's form."""
    return f"""!INTERFILE :=
!imaging modality := nucmed
!originating system := simind
!version of keys := 3.3
program author := written by spectac, not by SIMIND
program version := V8.0

!GENERAL DATA :=
!data offset in bytes := 0
!name of data file := {data}
"""


def _simind_header(acquisition: Acquisition, window: EnergyWindow, data: str) -> str:
    """Nuclide (in SIMIND's spelling, "i123"), date and energy window."""
    start = acquisition.start
    date = "" if start is None else f"study date := {start:%Y:%m:%d}\nstudy time := {start:%H:%M:%S}\n"
    return f"""{_simind_program(data)}data description := EMISSION
;# Radionuclide := {nuclide(acquisition.nuclide).symbol.replace("-", "").lower()}
exam type := EMISSION

!GENERAL IMAGE DATA :=
{_placed(acquisition)}!type of data := tomographic
{date}imagedata byte order := LITTLEENDIAN
;energy window[1] := {_plain(window)}
;energy window lower level := {_exact(window.lower_kev)}
;energy window upper level := {_exact(window.upper_kev)}
!total number of images := {acquisition.views}
!number of energy windows := 1
;# Image Orientation := 1.000 0.000 0.000 0.000 0.000 -1.000
;# Units of data (ECT) := counts

"""


def _simind_views(acquisition: Acquisition, sweep: Sweep, frames: Array, orbit: str) -> str:
    """Matrix, views, times and orbit."""
    rows, columns = acquisition.matrix
    pitch_z, pitch_u = map(_exact, acquisition.pixel_mm)
    extent, start = _arc(sweep, SIMIND)
    views = acquisition.views
    times = ""
    if acquisition.times_known:
        seconds = float(acquisition.view_seconds[0])
        times = f"!time per projection (sec) := {_exact(seconds)}\nimage duration (sec) := {_exact(seconds * views)}\n"
    return f"""!SPECT STUDY (General) :=
number of detector heads := 1
!matrix size [1] := {columns}
!matrix size [2] := {rows}
!number format := short float
!number of bytes per pixel := 4
scaling factor (mm/pixel) [1] := {pitch_u}
scaling factor (mm/pixel) [2] := {pitch_z}
;# scaling factor (mm/pixel) [3] := {pitch_u}
!extent of rotation := {extent}
!process status := acquired
!number of projections := {views}
!number of images/energy window := {views}
{times}maximum pixel count := {float(frames.max()):.3f}
;# total counts := {float(frames.sum(dtype=np.float64)):.3f}
;# Center of Rotation := {columns / 2 + 1:.3f}

!SPECT STUDY (acquired data) :=
{orbit}
acquisition mode := stepped
!direction of rotation := CCW
start angle := {start}
;#X_offset := 0.000

"""


def _simind_specific(acquisition: Acquisition) -> str:
    """SIMIND's keys of collimator (in mm) and photon energy, and the end; a measured line has no holes."""
    collimator = acquisition.collimator
    keys: dict[str, object] = {}
    if collimator is not None and collimator.line is None:
        keys = {
            "Intrinsic FWHM for the camera": collimator.intrinsic_fwhm_mm,
            "Collimator": collimator.name,
            "Collimator hole diameter": collimator.hole_mm,
            "Collimator hole septa": collimator.septa_mm,
            "Collimator thickness": collimator.length_mm,
        }
    keys["SIMIND: Photon Energy"] = nuclide(acquisition.nuclide).main_kev
    lines = "".join(f";# {key} := {value}\n" for key, value in keys.items())
    return f";# SIMIND-SPECIFIC PARAMETERS :=\n{lines}\n!END OF INTERFILE :=\n"
