"""Running the node: it listens, makes jobs of what came, works on them and sends results, until it is stopped."""

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from spectac.app.node.journal import Journal, mark, plain_reason
from spectac.app.node.memory import Job, Memory, Send
from spectac.app.node.retention import Retention
from spectac.app.node.router import Router
from spectac.app.node.settings import NodeSettings, Rule
from spectac.app.node.status import StatusPage, lines_of, retried
from spectac.app.node.work import OBJECTS, Made, NodeWork, Obstacle, Task
from spectac.recon.errors import InputError, MissingExtraError
from spectac.recon.queue.work_queue import Failure, WorkQueue, open_queue
from spectac.recon.queue.workers import Workers

MEMORY, AUDIT = "node.sqlite", "audit.jsonl"
POLL_S = 1.0
AGAIN_S = 60.0
"""A job that met a full disk or too little memory is tried again after this time."""
CLEAN_S = 3600.0


def node(
    config: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="TOML file with the node's settings.")],
    action: Annotated[
        Literal["run", "status", "retry"],
        typer.Argument(help="run; status of a node; or retry, which lets its failed jobs wait again."),
    ] = "run",
) -> list[str]:
    """Run the node of a TOML file until it is stopped, or tell how it is; lines for the user."""
    settings = NodeSettings.read(config)
    if action == "retry":
        return [f"{retried(Path(settings.folder) / MEMORY)} failed jobs wait again"]
    if action == "status":
        return lines_of(Path(settings.folder) / MEMORY)
    try:
        import pynetdicom  # noqa: F401
    except ImportError:
        raise MissingExtraError("the node needs pynetdicom", "node") from None
    running = Node(settings)
    try:
        running.run()
    except KeyboardInterrupt:
        return [f"{settings.folder}: stopped; the same command goes on"]
    return []


class Node:
    """A DICOM node; `run` returns only when it is stopped.

    Parameters
    ----------
    settings
        The node's.
    journal
        Where events go; None: audit.jsonl in the folder and stderr.
    """

    def __init__(self, settings: NodeSettings, journal: Journal | None = None) -> None:
        self.settings = settings
        self.folder = Path(settings.folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.folder / AUDIT) if journal is None else journal
        self._rules: dict[str, Rule] = {rule.name: rule for rule in settings.rules}
        self._again: dict[str, float] = {}
        self._stopping = threading.Event()
        self._cleaned = 0.0

    def run(self) -> None:
        """Listen, work and send until KeyboardInterrupt or `stop`."""
        from spectac.app.node.receiver import Receiver
        from spectac.app.node.sender import Sender

        work = NodeWork(self.folder, self.settings.anonymous, self._finished)
        with open_queue(work, Workers(None, self.settings.workers)) as queue:
            self.memory, self.queue = Memory(self.folder / MEMORY), queue
            router = self.router = Router(self.settings, self.memory, self.journal, since=time.time())
            receiver = Receiver(self.settings, self.memory, self.journal)
            sender, retention = Sender(self.settings, self.memory, self.journal), Retention(self)
            page = StatusPage(self.settings.status_port, self.memory)
            try:
                receiver.start()
            except OSError as error:
                where = f"{self.settings.host}:{self.settings.port}"
                raise InputError(f"the node cannot listen on {where}: {error.strerror or error}") from None

            def route() -> None:
                router.route()
                self._add_jobs(queue)
                if time.monotonic() - self._cleaned > CLEAN_S or not self._cleaned:
                    self._cleaned = time.monotonic()
                    receiver.remove_stale()
                    retention.clean()

            threads = [
                threading.Thread(target=self._often, args=(name, step), name=name, daemon=True)
                for name, step in (("routing", route), ("sending", sender.send_due))
            ]
            self.journal.write("started", ae=self.settings.ae, port=self.settings.port)
            try:
                page.start()
                for thread in threads:
                    thread.start()
                queue.run(overview=lambda: None)
            finally:
                self._stopping.set()
                receiver.stop()
                page.stop()
                for thread in threads:
                    if thread.ident is not None:
                        thread.join(timeout=10.0)
                self.journal.write("stopped")
                self.memory.close()

    def stop(self) -> None:
        """End `run` when the jobs in work are finished; any thread may call it."""
        self._stopping.set()
        self.queue.close()

    def _often(self, name: str, step: Callable[[], None]) -> None:
        """Call a step again and again; what it raises is written down and stops nothing."""
        while not self._stopping.wait(POLL_S):
            try:
                step()
            except Exception as error:  # noqa: BLE001 - a full disk or a locked file may be over the next time
                if not self._stopping.is_set():
                    self.journal.write("trouble", where=name, reason=plain_reason(f"{type(error).__name__}: {error}"))

    def _add_jobs(self, queue: WorkQueue[Task, Made]) -> None:
        """Hand all jobs that wait to the queue, but for those that are there."""
        entries, waiting = queue.entries, self.memory.jobs("waiting")
        for key in entries.keys() - {job.id for job in waiting}:
            queue.forget(key)
        for job in waiting:
            entry = entries.get(job.id)
            if (entry is not None and entry.state in ("waiting", "running")) or time.time() < self._again.get(
                job.id, 0.0
            ):
                continue
            task = self._task_of(job)
            if task is None:
                continue
            added = queue.add(job.id, task)
            if isinstance(added.outcome, Made) and added.state == "done":
                self._finished(task, added.outcome)

    def _task_of(self, job: Job) -> Task | None:
        """The task of a job; None, and the job failed, where its rule or files are gone."""
        files, ct = (self.memory.files(sops) for sops in (job.files, job.ct))
        rule = self._rules.get(job.rule) or (self.router.rule_of(files) if files else None)
        if rule is None or len(files) < len(job.files) or len(ct) < len(job.ct):
            reason = f"rule {job.rule} is not in the settings any more" if rule is None else "its files are gone"
            self.memory.finish_job(job.id, "failed", reason)
            self.journal.write("failed", job=job.id, study=mark(job.study), reason=reason)
            return None
        return Task(job.id, rule, tuple(one.path for one in files), tuple(one.path for one in ct), job.note)

    def _takes(self, destination: str, file: str) -> bool:
        """Whether a destination takes an object of a job."""
        kind = {"report.dcm": "report", "key_page.dcm": "key page"}.get(file, "image")
        return any(one.name == destination and kind in one.objects for one in self.settings.destinations)

    def _finished(self, task: Task, outcome: Made | Failure) -> None:
        """Remember what came of a job; where that cannot be written, the job is looked at again."""
        try:
            self._remember(task, outcome)
        except sqlite3.Error as error:
            self._again[task.job] = time.time() + AGAIN_S
            self.journal.write("trouble", where="memory", reason=str(error))

    def _remember(self, task: Task, outcome: Made | Failure) -> None:
        if isinstance(outcome, Obstacle):
            self._again[task.job] = time.time() + AGAIN_S
            self.journal.write("put off", job=task.job, reason=outcome.reason, again_in_s=AGAIN_S)
        elif isinstance(outcome, Failure):
            self.memory.finish_job(task.job, "failed", outcome.reason)
            self.journal.write("failed", job=task.job, reason=outcome.reason)
        else:
            place = self.folder / "jobs" / task.job / OBJECTS
            sends = [
                Send(one.sop, name, task.job, place / one.file)
                for one in outcome.objects
                for name in task.rule.destinations
                if self._takes(name, one.file)
            ]
            self.memory.finish_job(task.job, "done", task.note, sends)
            self.journal.write("done", job=task.job, seconds=outcome.seconds, objects=len(outcome.objects))
