"""`spectac holder`: the map of a head-holder from a CT, for --holder."""

from pathlib import Path
from typing import Annotated

import typer

from spectac.app.outputs import check_output
from spectac.recon import InputError
from spectac.recon.holder import measured, write_holder
from spectac.recon.io.content import NIFTI_ENDINGS
from spectac.recon.io.dicom.ct import read_series

ENERGY_KEV = 140.511
"""Of the map that is written; it is converted to each study's energy."""


def holder(
    ct: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the CT series.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="NIfTI file for the map.")],
    empty: Annotated[bool, typer.Option("--empty", help="The CT shows the holder without a head.")] = False,
    tube_voltage_kv: Annotated[
        float | None, typer.Option(metavar="KV", help="Tube voltage of the CT, 70 to 150 kV; replaces the files' KVP.")
    ] = None,
) -> list[str]:
    """Write the map of what lies beside the head in a CT; lines for the user."""
    if not output.name.lower().endswith(NIFTI_ENDINGS):
        raise InputError(f"{output}: the map is written as NIfTI: give a name that ends in .nii.gz")
    check_output(output, [ct])
    volume = read_series(ct, tube_voltage_kv=tube_voltage_kv)
    found = measured(volume, ENERGY_KEV, empty=empty)
    if not found.mu.per_cm.max() > 0:
        raise InputError(f"{ct}: nothing lies beside the head: --holder none")
    write_holder(output, found)
    where = "the head lies on its surface" if found.back_mm is None else "the head was taken out"
    return [*(f"note: {note}" for note in volume.warnings), f"{output}: in 1/cm at {ENERGY_KEV:g} keV; {where}"]
