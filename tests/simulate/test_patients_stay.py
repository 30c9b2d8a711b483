"""Virtual patients of a cohort stay what they are: digests of patients 0 to 3 of seed 100.

A change of the code that moves one of these digests makes other patients: networks and results that came from a cohort
can then not be made again. What is drawn is the same on every processor. Images depend on the processor's last digit,
so that theirs are compared where the processor has what the one had on which they were taken.
"""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from spectac.simulate.anatomy.ranges import TRAINING, draw_shape
from spectac.simulate.cohort.folder import CohortSettings
from spectac.simulate.cohort.patient import seeds, simulate_patient
from spectac.simulate.scanner import SCANNERS, draw_scanner

DRAWN = ("3ebd6c0df777b0f4", "8f4edeb5c8200c2e", "03618f992f854a7f", "8a8696e5511f264a")
"""Of the head's shape and the scanner."""

ARRAYS = (
    "437f614b43d8772edce1298a2c513739d9f2d9e8c0a74e7776afe0507b95f940",
    "6842a1e8a2472a6f47fd72b08bb51e5b308ca69972aa13b464389b8bf24bc23f",
    "aaef6a98628f30c456b6e71d76f9f63e72ba86edded62f714ac3f39302074112",
    "a1595bda1882beeb94a6c2f689e124ca327f68d6359683219bef31479324f2c8",
)
"""Of all arrays that a cohort stores."""

PRESETS = "20aa41c96fb82cd7"


def digest(values) -> str:
    """Digest of plain values; numbers to 6 digits behind the point."""
    plain = json.loads(json.dumps(values), parse_float=lambda text: round(float(text), 6))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def drawn(index: int) -> str:
    random = {name: np.random.default_rng(child) for name, child in seeds(100, index).items()}
    return digest([draw_shape(random["head"], TRAINING).plain(), draw_scanner(random["scanner"]).record()])


def presets() -> str:
    parallel = (scanner for scanner in SCANNERS.values() if scanner.collimator_data.focus is None)
    return digest([scanner.record() for scanner in parallel])


def test_what_is_drawn_stays():
    assert tuple(drawn(index) for index in range(4)) == DRAWN
    assert presets() == PRESETS


_WITH_A_NEW_ROW = """
import runpy, sys
from dataclasses import replace
from types import MappingProxyType
import spectac.recon.collimator as table
new = (replace(table.COLLIMATORS["ge-lehr"], name=name) for name in ("ge-leap", "siemens-le", "mediso-me"))
table.COLLIMATORS = MappingProxyType({row.name: row for row in (*new, *table.COLLIMATORS.values())})
test = runpy.run_path(sys.argv[1])
print(*[test["drawn"](index) for index in range(4)], test["presets"]())
"""


def test_a_new_row_of_the_collimator_table_changes_no_patient():
    """Three rows put in front of a vendor's own, in a process that has not imported the cameras yet."""
    command = [sys.executable, "-c", _WITH_A_NEW_ROW, __file__]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*DRAWN, PRESETS]


@pytest.mark.slow
@pytest.mark.parametrize("index", range(4))
def test_arrays_stay(index):
    features = np._core._multiarray_umath.__cpu_features__
    if not features.get("FMA3") or features.get("AVX512F"):
        pytest.skip("the digests were taken on a processor with AVX2 and without AVX-512: last digits are others here")
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert simulate_patient(100, index, CohortSettings(4, seed=100)).sha256 == ARRAYS[index]
    finally:
        os.sched_setaffinity(0, allowed)
