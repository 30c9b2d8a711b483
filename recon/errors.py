"""Exceptions for input at fault, each with a message that says what to do."""


class InputError(ValueError):
    """Bad input from a user or a file: one line with what was needed, what came and what to do next.

    The command line prints it and exits with code 2; every other exception is a defect of spectac.
    """


class DeviceError(InputError):
    """The GPU cannot do this; the CPU may."""


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
