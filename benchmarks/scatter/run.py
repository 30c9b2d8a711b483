"""Monte Carlo scatter correction beside TEW, on virtual patients by full Monte Carlo with other seeds.

    python -m benchmarks.scatter.run STAGE [--first N] [--histories N] -o FOLDER

Writes scatter_STAGE.csv; minutes on 2 cores:

- maps (45): 7 DAT I-123, 7 perfusion I-123, 6 perfusion Tc-99m patients, from expected counts: TEW and Monte Carlo,
  with all windows and with the photopeak alone; the true, the predicted and the uniform map
- auto (4): one patient of each kind from the photopeak alone: no correction and what "auto" takes, with every map
- unknown (25): one patient of each kind whose camera is not what the correction takes it for
- noise (15): one patient of each kind, 20 times with new noise and new seeds of the transport
- convergence (20): change of regions from round to round, with and without the scaling
- failures (5): maps that do not fit the head, and a fifth of the counts
- independent (2): the files of --data FOLDER (README.md), by a Monte Carlo that shares no code with ours

Errors are of regional means in %, as in the attenuation study, against two references with the same map, settings and
geometry: "primary" is the image of the unscattered photons alone, "ideal" that of all photons with the scatter that the
full Monte Carlo counted. The two differ because OSEM converges more slowly where there is scatter.
"""

import argparse
import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from benchmarks.attenuation.measures import image_measures
from benchmarks.attenuation.patients import SETS, Case, virtual_case
from benchmarks.provenance import provenance, write_csv
from benchmarks.simulation.scatter_validation import cylinder, detector, spheres
from spectac.recon import (
    Acquisition,
    Collimator,
    EnergyWindow,
    GivenMap,
    Grid,
    InputError,
    MuMap,
    ReconstructionSettings,
    Result,
    Study,
    attenuation_model,
    default_grid,
    reconstruct,
)
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.photons import penetration
from spectac.recon.photons.detector import Crystal
from spectac.recon.photons.montecarlo import Camera, MonteCarloRun, photon_counts
from spectac.recon.quantify import voi_mean
from spectac.recon.resample import resample
from spectac.recon.scatter.models import ScatterContext, ScatterEstimate, ScatterModel
from spectac.recon.scatter.montecarlo import MonteCarloScatter
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array
from spectac.simulate.scanner import Scanner

SEED = 20
HISTORIES = 1_000_000
"""Of the patients' full Monte Carlo. Its primary is in the references as well: only the scatter's noise counts."""
COUNTS, REALISATIONS = 3e6, 20
"""Of the stage noise: counts in the photopeak, and how often."""
MANY_HISTORIES = 6_000_000
"""Of the stage convergence: enough that a round's change is not the transport's own noise."""
KEPT = ("raw_mean", "raw_worst", "sbr_error", "sbr_signed", "pattern_error", "pattern_signed")

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument(
        "--first", type=int, default=0, metavar="N", help="patient to begin at; rows of others stay (0)"
    )
    parser.add_argument("--histories", type=int, default=HISTORIES, metavar="N", help=f"({HISTORIES})")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of the stage independent")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"scatter_{options.stage}.csv"
    origin, rows = provenance(SEED), _before(options.first, path) if options.first else []
    for row in STAGES[options.stage](options):
        print(row, flush=True)
        rows.append({**origin, **row})
        write_csv(path, rows)


def _before(first: int, path: Path) -> list[Row]:
    """Rows of the patients before one, of a run that was stopped."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if int(row["patient"]) < first]


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
    """The scatter that a full Monte Carlo counted."""

    name = "known"

    def __init__(self, counted: ScatterEstimate) -> None:
        self.counted = counted

    def rounds(self, context: object) -> int:
        """0: it is known beforehand."""
        return 0

    def expected(self, context: object, image: object, mu: object) -> ScatterEstimate:
        """That scatter, whatever the image."""
        return self.counted


def counted(case: Case, times: float = 1.0) -> Known:
    """Scatter of a virtual patient, with `times` the counts."""
    scatter = np.maximum(case.study.counts[0] - case.primary, 0.0)
    return Known(ScatterEstimate(np.float32(times) * scatter, "known"))


def references(case: Case, attenuation: Any) -> dict[str, Array]:
    """Images (z, y, x) in cps/mL with which the others are compared."""
    return {
        "primary": image(primary_study(case), attenuation, "none")[0],
        "ideal": image(case.study, attenuation, model=counted(case))[0],
    }


def errors(values: Array, reference: Array, case: Case) -> Row:
    """Errors of an image against a reference, both in cps/mL."""
    found = image_measures(values / case.cps_per_kbq, reference / case.cps_per_kbq, case)
    return {name: round(found[name], 3) for name in KEPT}


def cases(options: argparse.Namespace, indices: Iterable[int], **changes: Any) -> Iterator[tuple[int, Case]]:
    for index in indices:
        yield index, virtual_case(SEED, SETS["scatter"], index, options.histories, noise=False, **changes)


def maps(options: argparse.Namespace) -> Iterator[Row]:
    for index, case in cases(options, range(options.first, 20)):
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
                windows = "all" if study is whole else "photopeak"
                row = {**about, "map": name, "windows": windows, "scatter": scatter}
                try:
                    values, result = image(study, model, scatter)
                except InputError as error:
                    yield {**row, "refused": str(error)}
                    continue
                row["fallback"] = result.fallback or ""
                compared = dict(wanted)
                if name != "true":
                    # What of the error is the scatter's: the same map with the known scatter.
                    compared["ideal, same map"] = image(whole, GivenMap(result.mu), model=counted(case))[0]
                for against, reference in compared.items():
                    yield {**row, "against": against} | errors(values, reference, case)


def auto(options: argparse.Namespace) -> Iterator[Row]:
    for index, case in cases(options, range(options.first, 3)):
        wanted, peak = references(case, GivenMap(case.mu))["primary"], photopeak_alone(case.study)
        for name in ("true", "predicted", "uniform", "chang"):
            model = GivenMap(case.mu) if name == "true" else attenuation_model(name, {})
            for scatter in ("none", "auto"):
                values, result = image(peak, model, scatter)
                assert result.projections is not None
                about = {"patient": index, "nuclide": case.about["nuclide"], "map": name, "scatter": scatter}
                about["method"] = result.projections.scatter_method
                yield about | errors(values, wanted, case)


def unknown(options: argparse.Namespace) -> Iterator[Row]:
    for index in range(options.first, 3):
        told = virtual_case(SEED, SETS["scatter"], index, options.histories, noise=False, changed=_usual)
        high_energy = told.about["nuclide"] == "I-123"
        for cause, change in (CAUSES | (HIGH_ENERGY_CAUSES if high_energy else {})).items():
            sigma = penetration.SIGMA_MM
            penetration.SIGMA_MM = sigma * (1.5 if cause == WIDER else 1.0)
            try:
                case = virtual_case(
                    SEED, SETS["scatter"], index, options.histories, noise=False,
                    changed=lambda scanner, change=change: change(_usual(scanner)),
                )  # fmt: skip
            finally:
                penetration.SIGMA_MM = sigma
            # The counts are those of the changed camera, everything that is said of them is the usual one's.
            study = replace(case.study, acquisition=told.study.acquisition, windows=told.study.windows)
            case = replace(case, study=study)
            dense = told.mu.per_cm > 1.2 * water_per_cm(told.mu.energy_kev)
            bone = BONE.get(cause, 1.0)
            mu = GivenMap(replace(told.mu, per_cm=np.where(dense, bone * told.mu.per_cm, told.mu.per_cm)))
            wanted = references(case, mu)
            for windows, seen in (("all", study), ("photopeak", photopeak_alone(study))):
                values, _ = image(seen, mu, "montecarlo")
                for against, reference in wanted.items():
                    about = {"patient": index, "nuclide": case.about["nuclide"], "cause": cause, "windows": windows}
                    yield {**about, "against": against} | errors(values, reference, case)


def _usual(scanner: Scanner) -> Scanner:
    """The scanner with what the correction assumes, on a circle that clears every head."""
    return replace(
        scanner, energy_resolution=0.098, crystal_mm=9.5, high_energy_scale=1.0, orbit="circular", radius_mm=150.0
    )


def _plus(**change: float) -> Callable[[Scanner], Scanner]:
    return lambda scanner: replace(scanner, **{name: getattr(scanner, name) + by for name, by in change.items()})  # type: ignore[arg-type]


class _Shifted(Scanner):
    """A scanner whose windows lie 1 % higher than they should."""

    def windows(self, nuclide: str) -> tuple[EnergyWindow, ...]:
        """The shifted windows."""
        return tuple(
            replace(window, lower_kev=1.01 * window.lower_kev, upper_kev=1.01 * window.upper_kev)
            for window in super().windows(nuclide)
        )


CAUSES: dict[str, Callable[[Scanner], Scanner]] = {
    "nothing": lambda scanner: scanner,
    "energy resolution + 0.01": _plus(energy_resolution=0.01),
    "energy resolution - 0.01": _plus(energy_resolution=-0.01),
    "crystal of 15.9 mm": lambda scanner: replace(scanner, crystal_mm=15.9),
    "radius + 5 mm": _plus(radius_mm=5.0),
    "radius - 5 mm": _plus(radius_mm=-5.0),
    "windows 1 % higher": lambda scanner: _Shifted(**vars(scanner)),
    "bone + 10 %": lambda scanner: scanner,
    "bone - 10 %": lambda scanner: scanner,
}
"""What the camera or the body has that the correction does not know."""
WIDER = "photons above 400 keV blurred 1.5 times as wide"
HIGH_ENERGY_CAUSES: dict[str, Callable[[Scanner], Scanner]] = {
    "0.3 of the photons above 400 keV": lambda scanner: replace(scanner, high_energy_scale=0.3),
    "twice the photons above 400 keV": lambda scanner: replace(scanner, high_energy_scale=2.0),
    WIDER: lambda scanner: scanner,
}
BONE = {"bone + 10 %": 1.1, "bone - 10 %": 0.9}
"""Factor of the map's bone, where the map is wrong."""


def noise(options: argparse.Namespace) -> Iterator[Row]:
    for index, case in cases(options, range(options.first, 3)):
        times = COUNTS / float(case.study.counts[0].sum())
        expected, scatter = times * case.study.counts, counted(case, times)
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
                "white_matter_mean_cov_percent": round(100 * _cov([one["white matter"] for one in means]), 3),
                "ratio_mean": round(float(np.mean(ratios)), 4),
                "ratio_sd": round(float(np.std(ratios, ddof=1)), 4),
            }


def _cov(values: list[float]) -> float:
    return float(np.std(values, ddof=1) / np.mean(values))


class Unscaled:
    """The transport's scatter as it comes, of the whole image."""

    def __init__(self, rounds: int) -> None:
        self.name, self.number = "unscaled", rounds

    def rounds(self, context: object) -> int:
        """As many as were asked."""
        return self.number

    def expected(self, context: ScatterContext, image: Any, mu: Any) -> ScatterEstimate:
        """Transport alone."""
        acquisition = context.acquisition
        crystal = Crystal(acquisition.energy_resolution or 0.098, acquisition.crystal_mm or 9.5)
        camera = Camera(acquisition, (context.photopeak,), crystal, context.photopeak)
        return ScatterEstimate(MonteCarloScatter().scattered(image, mu, camera)[0], self.name)


def convergence(options: argparse.Namespace) -> Iterator[Row]:
    # The photons above 400 keV need the fit: without it, Tc-99m shows what the scaling brings.
    for index, case in cases(options, range(options.first, 3)):
        ways: dict[str, Callable[[int], ScatterModel]] = {
            "scaled": MonteCarloScatter,
            f"scaled, {MANY_HISTORIES} histories": lambda rounds: MonteCarloScatter(rounds, MANY_HISTORIES),
        }
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


def failures(options: argparse.Namespace) -> Iterator[Row]:
    for index, case in cases(options, range(options.first, 3)):
        peak, about = photopeak_alone(case.study), {"patient": index, "nuclide": case.about["nuclide"]}
        grid = case.mu.grid
        first = [0.7 * centres[0] + 0.3 * centres.mean() for centres in grid.centres_mm()[::-1]]
        dz, dy, dx = grid.voxel_mm
        shrunken = Grid.upright(grid.shape, (0.7 * dz, 0.7 * dy, 0.7 * dx), first)
        per_cm = case.mu.per_cm
        upper = np.arange(per_cm.shape[0])[:, None, None] > np.flatnonzero(per_cm.any(axis=(1, 2))).mean()
        for name, values in (
            ("the map", per_cm),
            ("a map of 70 % of the size", np.maximum(resample(per_cm, shrunken, grid), 0.0)),
            ("the upper half of the map", np.where(upper, per_cm, 0.0)),
            ("an empty map", np.zeros_like(per_cm)),
        ):
            mu = GivenMap(replace(case.mu, per_cm=values.astype(np.float32)))
            try:
                found, result = image(peak, mu, "montecarlo")
            except InputError as error:
                yield {**about, "case": name, "refused": str(error)}
                continue
            note = next((note for note in result.notes if "mu-map" in note), "")
            # Of the wrong map there is no reference but the image without any scatter, made with it too.
            wanted = image(primary_study(case), mu, "none")[0]
            yield {**about, "case": name, "note": note} | errors(found, wanted, case)
        times = 0.2 * COUNTS / float(peak.counts.sum())
        for realisation in range(5):
            rng = np.random.default_rng((SEED, index, realisation))
            few = replace(peak, counts=rng.poisson(times * peak.counts).astype(np.float32))
            found = image(few, GivenMap(case.mu), "montecarlo")[0]
            wanted = image(few, GivenMap(case.mu), model=counted(case, times))[0]
            yield {**about, "case": f"{0.2 * COUNTS:.0f} counts, noise {realisation}"} | errors(found, wanted, case)


def independent(options: argparse.Namespace) -> Iterator[Row]:
    if options.data is None:
        raise SystemExit("the stage independent needs --data FOLDER with the files of independent_scatter")
    for name, nuclide in (("cylinder_tc99m", "Tc-99m"), ("benauer_dat_i123", "I-123")):
        case = independent_case(options.data / f"{name}.npz", nuclide)
        for windows, study, scatter in (
            ("all", case.study, "none"), ("all", case.study, "tew"), ("all", case.study, "montecarlo"),
            ("photopeak", photopeak_alone(case.study), "montecarlo"),
        ):  # fmt: skip
            values, result = image(study, GivenMap(case.mu), scatter)
            estimate, kept = result.projections, case.scatter > 0.05 * case.scatter.max()
            assert estimate is not None
            share = float("nan") if estimate.scatter is None else float(estimate.scatter[kept].sum())
            row: Row = {"object": name, "windows": windows, "scatter": scatter}
            row |= {"scatter_over_counted": round(share / float(case.scatter[kept].sum()), 4)}
            for against, reference in case.wanted.items():
                for region, mask in case.regions.items():
                    error = 100.0 * (voi_mean(values, mask) / voi_mean(reference, mask) - 1.0)
                    yield {**row, "against": against, "region": region, "error_percent": round(error, 3)}

    yield from simind(options.histories)


def simind(histories: int) -> Iterator[Row]:
    """Scatter over primary of SIMIND's water cylinder with I-123, as the reconstruction finds it."""
    head = cylinder(108.0, 93.0)
    scanner, acquisition = detector("I-123", 0.102 * (158.97 / 140.511) ** 0.5, np.arange(60) * 6.0)
    camera = scanner.camera(acquisition)
    hot = spheres(head.grid)
    activity = 1e3 * (0.9 * head.density / head.density.mean() + 0.1 * hot / hot.mean())
    found = photon_counts(
        head.body, activity.astype(np.float32), camera, MonteCarloRun(histories, seed=SEED, batches=1)
    )
    study = Study(acquisition, camera.windows, found.primary + found.scatter)
    for scatter in ("montecarlo:1", "montecarlo"):
        _, result = image(study, GivenMap(head.mu(158.97)), scatter)
        assert result.projections is not None
        assert result.projections.scatter is not None
        scattered = float(result.projections.scatter.sum())
        fraction = scattered / (float(study.counts.sum()) - scattered)
        yield {"object": "SIMIND's cylinder", "windows": "photopeak", "scatter": scatter} | {
            "region": "all counts", "scatter_over_primary": round(fraction, 4), "published": 0.269
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Independent:
    """An object of another Monte Carlo: its study, map, counted scatter, reference images and regions (z, y, x)."""

    study: Study
    mu: MuMap
    scatter: Array
    wanted: dict[str, Array]
    regions: dict[str, Array]


def independent_case(path: Path, nuclide: str) -> Independent:
    """Object of a file of independent_scatter."""
    data = np.load(path)
    facts = json.loads(str(data["facts"]))
    # Rows go from head to feet, z from feet to head.
    primary, scatter = (data[name][:, :, ::-1].astype(np.float32) for name in ("primary", "scatter"))
    acquisition = Acquisition(
        view_angles_deg=data["view_angles_deg"],
        radii_mm=data["radius_mm"],
        matrix=(facts["rows"], facts["cols"]),
        pixel_mm=(facts["pixel"], facts["pixel"]),
        view_seconds=np.full(60, 10.0),
        nuclide=nuclide,
        collimator=Collimator("independent", facts["hole"], facts["length"], 0.16, facts["intrinsic"]),
        axis_lps_mm=(0.0, 0.0, -0.5 * (facts["rows"] - 1) * facts["pixel"]),
        corrections=frozenset({"DECY"}),
        energy_resolution=facts["resolution"],
        crystal_mm=facts["crystal"],
    )
    windows = tuple(
        EnergyWindow(str(name), float(low), float(high))
        for name, (low, high) in zip(data["window_names"], data["window_kev"], strict=True)
    )
    study = Study(acquisition, windows, primary + scatter)
    grid, affine = default_grid(acquisition), data["affine"]
    voxel = float(affine[0, 0])
    own = Grid.upright(data["activity"].shape, (voxel,) * 3, affine[:3, 3])
    kev = nuclide_by_name(nuclide).main_kev
    mu = MuMap(np.maximum(resample(data["mu_per_cm"].astype(np.float32), own, grid), 0.0), grid, kev)
    activity = data["activity"].astype(np.float32)
    hot = activity > 0.6 * activity.max()
    warm = binary_erosion((activity > 0) & ~binary_dilation(hot, iterations=4), iterations=4)
    regions = {"hot": resample(hot.astype(np.float32), own, grid), "warm": resample(warm.astype(np.float32), own, grid)}
    photopeak = replace(study, windows=windows[:1], counts=primary[:1])
    known = ScatterEstimate(scatter[0], "known")
    wanted = {
        "primary": image(photopeak, GivenMap(mu), "none")[0],
        "ideal": image(study, GivenMap(mu), model=Known(known))[0],
    }
    return Independent(study, mu, scatter[0], wanted, regions)


STAGES: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "maps": maps,
    "auto": auto,
    "unknown": unknown,
    "noise": noise,
    "convergence": convergence,
    "failures": failures,
    "independent": independent,
}

if __name__ == "__main__":
    main()
