"""The system model as a layer of torch: projections of an activity through a map, with gradients to both."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spectac.recon.errors import InputError
from spectac.recon.system import SystemModel


def project(activity: Tensor, mu_per_cm: Tensor, system: SystemModel) -> Tensor:
    """Projections of activities through attenuation maps, differentiable to both.

    The gradient to the activity is the exact adjoint, that to the map `SystemModel.gradient_mu`. Second derivatives are
    refused. Tensors and system share the memory; on a GPU they share torch's current stream.

    Parameters
    ----------
    activity
        Activities (n, z, y, x) in counts per second and mL.
    mu_per_cm
        Maps (n, z, y, x) in 1/cm.
    system
        Geometry, blur and precision. A map of its own is replaced.

    Returns
    -------
    Tensor
        Projections (n, v, z, u).

    Raises
    ------
    InputError
        If the tensors do not fit the system or each other, or lie on another device than the system.

    Examples
    --------
    >>> from spectac.recon import default_grid
    >>> from spectac.simulate.scanner import Scanner
    >>> acquisition = Scanner("tiny", "siemens-lehr", matrix=(4, 8), pixel_mm=8.0, views=8).acquisition("Tc-99m")
    >>> system = SystemModel(acquisition, default_grid(acquisition))
    >>> activity = torch.ones(1, *system.image_shape, requires_grad=True)
    >>> project(activity, torch.zeros_like(activity), system).shape
    torch.Size([1, 8, 4, 8])
    """
    if activity.shape != mu_per_cm.shape or tuple(activity.shape[1:]) != system.image_shape:
        raise InputError(
            f"activity and map need the shape (n, {', '.join(map(str, system.image_shape))}), "
            f"got {tuple(activity.shape)} and {tuple(mu_per_cm.shape)}"
        )
    for tensor in (activity, mu_per_cm):
        _check_device(tensor, system)
    return cast(Tensor, _Project.apply(activity, mu_per_cm, system))


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activity: Tensor, mu_per_cm: Tensor, system: SystemModel) -> Tensor:
        ctx.system = system
        with _same_stream(system):
            ctx.systems = [system.with_mu(_array(mu, system)) for mu in mu_per_cm]
            ctx.save_for_backward(activity)
            counts = [model.forward(_array(image, system)) for model, image in zip(ctx.systems, activity, strict=True)]
            return _tensor(counts, activity, system)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (activity,) = ctx.saved_tensors
        to_activity = to_mu = None
        with _same_stream(ctx.system):
            pairs = [(model, _array(one, ctx.system)) for model, one in zip(ctx.systems, gradients[0], strict=True)]
            if ctx.needs_input_grad[0]:
                to_activity = _tensor([model.adjoint(residual) for model, residual in pairs], activity, ctx.system)
            if ctx.needs_input_grad[1]:
                images = [_array(image, ctx.system) for image in activity]
                slopes = [
                    model.gradient_mu(image, residual) for (model, residual), image in zip(pairs, images, strict=True)
                ]
                to_mu = _tensor(slopes, activity, ctx.system)
        return to_activity, to_mu, None


def applied(work: Callable[[Any], Any], values: Tensor, system: SystemModel) -> Tensor:
    """Results of a linear map of the system for each member of a batch, without gradients.

    Parameters
    ----------
    work
        `system.forward` or `system.adjoint`.
    values
        Arguments (n, ...) of it on the system's device.
    system
        System whose stream and memory are used.

    Returns
    -------
    Tensor
        Results (n, ...).

    Raises
    ------
    InputError
        If the tensor lies on another device than the system.

    Examples
    --------
    >>> from spectac.recon import default_grid
    >>> from spectac.simulate.scanner import Scanner
    >>> acquisition = Scanner("tiny", "siemens-lehr", matrix=(4, 8), pixel_mm=8.0, views=8).acquisition("Tc-99m")
    >>> system = SystemModel(acquisition, default_grid(acquisition))
    >>> applied(system.forward, torch.ones(1, *system.image_shape), system).shape
    torch.Size([1, 8, 4, 8])
    """
    _check_device(values, system)
    with _same_stream(system):
        return _tensor([work(_array(one, system)) for one in values], values, system)


def _check_device(tensor: Tensor, system: SystemModel) -> None:
    if tensor.device.type != system.device:
        raise InputError(
            f"the system is on {system.device!r}, the tensors lie on {tensor.device}: move them with "
            f".to({system.device!r})"
        )


def _same_stream(system: SystemModel) -> AbstractContextManager[Any]:
    """Context in which the system works on torch's current stream, so that neither waits for the other."""
    if system.device == "cpu":
        return nullcontext()
    stream: AbstractContextManager[Any] = system.xp.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)
    return stream


def _array(tensor: Tensor, system: SystemModel) -> Any:
    return system.xp.from_dlpack(tensor.detach())


def _tensor(arrays: list[Any], like: Tensor, system: SystemModel) -> Tensor:
    return torch.from_dlpack(system.xp.ascontiguousarray(system.xp.stack(arrays))).to(like)
