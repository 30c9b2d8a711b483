"""Interfile images: phantoms, and mu-maps that belong to projections of STIR or SIMIND."""

import os
from dataclasses import replace
from pathlib import Path

from spectac.recon.errors import naming
from spectac.recon.geometry import axis_position_mm
from spectac.recon.io.interfile.data import read_values
from spectac.recon.io.interfile.dialect import SIMIND
from spectac.recon.io.interfile.header import Header, read_header
from spectac.recon.types import LARGEST_PIXEL_MM, SMALLEST_PIXEL_MM, Acquisition, Array, Grid, MuMap

_PER_CM = (None, "mu", "1/cm", "cm-1", "cm^-1")
"""Words for the unit of a mu-map; a header need not say it."""

_SIMIND_AXES = [1, 0, 0, 0, 1, 0]
"""Image Orientation of SIMIND's mu-maps."""


def read_image(
    path: str | os.PathLike[str], *, slices_in_pixels: bool = False
) -> tuple[Array, tuple[float, float, float]]:
    r"""Values and voxel size of an Interfile image or phantom, in the file's order.

    The slice distance comes from "scaling factor (mm/pixel) [3]", else from "centre-centre slice separation (pixels)"
    or "slice thickness (pixels)". These two hold millimetres in practice (GATE and the phantoms made for it).

    Assumes: nothing about the patient's axes; the file does not say.

    Parameters
    ----------
    path : path-like
        The header.
    slices_in_pixels : bool
        Take slice separation and thickness by the letter of Interfile 3.3, in units of the transaxial pixel.

    Returns
    -------
    values : array (z, y, x)
        float32, scaled by the header's factor.
    voxel_mm : tuple of float
        Voxel size (z, y, x) in mm.

    Raises
    ------
    InputError
        For projections, for keys that are missing, and for data that the header does not describe.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> np.arange(8, dtype="<f4").tofile(folder / "phantom.v")
    >>> lines = ["!INTERFILE :=", "name of data file := phantom.v", "number format := float",
    ...          "imagedata byte order := LITTLEENDIAN", "matrix size [1] := 2", "matrix size [2] := 2",
    ...          "matrix size [3] := 2", "scaling factor (mm/pixel) [1] := 4", "scaling factor (mm/pixel) [2] := 4",
    ...          "scaling factor (mm/pixel) [3] := 5"]
    >>> _ = (folder / "phantom.hv").write_text("\n".join(lines))
    >>> values, voxel_mm = read_image(folder / "phantom.hv")
    >>> values.shape, voxel_mm
    ((2, 2, 2), (5.0, 4.0, 4.0))
    """
    return _image(_image_header(path), slices_in_pixels)


def read_mu_map(
    path: str | os.PathLike[str], acquisition: Acquisition, energy_kev: float
) -> tuple[MuMap, tuple[str, ...]]:
    """Mu-map in 1/cm of an Interfile image that belongs to projections of the same program, and notes for the user.

    The centre of the map lies on the rotation axis, in the middle of the projections' rows. The axes are those of the
    program's own projections (dialect.py).

    Parameters
    ----------
    path : path-like
        The header.
    acquisition : Acquisition
        How the projections were taken.
    energy_kev : float
        Photon energy of the map unless the header's "Photon energy (keV)" says otherwise.

    Returns
    -------
    MuMap
        Map in 1/cm (z, y, x).
    tuple of str
        How the axes were read, and warnings.

    Raises
    ------
    InputError
        For projections, for a map of SIMIND that is not of mu, and for values that cannot be 1/cm.
    """
    header = _image_header(path)
    _check_unit_and_axes(header)
    values, voxel_mm = _image(header)
    if not SMALLEST_PIXEL_MM <= min(voxel_mm) <= max(voxel_mm) <= LARGEST_PIXEL_MM:
        lengths = ", ".join(f"{length:g}" for length in voxel_mm)
        raise header.error(
            f"voxels of z, y, x = {lengths} mm: they must lie between {SMALLEST_PIXEL_MM:g} and {LARGEST_PIXEL_MM:g} mm"
        )
    stored = header.dialect.mu_values(values)
    x, y, z = axis_position_mm(acquisition)
    middle = z + 0.5 * (acquisition.matrix[0] - 1) * acquisition.pixel_mm[0]
    half = [0.5 * (size - 1) * length for size, length in zip(stored.shape, voxel_mm, strict=True)]
    grid = Grid.upright(stored.shape, voxel_mm, (x - half[2], y - half[1], middle - half[0]))
    stated_kev = header.number("photon energy (kev)", comments=True)
    with naming(header.path):
        mu = MuMap(stored, grid, energy_kev if stated_kev is None else stated_kev)
    return mu, (header.dialect.mu_axes, *header.warnings)


def _check_unit_and_axes(header: Header) -> None:
    """InputError for a map that is not in 1/cm, and for one of SIMIND that lies otherwise than its program's do."""
    unit = header.text("units of data (ect)", "units of data", comments=True)
    if header.dialect is SIMIND:
        if unit != "mu":
            raise header.error(
                f"SIMIND's 'Units of data (ECT)' is {unit or 'missing'}, not mu: a map of mu in 1/cm is needed, not "
                "one of densities; simulate with index 22 = 3, or convert the map to NIfTI in 1/cm"
            )
        axes = header.text("image orientation", comments=True) or ""
        if [header.as_number("image orientation", word) for word in axes.split()] != _SIMIND_AXES:
            raise header.error(
                f"'Image Orientation' is {axes or 'missing'}: SIMIND's mu-maps have 1 0 0 0 1 0; convert this one to "
                "NIfTI in 1/cm"
            )
    if unit not in _PER_CM:
        raise header.error(f"'Units of data' is {unit}: a mu-map must be in 1/cm")


def _image_header(path: str | os.PathLike[str]) -> Header:
    return replace(read_header(Path(path)), options={})


def _image(header: Header, slices_in_pixels: bool = False) -> tuple[Array, tuple[float, float, float]]:
    """Values and voxel_mm (z, y, x) as `read_image` gives them."""
    if (header.text("process status") or "").lower() == "acquired":
        raise header.error("holds acquired projections, not an image: read it with read_study")
    rows, columns = header.matrix()
    slices = header.count("matrix size[3]", "number of slices", "total number of images")
    if slices is None:
        raise header.missing("number of slices")
    y_mm, x_mm = header.sizes_mm(2, 1)
    z_mm = header.number("scaling factor (mm/pixel)[3]", comments=header.dialect.comments)
    if z_mm is None:
        key = "centre-centre slice separation (pixels)"
        z_mm = header.as_number(key, header.required(key, "slice thickness (pixels)"))
        z_mm *= x_mm if slices_in_pixels else 1.0
    if min(x_mm, y_mm, z_mm) <= 0:
        raise header.error(f"voxel sizes must be above 0 mm, got z, y, x = {z_mm:g}, {y_mm:g}, {x_mm:g}")
    return read_values(header, (slices, rows, columns)), (z_mm, y_mm, x_mm)
