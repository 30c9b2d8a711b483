"""The attenuation model `predicted`: a map estimated from the SPECT data alone, put into the reconstruction."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spectac.learned.doubts import input_doubts, map_doubts
from spectac.learned.estimate import TrainedNetwork, estimate_map, scatter_window, shipped_weights
from spectac.learned.refine import refined
from spectac.recon.attenuation import NARROW_BEAM, Solver, uniform_map
from spectac.recon.errors import InputError
from spectac.recon.orbit_check import check_map_radius
from spectac.recon.resample import on_field
from spectac.recon.types import MuMap, Result


@dataclass(frozen=True, eq=False)
class PredictedMap:
    """The map that a network estimates from uncorrected previews of the photopeak and the scatter window.

    `weights` a safetensors file (None: those that come with spectac); `rounds` above 1 repeat the estimate with the
    corrected image, where training covered that; `refine` fits scale, skull and outline to the projections. Where the
    study lies outside of what training covered, or the passes of the network disagree, the uniform map is used and the
    notes say why; without `fallback` that raises InputError. Benchmarks alone do not `heed_limits`: the map is then
    used as long as there can be one.
    """

    weights: str | None = None
    rounds: int = 1
    refine: bool = False
    fallback: bool = True
    heed_limits: bool = True
    name: str = "predicted"

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"at least 1 round is needed, not {self.rounds}")

    def correct(self, solver: Solver) -> Result:
        """Reconstruction with the estimated map in the projector, or with the uniform map and the reason."""
        mu, spread, notes = self.estimate(solver)
        if spread is not None and not solver.scatter_corrected:
            notes = (*notes, NARROW_BEAM)
        fallback = "uniform" if spread is None else None
        return Result(solver(mu), mu=mu, mu_spread=spread, fallback=fallback, notes=notes)

    def estimate(self, solver: Solver) -> tuple[MuMap, MuMap | None, tuple[str, ...]]:
        """Map on the solver's grid, its standard deviation between passes (None: the uniform map), and notes.

        Raises InputError where the network cannot be trusted with the study and there is to be no fallback.
        """
        trained = TrainedNetwork.read(shipped_weights() if self.weights is None else Path(self.weights))
        if self.rounds > trained.rounds:
            raise InputError(f"these weights were trained for at most {trained.rounds} rounds, not {self.rounds}")
        acquisition = solver.study.acquisition
        side = scatter_window(solver, trained.coverage)
        photopeak, scatter = solver.preview(), None if side is None else solver.preview(solver.study.windows[side].name)
        doubts = input_doubts(solver, photopeak, scatter, trained.coverage) if self.heed_limits else ()
        if not doubts:
            try:
                found = estimate_map(solver, trained, self.rounds)
                mu = _on_field(found.mu, solver)
                check_map_radius(acquisition, mu, "the predicted map")
                if self.heed_limits:
                    doubts = map_doubts(photopeak, scatter, found.mu, found.uncertainty, trained.coverage)
            except InputError as error:  # a map that reaches through the collimator, in the last or an earlier round
                doubts = (str(error),)
        if doubts:
            reasons = "; ".join(doubts)
            if not self.fallback:
                raise InputError(f"no map can be predicted for this study: {reasons}; choose another --attenuation")
            try:
                uniform, notes = uniform_map(solver, None, None)
                check_map_radius(acquisition, uniform, "the uniform map")
            except InputError as error:
                raise InputError(
                    f"no map can be predicted for this study: {reasons}; nor can a uniform one be used: {error}"
                ) from None
            return uniform, None, (f"no map could be predicted, the uniform map was used: {reasons}", *notes)
        notes = (
            f"predicted map: uncertainty {100.0 * found.uncertainty:.2f} % "
            f"(limit {100.0 * trained.coverage.uncertainty:.2f} %), rounds: {self.rounds}",
        )
        unused = scatter_window(solver)
        if side != unused and unused is not None:
            name = solver.study.windows[unused].name
            notes = (
                *notes,
                f"window {name} was not used for the map: training had none of its energies or so few counts",
            )
        if self.refine:
            try:
                better, more = refined(solver, found.mu)
                fine = _on_field(better, solver)
                check_map_radius(acquisition, fine, "the refined map")
                mu, notes = fine, (*notes, *more)
            except InputError as error:
                notes = (*notes, f"the map was not refined: {error}")
        spread = MuMap(found.spread_per_cm, found.mu.grid, solver.energy_kev)
        return mu, _on_field(spread, solver), notes


def _on_field(mu: MuMap, solver: Solver) -> MuMap:
    return MuMap(on_field(mu.per_cm, mu.grid, solver.grid), solver.grid, mu.energy_kev)


def build_predicted(options: Mapping[str, str]) -> PredictedMap:
    """Build `predicted` with the options weights (file), rounds, refine and fallback (yes or no)."""
    known = ("weights", "rounds", "refine", "fallback")
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(
            f"attenuation predicted does not know the option {', '.join(unknown)}; its options: {', '.join(known)}"
        )
    answers = {"refine": options.get("refine", "no").lower(), "fallback": options.get("fallback", "yes").lower()}
    for key, answer in answers.items():
        if answer not in ("yes", "no"):
            raise InputError(f"attenuation predicted: option {key} needs yes or no, not {options[key]!r}")
    rounds = options.get("rounds", "1")
    if not rounds.isdigit():
        raise InputError(f"attenuation predicted: option rounds needs a whole number, not {rounds!r}")
    return PredictedMap(
        options.get("weights"), int(rounds), refine=answers["refine"] == "yes", fallback=answers["fallback"] == "yes"
    )
