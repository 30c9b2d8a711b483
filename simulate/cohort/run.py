"""Making a cohort: its shards are the items of a queue.

Shard numbers go to the workers and digests come back; the arrays go from the worker to the disk.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from spectac.recon.device import cpu_threads
from spectac.recon.queue.shares import on_cores, worker_number
from spectac.recon.queue.store import check_visible, named_error
from spectac.recon.queue.work_queue import Failure, Progress, Work, open_queue
from spectac.recon.queue.workers import Workers, named_function, one_line
from spectac.simulate.cohort.folder import (
    CohortSettings,
    check_cohort,
    check_folder,
    read_whole_shard,
    shard_path,
    write_manifest,
)
from spectac.simulate.cohort.patient_arrays import PatientArrays
from spectac.simulate.cohort.shards import DamagedShard, ShardFacts, write_shard


@dataclass(frozen=True)
class CohortResult:
    """What a run left in the folder of a cohort.

    Parameters
    ----------
    settings
        The cohort.
    patients
        Number of patients in the shards, without those that failed.
    failures
        Reasons by the index of the patients that failed.
    missing_shards
        Numbers of the shards whose workers died.
    notes
        A line for each damaged shard that was made again.

    Examples
    --------
    >>> from spectac.simulate.cohort.folder import CohortSettings
    >>> from spectac.simulate.cohort.run import CohortResult
    >>> result = CohortResult(CohortSettings(20), 19, {4: "the head does not fit the field"}, (), ())
    >>> result.patients + len(result.failures) == result.settings.patients
    True
    """

    settings: CohortSettings
    patients: int
    failures: Mapping[int, str]
    missing_shards: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ShardWork(Work[int, ShardFacts]):
    """Making the shards of a cohort, known by their numbers.

    Parameters
    ----------
    folder
        Folder of the cohort.
    settings
        Settings of the cohort.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spectac.simulate.cohort.folder import CohortSettings
    >>> from spectac.simulate.cohort.run import ShardWork
    >>> work = ShardWork(Path("no such folder"), CohortSettings(20))
    >>> work.before(0) is None
    True
    """

    folder: Path
    settings: CohortSettings

    command = "cohort"
    leftovers = r"-(shard-\d{5,}\.h5|manifest\.json)"

    def before(self, shard: int) -> ShardFacts | Failure | None:
        """Facts of a shard that is whole; a Failure with a note where it is damaged."""
        try:
            return read_whole_shard(self.folder, self.settings, shard)
        except DamagedShard as error:
            return Failure(f"{error}; made again")

    def do(self, shard: int) -> ShardFacts:
        """Simulate the patients of a shard and write it.

        A patient whose simulation raises is reported in the shard. OSError and MemoryError are raised: they are faults
        of the machine, and the shard would keep them as faults of the patient.
        """
        path, indices = shard_path(self.folder, shard), self.settings.indices(shard)
        try:
            return write_shard(path, self.settings.identity(), len(indices), self._outcomes(indices))
        except OSError as error:
            raise named_error(error, path) from error

    def _outcomes(self, indices: range) -> Iterator[tuple[int, PatientArrays | str]]:
        simulation = named_function("simulation", self.settings.simulation)
        for index in indices:
            try:
                with on_cores(_one_core):
                    outcome = simulation(self.settings.seed, index, self.settings)
            except (OSError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001 - whatever a patient runs into must not stop the others
                outcome = one_line(error)
            yield index, outcome

    def arrived(self, shard: int, outcome: ShardFacts | Failure) -> None:
        """Check that this process sees the shard, and that the worker has the same code."""
        if isinstance(outcome, ShardFacts):
            path = shard_path(self.folder, shard)
            check_visible(self.folder, path)
            check_cohort(path, outcome.cohort, self.settings)


def run_cohort(
    folder: Path,
    settings: CohortSettings,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> CohortResult:
    """Make the shards of a cohort that are not in its folder yet, and the manifest of all.

    OSError and MemoryError, also of a worker, and KeyboardInterrupt end the run. The manifest then lists what is there,
    and the same call makes the rest.
    Assumes: a script that starts processes guards its own start with `if __name__ == "__main__"`.

    Parameters
    ----------
    folder
        Folder of the shards and the manifest.
    settings
        The cohort.
    scheduler
        Address of a Dask scheduler whose workers see the folder.
    workers
        Processes of this machine that work without a scheduler; None: as many as cores, 0: this process alone.
    on_progress
        Called after each shard, with numbers of patients.

    Returns
    -------
    CohortResult
        What is in the folder now.

    Raises
    ------
    InputError
        The folder holds another cohort or more patients, the simulation cannot be imported, or the scheduler does not
        answer.

    Examples
    --------
    >>> from spectac.simulate.cohort.folder import CohortSettings
    >>> from spectac.simulate.cohort.run import run_cohort
    >>> result = run_cohort(Path("cohort"), CohortSettings(1000, seed=1))  # doctest: +SKIP
    """
    named_function("simulation", settings.simulation)
    folder = folder.resolve()
    places = Workers(scheduler, cpu_threads() if workers is None else workers, threads=1)
    with open_queue(ShardWork(folder, settings), places, on_progress, settings.patients) as queue:
        check_folder(folder, settings)
        entries = [queue.add(shard, shard, len(settings.indices(shard))) for shard in settings.shards]
        queue.close()
        notes = tuple(entry.outcome.reason for entry in entries if isinstance(entry.outcome, Failure))

        def whole() -> dict[int, ShardFacts]:
            outcomes = {entry.item: entry.outcome for entry in queue.entries.values()}
            return {shard: facts for shard, facts in outcomes.items() if isinstance(facts, ShardFacts)}

        queue.run(lambda: write_manifest(folder, settings, whole()))
        shards = whole()
        write_manifest(folder, settings, shards)
    failures = {index: reason for facts in shards.values() for index, reason in sorted(facts.failures.items())}
    missing = tuple(shard for shard in settings.shards if shard not in shards)
    return CohortResult(settings, sum(len(facts.sha256) for facts in shards.values()), failures, missing, notes)


def _one_core(allowed: list[int]) -> set[int]:
    """Core that a patient is simulated on.

    SystemModel.adjoint sums the views in as many parts as there are cores, so that the last digits of an image depend
    on their number. On one core a patient is the same on every machine. On systems without core affinity (macOS,
    Windows) digests can be compared between machines of equal core counts only.
    """
    number = worker_number()
    if number is not None:  # two workers that happen to run on one core would stay there
        return {allowed[number % len(allowed)]}
    fields = Path("/proc/thread-self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    core = int(fields[36])  # field 39, "processor" of proc(5), counted from behind the name
    return {core if core in allowed else allowed[0]}
