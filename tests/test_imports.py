"""The arrows of the layout: who may import whom, what is packaged, and what stays lazy."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("recon", "learned", "simulate", "app")
MAY_IMPORT = {
    "recon": {"recon"},
    "learned": {"learned", "simulate", "recon"},
    "simulate": {"simulate", "recon"},
    "app": {"app", "learned", "simulate", "recon"},
}
# Third-party package -> the places that may import it (a folder ends with a slash).
HOMES = {
    "h5py": ("recon/io/", "simulate/cohort/"),
    "dask": ("recon/queue/workers.py",),
    "distributed": ("recon/queue/",),
    "nibabel": ("recon/io/",),
    "pydicom": ("recon/io/",),
    "pynetdicom": ("app/node/",),
    "skimage": ("recon/quantify.py", "app/compare.py"),
    "SimpleITK": ("recon/io/", "recon/itk.py"),
    "xraylib": ("recon/ct.py", "recon/collimator.py", "recon/tissues.py", "recon/photons/", "benchmarks/"),
    "torch": ("learned/", "benchmarks/network/", "benchmarks/peers/"),
    "deepinv": ("learned/deepinv_physics.py",),
    "cupy": ("recon/kernels/cuda_projector.py", "recon/device.py", "benchmarks/peers/ceilings.py"),
    "parallelproj": ("recon/parallelproj_operator.py",),
    "typer": ("app/",),
    "rich": ("app/",),
    "jinja2": ("app/report/", "app/batch/overview.py"),
    "markupsafe": ("app/report/",),
    "matplotlib": ("benchmarks/", "app/report/key_page.py"),
}


def python_files() -> list[Path]:
    return [path for name in (*PACKAGES, "benchmarks") for path in sorted((ROOT / name).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path):
    place = path.relative_to(ROOT).as_posix()
    package = place.split("/")[0]
    for name in imported(path):
        top = name.split(".")[0]
        assert top not in PACKAGES, f"{place} imports {name}: it must go through spectac"
        if top == "spectac" and package in MAY_IMPORT:
            assert name.split(".")[1] in MAY_IMPORT[package], f"{place} may not import {name}"
        if top in HOMES:
            assert any(place == home or (home.endswith("/") and place.startswith(home)) for home in HOMES[top]), (
                f"{place} imports {top}, whose home is {', '.join(HOMES[top])}"
            )


def test_types_stand_at_the_bottom():
    """types.py imports nothing of recon but the two tables that it is made of, the checks and the error class."""
    own = {name for name in imported(ROOT / "recon" / "types.py") if name.startswith("spectac.")}
    assert {name.rsplit(".", 1)[0] for name in own} <= {
        "spectac.recon.checks",
        "spectac.recon.collimator",
        "spectac.recon.errors",
        "spectac.recon.nuclides",
    }


def test_packages_in_pyproject_are_the_folders_in_the_tree():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = {
        "spectac." + path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for name in PACKAGES
        for path in (ROOT / name).rglob("__init__.py")
    }
    assert set(listed) == found


def test_every_package_is_typed_and_linked_for_the_type_checker():
    for name in PACKAGES:
        assert (ROOT / name / "py.typed").is_file()
        link = ROOT / ".typing" / "spectac" / name
        assert link.is_symlink()
        assert link.resolve() == ROOT / name


def test_no_module_is_named_after_nothing():
    names = {path.stem for path in python_files()}
    assert not names & {"utils", "common", "helpers", "base", "misc"}


def test_public_names_of_recon_are_all_there():
    import spectac.recon

    for name in spectac.recon.__all__:
        assert getattr(spectac.recon, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = spectac.recon.nonsense


def test_help_needs_no_heavy_import():
    """The command line answers --help in half a second because nothing numerical is loaded for it."""
    code = (
        "import sys; sys.argv = ['spectac', '--help']\n"
        "import spectac.app.cli as cli\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print([n for n in ('numpy', 'scipy', 'numba', 'h5py', 'nibabel', 'matplotlib', 'torch') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_recon_never_loads_torch():
    code = "import sys, spectac.recon as r; [getattr(r, n) for n in r.__all__]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_predicting_loads_no_simulator():
    """The model and the modules on its path: what training measured on cohorts stands in the weights."""
    pytest.importorskip("torch", reason="the learned map needs torch: pip install 'spectac[learned]'")
    code = (
        "import sys; from spectac.recon import attenuation_model; attenuation_model('predicted', {})\n"
        "import spectac.learned.predict, spectac.learned.estimate\n"
        "print([n for n in sys.modules if n.startswith('spectac.simulate')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
