"""Reads damaged files one after the other in a process of its own, for test_fuzz.py.

`fuzz_worker.py FOLDER` takes lines "KIND SEED" and answers each with a line of JSON: what came of reading that file.
`fuzz_worker.py FOLDER KIND SEED` keeps the damaged file in FOLDER and shows the reader's whole traceback.
The same seed always makes the same damage.
"""

import faulthandler
import gzip
import json
import os
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from spectac.recon.collimator import collimator
from spectac.recon.ct import CTVolume
from spectac.recon.errors import InputError
from spectac.recon.io import hdf5, mu_map, nifti, open_study
from spectac.recon.io.dicom import ct as dicom_ct
from spectac.recon.io.dicom import nm as dicom_nm
from spectac.recon.io.interfile import image as interfile_image
from spectac.recon.types import Acquisition, EnergyWindow, Grid, Image, MuMap, Study

ADDRESS_SPACE = 6 << 30
"""Bytes the process may map beyond what it starts with: a runaway allocation ends here, not the machine. Python maps as
many bytes as a DICOM element claims to have, up to 4 GiB, and touches those that the file holds."""

LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")
TEXTS = (
    "", "0", "1", "-1", "2", "3", "7", "8", "9", "255", "1024", "65535", "65536", "99999999999", "1e308", "-1e308",
    "1e999", "nan", "inf", "1e-320", "0.1", "CW", "CC", "CCW", "NM", "CT", "TOMO", "RECON TOMO", "STATIC",
    "MONOCHROME2", "HFS", "FFP", "\\", "1\\2", "1\\0\\0\\0\\1\\0", "nan\\1\\2", "1.2.840.10008.5.1.4.1.1.20",
    "1.2.840.10008.1.2.5", "20260228", "240000",
    "a" * 70, "x\ny", "\0", "float", "unsigned integer", "tomographic", "{1,2,3}", "{", "}",
    "noncircular", "..", "/", "p.hs", "\u0663", "\ufeff", "\u2028x",
)  # fmt: skip


def study():
    """Two heads of 4 views of 8 x 8 pixels, two windows."""
    angles = np.concatenate([90.0 - 45.0 * np.arange(4), 270.0 - 45.0 * np.arange(4)]) % 360
    acquisition = Acquisition(
        angles,
        np.linspace(150.0, 190.0, 8),
        (8, 8),
        (4.0, 4.0),
        np.full(8, 12.5),
        "I-123",
        collimator("siemens-lehr"),
        detector=np.repeat([0, 1], 4),
        axis_lps_mm=(0.0, 0.0, 300.0),
        frame_of_reference_uid="1.2.3",
        patient_position="HFS",
    )
    windows = (EnergyWindow("photopeak", 143.1, 174.9), EnergyWindow("lower", 129.5, 143.1))
    counts = np.random.default_rng(1).poisson(20, (2, *acquisition.shape))
    return Study(acquisition, windows, counts, patient={"PatientName": "Doe^Jane", "StudyInstanceUID": "1.2.3.4"})


def samples(folder):
    """Write the undamaged files; by kind: the files that damage is done to, and the function that reads them."""
    raw = study()
    grid = Grid.upright((8, 8, 8), (4.0, 4.0, 4.0), (-14.0, -14.0, 300.0))
    values = np.random.default_rng(2).random((8, 8, 8))
    image = Image(values, grid, "cps/mL", history=("made for the fuzz",))
    dicom_nm.write_study(folder / "tomo.dcm", raw)
    for name, change in (("implicit", _implicit), ("deflated", _deflated), ("rle", _rle)):
        data = pydicom.dcmread(folder / "tomo.dcm")
        change(data)
        data.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    dicom_nm.write_image(folder / "recon.dcm", image, study=raw, description="OSEM")
    hu = np.random.default_rng(3).integers(-1000, 1500, (4, 8, 8)).astype(np.float32)
    ct_grid = Grid.upright((4, 8, 8), (3.0, 2.0, 2.0), (-8.0, -8.0, 300.0))
    slices = dicom_ct.write_series(folder / "ct", CTVolume(hu, ct_grid, 120.0, "1.2.3"))
    for path in (*folder.glob("*.dcm"), *slices):
        _unstamp(path)
    (folder / "p.hs").write_text(_INTERFILE)
    (folder / "i.hs").write_text(_INTERFILE_IMAGE)
    np.arange(512, dtype="<f4").tofile(folder / "p.s")
    hdf5.write_study(folder / "study.h5", raw)
    nifti.write_image(folder / "image.nii", image)
    nifti.write_image(folder / "packed.nii.gz", image)
    nifti.write_mu_map(folder / "mu.nii.gz", MuMap(values / 2, grid, 159.0))
    _write_maps(folder, raw, Image(values / 2, grid, "relative"))
    tomo = [folder / f"{name}.dcm" for name in ("tomo", "tomo", "implicit", "deflated", "rle")]
    nii = [folder / name for name in ("image.nii", "packed.nii.gz", "mu.nii.gz", "image.json", "mu.json")]
    return {
        "nm": (tomo, open_study),
        "recon": ([folder / "recon.dcm"], dicom_nm.read_image),
        "ct": (slices, lambda path: dicom_ct.read_series(slices)),
        "interfile": ([folder / "p.hs"], lambda path: open_study(folder / "p.hs")),
        "interfile-data": ([folder / "p.s"], lambda path: open_study(folder / "p.hs")),
        "interfile-image": ([folder / "i.hs"], interfile_image.read_image),
        "hdf5": ([folder / "study.h5"], open_study),
        "nifti": (nii, _read_nifti),
        "map": ([folder / "map.nii", folder / "map.nii", folder / "map.dcm"], lambda path: _read_map(path, raw)),
        "ct-folder": (slices, lambda path: dicom_ct.read_series(folder / "ct")),
    }


_INTERFILE = """!INTERFILE :=
!imaging modality := nucmed
name of data file := p.s
imagedata byte order := LITTLEENDIAN
number format := float
number of bytes per pixel := 4
!process status := acquired
!type of data := tomographic
isotope name := Tc-99m
!matrix size [1] := 8
!matrix size [2] := 8
scaling factor (mm/pixel) [1] := 4
scaling factor (mm/pixel) [2] := 4
!number of projections := 8
!extent of rotation := 360
number of detector heads := 1
time per projection (sec) := 12.5
energy window lower level[1] := 126.5
energy window upper level[1] := 154.6
study date := 2026:02:28
study time := 12:00:00
!direction of rotation := CW
start angle := 180
orbit := circular
radius := 150
!END OF INTERFILE :=
"""


_INTERFILE_IMAGE = """!INTERFILE :=
!name of data file := p.s
imagedata byte order := LITTLEENDIAN
!number format := float
!number of bytes per pixel := 4
!matrix size [1] := 8
!matrix size [2] := 8
!number of slices := 8
scaling factor (mm/pixel) [1] := 4
scaling factor (mm/pixel) [2] := 4
scaling factor (mm/pixel) [3] := 4
image scaling factor[1] := 1
data offset in bytes := 0
!END OF INTERFILE :=
"""


def _write_maps(folder, raw, image):
    """A NIfTI map whose sform and qform differ, without side-car, and a DICOM map in 1/cm with position and slope."""
    nifti.write_image(folder / "map.nii", image)
    (folder / "map.json").unlink()
    file = nibabel.load(folder / "map.nii", mmap=False)
    affine = file.affine.copy()
    affine[:3, 3] += 2.0
    file.set_sform(affine, code=2)
    nibabel.save(file, folder / "map.nii")
    dicom_nm.write_image(folder / "map.dcm", image, study=raw, description="map")
    data = pydicom.dcmread(folder / "map.dcm")
    data.Units = "1CM"
    data.save_as(folder / "map.dcm", enforce_file_format=True)
    _unstamp(folder / "map.dcm")


def _unstamp(path):
    """Fixed UIDs and dates in place of those that each writing makes anew: a seed must always mean the same file."""
    data = pydicom.dcmread(path)
    number = f"1.2.826.0.1.3680043.{sum(path.name.encode()):08d}"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = number
    data.SeriesInstanceUID, data.StudyInstanceUID = "1.2.826.0.1.3680043.2", "1.2.826.0.1.3680043.3"
    for element in data:
        if element.VR in ("DA", "TM") and element.value:
            element.value = {"DA": "20260228", "TM": "120000"}[element.VR]
    data.save_as(path, enforce_file_format=True)


def _implicit(data):
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def _deflated(data):
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def _rle(data):
    data.compress(RLELossless, encoding_plugin="pydicom")


def _read_nifti(path):
    beside = {"image.json": "image.nii", "mu.json": "mu.nii.gz"}
    path = path.with_name(beside.get(path.name, path.name))
    return nifti.read_mu_map(path, 159.0) if path.name.startswith("mu") else nifti.read_image(path)


def _read_map(path, raw):
    return mu_map.read_mu_map(path, raw.acquisition, 158.97).mu


def damaged(content, name, rng):
    """Content with damage of one sort, and that sort's name."""
    if name.endswith(".gz") and rng.random() < 0.7:
        inside, sort = damaged(gzip.decompress(content), name.removesuffix(".gz"), rng)
        return gzip.compress(inside, mtime=0), sort
    sorts = ["flip", "flip", "truncate", "remove", "repeat", "fill", "swap"]
    if name.endswith(".dcm"):
        sorts += ["element"] * 7
    elif name.endswith((".hs", ".json")):
        sorts += ["text"] * 10
    elif name.endswith(".nii"):
        sorts += ["header"] * 4
    sort = sorts[rng.integers(len(sorts))]
    return {"element": _element, "text": _text, "header": _header}.get(sort, _bytes)(content, rng, sort), sort


def _bytes(content, rng, sort):
    out = bytearray(content)
    start, stop = sorted(rng.integers(len(out) + 1, size=2).tolist())
    if sort != "truncate" and rng.random() < 0.7:
        stop = min(stop, start + int(rng.integers(1, 65)))
    if sort == "flip":
        # Half of the damage to the first 1000 bytes, where headers are.
        reach = len(out) if rng.random() < 0.5 else min(1000, len(out))
        for place in rng.integers(reach, size=rng.integers(1, 9)):
            out[place] ^= int(rng.integers(1, 256))
    elif sort == "truncate":
        del out[start:]
    elif sort == "remove":
        del out[start:stop]
    elif sort == "repeat":
        place = int(rng.integers(len(out) + 1))
        out[place:place] = out[start:stop]
    elif sort == "fill":
        out[start:stop] = bytes([int(rng.choice([0, 255, 32, 92, 65]))]) * (stop - start)
    else:
        middle = (start + stop) // 2
        out[start:stop] = out[middle:stop] + out[start:middle]
    return bytes(out)


def _elements(content):
    """Place, start of value, length, VR and depth of every element, sequences' items included (explicit VR only)."""
    place, ends = 132, []
    while place + 8 <= len(content):
        ends = [end for end in ends if end > place]
        tag, vr = content[place : place + 4], content[place + 4 : place + 6]
        if tag[:2] == b"\xfe\xff":
            place += 8
            continue
        wide = vr in LONG_VRS
        at, size = (place + 8, 4) if wide else (place + 6, 2)
        length, value = int.from_bytes(content[at : at + size], "little"), at + size
        if vr == b"SQ":
            ends.append(value + length)
            place = value
            continue
        if not vr.isalpha() or value + length > len(content):
            return
        yield place, value, length, vr, len(ends)
        place = value + length


def _element(content, rng, sort):
    found = list(_elements(content))
    out = bytearray(content)
    for _ in range(int(rng.integers(1, 3))):
        place, value, length, vr, depth = found[rng.integers(len(found))]
        action = rng.integers(5)
        if action == 4:  # the element is missing
            if depth == 0:
                del out[place : value + length]
                break  # what follows has moved
        elif action == 0:  # another tag from the same file
            other = found[rng.integers(len(found))][0]
            out[place : place + 4] = content[other : other + 4]
        elif action == 1:  # random bytes or extremes
            fill = rng.bytes(length) if rng.random() < 0.5 else bytes([int(rng.choice([0, 127, 255]))]) * length
            out[value : value + length] = fill
        else:
            text = TEXTS[rng.integers(len(TEXTS))].encode("utf-8")
            text += b" " * (len(text) % 2)
            if depth == 0 and vr not in LONG_VRS and rng.random() < 0.7:
                out[value - 2 : value] = len(text).to_bytes(2, "little")
                out[value : value + length] = text
                break  # what follows has moved
            out[value : value + length] = text[:length].ljust(length)
    return bytes(out)


def _text(content, rng, sort):
    lines = content.decode("latin-1").split("\n")
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(len(lines)))
        line = lines[place]
        mark = ":=" if ":=" in line else ":"
        value = TEXTS[rng.integers(len(TEXTS))].encode("utf-8").decode("latin-1")
        action = rng.integers(5)
        if action <= 2:
            lines[place] = line.partition(mark)[0] + mark + " " + value
        elif action == 3:
            lines[place] = lines[int(rng.integers(len(lines)))].partition(mark)[0] + mark + line.partition(mark)[2]
        else:
            lines.insert(int(rng.integers(len(lines))), line)
    return "\n".join(lines).encode("latin-1")


def _header(content, rng, sort):
    """NIfTI: one of the numbers of its header replaced by an extreme."""
    out = bytearray(content)
    place = int(rng.integers(4, 348 // 2)) * 2
    extremes = (b"\xff\x7f", b"\xff\xff", b"\0\0", b"\1\0", b"\x7f\xff", b"\x80\x7f\x80\x7f", b"\0\0\xc0\x7f", b"\2\0")
    new = extremes[rng.integers(len(extremes))]
    out[place : place + len(new)] = new
    return bytes(out)


def same(one, other):
    """Equal arrays of numbers, whichever of the four classes the readers return."""
    values = [
        next(getattr(it, n) for n in ("counts", "hu", "values", "per_cm") if hasattr(it, n)) for it in (one, other)
    ]
    return np.array_equal(*values)


def _hang(path):
    time.sleep(3600)


def _memory(path):
    raise InputError(f"{path}: {len(b'x' * (66 << 20))} bytes were taken")


FAULTS = {
    "hang": _hang,
    "crash": lambda path: os.abort(),
    "exception": lambda path: {}["key"],
    "memory": _memory,
    "allocation": lambda path: np.empty(2 * ADDRESS_SPACE, np.uint8),
    "lines": lambda path: open_study(path.with_name("two\nlines")),
    "wrong": lambda path: nifti.read_mu_map(path.with_name("mu.nii.gz"), 159.0),
}
"""Readers that do what no reader may; test_fuzz.py sees to it that each is caught."""


class Memory:
    """Peak of the process's memory, set back before every file (Linux)."""

    def __enter__(self):
        Path("/proc/self/clear_refs").write_text("5")
        self.before = self._held("VmRSS")
        return self

    def __exit__(self, *_):
        self.grown = self._held("VmHWM") - self.before

    def _held(self, key):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def judge(kind, seed, files, read, whole, good, keep=False):
    """What came of one damaged file: "" where it is as it should be, the fault otherwise; and the memory it took."""
    rng = np.random.default_rng([sum(kind.encode()), seed])
    place = int(rng.integers(len(files)))
    path = files[place]
    content, sort = damaged(whole[path], path.name, rng)
    path.write_bytes(content)
    outcome, fault = "read", ""
    with Memory() as memory:
        try:
            found = read(path)
        except (InputError, OSError) as error:
            outcome = "InputError" if isinstance(error, InputError) else type(error).__name__
            message = str(error)
            if len(message.splitlines()) != 1 or not 10 < len(message) < 1500:
                fault = f"not one clear line: {message!r}"
            chain = error
            while chain is not None:
                fault = "MemoryError behind the refusal" if isinstance(chain, MemoryError) else fault
                chain = chain.__cause__ or chain.__context__
            if keep:
                traceback.print_exc()
        except Exception:  # noqa: BLE001 - any other exception is what the fuzz looks for
            outcome, fault = "exception", traceback.format_exc()
    if outcome == "read":
        # In a folder a file that is cut before it says that it is DICOM is one file less.
        whole_only = sort == "truncate" and kind != "ct-folder" and not path.name.endswith((".hs", ".json"))
        exact = kind == "hdf5" or whole_only
        if exact and not same(found, good[path]):
            fault = "read, with other numbers"
    if not keep:
        path.write_bytes(whole[path])
    limit = max(64 << 20, 10 * len(content))
    if memory.grown > limit:
        fault = fault or f"memory grew by {memory.grown >> 20} MiB for a file of {len(content)} bytes"
    return {
        "kind": kind, "seed": seed, "file": path.name, "damage": sort, "outcome": outcome, "fault": fault,
        "grown": memory.grown,
    }  # fmt: skip


def main():
    """Serve, or show one damaged file."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    answers = os.fdopen(os.dup(1), "w", closefd=False)
    os.dup2(2, 1)  # whatever a library prints must not come between the answers
    faulthandler.enable()
    by_kind = samples(folder)
    paths = {path for files, _ in by_kind.values() for path in files}
    whole = {path: path.read_bytes() for path in paths}
    good = {kind: {path: read(path) for path in files} for kind, (files, read) in by_kind.items()}
    for fault, reader in FAULTS.items():
        by_kind[fault], good[fault] = (by_kind["nifti"][0][:1], reader), good["nifti"]
    warnings.simplefilter("error")
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ADDRESS_SPACE,) * 2)
    if len(sys.argv) > 2:
        kind, seed = sys.argv[2], int(sys.argv[3])
        json.dump(judge(kind, seed, *by_kind[kind], whole, good[kind], keep=True), sys.stderr, indent=1)
        return
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        kind, seed = line.split()
        print(json.dumps(judge(kind, int(seed), *by_kind[kind], whole, good[kind])), file=answers, flush=True)


if __name__ == "__main__":
    main()
