"""The documentation: its claims name files that exist, its API names what can be imported, and it builds."""

import csv
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import spectac.recon

ROOT = Path(__file__).resolve().parents[1]
VALIDATION = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
API = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "api").glob("*.md"))}
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
TORCH = ("spectac.learned",)


def documented() -> list[str]:
    """Dotted names of all that the API pages make from docstrings."""
    return [name for page in API.values() for name in re.findall(r"^\.\. auto\w+:: (\S+)", page, re.MULTILINE)]


def test_what_validation_names_exists():
    named = set(re.findall(r"(?:benchmarks|tests|docs|examples|learned)/[\w/.-]+\.(?:py|csv|md|toml)", VALIDATION))
    assert len(named) > 30
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []


def test_every_result_is_accounted_for():
    results = sorted(path.name for path in (ROOT / "benchmarks" / "results").glob("*.csv"))
    assert [name for name in results if f"benchmarks/results/{name}" not in VALIDATION] == []


def test_commits_are_those_of_the_results():
    """A line of the table of files: CSV, command, commits. Who measures again must say so there."""
    lines = re.findall(r"^\| \[\w+\.csv\]\(\.\./(benchmarks/results/\w+\.csv)\) .*$", VALIDATION, re.MULTILINE)
    assert len(lines) > 15
    for line in re.findall(r"^\| \[\w+\.csv\]\(\.\./benchmarks/results/.*$", VALIDATION, re.MULTILINE):
        path = re.search(r"benchmarks/results/\w+\.csv", line)[0]
        with (ROOT / path).open(newline="", encoding="utf-8") as stream:
            held = {row["commit"][:7] + "+" * row["commit"].endswith("+") for row in csv.DictReader(stream)}
        assert held == set(re.findall(r"`([0-9a-f]{7}\+?)`", line)), path


def test_the_api_names_every_public_name():
    names = documented()
    assert len(names) == len(set(names)), "a name stands on two pages"
    short = {name.rsplit(".", 1)[1] for name in names}
    tables = {"COLLIMATORS", "NUCLIDES"}
    assert sorted(set(spectac.recon.__all__) - short - tables) == []
    assert all(any(f"spectac.recon.{table}" in page for page in API.values()) for table in tables)


@pytest.mark.parametrize("name", documented())
def test_names_of_the_api_can_be_imported(name):
    if name.startswith(TORCH):
        pytest.importorskip("torch", reason="the learned map needs torch: pip install 'spectac[learned]'")
    if name.startswith("spectac.learned.train.") or name.startswith("spectac.learned.dataset."):
        pytest.importorskip("lightning", reason="training needs lightning: pip install 'spectac[train]'")
    module, _, attribute = name.rpartition(".")
    assert getattr(import_module(module), attribute).__doc__


def test_examples_are_numbered_and_links_to_them_lead_somewhere():
    assert [name[:3] for name in EXAMPLES] == [f"{number:02}_" for number in range(1, len(EXAMPLES) + 1)]
    texts = [(ROOT / "README.md").read_text(encoding="utf-8"), *API.values()]
    linked = {name for text in texts for name in re.findall(r"(?:examples|gallery)/(\d\d_\w+)", text)}
    assert linked
    assert linked <= {name.removesuffix(".py") for name in EXAMPLES}


def linked(page: Path) -> list[str]:
    """Targets of the links and pictures of a page that lie in the tree, in Markdown outside of code."""
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"\]\(([^()\s]+)\)", text)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """Names that the headings of a page are linked by."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


PAGES = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"]
PAGES += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_of_the_tree(name):
    page, lost = ROOT / name, []
    for target in linked(page):
        path, _, anchor = target.partition("#")
        # Sphinx makes the gallery of the examples.
        if path.startswith("gallery/"):
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or not there.is_relative_to(ROOT) or (anchor and anchor not in anchors(there)):
            lost.append(target)
    assert lost == []


def test_no_number_of_the_readme_is_left_to_be_filled_in():
    """Nothing like VOI_DAT stands in its text."""
    text = re.sub(
        r"```.*?```|`[^`]*`|\]\([^)]*\)", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    lines = [line for line in text.splitlines() if not line.startswith("    ")]
    assert re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", "\n".join(lines)) == []


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    """Every example runs (tiny), every docstring can be read, every link inside the site leads somewhere."""
    for package in ("sphinx", "sphinx_gallery", "myst_parser", "furo", "matplotlib", "torch", "lightning"):
        pytest.importorskip(package, reason=f"the documentation needs {package}: pip install '.[all,docs]'")
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going"]
    # Also examples that were not changed since the last build: what they call may have been.
    command += ["-D", "sphinx_gallery_conf.run_stale_examples=1", str(ROOT / "docs"), str(tmp_path / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    for example in EXAMPLES:
        page = (tmp_path / "html" / "gallery" / example.replace(".py", ".html")).read_text(encoding="utf-8")
        assert "sphx-glr-script-out" in page, f"{example} printed nothing"
    assert "Expected counts (v, z, u) of an image" in (tmp_path / "html" / "api" / "algorithms.html").read_text()
