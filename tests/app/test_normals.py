"""Z-scores against healthy subjects: from a batch's folder, for what was measured alike and nothing else."""

import json
from dataclasses import replace

import numpy as np
import pytest

from spectac.app.measures import Row
from spectac.app.normals import read_normals, z_rows
from spectac.app.record import sha256_of_study
from spectac.recon import Acquisition, EnergyWindow, InputError, ReconstructionSettings, Study
from spectac.recon.setting_fields import as_options

HEAD = ",".join(Row.COLUMNS)


def write(folder, subject, sbr, mean, digest=None, **record):
    (folder / subject).mkdir()
    lines = [
        HEAD,
        f"ct,done,,SBR,left putamen,{sbr},,,,",
        f"ct,done,,mean,brain,{mean},kBq/mL,,,",
        f"ct,done,,caudate over putamen (SBR),left,{mean},,,,",
        "predicted,failed,no torch,,,,,,,",
    ]
    (folder / subject / "comparison.csv").write_text("\n".join(lines) + "\n")
    if digest is not None:
        (folder / subject / "record.json").write_text(
            json.dumps({"study_sha256": digest, "methods": {}, "request": {"reconstruction": {}}, **record})
        )


@pytest.fixture
def healthy(tmp_path):
    """SBRs 3, 4, 5: mean 4, standard deviation 1; brain means all 2."""
    for subject, sbr in (("a", 3.0), ("b", 4.0), ("c", 5.0)):
        write(tmp_path, subject, sbr, 2.0)
    return tmp_path


def test_a_z_score_is_the_distance_in_standard_deviations(healthy):
    rows = [
        Row("ct", "SBR", "left putamen", 1.5),
        Row("chang", "SBR", "left putamen", 1.5),
        Row("ct", "SBR", "right putamen", 1.5),
        Row("ct", "mean", "brain", 2.5, "kBq/mL"),
        Row("ct", "caudate over putamen (SBR)", "left", 2.5),
        Row("predicted", status="failed", reason="no torch"),
    ]
    (z,) = z_rows(rows, read_normals(healthy)[0])
    assert (z.method, z.measure, z.region) == ("ct", "z of SBR", "left putamen")
    assert z.value == pytest.approx(-2.5)


def test_means_are_no_normals(healthy):
    """They change with what was injected."""
    assert {measure for _, measure, _, _ in read_normals(healthy)[0]} == {"SBR", "caudate over putamen (SBR)"}


def test_a_subject_counts_once_and_the_patient_is_none_of_them(tmp_path):
    for subject, sbr, digest in (("a", 3.0, "1"), ("b", 4.0, "2"), ("c", 5.0, "3"), ("d", 9.0, "4")):
        write(tmp_path, subject, sbr, 2.0, digest)
    write(tmp_path, "e", 3.0, 2.0, "1")
    key = ("ct", "SBR", "left putamen", "")
    assert read_normals(tmp_path)[0][key] == [3.0, 4.0, 5.0, 9.0]
    assert read_normals(tmp_path, "4")[0][key] == [3.0, 4.0, 5.0]


def test_subjects_by_another_map_do_not_count_and_other_options_are_told(tmp_path):
    """A z-score compares what was measured alike."""
    usual = as_options(ReconstructionSettings())
    for subject, sbr, fallback in (("a", 3.0, None), ("b", 4.0, None), ("c", 5.0, None), ("d", 9.0, "uniform")):
        methods = {"ct": {"used": {"fallback": fallback}}}
        write(tmp_path, subject, sbr, 2.0, subject, methods=methods, request={"reconstruction": usual})
    normals, warnings = read_normals(tmp_path, "", ReconstructionSettings())
    assert normals["ct", "SBR", "left putamen", ""] == [3.0, 4.0, 5.0]
    assert warnings == ["ct fell back to another map in 1 healthy subjects, whose values were left out"]
    other = ReconstructionSettings(iterations=4, post_filter="gaussian:8", device="cpu")
    assert "other options (iterations, post-filter)" in read_normals(tmp_path, "", other)[1][0]
    for old in ({"study_sha256": ["1"]}, {"methods": {"ct": {"fallback": None}}}, {"request": None}):
        record = {"study_sha256": "1", "methods": {}, "request": {"reconstruction": usual}} | old
        (tmp_path / "a" / "record.json").write_text(json.dumps(record))
        with pytest.raises(InputError, match="not of this version of spectac: run the batch"):
            read_normals(tmp_path)


def test_the_digest_of_a_study_is_that_of_its_counts_and_angles():
    """Not of its files: a README beside each scan, the same for all, would make one subject of all."""
    acquisition = Acquisition([0.0, 90.0], [200.0, 200.0], (1, 2), (4.0, 4.0), [20.0, 20.0], "I-123", None)
    window = (EnergyWindow("peak", 143.0, 175.0),)
    studies = [Study(acquisition, window, np.full((1, 2, 1, 2), value, np.float32)) for value in (1, 1, 2)]
    turned = replace(studies[0], acquisition=replace(acquisition, view_angles_deg=np.array([0.0, 180.0])))
    digests = [sha256_of_study(one) for one in (*studies, turned)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_too_few_subjects_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        read_normals(tmp_path / "none")
    with pytest.raises(InputError, match=r"no comparison\.csv in its folders"):
        read_normals(tmp_path)
    write(tmp_path, "a", 3.0, 2.0)
    write(tmp_path, "b", 4.0, 2.1)
    with pytest.raises(InputError, match="ratios of fewer than 3 subjects"):
        read_normals(tmp_path)
    (tmp_path / "x.csv").write_text("name,value\na,3\n")
    with pytest.raises(InputError, match=r"x\.csv: not a comparison\.csv"):
        read_normals(tmp_path / "x.csv")
