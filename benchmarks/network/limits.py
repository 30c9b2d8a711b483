"""Limits of use of the map's weights, set on validation patients and heads beyond training after the check by counts.

    python -m benchmarks.network.limits --validation FOLDER --beyond FOLDER [--save FILE] -o benchmarks/results

Six minutes on one core. The last step of training (`learned/doubt_limits.py`) once more, for weights whose training is
done; --save writes them with the new limits. The cohorts are those of learned/weights/README.md. Writes
network_limits.csv, a row a patient: uncertainty, distance of the outline, the factor on both limits (1.5 where the
counts confirm the map), and the error of attenuation factors less the uniform map's. The last is empty where the counts
contradict the map or no uniform one can be made.
"""

import argparse
import math
from dataclasses import asdict
from pathlib import Path

from benchmarks.provenance import provenance, write_csv
from spectac.learned.coverage import Coverage
from spectac.learned.doubt_limits import measured_limits
from spectac.learned.weights_file import read_weights, save_weights, shipped_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--validation", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--beyond", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--weights", type=Path, default=shipped_weights(), metavar="FILE", help="(the shipped ones)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="weights with these limits")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    network, about = read_weights(options.weights)
    coverage, weighed, judged = measured_limits(
        network, Coverage.from_json(about["coverage"]), options.validation, options.beyond
    )

    def percent(value: float) -> str:
        return "" if math.isnan(value) else f"{100.0 * value:.3f}"

    rows = [
        {
            **provenance(0),
            "patients": "beyond" if one.beyond else "validation",
            "uncertainty_percent": percent(one.spread),
            "outline_mm": "" if math.isnan(one.apart_mm) else f"{one.apart_mm:.2f}",
            "wider": one.wider,
            "gain_percent": percent(one.gain),
        }
        for one in judged
    ]
    write_csv(options.output / "network_limits.csv", rows)
    before = about["coverage"]
    print(f"uncertainty {percent(before['uncertainty'])} -> {percent(coverage.uncertainty)} %: {weighed}")
    print(f"outline {before['outline_mm']:.1f} -> {coverage.outline_mm:.1f} mm")
    if options.save:
        measured = {"coverage": coverage.to_json(), "uncertainty_limit": asdict(weighed)}
        save_weights(options.save, network, {**about, **measured})


if __name__ == "__main__":
    main()
