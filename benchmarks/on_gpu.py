"""First command on a GPU: its tests, times beside PyTomography, and times from DICOM to DICOM.

    python benchmarks/on_gpu.py [--pytomography PYTHON] -o FOLDER

Made to take less than 8 minutes on an H100 or H200 with 16 cores; it has never run on one. Writes speed_cuda.csv,
clinic_cuda.csv, clinic_cuda_4.csv (four studies at a time), and the output of each step as text. Needs spectac with the
extra of the driver (`pip install '.[cuda13,test]'`), and for the comparison an interpreter that has PyTomography with a
torch for CUDA.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from spectac.recon.device import device_name, no_gpu

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pytomography", type=Path, metavar="PYTHON", help="interpreter with PyTomography 3.4.0, CUDA")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    if (reason := no_gpu()) is not None:
        sys.exit(f"no GPU to measure: {reason}")
    output = options.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    print(device_name("cuda"), flush=True)
    # Not resolved: the interpreter of a virtual environment is a link.
    peer = ["--pytomography", str(options.pytomography.absolute())] if options.pytomography else []
    clinic = ["benchmarks.speed.clinic", "--device", "cuda"]
    steps = {
        "tests": ["pytest", "-m", "gpu", "-q", "-rs", "tests"],
        "speed": [
            "benchmarks.speed.iteration", "--device", "cuda", *peer, "--seconds", "1", "-o",
            str(output / "speed_cuda.csv"),
        ],
        "clinic": [*clinic, *peer, "-o", str(output / "clinic_cuda.csv")],
        "clinic, four at a time": [*clinic, "--in-flight", "4", "-o", str(output / "clinic_cuda_4.csv")],
    }  # fmt: skip
    failed = []
    for name, module in steps.items():
        began = time.perf_counter()
        # A step that fails must not cost the figures of the others.
        done = subprocess.run([sys.executable, "-m", *module], cwd=ROOT, capture_output=True, text=True, check=False)
        (output / f"{name.replace(', ', '_').replace(' ', '_')}.txt").write_text(done.stdout + done.stderr)
        print(f"{name}: exit code {done.returncode}, {time.perf_counter() - began:.0f} s", flush=True)
        print("\n".join((done.stdout + done.stderr).splitlines()[-5:]), flush=True)
        if done.returncode or (name == "tests" and " passed" not in done.stdout):
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see the .txt files in {output}")


if __name__ == "__main__":
    main()
