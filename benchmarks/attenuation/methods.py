"""Methods of the attenuation study: the attenuation model of each, tuned coefficients and weights."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.attenuation.patients import Case
from spectac.recon import AttenuationModel, Chang, GivenMap, InputError, MuMap, NoAttenuation, Result, UniformMap
from spectac.recon.attenuation import Solver
from spectac.recon.resample import down_to, resample
from spectac.simulate.cohort.patient_arrays import correction

TUNED = ("chang best, true outline", "uniform tuned, data outline", "uniform tuned, true outline")
"""Methods with a uniform coefficient that tuning.py fits."""
HOLDERS = {f"predicted, holder {name}": name for name in ("file", "typical", "none")}
"""The predicted map with what lies beside the head; "predicted" is what a user gets who says nothing."""
UNLIMITED = "predicted, limits ignored"
LEARNED = ("predicted", *HOLDERS, UNLIMITED)
DIRECT, ORACLE = "direct", "direct, true factors"
CT, USUAL_BONE = "ct", "ct, usual bone density"
METHODS = (
    "none", "chang", TUNED[0], "uniform", *TUNED[1:], CT, USUAL_BONE, *LEARNED, DIRECT, ORACLE,
)  # fmt: skip
NUCLIDES = ("I-123", "Tc-99m")


@dataclass(frozen=True, eq=False)
class TrueFactors:
    """The uncorrected image times the patient's true factors: the best that image-to-image correction could reach.

    The factors are those that a cohort trains `direct` with: previews of the expected primary counts, with the true map
    over without it, on the preview's grid. Above and beside the preview's field, and where they are 0, they are 1.
    """

    case: Case
    name: str = ORACLE

    def correct(self, solver: Solver) -> Result:
        """Uncorrected reconstruction times the factors."""
        true = self.case.simulated_mu
        # A cohort's preview may end within the field; a map that ends there would spoil its last rows.
        grid = down_to(solver.preview().grid, solver.grid)
        mu = MuMap(resample(true.per_cm, true.grid, grid), grid, true.energy_kev)
        factors = correction(solver.study.acquisition, self.case.primary, mu)
        here = resample(np.where(factors > 0, factors, 1.0) - 1.0, grid, solver.grid) + np.float32(1.0)
        uncorrected = solver(None)
        return Result(replace(uncorrected, values=uncorrected.values * here), uncorrected=uncorrected)


@dataclass(frozen=True)
class Choice:
    """Tuned coefficients in 1/cm by (method, nuclide), and files of weights; None: the shipped ones, or no `direct`."""

    tuned: Mapping[tuple[str, str], float]
    weights: str | None = None
    direct_weights: str | None = None

    def coefficient(self, method: str, nuclide: str) -> float:
        """Tuned coefficient in 1/cm; InputError where this code and seed have none."""
        if (method, nuclide) not in self.tuned:
            raise InputError(
                f"{method}: no coefficient for {nuclide} was tuned with this code and seed: run with --tune first"
            )
        return self.tuned[method, nuclide]

    def settings(self, method: str, nuclide: str) -> str:
        """Coefficient or digest of the weights that a row depends on; InputError as `coefficient`."""
        if method in TUNED:
            return f"{self.coefficient(method, nuclide):g} /cm"
        if method in LEARNED:
            return _digest(self.map_weights)
        if method == DIRECT and self.direct_weights:
            return f"{_digest(Path(self.direct_weights))}, coverage of {_digest(self.map_weights)}"
        return ""

    @property
    def map_weights(self) -> Path:
        """Weights of the map network."""
        from spectac.learned.weights_file import shipped_weights

        return Path(self.weights) if self.weights else shipped_weights()

    def check(self, methods: Collection[str]) -> None:
        """InputError where a coefficient or weights that these methods need are missing or cannot be used."""
        for method in TUNED:
            for nuclide in NUCLIDES if method in methods else ():
                self.coefficient(method, nuclide)
        if not {*LEARNED, DIRECT} & {*methods}:
            return
        from spectac.learned.estimate import TrainedNetwork
        from spectac.learned.weights_file import read_weights

        TrainedNetwork.read(self.map_weights)
        if DIRECT in methods and self.direct_weights:
            target = read_weights(Path(self.direct_weights))[0].settings.target
            if target != "correction":
                raise InputError(f"{self.direct_weights}: gives a {target}, direct needs a correction")

    def fits(self, settings: str, method: str, nuclide: str) -> bool:
        """True where these settings of a row are those of this choice, as far as that can be told."""
        if method == DIRECT and not self.direct_weights:
            return True
        if method in TUNED and (method, nuclide) not in self.tuned:
            return False
        return settings == self.settings(method, nuclide)


def holder_of(method: str) -> str | None:
    """What the settings of a method tell of the holder: none, typical or file; None: nothing."""
    return "file" if method == UNLIMITED else HOLDERS.get(method)


def _digest(path: Path) -> str:
    return f"weights {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def model_of(method: str, case: Case, choice: Choice) -> AttenuationModel:
    """The attenuation model of a method for a patient."""
    nuclide = str(case.about["nuclide"])
    if method in TUNED:
        value = choice.coefficient(method, nuclide)
        outline = case.outline if "true outline" in method else None
        return Chang(value, outline) if method.startswith("chang") else UniformMap(value, outline)
    if method in LEARNED:
        # Its holder is the solver's (`holder_of`).
        from spectac.learned.predict import PredictedMap

        return PredictedMap(choice.weights, heed_limits=method != UNLIMITED)
    if method == DIRECT:
        from spectac.learned.direct import DirectCorrection
        from spectac.learned.estimate import TrainedNetwork

        return DirectCorrection(str(choice.direct_weights), TrainedNetwork.read(choice.map_weights).coverage)
    if method == ORACLE:
        return TrueFactors(case)
    if method == USUAL_BONE:
        if case.usual_bone_mu is None:
            raise InputError("the density of this head's bones is not known")
        return GivenMap(case.usual_bone_mu, method)
    plain = {"none": NoAttenuation, "chang": Chang, "uniform": UniformMap}
    if method == CT:
        return GivenMap(case.mu)
    if method not in plain:
        raise InputError(f"there is no method {method!r}")
    return plain[method]()
