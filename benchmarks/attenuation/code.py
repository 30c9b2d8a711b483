"""What code the rows of the attenuation benchmark follow from."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import spectac.learned
import spectac.recon
import spectac.simulate

PACKAGES = (spectac.recon, spectac.simulate, spectac.learned)
SCRIPTS = (
    "attenuation_rows", "attenuation_models", "attenuation_oracle", "attenuation_measures", "attenuation_patients",
    "mr_head",
)  # fmt: skip
"""Scripts that a row follows from. Not those that run, tune and draw: what they choose stands in the row."""


@cache
def code_digest() -> str:
    """Digest of the code that makes a row: recon, simulate, learned and SCRIPTS, without comments and docstrings."""
    return digest_of(_files())


def digest_of(files: Iterable[tuple[str, Path]]) -> str:
    """Digest of named Python files; comments, docstrings and layout are not in it."""
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(f"{name}\n{_code_alone(path.read_text(encoding='utf-8'))}\n".encode())
    return digest.hexdigest()[:16]


def _files() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        folder = Path(next(iter(package.__path__)))
        yield from ((f"{package.__name__}/{path.relative_to(folder)}", path) for path in sorted(folder.rglob("*.py")))
    yield from ((name, Path(__file__).with_name(f"{name}.py")) for name in SCRIPTS)


def _code_alone(source: str) -> str:
    """The source without texts that stand alone as a statement, in one layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(part: ast.AST) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)
