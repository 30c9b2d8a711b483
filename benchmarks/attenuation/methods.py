"""The methods of the attenuation benchmark: their models, and the solver that they share on a study."""

import hashlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.attenuation.oracle import TrueFactors
from benchmarks.attenuation.patients import Case

from spectac.recon import AttenuationModel, Chang, GivenMap, Image, InputError, MuMap, NoAttenuation, UniformMap
from spectac.recon.pipeline import Settings, StudySolver
from spectac.recon.scatter import projections

TUNED = ("chang best, true outline", "uniform tuned, data outline", "uniform tuned, true outline")
UNLIMITED = "predicted, limits ignored"
LEARNED = ("predicted", "predicted 2 rounds", "predicted refined", UNLIMITED)
ORACLE, USUAL_BONE = "direct, true factors", "ct, usual bone density"
NUCLIDES = ("I-123", "Tc-99m")
METHODS = ("none", "chang", TUNED[0], "uniform", *TUNED[1:], "ct", USUAL_BONE, *LEARNED, "direct", ORACLE)


class SharingSolver(StudySolver):
    """The solver of one study for all methods: the uncorrected image and previews without a map are made once.

    `borrowed_s` sums the seconds that making them took where a method uses what another one made, each once a method.
    """

    def __init__(self, case: Case) -> None:
        super().__init__(case.study, projections(case.study, "auto"), Settings())
        self._kept: dict[str, tuple[Image, float]] = {}
        self._charged: set[str] = set()
        self.borrowed_s = 0.0

    def begin_method(self) -> None:
        """Charge the next method anew."""
        self._charged.clear()
        self.borrowed_s = 0.0

    def __call__(self, mu: MuMap | None) -> Image:
        """As of StudySolver."""
        ask = super().__call__
        return ask(mu) if mu is not None else self._once("uncorrected", lambda: ask(None))

    def preview(self, window: str | None = None, mu: MuMap | None = None) -> Image:
        """As of StudySolver."""
        ask = super().preview
        return ask(window, mu) if mu is not None else self._once(f"preview {window}", lambda: ask(window))

    def _once(self, name: str, make: Callable[[], Image]) -> Image:
        if name not in self._kept:
            began = time.perf_counter()
            image = make()
            self._kept[name] = image, time.perf_counter() - began
        elif name not in self._charged:
            self.borrowed_s += self._kept[name][1]
        self._charged.add(name)
        return self._kept[name][0]


@dataclass(frozen=True)
class Choice:
    """What was chosen on the command line or by tuning: coefficients by (method, nuclide), weights."""

    tuned: Mapping[tuple[str, str], float]
    weights: str | None = None
    direct_weights: str | None = None

    def coefficient(self, method: str, nuclide: str) -> float:
        """Tuned coefficient in 1/cm; InputError where there is none of this code and seed."""
        if (method, nuclide) not in self.tuned:
            raise InputError(
                f"{method}: no coefficient for {nuclide} was tuned with this code and seed: run with --tune first"
            )
        return self.tuned[method, nuclide]

    def settings(self, method: str, nuclide: str) -> str:
        """What a row depends on beside patient and code; InputError as `coefficient`."""
        if method in TUNED:
            return f"{self.coefficient(method, nuclide):g} /cm"
        if method in LEARNED:
            return _digest(self.map_weights)
        if method == "direct" and self.direct_weights:
            return f"{_digest(Path(self.direct_weights))}, coverage of {_digest(self.map_weights)}"
        return ""

    @property
    def map_weights(self) -> Path:
        """Weights of the map network."""
        from spectac.learned.estimate import shipped_weights

        return Path(self.weights) if self.weights else shipped_weights()

    def check(self, methods: Collection[str]) -> None:
        """InputError where a coefficient or weights that these methods need are missing or cannot be used."""
        for method in TUNED:
            for nuclide in NUCLIDES if method in methods else ():
                self.coefficient(method, nuclide)
        if not {*LEARNED, "direct"} & {*methods}:
            return
        from spectac.learned.estimate import TrainedNetwork
        from spectac.learned.weights_file import read_weights

        rounds = TrainedNetwork.read(self.map_weights).rounds
        if rounds < 2 and "predicted 2 rounds" in methods:
            raise InputError(f"{self.map_weights}: trained for 1 round: leave out the method predicted 2 rounds")
        if "direct" in methods and self.direct_weights:
            target = read_weights(Path(self.direct_weights))[0].settings.target
            if target != "correction":
                raise InputError(f"{self.direct_weights}: gives a {target}, direct needs a correction")

    def made(self, settings: str, method: str, nuclide: str) -> bool:
        """True where a row with these settings was made with what is chosen, as far as that is known."""
        if method == "direct" and not self.direct_weights:
            return True
        if method in TUNED and (method, nuclide) not in self.tuned:
            return False
        return settings == self.settings(method, nuclide)


def _digest(path: Path) -> str:
    return f"weights {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def model_of(method: str, case: Case, choice: Choice) -> AttenuationModel:
    """The attenuation model of a method for a case."""
    nuclide = str(case.about["nuclide"])
    if method in TUNED:
        value = choice.coefficient(method, nuclide)
        outline = case.outline if "true outline" in method else None
        return Chang(value, outline) if method.startswith("chang") else UniformMap(value, outline)
    if method in LEARNED:
        from spectac.learned.predict import PredictedMap

        rounds, refine = 2 if "2 rounds" in method else 1, "refined" in method
        return PredictedMap(choice.weights, rounds=rounds, refine=refine, heed_limits=method != UNLIMITED)
    if method == "direct":
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
    return GivenMap(case.mu) if method == "ct" else plain[method]()
