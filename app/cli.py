"""The command line: `spectac COMMAND`, one module of this folder for each command."""

import io
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from spectac.app.interrupted import Interrupted
from spectac.recon.errors import InputError

COMMANDS = {
    "info": "Show windows, views, orbit and counts of a study, how its scatter is corrected, and what looks wrong.",
    "reconstruct": "Reconstruct raw projections into DIR/image.nii.gz, image.dcm, mu_map.nii.gz and record.json.",
    "compare": "Reconstruct a study with every attenuation model: DIR/report.html, comparison.csv and images.",
    "batch": "Compare the methods on many studies: DIR/index.html, summary.csv, a report each; it can be resumed.",
    "calibrate": "Measure counts per second per kBq in the scan of a uniform phantom, for --calibration.",
    "predict": "Estimate a study's attenuation map in 1/cm from its projections alone.",
    "holder": "Measure a head-holder's attenuation once, from a CT of it or of a head in it, for --holder.",
    "thin": "Make a shorter scan of a study by chance: a share of its counts in a share of its time.",
    "export": "Write a study as STIR, SIMIND's users or PyTomography read it, and say what their files cannot hold.",
    "simulate": "Simulate one virtual patient: DIR/projections.dcm or study.h5, patient.json, and truth.",
    "cohort": "Simulate many virtual patients into sharded HDF5; it can be resumed.",
    "train": "Train the network that estimates attenuation maps; it can be resumed.",
    "node": "Run a DICOM node: projections that are sent to it are reconstructed, images are sent on; or its status.",
    "demo": "Simulate a head's noisy projections, reconstruct with every attenuation model, report the errors.",
}
"""Name and help of each command, in the order of --help."""

_INTERRUPTED = 130
"""Exit code of a program that was stopped by the user, by the shells' convention."""


class _Modules(Mapping[str, Any]):
    """Commands by name, each imported when it is asked for: numpy and the like stay out of `spectac --help`."""

    def __getitem__(self, name: str) -> Any:
        from spectac.app.options import command

        described = COMMANDS[name]
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name, help=described)(command(getattr(import_module(f"spectac.app.{name}"), name)))
        return typer.main.get_command(alone)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Commands(TyperGroup):
    """The group of all commands, whose help imports none of them."""

    def list_commands(self, context: Any) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, context: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(asked: bool) -> None:
    if asked:
        print(f"spectac {version('spectac')}")
        raise typer.Exit


_options = typer.Typer(add_completion=False)


@_options.callback()
def _options_of_all(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options before the command."""


app = _Commands(
    name="spectac",
    help="Quantitative SPECT images from raw projections, with pluggable attenuation models. Research use only.",
    commands=_Modules(),  # type: ignore[arg-type]
    params=typer.main.get_group(_options).params,
    rich_markup_mode=None,
)


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
        code = app.main(sys.argv[1:] or ["--help"], prog_name="spectac", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted; nothing was written", _INTERRUPTED)
    except Interrupted as error:
        _fail(str(error) or "interrupted; nothing was written", _INTERRUPTED)
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
