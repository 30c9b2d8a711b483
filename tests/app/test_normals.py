"""Z-scores against healthy subjects: from a batch's folder, for what was measured alike and nothing else."""

import pytest

from spectac.app.measures import Row
from spectac.app.normals import read_normals, z_rows
from spectac.recon import InputError

HEAD = ",".join(Row.COLUMNS)


def write(folder, subject, sbr, mean, unit="kBq/mL"):
    (folder / subject).mkdir()
    lines = [
        HEAD,
        f"ct,done,,SBR,left putamen,{sbr},,,,",
        f"ct,done,,mean,brain,{mean},{unit},,,",
        "predicted,failed,no torch,,,,,,,",
    ]
    (folder / subject / "comparison.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def healthy(tmp_path):
    """SBRs 3, 4, 5: mean 4, standard deviation 1; brain means all 2."""
    for subject, sbr in (("a", 3.0), ("b", 4.0), ("c", 5.0)):
        write(tmp_path, subject, sbr, 2.0)
    return tmp_path


def test_a_z_score_is_the_distance_in_standard_deviations(healthy):
    rows = [
        Row("ct", "done", "", "SBR", "left putamen", 1.5),
        Row("chang", "done", "", "SBR", "left putamen", 1.5),
        Row("ct", "done", "", "SBR", "right putamen", 1.5),
        Row("ct", "done", "", "mean", "brain", 2.5, "kBq/mL"),
        Row("predicted", "failed", "no torch"),
    ]
    (z,) = z_rows(rows, read_normals(healthy))
    assert (z.method, z.measure, z.region) == ("ct", "z of SBR", "left putamen")
    assert z.value == pytest.approx(-2.5)


def test_another_unit_is_another_measure(healthy):
    write(healthy, "d", 6.0, 9.0, "cps/mL")
    normals = read_normals(healthy)
    assert normals["ct", "mean", "brain", "kBq/mL"] == [2.0, 2.0, 2.0]
    assert normals["ct", "SBR", "left putamen", ""] == [3.0, 4.0, 5.0, 6.0]
    assert ("ct", "mean", "brain", "cps/mL") not in normals


def test_too_few_subjects_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        read_normals(tmp_path / "none")
    with pytest.raises(InputError, match=r"no comparison\.csv in its folders"):
        read_normals(tmp_path)
    write(tmp_path, "a", 3.0, 2.0)
    write(tmp_path, "b", 4.0, 2.1)
    with pytest.raises(InputError, match="values of fewer than 3 subjects"):
        read_normals(tmp_path)
    (tmp_path / "x.csv").write_text("name,value\na,3\n")
    with pytest.raises(InputError, match=r"x\.csv: not a comparison\.csv"):
        read_normals(tmp_path / "x.csv")
