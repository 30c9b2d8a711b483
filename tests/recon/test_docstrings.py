"""Docstrings of the physics: numpydoc sections on every public name, and examples that run."""

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

RECON = Path(__file__).resolve().parents[2] / "recon"
MODULES = sorted(path.stem for path in RECON.glob("*.py") if path.stem != "__init__")
# Settings and plug-ins describe themselves to the command line; workers and checks serve the other modules.
ELSEWHERE = {"attenuation_plugins", "given", "workers", "checks", "settings", "pipeline"}


def public(module):
    """Names and objects of the public functions and classes that a module defines."""
    return {
        name: thing
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(thing) or inspect.isclass(thing) or hasattr(thing, "__wrapped__"))
        and getattr(thing, "__module__", None) == module.__name__
    }


def missing_sections(thing):
    """Numpydoc sections that an object should have and has not."""
    text, wanted = inspect.getdoc(thing) or "", {"Examples"}
    if not (inspect.isclass(thing) and (issubclass(thing, Exception) or getattr(thing, "_is_protocol", False))):
        signature = inspect.signature(thing)
        if signature.parameters:
            wanted.add("Parameters")
        if not inspect.isclass(thing) and signature.return_annotation not in (None, "None", inspect.Signature.empty):
            wanted.add("Returns")
    return sorted(section for section in wanted if f"{section}\n{'-' * len(section)}\n" not in text)


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ELSEWHERE])
def test_public_names_have_numpydoc_sections(name):
    module = import_module(f"spectac.recon.{name}")
    missing = {one: missing_sections(thing) for one, thing in public(module).items()}
    # What a context manager yields is said in its first line.
    for one in ("device_errors", "own_stream"):
        missing.pop(one, None)
    assert {one: sections for one, sections in missing.items() if sections} == {}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = import_module(f"spectac.recon.{name}")
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said = []
    for thing in public(module).values():
        for test in finder.find(thing, globs=vars(module) | {"np": np}):
            runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)
