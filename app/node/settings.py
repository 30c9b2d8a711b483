"""Settings of a DICOM node, a TOML file: who may send what, how it is reconstructed, and where the images go."""

import json
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from spectac.app.comparison import CompareRequest
from spectac.recon.errors import InputError
from spectac.recon.io.toml import read_toml
from spectac.recon.setting_fields import from_options, options
from spectac.recon.settings import ComparisonSettings, ReconstructionSettings, StudySettings

Title = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[\x21-\x5b\x5d-\x7e][\x20-\x5b\x5d-\x7e]*$")]
"""An AE title."""
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Minutes = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_CONFIG: Any = {"extra": "forbid", "strict": True}
_GROUPS: tuple[type, ...] = (StudySettings, ReconstructionSettings, ComparisonSettings)
_OF_THE_STUDY = frozenset({"ct", "mu_map", "truth", "labels", "methods", "anonymous"})
"""Options that a rule cannot fix for all studies, or has a key of its own for."""


@dataclass(frozen=True, config=_CONFIG)
class Tls:
    """Certificates of encrypted associations: the node's own with its key, and those that peers' are signed by."""

    certificate: str
    key: str
    authorities: str


@dataclass(frozen=True, config=_CONFIG)
class Peer:
    """A sender: its AE title and address. `port`: where it listens for the answer to a storage commitment."""

    ae: Title
    host: str
    port: Port | None = None


@dataclass(frozen=True, config=_CONFIG)
class Destination:
    """Where results are sent to; `objects`: what it takes of them."""

    name: Name
    ae: Title
    host: str
    port: Port
    tls: bool = False
    objects: Annotated[tuple[Literal["image", "report", "key page"], ...], Field(min_length=1)] = (
        "image", "report", "key page",
    )  # fmt: skip


@dataclass(frozen=True, config=_CONFIG)
class Match:
    """Patterns (* and ?) of the studies that a rule is for; case does not matter, * alone matches an empty value."""

    ae: str = "*"
    station: str = "*"
    protocol: str = "*"
    nuclide: str = "*"
    body_part: str = "*"

    def fits(self, facts: Mapping[str, str]) -> bool:
        """Whether all patterns fit the facts of a study."""
        return all(
            fnmatchcase(facts.get(name, "").upper(), pattern.upper())
            for name, pattern in vars(self).items()
            if not name.startswith("_")
        )


@dataclass(frozen=True, config=_CONFIG)
class Rule:
    """How the studies that it matches are reconstructed, and which destinations get the images.

    `needs = "ct"` waits for the patient's CT, for `wait_minutes` at most. `settings` are those of spectac compare.
    """

    name: Name
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    destinations: tuple[Name, ...] = ()
    match: Match = Match()
    needs: Literal["", "ct"] = ""
    wait_minutes: Minutes = 240.0
    settings: Mapping[str, Any] = Field(default_factory=dict)

    def request(self, ct: Path | None, *, anonymous: bool) -> CompareRequest:
        """Settings for a study; without a CT the methods that need one are left out."""
        values = {key.replace("-", "_"): value for key, value in self.settings.items()}
        known = {one.name for group in _GROUPS for one in options(group)} - _OF_THE_STUDY
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"rule {self.name}: unknown setting {', '.join(unknown)}: those of spectac compare")
        values |= {"methods": self.methods, "anonymous": anonymous, "ct": ct}
        comparison = from_options(ComparisonSettings, values)
        if ct is None and "ct" in self.methods:
            methods = tuple(name for name in self.methods if name != "ct")
            if not methods:
                raise InputError(f"rule {self.name}: no method is left without a CT")
            comparison = replace(comparison.without("ct"), methods=methods)
        return CompareRequest(
            from_options(StudySettings, values), from_options(ReconstructionSettings, values), comparison
        )


@dataclass(frozen=True, config=_CONFIG)
class NodeSettings:
    """Settings of `spectac node`.

    Parameters
    ----------
    ae
        AE title of the node.
    folder
        Where files, results and the node's memory lie.
    rules
        The first that matches a study is used; a study without one is kept and not reconstructed.
    peers, destinations
        Who may send, and who gets results.
    host, port
        Address that the node listens on.
    status_port
        Port of the status page on this machine; 0: none.
    quiet_seconds
        A study is complete when nothing of it came for so long.
    associations
        Most senders at a time.
    largest_mb, least_free_gb
        Largest object, and space that stays free on the disk; beyond them objects are refused.
    keep_days, keep_gb
        What is kept of finished studies, at most.
    workers
        Processes that reconstruct; 0: the node's own.
    anonymous
        Images and reports without patient and dates.
    tls
        Certificates; None: unencrypted.
    """

    ae: Title
    folder: str
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    peers: Annotated[tuple[Peer, ...], Field(min_length=1)]
    destinations: tuple[Destination, ...] = ()
    host: str = "0.0.0.0"
    port: Port = 11112
    status_port: Annotated[int, Field(ge=0, le=65535)] = 8104
    quiet_seconds: Positive = 120.0
    associations: Annotated[int, Field(ge=1, le=1000)] = 10
    largest_mb: Positive = 1024.0
    least_free_gb: Annotated[float, Field(ge=0)] = 2.0
    keep_days: Positive = 30.0
    keep_gb: Positive = 50.0
    workers: Annotated[int, Field(ge=0)] = 1
    anonymous: bool = False
    tls: Tls | None = None

    @classmethod
    def read(cls, path: Path) -> "NodeSettings":
        """Settings of a TOML file, checked as a whole; InputError with file, key and need."""
        values = read_toml(path)
        try:
            # As JSON: strict, but for tables and lists.
            found = TypeAdapter(cls).validate_json(json.dumps(_renamed(values), default=str))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{path}: {place}: {first['msg']}, not {first['input']!r}") from None
        found.check(path)
        return found

    def check(self, path: Path) -> None:
        """InputError where names are double or missing, and where a rule's settings cannot be."""
        for what, names in (
            ("rules", [rule.name for rule in self.rules]),
            ("destinations", [one.name for one in self.destinations]),
            ("peers", [one.ae for one in self.peers]),
        ):
            double = sorted({name for name in names if names.count(name) > 1})
            if double:
                raise InputError(f"{path}: two {what} are called {', '.join(double)}")
        known = {one.name for one in self.destinations}
        for rule in self.rules:
            missing = sorted(set(rule.destinations) - known)
            if missing:
                raise InputError(f"{path}: rule {rule.name} sends to {', '.join(missing)}, which is no destination")
            try:
                with_ct = [Path("ct")] if "ct" in rule.methods else []
                for ct in (*with_ct, None) if set(rule.methods) != {"ct"} else with_ct:
                    rule.request(ct, anonymous=self.anonymous).comparison.models()
            except InputError as error:
                raise InputError(f"{path}: rule {rule.name}: {error}") from None
        if self.tls is not None:
            for name, file in vars(self.tls).items():
                if not name.startswith("_") and not Path(file).is_file():
                    raise InputError(f"{path}: tls.{name}: {file}: no such file")


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tables under the names of the fields: [[rule]] and [[rules]] alike."""
    names = {"rule": "rules", "peer": "peers", "destination": "destinations"}
    return {names.get(key, key): one for key, one in values.items()}
