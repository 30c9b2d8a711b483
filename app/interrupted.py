"""What the user reads after Ctrl-C."""


class Interrupted(Exception):  # noqa: N818 - the user's wish is no error
    """A command was interrupted; the message says what is there, and how to go on.

    KeyboardInterrupt would lose it: typer turns that into an empty message.
    """
