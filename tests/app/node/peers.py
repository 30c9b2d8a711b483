"""Real peers of the node: an Orthanc, dcmtk's programs, and the node as a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

DCMTK = {name: f"/usr/bin/{name}" for name in ("storescu", "echoscu", "storescp", "findscu")}
"""pynetdicom has programs of the same names."""
WORK = '''
import os, shutil, sys
import pydicom
from pydicom.uid import generate_uid
from spectac.app.node import run, work
from spectac.app.node.work import OBJECTS, Object

def made(self, task, place):
    """In place of minutes of reconstruction: an image of the projections' own study, and whose CT was used."""
    folder = place / OBJECTS
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    data = pydicom.dcmread(task.files[0])
    cts = {str(pydicom.dcmread(path).PatientID) for path in task.ct}
    data.SeriesDescription = f"of {data.SOPInstanceUID[-40:]}"
    data.PatientComments = f"CT of {','.join(sorted(cts)) or 'nobody'}"
    data.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.SeriesInstanceUID = generate_uid()
    data.save_as(folder / "none.dcm")
    return (Object(str(data.SOPInstanceUID), "none.dcm"),), ()

if os.environ.get("QUICK_WORK"):
    work.NodeWork._made = made
run.POLL_S, run.AGAIN_S = 0.2, 1.0
from spectac.app.node import sender
sender.FIRST_WAIT_S, sender.LONGEST_WAIT_S = 1.0, 3.0
if __name__ == "__main__":
    sys.argv = ["spectac", "node", "--config", sys.argv[1]]
    from spectac.app.cli import main
    main()
'''


class Orthanc:
    """An archive of the distribution, with the node as a known modality."""

    def __init__(self, folder, dicom_port, http_port, node_port):
        self.http, self.process = f"http://127.0.0.1:{http_port}", None
        self.config = folder / "orthanc.json"
        folder.mkdir()
        self.config.write_text(
            json.dumps(
                {
                    "Name": "test", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
                    "DicomAet": "PACS", "DicomPort": dicom_port, "HttpPort": http_port, "Plugins": [],
                    "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomCheckCalledAet": True,
                    "DicomAlwaysAllowStore": True, "DicomAlwaysAllowFind": True,
                    "DicomModalities": {"node": ["NODE", "127.0.0.1", node_port]}, "OverwriteInstances": False,
                }
            )
        )  # fmt: skip

    def start(self):
        self.process = subprocess.Popen(
            [shutil.which("Orthanc", path="/usr/sbin:/usr/bin"), str(self.config)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(lambda: self.get("/system") is not None, 60.0)

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def get(self, path):
        try:
            with urllib.request.urlopen(self.http + path, timeout=10) as answer:
                return json.loads(answer.read())
        except OSError:
            return None

    def post(self, path, content):
        """What it answers to a file's bytes, or to words as JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        with urllib.request.urlopen(urllib.request.Request(self.http + path, body), timeout=30) as answer:
            return json.loads(answer.read() or b"{}")

    def instances(self):
        return self.get("/instances") or []

    def file(self, instance):
        with urllib.request.urlopen(f"{self.http}/instances/{instance}/file", timeout=10) as answer:
            return answer.read()


def until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.2)


class Process:
    """The node as a process of its own."""

    def __init__(self, folder, config, quick):
        self.script, self.config, self.environment = folder / "node_process.py", config, dict(os.environ)
        self.script.write_text(WORK)
        if quick:
            self.environment["QUICK_WORK"] = "1"
        self.process, self.log = None, folder / "node.log"

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(self.script), str(self.config)], env=self.environment, stdout=log, stderr=log
            )

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


def storescu(port, *files):
    """True where dcmtk's storescu says that all files were taken."""
    done = subprocess.run(
        [DCMTK["storescu"], "-aet", "CAMERA", "-aec", "NODE", "127.0.0.1", str(port), *map(str, files)],
        capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    return done.returncode == 0


def echo(port):
    command = [DCMTK["echoscu"], "-aet", "CAMERA", "-aec", "NODE", "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
