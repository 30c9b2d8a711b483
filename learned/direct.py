"""Image-to-image correction by a network: a baseline for benchmarks, the usual approach in the literature.

The network sees the same previews as that of learned.predict. Its output is the factor by which attenuation correction
multiplies the uncorrected image: there is no map, and no second reconstruction.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spectac.learned.coverage import Coverage
from spectac.learned.estimate import network_input, passes
from spectac.learned.weights_file import read_weights
from spectac.recon.attenuation import Solver
from spectac.recon.errors import InputError
from spectac.recon.resample import on_field
from spectac.recon.types import Result
from spectac.simulate.cohort.patient_arrays import LEAST_SHARE

BIASED_ROWS = 2
"""Rows at the lower end of a preview within its blur of 6 mm and half a voxel of the resampling. Their true factors
were those of a map that ended there."""


@dataclass(frozen=True, eq=False)
class DirectCorrection:
    """Attenuation model with the uncorrected image times predicted factors.

    Parameters
    ----------
    weights
        Safetensors file of a network with target "correction".
    coverage
        Limits of the scatter window, see `estimate.scatter_window`; None: no limit.
    name
        Name of the model.

    Examples
    --------
    >>> DirectCorrection("runs/correction/weights.safetensors").name
    'direct'
    """

    weights: str
    coverage: Coverage | None = None
    name: str = "direct"

    def correct(self, solver: Solver) -> Result:
        """Uncorrected reconstruction times the network's factors, which are 1 in air.

        Parameters
        ----------
        solver
            Solver of the study.

        Raises
        ------
        InputError
            If the weights cannot be read or are those of a map.
        """
        network, _ = read_weights(Path(self.weights))
        if network.settings.target != "correction":
            raise InputError(f"{self.weights}: gives a {network.settings.target}, not a correction")
        image = solver.preview()
        factors = passes(network, network_input(solver, self.coverage), solver.energy_kev).mean(axis=0)
        factors[:BIASED_ROWS] = factors[BIASED_ROWS]
        # The training loss leaves out the air.
        factors = np.where(image.values > LEAST_SHARE * image.values.max(), factors, np.float32(1.0))
        here = on_field(factors - 1.0, image.grid, solver.grid) + np.float32(1.0)
        uncorrected = solver(None)
        return Result(replace(uncorrected, values=uncorrected.values * here), uncorrected=uncorrected)
