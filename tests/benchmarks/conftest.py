"""The benchmark scripts lie in no package: their folder goes to the end of the path, as Python does for a script."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))


@pytest.fixture
def set_code(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Function that gives the code that rows follow from a digest of one's choice."""
    pytest.importorskip("matplotlib")  # of mr_head.py
    import benchmarks.attenuation.run
    import benchmarks.attenuation.tuning

    def change(digest: str) -> None:
        for module in (attenuation_methods, attenuation_tuning):
            monkeypatch.setattr(module, "code_digest", lambda: digest)

    return change
