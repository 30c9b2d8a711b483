"""`spectac demo`: the main job with nothing but the package, from DICOM files: one known head, every model, errors."""

import csv
import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spectac.app.record import versions
from spectac.app.run import progress_bar
from spectac.recon import (
    Acquisition,
    AttenuationModel,
    Chang,
    CTMap,
    EnergyWindow,
    GivenMap,
    Grid,
    Image,
    InputError,
    NoAttenuation,
    Result,
    Study,
    SystemModel,
    UniformMap,
    default_grid,
    open_study,
    rebin,
    rebin_acquisition,
)
from spectac.recon import reconstruct as reconstruct_study
from spectac.recon.attenuation import default_mu_per_cm
from spectac.recon.collimator import collimator
from spectac.recon.ct import CTVolume, tissue_hu, tissue_mu
from spectac.recon.filters import gaussian
from spectac.recon.io.atomic import written_folder
from spectac.recon.io.dicom_ct_write import write_series
from spectac.recon.io.dicom_nm import write_study
from spectac.recon.io.nifti import write_image, write_mu_map
from spectac.recon.nuclides import nuclide
from spectac.recon.quantify import asymmetry_percent, nmse, striatal_binding_ratio
from spectac.recon.types import Array
from spectac.simulate.analytic_head import HeadOnGrid, on_grid

FINE = 2
"""The projections are simulated with pixels this many times finer than those of the reconstruction."""

ITERATIONS, SUBSETS = 10, 10
CT_KVP = 120.0
FRAME_OF_REFERENCE = "2.25.290213747182736450918273645091827364"
"""One UID for the demo's projections and CT, as a SPECT/CT writes it (2.25: from a UUID, without a registered root)."""


def fine_acquisition(views: int = 120, rows: int = 64, columns: int = 64, pixel_mm: float = 4.4) -> Acquisition:
    """I-123 on two heads with Siemens LEHR collimators at 140 mm, pixels FINE times finer than `pixel_mm`.

    `views` of both heads together; head 0 goes from the back over the left, head 1 from the front over the right.
    """
    fine_mm = pixel_mm / FINE
    return Acquisition(
        view_angles_deg=np.arange(views) * 360.0 / views,
        radii_mm=np.full(views, 140.0),
        matrix=(rows * FINE, columns * FINE),
        pixel_mm=(fine_mm, fine_mm),
        view_seconds=np.full(views, 20.0),
        nuclide="I-123",
        collimator=collimator("siemens-lehr"),
        detector=np.repeat([0, 1], views // 2),
        axis_lps_mm=(0.0, 0.0, -0.5 * (rows * FINE - 1) * fine_mm),
        frame_of_reference_uid=FRAME_OF_REFERENCE,
        patient_position="HFS",
        corrections=frozenset({"UNIF", "COR"}),
    )


def ct_of(energy_kev: float, voxel_mm: float = 2.0) -> CTVolume:
    """CT of the analytic head at 120 kV without noise, in the projections' frame of reference."""
    shape = (int(260 / voxel_mm), int(220 / voxel_mm), int(180 / voxel_mm))
    grid = Grid.upright(shape, (voxel_mm,) * 3, [-0.5 * (n - 1) * voxel_mm for n in shape[::-1]])
    mu = on_grid(grid, energy_kev).mu
    hu = np.interp(mu.per_cm, tissue_mu(energy_kev), tissue_hu(CT_KVP)).astype(np.float32)
    return CTVolume(hu, grid, CT_KVP, FRAME_OF_REFERENCE)


def simulate(acquisition: Acquisition, counts: float, seed: int) -> tuple[Study, HeadOnGrid, float]:
    """Noisy photopeak projections of the analytic head, its truth on the reconstruction's grid, cps/mL per unit uptake.

    Primary photons only: attenuation and the collimator's blur, no scatter. Pixels are summed FINE x FINE.
    """
    energy_kev = nuclide(acquisition.nuclide).main_kev
    fine_grid = default_grid(acquisition)
    fine = on_grid(fine_grid, energy_kev)
    expected = SystemModel(acquisition, fine_grid, mu=fine.mu).forward(fine.activity)
    level = counts / float(expected.sum(dtype=np.float64))
    coarse = rebin_acquisition(acquisition, FINE, FINE)
    noisy = np.random.default_rng(seed).poisson(rebin(expected, FINE, FINE).astype(np.float64) * level)
    study = Study(
        coarse,
        (EnergyWindow("photopeak", 0.9 * energy_kev, 1.1 * energy_kev),),
        noisy[None],
        patient={"PatientName": "Head^Analytic", "PatientID": "SPECTAC-DEMO"},
        history=(f"simulated: analytic head, primary photons only, {counts:.3g} counts, seed {seed}",),
    )
    return study, on_grid(default_grid(coarse), energy_kev), level


def models(truth: HeadOnGrid, ct: Path) -> Mapping[str, AttenuationModel]:
    """Every attenuation model; the uniform ones with the narrow-beam value, for the projections hold no scatter."""
    value = default_mu_per_cm(truth.mu.energy_kev, scatter_corrected=True)
    return {
        "none": NoAttenuation(),
        "chang": Chang(value),
        "uniform": UniformMap(value),
        "ct": CTMap(str(ct)),
        "map": GivenMap(truth.mu),
    }


def measure(values: Array, truth: HeadOnGrid, level: float) -> dict[str, float]:
    """Errors of an image (z, y, x) in cps/mL against the head's truth, in voxels that lie wholly inside a region.

    Ratios are dimensionless, errors in percent; `nmse_head` is over the whole head, its border voxels included.
    """
    means = {name: float(values[part > 0.999].mean()) for name, part in truth.fractions.items() if (part > 0.999).any()}
    right, left = (striatal_binding_ratio(means[f"{side} striatum"], means["brain"]) for side in ("right", "left"))
    head = np.sum(list(truth.fractions.values()), axis=0)
    return {
        "brain_error_percent": 100.0 * (means["brain"] / level - 1.0),
        "centre_to_edge": _centre_to_edge(values, truth),
        "sbr_right": right,
        "sbr_left": left,
        "asymmetry_percent": asymmetry_percent(right, left),
        "nmse_head": nmse(values, truth.activity * level, mask=(head > 0.5).astype(np.float32)),
    }


def _centre_to_edge(values: Array, truth: HeadOnGrid) -> float:
    """Mean of the deep half of the brain's own voxels over that of the outer half; 1 when attenuation is right."""
    brain = truth.fractions["brain"] > 0.999
    depth = gaussian(truth.fractions["brain"], truth.mu.grid.voxel_mm, 40.0)
    middle = np.median(depth[brain])
    return float(values[brain & (depth > middle)].mean() / values[brain & (depth <= middle)].mean())


def run_demo(output: Path, *, seed: int, counts: float, acquisition: Acquisition | None = None) -> list[str]:
    """Write the demo's DICOM projections and CT, every model's image, panel.png and errors.csv; lines for the user.

    `acquisition` is that of the simulation, with pixels FINE times finer (default: fine_acquisition()).
    Raises InputError where matplotlib is missing or `output` is a file.
    """
    try:
        from spectac.app.panel import draw_panel
    except ImportError:
        raise InputError("the demo's picture needs matplotlib: pip install 'spectac[report]'") from None
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give a folder with -o")
    began = time.perf_counter()
    study, truth, level = simulate(fine_acquisition() if acquisition is None else acquisition, counts, seed)
    results: dict[str, Result] = {}
    with written_folder(output) as folder:
        write_study(folder / "projections.dcm", study)
        write_series(folder / "ct", ct_of(truth.mu.energy_kev), patient=study.patient)
        measured = open_study(folder / "projections.dcm")
        for name, model in models(truth, folder / "ct").items():
            with progress_bar(f"attenuation {name}") as on_update:
                results[name] = reconstruct_study(
                    measured, model, iterations=ITERATIONS, subsets=SUBSETS, on_update=on_update
                )
            write_image(folder / f"{name}.nii.gz", results[name].image)
            mu = results[name].mu
            if mu is not None:
                write_mu_map(folder / f"{name}_mu.nii.gz", mu)
        true_image = Image(truth.activity * level, results["none"].image.grid, results["none"].image.unit)
        write_image(folder / "truth.nii.gz", true_image)
        rows = {"truth": measure(true_image.values, truth, level)}
        rows |= {name: measure(result.image.values, truth, level) for name, result in results.items()}
        _write_rows(folder / "errors.csv", rows, seed, counts)
        draw_panel(folder / "panel.png", true_image, truth.mu, results, rows)
        notes = {name: list(result.notes) for name, result in results.items()}
        content = {"seed": seed, "counts": counts, "notes": notes, "versions": versions()}
        (folder / "record.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return [
        *_table(rows),
        f"{output}: panel.png, errors.csv, projections.dcm, ct, images ({time.perf_counter() - began:.0f} s)",
    ]


def _write_rows(path: Path, rows: Mapping[str, Mapping[str, float]], seed: int, counts: float) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["attenuation", *rows["truth"], "seed", "counts"])
        for name, row in rows.items():
            writer.writerow([name, *(f"{value:.5g}" for value in row.values()), seed, f"{counts:g}"])


def _table(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    heads = ("attenuation", "brain error %", "centre/edge", "SBR right", "SBR left", "asymmetry %", "NMSE")
    lines = ["  ".join(f"{head:>13}" for head in heads)]
    for name, row in rows.items():
        lines.append("  ".join([f"{name:>13}", *(f"{value:13.3f}" for value in row.values())]))
    return lines
