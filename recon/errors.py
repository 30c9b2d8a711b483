"""Exceptions whose message tells the user what to do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Bad input from a user or a file: one line with what was needed, what came and what to do next.

    The command line prints it and exits with code 2. Every other exception is a defect of spectac.

    Examples
    --------
    >>> isinstance(InputError("--subsets must be above 0, not -1"), ValueError)
    True
    """


class DeviceError(InputError):
    """The GPU cannot do this; the CPU may.

    Examples
    --------
    >>> issubclass(DeviceError, InputError)
    True
    """


class MissingExtraError(InputError):
    """An optional package is not installed; `extra` names the extra of spectac that installs it.

    Parameters
    ----------
    message
        What needs which package, e.g. "registering a CT needs SimpleITK"; the command to install it is appended.
    extra
        Name of the extra.

    Examples
    --------
    >>> from spectac.recon.errors import MissingExtraError
    >>> str(MissingExtraError("registering a CT needs SimpleITK", "ct"))
    "registering a CT needs SimpleITK: pip install 'spectac[ct]'"
    """

    def __init__(self, message: str, extra: str = "") -> None:
        # Unpickled with the whole message alone, which Python follows with the attributes.
        super().__init__(f"{message}: pip install 'spectac[{extra}]'" if extra else message)
        self.extra = extra


class FileError(InputError):
    """Bad input in a file: the message begins with the file's name.

    Parameters
    ----------
    path : path-like
        The file or folder.
    reason : object
        What is wrong with it, and what to do.

    Examples
    --------
    >>> str(FileError("scan.dcm", "cut short"))
    'scan.dcm: cut short'
    """

    def __init__(self, path: str | os.PathLike[str], reason: object) -> None:
        super().__init__(str(path), str(reason))

    def __str__(self) -> str:
        return ": ".join(self.args)


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let every InputError of the block name this file, but for those that name a file already.

    Parameters
    ----------
    path : path-like
        The file or folder.

    Yields
    ------
    None
        The block runs as it would without the context.

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
