"""A peer's files: nothing in pydicom's own test data is NM TOMO, and every file of it is refused with a reason.

The files come with pydicom's wheel; those that pydicom would download are not asked for.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pydicom.data
import pytest

ROOT = Path(pydicom.data.__file__).parent
LONGEST_S = 5.0

# In a process of its own, so that a crash or a hang is laid to the file. Each line of the answer is one reading.
_PROGRAM = """
import json, sys, time
from pathlib import Path
from spectac.recon.errors import InputError
from spectac.recon.io import open_study
from spectac.recon.io.dicom import ct as dicom_ct
from spectac.recon.io.dicom import nm as dicom_nm
readers = {"open_study": open_study, "read_image": dicom_nm.read_image, "read_series": dicom_ct.read_series}
for line in sys.stdin:
    reader, path = json.loads(line)
    print(json.dumps([reader, path]), end=" ", flush=True)
    begun = time.monotonic()
    try:
        readers[reader](Path(path))
        answer = ["read", ""]
    except (InputError, OSError) as error:
        answer = [type(error).__name__, str(error)]
    except Exception as error:
        answer = [type(error).__name__, repr(error)]
    print("|", json.dumps([*answer, time.monotonic() - begun]), flush=True)
"""


def _type_of_nm(path):
    """ImageType of an NM file, None for other files."""
    data = pydicom.dcmread(path, force=True, specific_tags=["Modality", "ImageType"])
    return list(data.ImageType) if data.get("Modality") == "NM" else None


def _read_all(readings):
    """Answers (outcome, message, seconds) by (reader, path)."""
    asked = "".join(json.dumps(one) + "\n" for one in readings)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore::ResourceWarning", "-c", _PROGRAM],
            input=asked,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    except subprocess.TimeoutExpired as stopped:
        pytest.fail(f"hangs at {(stopped.stdout or b'').decode().splitlines()[-1:]}")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"exit status {done.returncode} at {lines[-1:]}: {done.stderr[-2000:]}"
    answers = [line.split(" | ", 1) for line in lines]
    return {tuple(json.loads(one)): json.loads(other) for one, other in answers}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_file_of_pydicom_is_refused_with_a_reason(figure):
    files = sorted(path for path in ROOT.rglob("*") if path.is_file() and path.suffix != ".pyc")
    folders = sorted({path.parent for path in files if path.parent != ROOT})
    dicom = [path for path in files if path.suffix in (".dcm", "") or path.name.startswith("DICOMDIR")]
    assert len(dicom) > 100, "pydicom's wheel has lost its test data"
    nm = {path: image_type for path in dicom if (image_type := _type_of_nm(path)) is not None}
    assert len(nm) == 4, "whole-body scans, which are NM but not TOMO"
    assert [path for path, image_type in nm.items() if "TOMO" in image_type] == []
    readings = [("open_study", str(path)) for path in (*files, *folders)]
    readings += [(reader, str(path)) for reader in ("read_image", "read_series") for path in dicom]
    answers = _read_all(readings)
    assert len(answers) == len(readings)
    for (reader, path), (outcome, message, seconds) in answers.items():
        assert outcome in ("InputError", "FileError"), (reader, path, outcome, message)
        # A DICOMDIR stands for the files of its folder.
        named = str(Path(path).parent) if Path(path).name.startswith("DICOMDIR") else path
        assert named in message, (reader, path, message)
        assert len(message.splitlines()) == 1, (reader, path, message)
        assert len(message) > len(path) + 20, (reader, path, message)
        assert seconds < LONGEST_S, (reader, path, seconds)
    reasons = Counter(message.replace(path, "") for (reader, path), (_, message, _) in answers.items())
    assert len(reasons) > 10, "the reasons must tell the files apart"
    figure("pydicom's files refused by open_study", len(files), "all")
    figure("pydicom's files refused by read_image and read_series", 2 * len(dicom), "all")
