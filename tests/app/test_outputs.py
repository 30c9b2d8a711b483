"""Results never replace a file that is read, nor one that spectac did not write."""

import json
import shutil

import pytest

from spectac.app.outputs import check_output, check_results
from spectac.recon import InputError
from spectac.recon.io import files_of
from spectac.recon.io.atomic import written_folder


def test_files_of_others_stay(tmp_path):
    (tmp_path / "mu_map.nii.gz").write_text("a CT's")
    with pytest.raises(InputError, match=r"mu_map\.nii\.gz is there and no result of spectac: give another folder"):
        check_results(tmp_path, "the results", ("image.dcm", "mu_map.nii.gz"))
    check_results(tmp_path, "the results", ("image.dcm",))
    with pytest.raises(FileExistsError, match="this file was not made by spectac"), written_folder(tmp_path) as folder:
        (folder / "mu_map.nii.gz").write_text("ours")
    assert (tmp_path / "mu_map.nii.gz").read_text() == "a CT's"
    assert len(list(tmp_path.iterdir())) == 1


def test_results_of_an_earlier_run_are_replaced_unless_they_are_read(tmp_path):
    for name in ("record.json", "mu_map.nii.gz", "mu_map.json", "image.nii.gz"):
        (tmp_path / name).write_text("{}")
    names = ("image.nii.gz", "mu_map.nii.gz", "mu_map.json")
    check_results(tmp_path, "the results", names, [tmp_path.parent / "study.h5"])
    with pytest.raises(InputError, match=r"mu_map\.nii\.gz is read and would be replaced by a result"):
        check_results(tmp_path, "the results", names, [tmp_path / "mu_map.nii.gz"])
    link = tmp_path.parent / "link.nii.gz"
    link.symlink_to(tmp_path / "mu_map.nii.gz")
    with pytest.raises(InputError, match="is read and would be replaced"):
        check_results(tmp_path, "the results", names, [link])


def test_folders_of_results_are_no_place_of_an_input(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "predicted_mu.nii.gz").touch()
    (tmp_path / "record.json").touch()
    with pytest.raises(InputError, match=r"predicted_mu\.nii\.gz is read"):
        check_results(tmp_path, "the results", ("images",), [tmp_path / "images" / "predicted_mu.nii.gz"])


def test_a_file_that_is_read_is_not_written(tmp_path):
    for name in ("scan.h5", "ct/1.dcm", "mu.nii.gz", "mu.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    check_output(tmp_path / "new.json", [tmp_path / "scan.h5"])
    check_output(tmp_path / "mu.nii.gz", [tmp_path / "scan.h5"])
    for name, of in (("scan.h5", "scan.h5"), ("ct/1.dcm", "ct"), ("mu.json", "mu.nii.gz")):
        with pytest.raises(InputError, match="is read and would be replaced: give another file"):
            check_output(tmp_path / name, [tmp_path / of])
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path / "ct")
    with pytest.raises(InputError, match="no such folder"):
        check_output(tmp_path / "nowhere" / "mu.nii.gz")


def test_a_folder_that_is_read_is_read_without_results_and_hidden_files(tmp_path):
    """A record lists what an image was made from, however often results were written into the study's folder."""
    for name in ("1.dcm", "ct/2.dcm", ".DS_Store", ".5f3a/image.dcm", "result/record.json", "result/image.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(name))
    assert files_of(tmp_path) == [tmp_path / "1.dcm", tmp_path / "ct" / "2.dcm"]
    assert len(files_of(tmp_path / "result")) == 2
    shutil.rmtree(tmp_path / "result")
    assert len(files_of(tmp_path)) == 2
