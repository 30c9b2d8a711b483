"""CSV files of the attenuation study: their columns, how they are read, and the code that their rows follow from."""

import csv
from pathlib import Path

import numpy as np

from benchmarks.attenuation.measures import IMAGE_MEASURES, MAP_MEASURES
from benchmarks.provenance import ORIGIN
from spectac.recon.code_digest import code_digest

METHODS_CSV = "attenuation_methods.csv"
TUNING_CSV = "attenuation_tuning.csv"
NO_CASE = "(no case)"
"""In the column method: the row of a patient that could not be simulated."""
AGAINST = ("ct", "truth")
"""References of an image: that of the true map, and the true activity."""
ABOUT = (
    "tracer", "nuclide", "kind", "counts", "windows", "views", "pixel_mm", "rows", "columns", "collimator", "heads",
    "orbit", "radius_mm", "photopeak_width", "holder",
)  # fmt: skip
"""Facts of the patient and the camera."""
REGIONS = (
    "right striatum", "left striatum", "striata", "reference", "right frontal cortex", "left frontal cortex",
    "right parietal cortex", "left parietal cortex", "right temporal cortex", "left temporal cortex",
    "right occipital cortex", "left occipital cortex", "cingulate cortex", "cortex", "deep grey", "white matter",
    "cerebellum", "brain",
)  # fmt: skip
"""Regions whose means stand in a row, those of the image and those of the truth."""
MEASURES = (
    *(f"{name}_vs_{other}" for other in AGAINST for name in IMAGE_MEASURES),
    *MAP_MEASURES,
    *(f"{kind}_{name.replace(' ', '_')}" for kind in ("mean", "true") for name in REGIONS),
)
METHODS_COLUMNS = (
    "set", "patient", "method", "settings", "histories", *ABOUT, "scatter", "compared", *MEASURES, "seconds",
    "fell_back", "notes", "load", "code", "made_by", *ORIGIN,
)  # fmt: skip
TUNING_COLUMNS = (
    "patient", "method", "nuclide", "tracer", "mu_per_cm", *IMAGE_MEASURES, "notes", "code", "made_by", *ORIGIN,
)  # fmt: skip
"""Columns; made_by is the digest of the code that made a row which `carry` kept, empty where it is `code`."""
Row = dict[str, str]


def row_code() -> str:
    """Digest of the code that rows follow from: rows.py with all that it imports, docstrings and comments left out."""
    return code_digest("benchmarks.attenuation.rows")


def texts(row: dict[str, object]) -> Row:
    """Row as it stands in the CSV: five digits, nothing for NaN."""
    return {
        name: ("" if np.isnan(value) else f"{value:.5g}") if isinstance(value, float) else str(value)
        for name, value in row.items()
    }


def read_rows(path: Path, columns: tuple[str, ...] | None = METHODS_COLUMNS) -> list[Row]:
    """Rows of a CSV; none without a file or where its columns, as those of older code, are not these (None: any)."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        return list(reader) if columns in (None, tuple(reader.fieldnames or ())) else []


def rows_of(rows: list[Row], **wanted: str) -> list[Row]:
    """Rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]
