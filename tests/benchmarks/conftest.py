"""The benchmarks lie in no installed package: the checkout's root goes to the end of the path."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))


@pytest.fixture
def set_code(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Function that sets the digest of the code that rows of the attenuation study follow from."""
    from benchmarks.attenuation import carry, run, tuning

    def change(digest: str) -> None:
        for module in (carry, run, tuning):
            monkeypatch.setattr(module, "row_code", lambda: digest)

    return change
