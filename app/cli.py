"""The command line. Everything heavy is imported inside the commands, so that --help answers at once."""

import io
import signal
import sys
import threading

import typer

from spectac.app.commands import Interrupted
from spectac.app.commands.comparisons import batch, compare, demo
from spectac.app.commands.learning import cohort, predict, simulate, train
from spectac.app.commands.studies import calibrate, export, info, reconstruct
from spectac.recon.errors import InputError

app = typer.Typer(
    name="spectac",
    help="Quantitative SPECT images from raw projections, with pluggable attenuation models. Research use only.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    info, reconstruct, compare, batch, calibrate, predict, export, simulate, cohort, train, demo
):  # fmt: skip
    app.command()(command)

_INTERRUPTED = 130
"""Exit code of a program that was stopped by the user, by the shells' convention."""


def main() -> None:
    """Run the command line; bad input gives one line and exit code 2."""
    # What the terminal's or a file's encoding lacks is printed as an escape.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # A scheduler's SIGTERM ends a run as Ctrl-C does: nothing half-written stays.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted; nothing was written", _INTERRUPTED)
    except Interrupted as error:
        _fail(str(error), _INTERRUPTED)
    except (typer.TyperException, InputError) as error:
        _fail(error.format_message() if isinstance(error, typer.TyperException) else str(error))
    except MemoryError as error:
        _fail(f"not enough memory: {str(error) or 'the data do not fit'}")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}")
    else:
        if code == _INTERRUPTED:
            _fail("interrupted; nothing was written", _INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int = 2) -> None:
    print("spectac: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
