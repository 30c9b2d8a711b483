"""The report: one file that needs nothing else, whose pictures are the images and whose drawings stand in place."""

import base64
import json
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the report needs jinja2: pip install 'spectac[report]'")

from spectac.app.compare import compare_study
from spectac.app.comparison import CompareRequest
from spectac.app.report import page
from spectac.app.report.charts import orbit
from spectac.app.report.projections import strip
from spectac.app.report.slices import Pack, display_grid, volumes
from spectac.recon import EnergyWindow, Grid, Image, Outline, ReconstructionSettings
from spectac.recon.io import hdf5
from spectac.recon.resample import resample
from spectac.recon.settings import ComparisonSettings

QUICK = ReconstructionSettings(iterations=3, subsets=6)


def unpacked(text):
    """The report's data and the bytes of its pictures, as its script reads them."""
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    pack = re.search(r'id="pack">(.*?)</script>', text, re.S)[1]
    return data, np.frombuffer(zlib.decompress(base64.b64decode(pack)), np.uint8)


def test_the_report_needs_nothing_else_and_is_light(result):
    text = (result[1] / "report.html").read_text()
    assert len(text) < page.LARGEST_BYTES
    assert "default-src 'none'" in text
    assert not re.search(r'(src|href)="(?!#)', text)
    assert "://" not in re.sub(r'<script type="text/plain" id="pack">.*?</script>', "", text, flags=re.S)


def test_the_pictures_are_the_images(result):
    """Every level is its voxel's value to half a level, with z, y, x in their order; Chang's map is there too."""
    compared, out = result
    data, levels = unpacked((out / "report.html").read_text())
    shown = data["volumes"]
    shape = tuple(shown["shape"])
    image = compared.comparison.methods["uniform"].image
    grid = Grid.upright(shape, (shown["voxelMm"],) * 3, shown["firstMm"][::-1])
    told = shown["images"]["uniform"]
    begin = told["begin"]
    size = int(np.prod(shape))
    high, low = (levels[begin + part * size : begin + (part + 1) * size].astype(int) for part in (0, 1))
    picture = (told["low"] + told["step"] * (256 * high + low)).reshape(shape)
    wanted = resample(image.values, image.grid, grid)
    assert np.abs(picture - wanted).max() <= 0.501 * told["step"]
    assert told["step"] < 3e-4 * np.ptp(wanted)
    # 9 mm voxels on their own lattice: the brightest one is one of the image's.
    assert picture.max() == pytest.approx(wanted.max(), rel=0.01)
    assert set(shown["maps"]) == {"chang", "uniform"}


def test_the_strip_holds_the_counts(result, patient):
    data, levels = unpacked((result[1] / "report.html").read_text())
    study, _ = patient
    shape = tuple(data["strip"]["shape"])
    assert shape == study.counts.shape[1:]
    order = np.argsort(np.mod(study.acquisition.view_angles_deg, 360.0), kind="stable")
    for window, counts in zip(data["strip"]["windows"], study.counts, strict=True):
        shown = levels[window["begin"] : window["begin"] + np.prod(shape)].reshape(shape) / 255.0 * window["top"]
        assert np.abs(shown - counts[order]).max() <= 0.51 / 255.0 * window["top"]


def test_what_a_file_says_cannot_become_part_of_the_page(tmp_path, patient, place):
    study, _ = patient
    name = '</script><script>alert("x")</script>'
    hdf5.write_study(tmp_path / "study.h5", replace(study, patient={"PatientName": name}, windows=tuple(
        EnergyWindow(f"{name}{n}", window.lower_kev, window.upper_kev) for n, window in enumerate(study.windows)
    )))  # fmt: skip
    labels = place / "truth" / "labels.nii.gz"
    compare_study(
        tmp_path / "study.h5",
        CompareRequest(reconstruction=QUICK, comparison=ComparisonSettings(methods=("none",), labels=labels)),
        tmp_path / "out",
    )
    text = (tmp_path / "out" / "report.html").read_text()
    assert name not in text
    assert text.count("</script>") == 3
    data, _ = unpacked(text)
    assert data["strip"]["windows"][0]["name"].startswith(name)


def test_a_large_report_gives_up_fineness_and_no_more(result, monkeypatch):
    comparison = result[0].comparison
    full = page.render(comparison)
    monkeypatch.setattr(page, "LARGEST_BYTES", len(full.encode()) - 1)
    monkeypatch.setattr("spectac.app.report.slices.VOLUME_BYTES", 200_000)
    smaller = page.render(comparison)
    assert len(smaller.encode()) < len(full.encode())
    assert unpacked(smaller)[0]["volumes"]["voxelMm"] > unpacked(full)[0]["volumes"]["voxelMm"]
    assert re.sub(r"<script.*", "", smaller, flags=re.S)[-500:] == re.sub(r"<script.*", "", full, flags=re.S)[-500:]


def test_the_display_grid_keeps_to_the_lattice_and_the_limit():
    """2 mm voxels shown as whole multiples, their centres amid those that they hold: means of whole voxels."""
    grid = Grid.upright((60, 70, 80), (2.0, 2.0, 2.0), (-79.0, -69.0, -59.0))
    shown = display_grid(grid, None, 60 * 70 * 80 / 7)
    assert shown.voxel_mm == (4.0, 4.0, 4.0)
    assert np.prod(shown.shape) <= 60 * 70 * 80 / 7
    np.testing.assert_allclose(shown.affine_lps[:3, 3], (-78.0, -68.0, -58.0))
    values = np.random.default_rng(1).random(grid.shape).astype(np.float32)
    blocks = values.reshape(30, 2, 35, 2, 40, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(resample(values, grid, shown)[:29, :34, :39], blocks[:29, :34, :39], atol=1e-6)


def test_a_hot_voxel_keeps_its_place_in_the_pictures():
    """Left, front, top: index grows in x, falls in y, grows in z."""
    grid = Grid.upright((24, 26, 28), (4.0, 4.0, 4.0), (-54.0, -50.0, -46.0))
    values = np.zeros(grid.shape, np.float32)
    values[20, 3, 22] = 5.0
    pack = Pack()
    told = volumes({"one": Image(values, grid, "relative")}, {"one": None}, None, pack, 1.0)
    levels = np.frombuffer(zlib.decompress(base64.b64decode(pack.text)), np.uint8).reshape(2, *told["shape"])
    k, j, i = np.unravel_index(levels[0].argmax(), told["shape"])
    z, y, x = (first + n * told["voxelMm"] for first, n in zip(told["firstMm"], (k, j, i), strict=True))
    assert (x, y, z) == (34.0, -38.0, 34.0)
    high, low = levels[:, k, j, i].astype(int)
    assert told["images"]["one"]["low"] + told["images"]["one"]["step"] * (256 * high + low) == pytest.approx(5.0)


def test_a_strip_that_is_too_large_is_summed(patient, monkeypatch):
    study, _ = patient
    monkeypatch.setattr("spectac.app.report.projections.STRIP_BYTES", 3 * 40 * 16 * 16)
    large = replace(
        study,
        acquisition=replace(study.acquisition, matrix=(64, 64), pixel_mm=(4.5, 4.5)),
        counts=np.repeat(np.repeat(study.counts, 2, axis=2), 2, axis=3) / 4,
    )
    pack = Pack()
    told = strip(large, pack, 1.0)
    assert told["summed"] == 2
    levels = np.frombuffer(zlib.decompress(base64.b64decode(pack.text)), np.uint8)
    assert levels.size <= 3 * 40 * 16 * 16
    # Two by two equal quarters make the count that they were made of.
    order = np.argsort(np.mod(study.acquisition.view_angles_deg, 360.0), kind="stable")[:: 40 // told["shape"][0]]
    first = told["windows"][0]
    shown = levels[: np.prod(told["shape"])].reshape(told["shape"]) / 255.0 * first["top"]
    assert np.abs(shown - study.counts[0][order]).max() <= 0.51 / 255.0 * first["top"]


def test_the_orbit_is_drawn_about_the_axis(patient):
    """A head that lies 120 mm behind the origin with the axis is drawn in the middle of the orbit."""
    study, _ = patient
    acquisition = replace(study.acquisition, axis_lps_mm=(0.0, 120.0, -140.0))
    grid = Grid.upright((4, 30, 30), (8.0, 8.0, 8.0), (-116.0, 4.0, -140.0))
    z, y, x = grid.centres_mm()
    disc = (np.hypot(y[:, None] - 120.0, x[None, :]) < 80.0).astype(np.float32)
    drawn = str(orbit(acquisition, Outline(np.repeat(disc[None], 4, axis=0), grid)))
    points = [tuple(map(float, pair.split(","))) for pair in re.search(r'points="([^"]+)"', drawn)[1].split()]
    np.testing.assert_allclose(np.mean(points, axis=0), (0.0, 0.0), atol=3.0)
    assert all(70 < np.hypot(*point) < 95 for point in points)


def test_the_first_view_of_a_detector_is_drawn_where_it_stands(patient):
    """0 deg is the patient's back, at the bottom; 90 deg the left, at the right of the picture."""
    study, _ = patient
    angles = np.array(study.acquisition.view_angles_deg)
    for angle, place_xy in ((0.0, (0, 1)), (90.0, (1, 0)), (180.0, (0, -1)), (270.0, (-1, 0))):
        turned = replace(study.acquisition, view_angles_deg=angles - angles[0] + angle, detector=None)
        line = re.search(r'class="face first" x1="(\S+)" y1="(\S+)" x2="(\S+)" y2="(\S+)"', str(orbit(turned, None)))
        x1, y1, x2, y2 = map(float, line.groups())
        radius = study.acquisition.radii_mm[0]
        np.testing.assert_allclose((0.5 * (x1 + x2), 0.5 * (y1 + y2)), np.array(place_xy) * radius, atol=0.2)
