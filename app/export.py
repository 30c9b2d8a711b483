"""A study in the form that STIR, SIMIND's users or PyTomography read, with a line on everything that gets lost."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from spectac.app.anonymous import anonymised
from spectac.recon import Acquisition, InputError, MuMap, Study, default_grid
from spectac.recon.attenuation import map_on_grid
from spectac.recon.io.atomic import written_folder
from spectac.recon.io.dicom.nm_write_pytomography import write_for_pytomography, write_mu_array
from spectac.recon.io.interfile import write as interfile_write
from spectac.recon.io.mu_map import read_mu_map
from spectac.recon.map_check import check_values, energy_notes
from spectac.recon.nuclides import nuclide
from spectac.recon.system import view_weights_s

TARGETS = ("stir", "simind", "pytomography")


def export(
    study: Study,
    target: str,
    output: Path,
    *,
    mu_map: Path | None = None,
    mu_map_kev: float | None = None,
    anonymous: bool = False,
) -> list[str]:
    """Write a study, and a mu-map in 1/cm on the reconstruction's grid, into an empty folder for another program.

    `target` "stir": projections_w1.hs, ... and mu_map.hv; "simind": projections_tot_w1.h00, ... and mu_map.hct;
    "pytomography": projections.dcm and mu_map.npy. Returns lines for the user: what each file is, and what the files
    do not say; README.txt holds them as well. Counts are never changed. `anonymous` leaves out patient, study, dates
    and UIDs, and from README.txt what was noted when the files were read, which may quote them.
    `mu_map_kev` is the map's photon energy where its file does not say it.
    Raises InputError for what the target's files cannot hold without changing the image (docs/formats.md, "Export").
    """
    if target not in TARGETS:
        raise InputError(f"--to {target} is not known: use one of {', '.join(TARGETS)}")
    if output.is_dir() and any(output.iterdir()):
        raise InputError(f"{output} holds files already: give an empty folder, so that nothing older is read with it")
    if mu_map_kev is not None and mu_map is None:
        raise InputError("--mu-map-kev belongs to --mu-map")
    mu, notes = (None, []) if mu_map is None else _on_grid(mu_map, study, mu_map_kev)
    notes += study.warnings
    if anonymous:
        study = _without_patient(study)
    lost = _lost(study, target)
    told = lost if anonymous else [*notes, *lost]
    with written_folder(output) as folder:
        labels = _write(folder, study, target, mu)
        lines = [*_how_to_read(study, target, Path(), mu, labels), *(f"note: {note}" for note in told)]
        (folder / "README.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        names = sorted(path.name for path in folder.iterdir())
    return [
        *_how_to_read(study, target, output, mu, labels),
        *(f"note: {note}" for note in (*notes, *lost)),
        f"{output}: {', '.join(names)}",
    ]


def _without_patient(study: Study) -> Study:
    """The same without patient, study, dates and UIDs; the camera's maker and model stay."""
    plain = anonymised(study, str)
    return replace(plain, acquisition=replace(plain.acquisition, frame_of_reference_uid=None))


def _write(folder: Path, study: Study, target: str, mu: MuMap | None) -> list[str]:
    """Write the files; returns where each window of the study is found."""
    if target == "pytomography":
        write_for_pytomography(folder / "projections.dcm", study)
        if mu is not None:
            write_mu_array(folder / "mu_map.npy", mu)
        return [f"index_peak={number}" for number in range(len(study.windows))]
    if target == "stir":
        headers = interfile_write.write_stir_study(folder, study)
        if mu is not None:
            interfile_write.write_stir_mu_map(folder / "mu_map.hv", mu, study.acquisition)
    else:
        headers = interfile_write.write_simind_study(folder, study)
        if mu is not None:
            interfile_write.write_simind_mu_map(folder / "mu_map.hct", mu, study.acquisition)
    return [path.name for path in headers]


def _on_grid(path: Path, study: Study, mu_map_kev: float | None) -> tuple[MuMap, list[str]]:
    """Map of a NIfTI or Interfile file on the reconstruction's grid, and notes."""
    acquisition = study.acquisition
    read = read_mu_map(path, acquisition, nuclide(acquisition.nuclide).main_kev, given_kev=mu_map_kev)
    mu, notes = read.mu, list(read.notes)
    if not read.placed and acquisition.axis_lps_mm is None:
        notes.append(
            "the position of the rotation axis is unknown: the map was placed as if the field's centre were the origin"
        )
    check_values(mu)
    # What another program corrects is not known here: a broad-beam map is as good as a narrow one.
    notes += energy_notes(mu, scatter_corrected=False)
    placed = map_on_grid(mu, default_grid(acquisition))
    if not placed.per_cm.any():
        raise InputError(
            f"{path}: the mu-map lies beside the reconstructed field: its affine must be in the study's mm"
        )
    return placed, notes


def _how_to_read(study: Study, target: str, folder: Path, mu: MuMap | None, labels: list[str]) -> list[str]:
    """What each file in `folder` holds, and the lines that load it."""
    lines = [
        f"{label}: {window.name}, {window.lower_kev:g}-{window.upper_kev:g} keV"
        for label, window in zip(labels, study.windows, strict=True)
    ]
    if target == "pytomography":
        lines += [
            "from pytomography.io.SPECT import dicom",
            f'object_meta, proj_meta = dicom.get_metadata("{folder / "projections.dcm"}", index_peak=0)',
            f'projections = dicom.get_projections("{folder / "projections.dcm"}", index_peak=0)  # [view, r, z]',
        ]
        if mu is not None:
            lines.append(f'mu = torch.from_numpy(numpy.load("{folder / "mu_map.npy"}"))  # 1/cm, [x, y, z]')
    if target == "simind" and mu is not None:
        lines.append("mu_map.hct: 1/cm; PyTomography: simind.get_attenuation_map(header, smi_index_22=3)")
    if target == "stir" and mu is not None:
        lines.append("mu_map.hv: 1/cm; 'attenuation map' of the SPECTUB matrix, which needs an image of the same grid")
    return lines


def _lost(study: Study, target: str) -> list[str]:
    """What the files do not say, line by line."""
    acquisition = study.acquisition
    reader = {"stir": "STIR", "simind": "what reads SIMIND's files", "pytomography": "PyTomography"}[target]
    notes = []
    if not acquisition.times_known:
        notes.append("the view times are unknown: images will be in relative units")
    else:
        seconds = float(acquisition.view_seconds[0])
        notes.append(
            f"counts are as measured in views of {seconds:g} s; {reader} does not divide by the time: its image is "
            "counts, not counts per second"
        )
        weights = view_weights_s(acquisition)
        fall = 1.0 - float(weights.min() / weights.max())
        if fall > 1e-4:
            notes.append(f"decay: {reader} does not model it; the last view has {fall:.1%} fewer counts by it")
    heads = len(np.unique(np.asarray(acquisition.detector)))
    if target != "pytomography":
        if heads > 1:
            notes.append(
                f"{heads} heads are written as one sweep of {acquisition.views} views: which were taken at one time is "
                "lost"
            )
        dropped = _dropped(study)
        if target == "stir" and acquisition.start is not None:
            dropped.append("the start of the acquisition")
        if dropped:
            notes.append(f"not in these files: {', '.join(dropped)}")
    elif acquisition.axis_lps_mm is None:
        notes.append("the position of the rotation axis is unknown: written as if the field's centre were the origin")
    if target == "pytomography" and acquisition.matrix[0] != acquisition.matrix[1]:
        notes.append("rows and columns differ: PyTomography's own CT path (not a given mu-map) needs a square matrix")
    if target == "stir":
        notes.append(
            "a mu_map.hv lies as STIR's SPECT projector takes it, x to the patient's right; whether STIR's image is "
            "mirrored against the patient depends on its version (its issue 452): check left and right"
        )
    if target in ("stir", "pytomography"):
        notes += _resolution(acquisition, target)
    return notes


def _dropped(study: Study) -> list[str]:
    acquisition = study.acquisition
    dropped = ["patient and study"] if study.patient else []
    if acquisition.axis_lps_mm is not None or acquisition.frame_of_reference_uid is not None:
        dropped.append("the axis' place and frame of reference")
    if acquisition.corrections:
        dropped.append(f"corrections ({', '.join(sorted(acquisition.corrections))})")
    if acquisition.patient_position not in (None, "HFS"):
        dropped.append(f"patient position {acquisition.patient_position} (angles are the patient's)")
    return dropped


def _resolution(acquisition: Acquisition, target: str) -> list[str]:
    """The line sigma = sigma0 + slope * distance that both programs take, fitted to the collimator's curve."""
    collimator = acquisition.collimator
    if collimator is None:
        return ["the collimator is unknown: the other program needs its own resolution model"]
    distance_mm = np.linspace(0.25, 1.75, 101) * float(acquisition.radii_mm.max())
    sigma_mm = collimator.sigma_mm(distance_mm, nuclide(acquisition.nuclide).main_kev)
    slope, sigma0_mm = np.polyfit(distance_mm, sigma_mm, 1)
    worst = float(np.abs(sigma0_mm + slope * distance_mm - sigma_mm).max())
    line = (
        f"collimator sigma 0(cm) := {sigma0_mm / 10:.4f}, collimator slope := {slope:.5f}"
        if target == "stir"
        else f"SPECTPSFMeta(({slope:.5f}, {sigma0_mm / 10:.4f}))"
    )
    return [
        f"resolution of {collimator.name} as a line: {line}, off by up to {worst:.2f} mm in sigma between "
        f"{distance_mm[0]:.0f} and {distance_mm[-1]:.0f} mm from its face"
    ]
