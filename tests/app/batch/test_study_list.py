"""The list of a batch: what counts as a study, under which name, and one clear line for a list that is wrong."""

import re
from pathlib import Path

import pytest

from spectac.app.batch.study_list import read_list
from spectac.recon import InputError, StudySettings

NO_STUDIES = tuple(
    f"other{ending}" for ending in (".db", ".docx", ".html", ".ini", ".log", ".ods", ".tsv", ".xls", ".yaml", ".zip")
)
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
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "record.json").write_text("{}")
    (tmp_path / "raw" / "scan.h00").write_text(INTERFILE.format(data="scan.a00") + "!number of projections := 60\n")
    (tmp_path / "batch").mkdir()
    for name in ("summary.csv", "index.html"):
        (tmp_path / "batch" / name).write_text("x")
    for name in NO_STUDIES:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "virtual").mkdir()
    (tmp_path / "virtual" / "patient.json").write_text("{}")
    (tmp_path / "out").mkdir()
    studies, notes = read_list(tmp_path, tmp_path / "out")
    # The data that a header names belong to its study; a folder with raw projections is one, whatever else is in it.
    assert [(study.name, study.path.name) for study in studies] == [
        (name, name) for name in ("b.h5", "raw", "scan.h00", "twin.dcm", "twin.h5", "unknown.bin", "virtual", "Ärzte 1")
    ]
    assert notes == [f"left out, no studies: README, batch, mu.nii.gz, old, {', '.join(NO_STUDIES)}, table.csv"]


def named(folder: Path, *files: str) -> dict[str, str]:
    """Names of studies by those of their files."""
    folder.mkdir(exist_ok=True)
    for file in files:
        (folder / file).write_bytes(b"x")
    return {study.path.name: study.name for study in read_list(folder, folder / "out")[0]}


def test_names_of_any_files_become_names_of_folders(tmp_path):
    files = ("summary.csv.h5", "a:b.h5", "a?b.h5", "-x.h5", "A_b.h5", " .h5", "con.h5", "Zu\u0308rich", "é" * 120)
    names = named(tmp_path / "all", *files)
    assert names["summary.csv.h5"] == "summary.csv.h5"
    assert names["A_b.h5"] == "A_b.h5"
    # Composed, as other systems write it.
    assert names["Zu\u0308rich"] == "Z\u00fcrich"
    for file, start in (("a:b.h5", "a_b.h5"), ("a?b.h5", "a_b.h5"), ("-x.h5", "_-x.h5"), ("con.h5", "_con.h5")):
        assert re.fullmatch(rf"{re.escape(start)}-[0-9a-f]{{6}}", names[file]), names[file]
    assert re.fullmatch("é{90}-[0-9a-f]{6}", names["é" * 120])
    assert len({name.casefold() for name in names.values()}) == len(files)
    assert all(len(name.encode()) <= 200 for name in names.values())
    # A name is the same whatever lies beside: what is done stays done when studies join.
    for place, file in enumerate(files):
        assert named(tmp_path / f"alone {place}", file) == {file: names[file]}


def test_two_names_for_one_folder_are_told_apart(tmp_path):
    names = named(tmp_path / "both", "Scan", "scan", "SCAN")
    if len(names) < 3:
        pytest.skip("this file system does not tell capitals")
    assert len({name.casefold() for name in names.values()}) == 3


def test_a_study_that_is_listed_twice_is_told(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"x")
    path = csv_list(tmp_path, "study,name\na.h5,one\n./a.h5,two\nb.h5,\n")
    assert read_list(path, tmp_path / "out")[1] == [f"one, two are the same study: {(tmp_path / 'a.h5').resolve()}"]


def test_a_csv_with_semicolons_is_read(tmp_path):
    """As spreadsheets write it where the comma stands in numbers."""
    path = csv_list(tmp_path, 'study;name;methods;tracer\na, b.h5;x;"none;chang";dat\nc.h5;;none,uniform;\n')
    first, second = read_list(path, tmp_path / "out")[0]
    assert (first.path.name, first.name, first.methods, first.tracer) == ("a, b.h5", "x", ("none", "chang"), "dat")
    assert (second.name, second.methods, second.tracer) == ("c", ("none", "uniform"), None)


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
    assert notes == [f"a, again are the same study: {(tmp_path / 'scans' / 'a.dcm').resolve()}"]
    assert [study.name for study in studies] == ["a", "again", "b c"]
    first, second, third = studies
    assert first.path == tmp_path / "scans" / "a.dcm"
    assert first.methods == ("none", "ct")
    assert first.files == {"ct": tmp_path / "ct" / "a"}
    assert first.given == StudySettings(nuclide="I-123", radius_mm=142.5, head_angles_deg=(0, 180))
    assert (second.methods, second.files, second.given) == (None, {"truth": tmp_path / "truth"}, StudySettings())
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
        ("study,radius_mm\na,wide\n", "line 2: --radius-mm needs a number, not .wide"),
        ("study,radius_mm\na,-3\n", "--radius-mm must be above 0, not -3"),
        ("study,tracer\na,fdg\n", "line 2: --tracer must be one of dat, perfusion, not 'fdg'"),
        ("study,psf\na,1\n", "line 2: --psf needs SIGMA0_MM:SLOPE"),
        ("study,collimator\na,best\n", "line 2: collimator 'best' is not known"),
        ('study,head_angles\na,"0,x"\n', "line 2: --head-angles needs numbers"),
        ("study,name\na,é\nb,E\u0301\n", "É, é stand there more than once"),
        ("study,name\na,aux.1\n", "'aux.1' is refused: Windows has a device of this name"),
        (f"study,name\na,{'é' * 101}\n", "line 2: name 'é{20}'... is 202 bytes long: give one of at most 200"),
        (f"study\n{'x' * 201}\n", "is 201 bytes long"),
        ("study;nmae\na;b\n", "unknown column nmae"),
        ("study,collimator,psf\na,ge-lehr,1:2\n", "give one of --collimator, --psf and --holes"),
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
