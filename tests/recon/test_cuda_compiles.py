"""The CUDA source through NVIDIA's run-time compiler, which needs no driver and no GPU."""

import ctypes
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from spectac.recon.kernels import cuda_projector

KERNELS = ("attenuation_factors", "forward", "spread", "gradient_columns", "gather", "finish", "em_update")


def nvrtc():
    """The library of pip's nvidia-cuda-nvrtc; None where it is not installed."""
    folder = Path(sysconfig.get_path("platlib")) / "nvidia"
    found = sorted(folder.glob("*/lib/libnvrtc.so.*"))
    return ctypes.CDLL(str(found[-1])) if found else None


LIBRARY = nvrtc()
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="no run-time compiler (pip install nvidia-cuda-nvrtc)")


def compiled(options):
    """PTX of the source for these options; the compiler's log where it refuses."""
    program = ctypes.c_void_p()
    text = cuda_projector.source().encode()
    assert LIBRARY.nvrtcCreateProgram(ctypes.byref(program), text, b"spect.cu", 0, None, None) == 0
    wanted = [option.encode() for option in options]
    failed = LIBRARY.nvrtcCompileProgram(program, len(wanted), (ctypes.c_char_p * len(wanted))(*wanted))
    size = ctypes.c_size_t()
    if failed:
        LIBRARY.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        LIBRARY.nvrtcGetProgramLog(program, log)
        pytest.fail(log.value.decode())
    LIBRARY.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    LIBRARY.nvrtcGetPTX(program, ptx)
    return ptx.value.decode()


@pytest.mark.parametrize(
    "architecture", [pytest.param(80, marks=pytest.mark.slow), 90, pytest.param(100, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("dtype", "half"), [("float32", True), ("float32", False), ("float64", False)])
def test_the_source_compiles_for_the_chips_that_clinics_have(architecture, dtype, half):
    """For A100, H100/H200 and B200; the sums of a block lie in registers, not in local memory."""
    for tile in cuda_projector.TILES:
        options = cuda_projector.definitions(np.dtype(dtype), half, tile)
        ptx = compiled([f"-arch=compute_{architecture}", *options])
        for name in KERNELS:
            assert f".entry {name}(" in ptx
        assert ".local" not in ptx
        # Subnormal numbers count as 0, as on the CPU; in double precision a GPU cannot.
        assert ("mul.ftz.f32" in ptx) == (dtype == "float32")
        assert "mul.f32" not in ptx
