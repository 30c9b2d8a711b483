"""What a network's training covered, measured on its patients and kept with the weights; see learned.doubts."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from spectac.learned.appearance import Appearance, columns_mm, edge_share, sharper
from spectac.learned.patients import SIDE_WINDOWS, previews_of, scanner_of
from spectac.recon.errors import InputError
from spectac.recon.preview import preview_factors
from spectac.recon.types import Array, Image
from spectac.simulate.cohort.patient_arrays import WINDOWS, PatientArrays
from spectac.simulate.orbit import contour_radii_mm
from spectac.simulate.scanner import Scanner

if TYPE_CHECKING:
    from spectac.simulate.head import Head


RARE = 0.01
"""Share of the patients that is left out at either end of a range: a few show foci alone, or hardly a head."""


@dataclass(frozen=True)
class Coverage:
    """What training covered; limits for new data follow from it.

    `energies_kev` of the imaged lines; `least_counts` of a photopeak, `least_side_counts` of the window that fills the
    scatter channel; `sigma_mm` (least, most) blur of the collimator at the rotation axis, averaged over the views;
    `edge_share` most counts beside the head over its middle, see `appearance.edge_share`; `sharper` least ratio of the
    detail in the photopeak to that in a window below it;
    `head_ml` (least, most) volume that shows in the photopeak; `hottest` most of the hottest 5 mL over the head's
    level; `height_mm` least that the field reached down from the top of the head; `pixel_mm` largest pixel of a
    preview's projections; `views` fewest; `peak_width` (least, most) of the photopeak's window over its middle;
    `energy_loss` (least, most) of the window that fills the scatter channel, see inputs.energy_loss. `uncertainty` and
    `outline_mm` are limits that training sets from its validation patients.
    """

    energies_kev: tuple[float, ...]
    least_counts: float
    least_side_counts: float
    sigma_mm: tuple[float, float]
    edge_share: float
    sharper: float
    head_ml: tuple[float, float]
    hottest: float
    height_mm: float
    pixel_mm: float
    views: float
    peak_width: tuple[float, float]
    energy_loss: tuple[float, float]
    uncertainty: float
    outline_mm: float

    @classmethod
    def of(cls, patients: Iterable[PatientArrays], *, uncertainty: float, outline_mm: float) -> "Coverage":
        """Ranges over a cohort's patients. Raises InputError for none.

        Assumes: a contour orbit's radii, which a cohort does not keep, follow from the labels on the preview's grid;
        what lies above or below it (shoulders are not simulated) may have held the detector farther away.
        """
        energies: set[float] = set()
        rows = []
        for patient in patients:
            energies.add(round(patient.energy_kev, 3))
            scanner = scanner_of(patient)
            sigma_mm = scanner.collimator_data.sigma_mm(_radii_mm(patient, scanner), patient.energy_kev)
            look = Appearance.of(Image(patient.preview[0], patient.grid, "cps/mL"))
            rows.append(
                (
                    float(patient.counts.sum(dtype=np.float64)),
                    float(np.mean(sigma_mm)),
                    edge_share(patient.counts, columns_mm(patient.counts.shape[2], scanner.pixel_mm)),
                    _least_sharper(patient),
                    math.nan if look is None else look.head_ml,
                    math.nan if look is None else look.hottest,
                    math.nan if look is None else look.height_mm,
                    max(preview_pixel_mm((scanner.pixel_mm,) * 2)),
                    float(scanner.views),
                    scanner.photopeak_width,
                    previews_of(patient).energy_loss or math.nan,
                    _side_counts(patient),
                )
            )
        if not rows:
            raise InputError("coverage needs at least one patient of a cohort, got none")
        known = [[value for value in column if not math.isnan(value)] for column in zip(*rows, strict=True)]
        if not known[4]:
            raise InputError("no head stands out in the photopeak of any patient: this is no cohort to train with")
        # A cohort without any scatter window sets no limit of its own for one.
        ordered = [sorted(column) or [1.0] for column in known]
        least = [column[int(RARE * (len(column) - 1))] for column in ordered]
        most = [column[-1 - int(RARE * (len(column) - 1))] for column in ordered]
        return cls(
            energies_kev=tuple(sorted(energies)),
            least_counts=least[0],
            least_side_counts=least[11],
            sigma_mm=(least[1], most[1]),
            edge_share=most[2],
            sharper=least[3],
            head_ml=(least[4], most[4]),
            hottest=most[5],
            height_mm=least[6],
            pixel_mm=most[7],
            views=least[8],
            peak_width=(least[9], most[9]),
            energy_loss=(least[10], most[10]),
            uncertainty=float(uncertainty),
            outline_mm=float(outline_mm),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values that json.dumps takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Coverage":
        """Coverage from what `to_json` gave, tuples as lists or not. Raises InputError for other names."""
        wanted = [field.name for field in fields(cls)]
        if sorted(values) != sorted(wanted):
            raise InputError(f"a coverage needs {', '.join(wanted)}; got {', '.join(sorted(values)) or 'nothing'}")
        return cls(
            **{
                name: tuple(float(one) for one in value) if isinstance(value, list | tuple) else float(value)
                for name, value in values.items()
            }  # type: ignore[arg-type]
        )


def _radii_mm(patient: PatientArrays, scanner: Scanner) -> Array:
    if scanner.orbit != "contour":
        return scanner.radii_mm()
    # It asks for labels and their grid alone, which a cohort's patient has as well as a head.
    angles = scanner.view_angles_deg()
    return contour_radii_mm(cast("Head", patient), angles, scanner.clearance_mm, scanner.lowest_radius_mm)


def _side_counts(patient: PatientArrays) -> float:
    """Counts of the window that fills the scatter channel, NaN where there is none."""
    counts = patient.parameters["counts"]
    return next((float(counts[name]) for name in SIDE_WINDOWS if name in counts), math.nan)


def _least_sharper(patient: PatientArrays) -> float:
    """Least ratio of the detail in the photopeak to that in a window below it, NaN where there is none."""
    below = [patient.preview[row] for row, name in enumerate(WINDOWS) if name in SIDE_WINDOWS and patient.windows[row]]
    return min((sharper(patient.preview[0], values, patient.grid.voxel_ml) for values in below), default=math.nan)


def preview_pixel_mm(pixel_mm: tuple[float, float]) -> tuple[float, float]:
    """Pixels (z, u) of a preview's projections in mm, rebinned from those of the camera."""
    factor_z, factor_u = preview_factors(pixel_mm)
    return factor_z * pixel_mm[0], factor_u * pixel_mm[1]
