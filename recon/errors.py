"""Exceptions whose message tells the user what to do."""


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
