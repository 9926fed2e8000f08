"""Running a race: in this process or in workers, interrupted and resumed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from steprule.errors import StepruleError
from steprule.race.plan import Plan, Task, check_jobs
from steprule.race.run import Run, run
from steprule.race.stages import expected, is_complete, known
from steprule.race.store import Store
from steprule.runtime.interrupts import uninterrupted

__all__ = ["Race", "execute", "interruptible", "processors", "run_plan"]

T = TypeVar("T")
R = TypeVar("R")

_ENDING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Race:
    """What a race gave: its plan, and the runs that are finished."""

    plan: Plan
    runs: dict[Task, Run]
    jobs: int
    """Processes that worked; on a Dask cluster, its workers at the beginning."""
    seconds: float
    """Wall time from the beginning of the work until the last run was finished or the race interrupted."""
    resumed: int
    """Runs that were taken from the folder."""
    interrupted: bool

    @property
    def is_complete(self) -> bool:
        """Whether every run is finished."""
        return is_complete(self.plan, self.runs)

    @property
    def expected(self) -> int:
        """How many runs there will be."""
        return sum(expected(self.plan, self.runs, entrant) for entrant in self.plan.entrants)


def run_plan(
    plan: Plan,
    folder: Path,
    *,
    jobs: int | None = None,
    address: str | None = None,
    fresh: bool = False,
    watch: Callable[[dict[Task, Run]], None] = lambda runs: None,
    begin: float | None = None,
) -> Race:
    """Run what the folder does not hold yet, stage by stage: a stage follows from the results of the one before.

    Args:
        plan: of ``make_plan``.
        folder: where finished runs are kept, each as soon as it is finished.
        jobs: worker processes; 1 runs in this process. Default: the processors at hand. The
            numbers do not depend on it.
        address: of the scheduler of a Dask cluster, whose workers do the work instead. They need the same versions
            and, under the same paths, the same files; the numbers are the same.
        fresh: forget the runs that the folder holds.
        watch: called with the finished runs, at the beginning and whenever there is one more.
        begin: when the work began, of ``time.perf_counter``. Default: now.

    Raises:
        StepruleError: what the problem or a rule raises; finished runs are kept. No scheduler at the address, or no
            worker; the folder is as before.
        HyperparameterError: for both ``jobs`` and ``address``.
    """
    check_jobs(jobs, address)
    begin = time.perf_counter() if begin is None else begin
    store = Store(folder)
    runs: dict[Task, Run] = {}
    resumed, most, interrupted = 0, 1, False
    try:
        while todo := [task for task in known(plan, runs) if task not in runs]:
            kept = {task: found for task in todo if not fresh and (found := store.get(task)) is not None}
            runs |= kept
            resumed += len(kept)
            todo = [task for task in todo if task not in kept]
            with _workers(todo, min(jobs or processors(), len(todo)), address) as (workers, results):
                if fresh and not runs:
                    store.clear()
                most = max(most, workers)
                watch(runs)
                for task, result in results:
                    # What is in the folder is in the report as well, also when Ctrl-C comes between the two.
                    with uninterrupted():
                        store.put(task, result)
                        runs[task] = result
                    watch(runs)
    except KeyboardInterrupt:
        interrupted = True
    return Race(plan, runs, most, time.perf_counter() - begin, resumed, interrupted)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does, where signals can be handled: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, signal.default_int_handler) for number in _ENDING]
    try:
        yield
    finally:
        for number, handler in zip(_ENDING, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _workers(tasks: Sequence[Task], jobs: int, address: str | None) -> Iterator[tuple[int, Iterator[tuple[Task, Run]]]]:
    """Give how many workers there are, and each task with its run, as they finish."""
    if address is None or not tasks:
        yield jobs, execute(run, tasks, jobs)
        return
    from steprule.race.cluster import connected

    with connected(address) as cluster:
        yield cluster.workers, cluster.execute(tasks)


def execute(do: Callable[..., R], tasks: Sequence[T], jobs: int) -> Iterator[tuple[T, R]]:
    """Yield each task with what comes of it, as they finish: here for one of ``jobs``, otherwise in processes.

    Args:
        do: is given a task; in a process also ``parent``, the process that waits, without which it has to end.
        tasks: what to do.
        jobs: how many processes.

    Raises:
        StepruleError: when a process was killed. What ``do`` raises.
    """
    if jobs <= 1:
        for task in tasks:
            yield task, do(task)
        return
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        with parallel_config("loky", inner_max_num_threads=1):
            # Small batches: a task that has not been handed out yet is not lost with its worker.
            parallel: Any = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
            with _deaf_children():
                results = parallel(delayed(_work)(do, task, os.getpid()) for task in tasks)
            yield from results
    except TerminatedWorkerError:
        raise StepruleError(
            "a worker process was killed, perhaps for lack of memory. Finished runs are kept; the same command "
            "goes on from there. Try fewer of them: --jobs 1"
        ) from None


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Start processes that do not hear Ctrl-C, which reaches every process of a terminal: this one alone answers it.

    A worker that hears it while it still imports fills the terminal with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing.resource_tracker import ensure_running

    # When it starts it lets the signal through, so it has to run before. (It is Python's own; joblib needs it.)
    ensure_running()
    # Handlers run afterwards: in the middle, a process that was just started would wait for its task. A blocked signal
    # alone would not do, since the other threads of this process still take it.
    with uninterrupted():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(do: Callable[..., R], task: T, parent: int) -> tuple[T, R]:
    # Where a process cannot be started deaf.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return task, do(task, parent=parent)


def processors() -> int:
    """Return how many processors this process may use."""
    from joblib import cpu_count

    return int(cpu_count())
