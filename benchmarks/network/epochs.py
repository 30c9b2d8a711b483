"""How the validation error of a training falls over its epochs.

    python -m benchmarks.network.epochs RUN... -o benchmarks/results

A second. RUN are folders of `spectac train` of one network, in their order, each begun with the weights of the one
before. Writes network_epochs.csv, a row an epoch: `error` is the mean relative error of attenuation factors of the
validation patients in % (`loss.factor_error`), `map_error` that of the map, both of the running mean of the weights;
commit and machine are those of this script.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.provenance import provenance, write_csv
from spectac.learned.weights_file import read_weights


def rows_of(portion: int, run: Path) -> list[dict[str, Any]]:
    """A row an epoch of one run."""
    _, about = read_weights(run / "weights.safetensors")
    facts = {"portion": portion, "patients": about["patients"], "learning_rate": about["settings"]["learning_rate"]}
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {
            **provenance(about["settings"]["seed"]),
            **facts,
            "epoch": line["epoch"],
            "loss": f"{line['loss']:.4f}",
            "error": f"{100.0 * line['error']:.3f}",
            "map_error": f"{100.0 * line['map_error']:.2f}",
        }
        for line in lines
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    rows = [row for portion, run in enumerate(options.runs, 1) for row in rows_of(portion, run)]
    write_csv(options.output / "network_epochs.csv", rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
