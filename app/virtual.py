"""`spectac simulate`: one virtual patient's projections in a folder, with the truth beside them."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from spectac.app.progress import counting_bar
from spectac.app.record import versions
from spectac.recon import Image, InputError
from spectac.recon.io import hdf5
from spectac.recon.io.atomic import is_result, written_folder
from spectac.recon.io.dicom import nm as dicom_nm
from spectac.recon.io.nifti import write_image, write_labels, write_mu_map
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.simulate.acquire import Expected, Patient, expected_counts
from spectac.simulate.anatomy import LABEL
from spectac.simulate.cohort.patient import TRACERS, seeds
from spectac.simulate.head import draw_head
from spectac.simulate.scanner import SCANNERS, Scanner
from spectac.simulate.tracer import draw_uptake

FORMATS = ("dicom", "hdf5")


@dataclass(frozen=True)
class VirtualRequest:
    """What the user asked of `spectac simulate`.

    `nuclide=None` is the tracer's own, `counts=None` what the scanner's view times give, `histories=None` those of
    simulate/acquire.py.
    """

    tracer: str
    nuclide: str | None
    scanner: str
    counts: float | None
    seed: int
    monte_carlo: bool
    histories: int | None
    format: str

    def __post_init__(self) -> None:
        for name, value, known in (
            ("tracer", self.tracer, TRACERS[1:]),
            ("scanner", self.scanner, tuple(SCANNERS)),
            ("format", self.format, FORMATS),
        ):
            if value not in known:
                raise InputError(f"--{name} {value!r} is not one of {', '.join(known)}")
        if self.nuclide is not None:
            nuclide_by_name(self.nuclide)
        if self.counts is not None and not (np.isfinite(self.counts) and self.counts > 0):
            raise InputError(f"--counts must be above 0 and finite, not {self.counts:g}")


def simulate(request: VirtualRequest, output: Path) -> list[str]:
    """Write projections.dcm or study.h5, truth/ and patient.json of one virtual patient into `output`.

    Seeds of head, uptake and noise are those of patient 0 of a cohort; but the head is drawn from the usual ranges, not
    from training's wider ones, and the scanner is the preset.
    Files appear when all are written. Returns lines for the user.
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give a folder for the study with -o")
    began = time.perf_counter()
    own = seeds(request.seed, 0)
    repeated = is_result(output)
    with written_folder(output) as folder:
        patient, scanner, expected = _expected(request, own)
        study = expected.study(np.random.default_rng(own["noise"]))
        if request.format == "dicom":
            name = "projections.dcm"
            dicom_nm.write_study(folder / name, study)
        else:
            name = "study.h5"
            hdf5.write_study(folder / name, study)
        write_truth(folder / "truth", patient)
        content = {
            "parameters": asdict(request),
            "scanner": asdict(scanner),
            "view_seconds": float(study.acquisition.view_seconds[0]),
            "nuclide": patient.uptake.nuclide,
            "cps_per_kbq": expected.cps_per_kbq,
            "head": dict(patient.head.parameters),
            "uptake": dict(patient.uptake.parameters),
            "versions": versions(),
        }
        (folder / "patient.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    # The projections of an earlier run in the other format would pass for this patient's.
    for stale in {"projections.dcm", "study.h5"} - {name} if repeated else ():
        (output / stale).unlink(missing_ok=True)
    counts = study.counts.sum(axis=(1, 2, 3), dtype=np.float64)
    listed = ", ".join(f"{window.name} {total:.3g}" for window, total in zip(study.windows, counts, strict=True))
    return [
        f"counts: {listed}",
        f"{output}: {name}, patient.json, truth ({time.perf_counter() - began:.1f} s)",
    ]


def _expected(request: VirtualRequest, own: Mapping[str, np.random.SeedSequence]) -> tuple[Patient, Scanner, Expected]:
    """Patient, scanner and expected counts, with a progress bar."""
    with counting_bar(f"simulating, seed {request.seed}") as move:
        head = draw_head(np.random.default_rng(own["head"]))
        uptake = draw_uptake(request.tracer, head, np.random.default_rng(own["uptake"]), nuclide=request.nuclide)
        patient = Patient(head, uptake)
        scanner = SCANNERS[request.scanner].around(head)
        expected = expected_counts(
            patient, scanner, own["photons"], full=request.monte_carlo, histories=request.histories, on_batch=move
        )
    return patient, scanner, expected if request.counts is None else expected.with_counts(request.counts)


def write_truth(folder: Path, patient: Patient) -> None:
    """activity.nii.gz in kBq/mL, mu_map.nii.gz at the imaged line, labels.nii.gz with names in labels.json."""
    head, uptake = patient.head, patient.uptake
    folder.mkdir()
    write_image(folder / "activity.nii.gz", Image(uptake.kbq_per_ml, head.grid, "kBq/mL"))
    write_mu_map(folder / "mu_map.nii.gz", head.mu(nuclide_by_name(uptake.nuclide).main_kev))
    write_labels(folder / "labels.nii.gz", head.labels, head.grid, {label: name for name, label in LABEL.items()})
