"""The list of a batch: what counts as a study, under which name, and one clear line for a list that is wrong."""

from pathlib import Path

import pytest

from spectac.app.batch_list import read_list
from spectac.recon import InputError

INTERFILE = "!INTERFILE :=\n!imaging modality := nucmed\n!name of data file := {data}\n"


def csv_list(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_lists_files_and_sub_folders_by_content(tmp_path):
    for name in (
        "b.h5",
        "twin.dcm",
        "twin.h5",
        "unknown.bin",
        "README",
        "table.csv",
        "mu.nii.gz",
        ".hidden",
        "scan.a00",
    ):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "scan.h00").write_text(INTERFILE.format(data="scan.a00"))
    (tmp_path / "Ärzte 1").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "record.json").write_text("{}")
    (tmp_path / "virtual").mkdir()
    (tmp_path / "virtual" / "patient.json").write_text("{}")
    (tmp_path / "out").mkdir()
    studies, notes = read_list(tmp_path, tmp_path / "out")
    # The data that a header names belong to its study; two files that differ in their endings keep them.
    assert [(study.name, study.path.name) for study in studies] == [
        ("b", "b.h5"),
        ("scan", "scan.h00"),
        ("twin.dcm", "twin.dcm"),
        ("twin.h5", "twin.h5"),
        ("unknown", "unknown.bin"),
        ("virtual", "virtual"),
        ("Ärzte 1", "Ärzte 1"),
    ]
    assert notes == ["left out, no studies: README, mu.nii.gz, old, table.csv"]


def test_names_of_any_files_become_names_of_folders(tmp_path):
    for name in ("summary.csv.h5", "a:b.h5", "a?b.h5", "-x.h5", "A_B-2.h5", " .h5"):
        (tmp_path / name).write_bytes(b"x")
    studies, _ = read_list(tmp_path, tmp_path / "out")
    assert [study.name for study in studies] == ["_", "_-x", "A_B-2", "a_b", "a_b-3", "summary.csv-2"]


def test_a_csv_says_what_is_each_studys_own(tmp_path):
    path = csv_list(
        tmp_path,
        "study,name,methods,ct,truth,nuclide,radius_mm,head_angles\n"
        'scans/a.dcm,,none;ct,ct/a,,I-123,142.5,"0,180"\n'
        "\n"
        "scans/a.dcm,again,,,truth,,,\n"
        "/elsewhere/b c.h5,,,,,,,\n",
    )
    studies, notes = read_list(path, tmp_path / "out")
    assert notes == []
    assert [study.name for study in studies] == ["a", "again", "b c"]
    first, second, third = studies
    assert first.path == tmp_path / "scans" / "a.dcm"
    assert first.methods == ("none", "ct")
    assert first.files == {"ct": tmp_path / "ct" / "a"}
    assert first.given == {"nuclide": "I-123", "radius_mm": 142.5, "head_angles": "0,180"}
    assert (second.methods, second.files, second.given) == (None, {"truth": tmp_path / "truth"}, {})
    assert third.path == Path("/elsewhere/b c.h5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name the columns, study among them"),
        ("file,name\na,b\n", "must name the columns, study among them; it is 'file,name'"),
        ("study,colimator\na,b\n", "unknown column colimator; known: study, name, methods"),
        ("study,name,name\na,b,c\n", "column name stands there twice"),
        ("study\n", "no studies in this list"),
        ("study,name\n,b\n", "line 2: the column study is empty"),
        ("study\na.h5\na.h5\n", "a stands there more than once: every study needs a name"),
        ("study,name\na,Same\nb,same\n", "Same, same stand there more than once"),
        ("study,name\na,../b\n", r"line 2: name '\.\./b' is refused: a name may hold letters"),
        ("study,name\na,b/c\n", "'b/c' is refused"),
        ("study,name\na,.b\n", r"'\.b' is refused"),
        ("study,name\na,summary.csv\n", "'summary.csv' is refused"),
        ("study\n..\n", "its path makes no name for a folder"),
        ("study,radius_mm\na,wide\n", "line 2: radius_mm must be a number above 0, not 'wide'"),
        ("study,radius_mm\na,-3\n", "radius_mm must be a number above 0, not '-3'"),
        ("study,collimator,psf\na,x,1:2\n", "give a collimator or a psf, not both"),
        ("study,head_angles\na,0,180\n", "more fields than the header has columns"),
        ('study\n"a\n', "not a CSV"),
    ],
)
def test_a_wrong_csv_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as refused:
        read_list(csv_list(tmp_path, text), tmp_path / "out")
    assert "\n" not in str(refused.value)


def test_a_list_that_is_not_there_or_empty_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        read_list(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "binary.csv").write_bytes(b"study\n\xff\xfe\n")
    with pytest.raises(InputError, match="not a CSV in UTF-8"):
        read_list(tmp_path / "binary.csv", tmp_path / "out")
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "README.md").write_text("x")
    with pytest.raises(InputError, match="no studies in this folder"):
        read_list(tmp_path / "studies", tmp_path / "out")
    with pytest.raises(InputError, match="cannot share a folder"):
        read_list(tmp_path / "studies", tmp_path / "studies")
