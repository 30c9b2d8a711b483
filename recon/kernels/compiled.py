"""The decorator of all numba kernels: their code is cached on disk where a cache folder is writable."""

import warnings
from collections.abc import Callable
from typing import Any

import numba

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
    >>> @compiled
    ... def half(number):
    ...     return 0.5 * number
    """
    try:
        return numba.njit(cache=True, nogil=True, fastmath={"contract"})(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
    if not _warned:
        _warned.append(function.__name__)
        warnings.warn(
            "no cache folder is writable, so kernels are compiled again in every process (some seconds): "
            "set NUMBA_CACHE_DIR to a writable folder",
            RuntimeWarning,
            stacklevel=2,
        )
    return numba.njit(nogil=True, fastmath={"contract"})(function)
