"""The node's log: one line of JSON for each event, on stderr and in audit.jsonl, without names or dates of patients.

Studies, series and instances are named by the first digits of their UIDs' SHA-256: the same study has the same mark in
every line, and only who has the study can tell whose it is.
"""

import hashlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import IO


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
            self._stream.write(line)
            self._stream.flush()
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(line)
            except OSError as error:
                self._stream.write(json.dumps({"event": "journal", "reason": error.strerror or str(error)}) + "\n")
