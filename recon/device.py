"""The one place that decides where a reconstruction runs."""

import os

from spectac.recon.errors import InputError


def select_device(device: str) -> str:
    """Device that will be used for "auto" or "cpu".

    Raises InputError for any other name.
    """
    if device in ("auto", "cpu"):
        return "cpu"
    raise InputError(f"device {device!r} is not available: this version runs on the CPU, use --device auto or cpu")


def cpu_threads() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
