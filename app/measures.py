"""Measures of a comparison: regional means and ratios of every image, and its agreement with another image."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from spectac.app.ancillary import Truth
from spectac.app.regions import Regions
from spectac.recon import Image, InputError
from spectac.recon.quantify import (
    STRIATAL_ML,
    asymmetry_percent,
    caudate_putamen_ratio,
    nrmse,
    southampton_sbr,
    ssim,
    striatal_binding_ratio,
    voi_mean,
    voi_total,
)
from spectac.recon.resample import resample
from spectac.recon.types import Array
from spectac.recon.voi import GROUPS, SIDES, Vois

Key = tuple[str, str]
"""Measure and region."""

MAIN = ("brain", "cortex", "white matter", "cerebellum", "reference", "striata")
"""Regions whose means stand in short tables."""


CORRECTED = ("ct", "map", "predicted", "uniform", "chang")
"""Methods to whose level a truth in another unit is scaled, the best first."""


@dataclass(frozen=True)
class Row:
    """Row of comparison.csv: one measure of one method; or, without a measure, the reason why there is none."""

    method: str
    measure: str = ""
    region: str = ""
    value: float = math.nan
    unit: str = ""
    reference: str = ""
    reference_value: float = math.nan
    status: str = "done"
    reason: str = ""

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "method", "status", "reason", "measure", "region", "value", "unit", "reference", "reference_value",
        "difference_percent",
    )  # fmt: skip

    @property
    def difference_percent(self) -> float:
        """Difference in percent of the reference's value; NaN where there is none."""
        if not (math.isfinite(self.reference_value) and self.reference_value != 0):
            return math.nan
        return 100.0 * (self.value - self.reference_value) / abs(self.reference_value)

    def as_text(self) -> dict[str, str]:
        """Columns of comparison.csv; unknown numbers are empty."""
        values = {name: getattr(self, name) for name in self.COLUMNS}
        return {name: _as_text(value) if isinstance(value, float) else value for name, value in values.items()}


def _as_text(number: float) -> str:
    return f"{number:.6g}" if math.isfinite(number) else ""


@dataclass(frozen=True, eq=False)
class Reference:
    """Image with which the others are compared, "truth" or "ct", on their grid.

    `original` is a truth on the finer grid of its file, with its VOIs there. `scaled` is True where the truth has the
    level of another image, so that levels cannot be compared.
    """

    name: str
    image: Image
    original: Image | None = None
    original_vois: Vois | None = None
    scaled: bool = False


def reference_of(
    truth: Truth | None, images: Mapping[str, Image], regions: Regions
) -> tuple[Reference | None, list[str]]:
    """Reference for the images of all methods, None where there is none, and warnings about it."""
    ct = Reference("ct", images["ct"]) if "ct" in images else None
    if truth is None:
        return ct, []
    unit = next(iter(images.values())).unit
    image = truth.image
    if image.unit == unit:
        return Reference("truth", image, truth.original, truth.original_vois), []
    units = f"the truth is in {image.unit}, the images in {unit}"
    brain = regions.voi("brain")
    if brain is None or not voi_mean(image.values, brain) > 0:
        return ct, [f"{units}, and no VOI tells the scale: not compared"]
    method = next((name for name in CORRECTED if name in images), next(iter(images)))
    scale = voi_mean(images[method].values, brain) / voi_mean(image.values, brain)
    scaled = replace(image, values=image.values * np.float32(scale), unit=unit)
    return Reference("truth", scaled, scaled=True), [
        f"{units}: it was scaled to the brain's mean of {method}, so that levels say nothing about it; "
        "--calibration compares them"
    ]


def measured(
    images: Mapping[str, Image], refused: Mapping[str, str], reference: Reference | None, regions: Regions
) -> list[Row]:
    """Rows of every method: regional measures beside the reference's, and the agreement with another image.

    A truth on its own grid has rows as a method of its own, which show what blur and voxels take from it. Images as a
    whole are compared with that of the CT, else of the given map, else with the truth: the first two have the same
    noise and blur. A measure that an image does not allow (a reference region without counts) is left out.
    """
    rows = []
    whole = next((Reference(name, images[name]) for name in ("ct", "map") if name in images), reference)
    reference_rows = {} if reference is None else _regional(reference.image, regions.vois, regions.tracer)
    for name, image in images.items():
        others = {} if reference is None or reference.name == name else reference_rows
        for (measure, region), (value, unit) in _regional(image, regions.vois, regions.tracer).items():
            row = Row(name, measure, region, value, unit)
            if reference is not None and (measure, region) in others and not (reference.scaled and unit):
                row = replace(row, reference=reference.name, reference_value=others[measure, region][0])
            rows.append(row)
        if reference is not None and reference.name != name and not reference.scaled:
            rows += _over_regions(name, image, reference, regions.vois)
        if whole is not None and whole.name != name:
            rows += _agreement(name, image, whole, regions)
    if reference is not None and reference.original is not None:
        original = _regional(reference.original, reference.original_vois, regions.tracer)
        rows += [Row(reference.name, measure, region, *value) for (measure, region), value in original.items()]
    return rows + [Row(name, status="failed", reason=reason) for name, reason in refused.items()]


MAP_UNCERTAINTY = "uncertainty of the mean by the head's map %"
"""68 % of regional means are less wrong by the error of an estimated map, what lies beside the head left out."""


def uncertainty_rows(spreads: Mapping[str, Image], vois: Vois | None) -> list[Row]:
    """Rows of MAP_UNCERTAINTY for every region, of the methods whose map knows how unsure it is."""
    masks = {} if vois is None else vois.masks
    return [
        Row(method, MAP_UNCERTAINTY, name, 100.0 * voi_mean(spread.values, voi))
        for method, spread in spreads.items()
        for name, voi in masks.items()
        if not name.endswith(" box")
    ]


NOISE = "noise of the "
"""Before the name of a measure: its standard deviation over repeated scans."""


def noise_rows(repeats: Mapping[str, Sequence[Image]], regions: Regions) -> list[Row]:
    """Rows of NOISE for every measure, of the methods with images of repeated scans."""
    rows = []
    for method, images in repeats.items():
        each = [_regional(image, regions.vois, regions.tracer) for image in images] or [{}]
        for (measure, region), (_, unit) in each[0].items():
            values = [one[measure, region][0] for one in each if (measure, region) in one]
            if len(values) == len(each):
                rows.append(Row(method, NOISE + measure, region, float(np.std(values, ddof=1)), unit))
    return rows


def _regional(image: Image, vois: Vois | None, tracer: str | None) -> dict[Key, tuple[float, str]]:
    """Values and units by measure and region."""
    if vois is None:
        return {}
    means = {name: voi_mean(image.values, voi) for name, voi in vois.masks.items() if not name.endswith(" box")}
    ratios: dict[Key, float] = {}
    if tracer == "dat":
        ratios = _binding(image, vois, means)
    elif tracer == "perfusion":
        ratios = _over_cerebellum(means)
    return {("mean", name): (mean, image.unit) for name, mean in means.items()} | {
        key: (ratio, "") for key, ratio in ratios.items()
    }


def _binding(image: Image, vois: Vois, means: Mapping[str, float]) -> dict[Key, float]:
    """Binding ratios of a DAT scan, their asymmetries, caudate over putamen."""
    ratios: dict[Key, float] = {}
    reference = means.get("reference", 0.0)
    if not reference > 0:
        return ratios
    for part in ("striatum", "caudate", "putamen"):
        sides = [side for side in SIDES if f"{side} {part}" in means]
        of_part = [striatal_binding_ratio(means[f"{side} {part}"], reference) for side in sides]
        ratios |= {("SBR", f"{side} {part}"): ratio for side, ratio in zip(sides, of_part, strict=True)}
        if len(of_part) == 2 and sum(of_part) > 0:
            ratios["SBR asymmetry %", part] = asymmetry_percent(*of_part)
    for side in SIDES:
        southampton = _southampton(image, vois, f"{side} striatum box", means.get("brain without striata", 0.0))
        if southampton is not None:
            ratios["SBR (Southampton)", f"{side} striatum"] = southampton
        caudate, putamen = (ratios.get(("SBR", f"{side} {part}"), 0.0) for part in ("caudate", "putamen"))
        if caudate > 0 and putamen > 0:
            ratios["caudate over putamen (SBR)", side] = caudate_putamen_ratio(caudate, putamen)
    return ratios


def _southampton(image: Image, vois: Vois, name: str, around: float) -> float | None:
    """SBR from the counts in a large box; None where the field's end cuts it, so that it lacks striatal counts."""
    box = None if name in vois.cut else vois.masks.get(name)
    volume_ml = 0.0 if box is None else float(box.sum()) * image.grid.voxel_ml
    if box is None or not (around > 0 and volume_ml > STRIATAL_ML):
        return None
    return southampton_sbr(voi_total(image.values, box, image.grid.voxel_ml), volume_ml, around)


def _over_cerebellum(means: Mapping[str, float]) -> dict[Key, float]:
    """Means of a perfusion scan over the cerebellum's, and the asymmetries of both sides."""
    ratios: dict[Key, float] = {}
    cerebellum = means.get("cerebellum", 0.0)
    for name, mean in means.items():
        if cerebellum > 0 and name not in ("cerebellum", "reference"):
            ratios["over cerebellum", name] = mean / cerebellum
    for name in means:
        sides = [means.get(f"{side} {name}", 0.0) for side in SIDES]
        if all(side > 0 for side in sides):
            ratios["asymmetry %", name] = asymmetry_percent(*sides)
    return ratios


def _over_regions(name: str, image: Image, reference: Reference, vois: Vois | None) -> list[Row]:
    """Mean and largest difference in percent of the reference, over the regions that are no union of others."""
    if vois is None:
        return []
    off = {}
    for region, parts in GROUPS.items():
        if parts == (region,) and region in vois.masks:
            mean = voi_mean(reference.image.values, vois.masks[region])
            if mean > 0:
                off[region] = 100.0 * (voi_mean(image.values, vois.masks[region]) / mean - 1.0)
    if len(off) < 2:
        return []
    worst = max(off, key=lambda region: abs(off[region]))
    average = sum(abs(value) for value in off.values()) / len(off)
    return [
        Row(name, "mean |difference| of regions %", f"{len(off)} regions", average, "", reference.name),
        Row(name, "largest difference of a region %", worst, off[worst], "", reference.name),
    ]


def _agreement(name: str, image: Image, other: Reference, regions: Regions) -> list[Row]:
    """NRMSE and SSIM against another image inside the head, the brain or the field, where that is large enough."""
    where, mask = _compared_part(image, regions)
    rows = []
    for measure, error in (("NRMSE", nrmse), ("SSIM", ssim)):
        with suppress(InputError):  # too few voxels for SSIM's window, or nothing in the mask
            rows.append(Row(name, measure, where, error(image.values, other.image.values, mask), "", other.name))
    return rows


def _compared_part(image: Image, regions: Regions) -> tuple[str, Array | None]:
    """Name and mask of the part of an image that is compared: the head's outline, else the brain, else everything."""
    outline, brain = regions.outline, regions.voi("brain")
    if outline is not None:
        return "head", (resample(outline.mask, outline.grid, image.grid) > 0.5).astype(np.float32)
    return ("field", None) if brain is None else ("brain", brain)
