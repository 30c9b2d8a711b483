"""Docstrings of recon and simulate: numpydoc sections on public names, and examples that run."""

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    "spectac." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("recon", "simulate")
    for path in (ROOT / package).rglob("*.py")
    if path.stem != "__init__"
)
# Fields of settings describe themselves to the command line. Readers, kernels and transport are called by other modules
# alone: they have examples where a few lines show something.
INSIDE = (
    "spectac.recon.settings",
    "spectac.recon.setting_fields",
    "spectac.recon.io.",
    "spectac.recon.kernels.",
    "spectac.recon.photons.",
)
# What these hold is seen in the examples of the functions that make them.
MADE_ELSEWHERE = {
    "DaskWorkers", "Expected", "Layers", "Painted", "PatientArrays", "ScannerRanges", "Work", "WorkQueue",
    "check_cohort", "main", "previewed", "projected_primary",
}  # fmt: skip


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
    text = inspect.getdoc(thing) or ""
    wanted = set() if thing.__name__ in MADE_ELSEWHERE else {"Examples"}
    if not (inspect.isclass(thing) and (issubclass(thing, Exception) or getattr(thing, "_is_protocol", False))):
        signature = inspect.signature(thing)
        if signature.parameters:
            wanted.add("Parameters")
        if not inspect.isclass(thing) and signature.return_annotation not in (None, "None", inspect.Signature.empty):
            wanted.add("Yields" if inspect.isgeneratorfunction(inspect.unwrap(thing)) else "Returns")
    return sorted(section for section in wanted if f"{section}\n{'-' * len(section)}\n" not in text)


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith(INSIDE)])
def test_public_names_have_numpydoc_sections(name):
    missing = {one: missing_sections(thing) for one, thing in public(import_module(name)).items()}
    assert {one: sections for one, sections in missing.items() if sections} == {}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = import_module(name)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said = []
    for thing in public(module).values():
        for test in finder.find(thing, globs=vars(module) | {"np": np}):
            runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)
