"""Runs PyTomography 3.4.0 on a problem of speed/problem.py, in its own environment.

    python pytomography_iteration.py FOLDER time SETTINGS     OSEM iterations, projections, set-up, memory, an image
    python pytomography_iteration.py FOLDER images SETTINGS   image and projections for each case of cases.json

SETTINGS is JSON: threads, device; for times also psf and iterations.

Its conventions: object [x, y, z], projections [view, r, z], lengths in cm, every view a plain sum over voxels. At its
angle t the detector stands towards (-sin t, -cos t) and r = x cos t - y sin t, which is DICOM's view t - 180 deg.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from measure import Measurements, adjoint_mismatch, peak_memory_gib, start_image

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytomography
    import torch
    from pytomography.algorithms import OSEM
    from pytomography.callbacks import Callback
    from pytomography.likelihoods import PoissonLogLikelihood
    from pytomography.metadata.SPECT import SPECTObjectMeta, SPECTProjMeta, SPECTPSFMeta
    from pytomography.projectors.SPECT import SPECTSystemMatrix
    from pytomography.transforms.shared import RotationTransform
    from pytomography.transforms.SPECT import SPECTAttenuationTransform, SPECTPSFTransform


def main(folder: Path, what: str, settings: dict) -> None:
    torch.set_num_threads(settings["threads"])
    pytomography.set_device(torch.device(settings["device"]))
    results = Measurements(f"PyTomography {pytomography.__version__}", settings["threads"])
    problem = dict(np.load(folder / "problem.npz"))
    _time(results, folder, problem, settings) if what == "time" else _images(results, folder, problem)
    results.write(folder / "pytomography.json")


def _to_object(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 1, 0))).to(pytomography.device)


def _to_projections(counts: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(counts.transpose(0, 2, 1))).to(pytomography.device)


def _image(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.cpu().numpy().transpose(2, 1, 0))


def _counts(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.cpu().numpy().transpose(0, 2, 1))


def _system(problem: dict, angles_deg: np.ndarray, *, psf: bool = True, kernel: str = "sampled") -> SPECTSystemMatrix:
    pixel_cm = float(problem["pixel_mm"]) / 10
    _, rows, columns = problem["counts"].shape
    transforms = [SPECTAttenuationTransform(attenuation_map=_to_object(problem["mu_per_cm"]))]
    if psf:
        line = (float(problem["slope"]), float(problem["sigma0_mm"]) / 10)
        # 3 is PyTomography's default; 3.5 makes room for the half-width that spectac uses.
        transforms.append(SPECTPSFTransform(SPECTPSFMeta(line, min_sigmas=3 if kernel == "sampled" else 3.5)))
    system = SPECTSystemMatrix(
        obj2obj_transforms=transforms,
        proj2proj_transforms=[],
        object_meta=SPECTObjectMeta((pixel_cm,) * 3, (columns, columns, rows)),
        proj_meta=SPECTProjMeta(
            (columns, rows),
            (pixel_cm, pixel_cm),
            [float(angle) for angle in np.mod(angles_deg + 180.0, 360.0)],
            radii=np.full(len(angles_deg), float(problem["radius_mm"]) / 10),
        ),
    )
    if psf and kernel != "sampled":
        for radius, blur in transforms[-1].layers.items():
            sigma = torch.tensor(transforms[-1]._get_sigma(radius) / pixel_cm)
            for layer in (blur.layer_r, blur.layer_z):
                layer.weight.data = _integrated(sigma, layer.weight.shape[-1], own_width=kernel == "integrated, cut")
    return system


def _integrated(sigma: torch.Tensor, size: int, *, own_width: bool) -> torch.Tensor:
    """Gaussians integrated over pixels, (planes, 1, size); `own_width` ends each at 3.5 of its own sigmas."""
    j = torch.arange(size, dtype=torch.float64) - size // 2
    edge = lambda x: 0.5 * torch.erf(x / (sigma[:, None] * 2**0.5))  # noqa: E731
    weights = edge(j + 0.5) - edge(j - 0.5)
    if own_width:
        weights = torch.where(j.abs() <= torch.ceil(3.5 * sigma)[:, None], weights, 0.0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()[:, None]


class TransposedRotation(RotationTransform):
    """PyTomography's rotation whose way back is the transpose of its way forth, by automatic differentiation."""

    def forward(self, turned: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        """Transpose of `backward`; the system matrix calls `backward` when it projects, `forward` on the way home."""
        image = torch.zeros_like(turned, requires_grad=True)
        with torch.enable_grad():
            rotated = RotationTransform.backward.__wrapped__(self, image, angles)
        return torch.autograd.grad(rotated, image, turned)[0]


class Clock(Callback):
    """Times at which iterations ended, the memory after the second, and the image after `wanted` iterations."""

    def __init__(self, subsets: int, wanted: int) -> None:
        self.wanted = wanted
        self.ends: list[float] = []
        self.memory: list[float] = []
        self.last = subsets - 1

    def run(self, image: torch.Tensor, n_iter: int, n_subset: int) -> torch.Tensor:
        """Note the time after the last subset."""
        if n_subset == self.last:
            _wait()
            self.ends.append(time.perf_counter())
            if n_iter == 1:
                self.memory.append(_memory_gib())
            if n_iter == self.wanted - 1:
                self.image = image.clone()
        return image


def _wait() -> None:
    if pytomography.device.type == "cuda":
        torch.cuda.synchronize()


def _memory_gib() -> float:
    return torch.cuda.max_memory_reserved() / 2**30 if pytomography.device.type == "cuda" else peak_memory_gib()


def _time(results: Measurements, folder: Path, problem: dict, settings: dict) -> None:
    subsets, iterations = int(problem["subset_of_view"].max()) + 1, settings["iterations"]
    began = time.perf_counter()
    system = _system(problem, problem["angles_deg"], psf=settings["psf"])
    results.add("set-up: system and attenuation factors", "s", time.perf_counter() - began)

    likelihood = PoissonLogLikelihood(system, _to_projections(problem["counts"]))
    began = time.perf_counter()
    likelihood._set_n_subsets(subsets)  # H^T 1 of every subset; kept, so that the iterations below do not hold it
    _wait()
    results.add("set-up: sensitivities", "s", time.perf_counter() - began)

    clock = Clock(subsets, iterations)
    # OSEM updates the start in place: it gets one of its own.
    start = _to_object(start_image(problem))
    OSEM(likelihood, object_initial=start)(n_iters=iterations + 1, n_subsets=subsets, callback=clock)
    # As for spectac the first is not counted: it warms up.
    results.add("OSEM iteration", "s", *np.diff(clock.ends))
    image = clock.image
    results.add("peak memory, 2 iterations", "GiB", *clock.memory)
    np.save(folder / "pytomography_time.npy", _image(image))

    for _ in range(2):
        began = time.perf_counter()
        expected = system.forward(image)
        _wait()
        middle = time.perf_counter()
        system.backward(expected)
        _wait()
        results.add("forward", "s", middle - began)
        results.add("adjoint", "s", time.perf_counter() - middle)
    results.add("adjoint mismatch at 17 deg", "1", _mismatch(problem))


def _mismatch(problem: dict, *, transposed: bool = False) -> float:
    one = _system(problem, np.array([17.0]))
    if transposed:
        one.rotation_transform = TransposedRotation()
    return adjoint_mismatch(
        lambda x: _counts(one.forward(_to_object(x))), lambda y: _image(one.backward(_to_projections(y))), problem
    )


def _images(results: Measurements, folder: Path, problem: dict) -> None:
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        system = _system(problem, problem["angles_deg"], psf=case["psf"], kernel=case["kernel"])
        if case["transpose"]:
            system.rotation_transform = TransposedRotation()
        if case["order"] == "spectac's" and case["subsets"] > 1:
            views = [torch.from_numpy(np.flatnonzero(problem["subset_of_view"] == k)) for k in range(case["subsets"])]
            system.set_n_subsets = lambda _, views=views, system=system: setattr(system, "subset_indices_array", views)
        likelihood = PoissonLogLikelihood(system, _to_projections(problem["counts"]))
        start = _to_object(start_image(problem, corners=case["corners"]))
        algorithm = OSEM(likelihood, object_initial=start)
        image = algorithm(n_iters=case["iterations"], n_subsets=case["subsets"])
        np.save(folder / f"pytomography_image_{name}.npy", _image(image))
        np.save(folder / f"pytomography_forward_{name}.npy", _counts(system.forward(_to_object(problem["object"]))))
    results.add("adjoint mismatch at 17 deg, rotation transposed", "1", _mismatch(problem, transposed=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
