"""What a file is, from its first bytes."""

import os
from pathlib import Path

from spectac.recon.errors import FileError

NIFTI_ENDINGS = (".nii.gz", ".nii")

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x28\xb5\x2f\xfd": "zstd",
}
"""Kinds of archives and compressed files by the bytes that they begin with."""


def first_bytes(path: str | os.PathLike[str]) -> bytes:
    """The first 4096 bytes of a file, of which each format's reader knows its own.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    bytes
        Fewer than 4096 where the file is shorter.

    Raises
    ------
    OSError
        As the file system does.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "scan.hs")
    >>> _ = file.write_text("!INTERFILE :=")
    >>> first_bytes(file)
    b'!INTERFILE :='
    """
    with Path(path).open("rb") as file:
        return file.read(4096)


def refuse_packed(path: Path) -> None:
    """Refuse a file that begins as an archive or a compressed file does.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        Names the kind of archive.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "scan.dcm")
    >>> _ = file.write_text("BZh9")
    >>> refuse_packed(file)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    spectac.recon.errors.FileError: ...scan.dcm: this is a bzip2 archive: unpack it, ...
    """
    start = first_bytes(path)
    if kind := next((kind for begin, kind in _PACKED.items() if start.startswith(begin)), None):
        raise FileError(path, f"this is a {kind} archive: unpack it, and give the file or folder that was in it")


def nifti_side_car(path: Path) -> Path | None:
    """Name of the JSON file that belongs to a NIfTI file, None for a file of another ending.

    Parameters
    ----------
    path : Path
        Name of the NIfTI file; it need not exist.

    Returns
    -------
    Path or None
        Name of the side-car, which need not exist either.

    Examples
    --------
    >>> nifti_side_car(Path("image.nii.gz")).name
    'image.json'
    """
    stem = next((path.name[: -len(end)] for end in NIFTI_ENDINGS if path.name.lower().endswith(end)), "")
    return path.with_name(f"{stem}.json") if stem else None
