"""The system model as a layer of torch: projections of an activity through a map, with gradients to both."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spectac.recon.errors import InputError
from spectac.recon.system import SystemModel


def project(activity: Tensor, mu_per_cm: Tensor, system: SystemModel) -> Tensor:
    """Projections (n, v, z, u) of activities (n, z, y, x) in counts per second and mL, through maps in 1/cm.

    `system` gives geometry, blur and precision; a map of its own is replaced. The gradient to the activity is the exact
    adjoint, that to the map `SystemModel.gradient_mu`; second derivatives are refused.
    Tensors and system share the memory, and on a GPU, the current one, torch's stream.
    Raises InputError where the tensors do not fit the system or each other, or lie on another device than the system.
    """
    if activity.shape != mu_per_cm.shape or tuple(activity.shape[1:]) != system.image_shape:
        raise InputError(
            f"activity and map need the shape (n, {', '.join(map(str, system.image_shape))}), "
            f"got {tuple(activity.shape)} and {tuple(mu_per_cm.shape)}"
        )
    for tensor in (activity, mu_per_cm):
        if tensor.device.type != system.device:
            raise InputError(
                f"the system is on {system.device!r}, the tensors lie on {tensor.device}: move them with "
                f".to({system.device!r})"
            )
    return cast(Tensor, _Project.apply(activity, mu_per_cm, system))


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activity: Tensor, mu_per_cm: Tensor, system: SystemModel) -> Tensor:
        ctx.system = system
        with _same_stream(system):
            ctx.systems = [system.with_mu(_array(one, system)) for one in mu_per_cm]
            ctx.save_for_backward(activity)
            counts = [own.forward(_array(one, system)) for own, one in zip(ctx.systems, activity, strict=True)]
            return _tensor(counts, activity, system)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (activity,) = ctx.saved_tensors
        to_activity = to_mu = None
        with _same_stream(ctx.system):
            residuals = [_array(one, ctx.system) for one in gradients[0]]
            if ctx.needs_input_grad[0]:
                parts = [own.adjoint(one) for own, one in zip(ctx.systems, residuals, strict=True)]
                to_activity = _tensor(parts, activity, ctx.system)
            if ctx.needs_input_grad[1]:
                parts = [
                    own.gradient_mu(_array(image, ctx.system), one)
                    for own, image, one in zip(ctx.systems, activity, residuals, strict=True)
                ]
                to_mu = _tensor(parts, activity, ctx.system)
        return to_activity, to_mu, None


def _same_stream(system: SystemModel) -> AbstractContextManager[Any]:
    """The system's work goes to torch's current stream, so that neither waits for the other."""
    if system.device == "cpu":
        return nullcontext()
    stream: AbstractContextManager[Any] = system.xp.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)
    return stream


def _array(tensor: Tensor, system: SystemModel) -> Any:
    return system.xp.from_dlpack(tensor.detach())


def _tensor(arrays: list[Any], like: Tensor, system: SystemModel) -> Tensor:
    return torch.from_dlpack(system.xp.ascontiguousarray(system.xp.stack(arrays))).to(like)
