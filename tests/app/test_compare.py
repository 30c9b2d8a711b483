"""The comparison of methods: its numbers follow from its images, its report invents nothing and hides nothing."""

import csv
import html
import json
import re
import shlex
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import nibabel
import numpy as np
import pytest

from spectac.app.anonymous import hider
from spectac.app.cli import main
from spectac.app.compare import compare_study
from spectac.app.comparison import CompareRequest
from spectac.app.measures import NOISE, noise_rows, uncertainty_rows
from spectac.app.regions import Regions, placement_warnings
from spectac.recon import Grid, Image, InputError, ReconstructionSettings, Study, default_grid
from spectac.recon.calibration import Calibration, write_calibration
from spectac.recon.geometry import axis_position_mm
from spectac.recon.io import hdf5
from spectac.recon.io.dicom.ct_write import write_series
from spectac.recon.io.nifti import read_image, read_labels, write_image
from spectac.recon.resample import resample
from spectac.recon.settings import ComparisonSettings
from spectac.recon.voi import Vois
from spectac.simulate.ct_scan import ct_scan

pytest.importorskip("skimage", reason="the report needs scikit-image: pip install 'spectac[report]'")

QUICK = ReconstructionSettings(iterations=3, subsets=6)


def rows_of(folder):
    with (folder / "comparison.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_numbers_are_those_of_the_images(result, place):
    """SBR and difference, computed here again from the written images and the truth's labels."""
    _, out = result
    rows = {(row["method"], row["measure"], row["region"]): row for row in rows_of(out)}
    labels, label_grid, names = read_labels(place / "truth" / "labels.nii.gz")
    numbers = {name: label for label, name in names.items()}
    image = read_image(out / "images" / "uniform.nii.gz")
    truth = read_image(place / "truth" / "activity.nii.gz")
    assert image.unit == "kBq/mL"

    def mean(values, *regions):
        inside = np.isin(labels, [numbers[name] for name in regions]).astype(np.float32)
        share = resample(inside, label_grid, image.grid)
        return float((share * values).sum() / share.sum())

    def sbr(values):
        reference = mean(values, "right occipital cortex", "left occipital cortex")
        return mean(values, "right putamen") / reference - 1.0

    found, true = sbr(image.values), sbr(resample(truth.values, truth.grid, image.grid))
    row = rows["uniform", "SBR", "right putamen"]
    assert float(row["value"]) == pytest.approx(found, rel=1e-4)
    assert float(row["reference_value"]) == pytest.approx(true, rel=1e-4)
    assert float(row["difference_percent"]) == pytest.approx(100 * (found / true - 1), rel=1e-3)
    # exp(-0.15 * 8 cm): two thirds are missing without correction, far less with it.
    assert -75 < float(rows["none", "mean", "brain"]["difference_percent"]) < -55
    assert -30 < float(rows["uniform", "mean", "brain"]["difference_percent"]) < 10


def test_a_study_without_scatter_windows(place, tmp_path):
    """ "auto" is Monte Carlo for the methods with a map, nothing for the one without; the course is the image's own."""
    study = hdf5.read_study(place / "study.h5")
    hdf5.write_study(tmp_path / "peak.h5", replace(study, windows=study.windows[:1], counts=study.counts[:1]))
    request = CompareRequest(
        reconstruction=ReconstructionSettings(iterations=7, subsets=4, holder=Path("typical")),
        comparison=ComparisonSettings(methods=("none", "uniform"), truth=place / "truth"),
    )
    compared = compare_study(tmp_path / "peak.h5", request, tmp_path / "out")
    used = {name: one.result.projections.scatter_method for name, one in compared.comparison.methods.items()}
    assert used == {"none": "none", "uniform": "montecarlo, 2 rounds"}
    assert {len(one.course) for one in compared.comparison.methods.values()} == {7}
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert {name: one["used"]["scatter_method"] for name, one in record["methods"].items()} == used
    assert record["study"]["scatter"] == "none (none); montecarlo, 2 rounds (uniform)"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "none (none); montecarlo, 2 rounds (uniform)" in page
    assert "--holder typical" in page
    # What the methods with a map are corrected for is no warning of the whole study.
    assert not [text for text in compared.comparison.all_warnings if "scatter" in text]


def test_a_method_that_cannot_be_used_stops_no_other(result):
    compared, out = result
    rows = rows_of(out)
    (failed,) = [row for row in rows if row["status"] == "failed"]
    assert failed["method"] == "ct"
    assert "no_ct" in failed["reason"]
    assert {row["method"] for row in rows if row["status"] == "done"} == {"none", "chang", "uniform", "truth"}
    assert any(line.startswith("note: ct was left out: ") for line in compared.lines)
    assert failed["reason"] in (out / "report.html").read_text().replace("&#39;", "'").replace("&#34;", '"')
    assert not (out / "images" / "ct.nii.gz").exists()


def test_where_no_method_can_be_used_nothing_is_left(place):
    request = CompareRequest(
        reconstruction=QUICK, comparison=ComparisonSettings(methods=("ct",), ct=place / "no_ct", truth=place / "truth")
    )
    with pytest.raises(InputError, match=r"no method could be used: ct: .*no_ct"):
        compare_study(place / "study.h5", request, place / "nothing")
    assert not (place / "nothing").exists()


def test_no_scatter_window_and_a_bad_header_stand_first_and_nothing_is_invented(tmp_path, patient):
    """Photopeak alone, no collimator, no view times: said before all else, images relative, no calibration, no SBR."""
    study, _ = patient
    bare = replace(study.acquisition, collimator=None, view_seconds=np.full(study.acquisition.views, np.nan))
    poor = Study(bare, study.windows[:1], study.counts[:1], warnings=("the header's nuclide was replaced",))
    hdf5.write_study(tmp_path / "study.h5", poor)
    request = CompareRequest(
        reconstruction=replace(QUICK, resolution=False), comparison=ComparisonSettings(methods=("none", "uniform"))
    )
    compared = compare_study(tmp_path / "study.h5", request, tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    first, rest = text.split('id="read"', 1)
    for words in (
        "no scatter correction: ",
        "the collimator is unknown",
        "the view times are unknown",
        "the header&#39;s nuclide was replaced",
    ):
        assert words in first
        assert any(words.replace("&#39;", "'") in line for line in compared.lines)
    assert "The file says nothing about the patient." in rest
    assert "<dt>collimator</dt><dd>unknown</dd>" in rest
    assert "unknown time" in rest
    assert "kBq/mL" not in re.sub(r'id="pack">.*?</script>', "", text, flags=re.S)
    assert "There is no image to take differences to." in rest
    assert {row["unit"] for row in rows_of(tmp_path / "out") if row["measure"] == "mean"} == {"relative"}
    assert "scatter     none" not in rest
    assert "<dt>scatter</dt><dd>none</dd>" in rest


def test_anonymous_leaves_no_name_anywhere(tmp_path, patient, place):
    """Named in the header, in the file's name, its folder's, the history and a warning; scanned on a day."""
    study, _ = patient
    about = {"PatientName": "Doe^Jane", "PatientID": "Q4711-X", "PatientBirthDate": "19500203", "Manufacturer": "ACME"}
    named = replace(
        study,
        patient=about,
        acquisition=replace(study.acquisition, start=datetime(2031, 7, 19, 8, 30)),
        history=("read from DICOM NM Doe_Jane_Q4711.dcm", "injected 2031-07-19"),
        warnings=("left out of Clinic_Doe: Doe_Jane_Q4711.txt",),
    )
    folder = tmp_path / "Clinic_Doe"
    folder.mkdir()
    hdf5.write_study(folder / "Doe_Jane_Q4711.h5", named)
    for end in (".nii.gz", ".json"):
        (tmp_path / f"Doe_labels{end}").write_bytes((place / "truth" / f"labels{end}").read_bytes())
    camera = study.acquisition.collimator.name
    known = Calibration(0.08, "I-123", camera, study.windows[0], "tew, side windows smoothed by 12 mm")
    write_calibration(tmp_path / "Doe_calibration.json", known)
    request = CompareRequest(
        reconstruction=replace(QUICK, calibration=str(tmp_path / "Doe_calibration.json")),
        comparison=ComparisonSettings(
            methods=("none", "ct"), ct=place / "no_ct", labels=tmp_path / "Doe_labels.nii.gz", anonymous=True
        ),
    )
    compared = compare_study(folder / "Doe_Jane_Q4711.h5", request, tmp_path / "out")
    texts = {path: path.read_text() for path in (tmp_path / "out").rglob("*.[hjc][tso]*") if path.is_file()}
    texts |= {path: str(nibabel.load(path).header) for path in (tmp_path / "out").rglob("*.nii.gz")}
    texts["lines"] = "\n".join(line for line in compared.lines if not line.startswith(str(tmp_path / "out")))
    assert len(texts) >= 7
    for path, text in texts.items():
        text = re.sub(r'id="pack">.*?</script>', "", text, flags=re.S)
        assert not re.search("Doe|Q4711|19500203|2031-|20310719|07-19|08:30|no_ct", text), path
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Left out, as asked." in report
    assert "spectac reconstruct study --attenuation none" in report
    assert json.loads((tmp_path / "out" / "images" / "none.json").read_text())["Manufacturer"] == "ACME"


def test_a_ct_of_another_person_is_told_without_a_name(tmp_path, patient, place, coarse_patient):
    """The doubt stands in report and record of an anonymous comparison too, and names nobody."""
    study, _ = patient
    frame = study.acquisition.frame_of_reference_uid or "1.2.3"
    axis = replace(study.acquisition, frame_of_reference_uid=frame, axis_lps_mm=axis_position_mm(study.acquisition))
    hdf5.write_study(
        tmp_path / "study.h5",
        replace(study, acquisition=axis, patient={"PatientName": "Doe^Jane", "PatientID": "Q4711"}),
    )
    scan = ct_scan(coarse_patient.head, np.random.default_rng(1), frame_of_reference_uid=frame)
    write_series(tmp_path / "ct", scan, patient={"PatientName": "Roe^Jim", "PatientID": "Q0815"})
    request = CompareRequest(
        reconstruction=QUICK,
        comparison=ComparisonSettings(
            methods=("none", "ct"), ct=tmp_path / "ct", labels=place / "truth" / "labels.nii.gz", anonymous=True
        ),
    )
    compared = compare_study(tmp_path / "study.h5", request, tmp_path / "out")
    doubt = "the CT and the projections differ in PatientID and PatientName: are they of one person?"
    record, report = ((tmp_path / "out" / name).read_text() for name in ("record.json", "report.html"))
    for text in ("\n".join(compared.lines), record, report):
        assert doubt in text
        assert not re.search("Doe|Roe|Q4711|Q0815", re.sub(r'id="pack">.*?</script>', "", text, flags=re.S))


def test_an_earlier_run_s_images_do_not_stay(result, place):
    request = CompareRequest(
        reconstruction=QUICK, comparison=ComparisonSettings(methods=("none",), labels=place / "truth" / "labels.nii.gz")
    )
    compare_study(place / "study.h5", request, place / "again")
    before = {path.name for path in (place / "again" / "images").iterdir()}
    compare_study(
        place / "study.h5",
        replace(request, comparison=replace(request.comparison, methods=("uniform",))),
        place / "again",
    )
    after = {path.name for path in (place / "again" / "images").iterdir()}
    assert "none.nii.gz" in before
    assert "none.nii.gz" not in after
    assert {"uniform.nii.gz", "uniform_mu.nii.gz"} <= after


def test_a_folder_that_somebody_else_made_is_refused_before_the_work(place, tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    monkeypatch.setattr("spectac.app.compare.open_study", lambda *given, **more: pytest.fail("the work began"))
    with pytest.raises(InputError, match="images is there and no result of spectac"):
        compare_study(
            place / "study.h5",
            CompareRequest(reconstruction=QUICK, comparison=ComparisonSettings(methods=("none",))),
            tmp_path,
        )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"methods": ()}, "no method to compare"),
        ({"methods": ("ct",)}, "method ct needs the folder of the CT series: --ct DIR"),
        ({"methods": ("map",)}, "method map needs a mu-map: --mu-map FILE"),
        ({"methods": ("none", "none")}, "names one twice"),
        ({"methods": ("none", "unifrom")}, "attenuation model 'unifrom' is not installed: use one of chang, ct"),
        ({"extend_ct": True}, "--extend-ct belongs to method ct"),
        ({"methods": ("none",), "ct": Path("ct")}, "--ct belongs to method ct"),
        ({"tracer": "fdg"}, "--tracer must be one of dat, perfusion, not 'fdg'"),
    ],
)
def test_requests_that_make_no_sense_are_refused(wrong, says):
    with pytest.raises(InputError, match=re.escape(says)):
        ComparisonSettings(**wrong).models()


def test_a_truth_without_a_calibration_compares_shapes_alone(tmp_path, patient, place):
    """The truth is brought to the brain's mean: ratios are compared, levels are not, and a warning says why."""
    study, _ = patient
    hdf5.write_study(tmp_path / "study.h5", study)
    (tmp_path / "truth").mkdir()  # without the patient.json that lies beside
    for path in (place / "truth").iterdir():
        (tmp_path / "truth" / path.name).write_bytes(path.read_bytes())
    request = CompareRequest(
        reconstruction=QUICK, comparison=ComparisonSettings(methods=("none", "uniform"), truth=Path(tmp_path / "truth"))
    )
    compared = compare_study(tmp_path / "study.h5", request, tmp_path / "out")
    assert any("it was scaled to the brain's mean of uniform" in line for line in compared.comparison.all_warnings)
    rows = {(row["method"], row["measure"], row["region"]): row for row in rows_of(tmp_path / "out")}
    assert rows["none", "mean", "brain"]["reference_value"] == ""
    assert not any("of regions %" in measure for _, measure, _ in rows)
    ratio = rows["none", "SBR", "left putamen"]
    assert float(ratio["reference_value"]) > 0


def test_a_truth_at_another_place_is_refused_before_the_work(tmp_path, place):
    truth = read_image(place / "truth" / "activity.nii.gz")
    far = np.array(truth.grid.affine_lps)
    far[:3, 3] += 600.0
    write_image(tmp_path / "far.nii.gz", replace(truth, grid=Grid(truth.grid.shape, truth.grid.voxel_mm, far)))
    request = CompareRequest(
        reconstruction=QUICK, comparison=ComparisonSettings(methods=("none",), truth=tmp_path / "far.nii.gz")
    )
    with pytest.raises(InputError, match="holds no activity in the study's field"):
        compare_study(place / "study.h5", request, tmp_path / "out")


def test_the_truth_stands_beside_on_its_own_voxels(result, place, coarse_patient):
    """Its own column is the patient's true ratio; the image's voxels of 9 mm take a good part of it."""
    rows = {(row["method"], row["measure"], row["region"]): row for row in rows_of(result[1])}
    own = float(rows["truth", "SBR", "left putamen"]["value"])
    assert own == pytest.approx(coarse_patient.uptake.parameters["sbr_left_putamen"], rel=1e-3)
    assert float(rows["none", "SBR", "left putamen"]["reference_value"]) < 0.85 * own


def test_a_calibration_of_another_scatter_correction_is_refused_before_the_work(tmp_path, patient, place):
    study, _ = patient
    window = study.windows[0]
    known = Calibration(0.08, "I-123", study.acquisition.collimator.name, window, "tew, side windows smoothed by 12 mm")
    write_calibration(tmp_path / "calibration.json", known)
    base = replace(QUICK, scatter="none", calibration=str(tmp_path / "calibration.json"))
    with pytest.raises(InputError, match=r"made with scatter: tew.*the image with scatter: none"):
        compare_study(
            place / "study.h5",
            CompareRequest(reconstruction=base, comparison=ComparisonSettings(methods=("none",))),
            tmp_path / "out",
        )


def test_commands_make_the_images_again(tmp_path, patient, place, monkeypatch):
    """The shown commands give the same voxels, after the division that they tell of; with a calibration as well."""
    study, _ = patient
    known = Calibration(
        0.08, "I-123", study.acquisition.collimator.name, study.windows[0], "tew, side windows smoothed by 12 mm"
    )
    write_calibration(tmp_path / "calibration.json", known)
    base = replace(QUICK, calibration=str(tmp_path / "calibration.json"), post_filter="gaussian:9")
    request = CompareRequest(
        reconstruction=base,
        comparison=ComparisonSettings(methods=("none", "uniform"), labels=place / "truth" / "labels.nii.gz"),
    )
    compare_study(place / "study.h5", request, tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    monkeypatch.chdir(tmp_path)
    for name in ("none", "uniform"):
        shown = html.unescape(re.search(f"<code>(spectac reconstruct [^<]*--attenuation {name} [^<]*)</code>", text)[1])
        command, _, then = shown.partition("#")
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        image = read_image(tmp_path / f"result_{name}" / "image.nii.gz")
        divisor = float(re.search(r"divided by (\S+) cps", then)[1]) if then else 1.0
        assert bool(then) == (name == "none")
        same = read_image(tmp_path / "out" / "images" / f"{name}.nii.gz")
        assert same.unit == "kBq/mL"
        np.testing.assert_allclose(image.values / divisor, same.values, rtol=2e-5, atol=1e-6)


def test_what_low_counts_change_stands_beside(tmp_path, place):
    """One method more, whose image is that of a comparison without low counts, with the same tables and pictures."""
    asked = ComparisonSettings(methods=("none", "uniform"), truth=place / "truth")
    low, plain = (
        compare_study(place / "study.h5", CompareRequest(reconstruction=one, comparison=asked), tmp_path / name)
        for name, one in (
            ("low", replace(QUICK, low_counts="map")),
            ("plain", replace(QUICK, post_filter="gaussian:8")),
        )
    )
    assert list(low.comparison.methods) == ["none", "uniform", "uniform-as-counted"]
    assert list(low.comparison.chosen) == list(plain.comparison.methods) == ["none", "uniform"]
    beside, same = (
        read_image(tmp_path / path).values
        for path in ("low/images/uniform-as-counted.nii.gz", "plain/images/uniform.nii.gz")
    )
    np.testing.assert_array_equal(beside, same)
    means = {
        row["method"]: row for row in rows_of(tmp_path / "low") if (row["measure"], row["region"]) == ("mean", "brain")
    }
    assert means["uniform"]["reference"] == "truth"
    # Noise of another kind is no error of an attenuation map.
    assert means["uniform-as-counted"]["reference"] in ("", "none")
    assert not [row for row in rows_of(tmp_path / "low") if row["measure"] == "NRMSE" and "counted" in row["method"]]
    record = json.loads((tmp_path / "low" / "record.json").read_text())["methods"]["uniform-as-counted"]
    assert (record["used"]["low_counts"]["method"], record["parameters"]["post_filter"]) == ("none", "gaussian:8")
    page = html.unescape((tmp_path / "low" / "report.html").read_text())
    assert 'data-against="uniform-as-counted"' in page
    assert "--post-filter gaussian:8" in page
    assert not [text for text in low.comparison.warnings if "not treated alike" in text]


def test_a_predicted_map_that_is_the_uniform_one_is_told_first(tmp_path, place):
    """9 mm pixels lie outside of what training had: the uniform map takes the predicted one's place."""
    pytest.importorskip("torch", reason="the predicted map needs torch: pip install 'spectac[learned]'")
    request = CompareRequest(
        reconstruction=QUICK,
        comparison=ComparisonSettings(methods=("uniform", "predicted"), labels=place / "truth" / "labels.nii.gz"),
    )
    compared = compare_study(place / "study.h5", request, tmp_path / "out")
    assert any(line.startswith("predicted used the uniform map here") for line in compared.comparison.all_warnings)
    first = (tmp_path / "out" / "report.html").read_text().split('id="read"', 1)[0]
    assert "predicted used the uniform map here" in first


def test_methods_in_a_config_file_may_be_a_list(tmp_path, monkeypatch, capsys):
    (tmp_path / "run.toml").write_text('methods = ["none", "unifrom"]\n')
    monkeypatch.setattr(
        sys, "argv", ["spectac", "compare", "study.h5", "-o", "out", "--config", str(tmp_path / "run.toml")]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "attenuation model 'unifrom' is not installed" in capsys.readouterr().err


def test_what_names_somebody_is_hidden_and_words_stay(patient):
    study, _ = patient
    named = replace(study, patient={"PatientName": "Ann^Head", "PatientID": "77", "PatientWeight": "75.0"})
    hide = hider([Path("/data/scan/projections.dcm"), Path("/data/Doe_17/Doe_17.h5")], named)
    kept = "the projections of this scan hold 75.0 data; the uniform map and annular heads stay"
    assert hide(kept) == kept
    for secret in (
        "PROJECTIONS.DCM",
        "/data/scan/projections.dcm",
        "Doe_17",
        "doe_17.txt",
        "ann",
        "Head^Ann",
        "Ann^Head",
    ):
        assert "left out" in hide(f"see {secret}, please"), secret


def test_a_calibration_that_cannot_be_used_is_not_claimed(tmp_path, patient, place):
    """Without view times images stay relative, and neither report nor commands speak of kBq."""
    study, _ = patient
    timeless = replace(study.acquisition, view_seconds=np.full(study.acquisition.views, np.nan))
    hdf5.write_study(tmp_path / "study.h5", replace(study, acquisition=timeless))
    compared = compare_study(
        tmp_path / "study.h5",
        CompareRequest(reconstruction=QUICK, comparison=ComparisonSettings(methods=("none",), truth=place / "truth")),
        tmp_path / "out",
    )
    assert any("the calibration could not be used" in line for line in compared.comparison.all_warnings)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "Calibration:" not in text
    assert "then divided" not in text


def test_doubtful_places_of_vois_are_told(patient):
    """Templates whose correlations differ by 0.001, of which the user may name one; and a VOI beyond the field."""
    grid = default_grid(patient[0].acquisition)
    fits = {"dat": 0.913, "perfusion": 0.914}
    masks = {"brain": np.ones(grid.shape, np.float32)}
    alike = Vois(masks, grid, "placed", "dat", fits=fits)
    (warning,) = placement_warnings(alike, None)
    assert "dat was taken" in warning
    assert "--tracer" in warning
    assert placement_warnings(alike, "dat") == []
    assert placement_warnings(replace(alike, fits={"dat": 0.95, "perfusion": 0.90}), None) == []
    (warning,) = placement_warnings(replace(alike, cut=("cerebellum",)), "dat")
    assert "cerebellum" in warning
    assert placement_warnings(None, None) == []


def test_a_regions_uncertainty_is_the_mean_of_the_images():
    """0.02 in the left half and 0.06 in the right one; boxes are no regions."""
    grid = Grid.upright((2, 4, 4), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    values, left = np.full(grid.shape, 0.06), np.zeros(grid.shape, np.float32)
    values[:, :, 2:], left[:, :, 2:] = 0.02, 1.0
    vois = Vois(
        {"brain": np.ones(grid.shape, np.float32), "left putamen": left, "left striatum box": left}, grid, "test"
    )
    rows = uncertainty_rows({"predicted": Image(values, grid, "relative")}, vois)
    assert {(row.method, row.region): row.value for row in rows} == {
        ("predicted", "brain"): pytest.approx(4.0),
        ("predicted", "left putamen"): pytest.approx(2.0),
    }
    assert uncertainty_rows({"predicted": Image(values, grid, "relative")}, None) == []


def test_the_noise_of_a_measure_is_its_spread_over_repeated_scans():
    """Striata of 4, 5 and 6 over a reference of 1: binding ratios of 3, 4 and 5 spread by 1, and so do the means."""
    grid = Grid.upright((2, 4, 4), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    striatum, reference = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    striatum[:, :, :1], reference[:, :, 2:] = 1.0, 1.0
    masks = {"left striatum": striatum, "right striatum": striatum, "striata": striatum, "reference": reference}
    repeats = [Image(1.0 + (hot - 1.0) * striatum, grid, "cps/mL") for hot in (4.0, 5.0, 6.0)]
    regions = Regions(None, Vois(masks, grid, "test"), "dat", ())
    rows = {(row.measure, row.region): row.value for row in noise_rows({"predicted": repeats}, regions)}
    assert rows[f"{NOISE}mean", "striata"] == pytest.approx(1.0)
    assert rows[f"{NOISE}mean", "reference"] == pytest.approx(0.0, abs=1e-6)
    assert rows[f"{NOISE}SBR", "left striatum"] == pytest.approx(1.0)
    assert noise_rows({}, regions) == []
