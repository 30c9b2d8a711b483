"""agreement.csv has the limits of agreement over the studies of a batch, one pair of each."""

import csv
import json
from pathlib import Path

import pytest

from spectac.app.batch.agreement import write_agreement
from spectac.app.batch.overview import AGREEMENT, StudyState
from spectac.app.batch.request import BatchRequest
from spectac.app.batch.run import run_batch
from spectac.app.batch.study_list import ListedStudy
from spectac.app.measures import Row


@pytest.fixture(autouse=True)
def importable(monkeypatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)


def done(folder: Path, name: str, rows: list[Row], path: Path | None = None) -> StudyState:
    """A finished study with these measures."""
    (folder / name).mkdir()
    with (folder / name / "comparison.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, Row.COLUMNS)
        writer.writeheader()
        writer.writerows(row.as_text() for row in rows)
    return StudyState(ListedStudy(name, path or folder / f"{name}.h5"), "done")


def agreement(folder: Path) -> list[dict[str, str]]:
    with (folder / AGREEMENT).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def pair(measure: str, value: float, told: float, reference: str = "ct", unit: str = "") -> Row:
    return Row("chang", "done", "", measure, "putamen", value, unit, reference, told)


def limits(row: dict[str, str], end: str) -> list[float]:
    return [float(row[f"{name}{end}"]) for name in ("bias", "lower", "upper")]


def test_limits_in_percent_are_those_of_the_differences_that_were_put_in(tmp_path):
    """Differences of -2, 0, 2 and 4 % of each pair's mean: 1 % +- 1.96 times their deviation, the root of 20/3."""
    percent = (-2.0, 0.0, 2.0, 4.0)
    states = [
        done(tmp_path, str(place), [pair("SBR", told * (200 + one) / (200 - one), told)])
        for place, (one, told) in enumerate(zip(percent, (1.0, 2.0, 3.0, 50.0), strict=True))
    ]
    write_agreement(tmp_path, states)
    (row,) = agreement(tmp_path)
    assert [row[name] for name in ("method", "measure", "region", "reference", "studies")] == [
        "chang", "SBR", "putamen", "ct", "4",
    ]  # fmt: skip
    half = 1.96 * (20 / 3) ** 0.5
    assert limits(row, "_percent") == pytest.approx([1.0, 1.0 - half, 1.0 + half], abs=1e-4)
    assert (row["bias"], row["lower"], row["upper"]) == ("", "", "")


@pytest.mark.parametrize(("measure", "lift"), [("SBR asymmetry %", 10.0), ("SBR", 0.0)])
def test_limits_stay_absolute_around_zero_and_for_what_is_in_percent(tmp_path, measure, lift):
    """Differences 1, 2 and 1: mean 4/3, deviation the root of 1/3."""
    pairs = ((5.0, 4.0), (-4.0, -6.0), (2.0, 1.0))
    states = [
        done(tmp_path, str(place), [pair(measure, value + lift, told + lift)])
        for place, (value, told) in enumerate(pairs)
    ]
    write_agreement(tmp_path, states)
    (row,) = agreement(tmp_path)
    half = 1.96 * (1 / 3) ** 0.5
    assert limits(row, "") == pytest.approx([4 / 3, 4 / 3 - half, 4 / 3 + half], abs=1e-5)
    assert row["bias_percent"] == ""


def test_fewer_than_three_patients_say_nothing(tmp_path):
    """Two with a CT, one with the truth, a failed one, one that is there twice, one without a reference."""
    both = [pair("SBR", 2.0, 1.0), pair("mean", 2.0, 1.0, "ct", "cps/mL")]
    states = [
        done(tmp_path, "a", both),
        done(tmp_path, "b", both),
        done(tmp_path, "b again", both, tmp_path / "b.h5"),
        done(tmp_path, "c", [pair("SBR", 2.0, 1.0, "truth")]),
        done(tmp_path, "d", [pair("SBR", 2.0, float("nan"))]),
        StudyState(done(tmp_path, "e", both).study, "failed"),
        done(tmp_path, "f", [both[1]]),
    ]
    write_agreement(tmp_path, states)
    (row,) = agreement(tmp_path)
    assert (row["measure"], row["studies"]) == ("mean", "3")
    # The next run has too few: what the last one wrote must not stay.
    write_agreement(tmp_path, states[:2])
    assert not (tmp_path / AGREEMENT).exists()


def test_a_batch_writes_it_when_all_is_done_and_links_it(tmp_path, monkeypatch):
    pytest.importorskip("jinja2", reason="the index page needs jinja2")
    values = {"a": (11.0, 10.0), "b": (22.0, 20.0), "c": (33.0, 30.0), "d": (1.0, 10.0)}
    studies = []
    for name, (value, told) in values.items():
        (tmp_path / name).write_text(json.dumps({"brain": value, "true brain": told, "asymmetry": [3.0, -1.0]}))
        studies.append(ListedStudy(name, tmp_path / name))

    def run(count: int) -> None:
        run_batch(studies[:count], BatchRequest(work="fake_batch:work"), tmp_path / "out", workers=0)

    run(2)
    assert "agreement.csv" not in (tmp_path / "out" / "index.html").read_text()
    run(3)
    mean, asymmetry = agreement(tmp_path / "out")
    # 200 * 1 / 21 in every pair: no spread.
    assert (mean["unit"], mean["reference"]) == ("cps/mL", "truth")
    assert limits(mean, "_percent") == pytest.approx([200 / 21] * 3, abs=1e-4)
    assert limits(asymmetry, "") == pytest.approx([4.0] * 3)
    assert 'href="agreement.csv"' in (tmp_path / "out" / "index.html").read_text()
    monkeypatch.setenv("FAKE_INTERRUPT", (tmp_path / "d").read_text())
    with pytest.raises(KeyboardInterrupt):
        run(4)
    assert not (tmp_path / "out" / AGREEMENT).exists(), "that of three studies passes for the one of four"
