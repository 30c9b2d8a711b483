"""What a device must be able to do for a SystemModel, and the choice among the devices that do."""

from typing import Any, Protocol

import numpy as np

from spectac.recon.kernels.cpu_projector import CpuProjector
from spectac.recon.kernels.view_tables import ViewTables
from spectac.recon.types import Array


class Projector(Protocol):
    """The projector on one device in one precision: images (y, x, z), projections (n, u, z) of the n views asked for.

    `factors` are the attenuation factors that it keeps, None where it keeps none.
    """

    @property
    def xp(self) -> Any:
        """Library of the arrays: numpy or cupy."""

    factors: Any

    def put(self, array: Array) -> Any:
        """A numpy array on the device, as it is."""

    def get(self, array: Any) -> Array:
        """An array of the device as numpy's."""

    def contiguous(self, array: Any) -> Any:
        """An array of the device, contiguous and in the projector's precision."""

    def with_mu(self, per_cm: Any) -> "Projector":
        """The same projector through another map (y, x, z) in 1/cm."""

    def forward(self, image: Any, views: Array) -> Any:
        """Expected counts (n, u, z)."""

    def adjoint(self, counts: Any, views: Array) -> Any:
        """Transpose of `forward`: an image."""

    def gradient_mu(self, image: Any, residual: Any, views: Array) -> Any:
        """Derivative (y, x, z) of sum(residual * forward(image)) to mu, per 1/cm."""

    def em_backprojection(self, image: Any, measured: Any, scatter: Any, views: Array) -> tuple[Any, Any]:
        """A^T(measured / (A image + scatter)), and the counts () measured where that expectation is 0."""

    def em_update(self, image: Any, backprojected: Any, inverse: Any) -> None:
        """Multiply an image in place by backprojected * inverse where inverse is positive; what is FAINT becomes 0."""


def projector(
    device: str, tables: ViewTables, dtype: np.dtype, factor_memory_bytes: int | None, half_factors: bool
) -> Projector:
    """Projector without a map on "cpu" or "cuda"."""
    if device == "cpu":
        return CpuProjector(tables, dtype, factor_memory_bytes)
    from spectac.recon.kernels.cuda_projector import CudaProjector, CupyEngine

    return CudaProjector(tables, dtype, factor_memory_bytes, half_factors=half_factors, engine=CupyEngine())
