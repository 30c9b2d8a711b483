"""Sizes of virtual heads against published anatomy: a picture of 24 heads, a table of 200, histograms.

    python -m benchmarks.simulation.heads -o FOLDER [--heads 200] [--seed 0]

Four minutes on 2 cores. Writes heads.csv (the measures of simulate/anatomy/measures.py), heads.png (mid-sagittal,
coronal and axial slices of each head: attenuation at 140.5 keV above, tissue below) and heads_distributions.png (adults
with published adult ranges).
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.provenance import provenance, write_csv
from spectac.recon.types import Array
from spectac.simulate.anatomy.measures import analyse
from spectac.simulate.head import Head, draw_head
from spectac.simulate.regions import LABEL, REGIONS, labels

SHOWN = 24
DRAWS = ("sex", "age_years", "child", "craniotomy", "hyperostosis", "size", "skull_thickness_mm")


@dataclass(frozen=True)
class Published:
    """Adult range of a measure: `low` to `high` of men or women ("any" sex), with its source."""

    measure: str
    sex: str
    low: float
    high: float
    source: str


_ARMY = "5th-95th percentile, Gordon et al., US Army survey 1988, NATICK/TR-89/044 (from memory)"
_THAI = "mean +- 2 mm, Chulalongkorn Med J 2022, 66:337, doi 10.14456/clmj.2022.41 (cadavers; spread assumed)"
_ICV = "mean +- 2 SD, MR, Ahmad et al., J Biomed Clin Sci (58 adults over 40)"
_BRAIN = "+- 17 % around 1260 mL in men and 1130 mL in women (textbook means, from memory; spread assumed)"
_STRIATUM = "mean +- 2 SD, MR, 100 adults of 18-70 y, J Zhejiang Univ Med Sci, MRI scan of striatum volume"
PUBLISHED = (
    Published("length_mm", "male", 185, 209, _ARMY),
    Published("length_mm", "female", 177, 198, _ARMY),
    Published("breadth_mm", "male", 143, 161, _ARMY),
    Published("breadth_mm", "female", 136, 153, _ARMY),
    Published("frontal_thickness_mm", "male", 5.8, 9.8, _THAI),
    Published("frontal_thickness_mm", "female", 5.4, 9.4, _THAI),
    Published("occipital_thickness_mm", "male", 7.4, 11.4, _THAI),
    Published("occipital_thickness_mm", "female", 6.6, 10.6, _THAI),
    Published("intracranial_ml", "male", 1296, 1696, _ICV),
    Published("intracranial_ml", "female", 1130, 1491, _ICV),
    Published("brain_ml", "male", 1050, 1480, _BRAIN),
    Published("brain_ml", "female", 940, 1320, _BRAIN),
    Published("caudates_ml", "any", 6.7, 10.2, _STRIATUM),
    Published("putamina_ml", "any", 7.1, 10.7, _STRIATUM),
)  # fmt: skip
PANELS = (
    ("length_mm", "head length (mm)"),
    ("breadth_mm", "head breadth (mm)"),
    ("height_mm", "vertex to bony chin (mm)"),
    ("frontal_thickness_mm", "frontal bone (mm)"),
    ("parietal_thickness_mm", "parietal bone (mm)"),
    ("temporal_thickness_mm", "temporal squama (mm)"),
    ("occipital_thickness_mm", "occipital bone (mm)"),
    ("intracranial_ml", "intracranial volume (mL)"),
    ("brain_ml", "brain volume (mL)"),
    ("ventricles_ml", "ventricles (mL)"),
    ("caudates_ml", "both caudates (mL)"),
    ("putamina_ml", "both putamina (mL)"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--heads", type=int, default=200, metavar="N", help="heads in the table (200)")
    parser.add_argument("--seed", type=int, default=0, help="the first head's seed (0)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    shown, rows, origin = [], [], provenance(options.seed)
    for seed in range(options.seed, options.seed + max(options.heads, SHOWN)):
        start = time.process_time()
        head = draw_head(np.random.default_rng(seed))
        seconds = time.process_time() - start
        if len(shown) < SHOWN:
            shown.append((seed, head))
        if len(rows) < options.heads:
            rows.append({**origin, "seed": seed} | measured(head) | {"cpu_seconds": round(seconds, 3)})
    write_csv(options.output / "heads.csv", rows)
    draw_heads(options.output / "heads.png", shown)
    draw_distributions(options.output / "heads_distributions.png", rows)
    report(rows)


def measured(head: Head) -> dict[str, object]:
    """Drawn parameters and measured sizes of one head."""
    sizes = analyse(head)
    sizes["caudates_ml"] = sizes["right_caudate_ml"] + sizes["left_caudate_ml"]
    sizes["putamina_ml"] = sizes["right_putamen_ml"] + sizes["left_putamen_ml"]
    drawn: dict[str, object] = {name: head.parameters[name] for name in DRAWS}
    return drawn | {name: round(value, 3) for name, value in sizes.items()}


def report(rows: list[dict[str, object]]) -> None:
    """Print mean and spread of adults by sex, and how many lie within the published range."""
    for measure, title in PANELS:
        line = f"{title:28s}"
        for sex in ("male", "female"):
            values = adults(rows, measure, sex)
            line += f"  {sex} {values.mean():7.1f} +- {values.std():5.1f}"
            for published in PUBLISHED:
                if published.measure == measure and published.sex in (sex, "any"):
                    share = np.mean((values > published.low) & (values < published.high))
                    line += f" ({100 * share:.0f} % in {published.low:g}-{published.high:g})"
        print(line)
    print(f"CPU seconds per head: {np.mean([float(str(row['cpu_seconds'])) for row in rows]):.2f}")


def adults(rows: list[dict[str, object]], measure: str, sex: str) -> Array:
    """Values of a measure in the adults of a sex without hyperostosis."""
    chosen = [row for row in rows if row["sex"] == sex and not row["child"] and not row["hyperostosis"]]
    return np.array([float(str(row[measure])) for row in chosen])


def slices(head: Head) -> tuple[tuple[int, int], ...]:
    """(axis, index) of the mid-sagittal slice and of the coronal and axial ones through the striata."""
    striata = np.argwhere(np.isin(head.labels, labels("caudate", "putamen"))).mean(axis=0)
    stem = np.argwhere(np.isin(head.labels, labels("brainstem", "spinal cord"))).mean(axis=0)
    return (2, round(0.5 * (stem[2] + striata[2]))), (1, round(striata[1])), (0, round(striata[0]))


def tissue(label_volume: Array) -> Array:
    """Grey values like those of a T1-weighted MR image, so that the brain's parts can be seen."""
    grey = np.full(len(REGIONS), 0.42)
    for name, index in LABEL.items():
        for part, value in (
            ("cortex", 0.58), ("white", 0.95), ("brainstem", 0.85), ("spinal cord", 0.85), ("csf", 0.12),
            ("ventricles", 0.12), ("eye", 0.15), ("fat", 1.0), ("caudate", 0.66), ("putamen", 0.66),
            ("thalamus", 0.75), ("diploe", 0.7), ("spine", 0.6), ("gland", 0.6),
        ):  # fmt: skip
            if part in name:
                grey[index] = value
    for name in ("outside", "air cavity", "head holder", "pillow", "skull", "dense bone", "teeth"):
        grey[LABEL[name]] = 0.0
    return grey[label_volume]


def tile(head: Head, rows: int, columns: tuple[int, int, int]) -> Array:
    """One head's six pictures (attenuation above, tissue below) side by side, each centred in its field."""
    volumes = head.mu(140.5).per_cm / 0.3, tissue(head.labels)
    lines = []
    for volume in volumes:
        line = []
        for (axis, index), width in zip(slices(head), columns, strict=True):
            image = np.take(volume, index, axis)
            image = (image if axis == 0 else image[::-1])[:rows, :width]
            field = np.zeros((rows, width))
            top, left = (rows - image.shape[0]) // 2, (width - image.shape[1]) // 2
            field[top : top + image.shape[0], left : left + image.shape[1]] = image
            line.append(field)
        lines.append(np.concatenate(line, axis=1))
    return np.clip(np.concatenate(lines), 0, 1)


def draw_heads(path: Path, shown: list[tuple[int, Head]], across: int = 4) -> None:
    """Heads in rows of four, every voxel the same size in all of them."""
    rows = max(max(head.labels.shape[0], head.labels.shape[1]) for _, head in shown) + 14
    columns = (max(h.labels.shape[1] for _, h in shown) + 2,) + (max(h.labels.shape[2] for _, h in shown) + 2,) * 2
    down = -(-len(shown) // across)
    pixels = 1.75
    figure = Figure(figsize=(across * sum(columns) * pixels / 100, down * 2 * rows * pixels / 100), facecolor="black")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis, (seed, head) in zip(axes, shown, strict=False):
        axis.imshow(tile(head, rows, columns), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        facts = head.parameters
        text = f"seed {seed}: {facts['sex']}, {float(facts['age_years']):.0f} y"
        text += "" if facts["craniotomy"] == "none" else f", craniotomy ({facts['craniotomy']})"
        text += ", hyperostosis" if facts["hyperostosis"] else ""
        axis.text(3, 3, text, color="gold", fontsize=9, va="top")
    for axis in axes:
        axis.axis("off")
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.01, hspace=0.01)
    figure.savefig(path, dpi=100, facecolor="black")


def draw_distributions(path: Path, rows: list[dict[str, object]]) -> None:
    """Histograms of adults by sex; bars above them are published adult ranges."""
    figure = Figure(figsize=(16, 13))
    sources: list[str] = []
    for axis, (measure, title) in zip(figure.subplots(4, 3).ravel(), PANELS, strict=True):
        both = np.concatenate([adults(rows, measure, sex) for sex in ("male", "female")])
        bins = np.linspace(*np.nanpercentile(both, [0, 100]), 22)
        for sex, colour in (("male", "tab:blue"), ("female", "tab:red")):
            axis.hist(
                adults(rows, measure, sex), bins, color=colour, alpha=0.5, label="men" if sex == "male" else "women"
            )
        height = axis.get_ylim()[1]
        for published in (entry for entry in PUBLISHED if entry.measure == measure):
            if published.source not in sources:
                sources.append(published.source)
            colour = {"male": "tab:blue", "female": "tab:red", "any": "black"}[published.sex]
            level = height * {"male": 1.12, "female": 1.04, "any": 1.08}[published.sex]
            axis.plot([published.low, published.high], [level] * 2, color=colour, linewidth=4, solid_capstyle="butt")
            axis.text(published.high, level, f" [{sources.index(published.source) + 1}]", va="center", fontsize=8)
        axis.set_xlabel(title)
        axis.set_ylabel("heads")
    figure.axes[0].legend(frameon=False)
    notes = "\n".join(f"[{n}] {source}" for n, source in enumerate(sources, 1))
    figure.text(0.06, 0.01, "Bars: published adult ranges. Adults without hyperostosis.\n" + notes, fontsize=9)
    figure.subplots_adjust(left=0.06, right=0.98, top=0.98, bottom=0.13, hspace=0.32, wspace=0.2)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
