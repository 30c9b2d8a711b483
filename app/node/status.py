"""How the node is: a page for a browser on this machine, and lines for a terminal. No names, no dates of patients."""

import html
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from spectac.app.node.journal import mark
from spectac.app.node.memory import Memory
from spectac.recon.errors import InputError

SHOWN = 50
"""Latest jobs that are listed."""


def status_of(memory: Memory) -> dict[str, Any]:
    """Numbers of files, jobs and sends, and the latest jobs."""
    jobs = [
        {
            "job": job.id,
            "study": mark(job.study),
            "rule": job.rule,
            "state": job.state,
            "ct": bool(job.ct),
            "unsent": memory.unsent(job.id),
            "note": job.note,
            "minutes_ago": round((time.time() - job.made) / 60.0, 1),
        }
        for job in memory.latest_jobs(SHOWN)
    ]
    return {**memory.counts(), "latest": jobs}


def lines_of(path: Path) -> list[str]:
    """Lines for a terminal from the memory of a node, whether it runs or not."""
    if not path.is_file():
        raise InputError(f"{path}: no such node: spectac node --config FILE makes it")
    memory = Memory(path)
    try:
        found = status_of(memory)
    finally:
        memory.close()
    lines = [
        f"{what}: {', '.join(f'{number} {key}' for key, number in sorted(found[what].items())) or 'none'}"
        for what in ("files", "jobs", "sends")
    ]
    for job in found["latest"]:
        unsent = f", {job['unsent']} not sent" if job["unsent"] else ""
        note = f": {job['note']}" if job["note"] else ""
        lines.append(f"{job['job']} study {job['study']} {job['rule'] or '-'} {job['state']}{unsent}{note}")
    return lines


def retried(path: Path) -> int:
    """Let the failed jobs of a node wait again, whether it runs or not; how many they are."""
    if not path.is_file():
        raise InputError(f"{path}: no such node: spectac node --config FILE makes it")
    memory = Memory(path)
    try:
        return memory.retry_failed()
    finally:
        memory.close()


class StatusPage:
    """A read-only page on the loopback address; port 0: none.

    Parameters
    ----------
    port
        Its port.
    memory
        The node's memory.
    """

    def __init__(self, port: int, memory: Memory) -> None:
        self._port, self._memory = port, memory
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Serve in a thread of its own; InputError where the port is taken."""
        if not self._port:
            return
        memory = self._memory

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path not in ("/", "/status.json"):
                    self.send_error(404)
                    return
                found = status_of(memory)
                as_json = self.path != "/"
                content = (json.dumps(found) if as_json else page_of(found)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json" if as_json else "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
                pass

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        except OSError as error:
            raise InputError(f"the status page cannot use port {self._port}: {error.strerror or error}") from None
        threading.Thread(target=self._server.serve_forever, name="status", daemon=True).start()

    def stop(self) -> None:
        """Serve no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def page_of(found: dict[str, Any]) -> str:
    """The page."""
    numbers = ""
    for what in ("files", "jobs", "sends"):
        counted = ", ".join(f"{number} {key}" for key, number in sorted(found[what].items()))
        numbers += f"<tr><th>{what}</th><td>{html.escape(counted)}</td></tr>"
    columns = ("job", "study", "rule", "state", "ct", "unsent", "minutes_ago", "note")
    heads = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(job[name]))}</td>" for name in columns) + "</tr>"
        for job in found["latest"]
    )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta http-equiv='refresh' content='10'>"
        "<title>spectac node</title><style>body{font:15px sans-serif;margin:2em}"
        "table{border-collapse:collapse;margin:1em 0}"
        "td,th{border:1px solid #ccc;padding:.3em .7em;text-align:left}</style>"
        f"<h1>spectac node</h1><table>{numbers}</table><table><tr>{heads}</tr>{rows}</table></html>"
    )
