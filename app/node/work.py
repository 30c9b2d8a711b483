"""A job's work: comparison and images of a series of raw projections, and the DICOM objects that go out."""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spectac.app.node.journal import plain_reason
from spectac.app.node.settings import Rule
from spectac.recon.errors import DeviceError, InputError, MissingExtraError
from spectac.recon.io.atomic import written, written_folder
from spectac.recon.queue.work_queue import DIED, Failure, Work
from spectac.recon.queue.workers import one_line

DONE = "done.json"
OBJECTS = "objects"
JOBS = "jobs"


@dataclass(frozen=True)
class Task:
    """What a worker must know of a job: its rule, the paths of its files and of its CT's, a note for the report."""

    job: str
    rule: Rule
    files: tuple[Path, ...]
    ct: tuple[Path, ...]
    note: str = ""


@dataclass(frozen=True)
class Object:
    """A DICOM object of a job that goes out; `file` is its name in the job's folder and tells its kind."""

    sop: str
    file: str


@dataclass(frozen=True)
class Made:
    """What a job made, and lines for whoever looks at it."""

    objects: tuple[Object, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Obstacle(Failure):
    """A failure of the machine, such as a full disk: the job is tried again."""


@dataclass(frozen=True)
class NodeWork(Work[Task, Made]):
    """Reconstructing the node's jobs; `finished` is called in the main process with what came of each."""

    folder: Path
    anonymous: bool
    finished: Callable[[Task, Made | Failure], None] | None = field(default=None, compare=False)

    command = "node"
    leftovers = r"-.*"

    def __reduce__(self) -> tuple[Any, ...]:
        return NodeWork, (self.folder, self.anonymous)

    def place(self, job: str) -> Path:
        """Folder of a job."""
        return self.folder / JOBS / job

    def before(self, task: Task) -> Made | None:
        """What an earlier run made of a job, where it was whole."""
        try:
            values = json.loads((self.place(task.job) / DONE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        objects = tuple(Object(**one) for one in values["objects"])
        if not all((self.place(task.job) / OBJECTS / one.file).is_file() for one in objects):
            return None
        return Made(objects, tuple(values["notes"]), values["seconds"])

    def do(self, task: Task) -> Made | Failure:
        """Compare the rule's methods, write images as DICOM, and done.json last."""
        began = time.perf_counter()
        place = self.place(task.job)
        try:
            place.mkdir(parents=True, exist_ok=True)
            # Bars of single reconstructions would spoil the log.
            with open(os.devnull, "w", encoding="utf-8") as nothing, redirect_stderr(nothing):
                objects, notes = self._made(task, place)
            made = Made(objects, notes, round(time.perf_counter() - began, 3))
            with written(place / DONE) as temporary:
                temporary.write_text(json.dumps(asdict(made)) + "\n", encoding="utf-8")
        except (DeviceError, MissingExtraError) as error:
            return Obstacle(str(error))
        except InputError as error:
            return self._failed(place, " ".join(str(error).split()))
        except OSError as error:
            # What is wrong in a file is an InputError: this is the machine's.
            return Obstacle(error.strerror or str(error))
        except MemoryError as error:
            return Obstacle(f"not enough memory: {error}")
        except Exception as error:  # noqa: BLE001 - whatever is odd in a study must not stop the others
            return self._failed(place, one_line(error))
        return made

    @staticmethod
    def _failed(place: Path, reason: str) -> Failure:
        """The failure without what it may quote of the patient; the whole reason stays in the job's folder."""
        with suppress(OSError):
            (place / "failure.txt").write_text(reason + "\n", encoding="utf-8")
        return Failure(plain_reason(reason))

    def _made(self, task: Task, place: Path) -> tuple[tuple[Object, ...], tuple[str, ...]]:
        from spectac.app.compare import compare_study
        from spectac.app.node.objects import write_objects

        ct = _ct_folder(place / "ct", task.ct) if task.ct else None
        request = task.rule.request(ct, anonymous=self.anonymous)
        compared = compare_study(task.files, request, place / "report", notes=(task.note,) if task.note else ())
        with written_folder(place / OBJECTS, own=True) as folder:
            objects, notes = write_objects(folder, compared.comparison, place / "report")
        warnings = (*compared.comparison.all_warnings, *notes)
        return tuple(Object(sop, name) for name, sop in objects.items()), warnings

    def arrived(self, task: Task, outcome: Made | Failure) -> None:
        """Tell the node."""
        if self.finished is not None:
            self.finished(task, outcome)

    def lost(self, task: Task) -> Failure:
        """Failure of a job whose workers died."""
        return Failure(DIED)


def _ct_folder(folder: Path, files: tuple[Path, ...]) -> Path:
    """A folder that holds the files of one CT alone, linked or copied."""
    folder.mkdir(exist_ok=True)
    for old in set(folder.iterdir()) - {folder / path.name for path in files}:
        old.unlink()
    for path in files:
        target = folder / path.name
        if target.exists():
            continue
        try:
            os.link(path, target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                raise
            with written(target) as temporary:
                shutil.copyfile(path, temporary)
    return folder
