import os
import stat
import subprocess
import sys

import numpy as np
import pytest

from spectac.recon.errors import InputError
from spectac.recon.io.atomic import RECORDS, written, written_folder


def test_file_appears_only_when_complete_and_replaces_the_old_one(tmp_path):
    target = tmp_path / "image.nii.gz"
    target.write_text("old")
    with written(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["image.nii.gz"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), ValueError("x"), KeyboardInterrupt()])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    target = tmp_path / "study.h5"
    target.write_text("old")

    def write_half():
        with written(target) as temporary:
            temporary.write_text("half of it")
            raise failure

    with pytest.raises(type(failure)):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["study.h5"]


def test_failure_of_the_move_itself_leaves_nothing(tmp_path):
    target = tmp_path / "a folder"
    target.mkdir()
    with pytest.raises(OSError), written(target) as temporary:
        temporary.write_text("text")
    assert os.listdir(tmp_path) == ["a folder"]


def test_names_of_255_bytes_work(tmp_path):
    target = tmp_path / ("n" * 252 + ".h5")
    with written(target) as temporary:
        temporary.write_text("text")
    assert target.read_text() == "text"


_WRITERS = {
    "study.h5": """
from datetime import datetime
from spectac.recon.io.hdf5 import write_study
from spectac.recon.types import Acquisition, EnergyWindow, Study
a = Acquisition([0, 90], [200, 200], (64, 64), (4, 4), [1, 1], "Tc-99m", None)
counts = np.random.default_rng(1).integers(0, 1 << 20, (1, 2, 64, 64)).astype("f4")
write = lambda: write_study(path, Study(a, (EnergyWindow("peak", 126, 154),), counts))
""",
    "image.nii": """
from spectac.recon.io.nifti import write_image
from spectac.recon.types import Grid, Image
grid = Grid.upright((32, 32, 32), (4, 4, 4), (0, 0, 0))
write = lambda: write_image(path, Image(np.ones(grid.shape), grid, "cps/mL"))
""",
}


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
@pytest.mark.parametrize("name", _WRITERS)
def test_writers_stopped_by_a_full_disk_raise_oserror_and_leave_nothing(tmp_path, name):
    """A limit on the file size stops write() in the middle as a full disk does, in a process of its own."""
    program = f"""
import resource, numpy as np
path = {str(tmp_path / name)!r}
{_WRITERS[name]}
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write()
except OSError as error:
    print("OSError", error.errno)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("OSError")
    assert os.listdir(tmp_path) == []


def test_numpy_can_write_through_it(tmp_path):
    """np.save appends ".npy" to names that lack it: the temporary name must end as the target does."""
    with written(tmp_path / "a.npy") as temporary:
        np.save(temporary, np.arange(3))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_files_get_the_usual_mode_whatever_their_writer_does(tmp_path, umask):
    """Writers that go through a private temporary file leave mode 0600: colleagues could not read the results."""
    before = os.umask(umask)
    try:
        with written(tmp_path / "weights") as temporary:
            temporary.touch(mode=0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "weights").stat().st_mode) == 0o666 & ~umask


def fill(path, *names):
    with written_folder(path) as folder:
        for name in names:
            place = folder / name
            place.parent.mkdir(exist_ok=True)
            place.write_text("{}" if name in RECORDS else "new")


def test_a_folder_that_is_not_of_an_earlier_run_is_never_replaced(tmp_path):
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "patient.dcm").write_text("mine")
    with pytest.raises(FileExistsError, match="not made by spectac"):
        fill(tmp_path, "a.txt", "ct/0001.dcm")
    assert (tmp_path / "ct" / "patient.dcm").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"ct"}


def test_a_folder_of_an_earlier_run_is_replaced_whole(tmp_path):
    """Slices of an earlier series left beside the new ones would make one series of two scans."""
    fill(tmp_path, "record.json", "ct/0001.dcm", "ct/0002.dcm")
    fill(tmp_path, "record.json", "ct/0001.dcm")
    assert [path.name for path in (tmp_path / "ct").iterdir()] == ["0001.dcm"]


def test_nothing_is_moved_where_one_target_is_in_the_way(tmp_path):
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(FileExistsError, match="a folder of this name is in the way") as failed:
        fill(tmp_path, "a.txt", "b.txt")
    assert failed.value.filename == str(tmp_path / "b.txt")
    assert {path.name for path in tmp_path.iterdir()} == {"b.txt"}


def test_a_file_in_the_path_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError) as failed:
        fill(tmp_path / "file" / "sub", "a.txt")
    assert failed.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize("moved", range(4))
def test_after_a_kill_between_two_moves_the_next_run_gets_through(tmp_path, monkeypatch, moved):
    """A folder without the record that says whose it is would be taken for somebody else's, for ever."""
    names = ("a.csv", "images/1.nii", "record.json", "report.html")
    replace, left = os.replace, iter(range(moved))

    def killed(*paths):
        if next(left, None) is None:
            raise SystemExit
        replace(*paths)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(SystemExit):
        fill(tmp_path / "out", *names)
    monkeypatch.setattr(os, "replace", replace)
    fill(tmp_path / "out", *names)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.csv", "images", "record.json", "report.html"}


def test_a_file_in_a_folder_that_does_not_exist_names_the_folder(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder: make it"), written(tmp_path / "nowhere" / "a.txt"):
        pass
