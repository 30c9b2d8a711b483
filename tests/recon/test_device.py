"""The choice of a device, and what becomes of a GPU's errors."""

import importlib.util
from contextlib import nullcontext

import numpy as np
import pytest

from spectac.recon import NoAttenuation, ReconstructionSettings, device, pipeline
from spectac.recon.device import no_gpu
from spectac.recon.errors import DeviceError, InputError
from spectac.recon.pipeline import reconstruct
from spectac.recon.system import SystemModel
from spectac.recon.types import EnergyWindow, Result, Study


@pytest.fixture
def gpu(monkeypatch):
    """Function (reason) that lets a GPU work (None) or not."""

    def set_reason(reason):
        monkeypatch.setattr(device, "no_gpu", lambda: reason)

    return set_reason


def test_auto_takes_the_gpu_where_one_works(gpu):
    gpu(None)
    assert [device.select_device(name) for name in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]
    gpu("the driver is too old")
    assert [device.select_device(name) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(InputError, match="'cuda' is not available: the driver is too old; use --device auto or cpu"):
        device.select_device("cuda")
    with pytest.raises(InputError, match="device 'tpu' is not available: use --device auto, cpu or cuda"):
        device.select_device("tpu")


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_without_cupy_the_reason_names_the_package():
    assert "pip install 'spectac[cuda13]'" in no_gpu()


class OutOfMemoryError(MemoryError):
    """CuPy's, by its name and module."""

    __module__ = "cupy.cuda.memory"


class CUDADriverError(RuntimeError):
    """CuPy's, by its name and module."""

    __module__ = "cupy_backends.cuda.api.driver"


def test_errors_of_the_driver_become_one_line():
    with pytest.raises(DeviceError) as failed, device.device_errors():
        raise OutOfMemoryError("Out of memory allocating 4,096 bytes\n(allocated so far: 512 bytes)")
    assert str(failed.value).startswith("the GPU's memory does not suffice (Out of memory allocating 4,096 bytes (all")
    assert str(failed.value).endswith("use --device cpu, or rebin the projections")
    wanted = r"^the GPU failed \(CUDA_ERROR_ECC_UNCORRECTABLE: x\): use --device cpu$"
    with pytest.raises(DeviceError, match=wanted), device.device_errors():
        raise CUDADriverError("CUDA_ERROR_ECC_UNCORRECTABLE:\n x")
    with pytest.raises(ZeroDivisionError), device.device_errors():
        raise ZeroDivisionError


@pytest.fixture
def study(make_acquisition):
    """A point in the middle, seen by 24 views."""
    acquisition = make_acquisition(15.0 * np.arange(24), (3, 9), 4.4)
    counts = np.zeros((1, 24, 3, 9), np.float32)
    counts[..., 1, 4] = 100.0
    return Study(acquisition, (EnergyWindow("peak", 126, 154),), counts)


@pytest.fixture
def failing_gpu(monkeypatch):
    """A GPU that is there, and gives up when a system is built on it."""
    tried = []

    class Failing(SystemModel):
        def __init__(self, *arguments, **options):
            tried.append(options["device"])
            if options["device"] == "cuda":
                raise OutOfMemoryError("Out of memory")
            super().__init__(*arguments, **options)

    monkeypatch.setattr(pipeline, "SystemModel", Failing)
    monkeypatch.setattr(pipeline, "own_stream", lambda device: nullcontext())
    monkeypatch.setattr(pipeline, "select_device", lambda name: "cuda" if name == "auto" else name)
    return tried


def test_auto_falls_back_to_the_cpu_and_says_so(study, failing_gpu):
    settings = {"iterations": 1, "subsets": 2, "resolution": False}
    wanted = reconstruct(study, settings=ReconstructionSettings(device="cpu", **settings))
    result = reconstruct(study, settings=ReconstructionSettings(device="auto", **settings))
    assert failing_gpu == ["cpu", "cuda", "cpu"]
    np.testing.assert_array_equal(result.image.values, wanted.image.values)
    assert result.device == wanted.device == "cpu"
    told = [note for note in result.notes if note not in wanted.notes]
    assert told == [
        "reconstructed on the CPU: the GPU's memory does not suffice (Out of memory): use --device cpu, or rebin the "
        "projections"
    ]
    with pytest.raises(DeviceError, match="memory does not suffice"):
        reconstruct(study, settings=ReconstructionSettings(device="cuda", **settings))


def test_the_fallback_is_noted_for_every_model_that_uses_its_image(study, failing_gpu):
    """The image without a map is computed once, on the CPU; a model that does not ask for it has no note."""
    solver = pipeline.StudySolver(
        study, ReconstructionSettings(algorithm="osem", iterations=1, subsets=2, resolution=False)
    )

    class Backprojected:
        name = "backprojected"

        def correct(self, solver):
            return Result(solver.fbp(solver.projections.counts))

    models = (NoAttenuation(), NoAttenuation(), Backprojected())
    noted = [sum("on the CPU" in note for note in solver.corrected(model).notes) for model in models]
    assert noted == [1, 1, 0]
    assert failing_gpu == ["cuda", "cpu"]


def test_a_device_that_is_not_there_is_refused_whatever_the_algorithm(study, gpu):
    gpu("no driver")
    with pytest.raises(InputError, match="device 'cuda' is not available"):
        reconstruct(study, settings=ReconstructionSettings(algorithm="fbp", device="cuda"))
    assert reconstruct(study, settings=ReconstructionSettings(algorithm="fbp", device="auto")).device == "cpu"
