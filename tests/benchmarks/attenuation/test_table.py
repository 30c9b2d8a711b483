"""Table and figures from rows as long runs leave them: refusals, patients that could not be made, methods missing."""

import numpy as np
import pytest

from benchmarks.attenuation.files import METHODS_COLUMNS, NO_CASE, rows_of
from benchmarks.attenuation.methods import USUAL_BONE
from benchmarks.attenuation.table import differences, goals_table, shared, spread_of, table

PERCENT = {"ct": 0.0, "predicted": 2.0, "chang": -10.0}


def row(set_name, patient, method, **other):
    return dict.fromkeys(METHODS_COLUMNS, "") | {
        "set": set_name, "patient": str(patient), "method": method, "code": "new", "seed": "5", "commit": "c",
    } | other  # fmt: skip


def measured(set_name, patient, method, tracer="dat", fell_back=""):
    """A row whose regions are 10 kBq/mL in truth, 9 in the true map's image, and off that by PERCENT."""
    error = PERCENT[method]
    ratio = "sbr" if tracer == "dat" else "pattern"
    values = {f"{name}_vs_{other}": f"{error:g}" for other in ("ct", "truth") for name in ("raw_mean", "nmse_head")}
    values |= {f"{ratio}_{kind}_vs_{other}": f"{error:g}" for other in ("ct", "truth") for kind in ("error", "signed")}
    regions = ("white_matter", "cerebellum", "brain")
    values |= {f"mean_{name}": f"{9.0 * (1.0 + 0.01 * error):g}" for name in regions}
    values |= {f"true_{name}": "10" for name in regions}
    return row(set_name, patient, method, tracer=tracer, fell_back=fell_back, counts="3e6", **values)


@pytest.fixture
def rows():
    made = [measured("unseen", 0, method, fell_back="0" * (method == "predicted")) for method in PERCENT]
    made += [measured("unseen", 1, method, "perfusion", "1" * (method == "predicted")) for method in PERCENT]
    made += [measured("unseen", 2, "ct"), row("unseen", 2, "predicted", tracer="dat", notes="refused: no head")]
    made += [measured("mr head", "dat", method) for method in PERCENT]
    made += [row("mr head", "dat", USUAL_BONE, tracer="dat", notes="refused: the density is not known")]
    return [*made, row("monte carlo", 0, NO_CASE, notes="not simulated: the orbit hits the head")]


def test_means_are_over_the_patients_that_every_method_has(rows):
    assert {one["patient"] for one in shared(rows_of(rows, set="unseen"))} == {"0", "1"}
    assert {one["patient"] for one in shared(rows_of(rows, set="mr head"))} == {"dat"}


def test_differences_are_those_from_the_true_maps_image_or_from_the_truth(rows):
    both = shared(rows_of(rows, set="unseen"))
    assert differences(both, "predicted")[1] == pytest.approx([2.0] * 6)
    assert differences(both, "predicted", ("brain",), "truth")[1] == pytest.approx([0.9 * 102.0 - 100.0] * 2)


def test_the_table_names_who_is_missing_and_keeps_tracers_apart(rows):
    text = table(rows)
    assert "- not simulated: the orbit hits the head (patient 0)" in text
    assert "- predicted refused: no head (patient 2)" in text
    assert "- ct, usual bone density refused: the density is not known (patient dat)" in text
    (line,) = [one for one in text.splitlines() if one.startswith("| predicted (fell back): 1 |")][:1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    heads = next(one for one in text.splitlines() if one.startswith("| method | raw mean"))
    names = [cell.strip() for cell in heads.strip("|").split("|")]
    assert cells[names.index("SBR")] == "-"
    assert cells[names.index("pattern")] == "2.00 / 2.00"
    assert "+2.00 (dat, white matter)" in text
    assert "against the truth" in text


def test_goals_stand_beside_what_came_out_and_missed_ones_are_bold():
    made = [
        row("unseen", index, method, holder=held, raw_mean_vs_ct=error, sbr_error_vs_ct="-0.5")
        for index, (held, errors) in enumerate((("1", ("0.9", "1.5")), ("0", ("1.1", "1.3"))))
        for method, error in zip(("predicted, holder file", "predicted"), errors, strict=True)
    ]
    lines = goals_table(made).splitlines()
    raw = {tuple(line.split(" | ")[:2]): line.split(" | ")[3] for line in lines if line.startswith("| unseen,")}
    assert raw == {
        ("| unseen, with a holder", "predicted, holder file"): "0.90 (1)",
        ("| unseen, without a holder", "predicted, holder file"): "**1.10** (1)",
        ("| unseen, with a holder", "predicted"): "**1.50** (1.4)",
        ("| unseen, without a holder", "predicted"): "1.30 (1.4)",
    }
    assert all("| 0.50 (" in line and "| - |" in line for line in lines if line.startswith("| unseen"))
    assert goals_table([row("unseen", 0, "ct", raw_mean_vs_ct="0")]) == ""


def test_figures_are_drawn_from_what_is_there_and_removed_where_nothing_is(rows, tmp_path):
    figures = pytest.importorskip(
        "benchmarks.attenuation.figures", reason="figures need matplotlib", exc_type=ImportError
    )
    for draw in (figures.draw_bars, figures.draw_agreement):
        path = tmp_path / f"{draw.__name__}.png"
        draw(path, rows)
        assert path.stat().st_size > 5000
        draw(path, [row("no scatter window", 0, NO_CASE, notes="not simulated: why")])
        assert not path.exists()
    assert [one["patient"] for one in figures.worst_rows(rows_of(rows, set="unseen"))] == ["0"]


def test_results_with_and_without_a_holder_stand_apart():
    made = [measured("unseen", index, method) for index in range(20) for method in ("ct", "chang", "predicted")]
    text = table([one | {"holder": str(int(int(one["patient"]) < 13))} for one in made])
    assert "| chang, with | 13 (13) | 10.00 / 10.00 |" in text
    assert "| predicted, without | 7 (7) | 2.00 / 2.00 |" in text


def test_tolerance_limits_are_those_of_the_tables():
    """20 values with mean 1 and SD 2: k = 2.208 for 95 % of a normal distribution at 90 % confidence (ISO 16269-6)."""
    values = np.tile([-1.0, 1.0], 10)
    values = 1.0 + 2.0 * values / values.std(ddof=1)
    agreement, tolerance = spread_of(values)
    assert agreement == pytest.approx((1.0 - 3.92, 1.0 + 3.92))
    assert tolerance == pytest.approx((1.0 - 2.0 * 2.208, 1.0 + 2.0 * 2.208), abs=2e-3)
    assert spread_of(values[:2]) == (None, None)
