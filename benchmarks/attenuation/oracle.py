"""The most that image-to-image correction could reach: the true factors in place of a network's."""

from dataclasses import dataclass, replace

import numpy as np
from benchmarks.attenuation.patients import Case

from spectac.recon import MuMap, Result
from spectac.recon.attenuation import Solver
from spectac.recon.resample import down_to, resample
from spectac.simulate.cohort.patient_arrays import correction


@dataclass(frozen=True, eq=False)
class TrueFactors:
    """The uncorrected image times the factors that "direct" was trained to give, of the patient's own truth.

    They are made as a cohort's: previews of the expected primary with the true map over without it, on the preview's
    grid; 1 where they are 0. Applied as learned.direct applies a network's.
    """

    case: Case
    name: str = "direct, true factors"

    def correct(self, solver: Solver) -> Result:
        """Uncorrected reconstruction times the factors; above and beside the preview's field they are 1."""
        true = self.case.simulated_mu
        # A cohort's preview may end within the field; a map that ends there would spoil its last rows.
        grid = down_to(solver.preview().grid, solver.grid)
        mu = MuMap(resample(true.per_cm, true.grid, grid), grid, true.energy_kev)
        factors = correction(solver.study.acquisition, self.case.primary, mu)
        here = resample(np.where(factors > 0, factors, 1.0) - 1.0, grid, solver.grid) + np.float32(1.0)
        uncorrected = solver(None)
        return Result(replace(uncorrected, values=uncorrected.values * here), uncorrected=uncorrected)
