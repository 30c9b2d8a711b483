"""Gamma cameras with their protocols: which views they take, through which windows, and how many photons they count."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spectac.recon.collimator import COLLIMATORS, Collimator, Focus
from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.photons.detector import Crystal, geometric_efficiency
from spectac.recon.photons.montecarlo import Camera
from spectac.recon.photons.penetration import high_energy_share, relative_share
from spectac.recon.types import Acquisition, EnergyWindow
from spectac.simulate import orbit
from spectac.simulate.draws import between, one_of

if TYPE_CHECKING:
    from spectac.simulate.head import Head

ORBITS = ("circular", "elliptical", "contour")
"""Kinds of orbit."""

SCHEMES = {
    "photopeak": ("photopeak",),
    "dew": ("photopeak", "scatter"),
    "tew": ("photopeak", "lower", "upper"),
    "tew+scatter": ("photopeak", "lower", "upper", "scatter"),
}
"""Names of the windows of each scheme."""

FRAME_OF_REFERENCE = "2.25.148390252197534286430124911650341182"
"""One UID for all virtual patients: they share the camera's coordinates (2.25: from a UUID, no registered root)."""

START = datetime(2000, 1, 1, 12)
"""Begin of every virtual scan: files have a place for it, nothing depends on it."""

SCATTER_WINDOW = (92.0 / 140.5, 126.0 / 140.5)
"""Wide Compton window over the peak energy: 92-126 keV for Tc-99m (Jaszczak et al., J Nucl Med 1984;25:893-900)."""

_POSITIVE = (
    "energy_resolution", "crystal_mm", "pixel_mm", "radius_mm", "radius_b_mm", "lowest_radius_mm", "view_seconds",
    "photopeak_width", "side_width",
)  # fmt: skip


@dataclass(frozen=True)
class Scanner:
    """A camera with a collimator and a protocol.

    Parameters
    ----------
    name
        Name of the preset, or "drawn".
    collimator
        Name in recon's table.
    heads
        1, 2 or 3, which start `arc_deg` / heads apart and share the `views`.
    energy_resolution
        FWHM/E at 140.5 keV.
    crystal_mm
        Thickness of the crystal.
    matrix
        (z, u) pixels.
    pixel_mm
        Edge of a pixel on the detector. A fan beam's columns lie nearer to each other in the patient.
    views, arc_deg, start_deg
        Number of views, the arc that they divide, and the angle of the first.
    orbit
        One of ORBITS.
    radius_mm
        Axis to collimator face; for an ellipse along x.
    radius_b_mm
        The same along y, for an ellipse.
    clearance_mm, lowest_radius_mm
        A contour orbit's distance from the head, and its least radius, because of the shoulders.
    table_z_mm
        Where the field's centre lies in the head's frame.
    view_seconds
        Time of a view.
    scheme
        Name in SCHEMES. "lower" and "upper" touch the photopeak; "scatter" is wide.
    photopeak_width, side_width
        Widths over the peak energy.
    side_kev
        Width of the side windows in keV, instead of `side_width`.
    high_energy_scale
        Factor on `high_energy_share`; 0 turns those photons off.
    focus
        Transaxial focus in place of that of the collimator in the table.

    Raises
    ------
    InputError
        For an unknown collimator, orbit or scheme, and for values out of range.

    Examples
    --------
    >>> scanner = Scanner("mine", "ge-lehr", views=60, scheme="dew")
    >>> [window.name for window in scanner.windows("Tc-99m")]
    ['photopeak', 'scatter']
    >>> scanner.acquisition("Tc-99m").shape
    (60, 128, 128)
    """

    name: str
    collimator: str
    _: KW_ONLY
    heads: int = 2
    energy_resolution: float = 0.098
    crystal_mm: float = 9.5
    matrix: tuple[int, int] = (128, 128)
    pixel_mm: float = 3.3
    views: int = 120
    arc_deg: float = 360.0
    start_deg: float = 0.0
    orbit: str = "circular"
    radius_mm: float = 140.0
    radius_b_mm: float = 150.0
    clearance_mm: float = 15.0
    lowest_radius_mm: float = 110.0
    table_z_mm: float = 0.0
    view_seconds: float = 30.0
    scheme: str = "tew"
    photopeak_width: float = 0.20
    side_width: float = 0.07
    side_kev: float | None = None
    high_energy_scale: float = 1.0
    focus: Focus | None = None

    def __post_init__(self) -> None:
        for field, choices in (
            ("collimator", COLLIMATORS), ("heads", (1, 2, 3)), ("orbit", ORBITS), ("scheme", SCHEMES),
        ):  # fmt: skip
            if getattr(self, field) not in choices:
                raise InputError(f"{field} {getattr(self, field)!r} is not one of {', '.join(map(str, choices))}")
        if self.views < self.heads or self.views % self.heads:
            raise InputError(f"{self.views} views cannot be shared by {self.heads} heads: use a multiple of the heads")
        for field in _POSITIVE:
            if not getattr(self, field) > 0:
                raise InputError(f"{field} must be above 0, got {getattr(self, field)}")
        if self.clearance_mm < 0 or self.high_energy_scale < 0:
            raise InputError("clearance_mm and high_energy_scale must not be negative")
        if not 0 < self.arc_deg <= 360:
            raise InputError(f"arc_deg must lie in (0, 360], got {self.arc_deg:g}")
        if not (self.photopeak_width < 0.5 and self.side_width < 0.2):
            raise InputError(
                "windows are shares of the peak energy: photopeak_width below 0.5 and side_width below 0.2, "
                f"got {self.photopeak_width} and {self.side_width}"
            )
        if self.side_kev is not None and not 0 < self.side_kev < 30:
            raise InputError(f"side_kev must lie between 0 and 30 keV, got {self.side_kev}")

    @property
    def collimator_data(self) -> Collimator:
        """The collimator's row in recon's table, with the scanner's focus where it has one."""
        row = COLLIMATORS[self.collimator]
        return row if self.focus is None else replace(row, focus=self.focus)

    def record(self) -> dict[str, Any]:
        """Fields as plain values, which `of_record` takes back. The focus is left out for parallel holes."""
        values = asdict(self)
        del values["focus"]
        focus = self.collimator_data.focus
        return values if focus is None else {**values, "focus": asdict(focus)}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Scanner":
        """Scanner of a record, also one that was written to JSON.

        Parameters
        ----------
        record
            What `record` gave.
        """
        fields = {**record, "matrix": tuple(record["matrix"])}
        if fields.get("focus") is not None:
            fields["focus"] = Focus(**fields["focus"])
        return cls(**fields)

    @property
    def crystal(self) -> Crystal:
        """The crystal and its energy resolution."""
        return Crystal(self.energy_resolution, self.crystal_mm)

    @property
    def high_energy_share(self) -> float:
        """Counts of I-123's photons above 400 keV over its primary, both in this scanner's photopeak window, in air."""
        ratio = relative_share(self.crystal, self.photopeak_width)
        return self.high_energy_scale * ratio * high_energy_share(self.collimator_data)

    def windows(self, nuclide: str) -> tuple[EnergyWindow, ...]:
        """Energy windows of the scheme for the nuclide's main line, the photopeak first.

        Parameters
        ----------
        nuclide
            Name of the nuclide.
        """
        kev = nuclide_by_name(nuclide).main_kev
        half = 0.5 * self.photopeak_width * kev
        side = self.side_width * kev if self.side_kev is None else self.side_kev
        peak = EnergyWindow("photopeak", kev - half, kev + half)
        lower = EnergyWindow("lower", peak.lower_kev - side, peak.lower_kev)
        upper = EnergyWindow("upper", peak.upper_kev, peak.upper_kev + side)
        bottom, top = (share * kev for share in SCATTER_WINDOW)
        # The wide window ends where the next one begins: no photon is counted twice, and windows stay independent.
        wide = EnergyWindow("scatter", bottom, min(top, (peak if self.scheme == "dew" else lower).lower_kev))
        return tuple(window for window in (peak, lower, upper, wide) if window.name in SCHEMES[self.scheme])

    def view_angles_deg(self) -> NDArray[np.float64]:
        """Angles (v,) in degrees: the views of head 0 along its arc, then those of the next head."""
        return np.mod(self.start_deg + np.arange(self.views) * self.arc_deg / self.views, 360.0)

    def radii_mm(self, head: "Head | None" = None) -> NDArray[np.float64]:
        """Distances (v,) from the axis to the collimator face.

        Parameters
        ----------
        head
            Virtual head; needed by a contour orbit.

        Raises
        ------
        InputError
            Where a contour orbit lacks its head, or another orbit hits it.
        """
        angles = self.view_angles_deg()
        if self.orbit == "contour":
            if head is None:
                raise InputError("a contour orbit needs the head that it follows: give head, or use a circular orbit")
            return orbit.contour_radii_mm(head, angles, self.clearance_mm, self.lowest_radius_mm)
        front_back_mm = self.radius_b_mm if self.orbit == "elliptical" else self.radius_mm
        radii = orbit.elliptical_radii_mm(angles, self.radius_mm, front_back_mm)
        if head is not None:
            orbit.check_clear(head, angles, radii)
        return radii

    def around(self, head: "Head") -> "Scanner":
        """Scanner with the same protocol whose orbit clears the head, widened where it must be.

        Parameters
        ----------
        head
            Virtual head.
        """
        if self.orbit == "contour":
            return self
        angles = self.view_angles_deg()
        missing = float((orbit.reach_mm(head, angles) - self.radii_mm()).max()) + 1.0
        if missing <= 1.0:
            return self
        # Growing both semi-axes by m grows an ellipse's radius by at least m times the smaller over the larger one.
        missing *= max(self.radius_mm, self.radius_b_mm) / min(self.radius_mm, self.radius_b_mm)
        return replace(self, radius_mm=self.radius_mm + missing, radius_b_mm=self.radius_b_mm + missing)

    def acquisition(self, nuclide: str, head: "Head | None" = None) -> Acquisition:
        """Acquisition of a nuclide around a head, with the axis at x = y = 0; heads move at the same time.

        Parameters
        ----------
        nuclide
            Name of the nuclide.
        head
            Virtual head; needed by a contour orbit.

        Raises
        ------
        InputError
            Where the orbit would hit the head, or a contour orbit has none.
        """
        each = self.views // self.heads
        return Acquisition(
            view_angles_deg=self.view_angles_deg(),
            radii_mm=self.radii_mm(head),
            matrix=self.matrix,
            pixel_mm=(self.pixel_mm, self.pixel_mm),
            view_seconds=np.full(self.views, self.view_seconds),
            nuclide=nuclide,
            collimator=self.collimator_data,
            start=START,
            view_start_s=np.tile(np.arange(each) * self.view_seconds, self.heads),
            detector=np.repeat(np.arange(self.heads), each),
            axis_lps_mm=(0.0, 0.0, self.table_z_mm - 0.5 * (self.matrix[0] - 1) * self.pixel_mm),
            frame_of_reference_uid=FRAME_OF_REFERENCE,
            patient_position="HFS",
            corrections=frozenset({"UNIF", "COR"}),
            energy_resolution=self.energy_resolution,
            crystal_mm=self.crystal_mm,
        )

    def cps_per_kbq(self, nuclide: str) -> float:
        """Counts per second in the photopeak window of one head for 1 kBq in air: the main line's primary photons.

        Collimator efficiency (Anger) * acceptance * photons per decay * 1000. Septal penetration, as of I-123's photons
        above 400 keV, is not in it. Assumes: as `Crystal`; a SIMIND Symbia with I-123 and LEHR counts 9 % less.

        Parameters
        ----------
        nuclide
            Name of the nuclide.
        """
        kev, per_decay = nuclide_by_name(nuclide).lines[0]
        accepted = float(self.crystal.acceptance(self.windows(nuclide)[0], kev))
        return 1000.0 * geometric_efficiency(self.collimator_data, kev) * accepted * per_decay

    def camera(self, acquisition: Acquisition, windows: tuple[EnergyWindow, ...] | None = None) -> Camera:
        """Camera for the Monte Carlo of an activity in kBq/mL, with the scanner's own windows unless others are given.

        Parameters
        ----------
        acquisition
            Acquisition of this scanner, changed or not.
        windows
            Energy windows to count in.
        """
        standard = self.windows(acquisition.nuclide)
        calibration = self.cps_per_kbq(acquisition.nuclide)
        return Camera(acquisition, windows or standard, self.crystal, standard[0], calibration)


# Crystals: OpenGATE's scanner models (Siemens, GE), Koenik et al., Phys Med Biol 2019;64:245001 (Philips),
# doi:10.1055/s-0040-1708299 (Mediso: 5/8 inch). Pixels are what 128 columns give at a usual zoom for heads. They and
# the energy resolutions (data sheets: 9.5 to 9.9 %) are assumed.
_INTEVO = Scanner("siemens-intevo-lehr", "siemens-lehr", energy_resolution=0.099, pixel_mm=3.3)
_NM670 = Scanner("ge-nm670-lehr", "ge-lehr", energy_resolution=0.098, pixel_mm=3.45)
_BRIGHTVIEW = Scanner("philips-brightview-lehr", "philips-lehr", energy_resolution=0.096, pixel_mm=3.19)
_TRIO = Scanner("mediso-trio-lehr", "mediso-lehr", heads=3, energy_resolution=0.096, pixel_mm=3.2, crystal_mm=15.9)
_PRESETS = (
    _INTEVO,
    replace(_INTEVO, name="siemens-intevo-legp", collimator="siemens-legp"),
    replace(_INTEVO, name="siemens-intevo-leuhr", collimator="siemens-leuhr"),
    replace(_INTEVO, name="siemens-intevo-me", collimator="siemens-me"),
    _NM670,
    replace(_NM670, name="ge-nm670-legp", collimator="ge-legp"),
    replace(_NM670, name="ge-nm670-megp", collimator="ge-megp"),
    _BRIGHTVIEW,
    replace(_BRIGHTVIEW, name="philips-brightview-legp", collimator="philips-legp"),
    replace(_BRIGHTVIEW, name="philips-brightview-megp", collimator="philips-megp"),
    _TRIO,
    replace(_TRIO, name="mediso-trio-leuhr", collimator="mediso-leuhr"),
    replace(_TRIO, name="mediso-trio-legp", collimator="mediso-legp"),
    replace(_TRIO, name="mediso-trio-megp", collimator="mediso-megp"),
    replace(_INTEVO, name="siemens-symbia-thick-lehr", crystal_mm=15.9),
    Scanner(
        "older-one-head-legp", "siemens-legp", heads=1, energy_resolution=0.105, matrix=(64, 64), pixel_mm=6.6,
        views=60, view_seconds=40.0, radius_mm=150.0, scheme="photopeak",
    ),
    # A brain camera of three heads in the style of the GCA-9300R, whose collimator's geometry is not known: a fan of
    # 500 mm on 410 x 256 mm sees 131 mm about the axis. The Millennium VG's fan of 350 mm on 512 mm sees 112 mm.
    Scanner("brain-three-head-fan", "prism-lehr-fan", heads=3, matrix=(80, 128), pixel_mm=3.2, radius_mm=135.0),
    Scanner("ge-millennium-vg-fan", "ge-vg-leuhr-fan", matrix=(64, 128), pixel_mm=4.0, radius_mm=140.0),
)  # fmt: skip

SCANNERS: Mapping[str, Scanner] = MappingProxyType({scanner.name: scanner for scanner in _PRESETS})
"""Cameras by name, listed one by one: a new row of recon's table of collimators changes no virtual patient."""

LOW_ENERGY = (
    "siemens-lehr", "siemens-legp", "siemens-leuhr", "ge-lehr", "ge-legp", "philips-lehr", "philips-legp",
    "mediso-lehr", "mediso-leuhr", "mediso-legp",
)  # fmt: skip
"""Collimators of training. Their order belongs to the draw of a camera: a patient changes with it."""


@dataclass(frozen=True)
class ScannerRanges:
    """What `draw_scanner` draws from: (least, most) of a uniform distribution, or (name, share of the draws).

    The fields that are not listed here are those of Scanner.

    Parameters
    ----------
    ellipse_mm
        How much farther than `radius_mm` an ellipse reaches in front and at the back.
    table_sd_mm
        Standard deviation of the field's centre.
    cut_share, cut_mm
        Share of the draws in which the field's centre moves by `cut_mm` upwards, which cuts the chin and neck, or as
        far downwards, which cuts the vertex.
    pixel_mm, width_mm, length_mm
        The matrix covers width and length with pixels of this size. A camera's own 128 x 128 pixels are wider, but
        show air beside the head.
    """

    collimators: tuple[str, ...] = LOW_ENERGY
    heads: tuple[tuple[int, float], ...] = ((1, 0.1), (2, 0.7), (3, 0.2))
    orbits: tuple[tuple[str, float], ...] = (("circular", 0.6), ("elliptical", 0.15), ("contour", 0.25))
    schemes: tuple[tuple[str, float], ...] = (("photopeak", 0.2), ("dew", 0.2), ("tew", 0.35), ("tew+scatter", 0.25))
    crystals_mm: tuple[tuple[float, float], ...] = ((9.5, 0.8), (15.9, 0.2))
    radius_mm: tuple[float, float] = (110.0, 160.0)
    ellipse_mm: tuple[float, float] = (0.0, 30.0)
    clearance_mm: tuple[float, float] = (8.0, 30.0)
    lowest_radius_mm: tuple[float, float] = (110.0, 125.0)
    energy_resolution: tuple[float, float] = (0.085, 0.11)
    photopeak_width: tuple[float, float] = (0.15, 0.20)
    side_width: tuple[float, float] = (0.03, 0.07)
    view_seconds: tuple[float, float] = (15.0, 40.0)
    high_energy_scale: tuple[float, float] = (0.5, 1.5)
    table_sd_mm: float = 8.0
    cut_share: float = 0.15
    cut_mm: tuple[float, float] = (20.0, 60.0)
    pixel_mm: tuple[float, float] = (3.2, 4.8)
    width_mm: tuple[float, float] = (256.0, 300.0)
    length_mm: tuple[float, float] = (230.0, 360.0)
    views: tuple[tuple[int, float], ...] = ((60, 0.8), (90, 0.2))


TRAINING = ScannerRanges()
"""Cameras that networks are trained on."""

_UNIFORM = (
    "clearance_mm", "lowest_radius_mm", "energy_resolution", "photopeak_width", "side_width", "view_seconds",
    "high_energy_scale",
)  # fmt: skip
"""Fields that are drawn alone from a range of their own name, in the order of the draw."""


def draw_scanner(rng: np.random.Generator, *, ranges: ScannerRanges = TRAINING) -> Scanner:
    """A random camera and protocol at the resolution of training data; all numbers come from `rng`.

    Its circle or ellipse may hit a large head: use `Scanner.around`. `dataclasses.replace` changes single numbers.

    Parameters
    ----------
    rng
        Generator.
    ranges
        What to draw from.

    Returns
    -------
    Scanner
        Camera named "drawn".

    Examples
    --------
    >>> draw_scanner(np.random.default_rng(1)).views in (60, 90)
    True
    """
    # The order of the draws belongs to every patient of a cohort.
    radius_mm = between(rng, *ranges.radius_mm)
    shift_mm = float(rng.normal(0.0, ranges.table_sd_mm))
    cut_mm = between(rng, *ranges.cut_mm) * (1.0 if rng.random() < 0.5 else -1.0)
    is_cut = bool(rng.random() < ranges.cut_share)
    drawn: dict[str, object] = {
        "collimator": ranges.collimators[int(rng.integers(len(ranges.collimators)))],
        "heads": one_of(rng, ranges.heads),
        "orbit": one_of(rng, ranges.orbits),
        "scheme": one_of(rng, ranges.schemes),
        "crystal_mm": one_of(rng, ranges.crystals_mm),
        "radius_mm": radius_mm,
        "radius_b_mm": radius_mm + between(rng, *ranges.ellipse_mm),
        **{name: between(rng, *getattr(ranges, name)) for name in _UNIFORM},
        "start_deg": between(rng, 0.0, 360.0),
        "table_z_mm": shift_mm + (cut_mm if is_cut else 0.0),
    }
    pixel_mm, *field_mm = (between(rng, *limits) for limits in (ranges.pixel_mm, ranges.length_mm, ranges.width_mm))
    matrix = tuple(2 * round(0.5 * length / pixel_mm) for length in field_mm)
    drawn |= {"pixel_mm": pixel_mm, "matrix": matrix, "views": one_of(rng, ranges.views)}
    return Scanner("drawn", **drawn)  # type: ignore[arg-type]
