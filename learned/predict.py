"""Attenuation model `predicted`: a map estimated from the SPECT data alone, put into the reconstruction."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import label

from spectac.learned.doubts import CONFIRMED_FACTOR, input_doubts, map_doubts
from spectac.learned.estimate import TrainedNetwork, estimate_map, scatter_window
from spectac.learned.weights_file import shipped_weights
from spectac.recon.attenuation import NARROW_BEAM, Solver, chang_factors, default_mu_per_cm, uniform_map
from spectac.recon.errors import InputError
from spectac.recon.held_head import HeldHead
from spectac.recon.orbit_check import BODY_PER_CM, check_map_radius
from spectac.recon.resample import on_field
from spectac.recon.types import Array, Image, MuMap, Result

USUAL_HOLDER = "fitted"
"""What a head is taken to lie in where the settings do not tell."""

CORRECTION_SD = 0.3
"""Error of a correction by the counts as a share of it. Of nine corrected virtual heads beyond training the factors had
been 16 to 28 % too low; the errors that were left are 0.33 of the correction, root mean square of logarithms
(benchmarks/results/counts_check.csv)."""


@dataclass(frozen=True, eq=False)
class PredictedMap:
    """Attenuation model with the map that a network estimates from previews of photopeak and scatter window.

    The uniform map replaces it where the study lies outside of the training data, or the map has a fault. The notes
    then say why, and the result has no `mu_spread`.

    Parameters
    ----------
    weights
        Safetensors file; None: the weights that come with spectac.
    fallback
        False: InputError instead of the uniform map.
    heed_limits
        False, for benchmarks: the network's map is used wherever it clears the collimator.
    name
        Name of the model.

    Examples
    --------
    >>> PredictedMap(fallback=False).name
    'predicted'
    """

    weights: str | None = None
    fallback: bool = True
    heed_limits: bool = True
    name: str = "predicted"

    def correct(self, solver: Solver) -> Result:
        """Reconstruction with the predicted map, or with the uniform map.

        Parameters
        ----------
        solver
            Solver of the study.

        Returns
        -------
        Result
            `mu_spread` is None where the uniform map was used.

        Raises
        ------
        InputError
            As `estimate`.
        """
        mu, spread, notes = self.estimate(solver)
        if spread is None:
            return Result(solver(mu), mu=mu, fallback="uniform", notes=notes)
        if not solver.scatter_corrected:
            notes = (*notes, NARROW_BEAM)
        image = solver(mu)
        relative = Image(spread.relative, solver.grid, "relative")
        return Result(image, mu=mu, mu_spread=spread.mu, spread=relative, notes=notes)

    def estimate(self, solver: Solver) -> tuple[MuMap, "Spread | None", tuple[str, ...]]:
        """Map of a study: the network's, or the uniform map where the network's must not be used.

        Parameters
        ----------
        solver
            Solver of the study.

        Returns
        -------
        mu
            Map on the solver's grid.
        spread
            How unsure the map is, on that grid; None for the uniform map.
        notes
            What the user should know.

        Raises
        ------
        InputError
            If the weights cannot be read. If the network's map must not be used, without `fallback` or where no uniform
            map can be made either.
        """
        trained = TrainedNetwork.read(shipped_weights() if self.weights is None else Path(self.weights))
        side = scatter_window(solver, trained.coverage)
        photopeak, scatter = solver.preview(), None if side is None else solver.preview(solver.study.windows[side].name)
        doubts = input_doubts(solver, photopeak, scatter, trained.coverage) if self.heed_limits else ()
        if not doubts:
            try:
                estimate = estimate_map(solver, trained)
                head = without_specks(_on_field(estimate.mu, solver))
                check_map_radius(solver.study.acquisition, head, "the predicted map")
                held, unchecked = _checked(solver, head)
                skull = None if held is None else held.skull
                if self.heed_limits:
                    seen, unsure = (photopeak, scatter, estimate.mu), estimate.uncertainty
                    confirmed = skull is not None and skull.confirmed
                    doubts = map_doubts(*seen, unsure, trained.coverage, confirmed=confirmed)
                    if skull is not None and skull.contradicted:
                        asked = f"{skull.fit.more:+.0%} +- {skull.fit.sd:.0%}"
                        doubts += (f"the counts contradict the predicted map: they ask for {asked} in its skull",)
            except InputError as error:
                doubts = (str(error),)
        if doubts:
            return self._uniform(solver, doubts)
        mu = solver.beside(head, USUAL_HOLDER, head_alone=True) if held is None else solver.taken(held)
        wider = CONFIRMED_FACTOR if skull is not None and skull.confirmed else 1.0
        percent, limit = 100.0 * estimate.uncertainty, 100.0 * wider * trained.coverage.uncertainty
        notes = [f"predicted map: uncertainty {percent:.2f} % (limit {limit:.2f} %)", *unchecked]
        widest = scatter_window(solver)
        if widest is not None and widest != side:
            name = solver.study.windows[widest].name
            notes.append(f"window {name} was not used for the map: training had none of its energies or so few counts")
        grid = estimate.mu.grid
        of_map = _on_field(MuMap(estimate.spread_per_cm, grid, solver.energy_kev), solver)
        spread = Spread(of_map, on_field(estimate.image_spread, grid, solver.grid))
        if skull is not None and skull.fit.added:
            spread = _wider(spread, head, skull.head, solver)
        return mu, spread, tuple(notes)

    def _uniform(self, solver: Solver, doubts: tuple[str, ...]) -> tuple[MuMap, None, tuple[str, ...]]:
        """Uniform map with the reasons; InputError without fallback or where there can be none."""
        reasons = "; ".join(doubts)
        if not self.fallback:
            raise InputError(f"no map can be predicted for this study: {reasons}; choose another --attenuation")
        try:
            value = default_mu_per_cm(solver.energy_kev, solver.scatter_corrected, with_skull=True)
            mu, notes = uniform_map(solver, value, None)
            check_map_radius(solver.study.acquisition, mu, "the uniform map")
        except InputError as error:
            raise InputError(
                f"no map can be predicted for this study: {reasons}; nor can a uniform one be used: {error}"
            ) from None
        return mu, None, (f"no map could be predicted, the uniform map was used: {reasons}", *notes)


@dataclass(frozen=True, eq=False)
class Spread:
    """How unsure an estimated map is: `estimate.Estimate`'s half-widths on the grid of the reconstruction.

    Parameters
    ----------
    mu
        Half-width in 1/cm of the map's voxels.
    relative
        Half-width (z, y, x) of the image's regional means by the map's error, relative.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((1, 1, 1), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> Spread(MuMap(np.full(grid.shape, 0.01), grid, 140.5), np.zeros(grid.shape)).relative.shape
    (1, 1, 1)
    """

    mu: MuMap
    relative: Array


def _checked(solver: Solver, head: MuMap) -> tuple[HeldHead | None, tuple[str, ...]]:
    """The head after the check by the counts; None, with a note, where they cannot tell."""
    try:
        return solver.checked(head, USUAL_HOLDER), ()
    except InputError as error:
        return None, (f"the skull was not checked by the counts: {error}",)


def _wider(spread: Spread, before: MuMap, after: MuMap, solver: Solver) -> Spread:
    """Spread of a map whose skull was corrected by the counts."""
    more = CORRECTION_SD * np.abs(after.per_cm - before.per_cm)
    factors = [chang_factors(solver.study.acquisition, mu) for mu in (before, after)]
    relative = np.hypot(spread.relative, CORRECTION_SD * np.log(factors[1] / factors[0]))
    return Spread(replace(spread.mu, per_cm=np.hypot(spread.mu.per_cm, more)), np.asarray(relative, np.float32))


def _on_field(mu: MuMap, solver: Solver) -> MuMap:
    return MuMap(on_field(mu.per_cm, mu.grid, solver.grid), solver.grid, mu.energy_kev)


SPECK_ML = 20.0
"""Smaller bodies that touch no larger one are specks."""


def without_specks(mu: MuMap) -> MuMap:
    """Map without the small bodies that lie apart in the air, which no patient has.

    Parameters
    ----------
    mu
        Map.

    Returns
    -------
    MuMap
        The same map, 0 in bodies of less than SPECK_ML.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((10, 20, 20), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> per_cm = np.zeros(grid.shape)
    >>> per_cm[:, 4:14, 4:14], per_cm[2:4, 17:19, 17:19] = 0.15, 0.1
    >>> float(without_specks(MuMap(per_cm, grid, 140.5)).per_cm[:, 15:, 15:].max())
    0.0
    """
    parts, _ = label(mu.per_cm > BODY_PER_CM)
    small = np.bincount(parts.ravel()) * mu.grid.voxel_ml < SPECK_ML
    small[0] = False
    return replace(mu, per_cm=np.where(small[parts], np.float32(0.0), mu.per_cm)) if small.any() else mu


def build_predicted(options: Mapping[str, str]) -> PredictedMap:
    """Model from the options of the command line.

    Parameters
    ----------
    options
        "weights" (file) and "fallback" (yes or no).

    Returns
    -------
    PredictedMap
        Model; its weights are read when it corrects a study.

    Raises
    ------
    InputError
        If an option is unknown, or fallback is neither yes nor no.

    Examples
    --------
    >>> build_predicted({"fallback": "no"}).fallback
    False
    """
    unknown = sorted(set(options) - {"weights", "fallback"})
    if unknown:
        raise InputError(
            f"attenuation predicted does not know the option {', '.join(unknown)}; its options: weights, fallback"
        )
    fallback = options.get("fallback", "yes").lower()
    if fallback not in ("yes", "no"):
        raise InputError(f"attenuation predicted: option fallback needs yes or no, not {options['fallback']!r}")
    return PredictedMap(options.get("weights"), fallback=fallback == "yes")
