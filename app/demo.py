"""`spectac demo`: the main job with nothing but the package: a virtual patient, every model, errors."""

import csv
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from spectac.app.compare import compare
from spectac.app.comparison import CompareRequest
from spectac.app.record import versions
from spectac.app.run import Request
from spectac.app.virtual import write_truth
from spectac.recon import Image, InputError, MuMap, Study, default_grid
from spectac.recon.filters import gaussian
from spectac.recon.io.atomic import written, written_folder
from spectac.recon.io.dicom.ct_write import write_series
from spectac.recon.io.dicom.nm import write_study
from spectac.recon.quantify import asymmetry_percent, nmse, striatal_binding_ratio, voi_mean
from spectac.recon.resample import resample
from spectac.recon.types import Array
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.ct_scan import ct_scan
from spectac.simulate.head import draw_head
from spectac.simulate.scanner import SCANNERS, Scanner
from spectac.simulate.uptake import draw_uptake, vois

PATIENT_SEED = 9
"""The demo's patient: head and uptake are drawn from this number."""

PATIENT_KIND = "unilateral"
SCANNER = replace(SCANNERS["siemens-intevo-lehr"], matrix=(64, 64), pixel_mm=4.4)
ITERATIONS, SUBSETS = 10, 10
REGIONS = ("right striatum", "left striatum", "reference", "cortex", "white matter", "brain")


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of the patient, on the reconstruction's grid.

    `activity` (z, y, x) in kBq/mL; `regions` and `head` the share (z, y, x) of each voxel that lies inside.
    """

    activity: Array
    mu: MuMap
    regions: Mapping[str, Array]
    head: Array


@cache
def demo_patient() -> Patient:
    """The patient: I-123 ioflupane with a loss in one putamen."""
    head_rng, uptake_rng = np.random.default_rng(PATIENT_SEED).spawn(2)
    head = draw_head(head_rng)
    return Patient(head, draw_uptake("dat", head, uptake_rng, kind=PATIENT_KIND))


def simulate(patient: Patient, scanner: Scanner, counts: float, seed: int) -> tuple[Study, Truth, float]:
    """Noisy projections in three windows, the truth on the reconstruction's grid, and cps per kBq."""
    head = patient.head
    expected = expected_counts(patient, scanner.around(head), PATIENT_SEED).with_counts(counts)
    about = {"PatientName": "Head^Virtual", "PatientID": "SPECTAC-DEMO"}
    study = expected.study(np.random.default_rng(seed), patient=about)
    grid = default_grid(study.acquisition)
    masks = vois(head.labels)
    regions = {name: resample(masks[name].astype(np.float32), head.grid, grid) for name in REGIONS}
    energy_kev = 158.97
    mu = head.mu(energy_kev)
    body = resample((head.density > 0.3).astype(np.float32), head.grid, grid)
    truth = Truth(
        resample(patient.uptake.kbq_per_ml, head.grid, grid),
        MuMap(resample(mu.per_cm, head.grid, grid), grid, energy_kev),
        regions,
        body,
    )
    return study, truth, expected.cps_per_kbq


def measure(kbq_per_ml: Array, truth: Truth) -> dict[str, float]:
    """An image (z, y, x) in kBq/mL against the truth: means over regions, errors in percent, ratios.

    Striata are small: their means, also in the truth's own row, are of what the reconstruction's voxels hold there.
    """
    means = {name: voi_mean(kbq_per_ml, part) for name, part in truth.regions.items()}
    true_means = {name: voi_mean(truth.activity, part) for name, part in truth.regions.items()}
    right, left = (striatal_binding_ratio(means[f"{side} striatum"], means["reference"]) for side in ("right", "left"))
    return {
        "brain_error_percent": 100.0 * (means["brain"] / true_means["brain"] - 1.0),
        "centre_to_edge": _centre_to_edge(kbq_per_ml, truth),
        "sbr_right": right,
        "sbr_left": left,
        "asymmetry_percent": asymmetry_percent(right, left),
        "nmse_head": nmse(kbq_per_ml, truth.activity, mask=(truth.head > 0.5).astype(np.float32)),
    }


def _centre_to_edge(values: Array, truth: Truth) -> float:
    """Mean of the deep half of the brain without striata over that of the outer half, both over the truth's own."""
    striata = truth.regions["right striatum"] + truth.regions["left striatum"]
    brain = (truth.regions["brain"] > 0.99) & (gaussian(striata, truth.mu.grid.voxel_mm, 15.0) < 0.02)
    depth = gaussian(truth.head, truth.mu.grid.voxel_mm, 40.0)
    deep = depth > np.median(depth[brain])
    inner, outer = brain & deep, brain & ~deep
    return float(
        values[inner].mean() / values[outer].mean() / (truth.activity[inner].mean() / truth.activity[outer].mean())
    )


def run_demo(output: Path, *, seed: int, counts: float, scanner: Scanner = SCANNER) -> list[str]:
    """Write a virtual patient with CT and truth as DICOM and NIfTI, then compare every model on it; lines for the user.

    Besides what `spectac compare` writes there are panel.png and errors.csv against the truth, which are made last.
    Where torch is missing the model `predicted` is left out, with a line.
    Raises InputError where the packages of the report are missing or `output` is a file.
    """
    try:
        from spectac.app.panel import draw_panel
    except ImportError:
        raise InputError("the demo's picture needs matplotlib: pip install 'spectac[report]'") from None
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give a folder with -o")
    began = time.perf_counter()
    patient = demo_patient()
    study, truth, cps_per_kbq = simulate(patient, scanner, counts, seed)
    with written_folder(output) as folder:
        write_study(folder / "projections.dcm", study)
        scan = ct_scan(
            patient.head,
            np.random.default_rng([PATIENT_SEED, seed]),
            frame_of_reference_uid=study.acquisition.frame_of_reference_uid,
        )
        write_series(folder / "ct", scan, patient=study.patient)
        write_truth(folder / "truth", patient)
        about = {
            "seed": seed,
            "counts": counts,
            "cps_per_kbq": cps_per_kbq,
            "patient": {"seed": PATIENT_SEED, **patient.head.parameters, **patient.uptake.parameters},
            "versions": versions(),
        }
        (folder / "patient.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    # Results of an earlier run would be another patient's until these are there.
    for stale in ("report.html", "comparison.csv", "record.json", "errors.csv", "panel.png"):
        (output / stale).unlink(missing_ok=True)
    request = CompareRequest(
        Request(iterations=ITERATIONS, subsets=SUBSETS),
        ct=output / "ct",
        mu_map=output / "truth" / "mu_map.nii.gz",
        truth=output / "truth",
        tracer="dat",
    )
    compared = compare((output / "projections.dcm",), request, output)
    made = compared.comparison.made
    images = {name: one.image.values for name, one in made.items()}
    maps = {name: None if one.result.mu is None else one.result.mu.per_cm for name, one in made.items()}
    rows = {"truth": measure(truth.activity, truth)}
    rows |= {name: measure(values, truth) for name, values in images.items()}
    with written(output / "errors.csv") as temporary:
        _write_rows(temporary, rows, seed, counts)
    true_image = Image(truth.activity, truth.mu.grid, "kBq/mL")
    striata = truth.regions["right striatum"] + truth.regions["left striatum"]
    with written(output / "panel.png") as temporary:
        draw_panel(temporary, true_image, truth.mu, striata, images, maps, rows)
    files = "report.html, comparison.csv, panel.png, errors.csv, projections.dcm, ct, truth, images"
    return [*compared.lines[:-1], *_table(rows), f"{output}: {files} ({time.perf_counter() - began:.0f} s)"]


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
