"""A batch refuses before any work what no study can take, and results among the data."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spectac.app.cli import main

pytest.importorskip("jinja2", reason="the index page needs jinja2")


@pytest.fixture
def refusal(capsys, monkeypatch, tmp_path) -> Callable[..., str]:
    """The one line of a batch that is refused; nothing was worked on."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))

    def run(listed: Path, output: Path, *more: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        arguments = ("batch", listed, "-o", output, "--work", "fake_batch:work", "--workers", "0", *more)
        monkeypatch.setattr(sys, "argv", ["spectac", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        error = capsys.readouterr().err
        assert ended.value.code == 2, error
        assert len(error.splitlines()) == 1, error
        assert sorted(tmp_path.rglob("*")) == before
        return error

    return run


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder with two studies and a CT."""
    for name in ("a/scan", "b/deep/scan", "ct/1"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text("1")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("text", "output", "name"),
    [
        ("study\na\nb/deep\n", ".", "a"),  # the same folder
        ("study,name\na,x\nb/deep,b\n", ".", "b"),  # around a study
        ("study,name\na,x\n", "a", "x"),  # inside
        ("study,name\na/scan,a\n", ".", "a"),  # around a file
        ("study,name,ct\na,x,ct\n", "ct", "x"),
        ("study,name,truth\na,x,\nb,y,ct\n", "ct/deeper", "x"),  # of one study inside another's truth
        ("study,name\nlink,x\n", "a", "x"),
        ("study,name,labels\na,x,../data/ct/1\na,ct,\n", "../data", "ct"),
    ],
)
def test_results_among_the_data_are_refused(refusal, data, text, output, name):
    (data / "link").symlink_to(data / "a")
    (data / "list.csv").write_text(text)
    place = (data / output / name).resolve()
    assert f"{place}: the results of study {name} would mix with the data" in refusal(data / "list.csv", data / output)


def test_results_beside_the_data_are_fine(data, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    command = ["spectac", "batch", data / "b", "-o", data / "b" / "results", "--work", "fake_batch:work"]
    (data / "b" / "one").write_text("1")
    monkeypatch.setattr(sys, "argv", [*map(str, command), "--workers", "0"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "1 studies done, 1 failed" in capsys.readouterr().out


def test_a_file_in_the_place_of_results_is_refused(refusal, data, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b").write_text("x")
    assert f"{tmp_path / 'out' / 'b'} is no folder: the results of study b go there" in refusal(data, tmp_path / "out")
    (tmp_path / "out" / "b").unlink()
    (tmp_path / "out" / "b").symlink_to("nowhere")
    assert "is no folder" in refusal(data, tmp_path / "out")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--psf", "1.4"), "--psf needs SIGMA0_MM:SLOPE"),
        (("--collimator", "best"), "collimator 'best' is not known"),
        (("--nuclide", "Xx-1"), "nuclide 'Xx-1' is not known"),
        (("--radius-mm", "-3"), "--radius-mm must be above 0, not -3"),
        (("--head-angles", "0;180"), "--head-angles needs numbers with commas, e.g. 0,180"),
        (("--head-angles", "0,400"), "--head-angles needs angles from -360 to 360"),
        (("--calibration", "nowhere.json"), "nowhere.json: no such file"),
        (("--normals", "nowhere"), "nowhere: no such file or folder"),
        (("--tracer", "fdg"), "--tracer must be one of dat, perfusion, not 'fdg'"),
        (("--post-filter", "box:3"), "post-filter 'box:3' is not"),
        (("--algorithm", "sart"), "--algorithm must be one of osem, mlem, map, fbp, not 'sart'"),
        (("--algorithm", "map"), "algorithm map needs a prior"),
        (
            ("--scatter", "triple"),
            "scatter method 'triple' is not installed: use one of auto, dew, montecarlo, none, tew",
        ),
        (("--device", "tpu"), "--device must be one of auto, cpu, cuda, not 'tpu'"),
        (("--methods", "none,prdicted"), "'prdicted' is not installed"),
        (("--methods", "none,none"), "names one twice"),
        (("--methods", ""), "no method to compare"),
        (("--extend-ct",), "--extend-ct needs the CT of at least one study"),
        (("--methods", "none,ct"), "method ct needs the CT of each study: give a CSV with a column ct"),
        (("--methods", "map"), "method map needs the mu-map of each study: give a CSV with a column mu_map"),
        (("--assume-aligned",), "--assume-aligned needs the CT of at least one study"),
    ],
)
def test_options_that_no_study_can_take_are_refused_once(refusal, data, tmp_path, more, text):
    assert text in refusal(data, tmp_path / "out", *more)
