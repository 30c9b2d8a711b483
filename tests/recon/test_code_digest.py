"""The digest of code changes where a number may change, and nowhere else."""

from pathlib import Path
from textwrap import dedent

import pytest

from spectac.recon.code_digest import code_digest, digest_of, imported_modules

CODE = '''
"""Module docstring."""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HALF = 0.5
"""Share of the voxel itself."""


def depth_cm(steps: int, folder: "Path") -> float:
    """Depth."""
    return (steps + HALF) * 0.4  # cm
'''


@pytest.fixture
def write(monkeypatch, tmp_path):
    """Function that writes Python files into a folder of modules that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def written(**sources: str) -> None:
        for name, source in sources.items():
            path = tmp_path / f"{name.replace('__', '/', 1)}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(dedent(source))

    return written


def digest(tmp_path: Path, source: str, name: str = "module") -> str:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
    path.write_text(source)
    return digest_of({name: path})


def test_words_and_layout_do_not_count(tmp_path):
    whole = digest(tmp_path, CODE)
    for old, new in (
        ("Module docstring.", "Other words."),
        ('    """Depth."""\n', ""),
        ('"""Share of the voxel itself."""\n', ""),
        ("  # cm", ""),
        ("(steps + HALF) * 0.4", "(\n        steps + HALF\n    ) * 0.4"),
        ("    from pathlib import Path", "    from os import PathLike as Path"),
    ):
        assert old in CODE
        assert digest(tmp_path, CODE.replace(old, new)) == whole, old


def test_code_and_names_count(tmp_path):
    whole = digest(tmp_path, CODE)
    for old, new in (
        ("HALF = 0.5", "HALF = 0.25"),
        ("steps + HALF", "steps - HALF"),
        ("0.4 ", "0.4 * 1 "),
        ("HALF)", "1)"),
        ("steps: int,", "steps: int = 0, *,"),
    ):
        assert old in CODE
        assert digest(tmp_path, CODE.replace(old, new)) != whole, old
    assert digest(tmp_path, CODE, "other") != whole


def test_values_that_are_equal_but_not_the_same_differ(tmp_path):
    values = ("0", "0.0", "False", "None", "''", "b''", "-0.0")
    assert len({digest(tmp_path, f"value = {value}\n") for value in values}) == len(values)


def test_order_of_the_files_does_not_count(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"{name} = 1\n")
    assert digest_of({name: tmp_path / name for name in "ab"}) == digest_of({name: tmp_path / name for name in "ba"})


def test_imports_are_followed_to_where_a_name_comes_from(write):
    write(
        digested="""
            import json
            import numpy.linalg
            from digested_beside import late
            from digested_lazy import named
            """,
        digested_beside="""
            def late():
                from digested_lazy.sub import value
                return value
            """,
        digested_unrelated="x = 1",
        digested_lazy____init__="""
            from typing import TYPE_CHECKING
            if TYPE_CHECKING:
                from digested_lazy.home import named
                from digested_lazy.other import unused
            """,
        digested_lazy__home="named = 1",
        digested_lazy__other="unused = 1",
        digested_lazy__sub="import digested\nvalue = 1",
    )
    assert sorted(imported_modules("digested")) == ["digested", "digested_beside"]
    assert sorted(imported_modules("digested", "digested_lazy.sub")) == [
        "digested", "digested_beside", "digested_lazy.home", "digested_lazy.sub",
    ]  # fmt: skip


def test_an_imported_module_counts_and_an_unrelated_one_does_not(write, tmp_path):
    write(counted="import counted_beside\n", counted_beside="x = 1\n", counted_unrelated="x = 1\n")
    files = imported_modules("counted")
    assert files == {"counted": tmp_path / "counted.py", "counted_beside": tmp_path / "counted_beside.py"}
    assert code_digest("counted") == digest_of(files)


def test_a_virtual_patient_follows_from_the_projector_and_not_from_the_readers_of_the_app():
    modules = imported_modules("spectac.simulate.acquire")
    assert {"spectac.recon.system", "spectac.recon.types", "spectac.simulate.scanner"} <= set(modules)
    assert not [name for name in modules if name.startswith(("spectac.app", "spectac.learned"))]
    # A public name of recon leads to the module that defines it, not to the table of public names.
    assert "spectac.recon" not in modules


def test_modules_without_a_source_are_refused():
    for name in ("no_such_module", "spectac.recon.no_such_module", "spectac.nothing", "math"):
        with pytest.raises(ModuleNotFoundError, match=name):
            code_digest(name)
