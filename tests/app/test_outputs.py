"""Results never replace a file that is read, nor one that spectac did not write."""

import pytest

from spectac.app.outputs import check_output, check_results
from spectac.recon import InputError
from spectac.recon.io import files_of
from spectac.recon.io.atomic import results_in, written_folder


def results(folder, *names):
    with written_folder(folder) as temporary:
        for name in (*names, "record.json"):
            (temporary / name).parent.mkdir(exist_ok=True)
            (temporary / name).write_text("{}")


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
    results(tmp_path, "mu_map.nii.gz", "mu_map.json", "image.nii.gz")
    names = ("image.nii.gz", "mu_map.nii.gz", "mu_map.json")
    check_results(tmp_path, "the results", names, [tmp_path.parent / "study.h5"])
    with pytest.raises(InputError, match=r"mu_map\.nii\.gz is read and would be replaced by a result"):
        check_results(tmp_path, "the results", names, [tmp_path / "mu_map.nii.gz"])
    link = tmp_path.parent / "link.nii.gz"
    link.symlink_to(tmp_path / "mu_map.nii.gz")
    with pytest.raises(InputError, match="is read and would be replaced"):
        check_results(tmp_path, "the results", names, [link])


def test_folders_of_results_are_no_place_of_an_input(tmp_path):
    results(tmp_path, "images/predicted_mu.nii.gz")
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


def test_a_side_car_that_is_read_is_not_written(tmp_path):
    """h.nii and h.nii.gz have the same side-car."""
    for name in ("h.nii.gz", "h.json"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"h\.json is read and would be replaced"):
        check_output(tmp_path / "h.nii", [tmp_path / "h.nii.gz"])


def test_a_folder_that_is_read_is_read_without_results(tmp_path):
    """A record lists what an image was made from, however often results were written beside the raw data."""
    for name in ("1.dcm", "ct/2.dcm", "scan/3.dcm", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    raw = [tmp_path / name for name in (".hidden", "1.dcm", "ct/2.dcm", "scan/3.dcm")]
    for folder in (tmp_path, tmp_path / "scan", tmp_path / "result"):
        results(folder, "image.dcm", "images/none.nii.gz")
    assert files_of(tmp_path) == raw


def test_files_of_one_command_stay_known_after_another(tmp_path):
    """Virtual patient, image and comparison in one folder: each command replaces its own files and leaves the rest."""
    with written_folder(tmp_path) as folder:
        for name in ("patient.json", "study.h5"):
            (folder / name).write_text("{}")
    results(tmp_path, "image.dcm", "mu_map.nii.gz")
    results(tmp_path, "report.html")
    assert results_in(tmp_path) == {
        "patient.json",
        "study.h5",
        "image.dcm",
        "mu_map.nii.gz",
        "report.html",
        "record.json",
    }
    with written_folder(tmp_path, stale=("mu_map.nii.gz", "study.h5", "image.dcm")) as folder:
        for name in ("record.json", "image.dcm"):
            (folder / name).write_text("{}")
    assert results_in(tmp_path, ("record.json",)) == {"image.dcm", "report.html", "record.json"}
    assert {path.name for path in tmp_path.iterdir()} == {"patient.json", "image.dcm", "report.html", "record.json"}
