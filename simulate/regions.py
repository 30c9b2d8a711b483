"""The regions of a virtual head: label numbers, what they are made of, and the groups that tracers and VOIs use."""

from dataclasses import dataclass

from spectac.recon.errors import InputError
from spectac.recon.tissues import INDEX
from spectac.recon.voi import LOBES, SIDES


@dataclass(frozen=True)
class Region:
    """A region of the label volume and its material.

    Parameters
    ----------
    name
        Name.
    material
        Name in recon.tissues.

    Examples
    --------
    >>> REGIONS[LABEL["skull"]].material
    'cranium'
    """

    name: str
    material: str


def _both(names: tuple[str, ...], material: str) -> tuple[Region, ...]:
    return tuple(Region(f"{side} {name}", material) for name in names for side in SIDES)


REGIONS = (
    Region("outside", "air"),
    Region("skin", "soft tissue"),
    Region("fat", "adipose"),
    Region("muscle", "muscle"),
    Region("mucosa", "soft tissue"),
    Region("skull", "cranium"),
    Region("diploe", "spongiosa"),
    Region("dense bone", "cortical bone"),
    Region("teeth", "cortical bone"),
    Region("spine", "spongiosa"),
    Region("spinal cord", "brain"),
    Region("air cavity", "air"),
    Region("eye", "csf"),
    Region("csf", "csf"),
    Region("ventricles", "csf"),
    Region("choroid plexus", "soft tissue"),
    Region("brainstem", "brain"),
    Region("cerebellar white matter", "brain"),
    *_both(tuple(f"{lobe} cortex" for lobe in LOBES), "brain"),
    *_both(("white matter", "caudate", "putamen", "thalamus", "cerebellar cortex"), "brain"),
    *_both(("parotid gland", "submandibular gland"), "soft tissue"),
    Region("head holder", "plastic"),
    Region("pillow", "foam"),
)
"""Ordered: a region's index is its label (uint8)."""

LABEL = {region.name: index for index, region in enumerate(REGIONS)}
"""Label by the region's name."""

MATERIAL_OF_LABEL = tuple(INDEX[region.material] for region in REGIONS)
"""Index into tissues.MATERIALS of every label."""


def labels(*names: str) -> tuple[int, ...]:
    """Labels of regions by their names.

    Parameters
    ----------
    names
        Names of regions; one without its side means both sides.

    Returns
    -------
    tuple of int
        Labels in the order of the names, right before left.

    Raises
    ------
    InputError
        For an unknown name.

    Examples
    --------
    >>> labels("outside", "skin")
    (0, 1)
    """
    numbers: list[int] = []
    for name in names:
        regions = [full for full in (name, *(f"{side} {name}" for side in SIDES)) if full in LABEL]
        if not regions:
            raise InputError(f"region {name!r} is not one of {', '.join(LABEL)}")
        numbers += [LABEL[full] for full in regions]
    return tuple(numbers)


CORTEX = labels(*(f"{lobe} cortex" for lobe in LOBES))
WHITE = labels("white matter", "cerebellar white matter")
DEEP_GREY = labels("caudate", "putamen", "thalamus")
BRAIN = (*CORTEX, *WHITE, *DEEP_GREY, *labels("cerebellar cortex", "brainstem"))
INTRACRANIAL = (*BRAIN, *labels("csf", "ventricles", "choroid plexus"))
BONE = labels("skull", "diploe", "dense bone", "teeth", "spine")
BESIDE = labels("outside", "head holder", "pillow")
"""What is no part of the patient."""
