"""`spectac demo`: a virtual patient, every attenuation model and the report, with nothing but the package."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from spectac.app.compare import check_packages, compare_study
from spectac.app.compare_files import FILES
from spectac.app.comparison import CompareRequest
from spectac.app.measures import Row
from spectac.app.outputs import check_results
from spectac.app.record import versions
from spectac.app.simulate import write_truth
from spectac.recon import MuMap, ReconstructionSettings, Study, default_grid
from spectac.recon.io.atomic import written_folder
from spectac.recon.io.dicom.ct_write import write_series
from spectac.recon.io.dicom.nm import write_study
from spectac.recon.nuclides import nuclide
from spectac.recon.resample import resample
from spectac.recon.settings import ComparisonSettings
from spectac.recon.types import Array
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.ct_scan import ct_scan
from spectac.simulate.head import draw_head
from spectac.simulate.scanner import SCANNERS, Scanner
from spectac.simulate.uptake import draw_uptake, vois

PATIENT_SEED = 9
"""Seed of the head and the uptake of the demo's patient."""
PATIENT_KIND = "unilateral"
SCANNER = replace(SCANNERS["siemens-intevo-lehr"], matrix=(64, 64), pixel_mm=4.4)
ITERATIONS, SUBSETS = 10, 10
REGIONS = ("right striatum", "left striatum", "reference", "cortex", "white matter", "brain")


@dataclass(frozen=True, eq=False)
class Truth:
    """The patient on the grid of the reconstruction.

    `activity` (z, y, x) in kBq/mL; `regions` the share (z, y, x) of each voxel that lies inside, by name.
    """

    activity: Array
    mu: MuMap
    regions: Mapping[str, Array]


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
    energy_kev = nuclide(patient.uptake.nuclide).main_kev
    mu = head.mu(energy_kev)
    truth = Truth(
        resample(patient.uptake.kbq_per_ml, head.grid, grid),
        MuMap(resample(mu.per_cm, head.grid, grid), grid, energy_kev),
        regions,
    )
    return study, truth, expected.cps_per_kbq


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 1,
    counts: Annotated[float, typer.Option(min=1e3, max=1e10, help="Counts of the acquisition.")] = 3e6,
) -> list[str]:
    """Simulate a patient and compare every model on it (see run_demo); lines for the user."""
    try:
        return run_demo(output, seed=seed, counts=counts)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: {output} holds what was finished; the same command starts again"
        ) from None


def run_demo(output: Path, *, seed: int, counts: float, scanner: Scanner = SCANNER) -> list[str]:
    """Write a virtual patient with CT and truth as DICOM and NIfTI, then compare every model on it; lines for the user.

    Where torch is missing the model `predicted` is left out, with a line.
    Raises InputError where the packages of the report are missing, and for an `output` that compare_study refuses.
    """
    check_packages()
    check_results(output, "the results", (*FILES, "projections.dcm", "ct", "truth", "patient.json"))
    began = time.perf_counter()
    patient = demo_patient()
    study, _, cps_per_kbq = simulate(patient, scanner, counts, seed)
    # Results of an earlier run would belong to another patient.
    with written_folder(output, stale=FILES) as folder:
        write_study(folder / "projections.dcm", study)
        noise = np.random.default_rng([PATIENT_SEED, seed])
        scan = ct_scan(patient.head, noise, frame_of_reference_uid=study.acquisition.frame_of_reference_uid)
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
    compared = compare_study(
        output / "projections.dcm",
        CompareRequest(
            reconstruction=ReconstructionSettings(iterations=ITERATIONS, subsets=SUBSETS),
            comparison=ComparisonSettings(
                ct=output / "ct",
                mu_map=output / "truth" / "mu_map.nii.gz",
                truth=output / "truth",
                tracer="dat",
            ),
        ),
        output,
    )
    files = "report.html, comparison.csv, projections.dcm, ct, truth, images"
    seconds = time.perf_counter() - began
    return [*compared.lines[:-1], *table(compared.comparison.rows), f"{output}: {files} ({seconds:.0f} s)"]


COLUMNS = {
    ("mean", "brain"): "brain error %",
    ("SBR", "right striatum"): "SBR right",
    ("SBR", "left striatum"): "SBR left",
    ("SBR asymmetry %", "striatum"): "asymmetry %",
}
"""Columns of the printed table by measure and region."""


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of a table with the main measures of a comparison: the truth on the image's voxels, then every method."""
    numbers: dict[str, dict[str, float]] = {"truth": {}}
    for row in rows:
        column = COLUMNS.get((row.measure, row.region))
        if column is not None and row.reference == "truth":
            in_percent = row.measure == "mean"
            numbers["truth"][column] = 0.0 if in_percent else row.reference_value
            numbers.setdefault(row.method, {})[column] = row.difference_percent if in_percent else row.value
    lines = [["attenuation", *COLUMNS.values()]]
    for name, of in numbers.items():
        lines.append([name, *(f"{of[column]:.3f}" if column in of else "-" for column in COLUMNS.values())])
    return ["  ".join(f"{cell:>13}" for cell in line) for line in lines]
