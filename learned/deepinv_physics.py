"""The system model as a physics of deepinv, for its reconstruction networks (an optional import)."""

from typing import Any

import torch
from torch import Tensor

from spectac.learned.projection_layer import applied
from spectac.recon.errors import InputError
from spectac.recon.system import SystemModel


def deepinv_physics(system: SystemModel, noise_model: Any = None) -> Any:
    """Physics of deepinv whose `A` is `system.forward` and whose `A_adjoint` is `system.adjoint`.

    Images are tensors (n, 1, z, y, x) in counts per second and mL, measurements (n, 1, v, z, u) in counts, without
    scatter. Both directions can be differentiated as often as wanted: the gradient of one is the other.

    Parameters
    ----------
    system
        System model, with its map.
    noise_model
        Of `deepinv.physics` [1]_; None: no noise.

    Returns
    -------
    deepinv.physics.LinearPhysics
        Physics.

    Raises
    ------
    InputError
        Where deepinv is missing. By the physics, for tensors that do not fit the system.

    References
    ----------
    .. [1] https://deepinv.github.io (tested with 0.5.0)

    Examples
    --------
    >>> physics = deepinv_physics(system)  # doctest: +SKIP
    """
    try:
        from deepinv.physics import LinearPhysics
    except ImportError:
        raise InputError("deepinv is missing: pip install deepinv (it brings torchvision)") from None

    # deepinv hands its own parameters on to every physics.
    def forward(image: Tensor, **_: Any) -> Tensor:
        return _Linear.apply(_one_channel(image, system.image_shape), system, False)[:, None]

    def adjoint(counts: Tensor, **_: Any) -> Tensor:
        return _Linear.apply(_one_channel(counts, system.projections_shape), system, True)[:, None]

    noise = {} if noise_model is None else {"noise_model": noise_model}
    return LinearPhysics(A=forward, A_adjoint=adjoint, img_size=(1, *system.image_shape), **noise)


def _one_channel(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tuple(tensor.shape[1:]) != (1, *shape):
        raise InputError(f"a tensor (n, 1, {', '.join(map(str, shape))}) is needed, got {tuple(tensor.shape)}")
    return tensor[:, 0]


class _Linear(torch.autograd.Function):
    """Projection, or its adjoint; the gradient of each is the other."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, system: SystemModel, adjoint: bool) -> Tensor:
        ctx.system, ctx.adjoint = system, adjoint
        return applied(system.adjoint if adjoint else system.forward, values, system)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Linear.apply(gradients[0], ctx.system, not ctx.adjoint), None, None
