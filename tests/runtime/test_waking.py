"""Which launches wake workers, and where these run."""

from __future__ import annotations

import ctypes
import os
import sys

import numpy as np
import pytest

from steprule.runtime import launch, offsets, pool
from steprule.runtime.addresses import address
from steprule.runtime.jit import build
from steprule.runtime.placement import ASIDE, MASKS_WORDS
from tests.runtime.test_runtime import script

_PASS = 1_000_000
"""Nanoseconds between launches after which all workers sleep."""


class Clock:
    """A clock that only a launch moves on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.takes = 0, 0
        monkeypatch.setattr(launch, "perf_counter_ns", lambda: self.now)
        monkeypatch.setattr(pool, "_pool", pool.Pool())
        kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(self._pass)
        self._kernel, self.address = kernel, ctypes.cast(kernel, ctypes.c_void_p).value or 0

    def _pass(self, addresses: int, start: int, n: int, scalars: int) -> None:
        self.now += self.takes if start == 0 else 0

    def table(self, elements: int) -> launch.Table:
        table = launch.Table([elements], 1)
        table.set_row(0, self, 0)
        return table

    def calls(self, table: launch.Table, takes: int, idle: int) -> bool:
        """Whether a launch that takes so long, after so long, calls workers."""
        self.now, self.takes = self.now + idle, takes
        table.prepare(pool.Team(2))
        epoch = pool.pool().memory[offsets.EPOCH]
        table.run()
        assert table.is_done
        return bool(pool.pool().memory[offsets.EPOCH] != epoch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_launch_that_is_over_before_a_worker_comes_wakes_none(clock: Clock) -> None:
    table = clock.table(4 * launch.WAKE_ELEMENTS)
    assert clock.calls(table, launch.SHORT - 1, _PASS), "how long it takes is not known yet"
    assert not clock.calls(table, launch.SHORT - 1, _PASS)
    assert not clock.calls(table, launch.SHORT, _PASS), "it was short the time before"
    assert clock.calls(table, launch.SHORT - 1, _PASS), "it was not"
    assert not clock.calls(table, launch.SHORT - 1, _PASS)


def test_short_launches_on_end_share_workers_that_spin(clock: Clock) -> None:
    table = clock.table(4 * launch.WAKE_ELEMENTS)
    clock.calls(table, 1000, _PASS)
    for _ in range(2):
        # The first of them may be the passes of one step, after which a gradient is computed.
        found = [clock.calls(table, 1000, idle) for idle in (_PASS, *[pool.ON_END - 1] * 6)]
        assert found == [False] * pool.ON_END_LAUNCHES + [True] * (7 - pool.ON_END_LAUNCHES)
    assert not clock.calls(table, 1000, pool.ON_END)


def test_a_large_launch_wakes_workers_however_short_it_was(clock: Clock) -> None:
    table = clock.table(launch.SHORT_ELEMENTS * launch.WAKE_ELEMENTS)
    assert all(clock.calls(table, 1000, _PASS) for _ in range(3))


_LAUNCHING = 77
"""The launching thread's number."""


class Worker:
    """A worker on a system of which the test says where it runs, and on which processors it may run.

    Attributes:
        launch_may_run_on: the launching thread's set; None: that thread is no more.
    """

    def __init__(self, may_run_on: set[int]) -> None:
        self.here, self.may_run_on, self.moves = 0, may_run_on, 0
        self.launch_may_run_on: set[int] | None = set(may_run_on)
        word = ctypes.c_int
        where = ctypes.CFUNCTYPE(word)(lambda: self.here)
        get = ctypes.CFUNCTYPE(word, word, ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint8))(self._get)
        put = ctypes.CFUNCTYPE(word, word, ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint8))(self._set)
        self._functions = where, get, put
        self._pool, self._masks = np.zeros(offsets.POOL_BYTES // 8, np.int64), np.zeros(MASKS_WORDS, np.int64)
        self._pool[offsets.PLACING // 8 :][:3] = [
            ctypes.cast(function, ctypes.c_void_p).value or 0 for function in self._functions
        ]
        self._aside = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(*build(ASIDE, "aside"))

    def _get(self, thread: int, size: int, mask: ctypes._Pointer[ctypes.c_uint8]) -> int:
        own = {0: self.may_run_on, _LAUNCHING: self.launch_may_run_on}[thread]
        if own is None:
            return -1
        bits = np.zeros(8 * size, np.uint8)
        bits[list(own)] = 1
        packed = np.packbits(bits, bitorder="little")
        ctypes.memmove(mask, packed.ctypes.data, size)
        return 0

    def _set(self, thread: int, size: int, mask: ctypes._Pointer[ctypes.c_uint8]) -> int:
        bits = np.unpackbits(np.ctypeslib.as_array(mask, (size,)), bitorder="little")
        self.may_run_on, self.moves = set(np.flatnonzero(bits).tolist()), self.moves + 1
        assert self.may_run_on, "Linux refuses an empty set"
        return thread

    def is_woken(self, on: int, by: int) -> set[int]:
        """Wake it on a processor, by a launch on another or the same, and return where it may run from then on."""
        self.here = on
        self._pool.view(np.int32)[offsets.LEADER // 4 :][:2] = by, _LAUNCHING
        self._aside(address(self._pool), address(self._masks))
        return self.may_run_on


def test_a_worker_leaves_the_processor_of_the_launch_that_woke_it() -> None:
    far = 8 * 1024 - 1
    worker = Worker({0, 1, 64, far})
    assert worker.is_woken(on=1, by=0) == {0, 1, 64, far}
    assert worker.moves == 0, "nothing was in the way"
    assert worker.is_woken(on=0, by=0) == {1, 64, far}
    assert worker.is_woken(on=64, by=64) == {0, 1, far}, "it comes back to where no launch is any more"
    assert worker.is_woken(on=far, by=far) == {0, 1, 64}
    assert worker.is_woken(on=0, by=1) == {0, 1, 64}
    assert worker.moves == 3


def test_a_worker_that_may_run_nowhere_else_stays() -> None:
    worker = Worker({5})
    assert worker.is_woken(on=5, by=5) == worker.is_woken(on=5, by=5) == {5}
    worker.may_run_on = {5, 6}
    assert worker.is_woken(on=5, by=5) == {6}


def test_a_worker_goes_where_it_was_told_to_run_meanwhile() -> None:
    worker = Worker({0, 1, 2, 3})
    assert worker.is_woken(on=3, by=3) == {0, 1, 2}
    worker.may_run_on = {1, 2}  # by taskset, say
    assert worker.is_woken(on=2, by=2) == {1}
    assert worker.is_woken(on=1, by=1) == {2}


@pytest.mark.parametrize("launch_may_run_on", [{1}, None], ids=["", "by a thread that is no more"])
def test_a_worker_takes_no_processor_back_that_its_process_may_not_run_on(launch_may_run_on: set[int] | None) -> None:
    worker = Worker({0, 1})
    assert worker.is_woken(on=0, by=0) == {1}
    worker.launch_may_run_on = launch_may_run_on  # by taskset, say, for all threads: the worker's set is what it was
    assert worker.is_woken(on=1, by=1) == {1}
    assert worker.moves == 1
    worker.launch_may_run_on = {0, 1}
    assert worker.is_woken(on=1, by=1) == {0}, "it may again"


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a thread choose its processors")


@LINUX
def test_workers_look_where_they_are_when_they_are_woken() -> None:
    script("""
    import ctypes
    from steprule.runtime import offsets, pool as pools
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint8))
    moved = set()
    def get(thread, size, mask):
        ctypes.memset(mask, 0, size)
        mask[0] = 0b11
        return 0
    def put(thread, size, mask):
        moved.add((threading.get_ident(), mask[0]))
        return 0
    functions = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1), kind(get), kind(put)  # all run on the second of two
    words = pools.pool().memory[offsets.PLACING // 8 :]
    words[:3] = [ctypes.cast(function, ctypes.c_void_p).value for function in functions]
    theta, g = np.zeros(1_000_000), np.ones(1_000_000)
    opt = sr.Optimizer(theta, "sgd", lr=1.0)
    sr.set_num_threads(2)
    for _ in range(1000):
        opt.step(g)
        time.sleep(0.001)
        if moved:
            break
    worker, = (thread for thread in threading.enumerate() if thread.name.startswith("steprule"))
    assert moved == {(worker.ident, 0b01)}
    assert (theta == -opt.t).all()
    """)


@LINUX
def test_workers_make_room_and_launching_threads_keep_their_processors() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one processor")
    script("""
    allowed = os.sched_getaffinity(0)
    theta, g = np.zeros(4_000_000, np.float32), np.ones(4_000_000, np.float32)
    opt = sr.Optimizer(theta, "sgd", lr=1.0)
    sr.set_num_threads(2)
    opt.step(g)
    worker, = (thread for thread in threading.enumerate() if thread.name.startswith("steprule"))
    for t, own in enumerate(2 * sorted(allowed)):
        os.sched_setaffinity(0, {own})
        os.sched_setaffinity(worker.native_id, {own})
        opt.step(g)  # both run on the one processor
        os.sched_setaffinity(worker.native_id, allowed)
        # As long as the worker finds itself where the launch runs it makes room: where it may run, the launch does not.
        for _ in range(50):
            time.sleep(0.001)
            opt.step(g)
            assert os.sched_getaffinity(0) == {own}
            assert os.sched_getaffinity(worker.native_id) in (allowed, allowed - {own})
    assert (theta == -opt.t).all()
    """)
