"""`spectac train` and `spectac predict` from the shell: what they write, and one clear line for what cannot be."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from spectac.recon.tissues import water_per_cm

pytest.importorskip("torch", reason="the learned map needs torch: pip install 'spectac[learned]'")

MAIN = "import sys; from spectac.app.cli import main; sys.argv = ['spectac', *sys.argv[1:]]; main()"


def spectac(*arguments: object, block: str = "", cwd=None) -> subprocess.CompletedProcess[str]:
    """Run the command line; `block` names a package that is to look as if it were not installed."""
    blocked = f"import sys; sys.modules[{block!r}] = None\n" if block else ""
    return subprocess.run(
        [sys.executable, "-c", blocked + MAIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def test_train_refuses_a_configuration_with_one_line(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('training = "a"\nvalidation = "b"\nepoch = 3\n')
    done = spectac("train", config, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "unknown key epoch" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named_with_its_extra(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from spectac.recon import attenuation_model, InputError\n"
        "try:\n    attenuation_model('predicted', {})\nexcept InputError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'spectac[learned]'" in done.stdout
    config = tmp_path / "c.toml"
    config.write_text('training = "a"\nvalidation = "b"\n')
    done = spectac("train", config, "-o", tmp_path / "out", block="lightning")
    assert done.returncode == 2
    assert "pip install 'spectac[train]'" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": "w.safetensors"}, "does not know the option weight; its options: weights, fallback"),
        ({"rounds": "2", "refine": "yes"}, "does not know the option refine, rounds"),
        ({"fallback": "maybe"}, "fallback needs yes or no"),
    ],
)
def test_options_of_the_model_are_checked(options, message):
    from spectac.recon import InputError, attenuation_model

    with pytest.raises(InputError, match=message):
        attenuation_model("predicted", options)


def test_predicting_loads_no_training_library():
    """Lightning and tensorboard take seconds to import: the model comes without them."""
    code = (
        "import sys; from spectac.recon import attenuation_model; attenuation_model('predicted', {})\n"
        "print([n for n in ('lightning', 'tensorboard', 'h5py', 'matplotlib', 'monai') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_predict_writes_map_spread_and_notes_and_no_stale_spread(tmp_path, figure):
    """One virtual patient; then the same cut at the sides: a uniform map whose side-car says why, and no old spread."""
    from spectac.recon import Study, open_study
    from spectac.recon.io import hdf5
    from spectac.recon.io.atomic import written_folder
    from spectac.recon.io.nifti import read_mu_map
    from spectac.recon.resample import resample

    assert spectac("simulate", "-o", tmp_path / "p", "--counts", "2e6", "--format", "hdf5").returncode == 0
    study = tmp_path / "p" / "study.h5"
    done = spectac("predict", study, "-o", tmp_path / "mu.nii.gz")
    assert done.returncode == 0, done.stderr
    mu, spread = (read_mu_map(tmp_path / name, 100.0) for name in ("mu.nii.gz", "mu_spread.nii.gz"))
    assert mu.grid.same_as(spread.grid)
    true = read_mu_map(tmp_path / "p" / "truth" / "mu_map.nii.gz", 100.0)
    wanted = resample(true.per_cm, true.grid, mu.grid)
    head = wanted > 0.5 * water_per_cm(mu.energy_kev)
    error = np.abs(mu.per_cm - wanted)[head].mean() / wanted[head].mean()
    figure("predicted map of spectac simulate's patient: NMAE in the head", error, "0.25")
    assert error < 0.25
    notes = json.loads((tmp_path / "mu.json").read_text())["Notes"]
    assert any(note.startswith("predicted map: uncertainty") for note in notes)

    whole = open_study(study)
    middle = slice(44, 84)
    narrow = replace(whole.acquisition, matrix=(128, 40))
    hdf5.write_study(tmp_path / "narrow.h5", Study(narrow, whole.windows, whole.counts[..., middle]))
    done = spectac("predict", tmp_path / "narrow.h5", "-o", tmp_path / "mu.nii.gz")
    assert done.returncode == 0, done.stderr
    assert "no map could be predicted" in done.stdout
    assert not (tmp_path / "mu_spread.nii.gz").exists()
    notes = json.loads((tmp_path / "mu.json").read_text())["Notes"]
    assert any("no map could be predicted" in note for note in notes)
    with written_folder(tmp_path / "result") as earlier:
        (earlier / "mu_spread.nii.gz").write_bytes(b"of an earlier run")
        (earlier / "record.json").write_text("{}")
    settings = ("--attenuation", "predicted", "--iterations", "1", "--subsets", "4")
    done = spectac("reconstruct", tmp_path / "narrow.h5", "-o", tmp_path / "result", *settings)
    assert done.returncode == 0, done.stderr
    warnings = json.loads((tmp_path / "result" / "record.json").read_text())["warnings"]
    assert any("no map could be predicted" in warning for warning in warnings)
    assert not (tmp_path / "result" / "mu_spread.nii.gz").exists()
    refused = spectac("predict", tmp_path / "narrow.h5", "-o", tmp_path / "no.nii.gz", "--no-fallback")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "no.nii.gz").exists()
    assert spectac("predict", study, "-o", tmp_path / "mu.txt").returncode == 2
    nowhere = spectac("predict", study, "-o", tmp_path / "nowhere" / "mu.nii.gz")
    assert nowhere.returncode == 2
    assert "no such folder: make it" in nowhere.stderr
