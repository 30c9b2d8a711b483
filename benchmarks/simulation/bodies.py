"""Bodies of real people beside drawn heads: section, skull and scalp, the brain's volume and the striata's place.

    python -m benchmarks.simulation.bodies --bodies COHORT/bodies [--heads N] [--primary N] -o FOLDER

Writes bodies.csv, a row a head; ten minutes with 200 drawn heads. `primary_percent`: counts of unscattered photons by
the Monte Carlo (a million histories) over the projector's less 1, all views, of the first N bodies with a perfusion
scan, 20 seconds each. Sections are those 0 to 25 mm above the brain's
middle, on voxels of 4 mm for both, because a CT of 4 mm broadens skulls. Bone per skin: attenuation above soft tissue's
in the outer 30 mm, per mm of skin, which broadening leaves as it is. Drawn heads are adults without a craniotomy, not
tilted.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt

from benchmarks.provenance import provenance, write_csv
from spectac.recon.ct import tissue_per_cm
from spectac.recon.resample import resample, upright_around
from spectac.recon.tissues import MATERIALS, cm2_per_g
from spectac.recon.types import Array, Grid
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.anatomy.ranges import ADULT_AND_CHILD
from spectac.simulate.bodies.body import Body
from spectac.simulate.bodies.pose import posed
from spectac.simulate.bodies.stored import bodies_in, read_body
from spectac.simulate.head import draw_head
from spectac.simulate.regions import BESIDE, BONE, INTRACRANIAL, MATERIAL_OF_LABEL, labels
from spectac.simulate.scanner import Scanner
from spectac.simulate.uptake import draw_uptake

SEED = 22
KEV = 140.511
SECTIONS_MM = (0.0, 25.0)
PIXEL_MM = 4.0
OUTER_MM = 30.0

Row = dict[str, Any]


def measured(found: Array, density: Array, grid: Grid) -> Row:
    """Measures of a head whose brain's middle lies at the origin."""
    per_gram = np.array([cm2_per_g(MATERIALS[m].name, KEV) for m in MATERIAL_OF_LABEL], np.float32)
    own = ~np.isin(found, BESIDE) | np.isin(found, labels("air cavity"))
    mu = np.where(own, density * per_gram[found], 0.0).astype(np.float32)
    coarse = upright_around(grid, PIXEL_MM)
    per_cm = resample(mu, grid, coarse)
    soft = tissue_per_cm("brain", KEV)
    z = coarse.centres_mm()[0]
    sections = []
    for level in per_cm[(z >= SECTIONS_MM[0]) & (z <= SECTIONS_MM[1])]:
        body = binary_fill_holes(level > 0.5 * soft)
        depth = distance_transform_edt(np.pad(body, 1), PIXEL_MM)[1:-1, 1:-1]
        skin_mm = float((body & (depth <= PIXEL_MM)).sum()) * PIXEL_MM
        bone = float(np.maximum(level - 1.03 * soft, 0.0)[body & (depth <= OUTER_MM)].sum()) * PIXEL_MM**2 / 10.0
        rows, columns = np.nonzero(body)
        outer = body & (depth <= 16.0)
        first_bone = level > 1.25 * soft
        scalp = depth[outer & first_bone]
        sections.append(
            (
                float(body.sum()) * PIXEL_MM**2 / 100.0,
                float(np.ptp(rows) + 1) * PIXEL_MM,
                float(np.ptp(columns) + 1) * PIXEL_MM,
                bone / skin_mm,
                float(np.percentile(scalp, 5)) if scalp.size else float("nan"),
                float(np.percentile(level[outer], 98)),
            )
        )
    area, length, breadth, bone, scalp_mm, densest = (float(np.mean(column)) for column in zip(*sections, strict=True))
    z_fine, y_fine, x_fine = grid.centres_mm()
    striata = np.argwhere(np.isin(found, labels("caudate", "putamen")))
    middle = [float(axis[striata[:, n]].mean()) for n, axis in enumerate((z_fine, y_fine, x_fine))]
    return {
        "area_cm2": round(area, 1),
        "length_mm": round(length, 1),
        "breadth_mm": round(breadth, 1),
        "bone_per_skin": round(bone, 4),
        "scalp_mm": round(scalp_mm, 2),
        "densest_per_cm": round(densest, 4),
        "inside_skull_ml": round(float(np.isin(found, INTRACRANIAL).sum()) * grid.voxel_ml),
        "bone_ml": round(float((np.isin(found, BONE) & (z_fine > -40.0)[:, None, None]).sum()) * grid.voxel_ml),
        "striata_ml": round(len(striata) * grid.voxel_ml, 1),
        "striata_z_mm": round(middle[0], 1),
        "striata_y_mm": round(middle[1], 1),
        "striata_x_mm": round(middle[2], 1),
    }


def primary_percent(body: Body, index: int) -> float:
    """Primary photons of a posed body by the Monte Carlo over those by the projector, less 1."""
    head = posed(body, np.random.default_rng((SEED, index)))
    patient = Patient(head, draw_uptake("perfusion", head, np.random.default_rng((SEED, index, 1)), nuclide="Tc-99m"))
    scanner = Scanner("head", "ge-lehr", views=60, matrix=(64, 64), pixel_mm=4.0, scheme="photopeak").around(head)
    counted = [
        expected_counts(patient, scanner, SEED + index, full=full, histories=histories).primary[0].sum()
        for full, histories in ((True, 1_000_000), (False, 1000))
    ]
    return round(100.0 * float(counted[0] / counted[1] - 1.0), 3)


def rows(bodies: Path, heads: int, primary: int) -> Iterator[Row]:
    """Measures of all bodies, then of drawn heads."""
    for index, path in enumerate(bodies_in(bodies)):
        body = read_body(path)
        about = {"kind": "body", "name": body.name, "added_mm": round(body.added_mm, 1)}
        by_monte_carlo = {"primary_percent": primary_percent(body, index)} if index < primary else {}
        yield about | measured(body.labels, body.density, body.grid) | by_monte_carlo
    straight = {f"{name}_deg": (0.0, 0.0) for name in ("pitch", "yaw", "roll")}
    ranges = replace(
        ADULT_AND_CHILD, child_probability=0.0, craniotomy_probability=0.0, shift_mm=(0.0, 0.0), **straight
    )  # type: ignore[arg-type]
    for index in range(heads):
        head = draw_head(np.random.default_rng((SEED, index)), ranges=ranges)
        yield {"kind": "drawn", "name": str(index), "added_mm": 0.0} | measured(head.labels, head.density, head.grid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bodies", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--heads", type=int, default=200, metavar="N", help="(200)")
    parser.add_argument("--primary", type=int, default=0, metavar="N", help="(0)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    origin = provenance(SEED)
    written = [{**origin, **row} for row in rows(options.bodies, options.heads, options.primary)]
    write_csv(options.output / "bodies.csv", written)
    for kind in ("body", "drawn"):
        chosen = [row for row in written if row["kind"] == kind]
        if not chosen:
            continue
        print(kind, len(chosen))
        for name in list(chosen[0])[list(chosen[0]).index("area_cm2") :]:
            values = np.array([row.get(name, np.nan) for row in chosen], float)
            print(f"  {name:16} {np.nanmean(values):8.3f} +- {np.nanstd(values):.3f}")


if __name__ == "__main__":
    main()
