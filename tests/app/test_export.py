"""spectac export: the other programs' files come back as the same study, and every loss has its line."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime

import numpy as np
import pydicom
import pytest

from spectac.app.cli import main
from spectac.app.export import export_study
from spectac.recon import (
    Acquisition,
    EnergyWindow,
    InputError,
    MuMap,
    ReconstructionSettings,
    Study,
    SystemModel,
    default_grid,
    reconstruct,
)
from spectac.recon.attenuation import GivenMap, MapFile
from spectac.recon.collimator import collimator
from spectac.recon.io import open_study
from spectac.recon.io.hdf5 import write_study
from spectac.recon.io.nifti import write_mu_map
from spectac.recon.settings import MapSettings

PEER = sys.executable if importlib.util.find_spec("pytomography") else os.environ.get("SPECTAC_PYTOMOGRAPHY_PYTHON")


@pytest.fixture(scope="module")
def study():
    """A disc with a hot spot at the left front, in 24 views of two heads clockwise, with noise."""
    views = 24
    acquisition = Acquisition(
        (40 - 15.0 * np.arange(views)) % 360,
        np.full(views, 150.0),
        (8, 32),
        (6.0, 6.0),
        np.full(views, 900.0),
        "Tc-99m",
        collimator("siemens-lehr"),
        detector=np.repeat([0, 1], views // 2),
        patient_position="HFS",
        axis_lps_mm=(2.0, -10.0, -21.0),
        corrections=frozenset({"UNIF"}),
    )
    grid = default_grid(acquisition)
    disc = _disc(grid)
    activity = disc.copy()
    activity[5:7, 12:14, 20:23] = 6.0
    mean = SystemModel(acquisition, grid, mu=MuMap(0.15 * disc, grid, 140.511), resolution=False).forward(activity)
    counts = np.random.default_rng(0).poisson(mean * (40.0 / mean.max()), (1, *mean.shape))
    return Study(acquisition, (EnergyWindow("peak", 126, 154),), counts, patient={"PatientName": "X"})


def _disc(grid):
    """A disc around the axis, its left side cut off, so that a mirrored map is another one."""
    x0, y0, _, _ = grid.affine_lps @ [0.0, 15.5, 15.5, 1.0]
    _, y, x = grid.centres_mm()
    inside = (np.hypot(x[None, :] - x0, y[:, None] - y0) < 75) & (x[None, :] - x0 < 55)
    return np.broadcast_to(inside.astype(np.float32), grid.shape).copy()


@pytest.fixture(scope="module")
def files(tmp_path_factory, study):
    """The study as HDF5 and its mu-map as NIfTI."""
    folder = tmp_path_factory.mktemp("export")
    write_study(folder / "study.h5", study)
    grid = default_grid(study.acquisition)
    write_mu_map(folder / "mu.nii.gz", MuMap(0.15 * _disc(grid), grid, 140.511))
    return folder


def said(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["spectac", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr()
    return ended.value.code, out.out, out.err


@pytest.mark.parametrize("target", ["stir", "simind", "pytomography"])
def test_the_study_comes_back_from_every_target(capsys, monkeypatch, tmp_path, files, study, target):
    code, out, err = said(
        capsys, monkeypatch, "export", files / "study.h5", "--to", target, "-o", tmp_path, "--mu-map",
        files / "mu.nii.gz",
    )  # fmt: skip
    assert code == 0, err
    back = open_study(tmp_path / "projections.dcm" if target == "pytomography" else tmp_path)
    mine, theirs = study.acquisition, back.acquisition
    # One view at every angle: sorted, both lists are the same views.
    a, b = np.argsort(mine.view_angles_deg), np.argsort(np.round(theirs.view_angles_deg, 6))
    assert np.allclose(mine.view_angles_deg[a], theirs.view_angles_deg[b], atol=1e-8)
    assert np.array_equal(study.counts[:, a], back.counts[:, b])
    assert np.allclose(theirs.radii_mm, 150.0)
    assert theirs.nuclide == "Tc-99m"
    assert (back.windows[0].name, back.windows[0].lower_kev, back.windows[0].upper_kev) == ("peak", 126, 154)
    assert "note: counts are as measured in views of 900 s" in out
    # 12 views of 900 s on each head: the last one starts 9900 s after the first; the half-life is 6.0067 h.
    assert f"has {1 - 0.5 ** (9900 / (6.0067 * 3600)):.1%} fewer counts" in out
    if target != "pytomography":
        assert (
            "not in these files: patient and study, the axis' place and frame of reference, corrections (UNIF)" in out
        )
        assert "2 heads are written as one sweep of 24 views" in out


@pytest.mark.parametrize("target", ["stir", "simind", "pytomography"])
def test_fan_beams_are_refused_with_one_line(capsys, monkeypatch, tmp_path, files, target):
    code, _, err = said(
        capsys, monkeypatch, "export", files / "study.h5", "--to", target, "-o", tmp_path / "out", "--focal-length",
        "400",
    )  # fmt: skip
    assert code == 2
    assert "fan" in err
    assert "reconstruct with spectac" in err
    assert not (tmp_path / "out").exists()
    # Views that the console rebinned to parallel rays are exported as such.
    code, _, err = said(
        capsys, monkeypatch, "export", files / "study.h5", "--to", target, "-o", tmp_path / "out", "--focal-length",
        "inf",
    )  # fmt: skip
    assert code == 0, err


@pytest.mark.parametrize("target", ["stir", "simind"])
def test_an_exported_map_corrects_as_the_nifti_does(tmp_path, files, study, target):
    """--attenuation map takes the exported map by its content: the same map to float32, hence the same image."""
    export_study(study, target, tmp_path, MapSettings(mu_map=files / "mu.nii.gz"))
    name = {"stir": "mu_map.hv", "simind": "mu_map.hct"}[target]
    settings = ReconstructionSettings(iterations=2, subsets=4, resolution=False, scatter="none", device="cpu")
    given = reconstruct(study, MapFile(str(files / "mu.nii.gz")), settings)
    back = reconstruct(study, MapFile(str(tmp_path / name)), settings)
    assert np.array_equal(back.mu.per_cm, given.mu.per_cm)
    assert np.array_equal(back.image.values, given.image.values)
    assert any("centred on the rotation axis" in note for note in back.notes)
    # The test can fail: the mirrored map gives another image.
    turned = GivenMap(replace(given.mu, per_cm=given.mu.per_cm[:, :, ::-1]))
    mirrored = reconstruct(study, turned, settings)
    assert np.abs(mirrored.image.values - given.image.values).max() > 0.05 * given.image.values.max()


def test_an_interfile_map_goes_along_as_well(tmp_path, files, study):
    lines = export_study(
        replace(study, warnings=("odd",)), "stir", tmp_path / "a", MapSettings(mu_map=files / "mu.nii.gz")
    )
    assert "note: odd" in lines
    export_study(study, "pytomography", tmp_path / "b", MapSettings(mu_map=tmp_path / "a" / "mu_map.hv"))
    grid = default_grid(study.acquisition)
    # PyTomography's axes are [x, y, z].
    assert np.array_equal(np.load(tmp_path / "b" / "mu_map.npy"), 0.15 * _disc(grid).transpose(2, 1, 0))


def test_dicom_has_what_pytomography_takes_in_its_own_way(tmp_path, study):
    """The corner of the volume at the top row for every head, never y = 0, and no Mediso."""
    mediso = replace(study, patient={"Manufacturer": "Mediso"})
    export_study(mediso, "pytomography", tmp_path / "a")
    data = pydicom.dcmread(tmp_path / "a" / "projections.dcm")
    assert data.Manufacturer != "Mediso"
    assert "RescaleSlope" not in data
    for item in data.DetectorInformationSequence:
        # The axis less 15.5 pixels of 6 mm; the inferior row at -21 mm and 7 rows above it.
        assert item.ImagePositionPatient == [-91, -103, 21]
        assert len(item.RadialPosition) == 12
    back = open_study(tmp_path / "a" / "projections.dcm")
    assert back.acquisition.axis_lps_mm == pytest.approx((2.0, -10.0, -21.0))
    corner = replace(study.acquisition, axis_lps_mm=(2.0, 93.0, -21.0))
    export_study(replace(study, acquisition=corner), "pytomography", tmp_path / "b")
    item = pydicom.dcmread(tmp_path / "b" / "projections.dcm").DetectorInformationSequence[0]
    assert 0 < item.ImagePositionPatient[1] < 0.01
    nowhere = replace(study.acquisition, axis_lps_mm=None)
    lines = export_study(replace(study, acquisition=nowhere), "pytomography", tmp_path / "c")
    assert any("position of the rotation axis is unknown" in line for line in lines)
    item = pydicom.dcmread(tmp_path / "c" / "projections.dcm").DetectorInformationSequence[0]
    assert item.ImagePositionPatient == [-93, -93, 21]


@pytest.mark.parametrize("target", ["stir", "simind", "pytomography"])
def test_what_is_printed_stays_beside_the_files(tmp_path, files, study, target):
    """README.txt says the same as the screen, with names that still hold when the folder is moved."""
    odd = replace(study, warnings=("odd",))
    *lines, _ = export_study(odd, target, tmp_path / "out", MapSettings(mu_map=files / "mu.nii.gz"))
    kept = (tmp_path / "out" / "README.txt").read_text(encoding="utf-8").splitlines()
    assert kept == [line.replace(f"{tmp_path / 'out'}/", "") for line in lines]
    assert "note: odd" in kept
    if target == "pytomography":
        assert 'projections = dicom.get_projections("projections.dcm", index_peak=0)  # [view, r, z]' in kept
    assert any(("resolution of siemens-lehr" if target != "simind" else "smi_index_22=3") in line for line in kept)


@pytest.mark.parametrize("target", ["stir", "simind", "pytomography"])
def test_anonymous_leaves_no_patient_in_any_file(capsys, monkeypatch, tmp_path, study, target):
    secret = {
        "PatientName": "Doe^Jane", "PatientID": "SECRET-1", "PatientBirthDate": "19470213", "AccessionNumber": "A-77",
        "StudyInstanceUID": "1.2.840.99.1", "StudyDate": "20191105", "ReferringPhysicianName": "Roe^Rita",
        "Manufacturer": "SIEMENS", "SOPInstanceUID": "1.2.840.99.2",
    }  # fmt: skip
    begun = replace(study.acquisition, start=datetime(2019, 11, 5, 9, 30), frame_of_reference_uid="1.2.840.99.3")
    named = replace(study, acquisition=begun, patient=secret, warnings=("the file of Doe^Jane is odd",))
    write_study(tmp_path / "named.h5", named)

    def told(folder, *options):
        code, out, err = said(
            capsys, monkeypatch, "export", tmp_path / "named.h5", "--to", target, "-o", folder, *options
        )
        assert code == 0, err
        written = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
        words = ("Doe", "SECRET", "19470213", "A-77", "1.2.840.99", "20191105", "2019:11:05", "Roe")
        return {word for word in words if word.encode() in written}

    assert told(tmp_path / "named")
    assert told(tmp_path / "anonymous", "--anonymous") == set()
    mine = open_study(
        tmp_path / "anonymous" / "projections.dcm" if target == "pytomography" else tmp_path / "anonymous"
    )
    assert mine.counts.sum() == study.counts.sum()
    assert mine.acquisition.start is None
    if target == "pytomography":
        assert mine.patient["Manufacturer"] == "SIEMENS"
        assert mine.acquisition.collimator == study.acquisition.collimator


def test_the_line_of_the_resolution_is_the_collimators(tmp_path, study):
    """The printed line follows sigma(distance), a curve, to the 0.2 mm or less that it says itself."""
    lines = export_study(study, "pytomography", tmp_path)
    (line,) = [line for line in lines if "resolution of siemens-lehr" in line]
    slope, sigma0_cm = (float(number) for number in line.split("((")[1].split("))")[0].split(","))
    distance = np.array([37.5, 150.0, 262.5])
    sigma = study.acquisition.collimator.sigma_mm(distance, 140.511)
    worst = float(line.split("off by up to ")[1].split(" mm")[0])
    assert np.abs(10 * sigma0_cm + slope * distance - sigma).max() == pytest.approx(worst, abs=0.006)
    assert worst < 0.2


def refused(study, tmp_path, message, target="stir", **options):
    with pytest.raises(InputError, match=message):
        export_study(study, target, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_refusals(tmp_path, files, study):
    acquisition = study.acquisition
    refused(study, tmp_path, "use one of stir, simind, pytomography", target="castor")
    shifted = replace(study, acquisition=replace(acquisition, u_offset_mm=np.full(24, 2.0)))
    for target in ("stir", "simind", "pytomography"):
        refused(shifted, tmp_path, "2 mm beside the middle", target)
    oblong = replace(study, acquisition=replace(acquisition, pixel_mm=(3.0, 6.0)))
    refused(oblong, tmp_path, "pixels must be square", "pytomography")
    refused(replace(study, counts=study.counts + 0.5), tmp_path, "stores whole counts", "pytomography")
    window = replace(study.windows[0], lower_kev=143.0, upper_kev=175.0)
    wrong = replace(study, acquisition=replace(acquisition, nuclide="I-123"), windows=(window,))
    lines = export_study(wrong, "stir", tmp_path / "converted", MapSettings(mu_map=files / "mu.nii.gz"))
    assert any("at 140.511 keV: each voxel was converted to 158.97 keV" in line for line in lines)
    with pytest.raises(InputError, match="--mu-map-kev belongs to --mu-map"):
        export_study(study, "stir", tmp_path / "lone", MapSettings(mu_map_kev=511.0))
    grid = default_grid(acquisition)
    write_mu_map(tmp_path / "per_mm.nii.gz", MuMap(0.015 * _disc(grid), grid, 140.511))
    refused(study, tmp_path, "must be in 1/cm", maps=MapSettings(mu_map=tmp_path / "per_mm.nii.gz"))
    far = replace(grid, affine_lps=grid.affine_lps + 1000 * np.eye(4)[:, [3, 3, 3, 0]].T)
    write_mu_map(tmp_path / "far.nii.gz", MuMap(0.15 * _disc(grid), far, 140.511))
    refused(study, tmp_path, "covers 0% of the activity", maps=MapSettings(mu_map=tmp_path / "far.nii.gz"))


def test_older_files_are_never_mixed_in(capsys, monkeypatch, tmp_path, files):
    """A folder of an earlier export with more windows would be read as one study with this one."""
    (tmp_path / "projections_w2.hs").write_text("!INTERFILE :=\n")
    code, _, err = said(capsys, monkeypatch, "export", files / "study.h5", "--to", "stir", "-o", tmp_path)
    assert code == 2
    assert "give an empty folder" in err
    assert [path.name for path in tmp_path.iterdir()] == ["projections_w2.hs"]


LOAD = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy, torch, pytomography
from pytomography.algorithms import OSEM
from pytomography.io.SPECT import dicom, simind
from pytomography.likelihoods import PoissonLogLikelihood
from pytomography.projectors.SPECT import SPECTSystemMatrix
from pytomography.transforms.SPECT import SPECTAttenuationTransform
pytomography.set_device(torch.device("cpu"))
target, folder = sys.argv[1:]
if target == "pytomography":
    file = f"{folder}/projections.dcm"
    object_meta, proj_meta = dicom.get_metadata(file, index_peak=0)
    projections = dicom.get_projections(file, index_peak=0)
    mu = torch.from_numpy(numpy.load(f"{folder}/mu_map.npy"))
else:
    file = f"{folder}/projections_tot_w1.h00"
    object_meta, proj_meta = simind.get_metadata(file)
    projections = simind.get_projections(file)
    mu = simind.get_attenuation_map(f"{folder}/mu_map.hct", smi_index_22=3)
system = SPECTSystemMatrix([SPECTAttenuationTransform(attenuation_map=mu)], [], object_meta, proj_meta)
image = OSEM(PoissonLogLikelihood(system, projections.float()))(n_iters=4, n_subsets=4)
numpy.save(f"{folder}/image.npy", image.numpy().transpose(2, 1, 0))
"""


@pytest.mark.slow
@pytest.mark.skipif(PEER is None, reason="PyTomography is not here: set SPECTAC_PYTOMOGRAPHY_PYTHON to its python")
@pytest.mark.parametrize("target", ["pytomography", "simind"])
def test_pytomography_makes_the_same_image_of_it(tmp_path, files, study, figure, target):
    """Read by PyTomography's own readers, corrected by the exported map: its image is spectac's, not a mirror of it."""
    export_study(study, target, tmp_path, MapSettings(mu_map=files / "mu.nii.gz"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(PEER), "-c", LOAD, target, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    theirs = np.load(tmp_path / "image.npy")
    mu = MapFile(str(files / "mu.nii.gz"))
    ours = reconstruct(
        study, mu, ReconstructionSettings(iterations=4, subsets=4, resolution=False, scatter="none", device="cpu")
    ).image.values
    inside = _disc(default_grid(study.acquisition)) > 0

    def alike(image):
        return float(np.corrcoef(image[inside], ours[inside])[0, 1])

    figure(f"correlation of PyTomography's image from the {target} export", alike(theirs), "above 0.98")
    assert alike(theirs) > 0.98
    assert max(alike(np.flip(theirs, axis)) for axis in range(3)) < 0.9
