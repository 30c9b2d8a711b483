"""The folder of a queue belongs to one run, and only leftovers of spectac are removed from it."""

import errno

import pytest

from spectac.recon import InputError
from spectac.recon.queue.store import can_resume, check_visible, locked, named_error, remove_leftovers


def test_two_runs_in_one_folder_are_refused(tmp_path):
    pytest.importorskip("fcntl", reason="this system has no locks on files")
    folder = tmp_path / "new" / "folder"
    refused = pytest.raises(InputError, match="another spectac batch is running")
    with locked(folder, "batch"), refused, locked(folder, "batch"):
        pass
    with locked(folder, "batch"):
        pass


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="is a file: give a folder for the cohort with -o"),
        locked(tmp_path / "file", "cohort"),
    ):
        pass


def test_only_leftovers_are_removed(tmp_path):
    (tmp_path / ".0123456789ab").mkdir()
    (tmp_path / ".0123456789ab" / "report.html").touch()
    (tmp_path / ".0123456789ab-batch.json").touch()
    kept = [".0123456789ab-own.txt", ".hidden-batch.json", "0123456789ab-batch.json", ".0123456789ab-batch.json.old"]
    for name in kept:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, r"|-(batch|failure)\.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_files_that_are_not_seen_are_refused(tmp_path):
    with pytest.raises(InputError, match="another disk"):
        check_visible(tmp_path, tmp_path / "file")
    (tmp_path / "file").touch()
    check_visible(tmp_path, tmp_path / "file")


def test_a_run_can_be_resumed_after_a_full_disk_but_not_where_nothing_can_be_written():
    numbers = ("ENOSPC", "EDQUOT", "EROFS", "EACCES")
    assert [can_resume(OSError(getattr(errno, name), name)) for name in numbers] == [True, True, False, False]


def test_an_error_without_a_file_gets_one(tmp_path):
    full = named_error(OSError(errno.ENOSPC, "full"), tmp_path / "a")
    assert (full.errno, full.filename) == (errno.ENOSPC, str(tmp_path / "a"))
    for error in (OSError(errno.ENOSPC, "full", "b"), OSError("damaged")):
        assert named_error(error, tmp_path / "a") is error
