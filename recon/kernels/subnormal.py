"""Subnormal numbers count as 0: on many processors an operation with one of them takes 100 cycles.

Numbers that decay, as voxels beside the head do in OSEM, end below the smallest normal number (1.2e-38 in float32). The
floating-point mode of a thread makes the processor take them for 0, as operands and as results, in every operation. A
linear operation and its transpose therefore stay transposes, and no other number changes by a bit. The mode is set in
threads of this package, or for a while in the caller's thread, whose mode is then restored.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import alloca_once, get_or_insert_function
from numba.extending import intrinsic

from spectac.recon.kernels.compiled import compiled

FAINT = 1e-20
"""Share of an image's maximum below which decaying values are set to 0 in operations that are not linear anyway.

It is far below what single precision holds beside the maximum, so that no other voxel changes by a bit, and high enough
that the rest can be scaled and blurred afterwards.
"""

_BITS = {
    "x86_64": 1 << 15 | 1 << 6,  # MXCSR: flush to zero, denormals are zero
    "aarch64": 1 << 24,  # FPCR: flush to zero
}
_PROCESSOR = llvmlite.binding.get_process_triple().partition("-")[0].replace("arm64", "aarch64")
MODE_BITS = _BITS.get(_PROCESSOR, 0)
"""Bits of the floating-point mode that take subnormal numbers for 0; none on processors other than these."""

# Before numpy 2.4 the first look at a type's limits warns where its subnormal numbers are 0; later ones are remembered.
for _kind in (np.float32, np.float64):
    np.finfo(_kind)


def flushing_threads(workers: int, name: str = "spectac") -> ThreadPoolExecutor:
    """Threads in which subnormal numbers count as 0.

    Parameters
    ----------
    workers
        Number of threads.
    name
        Beginning of their names.

    Returns
    -------
    ThreadPoolExecutor
        Pool to be closed by the caller.

    Examples
    --------
    >>> with flushing_threads(1) as threads:
    ...     float(threads.submit(np.multiply, np.float32(1e-30), np.float32(1e-10)).result())
    0.0
    """
    return ThreadPoolExecutor(workers, thread_name_prefix=name, initializer=_set_mode, initargs=(MODE_BITS,))


@contextmanager
def subnormals_are_zero() -> Iterator[None]:
    """Context, or decorator, in which subnormal numbers count as 0 in this thread.

    Examples
    --------
    >>> with subnormals_are_zero():
    ...     product = np.float32(1e-30) * np.float32(1e-10)
    >>> float(product)
    0.0
    """
    before = _set_mode(MODE_BITS)
    try:
        yield
    finally:
        _set_mode(before)


@intrinsic
def _exchange(_typing: Any, wanted: Any) -> Any:
    """MODE_BITS of the thread's floating-point mode become those of `wanted`; the result are those before."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return exchanged(builder, arguments[0], _PROCESSOR)

    return types.uint32(types.uint32), generate


def exchanged(builder: ir.IRBuilder, wanted: ir.Value, processor: str) -> ir.Value:
    """Code that exchanges the mode's bits of a processor; the other bits stay, such as flags of earlier operations.

    Parameters
    ----------
    builder
        Where the code is added.
    wanted
        32-bit word with the new bits.
    processor
        "x86_64", "aarch64", or another one, for which nothing happens.

    Returns
    -------
    Value
        32-bit word with the bits before.
    """
    bits = _BITS.get(processor, 0)

    def changed(mode: ir.Value) -> ir.Value:
        return builder.or_(builder.and_(mode, mode.type(~bits)), builder.zext(wanted, mode.type))

    def function(name: str, result: ir.Type, *arguments: ir.Type) -> ir.Function:
        return get_or_insert_function(builder.module, ir.FunctionType(result, arguments), f"llvm.{name}")

    nothing, word, long = ir.VoidType(), ir.IntType(32), ir.IntType(64)
    if processor == "x86_64":
        pointer = ir.IntType(8).as_pointer()
        slot = alloca_once(builder, word)
        address = builder.bitcast(slot, pointer)
        builder.call(function("x86.sse.stmxcsr", nothing, pointer), [address])
        before = builder.load(slot)
        builder.store(changed(before), slot)
        builder.call(function("x86.sse.ldmxcsr", nothing, pointer), [address])
    elif processor == "aarch64":
        before = builder.call(function("aarch64.get.fpcr", long), [])
        builder.call(function("aarch64.set.fpcr", nothing, long), [changed(before)])
        before = builder.trunc(before, word)
    else:
        return word(0)
    return builder.and_(before, word(bits))


@compiled
def _set_mode(wanted):  # type: ignore[no-untyped-def]
    """Set MODE_BITS in this thread and return those before. A call from Python: no operation is moved past it."""
    return _exchange(np.uint32(wanted))
