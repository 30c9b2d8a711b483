"""Settings as fields: name, type, default, range and help of each, declared once.

The command line, TOML files, tables of studies, record.json, reports and the Python interface read them from here. A
new setting is a new field of a class in `settings`: its annotation holds type, range and help (`Setting`).
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, dataclass_transform, get_args, get_origin

import pydantic.dataclasses
from pydantic import BeforeValidator, Field, ValidationError

from spectac.recon.collimator import GIVEN, Collimator
from spectac.recon.errors import InputError

_Settings = TypeVar("_Settings")

AtLeast1 = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_REQUIREMENTS = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a finite number",
    "literal_error": "must be one of {expected}",
    "int_parsing": "needs a whole number",
    "int_from_float": "needs a whole number",
    "float_parsing": "needs a number",
    "bool_parsing": "needs yes or no",
    "too_long": "takes at most {max_length} values",
    "tuple_type": "needs several values",
    "path_type": "needs a path",
}
"""What a field needs, in words, by the kind of pydantic's error; its limits fill the braces."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the command line shows of a field, beside its name, type and default; stands in the field's `Annotated`.

    Parameters
    ----------
    description
        One sentence for the command line's help.
    metavar
        What stands for the value in the help.
    option
        Name of the option, where it is not the field's.
    short
        Second name of the option, such as -n.
    off
        Flag that turns a switch off, where it is not --no-NAME.
    model_option
        Attenuation model that the setting belongs to, and the name of that model's option which it sets.

    Examples
    --------
    >>> from spectac.recon.settings import ProjectionSettings
    >>> options(ProjectionSettings)[0].shown.description
    'Name of the photopeak window, as spectac info shows it.'
    """

    description: str
    metavar: str | None = None
    option: str | None = None
    short: str | None = None
    off: str | None = None
    model_option: tuple[str, str] | None = None


@dataclass_transform(frozen_default=True)
def settings(cls: type[_Settings]) -> type[_Settings]:
    """Make a class of settings a frozen dataclass that is checked at construction.

    Parameters
    ----------
    cls
        Class whose fields are annotated with their type, range and `Setting`.

    Returns
    -------
    type
        Dataclass of the same name. A wrong value raises InputError with the option's name, the need and the value.

    Examples
    --------
    >>> @settings
    ... class Protocol:
    ...     subsets: Annotated[AtLeast1, Setting("Number of subsets.")] = 10
    >>> Protocol(subsets=0)
    Traceback (most recent call last):
    spectac.recon.errors.InputError: --subsets must be at least 1, not 0
    """
    checked: Any = pydantic.dataclasses.dataclass(frozen=True, config={"extra": "forbid"})(cls)
    construct = checked.__init__

    def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807 - replaces the dataclass's own
        try:
            construct(self, *values, **named)
        except ValidationError as error:
            raise InputError(_requirement(checked, error)) from None

    checked.__init__ = __init__
    return cast("type[_Settings]", checked)


def _requirement(cls: type, error: ValidationError) -> str:
    """The first fault that pydantic found, in words; a validator's own InputError as it stands."""
    first = error.errors()[0]
    context = first.get("ctx", {})
    if first["type"] == "value_error":
        return str(context["error"])
    declared = options(cls)
    place = first["loc"][0]
    if first["type"] == "unexpected_keyword_argument":
        return f"{cls.__name__} has no setting {place!r}: it has {', '.join(option.field for option in declared)}"
    names = [declared[place]] if isinstance(place, int) else [option for option in declared if option.field == place]
    if not names:
        return f"{cls.__name__}: {first['msg']}"
    if "expected" in context:
        context = context | {"expected": context["expected"].replace("'", "").replace(" or ", ", ")}
    needed = _REQUIREMENTS.get(first["type"], first["msg"]).format_map(context)
    return f"--{names[0].name.replace('_', '-')} {needed}, not {_shown(first['input'])}"


def _shown(value: object) -> str:
    """A value as the user gave it: numbers without quotes, texts within."""
    try:
        return f"{float(value):g}"  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return repr(value)


@dataclasses.dataclass(frozen=True)
class Option:
    """A field as the command line, TOML files and tables show it.

    Attributes
    ----------
    name
        Name with underscores.
    field
        Name of the field.
    kind
        bool, int, float, str or Path; list for a repeatable text.
    default
        Value where the user gives none; ... where one must be given.
    shown
        Help and what else the command line shows.
    limits
        What the value must be, in words.

    Examples
    --------
    >>> from spectac.recon.settings import ProjectionSettings
    >>> scatter = options(ProjectionSettings)[1]
    >>> scatter.name, scatter.kind, scatter.default
    ('scatter', <class 'str'>, 'auto')
    """

    name: str
    field: str
    kind: type
    default: Any
    shown: Setting
    limits: tuple[str, ...]

    @property
    def help(self) -> str:
        """Sentence for the command line's help, with the limits of the value."""
        return self.shown.description + (f" [{', '.join(self.limits)}]" if self.limits else "")


def options(cls: type) -> tuple[Option, ...]:
    """Options of a class of settings, in the order of its fields.

    Parameters
    ----------
    cls
        Class made by `settings`.

    Returns
    -------
    tuple of Option
        One for each field.

    Examples
    --------
    >>> from spectac.recon.setting_fields import options
    >>> from spectac.recon.settings import StudySettings
    >>> [option.name for option in options(StudySettings)][:3]
    ['nuclide', 'collimator', 'psf']
    """
    declared = []
    for name, info in cls.__pydantic_fields__.items():  # type: ignore[attr-defined]
        shown = next(mark for mark in info.metadata if isinstance(mark, Setting))
        default = ... if info.is_required() else info.default
        parsed = any(isinstance(mark, BeforeValidator) for mark in info.metadata)
        kind = str if parsed else _kind(info.annotation)
        limits = tuple(dict.fromkeys(_limits(info.annotation, info.metadata)))
        declared.append(Option(shown.option or name, name, kind, default, shown, limits))
    return tuple(declared)


def _limits(annotation: Any, marks: Iterable[Any]) -> Iterator[str]:
    """Limits of a value, in the words of its errors."""
    for mark in marks:
        for name, kind in (("gt", "greater_than"), ("ge", "greater_than_equal"), ("le", "less_than_equal")):
            if getattr(mark, name, None) is not None:
                yield _REQUIREMENTS[kind].format(**{name: getattr(mark, name)}).removeprefix("must be ")
    for part in get_args(annotation):
        if get_origin(part) is Annotated:
            kind, *fields = get_args(part)
            yield from _limits(kind, [mark for field in fields for mark in getattr(field, "metadata", [field])])
        else:
            yield from _limits(part, ())


def _kind(annotation: Any) -> type:
    """Type that the command line reads."""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation == tuple[str, ...]:
        return list
    return annotation if annotation in (bool, int, float, str, Path) else str


def from_options(cls: type[_Settings], values: Mapping[str, object]) -> _Settings:
    """Settings from values by the options' names; texts are read as those of the command line.

    Parameters
    ----------
    cls
        Class made by `settings`.
    values
        Values by the options' names. None leaves the default; names that `cls` does not have are left out.

    Returns
    -------
    instance of cls
        Settings, checked.

    Raises
    ------
    InputError
        A setting cannot have its value.

    Examples
    --------
    >>> from spectac.recon.setting_fields import from_options
    >>> from spectac.recon.settings import StudySettings
    >>> from_options(StudySettings, {"head_angles": "0,180"}).head_angles_deg
    (0.0, 180.0)
    """
    return cls(**{one.field: values[one.name] for one in options(cls) if values.get(one.name) is not None})


def as_options(chosen: object, *, changed: bool = False) -> dict[str, Any]:
    """Values of settings by the options' names, as JSON takes them.

    Parameters
    ----------
    chosen
        Instance of a class made by `settings`.
    changed
        Leave out those that are the default.

    Returns
    -------
    dict of str to object
        Tuples become lists; times, paths and collimators become texts that `from_options` reads.

    Examples
    --------
    >>> from spectac.recon.setting_fields import as_options
    >>> from spectac.recon.settings import ReconstructionSettings
    >>> as_options(ReconstructionSettings(iterations=4), changed=True)
    {'iterations': 4}
    """
    values = {one.name: getattr(chosen, one.field) for one in options(type(chosen))}
    described = values.get("collimator")
    if isinstance(described, Collimator) and described.source == GIVEN:  # it has no name of the table
        values |= {"collimator": None, "holes" if described.line is None else "psf": described}
    defaults = {one.name: one.default for one in options(type(chosen))}
    return {name: _plain(value) for name, value in values.items() if not (changed and value == defaults[name])}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Collimator):
        return _described(value) if value.source == GIVEN else value.name
    if value == math.inf:  # JSON has no such number
        return "inf"
    return str(value) if isinstance(value, Path) else value


def _described(collimator: Collimator) -> str:
    """Text of --psf or --holes, with all digits."""
    if collimator.line is None:
        sizes = [collimator.hole_mm, collimator.septa_mm, collimator.length_mm, collimator.intrinsic_fwhm_mm]
    else:
        sizes = [*collimator.line, *([collimator.length_mm] if collimator.length_mm else [])]
    return ":".join(repr(float(size)) for size in sizes)


def merged(general: _Settings, particular: _Settings) -> _Settings:
    """The general settings with those that the particular ones change.

    Parameters
    ----------
    general
        Settings that hold where the particular ones are the default.
    particular
        Settings of the same class, e.g. those of one study of a batch.

    Returns
    -------
    instance of the same class
        A new object; a default among the particular settings never replaces a general one.

    Examples
    --------
    >>> from spectac.recon.settings import StudySettings
    >>> general = StudySettings(nuclide="I-123", radius_mm=140)
    >>> both = merged(general, StudySettings(radius_mm=150))
    >>> both.nuclide, both.radius_mm
    ('I-123', 150.0)
    """
    own = {one.field: getattr(particular, one.field) for one in options(type(particular))}
    changed = {one.field: own[one.field] for one in options(type(particular)) if own[one.field] != one.default}
    return dataclasses.replace(general, **changed)  # type: ignore[type-var]
