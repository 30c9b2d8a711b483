"""Regions of a study in which methods are compared: head outline and VOIs, and the tracer that decides on them."""

from dataclasses import dataclass

import numpy as np

from spectac.recon import Image, InputError
from spectac.recon.attenuation import uniform_map
from spectac.recon.contour import Outline
from spectac.recon.pipeline import StudySolver
from spectac.recon.quantify import voi_mean
from spectac.recon.resample import resample
from spectac.recon.types import Array
from spectac.recon.voi import Vois, place

SIMILAR_FITS = 0.01
"""Difference of the correlations of both templates: 1 of 24 virtual patients comes as close, with VOIs 9 mm off."""
FOCAL_RATIO = 1.25
"""Striata over cortex above which an image with VOIs from labels is taken as a DAT scan; perfusion shows about 1."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Head outline, VOIs and tracer of a study, None where they could not be found, and warnings about them."""

    outline: Outline | None = None
    vois: Vois | None = None
    tracer: str | None = None
    warnings: tuple[str, ...] = ()

    def voi(self, name: str) -> Array | None:
        """Weights (z, y, x) of a VOI from 0 to 1; None where there is no such VOI."""
        return None if self.vois is None else self.vois.masks.get(name)

    @property
    def watched(self) -> tuple[str, ...]:
        """Names of the two VOIs whose ratio shows the convergence; none without these VOIs."""
        names = ("striata", "reference") if self.tracer == "dat" else ("cortex", "white matter")
        return names if all(self.voi(name) is not None for name in names) else ()


def find_regions(solver: StudySolver, vois: Vois | None, tracer: str | None) -> Regions:
    """Regions of a study on the grid of its reconstruction.

    `vois` are those from labels, None where a template is to place them; `tracer` is that of the user, None where the
    image is to tell it. The outline and the image of the template are those of the uniform map.
    """
    warnings: list[str] = []
    outline = image = None
    try:
        outline, image = _with_uniform_map(solver)
        if vois is None:
            vois = place(image, tracer, solver.grid)
    except InputError as error:
        unplaced = "the head's outline was not found, and no VOI placed without labels: "
        warnings.append(str(error) if outline is not None else f"{unplaced}{error}")
    warnings += placement_warnings(vois, tracer)
    found_tracer = tracer or (None if vois is None else vois.tracer) or _tracer_shown(image, vois)
    return Regions(outline, vois, found_tracer, tuple(warnings))


def _with_uniform_map(solver: StudySolver) -> tuple[Outline, Image]:
    """Head outline on the grid of the reconstruction, and the preview that the uniform map corrects."""
    mu, _ = uniform_map(solver, None, None)
    return Outline((mu.per_cm / mu.per_cm.max()).astype(np.float32), mu.grid), solver.preview(mu=mu)


def placement_warnings(vois: Vois | None, tracer: str | None) -> list[str]:
    """Warnings about VOIs of a doubtful template, where the user named no tracer, and about VOIs beyond the field."""
    warnings = []
    fits = [] if vois is None else list(vois.fits.values())
    if vois is not None and tracer is None and len(fits) > 1 and np.ptp(fits) < SIMILAR_FITS:
        warnings.append(f"the templates of both tracers fit alike, {vois.tracer} was taken: --tracer says which it is")
    if vois is not None and vois.cut:
        warnings.append(f"the field ends inside of these VOIs: {', '.join(vois.cut)}")
    return warnings


def _tracer_shown(image: Image | None, vois: Vois | None) -> str | None:
    """Tracer that an image shows in VOIs from labels; None where that cannot be told."""
    if image is None or vois is None or not {"striata", "cortex"} <= set(vois.masks):
        return None
    values = resample(image.values, image.grid, vois.grid)
    focal = voi_mean(values, vois.masks["striata"]) > FOCAL_RATIO * voi_mean(values, vois.masks["cortex"])
    return "dat" if focal else "perfusion"
