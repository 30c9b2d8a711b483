"""Rescale of DICOM NM files: slope, intercept and unit between stored and real values, read and written."""

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from spectac.recon.io.dicom.elements import Item
from spectac.recon.io.dicom.nm_write_header import code, dataset
from spectac.recon.types import Array

UNITS = {
    "cps/mL": ("{counts}/s/ml", "Counts per second per milliliter"),
    "kBq/mL": ("kBq/ml", "Kilobecquerels per milliliter"),
    "relative": ("1", "no units"),
}
"""UCUM code and meaning of each unit of `Image`."""

COUNT_UNITS = (None, "", "1", "{counts}", "{count}", "counts", "CNTS", "no units")
"""UCUM codes that can stand for counts, None where there is none."""

_LARGEST = 1e20
"""32-bit values times this still fit into float32."""


@dataclass(frozen=True)
class Rescale:
    """Line from stored to real values.

    Parameters
    ----------
    slope, intercept : float
        Real value = slope x stored value + intercept.
    unit : str or None
        UCUM code of the unit where one is given.
    history : tuple of str
        Which elements gave the line.

    Examples
    --------
    >>> values = np.array([0.0, 100.0])
    >>> Rescale(slope=0.5, intercept=1.0).apply(values)
    >>> values.tolist()
    [1.0, 51.0]
    """

    slope: float = 1.0
    intercept: float = 0.0
    unit: str | None = None
    history: tuple[str, ...] = ()

    def apply(self, values: Array) -> None:
        """Turn stored values into real ones, in place."""
        if (self.slope, self.intercept) != (1.0, 0.0):
            values *= self.slope
            values += self.intercept


def read_rescale(item: Item) -> Rescale:
    """Slope, intercept and unit of a file.

    RealWorldValueMappingSequence goes before RescaleSlope: it maps stored values, whatever the rescale says.

    Parameters
    ----------
    item : Item
        Dataset of the file.

    Returns
    -------
    Rescale
        Slope 1 and intercept 0 where the file gives none.

    Raises
    ------
    InputError
        For a lookup table, a slope of 0, or mappings that contradict each other.

    Examples
    --------
    >>> from pathlib import Path
    >>> data = Dataset()
    >>> data.RescaleSlope, data.RescaleIntercept = "0.01", "0"
    >>> read_rescale(Item(data, Path("image.dcm"))).slope
    0.01
    """
    slope, intercept = _line(item, "Rescale")
    mappings = []
    for mapping in item.items("RealWorldValueMappingSequence"):
        if "RealWorldValueLUTData" in mapping.data:
            raise mapping.error("RealWorldValueLUTData holds a lookup table: only a slope is understood")
        if mapping.number("RealWorldValueSlope") is not None:
            units = [unit.text("CodeValue") for unit in mapping.items("MeasurementUnitsCodeSequence")]
            mappings.append((*_line(mapping, "RealWorldValue"), units[0] if units else None))
    if len(set(mappings)) > 1:
        raise item.error(f"RealWorldValueMappingSequence holds {len(mappings)} mappings that differ: one is needed")
    if mappings:
        real_slope, real_intercept, unit = mappings[0]
        lines = [f"values = {real_slope:g} x stored + {real_intercept:g} (RealWorldValueMappingSequence)"]
        if (slope, intercept) != (real_slope, real_intercept) and item.number("RescaleSlope") is not None:
            lines.append(f"RescaleSlope {slope:g} and RescaleIntercept {intercept:g} say otherwise and were not used")
        return Rescale(real_slope, real_intercept, unit, tuple(lines))
    if (slope, intercept) == (1.0, 0.0):
        return Rescale()
    line = f"values = {slope:g} x stored + {intercept:g} (RescaleSlope, RescaleIntercept)"
    return Rescale(slope, intercept, history=(line,))


def _line(item: Item, kind: str) -> tuple[float, float]:
    """Slope (1 where it is absent) and intercept, by the beginning of their keywords."""
    slope, intercept = item.number(f"{kind}Slope"), item.number(f"{kind}Intercept") or 0.0
    slope = 1.0 if slope is None else slope
    if slope == 0:
        raise item.error(f"{kind}Slope is 0: every pixel would have the same value")
    for word, value in (("Slope", slope), ("Intercept", intercept)):
        if abs(value) > _LARGEST:
            raise item.error(f"{kind}{word} is {value:g}: no scale of an image")
    return slope, intercept


def put_rescaled(data: Dataset, values: Array, unit: str) -> Array:
    """Stored 16-bit integers of real values; writes their slope as RescaleSlope and, with its unit, as a mapping.

    They are unsigned where no value is below 0. The slope is rounded to the text that is stored, so that it is exact.

    Parameters
    ----------
    data : Dataset
        Gets slope, intercept and mapping.
    values : array
        Real values in any shape.
    unit : str
        A key of UNITS, e.g. "cps/mL".

    Returns
    -------
    array
        uint16, or int16 where a value is below 0, in the shape of the values.

    Examples
    --------
    >>> data = Dataset()
    >>> stored = put_rescaled(data, np.array([0.0, 13.1]), "cps/mL")
    >>> int(stored.max()), round(float(stored.max() * data.RescaleSlope), 3)
    (65535, 13.1)
    """
    signed = bool(values.min() < 0)
    limits = np.iinfo(np.int16 if signed else np.uint16)
    largest = float(np.abs(values).max())
    # Nine digits, rounded up: the largest value must not overflow.
    slope = f"{np.nextafter(largest / limits.max * (1 + 1e-8), np.inf):.9e}" if largest else "1"
    data.RescaleSlope, data.RescaleIntercept = slope, "0"
    ucum, meaning = UNITS[unit]
    mapping = dataset(
        LUTExplanation=f"stored value to {unit}",
        LUTLabel="activity",
        RealWorldValueSlope=float(slope),
        RealWorldValueIntercept=0.0,
        MeasurementUnitsCodeSequence=Sequence([code(ucum, "UCUM", meaning)]),
    )
    mapping.add_new("RealWorldValueFirstValueMapped", "SS" if signed else "US", int(limits.min))
    mapping.add_new("RealWorldValueLastValueMapped", "SS" if signed else "US", int(limits.max))
    data.RealWorldValueMappingSequence = Sequence([mapping])
    return np.rint(values.astype(np.float64) / float(slope)).astype(limits.dtype)
