"""When a study of a batch is done: batch.json and failure.json in its folder, written and read.

The folder of a study holds what `spectac compare` wrote and, as the last file, batch.json: what was asked, digests of
all files that were read, names and sizes of all files that were written, and the digest of record.json. It is removed
before the work begins. So a study was compared by the options that are asked for now, from the files that are there
now, if its batch.json says so.
"""

import errno
import json
import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spectac.app.ancillary import virtual_record
from spectac.app.batch.request import BatchRequest
from spectac.app.batch.study_list import FILE_COLUMNS, ListedStudy
from spectac.app.comparison import CompareRequest
from spectac.app.normals import normals_files
from spectac.app.record import sha256_of
from spectac.recon import InputError
from spectac.recon.code_digest import code_digest
from spectac.recon.io.atomic import written
from spectac.recon.queue.store import named_error
from spectac.recon.queue.work_queue import Failure
from spectac.recon.setting_fields import as_options

DONE, FAILURE, RECORD = "batch.json", "failure.json", "record.json"

OBSTACLES = frozenset((errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR))
"""Numbers of errors that mean: something of another kind stands where the results of one study go."""

_NAMED_AT_RUN_TIME = (
    "spectac.recon.attenuation_plugins", "spectac.learned.predict", "spectac.learned.low_counts",
    "spectac.recon.io.dicom.nm", "spectac.recon.io.hdf5", "spectac.recon.io.interfile.study",
)  # fmt: skip
"""Models and readers that a comparison finds by names, so that no import leads to them."""

_EXTRAS = {"ct": ("SimpleITK",), "learned": ("torch", "safetensors")}
"""Packages that the extras of spectac install and that methods import when they are used."""


@dataclass(frozen=True)
class StudyFailure(Failure):
    """Failure of a study; `stored` where failure.json tells of it, `seconds` None for one of an earlier run."""

    seconds: float | None = None
    stored: bool = True


def asked_of(study: ListedStudy, request: BatchRequest) -> dict[str, Any]:
    """All that the results of a study follow from: options, code and weights of spectac, and the digests of its files.

    Names of files count from the study's folder, so that a list can move with its studies.
    Raises InputError where a file is missing.
    """
    compare = request.of_study(study)
    return _options(compare, request.work) | {"inputs_sha256": _input_digests(study, compare)}


def _options(compare: CompareRequest, work: str) -> dict[str, Any]:
    options = {name: as_options(settings) for name, settings in vars(compare).items()}
    for name in (*FILE_COLUMNS, "normals"):
        del options["comparison"][name]
    for name in compare.reconstruction.files():
        del options["reconstruction"][name]
    code = code_digest(work.partition(":")[0], *_NAMED_AT_RUN_TIME)
    return {"spectac": version("spectac"), "code": code, "files": _own_files(), "work": work, "options": options}


@cache
def _own_files() -> list[str]:
    """Digests of what spectac's code reads of its own: weights and CUDA source."""
    digests = []
    for package, pattern in (("spectac.learned", "weights/*.safetensors"), ("spectac.recon", "kernels/*.cu")):
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            digests += [_sha256(file) for file in sorted(Path(place).glob(pattern))]
    return digests


def _input_digests(study: ListedStudy, compare: CompareRequest) -> dict[str, dict[str, str]]:
    inputs = {name: getattr(compare.comparison, name) for name in (*FILE_COLUMNS, "normals")}
    inputs |= {"study": study.path, **compare.reconstruction.files()}
    digests = {name: _digests(name, path) for name, path in inputs.items() if path is not None}
    truth = compare.comparison.truth
    record = None if truth is None else virtual_record(truth)
    if record is not None:
        digests["truth"][record.name] = _sha256(record)
    return digests


def _digests(name: str, path: Path) -> dict[str, str]:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    start = path if path.is_dir() else path.parent
    # Of a batch of healthy subjects only their measures are read (app/normals.py).
    parts = normals_files(path) if name == "normals" else [path]
    return {Path(os.path.relpath(file, start)).as_posix(): digest for file, digest in sha256_of(parts).items()}


def _sha256(file: Path) -> str:
    (digest,) = sha256_of([file]).values()
    return digest


def seconds_of_done(target: Path, study: ListedStudy, request: BatchRequest) -> float | None:
    """Seconds of an earlier run that did in `target` what is asked now, from the same files; None where none did.

    None as well where results are missing or cut short, and where a method was refused because an extra of spectac was
    missing that is installed now.
    """
    try:
        stored = json.loads((target / DONE).read_text(encoding="utf-8"))
        asked, compare = dict(stored["asked"]), request.of_study(study)
        options = _options(compare, request.work)
        # The quickest comes first: inputs may be large.
        same = (
            {name: asked[name] for name in options} == options
            and all((target / name).stat().st_size == size for name, size in stored["results_bytes"].items())
            and stored["record_sha256"] == _sha256(target / RECORD)
            and not _could_do_more(target / RECORD)
            and asked["inputs_sha256"] == _input_digests(study, compare)
        )
        return float(stored["seconds"]) if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _could_do_more(record: Path) -> bool:
    """True where a method was refused because an extra of spectac was not installed that is installed now."""
    extras = dict(json.loads(record.read_text(encoding="utf-8")).get("missing_extras", {})).values()
    return any(all(find_spec(name) is not None for name in _EXTRAS[extra]) for extra in extras if extra in _EXTRAS)


def earlier_failure(target: Path) -> StudyFailure | None:
    """Failure with the reason that failure.json of an earlier run gives; None where there is none."""
    try:
        return StudyFailure(str(json.loads((target / FAILURE).read_text(encoding="utf-8"))["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sizes_and_times(target: Path) -> dict[str, tuple[int, int, int]]:
    """Size, time and number of every file in a folder, by its path in there."""
    files = {path.relative_to(target).as_posix(): path.stat() for path in sorted(target.rglob("*")) if path.is_file()}
    return {name: (stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in files.items()}


def write_done(target: Path, asked: Mapping[str, Any], results_bytes: Mapping[str, int], seconds: float) -> None:
    """Write batch.json, and remove the failure.json of an earlier run."""
    facts = {"asked": asked, "results_bytes": results_bytes, "record_sha256": _sha256(target / RECORD)}
    _write(target / DONE, {**facts, "seconds": seconds})
    (target / FAILURE).unlink(missing_ok=True)


def write_failure(target: Path, reason: str, seconds: float, error: BaseException | None = None) -> StudyFailure:
    """Write failure.json where that is possible: the reason and, for a defect of the code, its traceback."""
    content: dict[str, Any] = {"reason": reason, "seconds": round(seconds, 3)}
    if error is not None and not isinstance(error, InputError):
        content["traceback"] = traceback.format_exception(error)
    try:
        if target.exists() and not target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))
        _write(target / FAILURE, content)
    except OSError as unwritten:
        if unwritten.errno not in OBSTACLES:
            raise
        return StudyFailure(reason, content["seconds"], stored=False)
    return StudyFailure(reason, content["seconds"])


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        with written(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise named_error(error, path) from error
