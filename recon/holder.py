"""What lies beside the head in the field: holder, pillow, table. It is given, or a typical one is fitted.

A holder is a mu-map without the head. Along the scanner's axes it lies where its map places it; its height is that at
which it carries the head as found. A typical one is a half cylinder of plastic with a pillow, such as the virtual
patients lie in.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt

from spectac.recon import filters, geometry
from spectac.recon.ct import BESIDE_TISSUES, BLUR_FWHM_MM, CTVolume, air_and_water, mu_map
from spectac.recon.ct_body import body_mask
from spectac.recon.errors import InputError
from spectac.recon.resample import resample, upright_around
from spectac.recon.settings import HOLDERS
from spectac.recon.tissues import INDEX, MATERIALS, cm2_per_g, water_per_cm
from spectac.recon.types import Acquisition, Array, Grid, MuMap

SHELL_X_MM, SHELL_Y_MM = 112.0, 130.0
"""Inner half axes of a typical holder's shell, across and in height."""
SHELL_MM, GAP_MM, PILLOW_MM = 3.0, 13.0, 16.5
"""Thickness of a typical shell, its distance from the head, and how far its pillow reaches beyond that.

They are lengths at the sides; in height they are longer by the ratio of the half axes.
"""
HEAD_MM = 150.0
"""The head is carried within this distance below its top: not the neck, nor the shoulders."""
DENSE_PER_CM = 0.02
"""The surface of a holder; foam is thinner."""
THINNEST_PER_CM = 0.003
"""Less, -980 HU, is taken for air: the foam of pillows has twice as much."""
STEP_MM = (4.0, 0.5, 1.0)
"""Voxels (z, y, x) of the typical holder: whole numbers of them make its shell."""
MEASURED_MM = 2.0
"""Voxels of a measured one."""
BACK_KEY = "HeadBackLpsYMm"
"""Key of a side-car: where the back of the head was that lay in the holder."""
LEAST_HEAD_ML = 1000.0
"""A body of less, as dense as tissue, is no head."""


@dataclass(frozen=True, eq=False)
class Holder:
    """A holder as it was measured, or a typical one.

    Parameters
    ----------
    mu
        Its map, upright, with air where the head lies.
    back_mm
        y of the hindmost point of a head that lies in it; None: the head lies on its surface.
    follows
        Whether it follows the head's top, then at z = 0 of its map, and the rotation axis, at x = 0.
    name
        Short text for notes.

    Examples
    --------
    >>> typical(140.5).back_mm
    0.0
    """

    mu: MuMap
    back_mm: float | None
    follows: bool = False
    name: str = "given"

    def beside(self, head: MuMap, acquisition: Acquisition) -> tuple[MuMap, tuple[str, ...]]:
        """Map of a head with the holder under it.

        Parameters
        ----------
        head
            Map of the head alone, on an upright grid.
        acquisition
            Its orbit: what would lie beyond the collimator's face is left out.

        Returns
        -------
        MuMap
            Head and holder on the head's grid, at the head's energy.
        tuple of str
            Where the holder was put.

        Raises
        ------
        InputError
            Where there is no head, or no holder behind it.
        """
        body = body_mask(head, _soft_per_cm(head))
        carried, back_mm, top_mm = _cranium(body, head.grid)
        along_mm = top_mm if self.follows else 0.0
        across_mm = float(geometry.axis_position_mm(acquisition)[0]) if self.follows else 0.0
        mu = _moved(self.mu, across_mm, 0.0, along_mm)
        height_mm = self._contact_mm(mu, carried, head.grid) if self.back_mm is None else back_mm - self.back_mm
        there = np.maximum(resample(mu.per_cm, _moved(mu, 0.0, height_mm, 0.0).grid, head.grid), 0.0)
        there[:, ~_within_orbit(acquisition, head.grid)] = 0.0
        if not (there[~body] > DENSE_PER_CM).any():
            raise InputError(
                f"the holder ({self.name}) lies beside the field: its map must be placed along and across the "
                "scanner's axis as the study is"
            )
        per_cm = np.where(body, head.per_cm, np.maximum(head.per_cm, there))
        notes: tuple[str, ...] = (
            f"holder: {self.name}, moved by {height_mm:+.0f} mm in height to lie under the head as found",
        )
        if acquisition.axis_lps_mm is None and not self.follows:
            notes += (
                "the position of the rotation axis is unknown: the holder was placed as if the field's centre were the "
                "origin",
            )
        return replace(head, per_cm=per_cm), notes

    @staticmethod
    def _contact_mm(mu: MuMap, carried: Array, grid: Grid) -> float:
        """How far the holder has to go back until it touches the head from behind; negative: forward."""
        tall = _tall(grid, mu.grid)
        dense = resample(mu.per_cm, mu.grid, tall) > DENSE_PER_CM
        y, tall_y = grid.centres_mm()[1], tall.centres_mm()[1]
        back = np.where(carried, y[:, None], -np.inf).max(axis=1)
        # Its foremost surface carries the head, wherever in height the map has it.
        gaps = np.where(dense, tall_y[:, None], np.inf).min(axis=1) - back
        if not np.isfinite(gaps).any():
            raise InputError(
                "the holder's map has nothing under the head: check its position along and across the scanner's axis"
            )
        return grid.voxel_mm[1] - float(gaps[np.isfinite(gaps)].min())


def _cranium(body: Array, grid: Grid) -> tuple[Array, float, float]:
    """The body's upper part, without neck and shoulders: its mask (z, y, x), its hindmost y and its top z in mm."""
    z, y, _ = grid.centres_mm()
    top_mm = float(z[body.any(axis=(1, 2))].max()) + 0.5 * grid.voxel_mm[0]
    carried = body & (z > top_mm - HEAD_MM)[:, None, None]
    return carried, float(y[carried.any(axis=(0, 2))].max()) + 0.5 * grid.voxel_mm[1], top_mm


def _soft_per_cm(mu: MuMap) -> float:
    """Coefficient of the map's soft tissue: water's, or less where the map is uniform with less."""
    water = water_per_cm(mu.energy_kev)
    some = mu.per_cm[mu.per_cm > 0.3 * water]
    return min(water, float(np.median(some))) if some.size else water


def _tall(grid: Grid, holder: Grid) -> Grid:
    """The grid, continued in y over all of the holder."""
    z, y, x = grid.centres_mm()
    step = grid.voxel_mm[1]
    holder_y = holder.centres_mm()[1]
    before = max(0, int(np.ceil((y[0] - holder_y.min()) / step)))
    after = max(0, int(np.ceil((holder_y.max() - y[-1]) / step)))
    shape = (grid.shape[0], grid.shape[1] + before + after, grid.shape[2])
    return Grid.upright(shape, grid.voxel_mm, (x[0], y[0] - before * step, z[0]))


def _moved(mu: MuMap, across_mm: float, height_mm: float, along_mm: float) -> MuMap:
    affine = mu.grid.affine_lps.copy()
    affine[:3, 3] += (across_mm, height_mm, along_mm)
    return replace(mu, grid=replace(mu.grid, affine_lps=affine))


def _within_orbit(acquisition: Acquisition, grid: Grid) -> Array:
    """Voxels (y, x) in front of the collimator's face in every view."""
    _, y, x = grid.centres_mm()
    axis = geometry.axis_position_mm(acquisition)
    normals = geometry.view_normals(acquisition.view_angles_deg)
    reach = normals[:, 0, None, None] * (x - axis[0]) + normals[:, 1, None, None] * (y - axis[1])[:, None]
    return np.asarray((reach <= np.asarray(acquisition.radii_mm)[:, None, None]).all(axis=0))


def alone(mu: MuMap) -> MuMap:
    """A map's head without what lies beside it, as far as that can be told apart.

    Parameters
    ----------
    mu
        Map on an upright grid.

    Returns
    -------
    MuMap
        The same with air farther than a voxel from the largest body denser than tissue.

    Raises
    ------
    InputError
        Where nothing is as dense as tissue.

    Examples
    --------
    >>> grid = Grid.upright((4, 16, 16), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> per_cm = np.zeros(grid.shape)
    >>> per_cm[:, 4:10, 4:12], per_cm[:, 13, 2:14] = 0.15, 0.03
    >>> float(alone(MuMap(per_cm, grid, 140.5)).per_cm[:, 13].max())
    0.0
    """
    soft = _soft_per_cm(mu)
    if not (mu.per_cm > 0.6 * soft).any():
        raise InputError("the mu-map holds nothing as dense as tissue: --holder needs a head")
    body = body_mask(mu, soft)
    return replace(mu, per_cm=np.where(binary_dilation(body), mu.per_cm, np.float32(0.0)))


def shell_distances(
    x: Array, y: Array, z: Array, back_y: float, top_z: float, *, shell_mm: float, gap_mm: float, pillow_mm: float
) -> tuple[Array, Array]:
    """Distances to the shell of a typical holder and to the pillow in it.

    The shell is a half cylinder behind the head, open in front.

    Parameters
    ----------
    x, y, z
        Positions in mm, which broadcast against each other.
    back_y
        Hindmost y of the head in mm.
    top_z
        Where the pillow ends, in mm; the shell goes on for 15 mm.
    shell_mm, gap_mm, pillow_mm
        Thickness of the shell, its distance from the head, and how far the pillow reaches in front of the head's back.

    Returns
    -------
    tuple of Array
        Distances in mm to shell and pillow, negative inside.

    Examples
    --------
    >>> y = np.array([101.0, 120.0])
    >>> sizes = {"shell_mm": 3.0, "gap_mm": 10.0, "pillow_mm": 16.0}
    >>> shell, _ = shell_distances(np.zeros(2), y, np.zeros(2), back_y=90.0, top_z=80.0, **sizes)
    >>> (shell < 0).tolist()
    [True, False]
    """
    inner_back = back_y + gap_mm
    centre = inner_back - SHELL_Y_MM
    bowl = (np.hypot(x / SHELL_X_MM, (y - centre) / SHELL_Y_MM) - 1) * SHELL_X_MM
    open_front = (centre + 55) - y
    shell = np.maximum(np.maximum(bowl - shell_mm, -bowl), np.maximum(open_front, z - top_z - 15))
    filled = np.maximum(bowl, -bowl - (gap_mm + pillow_mm))
    return shell, np.maximum(filled, np.maximum(open_front + 15, z - top_z))


def typical(energy_kev: float) -> Holder:
    """A plastic shell with a pillow of foam, in the middle of what virtual patients lie in.

    Parameters
    ----------
    energy_kev
        Photon energy of its map.

    Returns
    -------
    Holder
        For a head whose back and top are at 0.

    Examples
    --------
    >>> round(float(typical(140.5).mu.per_cm.max()), 2)
    0.18
    """
    dz, dy, dx = STEP_MM
    x = np.arange(-SHELL_X_MM - SHELL_MM - 0.5 * dx, SHELL_X_MM + SHELL_MM + dx, dx)
    y, z = np.arange(-80.0 + 0.5 * dy, GAP_MM + SHELL_MM + dy, dy), np.arange(-400.0, 15.0 + dz, dz)
    distances = shell_distances(
        x, y[:, None], z[:, None, None], 0.0, 0.0, shell_mm=SHELL_MM, gap_mm=GAP_MM, pillow_mm=PILLOW_MM
    )
    per_cm = np.zeros((z.size, y.size, x.size), np.float32)
    for distance, name in zip(distances[::-1], ("foam", "plastic"), strict=True):
        density = MATERIALS[INDEX[name]].density_g_per_cm3
        per_cm[distance < 0] = density * cm2_per_g(name, energy_kev)
    grid = Grid.upright(per_cm.shape, STEP_MM, (x[0], y[0], z[0]))
    return Holder(MuMap(per_cm, grid, energy_kev), back_mm=0.0, follows=True, name="typical")


def measured(volume: CTVolume, energy_kev: float, *, empty: bool = False) -> Holder:
    """Holder of a CT.

    Parameters
    ----------
    volume
        CT of the empty holder, or of a head that lies in it.
    energy_kev
        Photon energy of its map.
    empty
        Whether the CT shows no head.

    Returns
    -------
    Holder
        Its map on upright voxels of 2 mm, blurred as a CT's map is; the place of the head that lay in it.

    Raises
    ------
    InputError
        Where the CT shows a head and `empty` says that it does not, and the other way round.

    Examples
    --------
    >>> hu = np.full((8, 40, 40), -1000.0)
    >>> hu[:, 30, 5:35] = 150.0
    >>> grid = Grid.upright(hu.shape, (2.0, 2.0, 2.0), (-39.0, -39.0, 0.0))
    >>> measured(CTVolume(hu, grid, 120.0), 140.5, empty=True).back_mm is None
    True
    """
    mu = mu_map(volume, energy_kev, blur_fwhm_mm=0.0, tissues=BESIDE_TISSUES)
    upright = upright_around(mu.grid, MEASURED_MM)
    mu = MuMap(np.maximum(resample(mu.per_cm, mu.grid, upright), 0.0), upright, energy_kev)
    air, water = air_and_water(mu)
    dense_ml = float((mu.per_cm > 0.6 * water).sum()) * upright.voxel_ml
    if empty != (dense_ml < LEAST_HEAD_ML):
        told = "give --empty for the CT of an empty holder" if not empty else "without --empty the head is taken out"
        raise InputError(f"{dense_ml:.0f} mL of the CT are as dense as tissue: {told}")
    per_cm, back_mm = mu.per_cm, None
    if not empty:
        body = body_mask(mu, water)
        _, back_mm, _ = _cranium(body, upright)
        # Voxels at the skin get the value of the nearest voxel outside.
        skin = binary_dilation(body)
        nearest = distance_transform_edt(skin, upright.voxel_mm, return_distances=False, return_indices=True)
        per_cm = np.where(body, np.float32(air), per_cm[tuple(nearest)])
    blurred = filters.gaussian(per_cm, upright.voxel_mm, BLUR_FWHM_MM)
    # Noise of the air, whose negative part the conversion cuts, adds up over the field.
    thin = blurred < THINNEST_PER_CM
    return Holder(MuMap(np.where(thin, np.float32(0.0), blurred), upright, energy_kev), back_mm, name="measured")


def chosen_holder(text: str, acquisition: Acquisition, energy_kev: float) -> tuple[Holder | None, tuple[str, ...]]:
    """Holder of the setting `holder`.

    Parameters
    ----------
    text
        "none", "typical", "fitted" (a typical one, whose density `holder_fit` finds), or the path of a map that
        `write_holder` wrote, or of any other map of a holder alone.
    acquisition
        Where the axis lies, for maps that lie around it.
    energy_kev
        Photon energy.

    Returns
    -------
    Holder or None
        None: nothing lies beside the head.
    tuple of str
        Notes on the file.

    Raises
    ------
    InputError
        For a file that holds no mu-map, or one of the head as well.

    Examples
    --------
    >>> acquisition = Acquisition([0.0, 90.0], [150.0, 150.0], (2, 16), (4.0, 4.0), [10.0, 10.0], "Tc-99m", None)
    >>> chosen_holder("none", acquisition, 140.5)
    (None, ())
    """
    if text in HOLDERS:
        return (None if text == "none" else typical(energy_kev)), ()
    from spectac.recon.io.mu_map import read_mu_map
    from spectac.recon.io.nifti import side_car_of

    if Path(text).is_dir():
        raise InputError(f"{text} is a folder: --holder takes the file that spectac holder wrote")
    read = read_mu_map(text, acquisition, energy_kev)
    body_ml = float((read.mu.per_cm > 0.6 * water_per_cm(energy_kev)).sum()) * read.mu.grid.voxel_ml
    if body_ml > LEAST_HEAD_ML:
        raise InputError(
            f"{text}: {body_ml:.0f} mL as dense as tissue are no holder: spectac holder takes the head out"
        )
    if not read.mu.grid.is_upright:
        raise InputError(f"{text}: a holder's map must lie along the scanner's axes: spectac holder writes one")
    back_mm = side_car_of(text).get(BACK_KEY)
    if back_mm is not None and (isinstance(back_mm, bool) or not isinstance(back_mm, (int, float))):
        raise InputError(f"{text}: {BACK_KEY} in its side-car must be a number, not {back_mm!r}")
    return Holder(read.mu, back_mm, name=Path(text).name), tuple(f"holder: {note}" for note in read.notes)


def write_holder(path: Path, holder: Holder) -> None:
    """Write a holder's map as NIfTI, with the place of its head in the side-car.

    Parameters
    ----------
    path
        The file, .nii or .nii.gz.
    holder
        Measured holder.

    Examples
    --------
    >>> import tempfile
    >>> grid = Grid.upright((4, 4, 4), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    >>> file = Path(tempfile.mkdtemp(), "holder.nii.gz")
    >>> write_holder(file, Holder(MuMap(np.full(grid.shape, 0.05), grid, 140.5), back_mm=3.0))
    >>> acquisition = Acquisition([0.0, 90.0], [150.0, 150.0], (2, 16), (4.0, 4.0), [10.0, 10.0], "Tc-99m", None)
    >>> chosen_holder(str(file), acquisition, 140.5)[0].back_mm
    3.0
    """
    from spectac.recon.io.nifti import write_mu_map

    about = {} if holder.back_mm is None else {BACK_KEY: round(holder.back_mm, 2)}
    write_mu_map(path, holder.mu, about=about)
