"""Digest of the Python code that a result follows from; docstrings, comments and layout do not change it."""

import ast
import hashlib
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_PACKAGE = "spectac"


@cache
def code_digest(*modules: str) -> str:
    """16 hexadecimal digits for the code of some modules and of all modules that they import.

    Docstrings, comments, layout and imports for type checkers do not change the digest. All other code does, the name
    of each module included.

    Parameters
    ----------
    *modules
        Dotted names of the start modules. They can be imported but need not have been.

    Returns
    -------
    str
        Digest of the modules that `imported_modules` lists.

    Raises
    ------
    ModuleNotFoundError
        A start module cannot be found or has no Python source.

    Examples
    --------
    >>> from spectac.recon.code_digest import code_digest
    >>> len(code_digest("spectac.recon.geometry"))
    16
    """
    return digest_of(imported_modules(*modules))


def digest_of(files: Mapping[str, Path]) -> str:
    """16 hexadecimal digits for the syntax trees of some Python files; their order does not matter.

    Parameters
    ----------
    files
        Paths by the names that go into the digest.

    Returns
    -------
    str
        Digest, the same for every version of Python that parses the files to the same trees.

    Raises
    ------
    OSError
        A file cannot be read.
    SyntaxError
        A file is not Python.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spectac.recon.code_digest import digest_of
    >>> with TemporaryDirectory() as folder:
    ...     bare, commented = Path(folder, "bare.py"), Path(folder, "commented.py")
    ...     size = bare.write_text("half = 0.5"), commented.write_text("half = 0.5  # of a voxel")
    ...     digest_of({"half": bare}) == digest_of({"half": commented})
    True
    """
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        tree, _ = _parsed(path)
        digest.update(f"{name}\n{_plain(tree)!r}\n".encode())
    return digest.hexdigest()[:16]


def imported_modules(*modules: str) -> dict[str, Path]:
    """Source files, by dotted name, of some modules and of all modules that they import directly or indirectly.

    Imports are followed into spectac, into the packages of the start modules and into single files beside these,
    also where they stand inside a function. A name that a package imports on demand leads to the module that defines it
    (the package shows it under TYPE_CHECKING).
    Assumes: the `__init__` of a package has no effect on modules of the package that do not import from it, and no
    module is imported by a name made at run time.

    Parameters
    ----------
    *modules
        Dotted names of the start modules.

    Returns
    -------
    dict of str to pathlib.Path
        Source file of each module.

    Raises
    ------
    ModuleNotFoundError
        A start module cannot be found or has no Python source.

    Examples
    --------
    >>> from spectac.recon.code_digest import imported_modules
    >>> sorted(imported_modules("spectac.recon.errors"))
    ['spectac.recon.errors']
    """
    closure: dict[str, Path] = {}
    for name in modules:
        path = _source(name)
        if path is None:
            raise ModuleNotFoundError(f"no Python source of module {name!r}", name=name)
        closure[name] = path
    packages = {_PACKAGE, *(name.partition(".")[0] for name in modules)}
    folders = {path.parent for path in closure.values()}
    waiting = list(closure.values())
    while waiting:
        tree, _ = _parsed(waiting.pop())
        for name, path in _imports(tree):
            within = name.partition(".")[0] in packages or path.parent in folders
            if within and name not in closure:
                closure[name] = path
                waiting.append(path)
    return closure


def _imports(tree: ast.AST) -> Iterator[tuple[str, Path]]:
    """Modules with Python sources that a module imports anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            homes = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            homes = [_home(node.module, alias.name) for alias in node.names]
        else:
            continue
        for home in homes:
            path = _source(home)
            if path is not None:
                yield home, path


def _home(module: str, name: str) -> str:
    """Module that `from module import name` takes the name from: a sub-module, the home of a lazy name, or itself."""
    inside = f"{module}.{name}"
    path = _source(module)
    if _source(inside) is not None:
        return inside
    return module if path is None else _parsed(path)[1].get(name, module)


@cache
def _source(name: str) -> Path | None:
    """Python source of a module, which is not imported for it; None for other modules and where there is none."""
    top, *rest = name.split(".")
    if top == _PACKAGE and rest:  # a namespace whose parts may lie in unrelated folders
        top = f"{top}.{rest.pop(0)}"
    try:
        spec = find_spec(top)
    except (ModuleNotFoundError, ValueError):  # ValueError: a script that runs as __main__
        spec = None
    if spec is None:
        return None
    if rest:
        places = [Path(folder, *rest) for folder in spec.submodule_search_locations or ()]
        files = [file for place in places for file in (place.with_name(f"{place.name}.py"), place / "__init__.py")]
    else:
        files = [Path(spec.origin or "")]
    return next((file for file in files if file.suffix == ".py" and file.is_file()), None)


_PARSING = threading.Lock()
"""Two threads of a worker that parse at once end in a SystemError of Python 3.11 (python/cpython#106905)."""


@cache
def _parsed(path: Path) -> tuple[ast.Module, dict[str, str]]:
    """Syntax tree without texts that are statements and imports for type checkers; modules of the latter by name."""
    with _PARSING:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy: dict[str, str] = {}
    for node in ast.walk(tree):
        for field, parts in ast.iter_fields(node):
            if isinstance(parts, list):
                setattr(node, field, [part for part in parts if not (_is_text(part) or _is_for_checkers(part))])
                for part in filter(_is_for_checkers, parts):
                    imports = [one for one in part.body if isinstance(one, ast.ImportFrom) and one.module]
                    lazy |= {alias.name: str(one.module) for one in imports for alias in one.names}
    return tree, lazy


def _is_text(part: object) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)


def _is_for_checkers(part: object) -> bool:
    """True for `if TYPE_CHECKING:` without an else."""
    return (
        isinstance(part, ast.If)
        and isinstance(part.test, ast.Name)
        and part.test.id == "TYPE_CHECKING"
        and not part.orelse
    )


def _plain(node: Any) -> Any:
    """Names and values of a syntax tree without places and empty fields, which differ between versions of Python.

    Help of the command line (setting_fields.Setting) changes no number and is left out.
    """
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Setting":
        return "Setting"
    if isinstance(node, ast.AST):
        fields = {name: _plain(value) for name, value in ast.iter_fields(node) if value not in (None, [])}
        return type(node).__name__, fields
    return [_plain(part) for part in node] if isinstance(node, list) else node
