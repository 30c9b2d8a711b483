"""What a GPU must show, in one command: its tests, times beside PyTomography, from DICOM to DICOM.

    python benchmarks/on_gpu.py [--pytomography PYTHON] -o FOLDER

Needs spectac with its extra for the driver (`pip install '.[cuda13,test]'`), and for the comparison an interpreter that
has PyTomography with a torch for CUDA. Meant to take less than 8 minutes on an H100 or H200 with 16 cores. Writes
speed_cuda.csv, clinic_cuda.csv and clinic_cuda_4.csv (four studies at a time), and what each step printed.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.speed.problem import GROWING, TIGHT

from spectac.recon.device import device_name, no_gpu

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pytomography", metavar="PYTHON", help="interpreter that has PyTomography 3.4.0 for CUDA")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    if (reason := no_gpu()) is not None:
        sys.exit(f"no GPU to measure: {reason}")
    options.output.mkdir(parents=True, exist_ok=True)
    print(device_name("cuda"), flush=True)
    peer = ["--pytomography", options.pytomography] if options.pytomography else []
    sizes = [problem.name for problem in (*GROWING, TIGHT)]
    clinic = [str(HERE / "clinic.py"), "--device", "cuda"]
    steps = {
        "tests": ["-m", "pytest", "-m", "gpu", "-q", "-rs", str(HERE.parent / "tests")],
        "speed": [
            str(HERE / "speed.py"), "--device", "cuda", *peer, "--sizes", *sizes, "--seconds", "1",
            "-o", str(options.output / "speed_cuda.csv"),
        ],
        "clinic": [*clinic, *peer, "-o", str(options.output / "clinic_cuda.csv")],
        "clinic, four at a time": [*clinic, "--in-flight", "4", "-o", str(options.output / "clinic_cuda_4.csv")],
    }  # fmt: skip
    failed = []
    for name, command in steps.items():
        began = time.perf_counter()
        # One step that fails must not cost the figures of the others.
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        (options.output / f"{name.replace(', ', '_').replace(' ', '_')}.txt").write_text(done.stdout + done.stderr)
        print(f"{name}: exit code {done.returncode}, {time.perf_counter() - began:.0f} s", flush=True)
        print("\n".join((done.stdout + done.stderr).splitlines()[-5:]), flush=True)
        if done.returncode or (name == "tests" and " passed" not in done.stdout):
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see the .txt files in {options.output}")


if __name__ == "__main__":
    main()
