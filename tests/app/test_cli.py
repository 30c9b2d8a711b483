"""The command line as a user meets it: results, records, and one clear line with exit code 2 on bad input."""

import ast
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import nibabel
import numpy as np
import pydicom
import pytest
from pydantic import Field

from spectac import app as package
from spectac.app.batch.run import batch
from spectac.app.cli import COMMANDS, app, main
from spectac.app.compare import compare
from spectac.app.reconstruct import reconstruct
from spectac.recon import Acquisition, Collimator, EnergyWindow, MuMap, Study, SystemModel, default_grid, open_study
from spectac.recon.io.hdf5 import write_study
from spectac.recon.io.nifti import write_mu_map
from spectac.recon.setting_fields import Setting, settings
from spectac.recon.settings import ReconstructionSettings


@pytest.fixture
def here(capsys, monkeypatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Function that runs the command line in this process, which saves its start."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["spectac", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code, said.out, said.err)

    return run


def spectac(*arguments: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in its own process; `limit` caps the size of any file it writes, as a full disk would."""

    def cap() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "spectac.app.cli", *map(str, arguments)],
        capture_output=True, text=True, check=False, preexec_fn=cap,
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str], text: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert text in lines[0]


@pytest.fixture(scope="module")
def study_file(tmp_path_factory) -> Path:
    """A disc of 60 mm radius in 24 views at 8 mm, with noise, as spectac's HDF5."""
    acquisition = Acquisition(
        np.arange(24) * 15.0,
        np.full(24, 130.0),
        (6, 24),
        (8.0, 8.0),
        np.full(24, 10.0),
        "Tc-99m",
        Collimator.from_line(1.5, 0.016),
    )
    grid = default_grid(acquisition)
    _, y, x = grid.centres_mm()
    disc = np.broadcast_to((np.hypot(x[None, :], y[:, None]) < 60).astype(np.float32), grid.shape)
    expected = SystemModel(acquisition, grid, mu=MuMap(0.12 * disc, grid, 140.5)).forward(disc)
    counts = np.random.default_rng(0).poisson(expected)
    path = tmp_path_factory.mktemp("data") / "study.h5"
    write_study(path, Study(acquisition, (EnergyWindow("peak", 126, 154),), counts[None]))
    write_mu_map(path.with_name("mu.nii.gz"), MuMap(0.12 * disc, grid, 140.5))
    write_mu_map(path.with_name("wrong_energy.nii.gz"), MuMap(0.12 * disc, grid, 159.0))
    return path


FAST = ("--iterations", 2, "--subsets", 4)


def test_help_is_quick():
    """Half a second of processor time for --help, which a busy machine does not change: the least of three."""
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert spectac("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) < 0.5


def test_version_is_that_of_the_package():
    done = spectac("--version")
    assert (done.returncode, done.stdout) == (0, f"spectac {version('spectac')}\n")


def test_info_in_words_and_in_json(here, study_file):
    words = here("info", study_file).stdout
    assert "Tc-99m, main line 140.511 keV" in words
    assert "peak: 126-154 keV" in words
    assert "<- photopeak" in words
    facts = json.loads(here("info", study_file, "--json").stdout)
    assert facts["views"] == 24
    assert facts["matrix_z_u"] == [6, 24]
    assert facts["windows"][0]["photopeak"] is True


def test_reconstruct_writes_image_map_and_record(here, study_file, tmp_path):
    done = here("reconstruct", study_file, "-o", tmp_path / "out", "--attenuation", "map",
                   "--mu-map", study_file.with_name("mu.nii.gz"), "--scatter", "none", *FAST)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "image.dcm", "image.json", "image.nii.gz", "mu_map.json", "mu_map.nii.gz", "record.json",
    ]  # fmt: skip
    image = nibabel.load(tmp_path / "out" / "image.nii.gz")
    assert image.shape == (24, 24, 6)
    assert image.get_fdata()[12, 12, 3] == pytest.approx(1.0, rel=0.25)
    dicom = pydicom.dcmread(tmp_path / "out" / "image.dcm")
    assert sorted(dicom.CorrectedImage) == ["ATTN", "DECY"]
    assert "attenuation map" in dicom.SeriesDescription
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["parameters"]["iterations"] == 2
    assert {Path(name).name for name in record["inputs_sha256"]} == {"study.h5", "mu.nii.gz", "mu.json"}
    assert record["acquisition"]["collimator"]["line"] == [1.5, 0.016]
    assert record["device"]["used"] == "cpu"
    # Why "auto" did not take a GPU: one with a broken driver would otherwise go unnoticed.
    assert record["device"]["no_gpu"]
    assert record["image"]["unit"] == "cps/mL"
    # 0.12 /cm is 0.78 of water: a broad-beam map, right for these data without scatter correction.
    assert not any("over-corrects" in warning for warning in record["warnings"])


def test_low_counts_are_told_everywhere(here, study_file, tmp_path):
    """MAP was used, not OSEM: record.json, side-car and DICOM say so."""
    assert here("reconstruct", study_file, "-o", tmp_path, "--low-counts", "map", *FAST).returncode == 0
    record = json.loads((tmp_path / "record.json").read_text())
    used = record["used"]["low_counts"]
    assert used["method"] == "map"
    assert used["prior_beta"] > 0
    beside = json.loads((tmp_path / "image.json").read_text())
    assert beside["ReconMethodName"].startswith("MAP by BSREM")
    assert used["prior_beta"] in beside["ReconMethodParameterValues"]
    assert pydicom.dcmread(tmp_path / "image.dcm").SeriesDescription.endswith("low counts map")
    assert "low counts: map" in record["image"]["history"][-2]


def test_a_second_run_leaves_no_map_of_the_first(here, study_file, tmp_path):
    common = ("reconstruct", study_file, "-o", tmp_path, "--scatter", "none", *FAST)
    assert here(*common, "--attenuation", "map", "--mu-map", study_file.with_name("mu.nii.gz")).returncode == 0
    assert (tmp_path / "mu_map.nii.gz").exists()
    assert here(*common).returncode == 0
    assert not (tmp_path / "mu_map.nii.gz").exists()


def test_config_gives_defaults_and_the_command_line_wins(here, study_file, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text('iterations = 3\nsubsets = 4\npost-filter = "gaussian:12"\n')
    done = here("reconstruct", study_file, "-o", tmp_path / "out", "--config", config, "--iterations", 1)
    assert done.returncode == 0, done.stderr
    parameters = json.loads((tmp_path / "out" / "record.json").read_text())["parameters"]
    assert (parameters["iterations"], parameters["subsets"], parameters["post_filter"]) == (1, 4, "gaussian:12")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--attenuation", "magic"), "use one of chang, ct, map, none, predicted, uniform"),
        (("--attenuation-option", "mu"), "needs K=V"),
        (("--attenuation", "chang", "--attenuation-option", "colour=1"), "does not know the option colour"),
        (("--mu-map", "x.nii"), "--mu-map belongs to --attenuation map"),
        (("--uniform-mu", "0.1"), "--uniform-mu belongs to --attenuation chang or uniform"),
        (("--attenuation", "map"), "give --mu-map FILE"),
        (("--attenuation", "map", "--mu-map", "absent.nii"), "absent.nii"),
        (("--subsets", "20"), "use at most 6 subsets"),
        (("--iterations", "0"), "iterations"),
        (("--algorithm", "magic"), "--algorithm must be one of osem, mlem, map, fbp, not 'magic'"),
        (("--algorithm", "map"), "--prior-beta"),
        (("--post-filter", "gaussian"), "gaussian"),
        (("--psf", "wide"), "--psf needs SIGMA0_MM:SLOPE"),
        (("--collimator", "magic"), "use one of siemens-lehr"),
        (("--collimator", "ge-lehr", "--psf", "1:0"), "give one of --collimator, --psf and --holes"),
        (("--radius-mm", "30"), "check the radius"),
        (("--radius-mm", "-3"), "--radius-mm must be above 0, not -3"),
        (("--nuclide", "Xx-1"), "nuclide 'Xx-1' is not known: use one of Tc-99m"),
        (("--nuclide", "I-131"), "no energy window holds the 364.489 keV line"),
        (("--photopeak", "other"), "there is no energy window 'other'"),
        (("--scatter", "tew"), "TEW needs"),
        (("--device", "cuda"), "use --device auto or cpu"),
        (("--unknown", "1"), "No such option: --unknown"),
        (("--head-angles", "a,b"), "--head-angles needs numbers"),
        (("--low-counts", "network"), "belongs to attenuation models with a map, not to none"),
        (("--low-counts", "network", "--low-counts-weights", "none.st", "--attenuation", "uniform"), "none.st: cannot"),
        (("--low-counts", "map", "--post-filter", "gaussian:8"), "leave --post-filter out"),
        (("--low-counts", "map", "--algorithm", "fbp"), "needs algorithm osem or mlem, not fbp"),
        (("--low-counts-weights", "w.safetensors"), "--low-counts-weights belongs to --low-counts network"),
    ],
)
def test_bad_options_give_one_line_and_leave_nothing(here, study_file, tmp_path, arguments, text):
    output = tmp_path / "out"
    refused(here("reconstruct", study_file, "-o", output, *FAST, *arguments), text)
    assert not output.exists()


def test_map_at_another_energy(here, study_file, tmp_path):
    done = here("reconstruct", study_file, "-o", tmp_path / "out", "--attenuation", "map",
                   "--mu-map", study_file.with_name("wrong_energy.nii.gz"), "--scatter", "none", *FAST)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "note: the mu-map is at 159 keV: each voxel was converted to 140.511 keV" in done.stdout
    mu = nibabel.load(tmp_path / "out" / "mu_map.nii.gz").get_fdata()
    # Water has 0.1537 and 0.1478 /cm.
    assert mu[12, 12, 3] == pytest.approx(0.12 * 0.1537 / 0.1478, rel=0.01)


def test_the_way_out_of_a_map_of_another_energy_works(here, study_file, tmp_path):
    """A PET map (water 0.096 /cm at 511 keV) without side-car: the note names an option that gives the right map."""
    grid = nibabel.load(study_file.with_name("mu.nii.gz"))
    values = np.asarray(grid.dataobj) / 0.12 * 0.0960
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), grid.affine), tmp_path / "pet.nii.gz")
    common = (
        "reconstruct",
        study_file,
        "--attenuation",
        "map",
        "--mu-map",
        tmp_path / "pet.nii.gz",
        "--scatter",
        "none",
        *FAST,
    )
    told = here(*common, "-o", tmp_path / "told")
    assert re.search(r"soft tissue has 0\.0960 /cm, 0\.6[23] of water at 140\.511 keV", told.stdout)
    assert "--mu-map-kev 511" in told.stdout
    assert here(*common, "-o", tmp_path / "out", "--mu-map-kev", 511).returncode == 0
    mu = nibabel.load(tmp_path / "out" / "mu_map.nii.gz").get_fdata()
    assert mu[12, 12, 3] == pytest.approx(0.1537, rel=0.01)
    assert json.loads((tmp_path / "out" / "record.json").read_text())["parameters"]["attenuation_options"] == {
        "file": str(tmp_path / "pet.nii.gz"), "energy_kev": "511.0",
    }  # fmt: skip


@pytest.mark.parametrize(("option", "value", "model"), [("--mu-map-kev", 511, "map"), ("--tube-voltage-kv", 120, "ct")])
def test_options_of_maps_and_cts_belong_to_them(here, study_file, tmp_path, option, value, model):
    done = here("reconstruct", study_file, "-o", tmp_path / "out", option, value, *FAST)
    refused(done, f"{option} belongs to --attenuation {model}")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-16"])
def test_output_survives_every_encoding(study_file, tmp_path, encoding):
    """A Chinese window name on a terminal, or in a file, that has no such letters."""
    study = open_study(study_file)
    window = replace(study.windows[0], name="主峰")
    write_study(tmp_path / "主峰.h5", replace(study, windows=(window,), warnings=("naïve → ü",)))
    done = subprocess.run(
        [sys.executable, "-m", "spectac.app.cli", "info", str(tmp_path / "主峰.h5")],
        capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "126-154 keV" in done.stdout.decode(encoding)
    assert not done.stderr


def test_a_file_name_that_is_no_text_costs_nothing(study_file, tmp_path):
    """Bytes that are no UTF-8, as on disks of old cameras: they go into history, image.dcm and record as escapes."""
    study = os.fsencode(tmp_path) + b"/M\xfcller.h5"
    shutil.copy(study_file, study)
    done = subprocess.run(
        [sys.executable, "-m", "spectac.app.cli", "reconstruct", study, "-o", str(tmp_path / "out"), *map(str, FAST)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert pydicom.dcmread(tmp_path / "out" / "image.dcm").Modality == "NM"
    assert "M\\udcfcller.h5" in (tmp_path / "out" / "record.json").read_text(encoding="utf-8")


def test_every_option_named_in_a_message_exists():
    """A way out that a message offers must be one; those of the readers must exist wherever a study is read."""
    root = Path(package.__file__).parents[1]
    commands = {name: {o for p in app.commands[name].params for o in (*p.opts, *p.secondary_opts)} for name in COMMANDS}
    reading = set.intersection(*(commands[name] for name in ("info", "reconstruct", "compare", "calibrate", "export")))
    named = {
        (path.relative_to(root), option)
        for folder in ("recon", "app", "learned", "simulate")
        for path in sorted((root / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", node.value)
    }
    assert len(named) > 30
    everywhere = set.union(*commands.values())
    foreign = {"--raw", "--query-gpu", "--help", "--version", "--no-"}  # of other programs, and before any command
    foreign |= {"--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir", "--virtual-time-budget"}  # Chromium's
    foreign |= {"--no-pdf-header-footer", "--print-to-pdf"}
    unknown = {(path, option) for path, option in named if option not in everywhere | foreign}
    assert not unknown
    # Maps and CTs are read by the commands that use them.
    studies = [(path, option) for path, option in named if path.parts[:2] == ("recon", "io")]
    studies = [one for one in studies if not one[0].name.startswith(("ct", "mu_map", "nifti"))]
    assert {option for _, option in studies} - foreign <= reading


def test_changs_first_order_is_told_as_what_it_is(here, study_file, tmp_path):
    """Filtered backprojection whatever is asked for: record, side-car and DICOM say so, and no prior smooths it."""
    first = ("--attenuation", "chang", "--attenuation-option", "order=1", "-o", tmp_path / "out")
    assert here("reconstruct", study_file, *first).returncode == 0
    record, image = (json.loads((tmp_path / "out" / name).read_text()) for name in ("record.json", "image.json"))
    parameters = record["parameters"]
    assert (parameters["algorithm"], parameters["iterations"], parameters["resolution"]) == ("fbp", None, None)
    assert image["ReconMethodName"] == "filtered backprojection, hann window"
    assert pydicom.dcmread(tmp_path / "out" / "image.dcm").SeriesDescription == "spectac fbp, attenuation chang"
    refused(here("reconstruct", study_file, *first, "--low-counts", "map"), "cannot use --low-counts map")


def test_no_command_replaces_what_it_reads_or_what_others_wrote(here, study_file, tmp_path):
    """Raw data exist once: the study, a map of one's own, the file that is read stay byte for byte."""
    scan, mu_map = tmp_path / "scan.h5", tmp_path / "mu_map.nii.gz"
    shutil.copy(study_file, scan)
    shutil.copy(study_file.with_name("mu.nii.gz"), mu_map)
    shutil.copy(study_file, tmp_path / "image.dcm")
    (tmp_path / "comparison.csv").write_text("a table of ours")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    refused(here("reconstruct", scan, "-o", tmp_path, *FAST), "is there and no result of spectac")
    refused(here("compare", scan, "-o", tmp_path, "--methods", "none"), "comparison.csv is there and no result")
    phantom = ("--activity-mbq", 40, "--volume-ml", 900, "--assayed", "2026-11-02T09:30")
    refused(here("calibrate", scan, "-o", scan, *phantom), "is read and would be replaced")
    refused(here("thin", scan, "-o", scan, "--share", 0.5), "is read and would be replaced")
    refused(here("predict", scan, "-o", mu_map, "--holder", mu_map), "is read and would be replaced")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    result = tmp_path / "result"
    options = ("--attenuation", "map", "-o", result, *FAST)
    assert here("reconstruct", scan, "--mu-map", mu_map, *options).returncode == 0
    refused(here("reconstruct", scan, "--mu-map", result / "mu_map.nii.gz", *options), "is read and would be replaced")
    assert here("reconstruct", scan, "--mu-map", mu_map, *options).returncode == 0
    record = json.loads((result / "record.json").read_text())
    assert set(record["inputs_sha256"]) == {str(scan), str(mu_map)}
    assert record["files"] == sorted(path.name for path in result.iterdir())
    # A map of one's own that lies among results is no result.
    assert here("reconstruct", scan, "-o", result, *FAST).returncode == 0
    assert not (result / "mu_map.nii.gz").exists()
    shutil.copy(mu_map, result)
    refused(here("reconstruct", scan, "-o", result, *FAST), "mu_map.nii.gz is there and no result of spectac")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("colour = 1\n", "unknown key colour; known keys: algorithm"),
        ("iterations = \n", "not a TOML file"),
        ('iterations = "many"\n', "Invalid value for '--iterations'"),
    ],
)
def test_bad_config(here, study_file, tmp_path, content, text):
    config = tmp_path / "run.toml"
    config.write_text(content)
    refused(here("reconstruct", study_file, "-o", tmp_path / "out", "--config", config), text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_config_of_any_editor(here, study_file, tmp_path, encoding):
    """Notepad puts a byte-order mark before UTF-8; dates, lists and numbers of TOML are taken as they are."""
    config = tmp_path / "run.toml"
    text = "iterations = 2\nsubsets = 4\nstart = 2026-11-02T09:30:00\npixel-mm = [8.0, 8.0]\nno-resolution = true\n"
    config.write_text(text, encoding=encoding)
    assert here("reconstruct", study_file, "-o", tmp_path / "out", "--config", config).returncode == 0
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["parameters"]["iterations"] == 2
    assert record["study"]["start"] == "2026-11-02T09:30:00"


@pytest.mark.parametrize("option", ["--radius-mm", "--step-deg", "--view-seconds", "--pixel-mm"])
def test_a_0_is_no_missing_option(here, study_file, option):
    refused(here("info", study_file, option, "0"), f"{option} ")


def test_a_date_alone_is_no_start(here, study_file):
    refused(here("info", study_file, "--start", "2026-11-02"), "--start needs a date and time")


def test_missing_and_foreign_files(here, tmp_path):
    refused(here("info", tmp_path / "absent.h5"), "absent.h5")
    foreign = tmp_path / "foreign.bin"
    foreign.write_bytes(bytes(range(256)))
    refused(here("info", foreign), "foreign.bin")


def test_output_that_is_a_file(here, study_file, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    refused(here("reconstruct", study_file, "-o", taken, *FAST), "is a file")
    assert taken.read_text() == "mine"


def test_a_full_disk_leaves_nothing_half_written(study_file, tmp_path):
    output = tmp_path / "out"
    refused(spectac("reconstruct", study_file, "-o", output, *FAST, limit=2000), "File too large")
    assert not output.exists()


def test_a_full_disk_keeps_the_earlier_results(here, study_file, tmp_path):
    output = tmp_path / "out"
    assert here("reconstruct", study_file, "-o", output, *FAST).returncode == 0
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    refused(spectac("reconstruct", study_file, "-o", output, *FAST, limit=2000), "File too large")
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_an_interrupt_writes_nothing(study_file, tmp_path):
    output = tmp_path / "out"
    code = (
        "import os, signal, sys, threading\n"
        "from spectac.app.cli import main\n"
        "from spectac.recon.pipeline import StudySolver\n"
        # A shell in the background hands on that SIGINT is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "original = StudySolver.corrected\n"
        "def interrupted(*arguments, **settings):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return original(*arguments, **settings)\n"
        "StudySolver.corrected = interrupted\n"
        f"sys.argv = ['spectac', 'reconstruct', {str(study_file)!r}, '-o', {str(output)!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "interrupted; nothing was written" in done.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--psf", "1e6:0"), "wider than the detector"),
        (("--radius-mm", "1e9"), "radii_mm must be at most 1000 mm"),
        (("--head-angles", "1e300"), "angles from -360 to 360"),
        (("--attenuation", "chang", "--attenuation-option", "order=nan"), "order 0 or 1"),
        (("--attenuation", "chang", "--uniform-mu", "0.1", "--attenuation-option", "mu=0.2"), "give one of them"),
        (("--post-filter", "gaussian:1e7"), "from 0 to 200 mm"),
        (("--algorithm", "map", "--prior-beta", "1e300"), "at most 1e9"),
        (("--dew-k", "0.5", "--scatter", "none"), "belongs to scatter methods dew and auto"),
    ],
)
def test_numbers_that_no_camera_has(here, study_file, tmp_path, arguments, text):
    refused(here("reconstruct", study_file, "-o", tmp_path / "out", *FAST, *arguments), text)
    assert not (tmp_path / "out").exists()


def test_config_spells_options_as_the_command_line_does(here, study_file, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text("no-resolution = true\nhead-angles = [90]\niterations = 1\nsubsets = 4\n")
    assert here("reconstruct", study_file, "-o", tmp_path / "out", "--config", config).returncode == 0
    parameters = json.loads((tmp_path / "out" / "record.json").read_text())["parameters"]
    assert parameters["resolution"] is False
    assert parameters["given"] == {"head_angles": [90.0]}
    config.write_text("subsets = true\n")
    refused(
        here("reconstruct", study_file, "-o", tmp_path / "out", "--config", config), "subsets = True has the wrong type"
    )


def test_an_output_that_cannot_be_made_is_found_before_the_work(here, study_file):
    done = here("reconstruct", study_file, "-o", "/proc/nowhere", "--iterations", 500)
    refused(done, "/proc/nowhere")


@settings
class Trial(ReconstructionSettings):
    """The settings with one more field."""

    trial_mm: Annotated[float, Field(ge=0), Setting("A trial.", metavar="MM")] = 0.5


def test_a_new_option_is_a_change_in_one_place(here, study_file, tmp_path, monkeypatch):
    """A field of the settings, and nothing else, gives help, command line, TOML, checks, records and report."""
    pytest.importorskip("skimage", reason="the report needs scikit-image: pip install 'spectac[report]'")
    for command in (reconstruct, compare, batch):
        monkeypatch.setitem(command.__annotations__, "settings", Trial)
    common = ("reconstruct", study_file, "-o", tmp_path / "out", *FAST)

    def recorded() -> float:
        return json.loads((tmp_path / "out" / "record.json").read_text())["parameters"]["trial_mm"]

    assert "--trial-mm MM" in here("reconstruct", "--help").stdout
    assert here(*common).returncode == 0
    assert recorded() == 0.5
    assert here(*common, "--trial-mm", 2).returncode == 0
    assert recorded() == 2.0
    (tmp_path / "run.toml").write_text("trial-mm = 3\n")
    assert here(*common, "--config", tmp_path / "run.toml").returncode == 0
    assert recorded() == 3.0
    refused(here(*common, "--trial-mm", -1), "--trial-mm must be at least 0, not -1")

    done = here("compare", study_file, "-o", tmp_path / "compared", "--methods", "none", "--tracer", "dat", *FAST,
                "--trial-mm", 4)  # fmt: skip
    assert done.returncode == 0, done.stderr
    request = json.loads((tmp_path / "compared" / "record.json").read_text())["request"]
    assert request["reconstruction"]["trial_mm"] == 4.0
    assert "--trial-mm 4.0" in (tmp_path / "compared" / "report.html").read_text(encoding="utf-8")

    (tmp_path / "list.csv").write_text(f"study\n{study_file}\n")
    done = here("batch", tmp_path / "list.csv", "-o", tmp_path / "batch", "--methods", "none", "--tracer", "dat", *FAST,
                "--trial-mm", 5, "--workers", 0)  # fmt: skip
    assert done.returncode == 0, done.stderr
    (asked,) = (json.loads(path.read_text())["asked"] for path in (tmp_path / "batch").glob("*/batch.json"))
    assert asked["options"]["reconstruction"]["trial_mm"] == 5.0
