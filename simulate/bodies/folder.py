"""Bodies from a folder of CTs: each CT is made into a body once, by the workers of a queue, and kept in a file."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from scipy.ndimage import gaussian_filter1d

from spectac.recon.code_digest import code_digest
from spectac.recon.ct import CTVolume
from spectac.recon.device import cpu_threads
from spectac.recon.errors import InputError
from spectac.recon.io.content import NIFTI_ENDINGS
from spectac.recon.io.dicom.ct import read_series
from spectac.recon.io.nifti import read_image
from spectac.recon.queue.store import check_visible
from spectac.recon.queue.work_queue import Failure, Progress, Work, open_queue
from spectac.recon.queue.workers import Workers, one_line
from spectac.recon.resample import resample, upright_around
from spectac.recon.types import Array, Grid
from spectac.simulate.bodies import ENDING
from spectac.simulate.bodies.body import VOXEL_MM, body_of
from spectac.simulate.bodies.stored import bodies_in, write_body
from spectac.simulate.typical_head import typical_head

BRAIN_HU = 33.0
"""HU of brain, by which values that are no HU are told."""
LEAST_HU = -200.0
"""Values that never fall below this are no HU: air has -1000."""
TISSUE_HU = -400.0
"""Denser voxels are counted to tell where a head was cut off."""
CUT_CM2, AIR_CM2 = 60.0, 30.0
"""A head whose section falls from more than the one to less than the other ends there by a cut; vertices taper."""
FINEST_MM = 1.5
"""CTs with finer voxels are averaged to the body's; upright coarser ones are kept as they are."""


@dataclass(frozen=True)
class BodyWork(Work[str, str]):
    """Making bodies, known by their names; the outcome is the digest of the CT and the code.

    Parameters
    ----------
    folder
        Folder of the bodies.
    sources
        CTs by name.

    Examples
    --------
    >>> BodyWork(Path("bodies"), {"one": Path("one.nii.gz")}).before("one") is None  # no body of it yet
    True
    """

    folder: Path
    sources: dict[str, Path]

    command = "cohort"
    leftovers = r"-.*\.body\.npz"

    def before(self, key: str) -> str | None:
        """Digest of this CT and this code where a body was made of them."""
        path = self.folder / f"{key}{ENDING}"
        try:
            with np.load(path) as stored:
                made_of = str(stored["made_of"])
        except (OSError, ValueError, KeyError, BadZipFile):  # none, or damaged
            return None
        return made_of if made_of == self._made_of(key) else None

    def do(self, key: str) -> str | Failure:
        """Make a body and write it."""
        path = self.folder / f"{key}{ENDING}"
        try:
            volume, known = read_ct(self.sources[key])
            body = body_of(key, volume.hu, known, volume.grid, typical_head(), volume.kvp)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever is odd in a CT must not stop the others
            return Failure(one_line(error))
        made_of = self._made_of(key)
        write_body(path, body, made_of)
        return made_of

    def arrived(self, key: str, outcome: str | Failure) -> None:
        """Check that this process sees the body."""
        if isinstance(outcome, str):
            check_visible(self.folder, self.folder / f"{key}{ENDING}")

    def _made_of(self, key: str) -> str:
        source = self.sources[key]
        files = sorted(source.rglob("*")) if source.is_dir() else [source]
        digest = hashlib.sha256(code_digest("spectac.simulate.bodies.folder").encode())
        for file in files:
            if file.is_file():
                digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()


def cts_in(folder: Path) -> dict[str, Path]:
    """CTs of a folder by name: NIfTI files, and sub-folders with a DICOM series each.

    Parameters
    ----------
    folder
        Folder of the CTs.

    Returns
    -------
    dict of str to Path
        Files and folders, sorted by name.

    Raises
    ------
    InputError
        Where there is none.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "one.nii.gz").touch()
    >>> list(cts_in(folder))
    ['one']
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: --bodies takes the folder of the CTs")
    found = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            found[entry.name] = entry
        elif entry.name.lower().endswith(NIFTI_ENDINGS):
            name = entry.name.split(".nii")[0]
            if name in found:
                raise InputError(f"{folder}: two CTs are called {name}: rename one")
            found[name] = entry
    if not found:
        raise InputError(f"{folder}: no CT: NIfTI files in HU, or a folder for each DICOM series")
    return found


def read_ct(path: Path) -> tuple[CTVolume, Array]:
    """CT of a NIfTI file or of a DICOM series' folder, on an upright grid, and where it knows anything.

    Tilted ones, and those finer than FINEST_MM in the plane, are averaged to the body's voxels. Values of a NIfTI file
    that never fall below -200 are no HU. Their offset is that which gives the brain 33 HU. Of empty levels above a head
    that is cut off nothing is known.

    Parameters
    ----------
    path
        The file or folder.

    Returns
    -------
    CTVolume
        CT numbers in HU.
    Array
        True (z, y, x) in the measured field.

    Raises
    ------
    InputError
        As the readers do.

    Examples
    --------
    >>> volume, known = read_ct(Path("ct"))  # doctest: +SKIP
    """
    if path.is_dir():
        volume = read_series(path)
    else:
        image = read_image(path)
        volume = CTVolume(image.values, image.grid, None)
    hu, grid = np.asarray(volume.hu, np.float32), volume.grid
    known = np.ones(hu.shape, np.float32) if volume.covered is None else np.asarray(volume.covered, np.float32)
    if not grid.is_upright or min(grid.voxel_mm) < FINEST_MM:
        upright = upright_around(grid, VOXEL_MM)
        # The air that is cut off beyond the edge must not be brighter than the CT's own.
        hu, known = (resample(one, grid, upright, outside=low) for one, low in ((hu, float(hu.min())), (known, 0.0)))
        grid = upright
    if hu.min() > LEAST_HU:
        hu = hu - np.float32(_brain_value(hu, grid) - BRAIN_HU)
    return CTVolume(hu, grid, volume.kvp), (known > 0.99) & _below_cut(hu, grid)[:, None, None]


def _below_cut(hu: Array, grid: Grid) -> Array:
    """True (z,) but for the empty levels above a head that was cut off within the field."""
    areas = (hu > TISSUE_HU).sum(axis=(1, 2)) * grid.voxel_mm[1] * grid.voxel_mm[2] / 100.0
    (large,) = np.nonzero(areas > CUT_CM2)
    measured = np.ones(len(areas), bool)
    if large.size and large[-1] + 1 < len(areas) and areas[large[-1] + 1] < AIR_CM2:
        measured[large[-1] + 1 :] = False
    return measured


def _brain_value(values: Array, grid: Grid) -> float:
    """The most frequent value between air and bone in the upper 80 mm of a head whose air is 0."""
    if not values.max() > 0:
        raise InputError("it is empty")
    tissue = values > 0.5 * np.median(values[values > 0])
    z = np.flatnonzero(tissue.any(axis=(1, 2)))
    upper = values[max(0, int(z[-1]) - round(80.0 / grid.voxel_mm[0])) : int(z[-1]) + 1]
    soft = upper[(upper > 850.0) & (upper < 1250.0)]
    if soft.size == 0:
        raise InputError("its values are neither HU nor HU plus 1000")
    heights, edges = np.histogram(soft, bins=np.arange(850.0, 1251.0, 2.0))
    smooth = gaussian_filter1d(heights.astype(np.float64), 2.0)
    return float(edges[int(smooth.argmax())] + 1.0)


def make_bodies(
    cts: Path,
    folder: Path,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Make the bodies of a folder of CTs that are not in `folder` yet, and remove those of CTs that are not there.

    Parameters
    ----------
    cts
        Folder of the CTs, see `cts_in`.
    folder
        Folder of the bodies.
    scheduler, workers, on_progress
        As of `cohort.run.run_cohort`.

    Raises
    ------
    InputError
        Where there is no CT, or one of which no body could be made.

    Examples
    --------
    >>> make_bodies(Path("cts"), Path("cohort/bodies"))  # doctest: +SKIP
    """
    sources = cts_in(cts.resolve())
    folder.mkdir(parents=True, exist_ok=True)
    for path in bodies_in(folder):
        if path.name.removesuffix(ENDING) not in sources:
            path.unlink()
    places = Workers(scheduler, cpu_threads() if workers is None else workers, threads=1)
    with open_queue(BodyWork(folder.resolve(), sources), places, on_progress, len(sources)) as queue:
        for name in sources:
            queue.add(name, name)
        queue.close()
        queue.run(lambda: None)
        failed = {
            str(entry.key): entry.outcome.reason
            for entry in queue.entries.values()
            if isinstance(entry.outcome, Failure)
        }
    if failed:
        listed = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise InputError(
            f"{cts}: no body could be made of {len(failed)} of {len(sources)} CTs: take them out of the folder, the "
            f"same command goes on with the others: {listed}"
        )
