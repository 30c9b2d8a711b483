"""Files appear whole or not at all: written under a temporary name next to the target, then moved into place."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Temporary path in the folder of `path`, moved to `path` when the block ends well and removed when it does not.

    The temporary name ends as the target does, so that writers which look at the ending (".nii.gz") see the same.
    An existing target stays as it is until the new file is complete.
    Raises OSError as the file system does (disk full, no permission, no such folder); nothing half-written stays.
    """
    target = Path(path)
    # File names are limited to 255 bytes; the ending is what matters, so a long name loses its beginning.
    temporary = target.with_name(f".{secrets.token_hex(6)}-{target.name[-40:]}")
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _flush_to_disk(path: Path) -> None:
    """Wait until the file is on the disk: some file systems report a full one only then."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def written_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Temporary folder inside `path` whose files and folders are moved up into `path` when the block ends well.

    `path` is made where it does not exist. When the block fails nothing is left behind: no file, no new folder.
    Raises OSError as the file system does.
    """
    target = Path(path)
    made = [folder for folder in (target, *target.parents) if not folder.exists()]
    temporary = target / f".{secrets.token_hex(6)}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        files = sorted(temporary.iterdir())
        for file in files:
            for one in file.iterdir() if file.is_dir() else (file,):
                _flush_to_disk(one)
        for file in files:
            if file.is_dir() and (target / file.name).is_dir():
                shutil.rmtree(target / file.name)
            os.replace(file, target / file.name)
        temporary.rmdir()
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise
