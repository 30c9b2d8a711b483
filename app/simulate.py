"""`spectac simulate`: one virtual patient's projections in a folder, with the truth beside them."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from pydantic import Field

from spectac.app.outputs import check_results
from spectac.app.progress import counting_bar
from spectac.app.record import versions
from spectac.recon import Image, InputError
from spectac.recon.fan_beam import truncation_doubt
from spectac.recon.io import hdf5
from spectac.recon.io.atomic import written_folder
from spectac.recon.io.dicom import nm as dicom_nm
from spectac.recon.io.nifti import write_image, write_labels, write_mu_map
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.setting_fields import Positive, Setting, as_options, settings
from spectac.simulate.acquire import Expected, Patient, expected_counts
from spectac.simulate.cohort.patient import seeds
from spectac.simulate.defects import Defect, with_defect
from spectac.simulate.head import draw_head
from spectac.simulate.regions import LABEL
from spectac.simulate.scanner import SCANNERS, Scanner
from spectac.simulate.uptake import KINDS, draw_uptake

StudyOutput = Annotated[Path, typer.Option("--output", "-o", help="Folder for the study and its truth.")]


@settings
class SimulationSettings:
    """Which virtual patient is simulated, and how."""

    tracer: Annotated[Literal["dat", "perfusion", "randomised"], Setting("dat, perfusion or randomised.")] = "dat"
    nuclide: Annotated[str | None, Setting("Nuclide, where not the tracer's own.")] = None
    scanner: Annotated[str, Setting("Camera; a wrong name lists them.", short="--camera")] = "siemens-intevo-lehr"
    kind: Annotated[str | None, Setting("The patient's case, such as healthy; a wrong one lists them.")] = None
    defect: Annotated[
        str | None,
        Setting(
            "cold:RADIUS_MM in the brain, early:LOST (back half of a putamen), striatum:LOST (one side) or "
            "glands:FACTOR.",
            metavar="KIND[:SIZE]",
        ),
    ] = None
    counts: Annotated[
        Positive | None, Setting("Counts in the photopeak, a defect's included, by longer or shorter views.")
    ] = None
    seed: Annotated[int, Field(ge=0), Setting("Seed of patient and noise.")] = 1
    monte_carlo: Annotated[bool, Setting("All photons by Monte Carlo, or only the scattered ones.", off="--fast")] = (
        False
    )
    histories: Annotated[Annotated[int, Field(ge=1000)] | None, Setting("Photon histories of the Monte Carlo.")] = None
    format: Annotated[Literal["dicom", "hdf5"], Setting("dicom or hdf5.")] = "dicom"

    def __post_init__(self) -> None:
        if self.scanner not in SCANNERS:
            raise InputError(f"--scanner must be one of {', '.join(SCANNERS)}, not {self.scanner!r}")
        if self.nuclide is not None:
            nuclide_by_name(self.nuclide)
        if self.kind is not None and self.kind not in KINDS[self.tracer]:
            raise InputError(f"--kind must be one of {', '.join(KINDS[self.tracer])}, not {self.kind!r}")
        if self.defect is not None:
            Defect.read(self.defect).check_tracer(self.tracer)


STUDIES = ("projections.dcm", "study.h5")
FILES = (*STUDIES, "truth", "patient.json")


def simulate(output: StudyOutput, chosen: SimulationSettings) -> list[str]:
    """Write projections.dcm or study.h5, truth/ and patient.json of one virtual patient into `output`.

    Seeds of head, uptake and noise are those of patient 0 of a cohort; but the head is drawn from the usual ranges, not
    from training's wider ones, and the scanner is the preset.
    Files appear when all are written. Returns lines for the user.
    """
    check_results(output, "the study", FILES)
    began = time.perf_counter()
    streams = seeds(chosen.seed, 0)
    # The projections of an earlier run in the other format would pass for this patient's.
    with written_folder(output, stale=STUDIES) as folder:
        patient, scanner, expected = _expected(chosen, streams)
        study = expected.study(np.random.default_rng(streams["noise"]))
        if chosen.format == "dicom":
            name = "projections.dcm"
            dicom_nm.write_study(folder / name, study)
        else:
            name = "study.h5"
            hdf5.write_study(folder / name, study)
        write_truth(folder / "truth", patient)
        content = {
            "parameters": as_options(chosen),
            "scanner": scanner.record(),
            "view_seconds": float(study.acquisition.view_seconds[0]),
            "nuclide": patient.uptake.nuclide,
            "cps_per_kbq": expected.cps_per_kbq,
            "head": dict(patient.head.parameters),
            "uptake": dict(patient.uptake.parameters),
            "versions": versions(),
        }
        (folder / "patient.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    counts = study.counts.sum(axis=(1, 2, 3), dtype=np.float64)
    doubt = truncation_doubt(study.acquisition, expected.primary[0])
    listed = ", ".join(f"{window.name} {total:.3g}" for window, total in zip(study.windows, counts, strict=True))
    return [
        *([] if doubt is None else [f"note: {doubt}"]),
        f"counts: {listed}",
        f"{output}: {name}, patient.json, truth ({time.perf_counter() - began:.1f} s)",
    ]


def _expected(
    chosen: SimulationSettings, streams: Mapping[str, np.random.SeedSequence]
) -> tuple[Patient, Scanner, Expected]:
    """Patient, scanner and expected counts, with a progress bar."""
    with counting_bar(f"simulating, seed {chosen.seed}") as move:
        head = draw_head(np.random.default_rng(streams["head"]))
        uptake = draw_uptake(
            chosen.tracer, head, np.random.default_rng(streams["uptake"]), nuclide=chosen.nuclide, kind=chosen.kind
        )
        if chosen.defect is not None:
            place = np.random.default_rng(streams["uptake"].spawn(1)[0])
            uptake = with_defect(uptake, head, Defect.read(chosen.defect), place)
        patient = Patient(head, uptake)
        scanner = SCANNERS[chosen.scanner].around(head)
        expected = expected_counts(
            patient, scanner, streams["photons"], full=chosen.monte_carlo, histories=chosen.histories, on_batch=move
        )
    return patient, scanner, expected if chosen.counts is None else expected.with_counts(chosen.counts)


def write_truth(folder: Path, patient: Patient) -> None:
    """activity.nii.gz in kBq/mL, mu_map.nii.gz at the imaged line, labels.nii.gz with names in labels.json.

    lesion.nii.gz where something is changed: a stroke, a focus, a defect.
    """
    head, uptake = patient.head, patient.uptake
    folder.mkdir()
    write_image(folder / "activity.nii.gz", Image(uptake.kbq_per_ml, head.grid, "kBq/mL"))
    write_mu_map(folder / "mu_map.nii.gz", head.mu(nuclide_by_name(uptake.nuclide).main_kev))
    write_labels(folder / "labels.nii.gz", head.labels, head.grid, {label: name for name, label in LABEL.items()})
    if uptake.lesion is not None:
        write_labels(folder / "lesion.nii.gz", uptake.lesion.astype(np.uint8), head.grid, {1: "lesion"})
