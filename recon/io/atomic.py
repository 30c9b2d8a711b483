"""Files appear whole or not at all: written under a temporary name next to the target, then moved into place."""

import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spectac.recon.errors import InputError


@contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Temporary path in the folder of `path`, moved to `path` when the block ends well and removed when it does not.

    The temporary name ends as the target does, so that writers which look at the ending (".nii.gz") see the same.
    An existing target stays as it is until the new file is complete. The file gets the mode of one that open() makes:
    some writers (safetensors) leave one that only its owner may read.

    Parameters
    ----------
    path : path-like
        The file to write.

    Yields
    ------
    Path
        Temporary path, at which no file exists yet.

    Raises
    ------
    InputError
        If the folder of `path` does not exist.
    OSError
        As the file system does (disk full, no permission); nothing half-written stays.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp(), "notes.txt")
    >>> with written(target) as temporary:
    ...     _ = temporary.write_text("whole")
    ...     target.exists()
    False
    >>> target.read_text()
    'whole'
    """
    target = Path(path)
    # File names are limited to 255 bytes; the ending is what matters, so a long name loses its beginning.
    temporary = target.with_name(f".{secrets.token_hex(6)}-{target.name[-40:]}")
    check_parent(target)
    try:
        usual = _usual_mode(temporary)
        yield temporary
        _flush_to_disk(temporary)
        if stat.S_IMODE(temporary.stat().st_mode) != usual:
            temporary.chmod(usual)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _usual_mode(path: Path) -> int:
    """Mode of a new file at `path`, which is not there yet and stays so; asking for the umask would change it."""
    path.touch(exist_ok=False)
    usual = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    return usual


def _flush_to_disk(path: Path) -> None:
    """Wait until the file is on the disk: some file systems report a full one only then."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def written_folder(path: str | os.PathLike[str], *, own: bool = False, stale: Collection[str] = ()) -> Iterator[Path]:
    """Temporary folder inside `path` whose files and folders are moved up into `path` when the block ends well.

    What is there is replaced or removed only where an earlier run wrote it. Runs note the names of their files under
    "files" in their record (RECORDS), which this function adds. When the block fails nothing is left behind: no file,
    no new folder.

    Parameters
    ----------
    path : path-like
        The folder of the results, which is made where it does not exist.
    own
        The folder belongs to spectac alone: everything in it may be replaced.
    stale
        Names of files and folders of an earlier run that are removed where this one does not write them.

    Yields
    ------
    Path
        Temporary folder, which is empty.

    Raises
    ------
    OSError
        As the file system does, and where something that is not of an earlier run is in the way.

    Examples
    --------
    >>> import tempfile
    >>> results = Path(tempfile.mkdtemp(), "results")
    >>> with written_folder(results) as folder:
    ...     _ = (folder / "record.json").write_text("{}")
    >>> sorted(results_in(results))
    ['record.json']
    """
    target = Path(path)
    for folder in (target, *target.parents):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a file, no folder: give another -o", str(folder))
    new_folders = [folder for folder in (target, *target.parents) if not folder.exists()]
    temporary = target / f".{secrets.token_hex(6)}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        files, ours = sorted(temporary.iterdir()), results_in(target)
        for record in (file for file in files if file.name in RECORDS):
            kept = {name for name in _noted(target / record.name) - {*stale} if (target / name).exists()}
            _note(record, kept | {file.name for file in files})
        for file in files:
            for one in file.iterdir() if file.is_dir() else (file,):
                _flush_to_disk(one)
        # Everything is checked before the first file is moved. The record comes first: it says whose the others are,
        # should this process be killed in between.
        for file in files:
            _check_place(file, target, own or file.name in ours)
        for file in sorted(files, key=lambda file: file.name not in RECORDS):
            if file.is_dir() and (target / file.name).is_dir():
                shutil.rmtree(target / file.name)
            os.replace(file, target / file.name)
        for name in (ours & {*stale}) - {file.name for file in files}:
            _remove(target / name)
        temporary.rmdir()
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in new_folders:
            with suppress(OSError):
                folder.rmdir()
        raise


RECORDS = ("record.json", "patient.json")
"""Records of runs that write several files: their "files" are the names of what they wrote beside them."""


def check_folder(path: Path, what: str) -> None:
    """Check that results can go into a folder, which need not be there yet.

    Parameters
    ----------
    path
        Folder.
    what
        What is to lie in it, in the plural or with an article.

    Raises
    ------
    InputError
        Where the path is a file.

    Examples
    --------
    >>> check_folder(Path("no such folder"), "the results")
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file: give a folder for {what} with -o")


def check_parent(path: Path) -> None:
    """Refuse a file whose folder does not exist.

    Parameters
    ----------
    path
        File to write.

    Raises
    ------
    InputError
        Where its folder is not there.

    Examples
    --------
    >>> check_parent(Path("map.nii.gz"))
    """
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder: make it, or give another name for {path.name}")


def results_in(folder: Path, records: Iterable[str] = RECORDS) -> frozenset[str]:
    """Names of the files and folders in a folder that earlier runs wrote there, as their records say.

    Parameters
    ----------
    folder
        Folder that need not exist.
    records
        Names of the records that are asked.

    Returns
    -------
    frozenset of str
        Empty without a record.

    Examples
    --------
    >>> import tempfile
    >>> results_in(Path(tempfile.mkdtemp()))
    frozenset()
    """
    return frozenset().union(*(_noted(folder / name) for name in records))


def _noted(record: Path) -> set[str]:
    """Names that a record notes; none where there is no such record."""
    try:
        return set(json.loads(record.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _note(record: Path, names: Iterable[str]) -> None:
    """Add the names of a run's files to its record."""
    content = json.loads(record.read_text(encoding="utf-8")) | {"files": sorted(names)}
    record.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_place(file: Path, target: Path, ours: bool) -> None:
    """OSError where a file would replace a folder, a folder a file, or anything that is not of an earlier run."""
    there = target / file.name
    if not there.exists():
        return
    if file.is_dir() != there.is_dir():
        kind = "folder" if there.is_dir() else "file"
        raise FileExistsError(errno.EEXIST, f"a {kind} of this name is in the way: give another -o", str(there))
    if not ours:
        kind = "folder" if there.is_dir() else "file"
        raise FileExistsError(errno.EEXIST, f"this {kind} was not made by spectac: give another folder", str(there))
