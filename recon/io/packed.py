"""Compressed files, known by their first bytes: they are to be unpacked by the user."""

from pathlib import Path

from spectac.recon.errors import InputError

_STARTS = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x28\xb5\x2f\xfd": "zstd",
}


def refuse_packed(path: Path) -> None:
    """Raise InputError, naming the kind of archive, for a file that begins as a compressed one does."""
    with path.open("rb") as file:
        start = file.read(8)
    if kind := next((name for begin, name in _STARTS.items() if start.startswith(begin)), None):
        raise InputError(f"{path}: this is a {kind} archive: unpack it, and give the file or folder that was in it")
