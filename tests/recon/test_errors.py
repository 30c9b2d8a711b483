"""Errors of the input carry what the code needs to know as fields, also when they come from another process."""

import pickle

from spectac.recon.errors import InputError, MissingExtraError


def test_a_missing_package_names_its_extra_and_the_remedy():
    error = MissingExtraError("registering a CT needs SimpleITK", "ct")
    assert isinstance(error, InputError)
    for same in (error, pickle.loads(pickle.dumps(error))):
        assert same.extra == "ct"
        assert str(same) == "registering a CT needs SimpleITK: pip install 'spectac[ct]'"
