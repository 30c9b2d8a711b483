"""Commands from functions: settings become options, a TOML file may hold them, and returned lines are printed."""

import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Annotated, Any

import typer

from spectac.app.interrupted import Interrupted
from spectac.recon.errors import InputError
from spectac.recon.io.toml import read_toml
from spectac.recon.setting_fields import Option, from_options, options

StudyPaths = Annotated[
    list[Path],
    typer.Argument(
        metavar="STUDY...", help="DICOM NM files or their folder, Interfile headers, or an HDF5 study: one acquisition."
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
Scheduler = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler to use, e.g. tcp://host:8786.")]


@dataclass(frozen=True)
class Only:
    """Marks a parameter of a command: of its class of settings these fields alone become options."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Without:
    """Marks a parameter of a command: these fields of its class of settings do not become options."""

    names: tuple[str, ...]


def command(function: Callable[..., Iterable[str]]) -> Callable[..., None]:
    """The function as typer takes it.

    A parameter whose type is a class of settings becomes one option for each field, and `--config` reads options from a
    TOML file. `Only` and `Without` in its annotation choose among the fields. The lines that the function returns are
    printed.
    """
    signature = inspect.signature(function)
    hints = typing.get_type_hints(function, include_extras=True)
    plain, groups = [], {}
    for parameter in signature.parameters.values():
        annotation = hints[parameter.name]
        cls, *marks = typing.get_args(annotation) if typing.get_origin(annotation) is Annotated else (annotation,)
        if isinstance(cls, type) and hasattr(cls, "__pydantic_fields__"):
            groups[parameter.name] = (cls, _chosen(cls, marks))
        else:
            plain.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=annotation))
    shown = [_parameter(option) for _, chosen in groups.values() for option in chosen]
    if "config" not in signature.parameters:
        shown.insert(0, inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Config))

    @functools.wraps(function)
    def flattened(**values: Any) -> None:
        if "config" not in signature.parameters:
            del values["config"]
        for name, (cls, chosen) in groups.items():
            given = {option.name: values.pop(option.name) for option in chosen}
            values[name] = from_options(cls, given)
        try:
            for line in function(**values):
                print(line)
        except KeyboardInterrupt as stopped:
            raise Interrupted(str(stopped)) from None

    flattened.__signature__ = inspect.Signature([*plain, *shown])  # type: ignore[attr-defined]
    flattened.__annotations__ = {one.name: one.annotation for one in (*plain, *shown)} | {"return": None}
    del flattened.__wrapped__  # typer would read the signature from there
    return flattened


def _chosen(cls: type, marks: list[Any]) -> list[Option]:
    """Fields of a class of settings that a command shows, with its own defaults."""
    chosen = list(options(cls))
    for mark in marks:
        if isinstance(mark, Only):
            chosen = [option for option in chosen if option.field in mark.names]
        elif isinstance(mark, Without):
            chosen = [option for option in chosen if option.field not in mark.names]
    return chosen


def _parameter(option: Option) -> inspect.Parameter:
    """The option as typer's parameter."""
    name = f"--{option.name.replace('_', '-')}"
    names = [name] if option.shown.short is None else [name, option.shown.short]
    kind: Any = list[str] if option.kind is list else option.kind
    default = None if option.default == () else option.default
    if kind is bool and (off := option.shown.off or (f"--no-{name[2:]}" if default else None)):
        names = [f"{name}/{off}"]
    shown = typer.Option(*names, metavar=option.shown.metavar, help=option.help)
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is ... else default,
        annotation=Annotated[kind | None if default is None else kind, shown],
    )


def arguments(values: Mapping[str, Any], cls: type) -> list[str]:
    """Words of the command line for values by the options' names; those that are None are left out."""
    words = []
    for option in options(cls):
        value, name = values.get(option.name), f"--{option.name.replace('_', '-')}"
        if option.kind is bool:
            words += [] if value in (None, option.default) else [name if value else f"--no-{name[2:]}"]
        elif value is not None:
            words += [name, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return words


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take defaults for every option of the command from a TOML file; the command line wins."""
    if path is None or context.resilient_parsing:
        return path
    values = read_toml(path)
    known = {one.name: one for one in context.command.params if one.param_type_name == "option" and one.name}
    del known["config"]
    written = {key.replace("-", "_"): value for key, value in values.items()}
    plain: dict[str, Any] = {}
    unknown = [key for key in written if key not in known and key.removeprefix("no_") not in known]
    if unknown:
        raise InputError(f"{path}: unknown key {', '.join(unknown)}; known keys: {', '.join(sorted(known))}")
    for key, value in written.items():
        name = key.removeprefix("no_")
        if key not in known and name in known and isinstance(value, bool) and known[name].secondary_opts:
            plain[name] = not value
            continue
        if key not in known:
            raise InputError(f"{path}: unknown key {key}: write {name} = {value!r}")
        if isinstance(value, bool) is not getattr(known[key], "is_flag", False):
            raise InputError(f"{path}: {key} = {value!r} has the wrong type")
        if isinstance(value, list) and not getattr(known[key], "multiple", False):
            value = ",".join(str(part) for part in value)
        elif isinstance(value, str) and getattr(known[key], "multiple", False):
            value = [value]
        elif isinstance(value, (date, time)):
            value = value.isoformat()
        plain[key] = value
    context.default_map = {**(context.default_map or {}), **plain}
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        callback=_load_config, is_eager=True, exists=True, dir_okay=False, help="TOML file with any of these options."
    ),
]
