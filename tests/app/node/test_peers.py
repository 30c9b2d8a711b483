"""The node among real peers: dcmtk sends, Orthanc archives; through kills, duplicates, and a destination that is away.

Peers come from the distribution: apt-get install dcmtk orthanc dicom3tools.
"""

import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from spectac.app.node.memory import Memory
from spectac.recon import default_grid
from spectac.recon.io.dicom.nm_read_image import read_image
from spectac.recon.io.dicom.nm_write_projections import write_study

from .conftest import ct, raw
from .peers import DCMTK, Orthanc, Process, echo, storescu, until
from .test_objects import NOISE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
needs_peers = pytest.mark.skipif(
    not all(map(os.path.exists, DCMTK.values())) or shutil.which("Orthanc", path="/usr/sbin:/usr/bin") is None,
    reason="dcmtk and Orthanc are not installed",
)


@pytest.fixture
def place(tmp_path, unused_port):
    """Ports, an archive, and a function that writes a configuration and gives the node's process."""
    ports = {name: unused_port() for name in ("node", "pacs", "http")}
    archive = Orthanc(tmp_path / "orthanc", ports["pacs"], ports["http"], ports["node"])
    nodes = []

    def node(rule, *, quick, **more):
        lines = [f"{key} = {json.dumps(value)}" for key, value in ({"least_free_gb": 0.1} | more).items()]
        config = tmp_path / "node.toml"
        config.write_text(
            "\n".join(
                [
                    'ae = "NODE"', f'folder = "{tmp_path / "node"}"', f"port = {ports['node']}", "status_port = 0",
                    "workers = 0", *lines, "[[peer]]", 'ae = "CAMERA"', 'host = "127.0.0.1"',
                    "[[peer]]", 'ae = "PACS"', 'host = "127.0.0.1"', f"port = {ports['pacs']}",
                    "[[destination]]", 'name = "pacs"', 'ae = "PACS"', 'host = "127.0.0.1"', f"port = {ports['pacs']}",
                    "[[rule]]", 'name = "brain"', 'destinations = ["pacs"]', rule,
                ]
            )
        )  # fmt: skip
        nodes.append(Process(tmp_path, config, quick))
        return nodes[-1]

    yield node, archive, ports
    for one in nodes:
        one.stop()
    archive.stop()


def of_usual_size(seed=5):
    """A virtual DAT patient's study of 128 x 128 x 64 voxels and 120 views."""
    from spectac.simulate.acquire import Patient, expected_counts
    from spectac.simulate.head import draw_head
    from spectac.simulate.scanner import Scanner
    from spectac.simulate.uptake import draw_uptake

    head_seed, uptake_seed, photons, noise = np.random.SeedSequence(seed).spawn(4)
    head = draw_head(np.random.default_rng(head_seed))
    uptake = draw_uptake("dat", head, np.random.default_rng(uptake_seed), nuclide="I-123")
    camera = Scanner("siemens", "siemens-lehr", matrix=(64, 128), pixel_mm=4.4, views=120, scheme="tew+scatter")
    return expected_counts(Patient(head, uptake), camera.around(head), photons).study(np.random.default_rng(noise))


@needs_peers
@pytest.mark.parametrize(
    ("size", "methods", "settings"),
    [
        ("32 x 32 x 32", ("none", "uniform"), "iterations = 2, subsets = 6"),
        ("128 x 128 x 64", ("predicted",), "iterations = 10, subsets = 10"),
    ],
)
def test_from_storescu_to_orthanc(place, tmp_path, request, figure, size, methods, settings):
    """A real reconstruction: every object in the archive, readable, where the projections say."""
    if "predicted" in methods:
        pytest.importorskip("torch", reason="the predicted map needs torch: pip install 'spectac[learned]'")
        study = of_usual_size()
    else:
        study = request.getfixturevalue("patient")[0]
    study = replace(study, patient={"PatientID": "P1", "PatientName": "Doe^Jane", "StudyInstanceUID": "1.2.3.77"})
    write_study(tmp_path / "raw.dcm", study)
    node, archive, ports = place
    archive.start()
    one = node(f"methods = {json.dumps(methods)}\nsettings = {{ {settings} }}", quick=False, quiet_seconds=2)
    one.start()
    until(lambda: echo(ports["node"]), 60.0)
    assert storescu(ports["node"], tmp_path / "raw.dcm")
    sent = time.monotonic()
    until(
        lambda: any(data["MainDicomTags"].get("Modality") == "NM" for data in archive.get("/series?expand") or []),
        180.0,
    )
    figure(f"node: seconds from the last file to the first image in the archive, {size}, quiet 2 s",
           time.monotonic() - sent, "180")  # fmt: skip
    until(lambda: len(archive.instances()) == len(methods) + 2, 180.0)
    figure(f"node: seconds to all objects, {size}, quiet 2 s", time.monotonic() - sent, "180")
    asked = ["-S", "-aec", "PACS", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=P1", "-k", "StudyInstanceUID"]
    answer = subprocess.run(
        [DCMTK["findscu"], "-v", *asked, "127.0.0.1", str(ports["pacs"])], capture_output=True, text=True, check=True
    )
    assert "[1.2.3.77]" in answer.stdout + answer.stderr
    kinds = {}
    for number, instance in enumerate(archive.instances()):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(archive.file(instance))
        data = pydicom.dcmread(path)
        assert (data.PatientID, data.StudyInstanceUID) == ("P1", "1.2.3.77")
        kinds.setdefault(data.Modality, []).append(path)
        if shutil.which("dciodvfy"):
            told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
            errors = {line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")}
            assert errors <= {NOISE}
    assert {kind: len(paths) for kind, paths in kinds.items()} == {"NM": len(methods), "DOC": 1, "OT": 1}
    for path in kinds["NM"]:
        assert read_image(path).grid.same_as(default_grid(study.acquisition))


@needs_peers
def test_orthanc_sends_and_is_told_that_the_node_has_it(place, tmp_path):
    """The archive is the camera here: C-STORE to the node, then storage commitment, answered on another connection."""
    node, archive, ports = place
    archive.start()
    one = node('methods = ["none"]', quick=True, quiet_seconds=1000)
    one.start()
    until(lambda: echo(ports["node"]), 60.0)
    path = raw(tmp_path / "a.dcm")
    instance = archive.post("/instances", path.read_bytes())["ID"]
    archive.post("/modalities/node/store", [instance])
    (kept,) = (tmp_path / "node" / "incoming").rglob("*.dcm")
    sop = str(pydicom.dcmread(kept).SOPInstanceUID)
    assert sop == str(pydicom.dcmread(path).SOPInstanceUID)
    for wanted, verdict in ((sop, "Success"), ("1.2.3.999", "Failure")):
        asked = archive.post(
            "/modalities/node/storage-commitment", {"DicomInstances": [["1.2.840.10008.5.1.4.1.1.20", wanted]]}
        )
        until(lambda path=asked["Path"]: archive.get(path)["Status"] != "Pending", 30.0)
        assert archive.get(asked["Path"])["Status"] == verdict


def certificates(folder):
    """An authority, and a key and certificate signed by it for the node and for dcmtk."""
    folder.mkdir()

    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name in ("node", "peer"):
        openssl(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
            f"{name}.pem", "-days", "2",
        )  # fmt: skip
    return folder


@needs_peers
@pytest.mark.parametrize(
    ("command", "proposed"),
    [(("dcmcjpeg", "+e1"), "-xs"), (("dcmcjpls",), "-xt"), (("dcmcrle",), "-xr"), (("dcmconv", "+td"), "-xd")],
)
def test_compressed_projections_are_taken_and_read(place, tmp_path, command, proposed):
    """JPEG and JPEG-LS without loss, RLE, deflated: what is kept holds the same counts."""
    from spectac.recon.io import open_study

    pytest.importorskip("gdcm", reason="JPEG needs python-gdcm: pip install 'spectac[node]'")
    node, _, ports = place
    path = raw(tmp_path / "a.dcm")
    program, *words = command
    subprocess.run([f"/usr/bin/{program}", *words, path, tmp_path / "packed.dcm"], check=True)
    one = node('methods = ["none"]', quick=True, quiet_seconds=1000)
    one.start()
    until(lambda: echo(ports["node"]), 60.0)
    call = [DCMTK["storescu"], proposed, "-aet", "CAMERA", "-aec", "NODE", "127.0.0.1", ports["node"]]
    subprocess.run([*map(str, call), tmp_path / "packed.dcm"], check=True, timeout=60)
    (kept,) = (tmp_path / "node" / "incoming").rglob("*.dcm")
    assert (
        pydicom.dcmread(kept).file_meta.TransferSyntaxUID
        == pydicom.dcmread(tmp_path / "packed.dcm").file_meta.TransferSyntaxUID
    )
    np.testing.assert_array_equal(open_study(kept).counts, open_study(path).counts)


@needs_peers
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_takes_certificates_of_the_authority_alone(place, tmp_path):
    """dcmtk sends with a certificate, without TLS, and with one of its own; storescp gets the image by TLS."""
    _, _, ports = place
    files = certificates(tmp_path / "tls")
    (tmp_path / "got").mkdir()
    config = tmp_path / "node.toml"
    config.write_text(
        f'''
ae = "NODE"
folder = "{tmp_path / "node"}"
port = {ports["node"]}
status_port = 0
workers = 0
least_free_gb = 0.1
quiet_seconds = 1
tls = {{ certificate = "{files}/node.pem", key = "{files}/node.key", authorities = "{files}/ca.pem" }}
[[peer]]
ae = "CAMERA"
host = "127.0.0.1"
[[destination]]
name = "pacs"
ae = "PACS"
host = "127.0.0.1"
port = {ports["pacs"]}
tls = true
[[rule]]
name = "brain"
methods = ["none"]
destinations = ["pacs"]
'''
    )
    with_certificate = ["+tls", files / "peer.key", files / "peer.pem", "+cf", files / "ca.pem"]
    command = [DCMTK["storescp"], *with_certificate, "-aet", "PACS", "-od", tmp_path / "got", str(ports["pacs"])]
    archive = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    one = Process(tmp_path, config, quick=True)
    one.start()

    def sent(*words):
        call = [
            DCMTK["storescu"],
            *words,
            "-aet",
            "CAMERA",
            "-aec",
            "NODE",
            "127.0.0.1",
            ports["node"],
            tmp_path / "a.dcm",
        ]
        return subprocess.run(list(map(str, call)), capture_output=True, check=False, timeout=60).returncode == 0

    try:
        raw(tmp_path / "a.dcm")
        until(lambda: sent(*with_certificate), 60.0)
        assert not sent()
        stranger = certificates(tmp_path / "other")
        assert not sent("+tls", stranger / "peer.key", stranger / "peer.pem", "+cf", files / "ca.pem")
        until(lambda: list((tmp_path / "got").iterdir()), 60.0)
    finally:
        one.stop()
        archive.terminate()
        archive.wait()


@pytest.fixture
def small_disk(tmp_path):
    """The node's folder on a disk of its own, and a function that fills it for some seconds; None without root."""
    disk = tmp_path / "node"
    disk.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=500m", "tmpfs", str(disk)], check=False, capture_output=True
    )  # fmt: skip

    def fill(seconds):
        try:
            with (disk / "ballast").open("wb", buffering=0) as ballast:
                for size in (1_000_000, 1000):
                    with contextlib.suppress(OSError):
                        while ballast.write(bytes(size)) == size:
                            pass
            time.sleep(seconds)
        finally:
            (disk / "ballast").unlink()

    yield fill if mounted and mounted.returncode == 0 else None
    if mounted and mounted.returncode == 0:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@needs_peers
def test_nothing_is_lost_doubled_or_mixed_up(small_disk, place, tmp_path, figure):
    """200 studies of 4 senders at once, a third with a CT; duplicates, any order, an archive that is away.

    The node is killed 20 times, and its disk is full for a while.
    """
    node, archive, ports = place
    studies = int(os.environ.get("SPECTAC_NODE_STUDIES", "200"))
    files = {}
    for n in range(studies):
        person = {"PatientID": f"P{n}", "StudyInstanceUID": f"1.2.3.1000.{n}", "PatientName": f"N{n}"}
        frame = f"1.2.3.2000.{n}"
        files[n] = [raw(tmp_path / f"raw{n}.dcm", seed=n, frame=frame, **person)]
        if n % 3 == 0:
            files[n] += ct(tmp_path / f"ct{n}", frame=frame, slices=2, **person)
    # On a busy machine a sender takes some seconds to come back after a kill; a CT that comes later makes another job.
    one = node('methods = ["uniform", "ct"]', quick=True, quiet_seconds=15, associations=30, least_free_gb=0.0)
    one.start()
    until(lambda: echo(ports["node"]), 60.0)
    stop = threading.Event()

    def sender(numbers, seed):
        rng = random.Random(seed)
        for n in numbers:
            wanted = [*files[n], rng.choice(files[n])]
            rng.shuffle(wanted)
            # As cameras do: again until it is taken.
            while not storescu(ports["node"], *wanted):
                time.sleep(0.3)

    senders = [threading.Thread(target=sender, args=(range(k, studies, 4), k)) for k in range(4)]

    def killer():
        rng, kills = random.Random(1), 0
        while kills < 20 and not stop.is_set():
            time.sleep(rng.uniform(1.0, 4.0))
            one.kill()
            kills += 1
            one.start()
            if kills == 4 and small_disk is not None:
                until(lambda: echo(ports["node"]), 30.0)
                small_disk(10.0)
        killed.append(kills)

    killed = []
    killing = threading.Thread(target=killer)
    began = time.monotonic()
    for thread in (*senders, killing):
        thread.start()
    for thread in senders:
        thread.join()
    # The archive was away until now.
    archive.start()
    killing.join()

    def all_there():
        # As systemd would: a node that found the disk full at its start begins again.
        if one.process.poll() is not None:
            assert "full" in one.log.read_text().splitlines()[-1]
            one.start()
        return len(archive.instances()) >= studies

    until(all_there, 900.0)
    time.sleep(10.0)
    figure("node: studies through 20 kills, seconds", time.monotonic() - began, "1200")
    # As SQLite, or as the system says it.
    words = ("disk is full", "No space left on device")
    full = sum(any(word in line for word in words) for line in one.log.read_text().splitlines())
    figure("node: lines of the log that tell of a full disk", full, "above 0")
    assert full > 0 or small_disk is None
    found = [pydicom.dcmread(io.BytesIO(archive.file(one))) for one in archive.instances()]
    people = [str(data.PatientID) for data in found]
    assert len(people) == len(set(people)) == studies
    assert killed == [20]
    for data in found:
        n = int(data.PatientID[1:])
        assert data.StudyInstanceUID == f"1.2.3.1000.{n}"
        assert data.PatientComments == f"CT of {f'P{n}' if n % 3 == 0 else 'nobody'}"
    memory = Memory(Path(tmp_path / "node" / "node.sqlite"))
    assert memory.counts()["jobs"] == {"done": studies}
    assert memory.counts()["sends"] == {"sent": studies}
    memory.close()
