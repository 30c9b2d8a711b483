"""The examples in the docstrings give what they say, and every public name has one."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import spectac.learned

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::DeprecationWarning")
MODULES = sorted(path.stem for path in Path(spectac.learned.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    for package in ("torch", "lightning", "tensorboard"):
        pytest.importorskip(
            package, reason=f"the learned map and its training need {package}: pip install 'spectac[train]'"
        )
    module = import_module(f"spectac.learned.{name}" if name != "__init__" else "spectac.learned")
    done = doctest.testmod(module)
    assert done.failed == 0
    for key, value in vars(module).items():
        if getattr(value, "__module__", "") == module.__name__ and not key.startswith("_") and callable(value):
            assert ">>> " in value.__doc__, f"{name}.{key} has no example"
