"""What is kept: finished studies are removed when they are old or take too much space."""

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from spectac.app.node.journal import mark
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
        for study, latest in arrivals:
            age_s = time.time() - latest
            old = age_s > DAY_S * node.settings.keep_days
            if not (old or total > 1e9 * node.settings.keep_gb) or not self._finished(study, age_s):
                continue
            self._remove(study)
            total -= sizes[study]
            node.journal.write("removed", study=mark(study), bytes=sizes[study], reason="age" if old else "space")

    def _finished(self, study: str, age_s: float) -> bool:
        """Whether all of a study was worked on and sent; one without raw ones is kept for a day."""
        memory = self._node.memory
        jobs = [job for job in memory.jobs() if job.study == study]
        raw = {file.about.sop for file in memory.files_of(study) if file.about.kind == "raw"}
        if not raw:
            return age_s > DAY_S
        ended = all(job.state in ("done", "failed", "no rule") and not memory.unsent(job.id) for job in jobs)
        return ended and raw <= {sop for job in jobs for sop in job.files}

    def _folders(self, study: str) -> list[Path]:
        return [self._node.folder / JOBS / job.id for job in self._node.memory.jobs() if job.study == study]

    def _size(self, study: str) -> int:
        files = sum(file.size for file in self._node.memory.files_of(study))
        return files + sum(
            path.stat().st_size for one in self._folders(study) for path in one.rglob("*") if path.is_file()
        )

    def _remove(self, study: str) -> None:
        files = self._node.memory.files_of(study)
        # The memory first: a file without it is left, one that is in it must be there.
        self._node.memory.forget_files(file.about.sop for file in files)
        for file in files:
            with suppress(OSError):
                file.path.unlink()
        for one in self._folders(study):
            shutil.rmtree(one, ignore_errors=True)
