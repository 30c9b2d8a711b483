"""Ceilings of a device, measured: bytes copied and fused multiply-adds in float32 per second."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

COPIED = 1 << 28
"""Bytes: far more than any cache holds."""
DEGREE = 32


@numba.njit(nogil=True, fastmath={"contract"})
def _horner(x, out, repeats):  # type: ignore[no-untyped-def]
    """DEGREE multiply-adds for every value of x, `repeats` times: loaded and stored once, the rest in registers."""
    for _ in range(repeats):
        for n in range(np.uintp(x.size)):
            value = x[n]
            for _ in range(DEGREE):
                value = value * x[n] + out[n]
            out[n] = value


def cpu_ceilings(threads: int) -> tuple[float, float]:
    """Bytes read plus written per second, and multiply-adds per second, with all threads; the best of five."""
    source, target = np.ones(COPIED // 4, np.float32), np.zeros(COPIED // 4, np.float32)
    shares = np.array_split(np.arange(source.size // 64) * 64, threads)
    pieces = [slice(int(share[0]), int(share[-1]) + 64) for share in shares]
    few = [np.full(1024, 0.5, np.float32) for _ in range(threads)]
    outs = [np.zeros_like(one) for one in few]
    repeats = 4000
    with ThreadPoolExecutor(threads) as pool:

        def copy(piece: slice) -> None:
            np.copyto(target[piece], source[piece])

        def multiply(k: int) -> None:
            _horner(few[k], outs[k], repeats)

        copied = min(_seconds(lambda: list(pool.map(copy, pieces))) for _ in range(5))
        multiplied = min(_seconds(lambda: list(pool.map(multiply, range(threads)))) for _ in range(5))
    return 2.0 * COPIED / copied, threads * few[0].size * DEGREE * repeats / multiplied


def cuda_ceilings() -> tuple[float, float]:
    """The same of the current GPU."""
    import cupy

    source, target = cupy.ones(1 << 28, cupy.float32), cupy.zeros(1 << 28, cupy.float32)
    horner = cupy.ElementwiseKernel(
        "float32 x",
        "float32 y",
        # Registers of its own: x and y may lie in the same memory for all that the compiler knows.
        f"float a = x, b = x; for (int i = 0; i < {DEGREE * 128}; ++i) b = fmaf(b, a, a); y = b;",
        "spectac_ceiling",
    )
    few = cupy.full(1 << 22, 0.5, cupy.float32)

    def synchronised(work) -> float:  # type: ignore[no-untyped-def]
        def once() -> None:
            work()
            cupy.cuda.Device().synchronize()

        once()
        return min(_seconds(once) for _ in range(5))

    copied = synchronised(lambda: cupy.copyto(target, source))
    multiplied = synchronised(lambda: horner(few))
    return 2.0 * source.nbytes / copied, few.size * DEGREE * 128 / multiplied


def _seconds(work) -> float:  # type: ignore[no-untyped-def]
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    n = len(os.sched_getaffinity(0))
    print(*(f"{value:.3g}" for value in cpu_ceilings(n)))
