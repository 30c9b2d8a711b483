"""Errors that name a file: once, whoever raises them, and in another process too."""

import pickle

import pytest

from spectac.recon.errors import FileError, InputError, MissingExtraError, naming


def test_naming_names_the_file_of_an_error_that_names_none():
    with pytest.raises(FileError) as caught, naming("scan.hs"):
        raise InputError("no views: give --step-deg")
    assert str(caught.value) == "scan.hs: no views: give --step-deg"


def test_naming_leaves_an_error_that_names_another_file():
    with pytest.raises(FileError) as caught, naming("scan.hs"), naming("scan.cor"):
        raise InputError("no radius")
    assert str(caught.value) == "scan.cor: no radius"


def test_other_exceptions_pass():
    with pytest.raises(KeyError), naming("scan.hs"):
        raise KeyError("defect")


def test_a_file_error_of_a_worker_process_arrives_whole():
    """Batches and cohorts send exceptions between processes by pickle."""
    error = pickle.loads(pickle.dumps(FileError("scan.dcm", "cut short")))
    assert isinstance(error, InputError)
    assert str(error) == "scan.dcm: cut short"


def test_a_missing_package_names_its_extra_and_the_remedy():
    error = MissingExtraError("registering a CT needs SimpleITK", "ct")
    assert isinstance(error, InputError)
    for same in (error, pickle.loads(pickle.dumps(error))):
        assert same.extra == "ct"
        assert str(same) == "registering a CT needs SimpleITK: pip install 'spectac[ct]'"
