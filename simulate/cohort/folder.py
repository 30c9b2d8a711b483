"""The folder of a cohort: what was asked, which shards are there and whole, and the manifest that lists them.

Everything can be told from the shards alone: the manifest is their facts put together, and it is written again whenever
a run ends. So a run that was killed at any moment leaves nothing that the next one has to repair.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

import spectac.recon
from spectac.recon import workers
from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written
from spectac.recon.settings import AtLeast1, setting, settings
from spectac.simulate.cohort.shards import DamagedShard, ShardFacts, read_facts

FORMAT = "spectac-cohort"
VERSION = 1
MANIFEST = "manifest.json"
SIMULATION = "spectac.simulate.cohort.run:simulate_patient"
MOST_IN_A_SHARD = 64

_SHARD = re.compile(r"shard-(\d{5,})\.h5")
_STALE = re.compile(r"\.[0-9a-f]{12}-(shard-\d{5,}\.h5|manifest\.json)")
"""Temporary names of io.atomic.written that a killed run leaves behind."""


@settings
class CohortSettings:
    """What a cohort is: `patients` from `seed`, with one tracer or a mixture, `shard_patients` in each file.

    `simulation` names the function (seed, index, settings) -> PatientArrays as "package.module:function". Patient
    `index` follows from it, `seed`, `tracer` and the code of spectac, and from nothing else.
    """

    patients: AtLeast1 = setting(..., "Number of patients.", short="-n")
    seed: Annotated[int, Field(ge=0)] = setting(1, "Seed of the cohort.")
    tracer: Literal["mixed", "dat", "perfusion", "randomised"] = setting(
        "mixed", "mixed, dat, perfusion or randomised."
    )
    shard_patients: Annotated[int, Field(ge=1, le=MOST_IN_A_SHARD)] = setting(16, "Patients in a file.")
    simulation: str = setting(SIMULATION, "Another simulation of a patient.", metavar="MODULE:FUNCTION")

    def identity(self) -> dict[str, Any]:
        """All that must be the same for patients of one folder: the settings but their number, version and code."""
        values = asdict(self)
        del values["patients"]
        return {**values, "spectac": version("spectac"), "code": code_digest()}

    @property
    def shards(self) -> range:
        """Numbers of the shards."""
        return range(-(-self.patients // self.shard_patients))

    def indices(self, shard: int) -> range:
        """Indices of the patients of a shard."""
        first = shard * self.shard_patients
        return range(first, min(first + self.shard_patients, self.patients))


@cache
def code_digest() -> str:
    """Digest of the Python files of spectac.simulate and spectac.recon, the code that patients follow from."""
    digest = hashlib.sha256()
    for folder in (Path(__file__).parents[1], Path(str(spectac.recon.__file__)).parent):
        for path in sorted(folder.rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()[:16]


def shard_path(folder: Path, shard: int) -> Path:
    """File of a shard."""
    return folder / f"shard-{shard:05d}.h5"


def locked(folder: Path) -> AbstractContextManager[None]:
    """The cohort's folder, made where it is missing, for this process alone; InputError where another run has it."""
    return workers.locked(folder, "cohort")


def remove_stale(folder: Path) -> None:
    """Remove the temporary files of writers that were killed."""
    for path in folder.iterdir():
        if _STALE.fullmatch(path.name):
            with suppress(FileNotFoundError):
                path.unlink()


def check_settings(folder: Path, settings: CohortSettings) -> None:
    """InputError where the folder's manifest says another cohort, or one with more patients."""
    path = folder / MANIFEST
    if not path.is_file():
        return
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found, patients = dict(manifest["cohort"]), int(manifest["patients"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no manifest of a spectac cohort, or damaged ({error!r}): delete it and run again, the shards "
            "hold all that is needed"
        ) from None
    check_cohort(path, found, settings)
    if patients > settings.patients:
        raise InputError(f"{path}: the cohort has {patients} patients, -n {settings.patients} would lose some")


def check_cohort(path: Path, found: Mapping[str, Any], settings: CohortSettings) -> None:
    """InputError where a file's settings, or the code that made it, are not those that are asked for."""
    asked = settings.identity()
    other = [f"{name} {found.get(name)!r}, not {asked[name]!r}" for name in asked if found.get(name) != asked[name]]
    if other:
        raise InputError(
            f"{path}: holds a cohort with {'; '.join(other)}: give the same settings to go on with it, or another -o"
        )


def whole_shards(
    folder: Path, settings: CohortSettings, on_shard: Callable[[int], None] | None = None
) -> tuple[dict[int, ShardFacts], list[str]]:
    """Facts of the shards that are there, undamaged and complete, and a line for each that must be made again.

    `on_shard` is called with the number of patients of every whole shard. A shard that another number of patients had
    cut short is made again. Raises InputError where a shard belongs to another cohort, or lies beyond this one.
    """
    whole: dict[int, ShardFacts] = {}
    notes: list[str] = []
    there = sorted(int(match[1]) for path in folder.iterdir() if (match := _SHARD.fullmatch(path.name)))
    for shard in there:
        path = shard_path(folder, shard)
        if shard not in settings.shards:
            raise InputError(
                f"{path}: lies beyond the {settings.patients} patients that are asked for: give more, or -o"
            )
        try:
            facts = read_facts(path)
        except DamagedShard as error:
            notes.append(f"{error}; made again")
            continue
        check_cohort(path, facts.cohort, settings)
        if facts.indices == tuple(settings.indices(shard)):
            whole[shard] = facts
            if on_shard is not None:
                on_shard(len(facts.indices))
    return whole, notes


def write_manifest(folder: Path, settings: CohortSettings, shards: Mapping[int, ShardFacts]) -> None:
    """Write manifest.json: the cohort, each patient with digest and shard, failures with reasons, missing shards.

    Raises OSError as the file system does; the old manifest stays until the new one is complete.
    """
    patients, failures = [], []
    for shard, facts in sorted(shards.items()):
        name = shard_path(folder, shard).name
        patients += [
            {"index": index, "sha256": digest, "shard": name, "row": row}
            for row, (index, digest) in enumerate(facts.sha256.items())
        ]
        failures += [
            {"index": index, "reason": reason, "shard": name} for index, reason in sorted(facts.failures.items())
        ]
    content = {
        "format": FORMAT,
        "version": VERSION,
        "cohort": settings.identity(),
        "patients": settings.patients,
        "complete": len(shards) == len(settings.shards),
        "missing_shards": [shard_path(folder, shard).name for shard in settings.shards if shard not in shards],
        "failures": failures,
        "arrays": patients,
    }
    with written(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
