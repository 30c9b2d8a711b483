"""What goes out of a comparison: DICOM objects of the same patient and study, as dciodvfy accepts them."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from spectac.app.node import pdf
from spectac.app.node.objects import write_objects
from spectac.app.report.key_page import DPI, REACH_MM, _slices, draw_key_page, pixels_of
from spectac.recon import Grid, Image, InputError
from spectac.recon.io.dicom.report_write import write_capture, write_pdf

NOISE = "Error - Missing attribute Type 2C Conditional Element=<Laterality> Module=<GeneralSeries>"
"""dciodvfy asks for a side of the body where none is examined."""


@pytest.fixture
def objects(result, tmp_path, without_browser):
    compared, _ = result
    (tmp_path / "objects").mkdir()
    (tmp_path / "report").mkdir()
    names, notes = write_objects(tmp_path / "objects", compared.comparison, tmp_path / "report")
    return compared.comparison, names, notes, tmp_path / "objects"


def test_every_method_the_report_and_its_key_page_go_out(objects):
    comparison, names, notes, folder = objects
    assert set(names) == {f"{name}.dcm" for name in comparison.methods} | {"report.dcm", "key_page.dcm"}
    found = {name: pydicom.dcmread(folder / name) for name in names}
    assert {name: str(data.SOPInstanceUID) for name, data in found.items()} == names
    assert len({data.SeriesInstanceUID for data in found.values()}) == len(found)
    document = bytes(found["report.dcm"].EncapsulatedDocument)
    assert document.startswith(b"%PDF-")
    assert found["report.dcm"].EncapsulatedDocumentLength in (len(document), len(document) - 1)
    page = found["key_page.dcm"].pixel_array
    assert page.shape == (1402, 992, 3)
    assert found["key_page.dcm"].BurnedInAnnotation == "NO"
    assert notes == ["the PDF holds the report's key page alone: no Chromium is installed"]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_dciodvfy_accepts_every_object(objects):
    _, names, _, folder = objects
    for name in names:
        told = subprocess.run(["dciodvfy", str(folder / name)], capture_output=True, text=True, check=False)
        errors = [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]
        assert set(errors) <= {NOISE}, name


def test_slices_show_the_front_at_the_top_and_the_left_at_the_right():
    """One bright voxel 20 mm to the left, 30 mm to the front and 10 mm up of the middle, on voxels of 10 mm."""
    grid = Grid.upright((31, 31, 31), (10.0,) * 3, (-150.0, -150.0, -150.0))
    values = np.zeros(grid.shape, np.float32)
    values[16, 12, 17] = 1.0
    slices, extents = _slices(Image(values, grid, "cps/mL"), (10.0, -30.0, 20.0))
    for part, extent, (across, up) in zip(slices, extents, ((20.0, 30.0), (20.0, 10.0), (-30.0, 10.0)), strict=True):
        row, column = np.unravel_index(int(part.argmax()), part.shape)
        left, right, low, high = extent
        assert left + column * (right - left) / (part.shape[1] - 1) == pytest.approx(across)
        assert low + row * (high - low) / (part.shape[0] - 1) == pytest.approx(up)
        assert right - left == pytest.approx(2 * REACH_MM)


@pytest.mark.parametrize("methods", [1, 4, 9])
def test_slices_on_a_page_of_many_methods_can_still_be_seen(result, methods):
    """All lie on the page, none on another, and each is wider than 15 mm."""
    compared, _ = result
    one = next(iter(compared.comparison.methods.values()))
    many = replace(compared.comparison, methods={f"ct {number}": one for number in range(methods)})
    figure = draw_key_page(many)
    assert pixels_of(figure).shape == (1402, 992, 3)
    boxes = [axis.get_window_extent() for axis in figure.subfigs[1].axes if axis.images]
    assert len(boxes) == 3 * methods
    for number, box in enumerate(boxes):
        assert box.width == pytest.approx(box.height, abs=1.0)
        assert box.width / DPI * 25.4 > 15.0
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[:number])


def test_a_browser_that_fails_leaves_the_key_page(result, tmp_path, monkeypatch):
    compared, _ = result
    monkeypatch.setattr(pdf, "BROWSERS", ("false",))
    note = pdf.write_report_pdf(tmp_path / "report.pdf", compared.comparison, tmp_path)
    assert "Chromium failed" in note
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")


def test_what_is_no_pdf_and_no_picture_is_refused(result, tmp_path):
    compared, _ = result
    (tmp_path / "a.pdf").write_text("not one")
    study = compared.comparison.study
    with pytest.raises(InputError, match="not a PDF"):
        write_pdf(tmp_path / "a.dcm", tmp_path / "a.pdf", study, "report", names_patient=True)
    with pytest.raises(InputError, match="uint8"):
        write_capture(tmp_path / "a.dcm", np.zeros((4, 4)), study, "page")
    assert not (tmp_path / "a.dcm").exists()
