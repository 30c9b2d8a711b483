"""Interfile images: phantoms, and mu-maps that belong to projections of STIR or SIMIND."""

import os
from dataclasses import replace
from pathlib import Path

from spectac.recon.errors import InputError
from spectac.recon.geometry import axis_position_mm
from spectac.recon.io.interfile.geometry import MU_AXES, dialect_of
from spectac.recon.io.interfile.header import Header, read_header, read_values
from spectac.recon.types import LARGEST_PIXEL_MM, SMALLEST_PIXEL_MM, Acquisition, Array, Grid, MuMap


def read_image(
    path: str | os.PathLike[str], *, slices_in_pixels: bool = False
) -> tuple[Array, tuple[float, float, float]]:
    """Values (z, y, x) float32 of an Interfile image or phantom, in the file's order, and voxel_mm (z, y, x).

    The slice distance comes from "scaling factor (mm/pixel) [3]", else from "centre-centre slice separation (pixels)"
    or "slice thickness (pixels)". What these two hold is millimetres in practice (GATE and the phantoms made for it);
    `slices_in_pixels` takes them by the letter of Interfile 3.3, in units of the transaxial pixel.
    Assumes: nothing about the patient's axes; the file does not tell.
    """
    return _image(_image_header(path), slices_in_pixels)[:2]


def read_mu_map(
    path: str | os.PathLike[str], acquisition: Acquisition, energy_kev: float
) -> tuple[MuMap, tuple[str, ...]]:
    """Mu-map in 1/cm of an Interfile image that belongs to projections of the same program, and notes for the user.

    Its centre lies on the rotation axis, in the middle of the projections' rows. The axes are those of the program's
    own projections (docs/formats.md): STIR's x grows to the patient's right, y to posterior, z to inferior; SIMIND's x
    to left, as its header must say. It is at `energy_kev` unless the header's "Photon energy (keV)" says otherwise.
    Raises InputError for projections, for a map of SIMIND that is not of mu, and for values that cannot be 1/cm.
    """
    header = _image_header(path)
    dialect, _ = dialect_of(header)
    unit = header.text("units of data (ect)", "units of data", comments=True)
    if dialect == "SIMIND" and unit != "mu":
        raise header.error(
            f"SIMIND's 'Units of data (ECT)' is {unit or 'missing'}, not mu: a map of mu in 1/cm is needed, not one of "
            "densities; simulate with index 22 = 3, or convert the map to NIfTI in 1/cm"
        )
    if unit not in (None, "mu", "1/cm", "cm-1", "cm^-1"):
        raise header.error(f"'Units of data' is {unit}: a mu-map must be in 1/cm")
    if dialect == "SIMIND":
        given = header.text("image orientation", comments=True) or ""
        if [header.as_number("image orientation", word) for word in given.split()] != [1, 0, 0, 0, 1, 0]:
            raise header.error(
                f"'Image Orientation' is {given or 'missing'}: SIMIND's mu-maps have 1 0 0 0 1 0; convert this one to "
                "NIfTI in 1/cm"
            )
    values, voxel_mm, notes = _image(header, False)
    if not SMALLEST_PIXEL_MM <= min(voxel_mm) <= max(voxel_mm) <= LARGEST_PIXEL_MM:
        lengths = ", ".join(f"{length:g}" for length in voxel_mm)
        raise header.error(
            f"voxels of z, y, x = {lengths} mm: they must lie between {SMALLEST_PIXEL_MM:g} and {LARGEST_PIXEL_MM:g} mm"
        )
    stored = values[::-1] if dialect == "SIMIND" else values[::-1, :, ::-1]
    x, y, z = axis_position_mm(acquisition)
    middle = z + 0.5 * (acquisition.matrix[0] - 1) * acquisition.pixel_mm[0]
    half = [0.5 * (size - 1) * length for size, length in zip(stored.shape, voxel_mm, strict=True)]
    grid = Grid.upright(stored.shape, voxel_mm, (x - half[2], y - half[1], middle - half[0]))
    energy = header.number("photon energy (kev)", comments=True)
    try:
        mu = MuMap(stored, grid, energy_kev if energy is None else energy)
    except InputError as error:
        raise header.error(str(error)) from error
    return mu, (MU_AXES[dialect], *notes)


def _image_header(path: str | os.PathLike[str]) -> Header:
    return replace(read_header(Path(path)), options={})


def _image(header: Header, slices_in_pixels: bool) -> tuple[Array, tuple[float, float, float], list[str]]:
    """Values and voxel_mm (z, y, x) as `read_image` gives them, and warnings."""
    if (header.text("process status") or "").lower() == "acquired":
        raise header.error("holds acquired projections, not an image: read it with read_study")
    columns, rows = header.required_count("matrix size[1]"), header.required_count("matrix size[2]")
    slices = header.count("matrix size[3]", "number of slices", "total number of images")
    if slices is None:
        raise header.error("key 'number of slices' is missing or empty")
    x_mm = header.required_number("scaling factor (mm/pixel)[1]")
    y_mm = header.required_number("scaling factor (mm/pixel)[2]")
    z_mm = header.number("scaling factor (mm/pixel)[3]", comments=dialect_of(header)[0] == "SIMIND")
    if z_mm is None:
        z_mm = header.required_number("centre-centre slice separation (pixels)", "slice thickness (pixels)")
        z_mm *= x_mm if slices_in_pixels else 1.0
    if min(x_mm, y_mm, z_mm) <= 0:
        raise header.error(f"voxel sizes must be above 0 mm, got z, y, x = {z_mm:g}, {y_mm:g}, {x_mm:g}")
    values, warnings = read_values(header, (slices, rows, columns))
    return values, (z_mm, y_mm, x_mm), warnings
