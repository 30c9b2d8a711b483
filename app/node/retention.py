"""What is kept: finished studies are removed when they are old or take too much space."""

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from spectac.app.node.journal import mark
from spectac.app.node.memory import File
from spectac.app.node.work import JOBS

if TYPE_CHECKING:
    from spectac.app.node.run import Node

DAY_S = 86400.0


class Retention:
    """Removes files and results of studies; the memory of their jobs stays.

    Parameters
    ----------
    node
        The node, whose settings tell what is kept.
    """

    def __init__(self, node: "Node") -> None:
        self._node = node

    def clean(self) -> None:
        """Remove what is too old, then the oldest until the rest fits."""
        node, memory = self._node, self._node.memory
        arrivals = sorted(memory.arrivals().items(), key=lambda item: item[1])
        sizes = {study: self._size(study) for study, _ in arrivals}
        total = sum(sizes.values())
        # Of a CT in another study as well.
        needed = {sop for job in memory.jobs("waiting", "waiting for CT") for sop in (*job.files, *job.ct)}
        for study, latest in arrivals:
            age_s = time.time() - latest
            old = age_s > DAY_S * node.settings.keep_days
            if not old and total <= 1e9 * node.settings.keep_gb:
                continue
            with memory.files_lock:
                files = memory.files_of(study)
                fresh = max(file.arrived for file in files) != latest or memory.routed().get(study) != latest
                kept = needed & {file.about.sop for file in files}
                if fresh or kept or not self._finished(study, files, age_s, old):
                    continue
                self._remove(study, files)
            total -= sizes[study]
            node.journal.write("removed", study=mark(study), bytes=sizes[study], reason="age" if old else "space")

    def _finished(self, study: str, files: list[File], age_s: float, old: bool) -> bool:
        """Whether all of a study was worked on and sent, or is too old to be sent; CTs alone are kept for a day."""
        memory = self._node.memory
        if age_s < self._node.settings.quiet_seconds:
            return False
        raw = {file.about.sop for file in files if file.about.kind == "raw"}
        if not raw:
            return age_s > DAY_S
        jobs = memory.jobs_of_study(study)
        if not raw <= {sop for job in jobs for sop in job.files}:
            return False
        for job in jobs:
            if job.state not in ("done", "failed", "no rule"):
                return False
            if memory.unsent(job.id):
                if not old:
                    return False
                memory.give_up(job.id)
                self._node.journal.write("given up", job=job.id, study=mark(study))
        return True

    def _folders(self, study: str) -> list[Path]:
        return [self._node.folder / JOBS / job.id for job in self._node.memory.jobs_of_study(study)]

    def _size(self, study: str) -> int:
        """Bytes of a study's files and results; CTs in a job's folder are links."""
        size = sum(file.size for file in self._node.memory.files_of(study))
        for one in self._folders(study):
            size += sum(path.stat().st_size for path in one.rglob("*") if path.is_file() and path.parent.name != "ct")
        return size

    def _remove(self, study: str, files: list[File]) -> None:
        # The memory first: a file without it is removed at the next start, one that is in it must be there.
        self._node.memory.forget_files(file.about.sop for file in files)
        for file in files:
            with suppress(OSError):
                file.path.unlink()
        for folder in {file.path.parent for file in files}:
            with suppress(OSError):
                folder.rmdir()
        for one in self._folders(study):
            shutil.rmtree(one, ignore_errors=True)
