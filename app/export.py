"""A study in the form that STIR, SIMIND's users or PyTomography read, and what these files cannot hold."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from spectac.app.anonymous import anonymised
from spectac.app.options import Only, StudyPaths
from spectac.recon import Acquisition, InputError, MuMap, Study, StudySettings, default_grid
from spectac.recon.attenuation import map_notes, map_of_file
from spectac.recon.io import open_study
from spectac.recon.io.atomic import written_folder
from spectac.recon.io.dicom.nm_write_pytomography import write_for_pytomography, write_mu_array
from spectac.recon.io.interfile.write import (
    write_simind_mu_map,
    write_simind_study,
    write_stir_mu_map,
    write_stir_study,
)
from spectac.recon.io.mu_map import read_mu_map
from spectac.recon.map_check import check_values
from spectac.recon.nuclides import nuclide
from spectac.recon.pipeline import StudySolver
from spectac.recon.resample import map_on_grid
from spectac.recon.settings import ComparisonSettings, MapSettings
from spectac.recon.system import view_weights_s

TARGETS = {"stir": "STIR", "simind": "what reads SIMIND's files", "pytomography": "PyTomography"}
"""Programs that read the files."""


def export(
    study: StudyPaths,
    output: Annotated[Path, typer.Option("--output", "-o", help="Empty or new folder for the files.")],
    to: Annotated[str, typer.Option(help="stir, simind or pytomography.")],
    given: StudySettings,
    maps: Annotated[MapSettings, Only(("mu_map", "mu_map_kev"))],
    sharing: Annotated[ComparisonSettings, Only(("anonymous",))],
) -> list[str]:
    """Write a study as another program reads it; lines for the user (see export_study)."""
    return export_study(open_study(study, given), to, output, maps, anonymous=sharing.anonymous)


def export_study(
    study: Study, target: str, output: Path, maps: MapSettings | None = None, *, anonymous: bool = False
) -> list[str]:
    """Write a study, and a mu-map in 1/cm on the reconstruction's grid, into an empty folder for another program.

    `target` "stir": projections_w1.hs, ... and mu_map.hv; "simind": projections_tot_w1.h00, ... and mu_map.hct;
    "pytomography": projections.dcm and mu_map.npy. Returns lines for the user: the content of each file, and what the
    files do not say; README.txt holds them as well. Counts are never changed. `anonymous` leaves out patient, study,
    dates and UIDs. README.txt then lacks the notes about the files that were read, which may quote them.
    Raises InputError for what the target's files cannot hold without changing the image (docs/formats.md, "Export").
    """
    if target not in TARGETS:
        raise InputError(f"--to {target} is not known: use one of {', '.join(TARGETS)}")
    if maps is not None and maps.mu_map_kev is not None and maps.mu_map is None:
        raise InputError("--mu-map-kev belongs to --mu-map")
    if output.is_dir() and any(output.iterdir()):
        raise InputError(f"{output} holds files already: give an empty folder, so that nothing older is read with it")
    mu, notes = (None, []) if maps is None or maps.mu_map is None else _on_grid(maps.mu_map, study, maps.mu_map_kev)
    notes += study.warnings
    if anonymous:
        study = _without_patient(study)
    lost = _lost(study, target)
    with written_folder(output) as folder:
        labels = _write(folder, study, target, mu)
        windows = [
            f"{label}: {window.name}, {window.lower_kev:g}-{window.upper_kev:g} keV"
            for label, window in zip(labels, study.windows, strict=True)
        ]
        readme_notes = lost if anonymous else [*notes, *lost]
        readme = [*windows, *_how_to_read(target, Path(), mu), *(f"note: {note}" for note in readme_notes)]
        (folder / "README.txt").write_text("\n".join(readme) + "\n", encoding="utf-8")
        names = sorted(path.name for path in folder.iterdir())
    shown = [f"note: {note}" for note in (*notes, *lost)]
    return [*windows, *_how_to_read(target, output, mu), *shown, f"{output}: {', '.join(names)}"]


def _write(folder: Path, study: Study, target: str, mu: MuMap | None) -> list[str]:
    """Write the files; returns where each window of the study is found."""
    if target == "pytomography":
        write_for_pytomography(folder / "projections.dcm", study)
        if mu is not None:
            write_mu_array(folder / "mu_map.npy", mu)
        return [f"index_peak={number}" for number in range(len(study.windows))]
    stir = target == "stir"
    write_study, write_map = (
        (write_stir_study, write_stir_mu_map) if stir else (write_simind_study, write_simind_mu_map)
    )
    headers = write_study(folder, study)
    if mu is not None:
        write_map(folder / ("mu_map.hv" if stir else "mu_map.hct"), mu, study.acquisition)
    return [path.name for path in headers]


def _without_patient(study: Study) -> Study:
    """The study without patient, dates and UIDs; the camera's maker and model stay."""
    anonymous = anonymised(study, str)
    return replace(anonymous, acquisition=replace(anonymous.acquisition, frame_of_reference_uid=None))


def _on_grid(path: Path, study: Study, mu_map_kev: float | None) -> tuple[MuMap, list[str]]:
    """Map of a NIfTI or Interfile file on the reconstruction's grid, and notes."""
    try:
        solver = StudySolver(study)
    except InputError as error:
        # What spectac would not reconstruct may be written for others.
        read = read_mu_map(path, study.acquisition, nuclide(study.acquisition.nuclide).main_kev, given_kev=mu_map_kev)
        check_values(read.mu)
        note = f"that the map lies where the activity is was not checked: {error}"
        return map_on_grid(read.mu, default_grid(study.acquisition)), [*read.notes, note]
    mu, placed, notes = map_of_file(str(path), solver, mu_map_kev)
    # The other program's scatter correction is not known here: a broad-beam map is as good as a narrow one.
    return map_on_grid(mu, solver.grid), [*notes, *map_notes(mu, solver, scatter_corrected=False, placed=placed)]


def _how_to_read(target: str, folder: Path, mu: MuMap | None) -> list[str]:
    """Lines of the other program that load the files in `folder`."""
    lines = []
    if target == "pytomography":
        lines = [
            "from pytomography.io.SPECT import dicom",
            f'object_meta, proj_meta = dicom.get_metadata("{folder / "projections.dcm"}", index_peak=0)',
            f'projections = dicom.get_projections("{folder / "projections.dcm"}", index_peak=0)  # [view, r, z]',
        ]
    of_map = {
        "pytomography": f'mu = torch.from_numpy(numpy.load("{folder / "mu_map.npy"}"))  # 1/cm, [x, y, z]',
        "simind": "mu_map.hct: 1/cm; PyTomography: simind.get_attenuation_map(header, smi_index_22=3)",
        "stir": "mu_map.hv: 1/cm; 'attenuation map' of the SPECTUB matrix, which needs an image of the same grid",
    }
    return lines if mu is None else [*lines, of_map[target]]


def _lost(study: Study, target: str) -> list[str]:
    """Lines on what the files do not say."""
    acquisition = study.acquisition
    notes = _lost_times(acquisition, TARGETS[target])
    if target == "pytomography":
        if acquisition.axis_lps_mm is None:
            notes.append(
                "the position of the rotation axis is unknown: written as if the field's centre were the origin"
            )
        if acquisition.matrix[0] != acquisition.matrix[1]:
            notes.append(
                "rows and columns differ: PyTomography's own CT path (not a given mu-map) needs a square matrix"
            )
    else:
        heads = len(np.unique(np.asarray(acquisition.detector)))
        if heads > 1:
            notes.append(
                f"{heads} heads are written as one sweep of {acquisition.views} views: which were taken at one time is "
                "lost"
            )
        if dropped := _dropped(study, target):
            notes.append(f"not in these files: {', '.join(dropped)}")
    if target == "stir":
        notes.append(
            "a mu_map.hv lies as STIR's SPECT projector takes it, x to the patient's right; whether STIR's image is "
            "mirrored against the patient depends on its version (its issue 452): check left and right"
        )
    return notes if target == "simind" else [*notes, _resolution(acquisition, target)]


def _lost_times(acquisition: Acquisition, reader: str) -> list[str]:
    """Lines on view times and decay."""
    if not acquisition.times_known:
        return ["the view times are unknown: images will be in relative units"]
    notes = [
        f"counts are as measured in views of {float(acquisition.view_seconds[0]):g} s; {reader} does not divide by the "
        "time: its image is counts, not counts per second"
    ]
    weights = view_weights_s(acquisition)
    fall = 1.0 - float(weights.min() / weights.max())
    if fall > 1e-4:
        notes.append(f"decay: {reader} does not model it; the last view has {fall:.1%} fewer counts by it")
    return notes


def _dropped(study: Study, target: str) -> list[str]:
    """Properties of a study for which Interfile headers have no key."""
    acquisition = study.acquisition
    position = acquisition.patient_position
    dropped = {
        "patient and study": bool(study.patient),
        "the axis' place and frame of reference": acquisition.axis_lps_mm is not None
        or acquisition.frame_of_reference_uid is not None,
        f"corrections ({', '.join(sorted(acquisition.corrections))})": bool(acquisition.corrections),
        f"patient position {position} (angles are the patient's)": position not in (None, "HFS"),
        "the start of the acquisition": target == "stir" and acquisition.start is not None,
    }
    return [text for text, is_lost in dropped.items() if is_lost]


def _resolution(acquisition: Acquisition, target: str) -> str:
    """The line sigma = sigma0 + slope * distance that both programs take, fitted to the collimator's curve."""
    collimator = acquisition.collimator
    if collimator is None:
        return "the collimator is unknown: the other program needs its own resolution model"
    distance_mm = np.linspace(0.25, 1.75, 101) * float(acquisition.radii_mm.max())
    sigma_mm = collimator.sigma_mm(distance_mm, nuclide(acquisition.nuclide).main_kev)
    slope, sigma0_mm = np.polyfit(distance_mm, sigma_mm, 1)
    worst = float(np.abs(sigma0_mm + slope * distance_mm - sigma_mm).max())
    line = (
        f"collimator sigma 0(cm) := {sigma0_mm / 10:.4f}, collimator slope := {slope:.5f}"
        if target == "stir"
        else f"SPECTPSFMeta(({slope:.5f}, {sigma0_mm / 10:.4f}))"
    )
    return (
        f"resolution of {collimator.name} as a line: {line}, off by up to {worst:.2f} mm in sigma between "
        f"{distance_mm[0]:.0f} and {distance_mm[-1]:.0f} mm from its face"
    )
