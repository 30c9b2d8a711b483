"""What a comparison measures in every method's image, in the rows of comparison.csv."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from spectac.recon import Image, InputError
from spectac.recon.contour import Outline
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

MAIN = ("brain", "cortex", "white matter", "cerebellum", "reference", "striata")
"""Regions whose means stand in short tables."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The image that others are compared with, "truth" or "ct", on their grid.

    `own` is a truth on its own, finer grid, and `own_vois` its VOIs there, where they are known. `scaled`: its level
    was taken from another image, so that levels cannot be compared.
    """

    name: str
    image: Image
    own: Image | None = None
    own_vois: Vois | None = None
    scaled: bool = False


@dataclass(frozen=True)
class Row:
    """One number of one method; or, without a measure, the reason why there is none."""

    method: str
    status: str
    reason: str = ""
    measure: str = ""
    region: str = ""
    value: float = math.nan
    unit: str = ""
    reference: str = ""
    reference_value: float = math.nan

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "method", "status", "reason", "measure", "region", "value", "unit", "reference", "reference_value",
        "difference_percent",
    )  # fmt: skip

    @property
    def difference_percent(self) -> float:
        """Of the reference's value; NaN where there is none."""
        if not (math.isfinite(self.reference_value) and self.reference_value != 0):
            return math.nan
        return 100.0 * (self.value - self.reference_value) / abs(self.reference_value)

    def as_text(self) -> dict[str, str]:
        """Columns of comparison.csv; unknown numbers are empty."""
        numbers = {name: getattr(self, name) for name in ("value", "reference_value", "difference_percent")}
        texts = {name: str(getattr(self, name)) for name in self.COLUMNS if name not in numbers}
        return texts | {name: f"{number:.6g}" if math.isfinite(number) else "" for name, number in numbers.items()}


def measured(
    images: Mapping[str, Image],
    refused: Mapping[str, str],
    reference: Reference | None,
    vois: Vois | None,
    tracer: str | None,
    outline: Outline | None,
) -> list[Row]:
    """Rows of every method: regional measures with the reference's, and how far its image is from another one.

    A truth on its own grid has rows as a method of its own: what blur and voxels take from it is then seen. Images are
    compared as a whole with that of the CT, else of the given map, else with the truth: noise and blur are alike then.
    A measure that an image does not allow (a reference region without counts) is left out.
    """
    rows = []
    told = {} if reference is None else _regional(reference.image, vois, tracer)
    whole = next((Reference(name, images[name]) for name in ("ct", "map") if name in images), reference)
    for name, image in images.items():
        for (measure, region), (value, unit) in _regional(image, vois, tracer).items():
            row = Row(name, "done", "", measure, region, value, unit)
            known = None if reference is None or reference.name == name else told.get((measure, region))
            if reference is not None and known is not None and not (reference.scaled and unit):
                row = replace(row, reference=reference.name, reference_value=known[0])
            rows.append(row)
        if reference is not None and reference.name != name and not reference.scaled:
            rows += _over_regions(name, image, reference, vois)
        if whole is not None and whole.name != name:
            rows += _agreement(name, image, whole, vois, outline)
    if reference is not None and reference.own is not None:
        for (measure, region), (value, unit) in _regional(reference.own, reference.own_vois, tracer).items():
            rows.append(Row(reference.name, "done", "", measure, region, value, unit))
    return rows + [Row(name, "failed", reason) for name, reason in refused.items()]


def _regional(image: Image, vois: Vois | None, tracer: str | None) -> dict[tuple[str, str], tuple[float, str]]:
    """Values and units by measure and region."""
    if vois is None:
        return {}
    # A box that the field's end cuts no longer holds the striatum.
    masks = {name: voi for name, voi in vois.masks.items() if not (name.endswith(" box") and name in vois.cut)}
    values = image.values
    means = {name: voi_mean(values, voi) for name, voi in masks.items() if not name.endswith(" box")}
    found = {("mean", name): (mean, image.unit) for name, mean in means.items()}
    if tracer == "dat":
        found |= {key: (value, "") for key, value in _binding(image, masks, means).items()}
    elif tracer == "perfusion":
        found |= {key: (value, "") for key, value in _ratios(means).items()}
    return found


def _binding(image: Image, masks: Mapping[str, Array], means: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """Binding ratios of a DAT scan, their asymmetries, caudate over putamen."""
    found: dict[tuple[str, str], float] = {}
    reference = means.get("reference", 0.0)
    if not reference > 0:
        return found
    for part in ("striatum", "caudate", "putamen"):
        sides = {side: means[f"{side} {part}"] for side in SIDES if f"{side} {part}" in means}
        ratios = {side: striatal_binding_ratio(mean, reference) for side, mean in sides.items()}
        found |= {("SBR", f"{side} {part}"): ratio for side, ratio in ratios.items()}
        if len(ratios) == 2 and sum(ratios.values()) > 0:
            found["SBR asymmetry %", part] = asymmetry_percent(ratios["right"], ratios["left"])
    around = means.get("brain without striata", 0.0)
    for side in SIDES:
        box = masks.get(f"{side} striatum box")
        volume = 0.0 if box is None else float(box.sum()) * image.grid.voxel_ml
        if box is not None and around > 0 and volume > STRIATAL_ML:
            total = voi_total(image.values, box, image.grid.voxel_ml)
            found["SBR (Southampton)", f"{side} striatum"] = southampton_sbr(total, volume, around)
        caudate, putamen = (found.get(("SBR", f"{side} {part}"), 0.0) for part in ("caudate", "putamen"))
        if caudate > 0 and putamen > 0:
            found["caudate over putamen (SBR)", side] = caudate_putamen_ratio(caudate, putamen)
    return found


def _ratios(means: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """Means of a perfusion scan over the cerebellum's, and the asymmetries of both sides."""
    found: dict[tuple[str, str], float] = {}
    cerebellum = means.get("cerebellum", 0.0)
    for name, mean in means.items():
        if cerebellum > 0 and name not in ("cerebellum", "reference"):
            found["over cerebellum", name] = mean / cerebellum
    for name in means:
        sides = [means.get(f"{side} {name}", 0.0) for side in SIDES]
        if all(side > 0 for side in sides):
            found["asymmetry %", name] = asymmetry_percent(*sides)
    return found


def _over_regions(name: str, image: Image, reference: Reference, vois: Vois | None) -> list[Row]:
    """Mean and largest difference in percent of the reference, over the regions that are no union of others."""
    if vois is None:
        return []
    regions = [region for region, parts in GROUPS.items() if parts == (region,) and region in vois.masks]
    true = {region: voi_mean(reference.image.values, vois.masks[region]) for region in regions}
    off = {
        region: 100.0 * (voi_mean(image.values, vois.masks[region]) / mean - 1.0)
        for region, mean in true.items()
        if mean > 0
    }
    if len(off) < 2:
        return []
    worst = max(off, key=lambda region: abs(off[region]))
    mean = sum(abs(value) for value in off.values()) / len(off)
    return [
        Row(name, "done", "", "mean |difference| of regions %", f"{len(off)} regions", mean, "", reference.name),
        Row(name, "done", "", "largest difference of a region %", worst, off[worst], "", reference.name),
    ]


def _agreement(name: str, image: Image, other: Reference, vois: Vois | None, outline: Outline | None) -> list[Row]:
    """NRMSE and SSIM against another image inside the head, the brain or the field, where that is large enough."""
    where, mask = _where(image, vois, outline)
    rows = []
    for measure, found in (("NRMSE", nrmse), ("SSIM", ssim)):
        with suppress(InputError):  # too few voxels for SSIM's window, or nothing in the mask
            value = found(image.values, other.image.values, mask)
            rows.append(Row(name, "done", "", measure, where, value, "", other.name))
    return rows


def _where(image: Image, vois: Vois | None, outline: Outline | None) -> tuple[str, Array | None]:
    """The part of the image in which it is compared: the head's outline, else the brain, else everything."""
    if outline is not None:
        return "head", (resample(outline.mask, outline.grid, image.grid) > 0.5).astype(np.float32)
    if vois is not None and "brain" in vois.masks:
        return "brain", vois.masks["brain"]
    return "field", None
