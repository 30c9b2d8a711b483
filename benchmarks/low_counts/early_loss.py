"""Whether an early loss in one putamen is still told from health at a fifth of the counts: areas under the ROC curve.

    python -m benchmarks.low_counts.early_loss -o FOLDER [--weights FILE] [--patients N] [--realisations N]
        [--losses SHARE...] [--seed N]

An hour on 2 cores for 20 patients with 10 realisations and one loss. Writes early_loss.csv, which is resumed, and
prints a table. Each patient is simulated healthy and with each loss of binding in the back half of one putamen. Scores
of an image, read in the true regions: the lower of both sides' putamen over caudate (binding ratios), the asymmetry of
the putamina, and the asymmetry signed by the side of the loss, as if symptoms gave that side. `over raw`: the area
beyond that of the raw fifth, with a 95 % bootstrap interval over patients. `regained`: this over the full time's own
gain over raw, where that is above 0 in 97.5 % of the draws. The loss to look at is the one whose full time's area is
0.90 to 0.93.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.attenuation.patients import labelled_case
from benchmarks.low_counts.methods import FULL, RAW, READ, Methods
from benchmarks.low_counts.patients import patient_of, realisations, regions
from benchmarks.low_counts.run import Resumed, code_of, in_words, measures
from benchmarks.provenance import provenance
from spectac.recon import InputError
from spectac.recon.resample import resample
from spectac.recon.types import Array
from spectac.simulate.regions import SIDES

SCORES = ("ratio", "asymmetry", "side known")
BOOTSTRAPS = 1000
Row = dict[str, str]


def readings(binding: dict[str, float]) -> dict[str, float]:
    """Least ratio of putamen over caudate, and asymmetry: above 0 where the left putamen is the lower one."""
    right, left = (binding[f"SBR {side} putamen"] for side in SIDES)
    ratios = (right / binding["SBR right caudate"], left / binding["SBR left caudate"])
    return {"ratio": min(ratios), "asymmetry": (right - left) / (right + left)}


def score_of(row: Mapping[str, str], score: str, side: str) -> float:
    """One of SCORES, the higher, the more likely a loss; `side` is where the patient has it, or would have it."""
    if score == "ratio":
        return -float(row["ratio"])
    asymmetry = float(row["asymmetry"])
    if score == "asymmetry":
        return abs(asymmetry)
    return asymmetry if side == "left" else -asymmetry


def rows_of(
    seed: int, index: int, loss: float, number: int, weights: Path | None, about: dict[str, object]
) -> Iterator[Row]:
    """Rows of one patient with one loss (0: healthy), one a method and realisation."""
    simulated, noise = patient_of(seed, "dat", index, "healthy", f"early:{loss:g}" if loss else None)
    case, head = labelled_case(simulated, "tew"), simulated.patient.head
    masks, side = regions(head.labels, "dat"), simulated.patient.uptake.parameters["defect_side"] if loss else ""
    methods = Methods(case, weights, READ)
    for realisation, (full, short) in enumerate(realisations(simulated.study, noise, number)):
        for name, values in methods.images(full, short):
            of_image = readings(measures(resample(values, case.grid, head.grid), masks, "dat"))
            row = {**about, "patient": index, "loss": loss, "side": side, "method": name, "realisation": realisation}
            yield {key: str(value) for key, value in row.items()} | {key: f"{one:.5g}" for key, one in of_image.items()}


def area(healthy: Array, ill: Array) -> float:
    """Area under the ROC curve of scores (n,) and (m,): the share of pairs in the right order, half of ties."""
    above = ill[:, None] - healthy[None, :]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def table(rows: Sequence[Row], seed: int) -> Iterator[dict[str, float | str]]:
    """Areas of each loss, score and method, over patients and realisations together."""
    losses = sorted({row["loss"] for row in rows} - {"0.0"}, key=float)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for loss in losses:
        ill, healthy = ({row["patient"] for row in rows if row["loss"] == one} for one in (loss, "0.0"))
        patients = sorted(ill & healthy)
        if not patients:
            continue
        sides = {row["patient"]: row["side"] for row in rows if row["loss"] == loss}
        for score in SCORES:
            values = {
                (method, patient, lossy): np.array(
                    [
                        score_of(row, score, sides[patient])
                        for row in rows
                        if (row["method"], row["patient"], row["loss"]) == (method, patient, loss if lossy else "0.0")
                    ]
                )
                for method in methods
                for patient in patients
                for lossy in (False, True)
            }

            def areas(chosen: Sequence[str], values: dict = values) -> dict[str, float]:
                return {
                    method: area(
                        *(np.concatenate([values[method, one, lossy] for one in chosen]) for lossy in (False, True))
                    )
                    for method in methods
                }

            rng = np.random.default_rng(seed)
            drawn = [areas(rng.choice(patients, len(patients)).tolist()) for _ in range(BOOTSTRAPS)]
            whole = areas(patients)
            lost = whole[FULL] - whole[RAW]
            gap_is_certain = float(np.quantile([one[FULL] - one[RAW] for one in drawn], 0.025)) > 0.0
            for method, of_method in whole.items():
                line: dict[str, float | str] = {"method": method, "loss": loss, "score": score, "area": of_method}
                gains = [one[method] - one[RAW] for one in drawn]
                line |= {"over raw": of_method - whole[RAW]}
                line |= {key: float(np.quantile(gains, level)) for key, level in (("from", 0.025), ("to", 0.975))}
                yield line | {"regained": (of_method - whole[RAW]) / lost if gap_is_certain else float("nan")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--patients", type=int, default=20, metavar="N", help="(20)")
    parser.add_argument("--realisations", type=int, default=10, metavar="N", help="of each patient and loss (10)")
    parser.add_argument("--losses", type=float, nargs="+", default=[0.3], metavar="SHARE", help="(0.3)")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of a low-counts network")
    options = parser.parse_args()
    if options.patients < 1 or options.realisations < 1 or not all(0.01 <= loss <= 1.0 for loss in options.losses):
        parser.error("it takes a patient, a realisation, and losses from 0.01 to 1")
    options.output.mkdir(parents=True, exist_ok=True)
    path, code = options.output / "early_loss.csv", code_of("benchmarks.low_counts.early_loss", options.weights)
    about = {"seed": str(options.seed), "realisations": str(options.realisations), "code": code}
    resumed = Resumed(path, about, ("seed", "realisations", "patient", "loss", "method", "realisation"))
    done = {(row["patient"], float(row["loss"])) for row in resumed.rows}
    for index in range(options.patients):
        for loss in (0.0, *options.losses):
            if (str(index), loss) in done:
                continue
            origin: dict[str, object] = {**provenance(options.seed), **about}
            try:
                resumed.add(list(rows_of(options.seed, index, loss, options.realisations, options.weights, origin)))
            except InputError as error:
                print(f"patient {index}, loss {loss:g}: {error}", flush=True)
                continue
            print(f"patient {index}, loss {loss:g}", flush=True)
    for line in table([row for row in resumed.rows if int(row["patient"]) < options.patients], options.seed):
        print(in_words(line))


if __name__ == "__main__":
    main()
