import dataclasses
from datetime import datetime, time, timedelta, timezone

import h5py
import numpy as np
import pytest

from spectac.recon import StudySettings
from spectac.recon.collimator import Collimator, Focus
from spectac.recon.errors import InputError
from spectac.recon.io import open_study
from spectac.recon.io.hdf5 import read_study, write_study
from spectac.recon.types import Acquisition, EnergyWindow, Injection, Study


def _full_study():
    """Study whose every field differs from its default."""
    views = 3
    acquisition = Acquisition(
        view_angles_deg=[17.0, 133.25, 1 / 3],
        radii_mm=[150.0, 160.5, 1e3 / 7],
        matrix=(4, 5),
        pixel_mm=(4.42, 3.3),
        view_seconds=[20.0, 30.0, np.nextafter(30.0, 31.0)],
        nuclide="I-123",
        collimator=Collimator(
            "own", 1.5, 35.0, 0.2, 3.8, 6.0, "round", "measured", published_fwhm_mm=7.4, focus=Focus(500.0)
        ),
        start=datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        view_start_s=[0.0, 25.0, 70.0],
        detector=[1, 0, 1],
        axis_lps_mm=(1.5, -2.25, 1000 / 3),
        frame_of_reference_uid="1.2.840.1",
        u_offset_mm=[0.5, -0.25, 0.0],
        foci=(Focus(1000 / 3, "back", -2.25), Focus(400.0, "crystal", 1 / 7)),
        patient_position="HFS",
        corrections=frozenset({"UNIF", "DECY"}),
        energy_resolution=1 / 11,
        crystal_mm=15.9,
    )
    counts = np.random.default_rng(3).random((2, views, 4, 5), dtype=np.float32) * 1e4
    return Study(
        acquisition,
        (EnergyWindow("photopeak", 143.1, 174.9), EnergyWindow("lower ≤", 129.5, 143.1)),
        counts,
        patient={"PatientName": "Müller^Änne", "PatientID": ""},
        injection=Injection("Ioflupane", 185.5, datetime(2026, 2, 28, 20, 15)),
        history=("made", ""),
        warnings=("beware\nof lines",),
    )


def _same(one, other):
    """Equality that goes into dataclasses and arrays, NaN equal to NaN, and types included."""
    if dataclasses.is_dataclass(one):
        return type(one) is type(other) and all(
            _same(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one)
        )
    if isinstance(one, np.ndarray):
        nan_equal = one.dtype.kind == "f"
        alike = isinstance(other, np.ndarray) and one.dtype == other.dtype
        return alike and np.array_equal(one, other, equal_nan=nan_equal)
    return type(one) is type(other) and one == other


def test_round_trip_of_every_field_is_exact(tmp_path):
    study = _full_study()
    acquisition = study.acquisition
    # A field added later must be given a value here that is not its default, or the round trip proves nothing.
    for value in (study, acquisition, acquisition.collimator):
        for field in dataclasses.fields(value):
            if field.default is not dataclasses.MISSING and field.name != "line":
                assert not _same(getattr(value, field.name), field.default), field.name
    write_study(tmp_path / "a.h5", study)
    back = read_study(tmp_path / "a.h5")
    assert _same(study, back)
    assert _same(study, open_study(tmp_path / "a.h5"))


def test_round_trip_of_none_nan_empty_and_line(tmp_path):
    acquisition = Acquisition([0.0], [200.0], (1, 1), (4, 4), [np.nan], "Tc-99m", Collimator.from_line(1.466, 0.0163))
    study = Study(acquisition, (EnergyWindow("", 0, 1),), np.zeros((1, 1, 1, 1)))
    write_study(tmp_path / "a.h5", study)
    back = read_study(tmp_path / "a.h5")
    assert _same(study, back)
    assert back.acquisition.collimator.line == (1.466, 0.0163)
    assert np.isnan(back.acquisition.view_seconds).all()
    assert back.acquisition.start is None
    assert back.injection is None
    clock = Injection(at=time(20, 15))
    none = Study(dataclasses.replace(acquisition, collimator=None), study.windows, study.counts, injection=clock)
    write_study(tmp_path / "b.h5", none)
    again = read_study(tmp_path / "b.h5")
    assert again.acquisition.collimator is None
    assert again.injection == clock


def test_counts_are_compressed(tmp_path):
    """Projections are mostly small whole numbers and empty borders."""
    acquisition = Acquisition(np.arange(8.0), np.full(8, 200.0), (64, 64), (4, 4), np.ones(8), "Tc-99m", None)
    counts = np.random.default_rng(0).poisson(3.0, (1, 8, 64, 64))
    write_study(tmp_path / "a.h5", Study(acquisition, (EnergyWindow("p", 126, 154),), counts))
    assert (tmp_path / "a.h5").stat().st_size < counts.size * 4 / 3


def test_text_that_hdf5_cannot_hold_is_refused_and_nothing_is_written(tmp_path):
    study = dataclasses.replace(_full_study(), history=("a\0b",))
    with pytest.raises(InputError, match="cannot be stored"):
        write_study(tmp_path / "a.h5", study)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "study.h5"
    write_study(path, _full_study())
    return path


_DAMAGE = {
    "missing counts": (lambda f: f.__delitem__("counts"), "dataset /counts is missing"),
    "missing radii": (lambda f: f.__delitem__("acquisition/radii_mm"), "dataset /acquisition/radii_mm is missing"),
    "missing group": (lambda f: f.__delitem__("windows"), "group /windows is missing"),
    "missing collimator field": (
        lambda f: f.__delitem__("acquisition/collimator/hole_mm"),
        "dataset /acquisition/collimator/hole_mm is missing",
    ),
    "newer": (lambda f: f.attrs.__setitem__("version", 3), "version 3 of spectac-study, this spectac reads up to 2"),
    "foci of other numbers": (
        lambda f: (f.__delitem__("acquisition/foci/offset_mm"), f.__setitem__("acquisition/foci/offset_mm", [1.0])),
        "/acquisition/foci holds 2, 2, 1 values",
    ),
    "focus of another plane": (
        lambda f: f["acquisition/foci/counted_from"].__setitem__(0, "middle"),
        "a focal length counts from face, back or crystal, not from 'middle'",
    ),
    "foreign": (lambda f: f.attrs.__delitem__("format"), "not a study of spectac"),
    "group for dataset": (
        lambda f: (f.__delitem__("counts"), f.create_group("counts")),
        "/counts must be a dataset, it is a Group",
    ),
    "text for numbers": (
        lambda f: (f.__delitem__("counts"), f.__setitem__("counts", "many")),
        "/counts needs numbers in 4 dimensions",
    ),
    "numbers for text": (
        lambda f: (f.__delitem__("acquisition/nuclide"), f.__setitem__("acquisition/nuclide", 3.0)),
        "/acquisition/nuclide needs one text",
    ),
    "fewer views": (
        lambda f: (f.__delitem__("acquisition/radii_mm"), f.__setitem__("acquisition/radii_mm", [1.0])),
        r"radii_mm needs shape \(3\), got \(1,\)",
    ),
    "negative counts": (lambda f: f["counts"].__setitem__((0, 0, 0, 0), -1.0), "counts .*must be at least 0"),
    "windows": (
        lambda f: (f.__delitem__("windows/lower_kev"), f.__setitem__("windows/lower_kev", [1.0])),
        "2 names, 1 lower and 2 upper limits",
    ),
    "no date": (
        lambda f: (f.__delitem__("acquisition/start"), f.__setitem__("acquisition/start", "yesterday")),
        "/acquisition/start is no ISO date",
    ),
    "patient": (
        lambda f: (f.__delitem__("patient/key"), f.__setitem__("patient/key", np.array(["a"], dtype="S"))),
        "1 keys and 2 values",
    ),
}


def _unseal(path):
    """Set the user block to zeros, as docs/formats.md says for files that another program changed."""
    with path.open("r+b") as file:
        file.write(bytes(512))


@pytest.mark.parametrize("name", _DAMAGE)
def test_damaged_contents_name_file_and_dataset(saved, name):
    damage, message = _DAMAGE[name]
    with h5py.File(saved, "r+") as file:
        damage(file)
    _unseal(saved)
    with pytest.raises(InputError, match=message) as caught:
        read_study(saved)
    assert str(caught.value).startswith(str(saved))


def test_every_truncation_is_an_input_error(saved):
    whole = saved.read_bytes()
    for length in range(8, len(whole), 97):
        saved.write_bytes(whole[:length])
        with pytest.raises(InputError, match="damaged or cut short"):
            read_study(saved)


def test_any_changed_byte_is_found_before_hdf5_sees_the_file(saved, monkeypatch):
    """HDF5 2.0.0 hangs or crashes on some files with changed bytes, so it must not be given any."""
    whole = saved.read_bytes()
    assert read_study(saved).windows[0].name == "photopeak"
    monkeypatch.setattr(h5py, "File", lambda *_, **__: pytest.fail("HDF5 was given a damaged file"))
    places = np.random.default_rng(0).integers(len(whole), size=200)
    for place in (*range(600), *places.tolist(), len(whole) - 1):
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"damaged|first 512 bytes hold something else") as caught:
            read_study(saved)
        assert str(caught.value).startswith(str(saved))
    saved.write_bytes(whole + b"\0")
    with pytest.raises(InputError, match="its SHA-256 differs from the one in its first 512 bytes"):
        read_study(saved)


def test_files_of_other_programs_carry_no_digest_and_are_read(saved):
    """A change by h5py is refused until the user block is cleared; a file without user block is read unchecked."""
    study = read_study(saved)
    with h5py.File(saved, "r+") as file, h5py.File(saved.with_name("bare.h5"), "w") as bare:
        file["acquisition/nuclide"][()] = "Tc-99m"
        for name in file:
            file.copy(name, bare)
        bare.attrs.update(file.attrs)
    with pytest.raises(InputError, match="SHA-256"):
        open_study(saved)
    _unseal(saved)
    for path in (saved, saved.with_name("bare.h5")):
        found = open_study(path)
        assert found.acquisition.nuclide == "Tc-99m"
        assert np.array_equal(found.counts, study.counts)


def test_arguments_replace_the_values_of_the_file_and_the_history_says_so(saved):
    line = Collimator.from_line(1.0, 0.02)
    study = open_study(
        saved, StudySettings(nuclide="tc99m", collimator=line, radius_mm=180.0, head_angles_deg=[0.0, 90.0])
    )
    acquisition = study.acquisition
    assert acquisition.nuclide == "Tc-99m"
    assert acquisition.collimator == line
    assert acquisition.radii_mm.tolist() == [180.0] * 3
    # Views 0 and 2 belong to head 1 (from 17 deg), view 1 to head 0 (133.25 deg).
    assert acquisition.view_angles_deg == pytest.approx([90.0, 0.0, 90.0 + 1 / 3 - 17.0])
    assert len(study.history) == 2 + 4
    assert study.history[2] == "given by the user: nuclide = Tc-99m"
    with pytest.raises(InputError, match="--head-angles needs one angle for each of the 2 heads, got 1"):
        open_study(saved, StudySettings(head_angles_deg=[0.0]))
