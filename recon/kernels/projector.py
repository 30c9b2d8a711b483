"""The projectors of the devices, and the choice among them.

A projector computes on one device in one precision. Images are (y, x, z), projections (n, u, z) of the n views asked
for. `CpuProjector` and `CudaProjector` have the same methods.
"""

from typing import TYPE_CHECKING, Union

import numpy as np

from spectac.recon.kernels.cpu_projector import CpuProjector
from spectac.recon.kernels.view_tables import ViewTables

if TYPE_CHECKING:
    from spectac.recon.kernels.cuda_projector import CudaProjector

Projector = Union[CpuProjector, "CudaProjector"]


def projector(
    device: str, tables: ViewTables, dtype: np.dtype, factor_memory_bytes: int | None, half_factors: bool
) -> Projector:
    """Projector without a map.

    Parameters
    ----------
    device
        "cpu" or "cuda".
    tables
        Lattice and blur of every view.
    dtype
        float32 or float64.
    factor_memory_bytes
        Memory for attenuation factors; None: the device's default.
    half_factors
        Keep factors of float32 in half precision on a GPU.

    Returns
    -------
    Projector
        Projector of the device.

    Examples
    --------
    >>> from spectac.recon import Acquisition, SystemModel, default_grid
    >>> acquisition = Acquisition([0.0], [150.0], (1, 4), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> system = SystemModel(acquisition, default_grid(acquisition), resolution=False, device="cpu")
    """
    if device == "cpu":
        return CpuProjector(tables, dtype, factor_memory_bytes)
    from spectac.recon.kernels.cuda_projector import CudaProjector, CupyEngine

    return CudaProjector(tables, dtype, factor_memory_bytes, half_factors=half_factors, engine=CupyEngine())
