"""`spectac train` and `spectac predict` from the shell: what they write, and one clear line for what cannot be."""

import subprocess
import sys

import pytest

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
    config.write_text('training = "a"\nvalidation = "b"\n')
    done = spectac("train", config, "-o", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "no shards of a cohort: make one with spectac cohort" in done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.safetensors"))


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
        ({"round": "2"}, "does not know the option round"),
        ({"rounds": "two"}, "needs a whole number"),
        ({"rounds": "0"}, "at least 1 round"),
        ({"refine": "maybe"}, "refine needs yes or no"),
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
