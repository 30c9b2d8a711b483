"""sdist -> wheel -> an empty environment -> an empty folder: what users get, not what the checkout holds."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path, **changes: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment | changes, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_from_the_sdist_works_by_itself(tmp_path):
    pytest.importorskip("build", reason="the package build is needed: pip install '.[test]'")
    run(sys.executable, "-m", "build", "--outdir", tmp_path / "dist", ROOT, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    tree = {
        f"spectac/{path.relative_to(ROOT).as_posix()}"
        for name in ("recon", "learned", "simulate", "app")
        for path in (ROOT / name).rglob("*")
        if path.suffix in (".py", ".cu", ".j2", ".css", ".js")
        or path.name == "py.typed"
        or path.parent.name in ("weights", "templates")
    }
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("spectac/")}
    assert packed == tree

    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", f"{wheel}[all]", cwd=tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    script = python.parent / "spectac"
    said = run(script, "demo", "--counts", "3e5", "-o", "out", cwd=empty)
    assert "report.html" in said
    said = run(script, "reconstruct", "out/projections.dcm", "-o", "image", "--iterations", "2", cwd=empty)
    assert "image.nii.gz" in said
    names = sorted(path.name for path in (empty / "image").iterdir())
    assert names == ["image.dcm", "image.json", "image.nii.gz", "record.json"]
    said = run(script, "compare", "out/projections.dcm", "-o", "compared", "--iterations", "1", cwd=empty)
    assert (empty / "compared" / "report.html").stat().st_size > 1e5, said
    said = run(script, "predict", "out/projections.dcm", "-o", "mu.nii.gz", cwd=empty)
    assert (empty / "mu.nii.gz").is_file(), said
