"""Stand-in for `spectac compare` in the tests of the batch: what it does stands in the study's file.

Not collected by pytest; workers import it by name.
"""

import json
import os
import signal
import time
from pathlib import Path

from spectac.recon import InputError
from spectac.recon.io.atomic import written_folder

COLUMNS = "method,status,reason,measure,region,value,unit,reference,reference_value,difference_percent"


def work(study: Path, request: object, output: Path) -> None:
    """Write what a comparison writes: "none" with the number in the study's file as the brain's mean, "ct" refused.

    A JSON object in the file says more: "brain", "true brain" (its reference value), "asymmetry" (value and reference
    value), "warnings", "notes" on method none, "refused" (methods and reasons), "missing_extras" (methods and extras).
    """
    if "FAKE_LOG" in os.environ:
        with open(os.environ["FAKE_LOG"], "a", encoding="utf-8") as log:
            log.write(f"{study.name}\n")
    time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
    text = study.read_text(encoding="utf-8").strip()
    if text == "corrupt":
        raise InputError(f"{study}: cannot tell\nwhat this file is")
    if text == "defect":
        raise ZeroDivisionError("a defect of the code")
    if text == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    if text == "huge":
        raise MemoryError
    if text == os.environ.get("FAKE_INTERRUPT"):
        raise KeyboardInterrupt
    if text == os.environ.get("FAKE_FULL"):
        raise OSError(28, "No space left on device")
    if text == os.environ.get("FAKE_UNREADABLE"):
        raise PermissionError(13, "Permission denied", str(study))
    if text == os.environ.get("FAKE_IN_THE_WAY"):
        raise FileExistsError(17, "this folder was not made by spectac", str(output / "images"))
    facts = json.loads(text) if text.startswith("{") else {"brain": float(text)}
    refused = facts.get("refused", {"ct": "the CT <ends> below the chin"})
    truth = f"truth,{facts['true brain']:g}," if "true brain" in facts else ",,"
    with written_folder(output) as folder:
        rows = [
            f"none,done,,mean,brain,{facts['brain']:g},cps/mL,{truth}",
            "none,done,,SBR,left striatum,2.5,,,,",
            *(f"{name},failed,{reason},,,,,,," for name, reason in refused.items()),
        ]
        if "asymmetry" in facts:
            value, told = facts["asymmetry"]
            rows.append(f"none,done,,SBR asymmetry %,putamen,{value:g},,truth,{told:g},")
        (folder / "images").mkdir()
        (folder / "images" / "none.nii.gz").write_text(text)
        (folder / "comparison.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
        (folder / "report.html").write_text(f"<p>{text} " + "x" * int(os.environ.get("FAKE_BYTES", "0")))
        methods = {"none": {"seconds": 0.25, "notes": facts.get("notes", [])}}
        record = {"text": text, "methods": methods, "refused": refused, "asked": str(request)}
        record |= {"warnings": facts.get("warnings", []), "missing_extras": facts.get("missing_extras", {})}
        (folder / "record.json").write_text(json.dumps(record))
