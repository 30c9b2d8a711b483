"""Files of bodies: NumPy arrays that the patients of a cohort are posed from."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from spectac.recon.io.atomic import written
from spectac.recon.types import Grid
from spectac.simulate.bodies import ENDING
from spectac.simulate.bodies.body import Body


def write_body(path: Path, body: Body, made_of: str = "") -> None:
    """Write a body into a file of NumPy arrays.

    Parameters
    ----------
    path
        The file.
    body
        The body.
    made_of
        Digest of the CT and the code.

    Examples
    --------
    >>> grid = Grid.upright((1, 1, 1), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    >>> body = Body("one", grid, np.ones((1, 1, 1), np.uint8), np.ones((1, 1, 1), np.float32), -120.0, 0.0)
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "one.body.npz"
    >>> write_body(path, body)
    >>> read_body(path).chin_mm
    -120.0
    >>> [found.name for found in bodies_in(path.parent)]
    ['one.body.npz']
    """
    with written(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            labels=body.labels,
            density=body.density,
            affine_lps=body.grid.affine_lps,
            facts=np.array([body.chin_mm, body.added_mm]),
            name=body.name,
            made_of=made_of,
        )


def read_body(path: Path) -> Body:
    """Body of a file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Body
        The body; the same object while the file is among the last four and stays as it is.

    Examples
    --------
    >>> read_body(Path("cohort/bodies/one.body.npz")).name  # doctest: +SKIP
    'one'
    """
    about = path.stat()
    return _read(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, _mtime_ns: int, _size: int) -> Body:
    with np.load(path) as stored:
        affine, (chin_mm, added_mm) = stored["affine_lps"], stored["facts"].tolist()
        labels = stored["labels"]
        grid = Grid(labels.shape, (float(affine[0, 2]),) * 3, affine)
        return Body(str(stored["name"]), grid, labels, stored["density"], chin_mm, added_mm)


def bodies_in(folder: Path) -> list[Path]:
    """Files of the bodies in a folder, sorted by name.

    Parameters
    ----------
    folder
        The folder.

    Returns
    -------
    list of Path
        The files.

    Examples
    --------
    >>> bodies_in(Path("no such folder"))
    []
    """
    return sorted(folder.glob(f"*{ENDING}"))
