"""Numbers of the demo's patient, read from a comparison.csv as `spectac compare` writes it."""

import csv

import pytest

pytest.importorskip("matplotlib", reason="the picture needs matplotlib: pip install 'spectac[report]'")
from benchmarks.images.demo import read_errors
from spectac.app.measures import Row


def test_errors_are_those_of_the_rows_against_the_truth(tmp_path):
    numbers = [
        ("mean", "brain", 0.6, 2.4),
        ("mean", "cortex", 0.7, 2.2),
        ("SBR", "right striatum", 3.26, 4.56),
        ("SBR", "left striatum", 3.87, 5.19),
        ("SBR asymmetry %", "striatum", 17.0, 12.9),
        ("SBR asymmetry %", "putamen", 35.5, 24.5),
    ]
    rows = [
        Row(
            method="none",
            status="done",
            measure=measure,
            region=region,
            value=value,
            reference=reference,
            reference_value=expected * scale,
        )
        for reference, scale in [("true_map", 0.5), ("truth", 1.0)]
        for measure, region, value, expected in numbers
    ]
    rows.append(Row(method="ct", status="refused", reason="no CT"))
    with (tmp_path / "comparison.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, Row.COLUMNS)
        writer.writeheader()
        writer.writerows(row.as_text() for row in rows)
    errors = read_errors(tmp_path / "comparison.csv")
    assert errors["none"] == pytest.approx(
        {"brain_error_percent": -75.0, "sbr_right": 3.26, "sbr_left": 3.87, "asymmetry_percent": 17.0}
    )
    assert errors["truth"] == pytest.approx(
        {"brain_error_percent": 0.0, "sbr_right": 4.56, "sbr_left": 5.19, "asymmetry_percent": 12.9}
    )
    assert errors.keys() == {"truth", "none"}
