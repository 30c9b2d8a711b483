"""What it is worth to know what lies beside the head: holder none, typical, fitted or measured.

    python -m benchmarks.attenuation.holder [--with N] [--without N] -o FILE.csv

Writes holder.csv; one patient takes a minute on 2 cores. Patients are the first of the set "unseen" with and without a
holder, from expected counts; the holder's file comes from the CT of the same patient. Errors in %, against the image of
the true map with its holder, as in the attenuation study. "5 mm, 3 deg off": the file is moved by 5 mm along x and z
and turned by 3 degrees about z. `share` is that of a fitted holder,
`true_share` the attenuation of the patient's own over that of a typical one.
"""

import argparse
import tempfile
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attenuation.measures import image_measures
from benchmarks.attenuation.patients import SETS, draw_patient, virtual_case
from benchmarks.provenance import provenance, write_csv
from spectac.learned.predict import PredictedMap
from spectac.recon import GivenMap, ReconstructionSettings, reconstruct
from spectac.recon.attenuation import UniformMap
from spectac.recon.holder import Holder, measured, typical, write_holder
from spectac.recon.resample import resample
from spectac.recon.rigid import RigidShift
from spectac.recon.settings import HOLDERS
from spectac.recon.types import MuMap
from spectac.simulate.ct_scan import ct_scan

SEED = 21
KEPT = ("raw_mean", "raw_worst", "sbr_error", "sbr_signed", "pattern_error", "pattern_signed")


def misplaced(holder: Holder) -> Holder:
    """The holder 5 mm along x and z and 3 degrees about z from where it is."""
    grid = holder.mu.grid
    z, y, x = (float(axis.mean()) for axis in grid.centres_mm())
    moved = RigidShift((0.0, 0.0, 3.0), (5.0, 0.0, 5.0), (x, y, z)).moved(holder.mu)
    per_cm = np.maximum(resample(moved.per_cm, moved.grid, grid), 0.0)
    return replace(holder, mu=MuMap(per_cm, grid, holder.mu.energy_kev))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for kind, default in (("with", 8), ("without", 4)):
        parser.add_argument(f"--{kind}", type=int, default=default, metavar="N", dest=kind, help=f"({default})")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.csv")
    options = parser.parse_args()
    origin = provenance(SEED)
    rows: list[dict[str, Any]] = []
    missing = {True: getattr(options, "with"), False: options.without}
    for index in count():
        if not any(missing.values()):
            break
        patient, *_ = draw_patient(SEED, SETS["unseen"], index)
        has_holder = bool(patient.head.parameters["holder"])
        if not missing[has_holder]:
            continue
        missing[has_holder] -= 1
        case = virtual_case(SEED, SETS["unseen"], index, 0, noise=False)
        wanted = reconstruct(case.study, GivenMap(case.mu)).image.values
        placed, _ = typical(case.mu.energy_kev).beside(case.head_mu, case.study.acquisition)
        own, usual = (float((mu.per_cm - case.head_mu.per_cm).clip(min=0.0).sum()) for mu in (case.mu, placed))
        true_share = round(own / usual, 3)
        with tempfile.TemporaryDirectory() as folder:
            file, moved = Path(folder, "holder.nii.gz"), Path(folder, "moved.nii.gz")
            ways = {"as it is": None} | {way: Path(way) for way in HOLDERS}
            if has_holder:
                holder = measured(ct_scan(patient.head, np.random.default_rng((SEED, index))), case.mu.energy_kev)
                write_holder(file, holder)
                write_holder(moved, misplaced(holder))
                ways |= {"file": file, "file, 5 mm, 3 deg off": moved}
            for model in (GivenMap(case.head_mu, name="true head"), PredictedMap(), UniformMap()):
                for way, given in ways.items():
                    result = reconstruct(case.study, model, ReconstructionSettings(holder=given))
                    found = image_measures(result.image.values / case.cps_per_kbq, wanted / case.cps_per_kbq, case)
                    row = {**origin, "patient": index, "tracer": case.about["tracer"]}
                    row |= {"has_holder": has_holder, "map": model.name, "holder": way}
                    share = None if result.holder_share is None else round(result.holder_share.share, 3)
                    row |= {"fallback": result.fallback or "", "share": share, "true_share": true_share} | {
                        name: round(found[name], 3) for name in KEPT
                    }
                    print(row, flush=True)
                    rows.append(row)
                    write_csv(options.output, rows)


if __name__ == "__main__":
    main()
