"""The CT in the reconstruction: shared frames, registration, a CT that ends inside the head."""

from dataclasses import replace

import pytest

from spectac.recon import CTMap, GivenMap, Grid, InputError, ReconstructionSettings, attenuation_model, reconstruct
from spectac.recon.io.dicom.ct_write import write_series

SETTINGS = {"iterations": 4, "subsets": 6, "scatter": "none"}


@pytest.fixture(scope="module")
def scan(analytic):
    return analytic.study(analytic.acquisition(views=60, size=36, pixel_mm=8.0), 2e6, 1)


@pytest.fixture(scope="module")
def volume(analytic):
    return analytic.ct(voxel_mm=4.0)


@pytest.fixture(scope="module")
def brain_with_true_map(scan):
    study, truth, _ = scan
    return brain(reconstruct(study, GivenMap(truth.mu), ReconstructionSettings(**SETTINGS)), truth)


def brain(result, truth):
    return float(result.image.values[truth.fractions["brain"] > 0.999].mean())


def cut(volume, millimetres):
    """Volume without its top slices, so that `millimetres` of the head (its crown lies at z = 120 mm) are missing."""
    z, _, _ = volume.grid.centres_mm()
    kept = int((z + 0.5 * volume.grid.voxel_mm[0] <= 120.0 - millimetres).sum())
    grid = Grid((kept, *volume.grid.shape[1:]), volume.grid.voxel_mm, volume.grid.affine_lps)
    return replace(volume, hu=volume.hu[:kept], grid=grid)


def test_a_shared_frame_of_reference_places_the_ct(scan, volume, brain_with_true_map, tmp_path):
    study, truth, _ = scan
    write_series(tmp_path, volume)
    result = reconstruct(study, CTMap(str(tmp_path)), ReconstructionSettings(**SETTINGS))
    assert any("share their frame of reference" in note for note in result.notes)
    assert brain(result, truth) == pytest.approx(brain_with_true_map, rel=0.02)
    assert result.mu.grid.same_as(result.image.grid)


def test_another_frame_of_reference_is_registered(scan, volume, brain_with_true_map, tmp_path):
    """Shifted by 12 mm to the left: the note names the way back, warns beyond 10 mm, and the image is right again."""
    pytest.importorskip("SimpleITK", reason="registration needs the extra ct")
    study, truth, _ = scan
    affine = volume.grid.affine_lps.copy()
    affine[0, 3] += 12.0
    grid = Grid(volume.grid.shape, volume.grid.voxel_mm, affine)
    write_series(tmp_path, replace(volume, grid=grid, frame_of_reference_uid="1.2.3"))
    result = reconstruct(study, CTMap(str(tmp_path)), ReconstructionSettings(**SETTINGS))
    assert any("the CT was registered" in note for note in result.notes)
    assert any("look at it" in note for note in result.notes)
    assert brain(result, truth) == pytest.approx(brain_with_true_map, rel=0.02)


def test_assume_aligned_takes_the_ct_as_it_lies(scan, volume, brain_with_true_map, tmp_path):
    study, truth, _ = scan
    write_series(tmp_path, replace(volume, frame_of_reference_uid="1.2.3"))
    result = reconstruct(study, CTMap(str(tmp_path), assume_aligned=True), ReconstructionSettings(**SETTINGS))
    assert any("assumed to be aligned, as asked" in note for note in result.notes)
    assert brain(result, truth) == pytest.approx(brain_with_true_map, rel=0.02)


def test_a_ct_that_ends_just_inside_the_head_is_continued(scan, volume, tmp_path):
    study, _, _ = scan
    write_series(tmp_path, cut(volume, 16.0))
    result = reconstruct(study, CTMap(str(tmp_path)), ReconstructionSettings(iterations=1, subsets=6, scatter="none"))
    assert any("its last slice was continued" in note for note in result.notes)
    # The blurred cut itself holds a little less than brain; air would be seen as 0 and dilution as a third less.
    z, _, _ = result.mu.grid.centres_mm()
    middle = result.mu.per_cm[:, 17:19, 17:19].mean(axis=(1, 2))
    top = (z > 90) & (z < 112)
    assert middle[top].min() > 0.13


def test_a_ct_that_ends_far_inside_the_head_is_refused_or_extended(scan, volume, brain_with_true_map, tmp_path):
    study, truth, _ = scan
    write_series(tmp_path, cut(volume, 60.0))
    with pytest.raises(InputError, match="inside the head that the SPECT shows: --extend-ct"):
        reconstruct(study, CTMap(str(tmp_path)), ReconstructionSettings(iterations=1, subsets=6, scatter="none"))
    result = reconstruct(study, CTMap(str(tmp_path), extend=True), ReconstructionSettings(**SETTINGS))
    assert any("filled with soft tissue" in note for note in result.notes)
    # The skull of a quarter of the head is missing from the map: some per cent of the brain's mean.
    assert 0.93 < brain(result, truth) / brain_with_true_map < 1.01


def test_a_ct_of_another_person_is_told(scan, volume, tmp_path):
    study, _, _ = scan
    named = replace(study, patient={"PatientID": "7", "PatientBirthDate": "19500203", "PatientSex": "F"})
    write_series(tmp_path, volume, patient={"PatientID": "8", "PatientBirthDate": "19500203", "PatientSex": "M"})
    notes = reconstruct(
        named, CTMap(str(tmp_path)), ReconstructionSettings(iterations=1, subsets=6, scatter="none")
    ).notes
    assert "the CT and the projections differ in PatientID and PatientSex: are they of one person?" in notes
    alike = replace(study, patient={"PatientBirthDate": "19500203"})
    assert not any(
        "one person" in note
        for note in reconstruct(alike, CTMap(str(tmp_path)), ReconstructionSettings(iterations=1, scatter="none")).notes
    )


def test_options_are_checked():
    model = attenuation_model("ct", {"path": "x", "extend": "yes", "blur_fwhm_mm": "0", "series": "3"})
    assert model == CTMap("x", "3", 0.0, extend=True)
    for options, message in (
        ({}, "give --ct DIR"),
        ({"path": "x", "extend": "maybe"}, "extend needs yes or no, not 'maybe'"),
        ({"path": "x", "blur_fwhm_mm": "-1"}, "between 0 and 50, not -1"),
    ):
        with pytest.raises(InputError, match=message):
            attenuation_model("ct", options)
