"""What a comparison measures in every method's image, in the rows of comparison.csv."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from spectac.recon import Image
from spectac.recon.agreement import bland_altman
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
from spectac.recon.voi import SIDES, Vois

MAIN = ("brain", "cortex", "white matter", "cerebellum", "reference", "striata")
"""Regions whose means stand in short tables."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The image that others are compared with, "truth" or "ct"; `scaled` where its level was taken from theirs."""

    name: str
    image: Image
    scaled: bool


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
    """Rows of every method: regional measures, and the agreement with the reference's image inside the brain or head.

    A measure that an image does not allow (a reference region without counts) is left out.
    """
    rows = []
    own = None if reference is None else _regional(reference.image, vois, tracer)
    for name, image in images.items():
        found = _regional(image, vois, tracer)
        for (measure, region), (value, unit) in found.items():
            told = own.get((measure, region)) if own is not None and reference is not None else None
            if told is None or (reference is not None and reference.name == name):
                rows.append(Row(name, "done", "", measure, region, value, unit))
            else:
                assert reference is not None
                rows.append(Row(name, "done", "", measure, region, value, unit, reference.name, told[0]))
        if reference is not None and reference.name != name:
            rows += _agreement(name, image, reference, vois, outline)
    return rows + [Row(name, "failed", reason) for name, reason in refused.items()]


def _regional(image: Image, vois: Vois | None, tracer: str | None) -> dict[tuple[str, str], tuple[float, str]]:
    """Values and units by measure and region."""
    if vois is None:
        return {}
    values, masks = image.values, vois.masks
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
        # A box that the field's end cuts no longer holds the striatum.
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


def _agreement(name: str, image: Image, reference: Reference, vois: Vois | None, outline: Outline | None) -> list[Row]:
    """Differences to the reference's image: NRMSE and SSIM where it counts, limits of agreement over the regions."""
    where, mask = _where(image, vois, outline)
    told = reference.name
    rows = [
        Row(name, "done", "", "NRMSE", where, nrmse(image.values, reference.image.values, mask), "", told),
        Row(name, "done", "", "SSIM", where, ssim(image.values, reference.image.values, mask), "", told),
    ]
    if vois is not None:
        regions = [region for region in vois.masks if region.split()[0] in SIDES and not region.endswith(" box")]
        pairs = [
            (voi_mean(image.values, vois.masks[region]), voi_mean(reference.image.values, vois.masks[region]))
            for region in regions
        ]
        if len(pairs) >= 3 and all(sum(pair) > 0 for pair in pairs):
            limits = bland_altman(*(np.array(side) for side in zip(*pairs, strict=True)), percent=True)
            for measure, value in (
                ("Bland-Altman bias %", limits.bias),
                ("Bland-Altman lower limit %", limits.lower),
                ("Bland-Altman upper limit %", limits.upper),
            ):
                rows.append(Row(name, "done", "", measure, f"{len(pairs)} regions", value, "", told))
    return rows


def _where(image: Image, vois: Vois | None, outline: Outline | None) -> tuple[str, Array | None]:
    """The part of the image in which it is compared: the head's outline, else the brain, else everything."""
    if outline is not None:
        return "head", (resample(outline.mask, outline.grid, image.grid) > 0.5).astype(np.float32)
    if vois is not None and "brain" in vois.masks:
        return "brain", vois.masks["brain"]
    return "field", None
