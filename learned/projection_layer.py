"""The system model as a layer of torch: projections of an activity through a map, with gradients to both."""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from spectac.recon.errors import InputError
from spectac.recon.system import SystemModel


def project(activity: Tensor, mu_per_cm: Tensor, system: SystemModel) -> Tensor:
    """Projections (n, v, z, u) of activities (n, z, y, x) in counts per second and mL, through maps in 1/cm.

    `system` gives geometry, blur and precision; a map of its own is replaced. The gradient to the activity is the exact
    adjoint, that to the map `SystemModel.gradient_mu`; second derivatives are not known to torch (it takes them for 0).
    Raises InputError where the tensors do not fit the system or each other, or lie on a GPU.
    Assumes: a system on the CPU.
    """
    if activity.shape != mu_per_cm.shape or tuple(activity.shape[1:]) != system.image_shape:
        raise InputError(
            f"activity and map need the shape (n, {', '.join(map(str, system.image_shape))}), "
            f"got {tuple(activity.shape)} and {tuple(mu_per_cm.shape)}"
        )
    if activity.device.type != "cpu" or mu_per_cm.device.type != "cpu":
        raise InputError(f"the projector works on the CPU, the tensors lie on {activity.device}: move them with .cpu()")
    return cast(Tensor, _Project.apply(activity, mu_per_cm, system))


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activity: Tensor, mu_per_cm: Tensor, system: SystemModel) -> Tensor:
        ctx.systems = [system.with_mu(_array(one)) for one in mu_per_cm]
        ctx.save_for_backward(activity)
        counts = [own.forward(_array(one)) for own, one in zip(ctx.systems, activity, strict=True)]
        return _tensor(np.stack(counts), activity)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (activity,) = ctx.saved_tensors
        residuals = [_array(one) for one in gradients[0]]
        to_activity = to_mu = None
        if ctx.needs_input_grad[0]:
            parts = [own.adjoint(one) for own, one in zip(ctx.systems, residuals, strict=True)]
            to_activity = _tensor(np.stack(parts), activity)
        if ctx.needs_input_grad[1]:
            parts = [
                own.gradient_mu(_array(image), one)
                for own, image, one in zip(ctx.systems, activity, residuals, strict=True)
            ]
            to_mu = _tensor(np.stack(parts), activity)
        return to_activity, to_mu, None


def _array(tensor: Tensor) -> Any:
    return tensor.detach().numpy()


def _tensor(array: Any, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(like)
