"""Kinds of cameras that cohorts are made with.

All but "usual", the first cohorts' cameras, hold out for the benchmark: HELD_OUT's collimators,
a focal length of 355 mm, pixels of 5.5 mm, circles of 165 to 190 mm, energy resolutions of 0.115 to 0.13, and cameras
with one head.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from spectac.recon.collimator import Focus
from spectac.simulate.draws import between, one_of
from spectac.simulate.scanner import LOW_ENERGY, TRAINING, Scanner, ScannerRanges, draw_scanner

HELD_OUT = ("philips-chr", "prism-leuhr-fan", "ge-elegp")
"""Collimators of no cohort."""

FAN_BEAM = ("prism-legp-fan", "prism-lehr-fan", "ge-vg-leuhr-fan")
MEDIUM_ENERGY = ("siemens-me", "siemens-meplus", "ge-megp", "philips-megp", "mediso-megp", "toshiba-megp")

_LOW = replace(TRAINING, collimators=LOW_ENERGY, heads=((2, 0.78), (3, 0.22)), ellipse_mm=(0.0, 5.0))

CAMERAS: Mapping[str, ScannerRanges] = MappingProxyType(
    {
        "low-energy": replace(_LOW, ellipse_mm=(0.0, 30.0)),
        "fan-beam": replace(
            _LOW,
            collimators=FAN_BEAM,
            radius_mm=(115.0, 150.0),
            pixel_mm=(3.0, 4.6),
            width_mm=(400.0, 520.0),
            length_mm=(210.0, 300.0),
        ),
        "medium-energy": replace(_LOW, collimators=MEDIUM_ENERGY),
        "clinical": replace(
            _LOW,
            heads=((2, 1.0),),
            pixel_mm=(3.0, 4.8),
            views=((60, 0.3), (64, 0.2), (90, 0.1), (120, 0.3), (128, 0.1)),
        ),
    }
)
"""Ranges of each kind; a clinical matrix has 128 x 128 pixels, a fan beam a focus of FOCAL_MM."""

HELD_OUT_CAMERAS = replace(
    TRAINING,
    collimators=HELD_OUT,
    heads=((1, 1.0),),
    orbits=(("circular", 1.0),),
    radius_mm=(165.0, 190.0),
    energy_resolution=(0.115, 0.13),
    pixel_mm=(5.5, 5.5),
    width_mm=(470.0, 520.0),
)
"""Cameras that only the benchmark has."""

FOCAL_MM = (400.0, 600.0)
HELD_OUT_FOCAL_MM, HELD_OUT_FAN_MM = (355.0, 355.0), (115.0, 145.0)
"""Focus of the fan that is held out, and its circles, from which it sees at least 105 mm about the axis."""
CLINICAL_MATRIX = (128, 128)

SHARES = (("low-energy", 0.5), ("fan-beam", 0.17), ("medium-energy", 0.16), ("clinical", 0.17))
"""Kinds of a mixed cohort."""

FEWEST_COUNTS = 0.1
"""Half of the patients are scanned for a shorter time, down to this share, evenly over its logarithm."""

KINDS = ("usual", "mixed", *CAMERAS)
"""What a cohort may ask for; "usual" are low-energy cameras at usual times, none of them held out."""


def draw_camera(kind: str, rng: np.random.Generator) -> Scanner:
    """A random camera of a kind.

    Parameters
    ----------
    kind
        One of KINDS.
    rng
        Generator.

    Returns
    -------
    Scanner
        Camera named "drawn"; its circle or ellipse may hit a large head: use `Scanner.around`.

    Examples
    --------
    >>> draw_camera("clinical", np.random.default_rng(1)).matrix
    (128, 128)
    """
    if kind == "usual":
        return draw_scanner(rng)
    if kind == "mixed":
        kind = one_of(rng, SHARES)
    scanner = draw_scanner(rng, ranges=CAMERAS[kind])
    shorter = math.exp(between(rng, math.log(FEWEST_COUNTS), 0.0)) if rng.random() < 0.5 else 1.0
    scanner = replace(scanner, view_seconds=scanner.view_seconds * shorter)
    if kind == "clinical":
        scanner = replace(scanner, matrix=CLINICAL_MATRIX)
    return with_focus(scanner, rng)


def draw_held_out(rng: np.random.Generator, ranges: ScannerRanges = HELD_OUT_CAMERAS) -> Scanner:
    """A random camera of the benchmark that no cohort has.

    Parameters
    ----------
    rng
        Generator.
    ranges
        HELD_OUT_CAMERAS, with other schemes of windows at most.

    Returns
    -------
    Scanner
        Camera named "drawn".

    Examples
    --------
    >>> draw_held_out(np.random.default_rng(1)).pixel_mm
    5.5
    """
    scanner = with_focus(draw_scanner(rng, ranges=ranges), rng, HELD_OUT_FOCAL_MM)
    return scanner if scanner.focus is None else replace(scanner, radius_mm=between(rng, *HELD_OUT_FAN_MM))


def with_focus(scanner: Scanner, rng: np.random.Generator, focal_mm: tuple[float, float] = FOCAL_MM) -> Scanner:
    """A camera whose fan-beam collimator has a random focus and a circular orbit; others as they are.

    Parameters
    ----------
    scanner
        Camera.
    rng
        Generator, used for a fan beam alone.
    focal_mm
        Range of the distance from the collimator's face to the focus, in mm.

    Returns
    -------
    Scanner
        The camera.

    Examples
    --------
    >>> with_focus(Scanner("fan", "prism-lehr-fan"), np.random.default_rng(1), (355.0, 355.0)).focus.length_mm
    355.0
    """
    if scanner.collimator_data.focus is None:
        return scanner
    return replace(scanner, focus=Focus(between(rng, *focal_mm), "face"), orbit="circular")
