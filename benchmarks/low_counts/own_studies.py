"""Noisy studies of virtual patients without their truth, for self-supervised training.

    python -m benchmarks.low_counts.own_studies -o FOLDER [--set NAME] [--training N] [--validation N] [--seed N]

Some seconds a study. Writes HDF5 studies of the full time to FOLDER/training and FOLDER/validation, tracers in turn,
and FOLDER/short.toml for `spectac train FOLDER/short.toml -o FOLDER/run`. The weights are judged by
`run --set NAME --weights FOLDER/run/weights.safetensors`: use another seed there, the same one gives the same patients.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.attenuation.patients import Sources
from benchmarks.low_counts.patients import COUNTS, SET_NAMES, realisations, subject_of
from spectac.recon import InputError
from spectac.recon.io.hdf5 import write_study

SETTINGS = """target = "low-counts"
training = "{folder}/training"
validation = "{folder}/validation"
begin_with = "shipped"
widths = [24, 48, 96]
dropout = 0.0
epochs = {epochs}
batch = 4
devices = {devices}
learning_rate = 3e-4
patience = 200
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--set", choices=SET_NAMES[:4], default=SET_NAMES[2], help=f"({SET_NAMES[2]})")
    parser.add_argument("--training", type=int, default=24, metavar="N", help="studies (24)")
    parser.add_argument("--validation", type=int, default=8, metavar="N", help="studies (8)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--devices", type=int, default=1, help="processes or GPUs of the training (1)")
    options = parser.parse_args()
    if options.output.exists() and any(options.output.iterdir()):
        parser.error(f"{options.output} is not empty: choose another folder")
    tracers = tuple(COUNTS)
    numbers = {"training": range(options.training)}
    numbers["validation"] = range(options.training, options.training + options.validation)
    for part, indices in numbers.items():
        (options.output / part).mkdir(parents=True, exist_ok=True)
        for index in indices:
            path = options.output / part / f"{index:03d}.h5"
            tracer = tracers[index % len(tracers)]
            try:
                subject = subject_of(options.set, options.seed, tracer, index // len(tracers), Sources(), 0)
            except InputError as error:
                print(f"{path}: {error}", flush=True)
                continue
            ((full, _),) = realisations(subject.study, np.random.SeedSequence((options.seed, index)), 1)
            write_study(path, full)
            print(path, flush=True)
    settings = SETTINGS.format(folder=options.output.as_posix(), epochs=options.epochs, devices=options.devices)
    (options.output / "short.toml").write_text(settings, encoding="utf-8")


if __name__ == "__main__":
    main()
