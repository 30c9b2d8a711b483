"""What a user says in place of a study's files: each option declared once, for Python, command line, TOML and batch."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from spectac.recon.errors import InputError

if TYPE_CHECKING:
    from spectac.recon.collimator import Collimator


def _about(
    help_text: str,
    parse: Callable[[str], Any] | None = None,
    *,
    kind: type = str,
    metavar: str | None = None,
    option: str | None = None,
) -> Mapping[str, Any]:
    """How the command line gives a field: its option's help, text's reader, type and name (None: the field's)."""
    return {"help": help_text, "parse": parse, "kind": kind, "metavar": metavar, "option": option}


def _collimator(text: str) -> "Collimator":
    from spectac.recon.collimator import collimator

    return collimator(text)


def _psf(text: str) -> "Collimator":
    from spectac.recon.collimator import parse_psf

    return parse_psf(text)


def _numbers(option: str, example: str) -> Callable[[str], tuple[float, ...]]:
    """Reader of "A,B"."""

    def parse(text: str) -> tuple[float, ...]:
        try:
            return tuple(float(part) for part in text.split(","))
        except ValueError:
            raise InputError(f"{option} needs numbers with commas, e.g. {example}, not {text!r}") from None

    return parse


def _sizes(text: str) -> tuple[float, ...]:
    sizes = _numbers("--pixel-mm", "4.8 or 4.8,4.8")(text)
    return sizes * 2 if len(sizes) == 1 else sizes


def date_and_time(option: str) -> Callable[[str], datetime]:
    """Reader of a date with a time of day: a date alone is no midnight."""

    def parse(text: str) -> datetime:
        try:
            if ":" in text:
                return datetime.fromisoformat(text)
        except ValueError:
            pass
        raise InputError(f"{option} needs a date and time, e.g. 2026-11-02T09:30, not {text!r}")

    return parse


def _number(option: str) -> Callable[[str], float]:
    """Reader of a number, which a table of studies holds as text."""

    def parse(text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise InputError(f"{option} needs a number, not {text!r}") from None

    return parse


@dataclass(frozen=True)
class Given:
    """Values that replace or complete what a study's files say; None (False for `apply_cor`) leaves it to the files.

    Angles in degrees in our convention (0 = detector at the patient's back, growing counter-clockwise seen from the
    feet), lengths in mm, times in s. `psf` takes the place of `collimator`; `head_angles_deg`: first view of each head;
    `rotation`: "cc" or "cw" seen from the feet; `step_deg`: angle between views, above 0; `view_seconds`: of each view;
    `start`: when the acquisition began; `pixel_mm`: (z, u).
    Raises InputError, naming the option, for values that no study can have.
    """

    nuclide: str | None = field(
        default=None, metadata=_about("Nuclide, e.g. I-123; one that the table lacks as NAME:KEV:HALFLIFE_H.")
    )
    collimator: "Collimator | None" = field(
        default=None, metadata=_about("Collimator, e.g. siemens-lehr; a wrong name lists them.", _collimator)
    )
    psf: "Collimator | None" = field(
        default=None,
        metadata=_about("Measured resolution: sigma = SIGMA0 + SLOPE * distance.", _psf, metavar="SIGMA0_MM:SLOPE"),
    )
    radius_mm: float | None = field(
        default=None,
        metadata=_about(
            "Axis to collimator face, for all views; replaces the orbit.",
            _number("--radius-mm"),
            kind=float,
            metavar="MM",
        ),
    )
    head_angles_deg: tuple[float, ...] | None = field(
        default=None,
        metadata=_about(
            "Angle of each head's first view in degrees, e.g. 0,180.",
            _numbers("--head-angles", "0,180"),
            metavar="A,B",
            option="head_angles",
        ),
    )
    rotation: str | None = field(
        default=None, metadata=_about("Sense of rotation seen from the feet: cc or cw.", metavar="cc|cw")
    )
    step_deg: float | None = field(
        default=None,
        metadata=_about("Angle between views in degrees.", _number("--step-deg"), kind=float, metavar="DEG"),
    )
    view_seconds: float | None = field(
        default=None,
        metadata=_about("Time of each view in seconds.", _number("--view-seconds"), kind=float, metavar="S"),
    )
    start: datetime | None = field(
        default=None,
        metadata=_about("When the acquisition began, e.g. 2026-11-02T09:30.", date_and_time("--start"), metavar="TIME"),
    )
    pixel_mm: tuple[float, float] | None = field(
        default=None, metadata=_about("Pixel size in mm: one number, or Z,U.", _sizes, metavar="MM")
    )
    apply_cor: bool = field(
        default=False, metadata=_about("Shift the views by DICOM's CenterOfRotationOffset.", kind=bool)
    )

    def __post_init__(self) -> None:
        if self.nuclide is not None:
            from spectac.recon.nuclides import nuclide

            object.__setattr__(self, "nuclide", nuclide(self.nuclide).name)
        if self.psf is not None:
            if self.collimator is not None:
                raise InputError("give --collimator or --psf, not both")
            object.__setattr__(self, "collimator", self.psf)
        for name in ("radius_mm", "step_deg", "view_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be a number above 0, not {value}")
        if self.step_deg is not None and self.step_deg > 180:
            raise InputError(f"--step-deg must be at most 180, not {self.step_deg:g}: --rotation gives the sense")
        if self.head_angles_deg is not None:
            object.__setattr__(self, "head_angles_deg", tuple(float(angle) for angle in self.head_angles_deg))
            if not all(abs(angle) <= 360 for angle in self.head_angles_deg):
                listed = ",".join(f"{angle:g}" for angle in self.head_angles_deg)
                raise InputError(f"--head-angles needs angles from -360 to 360 deg, not {listed}")
        if self.pixel_mm is not None and not (len(self.pixel_mm) == 2 and all(0 < s < math.inf for s in self.pixel_mm)):
            raise InputError(f"--pixel-mm needs one size above 0 mm, or two for z and u, not {self.pixel_mm}")
        if self.rotation is not None:
            object.__setattr__(self, "rotation", self.rotation.lower())
            if self.rotation not in ("cc", "cw"):
                raise InputError(f"--rotation needs cc or cw, not {self.rotation!r}")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Given":
        """From the values of options by their names, texts as the command line has them: {"head_angles": "0,180"}."""
        values = {}
        for name, one in OPTIONS.items():
            if name in options:
                value, parse = options[name], one.metadata["parse"]
                values[one.name] = parse(value) if parse is not None and isinstance(value, str) else value
        return cls(**values)

    def history(self) -> Iterator[str]:
        """Lines on what was given."""
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name in ("psf", "apply_cor") or value is None:
                continue
            if isinstance(value, tuple):
                value = ", ".join(f"{part:g}" for part in value)
            elif isinstance(value, float):
                value = f"{value:g}"
            yield f"given by the user: {one.name} = {getattr(value, 'name', value)}"


OPTIONS = {one.metadata["option"] or one.name: one for one in fields(Given)}
"""The fields by the names of their options."""

NOTHING_GIVEN = Given()
"""Leaves everything to the files."""
