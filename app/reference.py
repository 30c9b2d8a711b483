"""Reference image of a comparison: the truth where it is known, else the image that the CT corrects."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from spectac.app.ancillary import Truth
from spectac.app.regions import Regions
from spectac.recon import Image
from spectac.recon.quantify import voi_mean
from spectac.recon.voi import Vois

CORRECTED = ("ct", "map", "predicted", "uniform", "chang")
"""Methods to whose level a truth in another unit is scaled, the best first."""


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
