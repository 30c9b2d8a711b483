"""The node's log: one line of JSON for each event, on stderr and in audit.jsonl, without names or dates of patients.

Studies, series and instances are named by the first digits of their UIDs' SHA-256: the same study has the same mark in
every line, and only who has the study can tell whose it is.
"""

import hashlib
import json
import re
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

_PRIVATE = (
    (re.compile(r"\d+(?:\.\d+){3,}"), "(UID)"),
    (re.compile(r"\b\d{4}-?\d{2}-?\d{2}(?:[ T]\d{2}:?\d{2}(?::?\d{2})?(?:\.\d+)?)?\b"), "(date)"),
    (re.compile(r"'[^']*'|\"[^\"]*\""), "(text)"),
    (re.compile(r"(?:there are|Give the files|\bfiles?):.*", re.DOTALL), "(what was found is in the job's folder)"),
)
"""What a reason may quote of a file, and what stands in its place."""


def plain_reason(text: str) -> str:
    """A reason without what it may quote of a patient's files: UIDs, dates, texts, lists of what was found."""
    for pattern, instead in _PRIVATE:
        text = pattern.sub(instead, text)
    return text[:300]


def mark(uid: str) -> str:
    """Twelve hexadecimal digits for a UID."""
    return hashlib.sha256(uid.encode()).hexdigest()[:12]


class Journal:
    """Lines of JSON to a file and a stream; any thread may write. A file that cannot be written to is no error."""

    def __init__(self, path: Path, stream: IO[str] | None = None) -> None:
        self._path, self._stream = path, sys.stderr if stream is None else stream
        self._lock = threading.Lock()

    def write(self, event: str, **facts: object) -> None:
        """Write an event; facts are plain values."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **facts}) + "\n"
        with self._lock:
            # A log that cannot be written must not stop the node: a full disk, a terminal that is gone.
            with suppress(OSError, ValueError):
                self._stream.write(line)
                self._stream.flush()
            with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
                file.write(line)
