"""Where compiled kernels are cached, and what happens where nothing can be written.

Each case is a process of its own on a copy of the package. Tests often run as root, for whom no folder is read-only, so
folders are made impossible instead: a file stands where numba would make its `__pycache__`, and the cache folders of
the environment lie below /dev/null. Both fail with an OSError for every user, as a read-only file system does.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import spectac.recon
from spectac.recon.kernels.compiled import compiled

# Imports the projector with warnings collected, runs it, and says what happened.
SCRIPT = """
import json, sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import numpy as np
    from spectac.recon import geometry
    from spectac.recon.kernels import cpu_loops
    from spectac.recon.system import SystemModel
    from spectac.recon.types import Acquisition
    acquisition = Acquisition([0.0, 30.0], [50.0, 50.0], (3, 5), (4.0, 4.0), [1.0, 1.0], "Tc-99m", None,
                              corrections=frozenset({"DECY"}))
    system = SystemModel(acquisition, geometry.default_grid(acquisition), resolution=False)
    projected = system.forward(np.ones(system.image_shape))
print(json.dumps({
    "file": cpu_loops.__file__,
    "warnings": [str(warning.message) for warning in caught if "cache" in str(warning.message)],
    "central_column": float(projected[0, 1, 2]),
    "hits": sum(cpu_loops.forward_view.stats.cache_hits.values()),
    "misses": sum(cpu_loops.forward_view.stats.cache_misses.values()),
}))
"""


@pytest.fixture
def package(tmp_path):
    """Copy of the package in a folder that holds nothing else; the process below imports it and not this tree."""
    source = Path(spectac.recon.__file__).parent
    shutil.copytree(source, tmp_path / "site" / "spectac" / "recon", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "site"


def _run(package, **environment):
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "XDG", "PYTHON", "HOME"))
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=kept | {"PYTHONPATH": str(package)} | environment,
        cwd=package,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert Path(said["file"]).is_relative_to(package)
    # 5 voxels of 0.064 mL behind a pixel, 1 count per second and mL.
    assert said["central_column"] == pytest.approx(5 * 0.064, rel=1e-6)
    return said


NOWHERE = {"HOME": "/dev/null/home", "XDG_CACHE_HOME": "/dev/null/cache", "PYTHONDONTWRITEBYTECODE": "1"}

pytestmark = pytest.mark.skipif(
    not Path("/dev/null").exists(), reason="needs /dev/null as a folder that nobody can make"
)


def _block(package):
    (package / "spectac" / "recon" / "kernels" / "__pycache__").write_text("no folder")


@pytest.mark.slow
def test_works_with_one_warning_where_nothing_can_be_written(package):
    """Read-only installation, no home: numba alone would raise at import."""
    _block(package)
    before = sorted(path for path in package.rglob("*"))
    said = _run(package, NUMBA_CACHE_DIR="/dev/null/numba", **NOWHERE)
    assert len(said["warnings"]) == 1
    assert "set NUMBA_CACHE_DIR to a writable folder" in said["warnings"][0]
    assert said["hits"] == 0
    assert sorted(path for path in package.rglob("*")) == before


def test_second_process_takes_the_compiled_code_from_the_named_folder(package, tmp_path):
    cache = tmp_path / "cache"
    _block(package)
    first = _run(package, NUMBA_CACHE_DIR=str(cache), **NOWHERE)
    assert first["warnings"] == []
    assert first["misses"] >= 1
    assert list(cache.rglob("cpu_loops.forward_view*.nbc"))
    second = _run(package, NUMBA_CACHE_DIR=str(cache), **NOWHERE)
    assert (second["hits"], second["misses"]) == (1, 0)


@pytest.mark.parametrize("place", [pytest.param("package", marks=pytest.mark.slow), "home"])
def test_cache_in_the_package_else_in_the_home_folder(place, package, tmp_path):
    """An ordinary installation keeps its kernels beside the code; one owned by root, in the user's cache folder."""
    home = tmp_path / "home"
    home.mkdir()
    if place == "home":
        _block(package)
    environment = NOWHERE | {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    said = _run(package, **environment)
    assert said["warnings"] == []
    kept = package if place == "package" else home
    assert list(kept.rglob("cpu_loops.forward_view*.nbc"))
    assert not list((home if place == "package" else package).rglob("*.nbc"))


def test_other_failures_of_the_compiler_are_not_hidden(monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("something else")

    monkeypatch.setattr(numba, "njit", broken)
    with pytest.raises(RuntimeError, match="something else"):
        compiled(lambda x: x)


def test_kernels_release_the_interpreter_lock():
    """Views run in threads; with the lock held they would run one after the other."""
    from spectac.recon.kernels import cpu_loops

    for kernel in (
        cpu_loops.forward_view,
        cpu_loops.adjoint_view,
        cpu_loops.gradient_mu_view,
        cpu_loops.attenuation_paths,
    ):
        assert kernel.targetoptions["nogil"]


def test_every_kernel_has_cache_files_of_its_own():
    """Numba names them by the function: processes that compile at the same time wrote one blur over another."""
    from spectac.recon.kernels import cpu_loops

    names = [kernel.py_func.__qualname__ for kernel in vars(cpu_loops).values() if hasattr(kernel, "py_func")]
    assert len(names) > 20
    assert len(set(names)) == len(names)


_KILLED_BETWEEN = """
import os
import sys
from numba.core.caching import IndexDataCacheFile
import numpy as np
from spectac.recon.kernels.compiled import compiled

if len(sys.argv) > 1:
    IndexDataCacheFile._save_data = lambda *_: os._exit(9)

@compiled
def scaled(values):
    return 2 * values.sum()

print(scaled(np.ones(3)))
"""


def test_a_killed_process_leaves_no_index_on_the_code_of_an_earlier_source(tmp_path):
    """Numba writes the index before the code, both of which keep their names when the source changes."""
    script = tmp_path / "kernel.py"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    script.write_text(_KILLED_BETWEEN)
    assert run().stdout.split() == ["6.0"]
    script.write_text(_KILLED_BETWEEN.replace("2 * values", "5 * values") + "# another size\n")
    assert run("killed").returncode == 9
    assert run().stdout.split() == ["15.0"]
    assert len(list((tmp_path / "cache").rglob("*.nbc"))) == 1


_TWO_TYPES = """
import sys
import numpy as np
from spectac.recon.kernels.compiled import compiled

@compiled
def doubled(values):
    return 2 * values.sum()

print(doubled(np.ones(3, sys.argv[1])), flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="locks files as POSIX systems do")
def test_processes_that_compile_at_once_save_one_after_the_other(tmp_path):
    """Numba numbers cache files by an index without a lock: two processes would take one number for two types.

    While this process holds the lock another one can compile and run its code, but not save it.
    """
    import fcntl

    (tmp_path / "kernel.py").write_text(_TWO_TYPES)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def start(kind: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(tmp_path / "kernel.py"), kind]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    first = start("float32")
    assert first.wait(60) == 0
    (lock,) = (tmp_path / "cache").rglob("kernels.lock")
    with lock.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        second = start("float64")
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(4)
        assert len(list(lock.parent.glob("*.nbc"))) == 1
        fcntl.flock(stream, fcntl.LOCK_UN)
        assert second.wait(60) == 0
    assert len(list(lock.parent.glob("*.nbc"))) == 2
