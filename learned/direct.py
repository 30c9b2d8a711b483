"""Image-to-image correction, the classical way of AI in this field: a baseline for benchmarks, no attenuation model.

The network sees the same previews and gives the factor by which attenuation correction multiplies the uncorrected
image; no map is made, and nothing goes back into a reconstruction. Compare: learned.predict.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spectac.learned.coverage import Coverage
from spectac.learned.estimate import passes, previews
from spectac.learned.weights_file import read_weights
from spectac.recon.attenuation import Solver
from spectac.recon.errors import InputError
from spectac.recon.resample import on_field
from spectac.recon.types import Result
from spectac.simulate.cohort.patient_arrays import LEAST_SHARE

BIASED_ROWS = 2
"""At a preview's lower end, within its blur of 6 mm and half a voxel of the resampling."""


@dataclass(frozen=True, eq=False)
class DirectCorrection:
    """The uncorrected image times a predicted factor; `weights` of a network trained with target "correction".

    Of the windows it sees those that `coverage` knows (None: any).
    """

    weights: str
    coverage: Coverage | None = None
    name: str = "direct"

    def correct(self, solver: Solver) -> Result:
        """Uncorrected reconstruction times the network's factors; in air they are 1."""
        network, _ = read_weights(Path(self.weights))
        if network.settings.target != "correction":
            raise InputError(f"{self.weights}: gives a {network.settings.target}, not a correction")
        image = solver.preview()
        factors = passes(network, previews(solver, self.coverage), solver.energy_kev).mean(axis=0)
        # Rows whose true factors were those of a map that ended there.
        factors[:BIASED_ROWS] = factors[BIASED_ROWS]
        # In air training asked for nothing.
        factors = np.where(image.values > LEAST_SHARE * image.values.max(), factors, np.float32(1.0))
        here = on_field(factors - 1.0, image.grid, solver.grid) + np.float32(1.0)
        uncorrected = solver(None)
        return Result(replace(uncorrected, values=uncorrected.values * here), uncorrected=uncorrected)
