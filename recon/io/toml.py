"""Settings from TOML files."""

import tomllib
from pathlib import Path
from typing import Any

from spectac.recon.errors import InputError


def read_toml(path: Path) -> dict[str, Any]:
    """Values of a TOML file.

    Parameters
    ----------
    path
        The file, in UTF-8; editors of Windows put a byte-order mark before it.

    Returns
    -------
    dict
        Values by key.

    Raises
    ------
    InputError
        If the file is no TOML.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "run.toml")
    >>> _ = file.write_text("iterations = 4")
    >>> read_toml(file)
    {'iterations': 4}
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file: {error}") from None
