"""The choice of the device, CPU or GPU, on which a reconstruction runs."""

import os
import platform
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from spectac.recon.errors import DeviceError, InputError

_thread = threading.local()


def select_device(device: str) -> str:
    """Device that will be used.

    Parameters
    ----------
    device
        "cpu", "cuda", or "auto": the GPU where one works.

    Returns
    -------
    str
        "cpu" or "cuda".

    Raises
    ------
    InputError
        For any other name, and for "cuda" where no GPU works.

    Examples
    --------
    >>> select_device("cpu")
    'cpu'
    """
    if device == "cpu":
        return device
    if device not in ("auto", "cuda"):
        raise InputError(f"device {device!r} is not available: use --device auto, cpu or cuda")
    reason = no_gpu()
    if reason is None:
        return "cuda"
    if device == "auto":
        return "cpu"
    raise InputError(f"device 'cuda' is not available: {reason}; use --device auto or cpu")


@cache
def no_gpu() -> str | None:
    """Why no GPU works. The answer is kept for the life of the process.

    Returns
    -------
    str or None
        Reason in a few words; None where a GPU works.

    Examples
    --------
    >>> isinstance(no_gpu(), str | None)
    True
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            import cupy
    except ModuleNotFoundError:
        return "CuPy is not installed (pip install 'spectac[cuda13]', or cuda12 for older drivers)"
    except ImportError as error:
        return f"CuPy does not work ({' '.join(str(error).split())})"
    try:
        with warnings.catch_warnings(action="ignore"):
            if not cupy.cuda.is_available():
                return "CuPy finds no CUDA device"
            # A device may be there and its driver too old for the run-time library.
            float(cupy.ones(2).sum())
    except Exception as error:  # noqa: BLE001 - the driver's errors have no common type
        return f"the GPU does not work ({' '.join(str(error).split())})"
    return None


def device_name(device: str) -> str:
    """Name of the processor or of the current GPU.

    Parameters
    ----------
    device
        "cpu" or "cuda".

    Returns
    -------
    str
        Name; the architecture where the system does not tell the processor's.

    Examples
    --------
    >>> device_name("cpu") != ""
    True
    """
    if device == "cpu":
        try:
            lines = Path("/proc/cpuinfo").read_text().splitlines()
        except OSError:
            return platform.processor() or platform.machine()
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(names, platform.machine())
    import cupy

    return str(cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode())


@contextmanager
def device_errors() -> Iterator[None]:
    """Context in which errors of CuPy become a DeviceError of one line.

    Yields
    ------
    None
        The block runs as it would without the context.

    Raises
    ------
    DeviceError
        Where the GPU's memory does not suffice, or the GPU fails.

    Examples
    --------
    >>> with device_errors():
    ...     pass
    """
    try:
        yield
    except Exception as error:
        # By the names of the classes, because CuPy need not be installed.
        if type(error).__module__.split(".")[0] not in ("cupy", "cupy_backends"):
            raise
        reason = " ".join(str(error).split())
        if type(error).__name__ == "OutOfMemoryError":
            raise DeviceError(
                f"the GPU's memory does not suffice ({reason}): use --device cpu, or rebin the projections"
            ) from None
        raise DeviceError(f"the GPU failed ({reason}): use --device cpu") from None


@contextmanager
def own_stream(device: str) -> Iterator[None]:
    """Context whose work goes to a CUDA stream of this thread, so that studies in several threads overlap.

    One stream serves all work of a thread: CuPy keeps freed memory for the stream that it belonged to.

    Parameters
    ----------
    device
        "cpu" (no stream) or "cuda".

    Yields
    ------
    None
        On a GPU the stream is CuPy's current one inside the block, and synchronised where the block ends well.

    Examples
    --------
    >>> with own_stream("cpu"):
    ...     pass
    """
    if device == "cpu":
        yield
        return
    import cupy

    if not hasattr(_thread, "stream"):
        _thread.stream = cupy.cuda.Stream(non_blocking=True)
    with _thread.stream as stream:
        yield
        stream.synchronize()


def cpu_threads() -> int:
    """Number of cores that this process may use.

    Returns
    -------
    int
        Number, at least 1.

    Examples
    --------
    >>> cpu_threads() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
