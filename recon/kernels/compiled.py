"""The decorator of all numba kernels: their code is cached on disk where a cache folder is writable."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

import numba

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_warned: list[str] = []


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function to machine code that runs without the interpreter lock.

    The cache follows numba's rules (NUMBA_CACHE_DIR, the package's folder, the user's cache folder). Where none is
    writable the code is compiled in memory in every process, with one warning.

    Parameters
    ----------
    function
        Function in numba's subset of Python.

    Returns
    -------
    function
        Compiled function, which several threads may run at once.

    Examples
    --------
    >>> @compiled  # doctest: +SKIP
    ... def half(number):
    ...     return 0.5 * number
    """
    try:
        kernel = numba.njit(cache=True, nogil=True, fastmath={"contract"})(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
    else:
        _save_one_at_a_time(kernel)
        return kernel
    if not _warned:
        _warned.append(function.__name__)
        warnings.warn(
            "no cache folder is writable, so kernels are compiled again in every process (some seconds): "
            "set NUMBA_CACHE_DIR to a writable folder",
            RuntimeWarning,
            stacklevel=2,
        )
    return numba.njit(nogil=True, fastmath={"contract"})(function)


def _save_one_at_a_time(kernel: Any) -> None:
    """Let one process at a time add code to the kernel's cache.

    Numba numbers the files of a function's signatures by an index that it reads and writes without a lock. Of two
    processes that compile two signatures at once both take the same number, and a later process runs the code of the
    one for arrays of the other: wrong images, without an error. It also writes the index before the code: a process
    that is killed in between would leave a new index on the code of an earlier source, which is removed first.
    """
    if not hasattr(kernel, "_cache"):  # NUMBA_DISABLE_JIT: nothing is compiled
        return
    cache = kernel._cache
    save = cache.save_overload

    def save_overload(signature: Any, code: Any) -> None:
        folder, files = Path(cache.cache_path), cache._cache_file
        with _locked(folder):
            if not files._load_index():
                for stale in folder.glob(f"{escape(Path(files._index_name).stem)}.*.nbc"):
                    with suppress(OSError):  # where it cannot be removed nothing can be saved: numba itself tells
                        stale.unlink()
            save(signature, code)

    cache.save_overload = save_overload


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder for this process alone; without a lock where there can be none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / "kernels.lock").open("a")
    except OSError:  # nothing can be written there: numba itself tells
        yield
        return
    with stream:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(stream, fcntl.LOCK_EX)
        yield
