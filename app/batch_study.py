"""One study of a batch: what a worker does with it, and how a later run sees that it is done.

The folder of a study holds what `spectac compare` wrote and, as the last file, batch.json: what was asked, digests of
everything that was read, names and sizes of all files that were written, and the digest of record.json. It is removed
before the work begins, so a study whose batch.json says what is asked now was compared whole, by these options, from
these files.
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
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectac.app.ancillary import virtual_record
from spectac.app.batch_list import FILE_COLUMNS, ListedStudy
from spectac.app.normals import normals_files
from spectac.recon import InputError
from spectac.recon.io import files_of
from spectac.recon.io.atomic import written
from spectac.recon.workers import named_function, one_line, own_share

if TYPE_CHECKING:
    from spectac.app.comparison import CompareRequest

WORK = "spectac.app.batch_study:compare_one"
DONE, FAILURE, RECORD = "batch.json", "failure.json", "record.json"

_EXTRAS = {"ct": ("SimpleITK",), "learned": ("torch", "safetensors"), "report": ("matplotlib", "skimage")}
"""What the extras of spectac install that methods ask for when they are used."""
_EXTRA = re.compile(r"pip install 'spectac\[(\w+)\]'")

_STALE = re.compile(r"\.[0-9a-f]{12}(-(batch|failure)\.json)?")
"""Temporary names of io.atomic that a killed worker leaves behind."""

_OF_THE_MACHINE = frozenset(
    number
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "ENOMEM", "EMFILE", "ENFILE")
    if (number := getattr(errno, name, None)) is not None
)
"""A full disk, or too many open files: the next study would run into the same."""

_OF_THE_STUDY = frozenset((errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR))
"""Something of another kind stands where this study's results go."""


@dataclass(frozen=True)
class Share:
    """How workers of this machine divide it: their number and the GPUs; None: the workers are not ours."""

    workers: int | None = None
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a study: None or the reason of its failure, and the seconds; `stored` where a file tells of it."""

    reason: str | None
    seconds: float
    stored: bool = True


def compare_one(study: Path, request: "CompareRequest", output: Path) -> None:
    """Compare the methods on one study; the default work of a batch."""
    from spectac.app.compare import compare

    compare((study,), request, output)


def request_of(study: ListedStudy, request: "CompareRequest") -> "CompareRequest":
    """The batch's request with what is the study's own; its CT and map where its methods use them."""
    given = dict(request.base.given)
    # One of them replaces the other.
    for own, other in (("collimator", "psf"), ("psf", "collimator")):
        if own in study.given:
            given.pop(other, None)
    base = replace(request.base, given={**given, **study.given})
    methods = request.methods if study.methods is None else study.methods
    ct = study.files.get("ct", request.ct) if methods is None or "ct" in methods else None
    mu_map = study.files.get("mu_map", request.mu_map) if methods is None or "map" in methods else None
    own_kv = request.tube_voltage_kv if study.tube_voltage_kv is None else study.tube_voltage_kv
    own_kev = request.mu_map_kev if study.mu_map_kev is None else study.mu_map_kev
    return replace(
        request,
        base=base,
        methods=methods,
        ct=ct,
        extend_ct=ct is not None and (study.extend_ct or request.extend_ct),
        assume_aligned=ct is not None and (study.assume_aligned or request.assume_aligned),
        tube_voltage_kv=None if ct is None else own_kv,
        mu_map=mu_map,
        mu_map_kev=None if mu_map is None else own_kev,
        truth=study.files.get("truth", request.truth),
        labels=study.files.get("labels", request.labels),
        tracer=request.tracer if study.tracer is None else study.tracer,
    )


def inputs_of(study: ListedStudy, own: "CompareRequest") -> dict[str, Path]:
    """Files and folders that the comparison of a study reads; `own` is its request."""
    named = {name: getattr(own, name) for name in (*FILE_COLUMNS, "normals")} | {"calibration": own.base.calibration}
    return {"study": study.path, **{name: Path(path) for name, path in named.items() if path is not None}}


def asked_of(study: ListedStudy, request: "CompareRequest", work: str) -> dict[str, Any]:
    """All that the results of a study follow from: options, spectac's version and the digests of its files.

    Names of files count from the study's folder, so that a list can move with its studies.
    Raises InputError where a file is missing.
    """
    own = request_of(study, request)
    return _options(own, work) | {"inputs_sha256": _input_digests(study, own)}


def _options(own: "CompareRequest", work: str) -> dict[str, Any]:
    options = asdict(own)
    for name in (*FILE_COLUMNS, "normals"):
        del options[name]
    del options["base"]["calibration"]
    return dict(json.loads(json.dumps({"spectac": version("spectac"), "work": work, "options": options}, default=str)))


def _input_digests(study: ListedStudy, own: "CompareRequest") -> dict[str, dict[str, str]]:
    digests = {name: _digests(name, path) for name, path in inputs_of(study, own).items()}
    record = None if own.truth is None else virtual_record(own.truth)
    if record is not None:
        digests["truth"][record.name] = _sha256(record)
    return digests


def _digests(name: str, path: Path) -> dict[str, str]:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    start = path if path.is_dir() else path.parent
    # Of a batch of healthy subjects their measures alone are read (app/normals.py).
    files = normals_files(path) if name == "normals" else files_of(path)
    return {Path(os.path.relpath(file, start)).as_posix(): _sha256(file) for file in files}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def done_before(folder: Path, study: ListedStudy, request: "CompareRequest", work: str) -> float | None:
    """Seconds that the study took in an earlier run which asked the same of the same files; None where there is none.

    None as well where results are missing or cut short, and where a method was refused for want of an extra that is
    installed by now. The failure of a run before that one is removed.
    """
    target = folder / study.name
    try:
        stored = json.loads((target / DONE).read_text(encoding="utf-8"))
        asked, seconds = stored["asked"], float(stored["seconds"])
        own = request_of(study, request)
        options = _options(own, work)
        # What is quickest to tell comes first: inputs may be large.
        if {name: asked[name] for name in options} != options:
            return None
        if any((target / name).stat().st_size != size for name, size in stored["results_bytes"].items()):
            return None
        if stored["record_sha256"] != _sha256(target / RECORD) or _could_do_more(target / RECORD):
            return None
        if asked["inputs_sha256"] != _input_digests(study, own):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    (target / FAILURE).unlink(missing_ok=True)
    return seconds


def _could_do_more(record: Path) -> bool:
    """True where a method was refused because an extra of spectac was not installed, and it is now."""
    refused = dict(json.loads(record.read_text(encoding="utf-8")).get("refused", {}))
    extras = set(_EXTRA.findall(" ".join(map(str, refused.values()))))
    return any(all(find_spec(name) is not None for name in _EXTRAS[extra]) for extra in extras & set(_EXTRAS))


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
    began = time.perf_counter()
    try:
        target.mkdir(exist_ok=True)
        before = done_before(Path(folder), study, request, work)
        if before is not None:  # by a worker that died before its outcome was fetched
            return Outcome(None, before)
        _remove_stale(target)
        (target / DONE).unlink(missing_ok=True)
        there = _files_in(target)
        with _silent(share), nullcontext() if share.workers is None else own_share(share.workers, share.gpus):
            asked = asked_of(study, request, work)
            named_function("work", work)(study.path, request_of(study, request), target)
        # A file that is as it was before is not of this work: the user's own notes.
        results = {name: facts[0] for name, facts in _files_in(target).items() if there.get(name) != facts}
        content = {"asked": asked, "results_bytes": results, "record_sha256": _sha256(target / RECORD)}
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
    _write(target / DONE, content | {"seconds": seconds})
    (target / FAILURE).unlink(missing_ok=True)
    return Outcome(None, seconds)


def _files_in(target: Path) -> dict[str, tuple[int, int, int]]:
    """Size, time and number of every file in a folder of results, by its path in there."""
    found = {}
    for path in sorted(target.rglob("*")):
        if path.is_file():
            facts = path.stat()
            found[path.relative_to(target).as_posix()] = (facts.st_size, facts.st_mtime_ns, facts.st_ino)
    return found


def write_failure(target: Path, reason: str, error: BaseException | None, seconds: float) -> Outcome:
    """Write failure.json, where that is possible: the reason and, where a defect of the code raised it, from where."""
    content: dict[str, Any] = {"reason": reason, "seconds": round(seconds, 3)}
    if error is not None and not isinstance(error, InputError):
        content["traceback"] = traceback.format_exception(error)
    try:
        _write(target / FAILURE, content)
    except OSError as unwritten:
        if unwritten.errno not in _OF_THE_STUDY:
            raise
        return Outcome(reason, content["seconds"], stored=False)
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
    if error.errno in _OF_THE_STUDY:
        return False
    inside = error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(target)
    return inside or error.errno in _OF_THE_MACHINE


def can_go_on(error: OSError) -> bool:
    """True where the same command can go on once there is room again; a place that cannot be written to stays so."""
    return error.errno in _OF_THE_MACHINE - {errno.EROFS}


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
