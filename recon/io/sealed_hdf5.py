"""HDF5 files that begin with the digest of what follows.

HDF5 2.0.0 hangs or crashes on some files with a few changed bytes (about 1 of 1000), and no exception can be caught
then. So each file begins with a user block, which HDF5 passes over, that holds a label and the SHA-256 of everything
behind it; it is compared before HDF5 sees the file.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from spectac.recon.io.atomic import written

BLOCK = 512
"""HDF5's smallest user block."""

SIGNATURE = b"\x89HDF\r\n\x1a\n"


@contextmanager
def sealed(path: str | os.PathLike[str], label: str) -> Iterator[h5py.File]:
    """HDF5 file to fill, which appears at `path` with its digest when the block ends well.

    It is put together in memory: HDF5 does not survive a disk that fills up while it writes.

    Parameters
    ----------
    path : path-like
        The file.
    label : str
        Kind of file, ASCII.

    Yields
    ------
    h5py.File
        Empty file in memory, open for writing.

    Raises
    ------
    OSError
        As the file system does.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "counts.h5")
    >>> with sealed(path, "demo") as file:
    ...     file["counts"] = [1, 2]
    >>> path.read_bytes()[:11]
    b'demo sha256'
    """
    # HDF5 refuses one name twice, in memory too: several threads may write at the same time.
    name = f"{Path(path).name}-{secrets.token_hex(8)}"
    with h5py.File(name, "w", driver="core", backing_store=False, userblock_size=BLOCK) as file:
        yield file
        file.flush()
        content = file.id.get_file_image()  # without the user block
    with written(path) as temporary, temporary.open("wb") as target:
        target.write(_block(label, hashlib.sha256(content).hexdigest()))
        target.write(content)


def flaw(path: Path, label: str, *, seal_needed: bool = False) -> str | None:
    """What is wrong with a file that should be sealed with this label; None where its digest fits.

    Parameters
    ----------
    path : Path
        The file.
    label : str
        Kind of file that is wanted.
    seal_needed : bool
        False lets a file without user block, or with one of zeros (made or changed by other programs), pass.

    Returns
    -------
    str or None
        The fault in words that follow the file's name.

    Raises
    ------
    OSError
        As the file system does.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "counts.h5")
    >>> with sealed(path, "demo") as file:
    ...     file["counts"] = [1, 2]
    >>> flaw(path, "demo") is None
    True
    >>> _ = path.write_bytes(path.read_bytes()[:-1])
    >>> flaw(path, "demo")
    'is damaged or cut short: its SHA-256 differs from the one in its first 512 bytes'
    """
    with path.open("rb") as file:
        block = file.read(BLOCK)
        if block.startswith(SIGNATURE):
            return f"it has no digest in its first {BLOCK} bytes" if seal_needed else None
        start = file.read(len(SIGNATURE))
        if start != SIGNATURE:
            return f"not HDF5, or damaged or cut short: no signature at byte 0 or {BLOCK}"
        if not any(block) and not seal_needed:
            return None
        if not block.startswith(label.encode("ascii")):
            return f"HDF5, but of another kind: its first {BLOCK} bytes hold something else than {label!r}"
        digest = hashlib.sha256(start)
        while piece := file.read(1 << 20):
            digest.update(piece)
    if block != _block(label, digest.hexdigest()):
        return f"is damaged or cut short: its SHA-256 differs from the one in its first {BLOCK} bytes"
    return None


def _block(label: str, digest: str) -> bytes:
    return f"{label} sha256 {digest}\n".encode("ascii").ljust(BLOCK, b"\0")
