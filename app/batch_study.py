"""One study of a batch: what a worker does with it, and how a later run sees that it is done.

The folder of a study holds what `spectac compare` wrote and, as the last file, batch.json: what was asked, digests of
everything that was read, and the digest of record.json. It is removed before the work begins, so a study whose
batch.json says what is asked now was compared whole, by these options, from these files.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectac.app.batch_list import FILE_COLUMNS, ListedStudy
from spectac.recon import InputError
from spectac.recon.io import files_of
from spectac.recon.io.atomic import written
from spectac.recon.workers import named_function, one_line, own_share

if TYPE_CHECKING:
    from spectac.app.compare import CompareRequest

WORK = "spectac.app.batch_study:compare_one"
DONE, FAILURE, RECORD = "batch.json", "failure.json", "record.json"

_STALE = re.compile(r"\.[0-9a-f]{12}(-(batch|failure)\.json)?")
"""Temporary names of io.atomic that a killed worker leaves behind."""

_OF_THE_MACHINE = frozenset(
    number
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "ENOMEM", "EMFILE", "ENFILE")
    if (number := getattr(errno, name, None)) is not None
)
"""A full disk, or too many open files: the next study would run into the same."""


@dataclass(frozen=True)
class Share:
    """How workers of this machine divide it: their number and the GPUs; None: the workers are not ours."""

    workers: int | None = None
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a study: None or the reason of its failure, and the seconds that it took."""

    reason: str | None
    seconds: float


def compare_one(study: Path, request: "CompareRequest", output: Path) -> None:
    """Compare the methods on one study; the default work of a batch."""
    from spectac.app.compare import compare

    compare(study, request, output)


def request_of(study: ListedStudy, request: "CompareRequest") -> "CompareRequest":
    """The batch's request with what is the study's own."""
    given = dict(request.base.given)
    # One of them replaces the other.
    for own, other in (("collimator", "psf"), ("psf", "collimator")):
        if own in study.given:
            given.pop(other, None)
    base = replace(request.base, given={**given, **study.given})
    methods = request.methods if study.methods is None else study.methods
    return replace(
        request,
        base=base,
        methods=methods,
        ct=study.files.get("ct", request.ct),
        mu_map=study.files.get("mu_map", request.mu_map),
        truth=study.files.get("truth", request.truth),
        labels=study.files.get("labels", request.labels),
    )


def asked_of(study: ListedStudy, request: "CompareRequest", work: str) -> dict[str, Any]:
    """All that the results of a study follow from: options, spectac's version and the digests of its files.

    Names of files count from the study's folder, so that a list can move with its studies.
    Raises InputError where a file is missing.
    """
    own = request_of(study, request)
    options = asdict(own)
    named = {name: options.pop(name) for name in FILE_COLUMNS} | {"calibration": options["base"].pop("calibration")}
    inputs = {"study": study.path, **{name: Path(path) for name, path in named.items() if path is not None}}
    digests = {name: _digests(path) for name, path in inputs.items()}
    if own.truth is not None:
        digests["truth"] |= _beside_truth(own.truth)
    asked = {"spectac": version("spectac"), "work": work, "options": options, "inputs_sha256": digests}
    return dict(json.loads(json.dumps(asked, default=str)))


def _digests(path: Path) -> dict[str, str]:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    start = path if path.is_dir() else path.parent
    return {Path(os.path.relpath(file, start)).as_posix(): _sha256(file) for file in files_of(path)}


def _beside_truth(truth: Path) -> dict[str, str]:
    """Digests of what a comparison reads with a virtual patient's truth (app/compare.py): labels and calibration."""
    folder = truth if truth.is_dir() else truth.parent
    beside = (folder / "labels.nii.gz", folder / "labels.json", folder.parent / "patient.json")
    return {file.name: _sha256(file) for file in beside if file.is_file()}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def done_before(folder: Path, study: ListedStudy, request: "CompareRequest", work: str) -> float | None:
    """Seconds that the study took in an earlier run which asked the same of the same files; None where there is none.

    The failure of a run before that one is removed.
    """
    target = folder / study.name
    try:
        stored = json.loads((target / DONE).read_text(encoding="utf-8"))
        if stored["asked"] != asked_of(study, request, work) or stored["record_sha256"] != _sha256(target / RECORD):
            return None
        seconds = float(stored["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    (target / FAILURE).unlink(missing_ok=True)
    return seconds


def failed_before(folder: Path, study: ListedStudy) -> str | None:
    """Reason that failure.json of an earlier run gives; None where there is none."""
    try:
        return str(json.loads((folder / study.name / FAILURE).read_text(encoding="utf-8"))["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make_study(folder: str, study: ListedStudy, request: "CompareRequest", work: str, share: Share) -> Outcome:
    """Compare one study and write batch.json, or failure.json with the reason; what a worker runs.

    Raises OSError where the disk or the machine is at fault, and MemoryError of the writing: it is no property of the
    study.
    """
    target = Path(folder) / study.name
    target.mkdir(exist_ok=True)
    before = done_before(Path(folder), study, request, work)
    if before is not None:  # by a worker that died before its outcome was fetched
        return Outcome(None, before)
    _remove_stale(target)
    (target / DONE).unlink(missing_ok=True)
    began = time.perf_counter()
    try:
        with _silent(share), nullcontext() if share.workers is None else own_share(share.workers, share.gpus):
            asked = asked_of(study, request, work)
            named_function("work", work)(study.path, request_of(study, request), target)
        record = _sha256(target / RECORD)
    except OSError as error:
        if _ends_the_run(error, target):
            raise _named(error, target) from error
        reason = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else one_line(error)
        return write_failure(target, reason, error, time.perf_counter() - began)
    except MemoryError as error:
        reason = f"not enough memory: {str(error) or 'the data do not fit'}"
        return write_failure(target, reason, error, time.perf_counter() - began)
    except InputError as error:
        return write_failure(target, " ".join(str(error).split()), error, time.perf_counter() - began)
    except Exception as error:  # noqa: BLE001 - whatever a study runs into must not stop the others
        return write_failure(target, one_line(error), error, time.perf_counter() - began)
    seconds = round(time.perf_counter() - began, 3)
    _write(target / DONE, {"asked": asked, "record_sha256": record, "seconds": seconds})
    (target / FAILURE).unlink(missing_ok=True)
    return Outcome(None, seconds)


def write_failure(target: Path, reason: str, error: BaseException | None, seconds: float) -> Outcome:
    """Write failure.json: the reason and, where a defect of the code raised it, from where."""
    content: dict[str, Any] = {"reason": reason, "seconds": round(seconds, 3)}
    if error is not None and not isinstance(error, InputError):
        content["traceback"] = traceback.format_exception(error)
    _write(target / FAILURE, content)
    return Outcome(reason, content["seconds"])


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        with written(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise _named(error, path) from error


def _named(error: OSError, path: Path) -> OSError:
    """The error, with a path where it has none: a full disk is not named by write()."""
    if error.filename is not None or error.errno is None:
        return error
    return OSError(error.errno, os.strerror(error.errno), str(path))


def _ends_the_run(error: OSError, target: Path) -> bool:
    """True for a full disk and for what goes wrong where results are written; all else is the study's own fault."""
    inside = error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(target)
    return inside or error.errno in _OF_THE_MACHINE


def _remove_stale(target: Path) -> None:
    for path in target.iterdir():
        if _STALE.fullmatch(path.name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(FileNotFoundError):
                    path.unlink()


@contextmanager
def _silent(share: Share) -> Iterator[None]:
    """No progress bars of single reconstructions beside the batch's own; workers of others write to their own logs."""
    if share.workers is None:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nothing, redirect_stderr(nothing):
        yield
