import subprocess
import sys

import h5py
import numpy as np
import pytest

from spectac.recon import COLLIMATORS, EnergyWindow, Study, StudySettings
from spectac.recon.errors import InputError
from spectac.recon.io import files_of, open_study
from spectac.recon.io.hdf5 import write_study


def test_damaged_dicom_is_refused_as_dicom(tmp_path):
    (tmp_path / "scan").write_bytes(bytes(128) + b"DICM" + bytes(100))
    with pytest.raises(InputError, match="scan: "):
        open_study(tmp_path / "scan")


@pytest.mark.parametrize("content", [b"", b"hello", bytes(5000), b"x,y\n1,2\n", b"\x89PNG\r\n\x1a\n"])
def test_unknown_content_is_refused_with_the_list(tmp_path, content):
    (tmp_path / "study.h5").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot tell what this file is\. Understood are: DICOM NM"):
        open_study(tmp_path / "study.h5")


def test_content_decides_not_the_name(tmp_path):
    with h5py.File(tmp_path / "a.hs", "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match="HDF5, but not a study of spectac"):
        open_study(tmp_path / "a.hs")


def test_missing_file_and_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        open_study(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="no raw projections in this folder; understood are"):
        open_study(tmp_path)


def test_importing_io_loads_no_file_library():
    """`spectac --help` must stay quick: h5py, nibabel and pydicom cost 0.2 s and come in when a file needs them."""
    program = "import sys, spectac.recon.io; print([m for m in ('h5py', 'nibabel', 'pydicom') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_collimator_may_be_given_by_its_name(tmp_path, make_acquisition):
    window = EnergyWindow("photopeak", 126.0, 154.0)
    write_study(
        tmp_path / "study.h5", Study(make_acquisition([0.0, 90.0], (2, 3), 8.0), (window,), np.ones((1, 2, 2, 3)))
    )
    assert (
        open_study(tmp_path / "study.h5", StudySettings(collimator="ge-lehr")).acquisition.collimator
        == COLLIMATORS["ge-lehr"]
    )
    with pytest.raises(InputError, match="ge-lerh"):
        open_study(tmp_path / "study.h5", StudySettings(collimator="ge-lerh"))


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"\x1f\x8b", "gzip"), (b"PK\x03\x04", "zip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"Rar!", "rar")],
)
def test_an_archive_is_named_and_to_be_unpacked(tmp_path, start, kind):
    (tmp_path / "study").write_bytes(start + bytes(100))
    with pytest.raises(InputError, match=f"study: this is a {kind} archive: unpack it"):
        open_study(tmp_path / "study")


def test_files_of_a_nifti_file_are_its_own_and_the_side_car_that_is_there(tmp_path):
    (tmp_path / "map.NII.GZ").write_bytes(b"\x1f\x8b")
    assert files_of(tmp_path / "map.NII.GZ") == [tmp_path / "map.NII.GZ"]
    (tmp_path / "map.json").write_text("{}")
    assert files_of(tmp_path / "map.NII.GZ") == [tmp_path / "map.NII.GZ", tmp_path / "map.json"]
