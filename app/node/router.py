"""From files to jobs: when a study is complete, which rule it has, and whose CT may be used with it."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from spectac.app.node.journal import Journal, mark
from spectac.app.node.memory import File, Job, Memory
from spectac.app.node.settings import NodeSettings, Rule


class Router:
    """Makes jobs of complete studies.

    Parameters
    ----------
    settings, memory, journal
        The node's.
    since
        When the node began to listen: files may have been on their way before, so that no study counts as quiet for
        longer.
    """

    def __init__(self, settings: NodeSettings, memory: Memory, journal: Journal, since: float = 0.0) -> None:
        self._settings, self._memory, self._journal, self._since = settings, memory, journal, since
        # Studies without a rule are looked at again: the settings may have one now.
        self._seen = memory.routed()
        for job in memory.jobs("no rule"):
            self._seen.pop(job.study, None)

    def route(self, now: float | None = None) -> None:
        """Look at every study that has been quiet since files of it or of a CT in its frame came."""
        now = time.time() if now is None else now
        arrivals = self._memory.arrivals()
        quiet = {
            study
            for study, latest in arrivals.items()
            if now - max(latest, self._since) >= self._settings.quiet_seconds
        }
        fresh = [study for study in quiet if self._seen.get(study) != arrivals[study]]
        others: set[str] = set()
        for study in fresh:
            frames = {file.about.frame for file in self._memory.files_of(study) if file.about.kind == "ct"}
            others |= {one.about.study for frame in frames for one in self._memory.raw_in_frame(frame)}
        for study in [*fresh, *((others & quiet) - set(fresh))]:
            self._route_study(study, quiet, now)
            self._seen[study] = arrivals[study]
            self._memory.set_routed(study, arrivals[study])
        for job in self._memory.jobs("waiting for CT"):
            listened = now - self._since >= self._settings.quiet_seconds
            if job.deadline is not None and now >= job.deadline and listened:
                note = "no CT of this patient came in time"
                self._memory.replace_job(job.id, replace(job, state="waiting", note=note))
                self._journal.write("goes on without CT", job=job.id, study=mark(job.study))

    def _route_study(self, study: str, quiet: set[str], now: float) -> None:
        series: dict[str, list[File]] = defaultdict(list)
        for file in self._memory.files_of(study):
            if file.about.kind == "raw":
                series[file.about.series].append(file)
        if not series:
            self._journal.write("no raw projections", study=mark(study))
        for name, files in series.items():
            self._route_series(study, name, files, quiet, now)

    def _route_series(self, study: str, series: str, files: list[File], quiet: set[str], now: float) -> None:
        rule = self.rule_of(files)
        if rule is None:
            job = Job(_identity(files, ()), study, series, "", _sops(files), (), "no rule", made=now)
            if self._memory.add_job(job):
                self._journal.write("no rule", study=mark(study), series=mark(series))
            return
        ct: Sequence[File] = ()
        if rule.needs == "ct" or "ct" in rule.methods:
            ct = self._ct_of(files, quiet)
        job = Job(_identity(files, ct), study, series, rule.name, _sops(files), _sops(ct), "waiting", made=now)
        if rule.needs == "ct" and not ct:
            job = replace(job, state="waiting for CT", deadline=now + 60.0 * rule.wait_minutes)
        earlier = self._memory.jobs_of(study, series)
        # A CT that was removed meanwhile, or is not asked for any more, makes no job anew.
        same = [
            one for one in earlier if one.files == job.files and one.state != "no rule" and (one.ct == job.ct or not ct)
        ]
        if not same:
            waits = [one for one in earlier if one.state in ("waiting for CT", "no rule")]
            if waits:
                self._memory.replace_job(waits[0].id, job)
            else:
                self._memory.add_job(job)
            self._journal.write("job", job=job.id, study=mark(study), rule=rule.name, state=job.state, ct=bool(ct))

    def rule_of(self, files: Sequence[File]) -> Rule | None:
        """The first rule that fits the series; None without one."""
        facts = files[0].about.facts
        return next((rule for rule in self._settings.rules if rule.match.fits(facts)), None)

    def _ct_of(self, files: Sequence[File], quiet: set[str]) -> list[File]:
        """Files of the one CT series that belongs to this person and scan, none where that is not sure.

        The person's data must all be equal, and either the study or the frame of reference. Of several series that in
        the same frame is taken, then the one with the most slices.
        """
        raw = files[0].about
        of_study = [file for file in self._memory.files_of(raw.study) if file.about.kind == "ct"]
        near = {file.about.sop: file for file in [*of_study, *self._memory.cts_in_frame(raw.frame)]}
        series: dict[str, list[File]] = defaultdict(list)
        of_another: set[str] = set()
        for file in near.values():
            if file.about.person != raw.person or not raw.person[0]:
                of_another.add(file.about.series)
            elif file.about.study in quiet:
                series[file.about.series].append(file)
        for name in sorted(of_another):
            self._journal.write("CT of another person", study=mark(raw.study), ct=mark(name))
        if not series:
            return []
        chosen = max(series.values(), key=lambda of: (of[0].about.frame == raw.frame != "", len(of)))
        return sorted(chosen, key=lambda file: file.about.sop)


def _sops(files: Iterable[File]) -> tuple[str, ...]:
    return tuple(sorted(file.about.sop for file in files))


def _identity(files: Iterable[File], ct: Iterable[File]) -> str:
    """Sixteen hexadecimal digits for the files of a job: other rules in the settings make no earlier study anew."""
    digest = hashlib.sha256()
    for group in (files, ct):
        digest.update(b"\n")
        for file in sorted(group, key=lambda one: one.about.sop):
            digest.update(f"{file.about.sop} {file.sha256}\n".encode())
    return digest.hexdigest()[:16]
