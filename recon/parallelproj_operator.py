"""SystemModel as a linear operator of parallelproj 2.x, for its algorithms and functions (an optional import)."""

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.system import SystemModel
from spectac.recon.types import Array

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def as_linear_operator(system: SystemModel) -> Any:
    """Operator of parallelproj whose `apply` is `system.forward` and whose `adjoint` is `system.adjoint`.

    It is a `parallelproj.operators.LinearOperator` with in_shape (z, y, x), out_shape (v, z, u), `xp` and `dev`; the
    wrapped model is its `system` [1]_. Results are new C-contiguous arrays of the dtype of the argument, and the
    arithmetic follows that dtype. For the dtype that `system` does not have, `system.astype` builds a second model at
    its first use, which stays as long as `system`. parallelproj's `norm` and, by default, `adjointness_test` pass
    float64, in which the attenuation factors take twice the memory. Subsets are operators of their own:
    `[as_linear_operator(system.subset(views)) for views in ...]`.

    Parameters
    ----------
    system
        System model.

    Returns
    -------
    LinearOperator
        Operator. It raises InputError for arrays that are not of the system's device, not float32 or float64, or have
        the wrong shape.

    Raises
    ------
    ImportError
        Where parallelproj is missing.

    References
    ----------
    .. [1] Schramm and Thielemans, Front Nucl Med 2024;3:1324562, doi:10.3389/fnume.2023.1324562.

    Examples
    --------
    >>> operator = as_linear_operator(system)  # doctest: +SKIP
    """
    return operator_class()(system)


@cache
def operator_class() -> type:
    """Class of the operators, made when parallelproj is first needed.

    Returns
    -------
    type
        Subclass of parallelproj's LinearOperator.

    Raises
    ------
    ImportError
        Where parallelproj is missing.

    Examples
    --------
    >>> operator_class()  # doctest: +SKIP
    """
    try:
        from parallelproj.operators import LinearOperator
    except ImportError as error:
        raise ImportError(
            "as_linear_operator needs parallelproj 2, which is on conda-forge only: "
            "conda install -c conda-forge 'parallelproj>=2.0'"
        ) from error

    class SystemOperator(LinearOperator):
        """A SystemModel behind parallelproj's interface."""

        def __init__(self, system: SystemModel) -> None:
            super().__init__()
            self.system = system

        @property
        def in_shape(self) -> tuple[int, ...]:
            """Shape (z, y, x) of images."""
            return self.system.image_shape

        @property
        def out_shape(self) -> tuple[int, ...]:
            """Shape (v, z, u) of projections."""
            return self.system.projections_shape

        @property
        def xp(self) -> ModuleType:
            """Array library of arguments and results: numpy or cupy, which follow the array API standard."""
            return self.system.xp

        @property
        def dev(self) -> str:
            """Device of arguments and results."""
            return self.system.device

        def _apply(self, x: Array) -> Array:
            return self.xp.ascontiguousarray(_matching(self.system, x).forward(x))

        def _adjoint(self, y: Array) -> Array:
            return self.xp.ascontiguousarray(_matching(self.system, y).adjoint(y))

    return SystemOperator


def _matching(system: SystemModel, array: Array) -> SystemModel:
    """System in the precision of the array."""
    if not isinstance(array, system.xp.ndarray):
        raise InputError(
            f"the operator needs a {system.xp.__name__} array for device {system.device!r}, got {type(array).__name__}"
        )
    if array.dtype not in _DTYPES:
        raise InputError(
            f"the operator needs an array of float32 or float64, got {array.dtype}: convert it with astype"
        )
    return system.astype(array.dtype)
