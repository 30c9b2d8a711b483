"""The one exception that means: the input is at fault, and the message says what to do."""


class InputError(ValueError):
    """Bad input from a user or a file: one line with what was needed, what came and what to do next.

    The command line prints it and exits with code 2; every other exception is a defect of spectac.
    """


class DeviceError(InputError):
    """The GPU cannot do this; the CPU may."""
