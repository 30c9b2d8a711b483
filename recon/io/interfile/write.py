"""Interfile out, as the readers of STIR and SIMIND's users take it: projections of one even sweep, and mu-maps.

One header and one float32 file for each energy window. Angles and rows are mapped as geometry.py reads them.
STIR's mu-map lies as its SPECT projector (SPECTUB) takes it: the file's x grows to the patient's right, y to posterior,
z to inferior. That follows from STIR's source: at the angle t the distance to the detector is R + x sin t - y cos t and
the bin x cos t + y sin t, with t the header's angle and slice k belonging to projection row k, and the map is copied as
it is stored. SIMIND's lies as its own headers say it: x to left, y to posterior ("Image Orientation 1 0 0 0 1 0"), the
first slice at +z.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.geometry import default_grid
from spectac.recon.io.atomic import written
from spectac.recon.io.interfile.orbit import SMALLEST_RADIUS_MM
from spectac.recon.io.interfile.sweep import Sweep, even_sweep
from spectac.recon.nuclides import nuclide
from spectac.recon.types import Acquisition, Array, EnergyWindow, MuMap, Study

_ELEMENTS = {
    "Tc": "Technetium",
    "I": "Iodine",
    "In": "Indium",
    "Tl": "Thallium",
    "Lu": "Lutetium",
    "Xe": "Xenon",
    "Ga": "Gallium",
    "Sm": "Samarium",
}


def write_stir_study(folder: str | os.PathLike[str], study: Study, name: str = "projections") -> list[Path]:
    """Write NAME_w1.hs and .s, NAME_w2.hs ... for the windows in the study's order; returns the headers.

    Raises InputError for what such a header cannot say: uneven views, unequal view times, an axis that is not in the
    middle of the detector.
    """
    acquisition = study.acquisition
    _refuse_unsayable(acquisition, "STIR's Interfile")
    sweep = even_sweep(acquisition)
    paths = []
    for number, (window, stem) in enumerate(_named(study, f"{name}_w")):
        path = Path(folder) / f"{stem}.hs"
        keys = _stir_header(acquisition, sweep, window, f"{stem}.s")
        _write(path, f"{stem}.s", keys, study.counts[number][sweep.order, ::-1])
        paths.append(path)
    return paths


def write_simind_study(folder: str | os.PathLike[str], study: Study, name: str = "projections") -> list[Path]:
    """Write NAME_tot_w1.h00 and .a00, ... for the windows in the study's order, and NAME.cor; returns the headers.

    Lengths are in mm, as in SIMIND's version 8, but for the orbit file, which is in cm in all versions. The sweep is
    counter-clockwise whatever the camera's, for readers disagree on where a clockwise one of SIMIND begins.
    Raises InputError as write_stir_study, and for radii that a reader would take for the other unit.
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
    orbit = None
    if np.ptp(radii) > 0:
        orbit = f"{name}.cor"
        with written(Path(folder) / orbit) as temporary:
            temporary.write_text("".join(f"{_exact(radius / 10.0)}\n" for radius in radii[sweep.order].tolist()))
    paths = []
    for number, (window, stem) in enumerate(_named(study, f"{name}_tot_w")):
        path = Path(folder) / f"{stem}.h00"
        frames = study.counts[number][sweep.order, ::-1]
        _write(path, f"{stem}.a00", _simind_header(acquisition, sweep, window, frames, orbit, f"{stem}.a00"), frames)
        paths.append(path)
    return paths


def write_stir_mu_map(path: str | os.PathLike[str], mu: MuMap, acquisition: Acquisition) -> None:
    """Write a mu-map in 1/cm as STIR's Interfile image (.hv and .v) for projections written by write_stir_study.

    Raises InputError where it does not lie on the reconstruction's grid (geometry.default_grid), for STIR's projector
    takes no other.
    """
    values, data = _on_default_grid(mu, acquisition)[::-1, :, ::-1], f"{Path(path).stem}.v"
    nz, ny, nx = values.shape
    dz, dy, dx = mu.grid.voxel_mm
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
scaling factor (mm/pixel) [1] := {_exact(dx)}
matrix axis label [2] := y
!matrix size [2] := {ny}
scaling factor (mm/pixel) [2] := {_exact(dy)}
matrix axis label [3] := z
!matrix size [3] := {nz}
scaling factor (mm/pixel) [3] := {_exact(dz)}
number of time frames := 1
!END OF INTERFILE :=
"""
    _write(Path(path), data, keys, values)


def write_simind_mu_map(path: str | os.PathLike[str], mu: MuMap, acquisition: Acquisition) -> None:
    """Write a mu-map in 1/cm as SIMIND's aligned map (.hct and .ict, "mu") for projections of write_simind_study.

    Raises InputError where it does not lie on the reconstruction's grid (geometry.default_grid).
    """
    values, data = _on_default_grid(mu, acquisition)[::-1], f"{Path(path).stem}.ict"
    nz, ny, nx = values.shape
    dz, dy, dx = mu.grid.voxel_mm
    keys = f"""!INTERFILE :=
!imaging modality := nucmed
!originating system := simind
!version of keys := 3.3
program author := written by spectac, not by SIMIND
program version := V8.0

!GENERAL DATA :=
!data offset in bytes := 0
!name of data file := {data}
!study ID := Aligned CT Map
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


def _on_default_grid(mu: MuMap, acquisition: Acquisition) -> Array:
    grid = default_grid(acquisition)
    if not mu.grid.same_as(grid):
        raise InputError(
            f"the mu-map's grid {mu.grid.shape} of {mu.grid.voxel_mm} mm is not that of the reconstruction, "
            f"{grid.shape} of {grid.voxel_mm} mm around the axis: put it there with attenuation.map_on_grid"
        )
    return np.asarray(mu.per_cm)


def _refuse_unsayable(acquisition: Acquisition, dialect: str) -> None:
    """InputError for geometry and times that no key of the header can hold."""
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


def _named(study: Study, stem: str) -> list[tuple[EnergyWindow, str]]:
    """Windows with the names of their files, which sort in the order of the windows."""
    width = len(str(len(study.windows)))
    return [(window, f"{stem}{number:0{width}d}") for number, window in enumerate(study.windows, 1)]


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


def _stir_header(acquisition: Acquisition, sweep: Sweep, window: EnergyWindow, data: str) -> str:
    element, mass = nuclide(acquisition.nuclide).symbol.split("-")
    rows, columns = acquisition.matrix
    pitch_z, pitch_u = acquisition.pixel_mm
    radii = acquisition.radii_mm[sweep.order].tolist()
    circular = max(radii) == min(radii)
    orbit = f"orbit := circular\nradius := {_exact(radii[0])}" if circular else _radii(radii)
    times = ""
    if acquisition.times_known:
        total = float(acquisition.view_seconds[0]) * acquisition.views
        times = f"number of time frames := 1\n!image duration (sec)[1] := {_exact(total)}\n"
        times += "image relative start time (sec)[1] := 0\n"
    extent = abs(sweep.step_deg) * acquisition.views
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
!scaling factor (mm/pixel) [2] := {_exact(pitch_z)}
!matrix size [1] := {columns}
!scaling factor (mm/pixel) [1] := {_exact(pitch_u)}
!number of projections := {acquisition.views}
{times}!extent of rotation := {_short(extent)}
!process status := acquired

!SPECT STUDY (acquired data) :=
!direction of rotation := {"CW" if sweep.step_deg < 0 else "CCW"}
start angle := {_short(sweep.start_deg)}
{orbit}

!END OF INTERFILE :=
"""


def _radii(radii: list[float]) -> str:
    return f"orbit := non-circular\nradii := {{{', '.join(map(_exact, radii))}}}"


def _exact(value: float) -> str:
    """Number that reads back to the bit, whatever its type."""
    return repr(float(value))


def _short(value: float) -> str:
    """Number to 1e-10: 360 where a product of thirds came to 360.00000000000006."""
    return repr(round(value, 10))


def _simind_header(
    acquisition: Acquisition, sweep: Sweep, window: EnergyWindow, frames: Array, orbit: str | None, data: str
) -> str:
    rows, columns = acquisition.matrix
    pitch_z, pitch_u = acquisition.pixel_mm
    views = acquisition.views
    times = ""
    if acquisition.times_known:
        seconds = float(acquisition.view_seconds[0])
        times = f"!time per projection (sec) := {_exact(seconds)}\nimage duration (sec) := {_exact(seconds * views)}\n"
    start = acquisition.start
    date = "" if start is None else f"study date := {start:%Y:%m:%d}\nstudy time := {start:%H:%M:%S}\n"
    if orbit is None:
        path = f"orbit := circular\n;#Radius := {_exact(acquisition.radii_mm[0])}"
    else:
        path = f"orbit := noncircular\n;# Non-Uniform Orbit File := {orbit}"
    specific = "".join(f";# {key} := {value}\n" for key, value in _simind_specific(acquisition).items())
    return f"""!INTERFILE :=
!imaging modality := nucmed
!originating system := simind
!version of keys := 3.3
program author := written by spectac, not by SIMIND
program version := V8.0

!GENERAL DATA :=
!data offset in bytes := 0
!name of data file := {data}
data description := EMISSION
;# Radionuclide := {_simind_nuclide(nuclide(acquisition.nuclide).symbol)}
exam type := EMISSION

!GENERAL IMAGE DATA :=
{_placed(acquisition)}!type of data := tomographic
{date}imagedata byte order := LITTLEENDIAN
;energy window[1] := {_plain(window)}
;energy window lower level := {_exact(window.lower_kev)}
;energy window upper level := {_exact(window.upper_kev)}
!total number of images := {views}
!number of energy windows := 1
;# Image Orientation := 1.000 0.000 0.000 0.000 0.000 -1.000
;# Units of data (ECT) := counts

!SPECT STUDY (General) :=
number of detector heads := 1
!matrix size [1] := {columns}
!matrix size [2] := {rows}
!number format := short float
!number of bytes per pixel := 4
scaling factor (mm/pixel) [1] := {_exact(pitch_u)}
scaling factor (mm/pixel) [2] := {_exact(pitch_z)}
;# scaling factor (mm/pixel) [3] := {_exact(pitch_u)}
!extent of rotation := {_short(abs(sweep.step_deg) * views)}
!process status := acquired
!number of projections := {views}
!number of images/energy window := {views}
{times}maximum pixel count := {float(frames.max()):.3f}
;# total counts := {float(frames.sum(dtype=np.float64)):.3f}
;# Center of Rotation := {columns / 2 + 1:.3f}

!SPECT STUDY (acquired data) :=
{path}
acquisition mode := stepped
!direction of rotation := CCW
start angle := {_short((180.0 - sweep.start_deg) % 360.0)}
;#X_offset := 0.000

;# SIMIND-SPECIFIC PARAMETERS :=
{specific}
!END OF INTERFILE :=
"""


def _simind_nuclide(name: str) -> str:
    """SIMIND's spelling: "i123", "tc99m"."""
    return name.replace("-", "").lower()


def _simind_specific(acquisition: Acquisition) -> Mapping[str, object]:
    """SIMIND's keys of collimator (in mm) and photon energy; a measured line has no holes."""
    collimator = acquisition.collimator
    energy = {"SIMIND: Photon Energy": nuclide(acquisition.nuclide).main_kev}
    if collimator is None or collimator.line is not None:
        return energy
    return {
        "Intrinsic FWHM for the camera": collimator.intrinsic_fwhm_mm,
        "Collimator": collimator.name,
        "Collimator hole diameter": collimator.hole_mm,
        "Collimator hole septa": collimator.septa_mm,
        "Collimator thickness": collimator.length_mm,
        **energy,
    }
