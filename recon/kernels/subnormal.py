"""Subnormal numbers count as 0: on many processors an operation with one of them takes 100 cycles.

Numbers that decay, as voxels beside the head do in OSEM, end below the smallest normal one (1.2e-38 in float32). The
processor is told to take such numbers for 0, as operands and as results: by the floating-point mode of a thread, in
every operation alike, so that a linear operation and its transpose stay what they are, and no other number changes by a
bit. The mode is set in threads of our own, or for a while in the caller's, which then gets its own back.
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
"""Share of an image's largest value below which what decays is set to 0, where an operation is not linear anyway.

Far below what single precision holds beside it, so that no other voxel changes by a bit, and high enough that what is
left can be scaled and blurred afterwards.
"""

_PROCESSOR = llvmlite.binding.get_process_triple().partition("-")[0].replace("arm64", "aarch64")

MODE_BITS = {
    "x86_64": 1 << 15 | 1 << 6,  # MXCSR: flush to zero, denormals are zero
    "aarch64": 1 << 24,  # FPCR: flush to zero
}.get(_PROCESSOR, 0)
"""Bits of the floating-point mode that take subnormal numbers for 0; none where the processor is another."""

# Before numpy 2.4 the first look at a type's limits warns where its subnormal numbers are 0; later ones are remembered.
for _kind in (np.float32, np.float64):
    np.finfo(_kind)


def flushing_threads(workers: int, name: str = "spectac") -> ThreadPoolExecutor:
    """Threads in which subnormal numbers count as 0."""
    return ThreadPoolExecutor(workers, thread_name_prefix=name, initializer=_set_mode, initargs=(MODE_BITS,))


@contextmanager
def subnormals_are_zero() -> Iterator[None]:
    """In this thread subnormal numbers count as 0 until the end of the block, or of a function that it decorates."""
    before = _set_mode(MODE_BITS)
    try:
        yield
    finally:
        _set_mode(before)


@intrinsic
def _exchange(_typing: Any, wanted: Any) -> Any:
    """MODE_BITS of the thread's floating-point mode become those of `wanted`; the result are those before."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        (wanted,) = arguments
        word = wanted.type
        if _PROCESSOR == "x86_64":
            slot = alloca_once(builder, word)
            pointer = ir.IntType(8).as_pointer()
            address = builder.bitcast(slot, pointer)
            read, write = (
                get_or_insert_function(
                    builder.module, ir.FunctionType(ir.VoidType(), [pointer]), f"llvm.x86.sse.{name}"
                )
                for name in ("stmxcsr", "ldmxcsr")
            )
            builder.call(read, [address])
            before = builder.load(slot)
            builder.store(_with_bits(builder, before, wanted), slot)
            builder.call(write, [address])
            return builder.and_(before, word(MODE_BITS))
        if _PROCESSOR == "aarch64":
            register = ir.IntType(64)
            before = builder.asm(ir.FunctionType(register, []), "mrs $0, fpcr", "=r", [], True)
            after = _with_bits(builder, before, builder.zext(wanted, register))
            builder.asm(ir.FunctionType(ir.VoidType(), [register]), "msr fpcr, $0", "r", [after], True)
            return builder.trunc(builder.and_(before, register(MODE_BITS)), word)
        return word(0)

    return types.uint32(types.uint32), generate


def _with_bits(builder: Any, mode: Any, wanted: Any) -> Any:
    """The mode with MODE_BITS as wanted; its other bits, flags of earlier operations among them, stay."""
    return builder.or_(builder.and_(mode, mode.type(~MODE_BITS)), wanted)


@compiled
def _set_mode(wanted):  # type: ignore[no-untyped-def]
    """Set MODE_BITS in this thread and return those before; called from Python, so that no operation moves past it."""
    return _exchange(np.uint32(wanted))
