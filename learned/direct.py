"""Image-to-image correction, the classical way of AI in this field: a baseline for benchmarks, no attenuation model.

The network sees the same previews and gives the factor by which attenuation correction multiplies the uncorrected
image; no map is made, and nothing goes back into a reconstruction. Compare: learned.predict.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spectac.learned.estimate import on_field, passes, previews
from spectac.learned.weights_file import read_weights
from spectac.recon.attenuation import Solver
from spectac.recon.errors import InputError
from spectac.recon.types import Result


@dataclass(frozen=True, eq=False)
class DirectCorrection:
    """The uncorrected image times a predicted factor; `weights` of a network trained with target "correction"."""

    weights: str
    name: str = "direct"

    def correct(self, solver: Solver) -> Result:
        """Uncorrected reconstruction times the network's factors; above and beside the preview's field they are 1."""
        network, _ = read_weights(Path(self.weights))
        if network.settings.target != "correction":
            raise InputError(f"{self.weights}: gives a {network.settings.target}, not a correction")
        factors = passes(network, previews(solver), solver.energy_kev).mean(axis=0)
        here = on_field(factors - 1.0, solver.preview().grid, solver.grid) + np.float32(1.0)
        uncorrected = solver(None)
        image = replace(uncorrected, values=uncorrected.values * here)
        return Result(image, uncorrected=uncorrected)
