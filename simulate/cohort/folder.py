"""The folder of a cohort: its settings, its shards, and the manifest that lists their patients.

The shards hold all that is needed. The manifest is made from them, while a run works and when it ends.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from spectac.recon.code_digest import code_digest
from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written
from spectac.recon.setting_fields import AtLeast1, Setting, settings
from spectac.simulate.bodies import ENDING
from spectac.simulate.cohort.shards import ShardFacts, read_facts

FORMAT = "spectac-cohort"
VERSION = 1
MANIFEST = "manifest.json"
SIMULATION = "spectac.simulate.cohort.patient:simulate_patient"
MOST_IN_A_SHARD = 64

_SHARD = re.compile(r"shard-(\d{5,})\.h5")


@settings
class CohortSettings:
    """What the patients of a cohort follow from: these settings and the code of the simulation.

    Parameters
    ----------
    patients
        Number of patients.
    seed
        Seed of the cohort.
    tracer
        "mixed", or one tracer of TRACERS.
    shard_patients
        Patients in each file.
    cameras
        Kind of the cameras (`simulate.cameras`).
    heads
        "training", or "beyond" its ranges (`anatomy.ranges`): limits of use are set on such ones.
    bodies
        Folder of CTs; the workers get that of the bodies made of them (`simulate.bodies.folder`). None: drawn heads.
    simulation
        Function (seed, index, settings) -> PatientArrays, as "package.module:function".

    Raises
    ------
    InputError
        A setting is out of its range.

    Examples
    --------
    >>> from spectac.simulate.cohort.folder import CohortSettings
    >>> CohortSettings(20, shard_patients=16).indices(1)
    range(16, 20)
    """

    patients: Annotated[AtLeast1, Setting("Number of patients.", short="-n")]
    seed: Annotated[int, Field(ge=0), Setting("Seed of the cohort.")] = 1
    tracer: Annotated[
        Literal["mixed", "dat", "perfusion", "randomised"], Setting("mixed, dat, perfusion or randomised.")
    ] = "mixed"
    shard_patients: Annotated[int, Field(ge=1, le=MOST_IN_A_SHARD), Setting("Patients in a file.")] = 16
    cameras: Annotated[
        Literal["usual", "mixed", "low-energy", "fan-beam", "medium-energy", "clinical"],
        Setting("usual, mixed, low-energy, fan-beam, medium-energy or clinical.", metavar="KIND"),
    ] = "usual"
    heads: Annotated[Literal["training", "beyond"], Setting("training, or beyond its ranges.", metavar="KIND")] = (
        "training"
    )
    bodies: Annotated[
        Path | None, Setting("Folder of CTs of heads, NIfTI or DICOM: bodies of real people.", metavar="DIR")
    ] = None
    simulation: Annotated[str, Setting("Another simulation of a patient.", metavar="MODULE:FUNCTION")] = SIMULATION

    def __post_init__(self) -> None:
        if self.heads == "beyond" and self.bodies is not None:
            raise InputError("--heads beyond draws heads: it has no meaning with --bodies")

    def identity(self) -> dict[str, Any]:
        """What is the same for all patients of a folder: settings but their number, version, digest of the code."""
        values = asdict(self)
        del values["patients"]
        values["bodies"] = None if self.bodies is None else _digest_in(self.bodies)
        return {**values, "spectac": version("spectac"), "code": code_digest(self.simulation.partition(":")[0])}

    @property
    def shards(self) -> range:
        """Numbers of the shards."""
        return range(-(-self.patients // self.shard_patients))

    def indices(self, shard: int) -> range:
        """Indices of the patients of a shard."""
        first = shard * self.shard_patients
        return range(first, min(first + self.shard_patients, self.patients))


def _digest_in(folder: Path) -> str:
    """16 hexadecimal digits for the names and contents of a folder's bodies."""
    files = sorted(folder.glob(f"*{ENDING}"))
    return _digest_of(tuple((file, (about := file.stat()).st_mtime_ns, about.st_size) for file in files))


@lru_cache(maxsize=4)
def _digest_of(files: tuple[tuple[Path, int, int], ...]) -> str:
    """The same for files, their times and sizes: it is asked for with every shard."""
    digest = hashlib.sha256()
    for file, _, _ in files:
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def shard_path(folder: Path, shard: int) -> Path:
    """File of a shard.

    Parameters
    ----------
    folder
        Folder of the cohort.
    shard
        Number of the shard.

    Returns
    -------
    Path
        File, which need not exist.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spectac.simulate.cohort.folder import shard_path
    >>> shard_path(Path("cohort"), 3).name
    'shard-00003.h5'
    """
    return folder / f"shard-{shard:05d}.h5"


def check_folder(folder: Path, settings: CohortSettings) -> None:
    """Check that a folder can hold a cohort.

    Parameters
    ----------
    folder
        Folder of the cohort.
    settings
        The cohort that is asked for.

    Raises
    ------
    InputError
        By its manifest the folder holds another cohort, or it has more patients than are asked for.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spectac.simulate.cohort.folder import CohortSettings, check_folder
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "shard-00009.h5").touch()
    ...     check_folder(Path(folder), CohortSettings(20))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    spectac.recon.errors.InputError: ...shard-00009.h5: lies beyond the 20 patients that are asked for: ...
    """
    path = folder / MANIFEST
    if path.is_file():
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            cohort, patients = dict(manifest["cohort"]), int(manifest["patients"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: no manifest of a spectac cohort, or damaged ({error!r}): delete it and run again, the shards "
                "hold all that is needed"
            ) from None
        check_cohort(path, cohort, settings)
        if patients > settings.patients:
            raise InputError(f"{path}: the cohort has {patients} patients, -n {settings.patients} would lose some")
    for path in sorted(folder.iterdir()):
        number = _SHARD.fullmatch(path.name)
        if number is not None and int(number[1]) not in settings.shards:
            raise InputError(
                f"{path}: lies beyond the {settings.patients} patients that are asked for: give more, or -o"
            )


def check_cohort(path: Path, cohort: Mapping[str, Any], settings: CohortSettings) -> None:
    """Check that a manifest or a shard belongs to a cohort.

    Parameters
    ----------
    path
        The file, for the message.
    cohort
        Settings in the file, as `CohortSettings.identity` gives them.
    settings
        The cohort that is asked for.

    Raises
    ------
    InputError
        The settings, or the code that made the file, are not those that are asked for.
    """
    asked = settings.identity()
    other = [f"{name} {cohort.get(name)!r}, not {asked[name]!r}" for name in asked if cohort.get(name) != asked[name]]
    if other:
        raise InputError(
            f"{path}: holds a cohort with {'; '.join(other)}: give the same settings to go on with it, or another -o"
        )


def read_whole_shard(folder: Path, settings: CohortSettings, shard: int) -> ShardFacts | None:
    """Facts of a shard; None where there is none, or where a cohort of another size cut it short.

    Parameters
    ----------
    folder
        Folder of the cohort.
    settings
        The cohort.
    shard
        Number of the shard.

    Returns
    -------
    ShardFacts or None
        Facts.

    Raises
    ------
    DamagedShard
        The bytes of the shard are not those that were written.
    InputError
        It belongs to another cohort.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spectac.simulate.cohort.folder import CohortSettings, read_whole_shard
    >>> with TemporaryDirectory() as folder:
    ...     read_whole_shard(Path(folder), CohortSettings(20), shard=1) is None
    True
    """
    path = shard_path(folder, shard)
    if not path.is_file():
        return None
    facts = read_facts(path)
    check_cohort(path, facts.cohort, settings)
    return facts if facts.indices == tuple(settings.indices(shard)) else None


def write_manifest(folder: Path, settings: CohortSettings, shards: Mapping[int, ShardFacts]) -> None:
    """Write manifest.json: the cohort, each patient with digest and shard, failures with reasons, missing shards.

    Without any shard the folder belongs to no cohort yet, and the manifest is removed.

    Parameters
    ----------
    folder
        Folder of the cohort.
    settings
        The cohort.
    shards
        Facts of the shards that are there, by their numbers.

    Raises
    ------
    OSError
        As the file system does; the old manifest stays until the new one is complete.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spectac.simulate.cohort.folder import CohortSettings, write_manifest
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "manifest.json").touch()
    ...     write_manifest(Path(folder), CohortSettings(20), shards={})
    ...     list(Path(folder).iterdir())
    []
    """
    if not shards:
        (folder / MANIFEST).unlink(missing_ok=True)
        return
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
