"""A race on the workers of a Dask cluster, on one machine or on many.

Through Dask's own client, not through joblib's Dask back end: joblib passes on what a run raises, but not that Dask has
given up a run whose workers were killed, and waits for it for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from steprule.errors import ProblemError, RuleError, StepruleError
from steprule.install import how_to_install
from steprule.race.entrant import digest_of
from steprule.race.load import load_problem
from steprule.race.plan import Task, versions
from steprule.race.run import Run, in_words, run

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Cluster", "connected"]

_ANSWER = 5.0
"""Seconds within which a scheduler has to answer."""
_PATIENCE = 20.0
"""Seconds for which a cluster may be without workers: one that was killed is started again by then."""
_KEPT = "Finished runs are kept; the same command goes on from there"
_SAME = "every machine needs the same files under the same paths"


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Give the workers of the scheduler at ``address``, as in ``"10.0.0.1:8786"``.

    After the block the scheduler forgets what has not begun; runs that have begun end in their workers, unheard.

    Raises:
        StepruleError: when ``distributed`` is not installed, no scheduler answers within 5 s, it cannot import
            steprule, or it has no worker for 20 s.
    """
    _check_answers(address)
    from distributed import Client

    with _quiet(), Client(address, timeout=_ANSWER, set_as_default=False) as client:
        yield Cluster(address, client)


class Cluster:
    """The workers of a Dask scheduler.

    Args:
        address: of the scheduler, for messages.
        client: connected to it.

    Attributes:
        workers: how many there were at first; they may come and go.
    """

    def __init__(self, address: str, client: Client) -> None:
        self._address, self._client = address, client
        self._check_scheduler()
        self._wait_for_a_worker()
        self.workers = len(client.ncores())

    def execute(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Run]]:
        """Yield each task with its run, as they finish; a run whose worker is killed begins anew in another one.

        Raises:
            StepruleError: what the problem or the rule raises; a worker that could give other numbers; a run that has
                killed several workers; a scheduler that is gone; no worker for 20 s.
        """
        futures = self._client.map(_work, tasks, wanted=versions(), pure=False)
        of = dict(zip(futures, tasks, strict=True))
        for future in self._finished(futures):
            result = self._result(future, of[future])
            future.release()  # or it would be computed again, for nobody, when the worker that keeps it is killed
            yield of[future], result

    def _finished(self, futures: Sequence[Future[Run]]) -> Iterator[Future[Run]]:
        from distributed import as_completed

        left = set(futures)
        while left:
            try:
                for future in as_completed(tuple(left), loop=self._client.loop, timeout=_PATIENCE):
                    left.discard(future)
                    yield future
            except TimeoutError:  # nothing is wrong as long as somebody works
                self._wait_for_a_worker()

    def _result(self, future: Future[Run], task: Task) -> Run:
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            raise StepruleError(
                f"{error.allowed_failures + 1} workers were killed while racing {in_words(task)}, the last one "
                f"{error.last_worker.address}, perhaps for lack of memory. {_KEPT}. Give the workers more memory "
                "(dask worker --memory-limit), or leave that rule out"
            ) from None
        except CancelledError:
            raise self._gone() from None

    def _check_scheduler(self) -> None:
        try:
            self._client.run_on_scheduler(import_module, __name__)
        except ModuleNotFoundError as error:
            raise StepruleError(
                f"the Dask scheduler at {self._address} cannot import {error.name}, and tasks go through its hands. "
                "Install the same there as here"
            ) from None

    def _wait_for_a_worker(self) -> None:
        try:
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            raise StepruleError(
                f"the Dask scheduler at {self._address} has had no worker for {_PATIENCE:g} s. Start some where the "
                f"same is installed as here: dask worker {self._address} --nthreads 1 --nworkers N"
            ) from None
        except OSError:
            raise self._gone() from None

    def _gone(self) -> StepruleError:
        return StepruleError(f"the Dask scheduler at {self._address} is gone. {_KEPT}, once a scheduler is there")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tracebacks of Dask's client off the terminal: what ends a race is said in one message."""
    log = logging.getLogger("distributed.client")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _check_answers(address: str) -> None:
    """Refuse an address where no scheduler is.

    Dask's client waits for ever where something else listens, as its scheduler's own dashboard does.
    """
    try:
        from distributed import Security, rpc
    except ModuleNotFoundError:
        raise StepruleError(
            f"a race on a Dask cluster needs distributed. Install: {how_to_install('distributed')}"
        ) from None

    async def who() -> Any:
        async with rpc(address, timeout=_ANSWER, connection_args=Security().get_connection_args("client")) as there:
            return (await asyncio.wait_for(there.identity(), _ANSWER))["type"]

    # In another thread, since a notebook has a loop of its own in this one.
    with ThreadPoolExecutor(1) as pool:
        try:
            kind = pool.submit(asyncio.run, who()).result()
        except Exception as error:  # whatever its words do to Dask's reading of them
            raise _no_scheduler(address, str(error) or f"no answer within {_ANSWER:g} s") from None
    if kind != "Scheduler":
        raise _no_scheduler(address, f"a {kind.lower()} of Dask is there")


def _no_scheduler(address: str, why: str) -> StepruleError:
    return StepruleError(
        f"no Dask scheduler answers at {address!r}: {why}. Start one by `dask scheduler`, which prints its address "
        "(tcp://HOST:8786; the one with 8787 is its dashboard)"
    )


def _work(task: Task, wanted: Mapping[str, str]) -> Run:
    """Run a task in a worker that gives the numbers which any other process would give."""
    from distributed import get_worker

    worker = get_worker()
    try:
        _check_threads(worker.state.nthreads)
        _check_versions(wanted)
        _check_files(task)
    except StepruleError as error:
        raise type(error)(f"worker {worker.address}: {error}") from None
    return run(task)


def _check_threads(count: int) -> None:
    """Refuse a worker that runs several tasks at once: how many threads a sum has is set for the whole process."""
    if count > 1:
        raise StepruleError(
            f"it has {count} threads, but a run needs a process for itself. Start workers by "
            "dask worker ADDRESS --nthreads 1 --nworkers N; from Python, LocalCluster(threads_per_worker=1)"
        )


def _check_versions(wanted: Mapping[str, str]) -> None:
    others = [f"{name} {here} instead of {wanted[name]}" for name, here in versions().items() if here != wanted[name]]
    if others:
        raise StepruleError(
            f"it has {', '.join(others)}, with which a run may have other numbers. Install the same versions everywhere"
        )


def _check_files(task: Task) -> None:
    if load_problem(task.problem).digest != task.problem_digest:
        raise ProblemError(f"{task.problem} is another file than where the race was started; {_SAME}")
    if digest_of(task.rule) != task.rule_digest:
        raise RuleError(f"{task.rule} is missing, or another file than where the race was started; {_SAME}")
