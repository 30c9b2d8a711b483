"""Every benchmark can be imported, says what it shows and how it is run, and stands in the README."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from spectac.recon.code_digest import imported_modules

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
README = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in BENCHMARKS.rglob("*.py")
    if path.parent.name != "peers"  # scripts of another environment
)
SCRIPTS = [
    name for name in MODULES if "__main__" in (ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_modules_can_be_imported(name):
    """A name of the product that was renamed or removed shows here."""
    pytest.importorskip("matplotlib", reason="figures need matplotlib: pip install 'spectac[report]'")
    import_module(name)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_name_their_command_their_time_and_their_file(name):
    path = ROOT / f"{name.replace('.', '/')}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    commands = (f"python -m {name} ", f"python {path.relative_to(ROOT).as_posix()} ")
    assert any(command in text for command in commands)
    assert any(command in README for command in commands)
    assert re.search(r"\b(second|minute|hour)s?\b", text, re.IGNORECASE)
    assert re.search(r"\b(Writes|Adds to)\b", text)


def test_results_are_named_by_the_script_that_writes_them():
    """Also those of removed methods, which no script writes any more, in the README."""
    texts = README + "".join((ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8") for name in SCRIPTS)
    results = sorted(path.name for path in (BENCHMARKS / "results").iterdir())
    assert [name for name in results if name not in texts] == []


def test_paths_of_benchmarks_in_pages_and_code_exist():
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    files += [path for name in ("recon", "learned", "simulate", "app") for path in (ROOT / name).rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    named = {name for text in texts for name in re.findall(r"benchmarks/[\w/.-]+\.(?:py|csv|md|png)", text)}
    assert len(named) > 20
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []


def test_rows_follow_from_what_makes_and_measures_images_not_from_what_runs_and_draws():
    modules = set(imported_modules("benchmarks.attenuation.rows"))
    assert {
        "benchmarks.attenuation.patients",
        "benchmarks.attenuation.measures",
        "benchmarks.attenuation.methods",
    } < modules
    assert {
        "spectac.recon.system",
        "spectac.simulate.head",
        "spectac.learned.predict",
        "spectac.learned.network",
    } < modules
    others = {
        f"benchmarks.attenuation.{name}" for name in ("run", "tuning", "table", "figures", "causes", "uncertainty")
    }
    assert not modules & others
    assert not [name for name in modules if name.startswith("spectac.app")]
