"""The exceptions that mean: the input is at fault, and the message says what to do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Bad input from a user or a file: one line with what was needed, what came and what to do next.

    The command line prints it and exits with code 2; every other exception is a defect of spectac.
    """


class DeviceError(InputError):
    """The GPU cannot do this; the CPU may."""


class FileError(InputError):
    """Bad input in a file: the message begins with the file's name.

    Parameters
    ----------
    path : path-like
        The file or folder.
    reason : object
        What is wrong with it, and what to do.
    """

    def __init__(self, path: str | os.PathLike[str], reason: object) -> None:
        super().__init__(str(path), str(reason))

    def __str__(self) -> str:
        return ": ".join(self.args)


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let every InputError of the block name this file, but for those that name a file already.

    Raises
    ------
    FileError
        In place of an InputError.

    Examples
    --------
    >>> with naming("scan.hs"):
    ...     raise InputError("no views")
    Traceback (most recent call last):
    spectac.recon.errors.FileError: scan.hs: no views
    """
    try:
        yield
    except FileError:
        raise
    except InputError as error:
        raise FileError(path, error) from error
