"""The commands, each a function whose parameters are its options; cli.py runs them."""


class Interrupted(Exception):  # noqa: N818 - not an error
    """Stopped by the user, with a line of its own on what is there."""
