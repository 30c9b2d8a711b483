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
    """The first 4096 bytes of a file, of which each format's reader knows its own."""
    with Path(path).open("rb") as file:
        return file.read(4096)


def refuse_packed(path: Path) -> None:
    """Raise InputError, naming the kind of archive, for a file that begins as a compressed one does."""
    start = first_bytes(path)
    if kind := next((kind for begin, kind in _PACKED.items() if start.startswith(begin)), None):
        raise FileError(path, f"this is a {kind} archive: unpack it, and give the file or folder that was in it")


def nifti_side_car(path: Path) -> Path | None:
    """Name of the JSON file that belongs to a NIfTI file, None for a file of another ending."""
    stem = next((path.name[: -len(end)] for end in NIFTI_ENDINGS if path.name.lower().endswith(end)), "")
    return path.with_name(f"{stem}.json") if stem else None
