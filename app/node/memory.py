"""The node's memory: an SQLite file that says which files came, what was made of them and what was sent.

Every change is on the disk before anything else relies on it. So a node that is killed goes on where it was: files that
were acknowledged are known, studies that were in work are worked on again, and what was not sent is sent.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spectac.app.node.received import Kind, Received
from spectac.recon.errors import InputError

VERSION = 1
State = Literal["waiting for CT", "waiting", "done", "failed", "no rule"]

_TABLES = """
CREATE TABLE files (
  sop TEXT PRIMARY KEY, study TEXT NOT NULL, series TEXT NOT NULL, kind TEXT NOT NULL, person TEXT NOT NULL,
  frame TEXT NOT NULL, facts TEXT NOT NULL, path TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
  arrived REAL NOT NULL);
CREATE INDEX files_of_study ON files (study, arrived);
CREATE INDEX files_in_frame ON files (frame);
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, study TEXT NOT NULL, series TEXT NOT NULL, rule TEXT NOT NULL, files TEXT NOT NULL,
  ct TEXT NOT NULL, state TEXT NOT NULL, note TEXT NOT NULL, made REAL NOT NULL, deadline REAL, finished REAL);
CREATE INDEX jobs_of_series ON jobs (study, series);
CREATE INDEX jobs_in_state ON jobs (state);
CREATE TABLE routed (study TEXT PRIMARY KEY, latest REAL NOT NULL);
CREATE TABLE sends (
  sop TEXT NOT NULL, destination TEXT NOT NULL, job TEXT NOT NULL, path TEXT NOT NULL, state TEXT NOT NULL,
  tries INTEGER NOT NULL, due REAL NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (sop, destination));
CREATE INDEX sends_due ON sends (state, due);
CREATE INDEX sends_of_job ON sends (job);
CREATE TABLE commitments (
  id TEXT PRIMARY KEY, peer TEXT NOT NULL, wanted TEXT NOT NULL, tries INTEGER NOT NULL, due REAL NOT NULL);
"""


@dataclass(frozen=True)
class File:
    """A file of a study."""

    about: Received
    path: Path
    sha256: str
    size: int
    arrived: float


@dataclass(frozen=True)
class Job:
    """A series of raw projections to reconstruct, with a CT or without.

    `files` and `ct` are the SOP instances that it is made of. `deadline` is when it stops to wait for a CT.
    """

    id: str
    study: str
    series: str
    rule: str
    files: tuple[str, ...]
    ct: tuple[str, ...]
    state: State
    note: str = ""
    made: float = 0.0
    deadline: float | None = None
    finished: float | None = None


@dataclass(frozen=True)
class Send:
    """An object that goes to a destination; `due`: when it is tried next."""

    sop: str
    destination: str
    job: str
    path: Path
    tries: int = 0
    due: float = 0.0


@dataclass(frozen=True)
class Commitment:
    """A storage commitment that was asked for: pairs of SOP class and instance, to be answered to a peer."""

    id: str
    peer: str
    wanted: tuple[tuple[str, str], ...]
    tries: int = 0
    due: float = 0.0


class Memory:
    """The node's memory in a file; any thread may use it. InputError for a file of another version."""

    def __init__(self, path: Path) -> None:
        self.files_lock = threading.Lock()
        """Held while files and the memory of them are changed together."""
        self._lock = threading.RLock()
        try:
            self._open(path)
        except sqlite3.Error as error:
            raise InputError(f"{path}: the node's memory cannot be read or written: {error}") from None

    def _open(self, path: Path) -> None:
        self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30.0)
        self._file.row_factory = sqlite3.Row
        self._file.execute("PRAGMA journal_mode = WAL")
        # A commit returns when it is on the disk.
        self._file.execute("PRAGMA synchronous = FULL")
        with self._changing() as change:
            version = change.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in filter(str.strip, _TABLES.split(";")):
                    change.execute(statement)
                change.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise InputError(f"{path}: memory of a node of version {version}, this spectac has {VERSION}")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """All changes of a block, or none."""
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield self._file
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")

    def _all(self, query: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            return self._file.execute(query, values).fetchall()

    # Files

    def put_file(self, file: File) -> None:
        """Remember a file, in place of one of the same SOP instance."""
        about = file.about
        with self._changing() as change:
            change.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    about.sop, about.study, about.series, about.kind, json.dumps(about.person), about.frame,
                    json.dumps(about.facts), str(file.path), file.sha256, file.size, file.arrived,
                ),
            )  # fmt: skip

    def paths(self) -> list[Path]:
        """Paths of all files."""
        return [Path(row["path"]) for row in self._all("SELECT path FROM files")]

    def _files(self, condition: str, *values: object) -> list[File]:
        found = []
        for row in self._all(f"SELECT * FROM files WHERE {condition} ORDER BY sop", *values):
            kind: Kind = row["kind"]
            person, facts = tuple(json.loads(row["person"])), json.loads(row["facts"])
            about = Received(row["sop"], row["study"], row["series"], kind, person, row["frame"], facts)
            found.append(File(about, Path(row["path"]), row["sha256"], row["size"], row["arrived"]))
        return found

    def files_of(self, study: str) -> list[File]:
        """Files of a study by their SOP instances."""
        return self._files("study = ?", study)

    def cts_in_frame(self, frame: str) -> list[File]:
        """CT files in a frame of reference."""
        return self._files("kind = 'ct' AND frame = ?", frame) if frame else []

    def raw_in_frame(self, frame: str) -> list[File]:
        """Raw projections in a frame of reference."""
        return self._files("kind = 'raw' AND frame = ?", frame) if frame else []

    def files(self, sops: Iterable[str]) -> list[File]:
        """Files by their SOP instances; those that are not there are left out."""
        found = []
        for sop in sops:
            found += self._files("sop = ?", sop)
        return found

    def arrivals(self) -> dict[str, float]:
        """When the latest file of each study came."""
        return {row["study"]: row["latest"] for row in self._all(
            "SELECT study, MAX(arrived) AS latest FROM files GROUP BY study"
        )}  # fmt: skip

    def routed(self) -> dict[str, float]:
        """The arrival of each study up to which its jobs were made."""
        return {row["study"]: row["latest"] for row in self._all("SELECT * FROM routed")}

    def set_routed(self, study: str, latest: float) -> None:
        """Remember that the jobs of all that came of a study until then were made."""
        with self._changing() as change:
            change.execute("INSERT OR REPLACE INTO routed VALUES (?, ?)", (study, latest))

    def forget_files(self, sops: Iterable[str]) -> None:
        """Remove files that were deleted from the disk."""
        with self._changing() as change:
            change.executemany("DELETE FROM files WHERE sop = ?", [(sop,) for sop in sops])

    # Jobs

    def add_job(self, job: Job) -> bool:
        """Remember a job; False where it is there already."""
        with self._changing() as change:
            return _insert_job(change, job)

    def replace_job(self, old: str, job: Job) -> None:
        """A job in place of another that waited."""
        with self._changing() as change:
            change.execute("DELETE FROM jobs WHERE id = ?", (old,))
            _insert_job(change, job)

    def jobs(self, *states: State) -> list[Job]:
        """Jobs in these states (none: all), the oldest first."""
        marks = ", ".join("?" * len(states))
        rows = self._all(f"SELECT * FROM jobs{f' WHERE state IN ({marks})' if states else ''} ORDER BY made", *states)
        return [_job(row) for row in rows]

    def jobs_of(self, study: str, series: str) -> list[Job]:
        """Jobs of a series, the oldest first."""
        return [
            _job(row)
            for row in self._all("SELECT * FROM jobs WHERE study = ? AND series = ? ORDER BY made", study, series)
        ]

    def latest_jobs(self, number: int) -> list[Job]:
        """The latest jobs, the newest first."""
        return [_job(row) for row in self._all("SELECT * FROM jobs ORDER BY made DESC LIMIT ?", number)]

    def jobs_of_study(self, study: str) -> list[Job]:
        """Jobs of a study, the oldest first."""
        return [_job(row) for row in self._all("SELECT * FROM jobs WHERE study = ? ORDER BY made", study)]

    def retry_failed(self) -> int:
        """Let all failed jobs wait again; how many they are."""
        with self._changing() as change:
            return change.execute("UPDATE jobs SET state = 'waiting', note = '' WHERE state = 'failed'").rowcount

    def finish_job(self, job: str, state: State, note: str, sends: Sequence[Send] = ()) -> None:
        """A job's end, and what is to be sent of it, at once."""
        with self._changing() as change:
            change.execute(
                "UPDATE jobs SET state = ?, note = ?, finished = ? WHERE id = ?", (state, note, time.time(), job)
            )
            change.executemany(
                "INSERT OR IGNORE INTO sends VALUES (?, ?, ?, ?, 'pending', 0, 0, '')",
                [(one.sop, one.destination, one.job, str(one.path)) for one in sends],
            )

    # Sends

    def due_sends(self, now: float) -> list[Send]:
        """What is to be sent now, the longest due first."""
        return [
            _send(row)
            for row in self._all("SELECT * FROM sends WHERE state = 'pending' AND due <= ? ORDER BY due", now)
        ]

    def sent(self, send: Send) -> None:
        """A send that arrived."""
        self._set_send(send, "sent", send.due, "")

    def not_sent(self, send: Send, due: float, reason: str) -> None:
        """A send that is to be tried again."""
        self._set_send(send, "pending", due, reason)

    def _set_send(self, send: Send, state: str, due: float, reason: str) -> None:
        with self._changing() as change:
            change.execute(
                "UPDATE sends SET state = ?, tries = tries + 1, due = ?, reason = ? WHERE sop = ? AND destination = ?",
                (state, due, reason, send.sop, send.destination),
            )

    def give_up(self, job: str) -> None:
        """Try no more to send what is left of a job."""
        with self._changing() as change:
            change.execute("UPDATE sends SET state = 'given up' WHERE job = ? AND state = 'pending'", (job,))

    def unsent(self, job: str) -> int:
        """How much of a job's results did not arrive yet."""
        return int(self._all("SELECT COUNT(*) AS n FROM sends WHERE job = ? AND state = 'pending'", job)[0]["n"])

    # Storage commitment

    def add_commitment(self, one: Commitment) -> None:
        """Remember a request for commitment."""
        with self._changing() as change:
            change.execute(
                "INSERT OR REPLACE INTO commitments VALUES (?, ?, ?, ?, ?)",
                (one.id, one.peer, json.dumps(one.wanted), one.tries, one.due),
            )

    def due_commitments(self, now: float) -> list[Commitment]:
        """Requests that are to be answered now."""
        return [
            Commitment(row["id"], row["peer"], tuple(map(tuple, json.loads(row["wanted"]))), row["tries"], row["due"])
            for row in self._all("SELECT * FROM commitments WHERE due <= ? ORDER BY due", now)
        ]

    def answered(self, one: Commitment) -> None:
        """Forget a request that was answered."""
        with self._changing() as change:
            change.execute("DELETE FROM commitments WHERE id = ?", (one.id,))

    def counts(self) -> dict[str, dict[str, int]]:
        """Numbers of files by kind, and of jobs and sends by state."""
        return {
            table: {
                row["key"]: row["n"]
                for row in self._all(f"SELECT {key} AS key, COUNT(*) AS n FROM {table} GROUP BY {key}")
            }
            for table, key in (("files", "kind"), ("jobs", "state"), ("sends", "state"))
        }


def _insert_job(change: sqlite3.Connection, job: Job) -> bool:
    values = vars(job) | {"files": json.dumps(job.files), "ct": json.dumps(job.ct)}
    done = change.execute(f"INSERT OR IGNORE INTO jobs VALUES ({', '.join('?' * len(values))})", tuple(values.values()))
    return done.rowcount == 1


def _job(row: sqlite3.Row) -> Job:
    values: dict[str, Any] = dict(row)
    return Job(**{**values, "files": tuple(json.loads(row["files"])), "ct": tuple(json.loads(row["ct"]))})


def _send(row: sqlite3.Row) -> Send:
    return Send(row["sop"], row["destination"], row["job"], Path(row["path"]), row["tries"], row["due"])
