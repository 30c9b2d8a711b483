"""`spectac thin` on files."""

import numpy as np
import pytest

from spectac.app.thin import thin
from spectac.recon import Acquisition, EnergyWindow, InputError, Study, StudySettings
from spectac.recon.io.hdf5 import read_study, write_study


@pytest.fixture
def file(tmp_path):
    acquisition = Acquisition(
        np.arange(8) * 45.0, np.full(8, 150.0), (4, 8), (4.0, 4.0), np.full(8, 20.0), "Tc-99m", None
    )
    counts = np.random.default_rng(1).poisson(100.0, (1, 8, 4, 8)).astype(np.float32)
    write_study(tmp_path / "study.h5", Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), counts))
    return tmp_path / "study.h5"


def test_a_part_and_the_rest_are_written(file, tmp_path):
    lines = thin([file], tmp_path / "part.h5", 0.2, StudySettings(), seed=3, rest=tmp_path / "rest.h5")
    part, rest, whole = (read_study(tmp_path / name) for name in ("part.h5", "rest.h5", "study.h5"))
    np.testing.assert_array_equal(part.counts + rest.counts, whole.counts)
    assert part.acquisition.view_seconds.tolist() == [4.0] * 8
    assert lines[-2].startswith(f"{tmp_path / 'part.h5'}: ")


def test_bad_requests_leave_no_file(file, tmp_path):
    part = tmp_path / "part.h5"
    for share, rest, message in ((2.0, None, "between 0 and 1"), (0.2, part, "give two")):
        with pytest.raises(InputError, match=message):
            thin([file], part, share, StudySettings(), rest=rest)
    with pytest.raises(InputError, match=r"ends in \.h5"):
        thin([file], tmp_path / "part.dcm", 0.2, StudySettings())
    before = file.read_bytes()
    for place in ({"output": file}, {"output": part, "rest": file}):
        with pytest.raises(InputError, match="is read and would be replaced"):
            thin([file], share=0.2, given=StudySettings(), **place)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["study.h5"]
