"""Monte Carlo scatter correction beside TEW, on virtual patients by full Monte Carlo with other seeds.

    python -m benchmarks.scatter.run STAGE [--patients N] [--histories N] -o FOLDER

Stages, each a CSV of its own (scatter_STAGE.csv), minutes on 2 cores:

- maps (60): 7 DAT I-123, 7 perfusion I-123, 6 perfusion Tc-99m patients, from expected counts: TEW and Monte Carlo,
  with all windows and with the photopeak alone; the true, the predicted and the uniform map
- unknown (25): one patient of each kind whose camera is not what the correction takes it for
- noise (30): one patient of each kind, 20 times with new noise and new seeds of the transport
- convergence (5): change of regions from round to round, with and without the scaling
- independent (3): ../shared/data/independent_scatter (--data FOLDER), by a Monte Carlo that shares no code with ours

Errors are of regional means in %, as in the attenuation study, against two references with the same map, settings and
geometry: "primary" is the image of the unscattered photons alone, "ideal" that of all photons with the scatter that the
full Monte Carlo counted. The two differ because OSEM converges more slowly where there is scatter.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attenuation.measures import image_measures
from benchmarks.attenuation.patients import SETS, Case, virtual_case
from benchmarks.provenance import provenance, write_csv
from spectac.recon import GivenMap, MuMap, ReconstructionSettings, Result, Study, attenuation_model, reconstruct
from spectac.recon.photons import penetration
from spectac.recon.photons.detector import Crystal
from spectac.recon.photons.montecarlo import Camera
from spectac.recon.quantify import voi_mean
from spectac.recon.scatter.models import ScatterContext, ScatterEstimate, ScatterModel
from spectac.recon.scatter.montecarlo import MonteCarloScatter
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array

SEED = 20
HISTORIES = 4_000_000
"""Of the patients' full Monte Carlo. Its primary is in the references as well: only the scatter's noise counts."""
COUNTS, REALISATIONS = 3e6, 20
"""Of the stage noise: counts in the photopeak, and how often."""
KEPT = ("raw_mean", "raw_worst", "sbr_error", "sbr_signed", "pattern_error", "pattern_signed")

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--patients", type=int, default=20, metavar="N", help="of the stage maps (20)")
    parser.add_argument("--histories", type=int, default=HISTORIES, metavar="N", help=f"({HISTORIES})")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of the stage independent")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    origin, rows = provenance(SEED), []
    for row in STAGES[options.stage](options):
        print(row, flush=True)
        rows.append({**origin, **row})
        write_csv(options.output / f"scatter_{options.stage}.csv", rows)


def photopeak_alone(study: Study) -> Study:
    """The study without its other windows."""
    return replace(study, windows=study.windows[:1], counts=study.counts[:1])


def primary_study(case: Case) -> Study:
    """The study's photopeak as it would be without scatter."""
    study = photopeak_alone(case.study)
    return replace(study, counts=case.primary[None])


def image(
    study: Study, attenuation: Any, scatter: str = "auto", model: ScatterModel | None = None
) -> tuple[Array, Result]:
    """Image (z, y, x) in cps/mL by a scatter method or a model, and the result."""
    result = reconstruct(study, attenuation, ReconstructionSettings(scatter=scatter), scatter=model)
    return result.image.values, result


class Known:
    """The scatter that the full Monte Carlo counted."""

    name, rounds = "known", 0

    def __init__(self, case: Case) -> None:
        self.counts = np.maximum(case.study.counts[0] - case.primary, 0.0)

    def expected(self, context: object, image: object, mu: object) -> ScatterEstimate:
        return ScatterEstimate(self.counts, self.name)


def references(case: Case, attenuation: Any) -> dict[str, Array]:
    """Images (z, y, x) in cps/mL with which the others are compared."""
    return {
        "primary": image(primary_study(case), attenuation, "none")[0],
        "ideal": image(case.study, attenuation, model=Known(case))[0],
    }


def errors(values: Array, reference: Array, case: Case) -> Row:
    """Errors of an image against a reference, both in cps/mL."""
    found = image_measures(values / case.cps_per_kbq, reference / case.cps_per_kbq, case)
    return {name: round(found[name], 3) for name in KEPT}


def cases(options: argparse.Namespace, indices: range, **changes: Any) -> Iterator[tuple[int, Case]]:
    for index in indices:
        yield index, virtual_case(SEED, SETS["scatter"], index, options.histories, noise=False, **changes)


def maps(options: argparse.Namespace) -> Iterator[Row]:
    for index, case in cases(options, range(options.patients)):
        about = {"patient": index, **{name: case.about[name] for name in ("tracer", "nuclide", "collimator", "counts")}}
        true = GivenMap(case.mu)
        wanted = references(case, true)
        whole, peak = case.study, photopeak_alone(case.study)
        ways = {
            "true": (
                (whole, "none"),
                (whole, "tew"),
                (whole, "montecarlo"),
                (peak, "montecarlo"),
                (peak, "montecarlo:1"),
            ),
            "predicted": ((whole, "tew"), (whole, "montecarlo"), (peak, "montecarlo")),
            "uniform": ((whole, "tew"), (whole, "montecarlo"), (peak, "montecarlo")),
        }
        yield {**about, "map": "true", "windows": "all", "scatter": "known", "against": "primary"} | errors(
            wanted["ideal"], wanted["primary"], case
        )
        for name, methods in ways.items():
            for study, scatter in methods:
                model = true if name == "true" else attenuation_model(name, {})
                values, result = image(study, model, scatter)
                windows = "all" if study is whole else "photopeak"
                row = {**about, "map": name, "windows": windows, "scatter": scatter, "fallback": result.fallback or ""}
                compared = dict(wanted)
                if name != "true":
                    # What of the error is the scatter's: the same map with the known scatter.
                    compared["ideal, same map"] = image(whole, GivenMap(result.mu), model=Known(case))[0]
                for against, reference in compared.items():
                    yield {**row, "against": against} | errors(values, reference, case)


def unknown(options: argparse.Namespace) -> Iterator[Row]:
    def by(**change: float) -> Callable[[Any], Any]:
        return lambda scanner: replace(scanner, **{k: getattr(scanner, k) + v for k, v in change.items()})

    def set_to(**change: float) -> Callable[[Any], Any]:
        return lambda scanner: replace(scanner, **change)

    def usual(scanner: Any) -> Any:
        return replace(scanner, energy_resolution=0.098, crystal_mm=9.5, orbit="circular", high_energy_scale=1.0)

    causes: dict[str, Callable[[Any], Any]] = {
        "nothing": lambda scanner: scanner,
        "energy resolution + 0.01": by(energy_resolution=0.01),
        "energy resolution - 0.01": by(energy_resolution=-0.01),
        "crystal of 15.9 mm": set_to(crystal_mm=15.9),
        "radius + 5 mm": by(radius_mm=5.0, radius_b_mm=5.0),
        "radius - 5 mm": by(radius_mm=-5.0, radius_b_mm=-5.0),
        "0.3 of the photons above 400 keV": set_to(high_energy_scale=0.3),
        "2 times the photons above 400 keV": set_to(high_energy_scale=2.0),
        "their blur 1.5 times as wide": lambda scanner: scanner,
        "windows shifted by 1 %": lambda scanner: scanner,
        "bone + 10 %": lambda scanner: scanner,
        "bone - 10 %": lambda scanner: scanner,
    }
    for index in range(3):
        # A centimetre more room, so that the orbit clears the head with the radius 5 mm less.
        base = virtual_case(
            SEED, SETS["scatter"], index, options.histories, noise=False, changed=lambda s: by(radius_mm=10.0, radius_b_mm=10.0)(usual(s))
        )  # fmt: skip
        for cause, change in causes.items():
            if ("400 keV" in cause or "blur" in cause) and base.about["nuclide"] != "I-123":
                continue

            def changed(scanner: Any, change: Callable[[Any], Any] = change, cause: str = cause) -> Any:
                moved = change(by(radius_mm=10.0, radius_b_mm=10.0)(usual(scanner)))
                return ShiftedWindows.of(moved) if "shifted" in cause else moved

            sigma = penetration.SIGMA_MM
            penetration.SIGMA_MM = sigma * (1.5 if "blur" in cause else 1.0)
            case = virtual_case(SEED, SETS["scatter"], index, options.histories, noise=False, changed=changed)
            penetration.SIGMA_MM = sigma
            # What the correction is told: the camera of `base`, and its usual crystal.
            study = replace(case.study, acquisition=base.study.acquisition, windows=base.study.windows)
            case = replace(case, study=study)
            bone = 1.1 if cause == "bone + 10 %" else 0.9 if cause == "bone - 10 %" else 1.0
            dense = base.mu.per_cm > 1.2 * water_per_cm(base.mu.energy_kev)
            mu = MuMap(np.where(dense, bone * base.mu.per_cm, base.mu.per_cm), base.grid, base.mu.energy_kev)
            wanted = references(case, GivenMap(mu))
            for windows, seen in (("all", study), ("photopeak", photopeak_alone(study))):
                values, _ = image(seen, GivenMap(mu), "montecarlo")
                for against, reference in wanted.items():
                    about = {"patient": index, "nuclide": case.about["nuclide"], "cause": cause, "windows": windows}
                    yield {**about, "against": against} | errors(values, reference, case)


class ShiftedWindows:
    """A scanner whose windows lie 1 % higher than they say."""

    @staticmethod
    def of(scanner: Any) -> Any:
        cls = type(scanner)

        class Shifted(cls):  # type: ignore[misc,valid-type]
            def windows(self, nuclide: str) -> Any:
                return tuple(
                    replace(w, lower_kev=1.01 * w.lower_kev, upper_kev=1.01 * w.upper_kev)
                    for w in super().windows(nuclide)
                )

        return Shifted(**{name: getattr(scanner, name) for name in scanner.__dataclass_fields__ if name != "_"})


def noise(options: argparse.Namespace) -> Iterator[Row]:
    for index, case in cases(options, range(3)):
        expected = case.study.counts * (COUNTS / float(case.study.counts[0].sum()))
        scatter = Known(case)
        scatter.counts = scatter.counts * (COUNTS / float(case.study.counts[0].sum()))
        stacks: dict[str, list[Array]] = {"known": [], "tew": [], "montecarlo": []}
        for realisation in range(REALISATIONS):
            rng = np.random.default_rng((SEED, index, realisation))
            study = replace(case.study, counts=rng.poisson(expected).astype(np.float32))
            model = MonteCarloScatter(seed=100 + realisation)
            for name, chosen in (("known", scatter), ("tew", None), ("montecarlo", model)):
                stacks[name].append(image(study, GivenMap(case.mu), "tew", chosen)[0])
        white = case.regions["white matter"] > 0.9
        over, under = case.ratio
        for name, stack in stacks.items():
            values = np.stack([one[white] for one in stack])
            means = [{region: voi_mean(one, share) for region, share in case.regions.items()} for one in stack]
            ratios = [np.mean([one[region] for region in over]) / one[under] - 1.0 for one in means]
            yield {
                "patient": index,
                "nuclide": case.about["nuclide"],
                "scatter": name,
                "white_matter_mean": float(f"{values.mean():.5g}"),
                "white_matter_sd": float(f"{np.sqrt(values.var(axis=0, ddof=1).mean()):.5g}"),
                "white_matter_cov_percent": round(
                    100 * float(np.std([one["white matter"] for one in means], ddof=1) / values.mean()), 3
                ),
                "ratio_mean": round(float(np.mean(ratios)), 4),
                "ratio_sd": round(float(np.std(ratios, ddof=1)), 4),
            }


class Unscaled:
    """The transport's scatter as it comes, of the whole image."""

    def __init__(self, rounds: int) -> None:
        self.name, self.rounds = "unscaled", rounds

    def expected(self, context: ScatterContext, image: Any, mu: Any) -> ScatterEstimate:
        acquisition = context.acquisition
        crystal = Crystal(acquisition.energy_resolution, acquisition.crystal_mm)
        camera = Camera(acquisition, (context.photopeak,), crystal, context.photopeak)
        return ScatterEstimate(MonteCarloScatter().scattered(image, mu, camera)[0], self.name)


def convergence(options: argparse.Namespace) -> Iterator[Row]:
    # The photons above 400 keV need the fit: without it, Tc-99m shows what the scaling brings.
    for index, case in cases(options, range(3)):
        ways: dict[str, Callable[[int], ScatterModel]] = {"scaled": lambda rounds: MonteCarloScatter(rounds)}
        if case.about["nuclide"] == "Tc-99m":
            ways["not scaled"] = Unscaled
        for way, model in ways.items():
            before: dict[str, float] = {}
            for rounds in range(1, 5):
                values, _ = image(case.study, GivenMap(case.mu), model=model(rounds))
                means = {name: voi_mean(values, share) for name, share in case.regions.items()}
                change = max((abs(means[name] / before[name] - 1.0) for name in before), default=float("nan"))
                before = means
                about = {"patient": index, "nuclide": case.about["nuclide"], "way": way, "rounds": rounds}
                yield {**about, "largest_change_percent": round(100 * change, 4)}


def independent(options: argparse.Namespace) -> Iterator[Row]:
    raise NotImplementedError


STAGES: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "maps": maps,
    "unknown": unknown,
    "noise": noise,
    "convergence": convergence,
    "independent": independent,
}

if __name__ == "__main__":
    main()
