"""The folder of a queue: locked by one run, cleared of files that a killed run left half-written, checked for space."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spectac.recon.errors import InputError
from spectac.recon.io.atomic import check_folder

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are not noticed
    fcntl = None  # type: ignore[assignment]

MACHINE_ERRORS = frozenset(
    number
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "ENOMEM", "EMFILE", "ENFILE")
    if (number := getattr(errno, name, None)) is not None
)
"""Numbers of the errors of a full disk or too many open files: the next item would meet the same."""


@contextmanager
def locked(folder: Path, command: str) -> Iterator[None]:
    """Lock that keeps other runs out of a folder; the system releases it when the process ends.

    Parameters
    ----------
    folder
        Made where it does not exist.
    command
        Name of the command, for messages.

    Yields
    ------
    None
        Inside the block no other run of a queue can lock the folder (on Windows it can).

    Raises
    ------
    InputError
        Another run of the command has the folder, or `folder` is a file.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spectac.recon.queue.store import locked
    >>> with TemporaryDirectory() as folder, locked(Path(folder), "batch"):
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['.lock']
    """
    check_folder(folder, f"the {command}")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as stream:
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{folder}: another spectac {command} is running in this folder") from None
        yield


def remove_leftovers(folder: Path, ending: str) -> None:
    r"""Remove the temporary files and folders of writers that were killed (names as recon/io/atomic.py gives them).

    Parameters
    ----------
    folder
        Folder that the writers wrote into.
    ending
        Regular expression of what follows the random digits in a temporary name, e.g. r"-manifest\.json".

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spectac.recon.queue.store import remove_leftovers
    >>> with TemporaryDirectory() as folder:
    ...     for name in (".0123456789ab-manifest.json", "manifest.json"):
    ...         Path(folder, name).touch()
    ...     remove_leftovers(Path(folder), r"-manifest\.json")
    ...     [path.name for path in Path(folder).iterdir()]
    ['manifest.json']
    """
    leftover = re.compile(rf"\.[0-9a-f]{{12}}(?:{ending})")
    for path in folder.iterdir():
        if leftover.fullmatch(path.name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(FileNotFoundError):
                    path.unlink()


def check_visible(folder: Path, path: Path) -> None:
    """Check that this process sees a file that a worker wrote.

    Parameters
    ----------
    folder
        Folder of the queue, for the message.
    path
        The file.

    Raises
    ------
    InputError
        The file is not there: the worker wrote to a disk of its own.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spectac.recon.queue.store import check_visible
    >>> check_visible(Path("cohort"), Path("cohort", "shard-00000.h5"))
    Traceback (most recent call last):
    spectac.recon.errors.InputError: cohort: the workers write to another disk: give a folder that all see
    """
    if not path.is_file():
        raise InputError(f"{folder}: the workers write to another disk: give a folder that all see")


def named_error(error: OSError, path: Path) -> OSError:
    """The error, with a file where it names none, as that of a full disk does not.

    Parameters
    ----------
    error
        As the file system raised it.
    path
        File that was being written.

    Returns
    -------
    OSError
        The same object where it names a file, else a new one of the same number.

    Examples
    --------
    >>> import errno
    >>> from pathlib import Path
    >>> from spectac.recon.queue.store import named_error
    >>> named_error(OSError(errno.ENOSPC, "No space left on device"), Path("manifest.json")).filename
    'manifest.json'
    """
    if error.filename is not None or error.errno is None:
        return error
    return OSError(error.errno, os.strerror(error.errno), str(path))


def can_resume(error: OSError) -> bool:
    """True where the same command can continue once there is room; a place that cannot be written to stays so.

    Parameters
    ----------
    error
        Error that ended the run.

    Returns
    -------
    bool
        False also for errors that are none of a full disk, of memory or of too many open files.

    Examples
    --------
    >>> import errno
    >>> from spectac.recon.queue.store import can_resume
    >>> can_resume(OSError(errno.ENOSPC, "full")), can_resume(OSError(errno.EROFS, "read-only"))
    (True, False)
    """
    return error.errno in MACHINE_ERRORS - {errno.EROFS}
