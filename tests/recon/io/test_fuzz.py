"""Damaged files of every format: the right result or one clear error, within 5 s and with little memory.

Each file is read by a process of its own that serves many files (fuzz_worker.py), so that a crash or a hang inside a
C library ends that process and not the tests, and is laid to the seed that caused it.
"""

import json
import re
import select
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is set back through Linux's /proc"
)

WORKER = Path(__file__).with_name("fuzz_worker.py")
LONGEST_S = 5.0
FULL = {
    "nm": 10_000, "recon": 3000, "ct": 3000, "ct-folder": 3000, "interfile": 5000, "interfile-image": 3000,
    "interfile-data": 3000, "hdf5": 2500, "nifti": 4000, "map": 3500,
}  # fmt: skip
"""Files of each kind in the full run: what two cores read in about ten minutes."""
assert sum(FULL.values()) == 40_000


class Worker:
    """A process that reads damaged files, started again after it crashed or was killed."""

    def __init__(self, folder, longest_s=LONGEST_S):
        self.folder = folder
        self.longest_s = longest_s
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def judge(self, kind, seed):
        """Answer of the process for one seed, or the way in which it failed to answer."""
        if self.process is None:
            self._start()
        self.process.stdin.write(f"{kind} {seed}\n".encode())
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], self.longest_s)
        if not ready:
            self.end()
            return {"kind": kind, "seed": seed, "outcome": "hang", "fault": f"no answer within {self.longest_s:g} s"}
        answer = self.process.stdout.readline()
        if not answer:
            status = self.end()
            said = (self.folder / "stderr.txt").read_text(errors="replace")[-3000:]
            return {"kind": kind, "seed": seed, "outcome": "crash", "fault": f"exit status {status}: {said}"}
        return json.loads(answer)

    def _start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "stderr.txt").open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, str(WORKER), str(self.folder / "files")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
            )
        started = self.process.stdout.readline()
        assert started == b"ready\n", (self.folder / "stderr.txt").read_text()

    def end(self):
        """Kill the process and return its exit status."""
        process, self.process = self.process, None
        if process is None:
            return None
        if process.poll() is None:
            process.kill()
        process.stdin.close()
        process.stdout.close()
        return process.wait()


def fuzz(folder, first_seed, files):
    """Read so many damaged files of each kind; outcomes by kind, and the answers that tell of a fault."""
    outcomes, faults = {kind: Counter() for kind in files}, []
    with Worker(folder) as worker:
        for kind, number in files.items():
            for seed in range(first_seed, first_seed + number):
                answer = worker.judge(kind, seed)
                outcomes[kind][answer["outcome"]] += 1
                outcomes[kind]["grown"] = max(outcomes[kind]["grown"], answer.get("grown", 0))
                if answer["fault"]:
                    faults.append(answer)
    return outcomes, faults


def check(outcomes, faults, figure):
    said = "\n".join(f"{WORKER.name} FOLDER {one['kind']} {one['seed']}: {one['fault']}" for one in faults[:10])
    assert not faults, f"{len(faults)} faults, the first ones:\n{said}"
    for kind, found in outcomes.items():
        # Damage must both be refused and be survived, or the mutations miss what readers look at. HDF5 is sealed by a
        # digest: nothing but an undamaged file is read.
        assert found["InputError"], kind
        assert kind == "hdf5" or found["read"], kind
        figure(f"fuzz {kind}: largest growth of memory in MiB", found["grown"] / 2**20, "64")


def test_a_few_damaged_files_of_every_format(tmp_path, figure):
    check(*fuzz(tmp_path, 0, dict.fromkeys(FULL, 25)), figure)


@pytest.mark.parametrize(
    ("kind", "seeds", "said"),
    [
        ("hang", 1, "no answer within 2 s"),
        ("crash", 1, "exit status -6: .*Aborted"),
        ("exception", 1, "KeyError: 'key'"),
        ("memory", 1, "memory grew by 6[0-9] MiB"),
        ("allocation", 1, "MemoryError"),
        ("lines", 1, "not one clear line"),
        ("wrong", 40, "read, with other numbers"),
    ],
)
def test_every_fault_of_a_reader_is_caught_and_laid_to_its_seed(tmp_path, kind, seeds, said):
    with Worker(tmp_path, 2.0) as worker:
        answers = [worker.judge(kind, seed) for seed in range(seeds)]
        faults = [one for one in answers if re.search(said, one["fault"], re.DOTALL)]
        assert faults, answers
        assert faults[0]["kind"] == kind
        # The next file is read as if nothing had been, and the same seed makes the same damage.
        assert worker.judge("nifti", 0)["fault"] == ""


@pytest.mark.slow
def test_many_damaged_files(tmp_path, figure):
    half = {kind: number // 2 for kind, number in FULL.items()}
    with ThreadPoolExecutor(2) as pool:
        (outcomes, faults), (others, more) = pool.map(
            lambda part: fuzz(tmp_path / str(part), 1000 + part * 100_000, half), (0, 1)
        )
    check({kind: outcomes[kind] | others[kind] for kind in FULL}, faults + more, figure)
