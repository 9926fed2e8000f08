"""The driver and its workers: exactly once, never late, across threads, forks and exits."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.errors import HyperparameterError
from steprule.runtime import launch, pool


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wake workers for the smallest launches."""
    monkeypatch.setattr(launch, "WAKE_ELEMENTS", 1)
    monkeypatch.setattr(launch, "GRAIN_ELEMENTS", 1)
    monkeypatch.setattr(launch, "CHUNK", 8)


def script(body: str, timeout: float = 120) -> str:
    """Run a script in a fresh interpreter; a crash shows as its exit code."""
    head = """
    import os, sys, threading, time, warnings
    import numpy as np
    import steprule as sr
    from steprule.runtime import launch
    launch.WAKE_ELEMENTS, launch.GRAIN_ELEMENTS, launch.CHUNK = 1, 1, 1000
    sr.set_num_threads(4)
    """
    script = textwrap.dedent(head) + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.usefixtures("eager")
def test_every_chunk_runs_exactly_once() -> None:
    sr.set_num_threads(4)
    arrays = [np.zeros(n) for n in (1, 8, 9, 100, 1000, 0, 3)]
    optimizer = sr.Optimizer(arrays, "sgd", lr=1.0)
    for _ in range(2000):
        optimizer.step([np.ones_like(a) for a in arrays])
    assert all((a == -2000).all() for a in arrays)


@pytest.mark.usefixtures("eager")
def test_a_late_worker_finds_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    own = pool.Pool()
    start, late = own.start, list[int]()
    monkeypatch.setattr(pool, "_pool", own)
    monkeypatch.setattr(own, "start", late.append)
    sr.set_num_threads(3)
    theta = np.zeros(100)
    optimizer = sr.Optimizer(theta, "sgd", lr=1.0)
    optimizer.step(np.ones(100))
    del optimizer
    gc.collect()
    assert late == [2]
    # The optimizer, its tables and the gradient are gone; the workers begin only now, and still look at the offer.
    fill = [np.full(100, 7.0) for _ in range(50)]
    start(2)
    time.sleep(0.05)
    assert (theta == -1).all()
    assert all((a == 7).all() for a in fill)
    # And they do take part in what comes next.
    for t in range(2, 500):
        sr.Optimizer(theta, "sgd", lr=1.0).step(np.ones(100))
        assert (theta == -t).all()


@pytest.mark.usefixtures("eager")
def test_no_more_threads_take_part_than_the_team_has(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set[int]()

    def note(*_: object) -> None:
        seen.add(threading.get_ident())
        time.sleep(1e-3)  # so that whoever may join has the time

    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(note)

    class Noting:
        address = ctypes.cast(kernel, ctypes.c_void_p).value or 0

    monkeypatch.setattr(pool, "_pool", pool.Pool())
    pool.pool().start(5)  # more than take part, as earlier steps may have left them
    table = launch.Table([400], 1)
    table.set_row(0, Noting(), 0)
    for threads in (1, 2, 3, 1, 2, 3, 6):
        seen.clear()
        table.prepare(pool.Team(threads))
        table.run()
        assert 1 <= len(seen) <= threads
    assert len(seen) > 2, "workers do take part"


def test_a_step_returns_only_when_every_chunk_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two chunks of some hundred microseconds: the caller is through with its own while a worker that
    # began later is not.
    monkeypatch.setattr(launch, "CHUNK", 400_000)
    sr.set_num_threads(2)
    theta, g = np.zeros(800_000), np.ones(800_000)
    optimizer = sr.Optimizer(theta, "sgd", lr=1.0)
    for t in range(1, 201):
        optimizer.step(g)
        assert theta[-1] == theta[399_999] == theta[0] == -t


WAYS = {"as this system does": "", "on a condition variable": """
    from steprule.runtime import offsets, waiting as ways
    from steprule.runtime import driver as drivers, pool as pools
    own = drivers.load(ways.with_condition(offsets.FUNCTIONS, offsets.LOCKS))
    pools.driver = launch.driver = lambda: own
    assert len(own.functions) == 4
"""}  # fmt: skip


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_workers_that_sleep_between_launches_and_arrays_freed_at_once(way: str) -> None:
    script(
        way
        + """
    sr.set_num_threads(3)
    launch.CHUNK = 8
    for n in range(3000):
        theta = np.zeros(50 + n % 40)
        opt = sr.Optimizer(theta, "sgd", lr=1.0)
        opt.step(np.ones_like(theta))
        if n % 7 == 0:
            time.sleep(0.0002 * (n % 3))  # workers spin, or sleep, or fall asleep at this very moment
        opt.step(np.ones_like(theta))
        assert (theta == -2).all()
        del theta, opt
    """
    )


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_workers_that_slept_take_part(way: str) -> None:
    script(
        way
        + """
    import ctypes
    sr.set_num_threads(2)
    theta, g = np.zeros(8_000_000), np.ones(8_000_000)
    opt = sr.Optimizer(theta, "sgd", lr=1.0)
    opt.step(g)
    def seconds_of_worker():
        # What this process computes and the calling thread does not.
        return time.process_time() - time.thread_time()
    time.sleep(0.2)
    before, alone = seconds_of_worker(), time.thread_time()
    for _ in range(60):
        opt.step(g)
        time.sleep(0.002)
    share = (seconds_of_worker() - before) / (time.thread_time() - alone)
    assert (theta == -61).all()
    assert share > 0.02, share
    """
    )


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_as_many_workers_are_woken_as_may_join(way: str) -> None:
    script(
        way
        + """
    import ctypes
    from steprule.runtime import Team
    seen = set()
    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    def note(*_):
        seen.add(threading.get_ident())
        time.sleep(2e-3)
    class Noting:
        address = ctypes.cast(note, ctypes.c_void_p).value
    launch.CHUNK = 8
    table = launch.Table([400], 1)
    table.set_row(0, Noting(), 0)
    def joined():
        time.sleep(0.1)  # until all workers sleep
        seen.clear()
        table.prepare(Team(4))
        table.run()
        return len(seen)
    joined()
    assert any(joined() == 4 for _ in range(20))
    """
    )


def test_steps_in_a_forked_child() -> None:
    script("""
    warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: the very thing under test
    theta = np.zeros(100_000)
    opt = sr.Optimizer(theta, "sgd", lr=1.0)
    opt.step(np.ones_like(theta))
    stop = threading.Event()
    busy = sr.Optimizer(np.zeros(50_000), "adam")
    def churn():
        g = np.ones(50_000)
        while not stop.is_set():
            busy.step(g)
    thread = threading.Thread(target=churn)
    thread.start()
    children = []
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            for _ in range(50):
                opt.step(np.ones_like(theta))
            fresh = np.zeros(5000, np.float32)
            sr.Optimizer(fresh, "lion", lr=0.5).step(np.ones_like(fresh))  # compiles in the child
            os._exit(0 if (theta == -51).all() and (fresh == -0.5).all() else 1)
        children.append(pid)
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    stop.set()
    thread.join()
    assert codes == [0] * 20, codes
    opt.step(np.ones_like(theta))
    assert (theta == -2).all()
    """)


def test_a_child_that_is_forked_while_a_prelude_is_compiled_steps() -> None:
    """Python 3.11 computes cached properties under a lock, which the child would find held."""
    script(
        """
    import builtins
    from steprule.compile import prelude
    warnings.simplefilter("ignore", DeprecationWarning)
    compiling, forked = threading.Event(), threading.Event()
    def slowly(*arguments):
        if threading.current_thread() is not threading.main_thread():
            compiling.set()
            forked.wait()
        return builtins.compile(*arguments)
    prelude.compile = slowly
    mine, other = (sr.Optimizer(np.zeros(3), rule) for rule in ("lion", "adam"))
    thread = threading.Thread(target=lambda: other.step(np.ones(3)))
    thread.start()
    compiling.wait()
    pid = os.fork()
    if pid == 0:
        mine.step(np.ones(3))
        os._exit(0)
    for _ in range(300):
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(pid, 9)
    forked.set()
    thread.join()
    assert (done, code) == (pid, 0), "the child waits"
    """
    )


def test_a_forked_child_has_workers_of_its_own() -> None:
    script("""
    warnings.simplefilter("ignore", DeprecationWarning)
    theta = np.zeros(100_000)
    opt = sr.Optimizer(theta, "sgd", lr=1.0)
    opt.step(np.ones_like(theta))
    def workers():
        return sorted(t.name for t in threading.enumerate() if t.name.startswith("steprule"))
    assert workers() == ["steprule-0", "steprule-1", "steprule-2"], workers()
    pid = os.fork()
    if pid == 0:
        before = workers()
        opt.step(np.ones_like(theta))
        os._exit(0 if before == [] and len(workers()) == 3 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    """)


def test_a_fork_waits_for_a_compilation() -> None:
    script("""
    warnings.simplefilter("ignore", DeprecationWarning)
    from steprule.runtime import jit
    held = threading.Event()
    def compile_for_long():
        with jit._lock:
            held.set()
            time.sleep(0.3)
    threading.Thread(target=compile_for_long).start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        theta = np.zeros(10)
        sr.Optimizer(theta, "lion", lr=1.0).step(np.ones(10))
        os._exit(0 if (theta == -1).all() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    """)


@pytest.mark.parametrize("who", ["handler", "finalizer"])
def test_handlers_and_finalizers_compile_wherever_their_thread_compiles(who: str) -> None:
    script(
        f"""
    who = {who!r}"""
        + """
    import ctypes, faulthandler, signal
    from steprule.runtime import jit
    faulthandler.dump_traceback_later(100, exit=True)  # waiting for oneself has no end
    def compiled(number):
        text = f"define i64 @f() {{ ret i64 {number} }}"
        (at,) = jit.build(text, "f")
        return ctypes.CFUNCTYPE(ctypes.c_int64)(at)() == number
    class Compiles:
        def __del__(self): handled.append(compiled(at + 1_000_000))
    handled, line = [], 0
    signal.signal(signal.SIGINT, lambda *_: Compiles())
    def trace(frame, event, argument):
        global line
        if not any(name in frame.f_code.co_filename for name in ("runtime/jit", "runtime/executable", "llvmlite")):
            return None
        if event == "line":
            line += 1
            if line == at:
                signal.raise_signal(signal.SIGINT) if who == "handler" else Compiles()
        return trace
    jit._host()
    for at in range(1, 20_000, 7):
        line, before = 0, len(handled)
        sys.settrace(trace)
        outer = compiled(at)
        sys.settrace(None)
        assert outer
        if len(handled) == before:
            break
    assert all(handled) and len(handled) > 20, len(handled)
    """
    )


COMPILES = {
    "a kernel": "jit.MachineCode(text, 'f')",
    "the driver": "jit.build(text, 'f')",
    "assembly": "jit.assembly(text)",
    "another processor's": "jit.assembly(text, 'aarch64-linux-gnu')",
    "what there is": "jit.has_half.__wrapped__() in (True, False)",
}


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", COMPILES)
def test_a_handler_raises_wherever_its_thread_compiles_or_frees_code(what: str, stride: int) -> None:
    """What llvmlite holds is freed once, and what the handler raises while it compiles is not lost."""
    script(
        f"""
    stride = {stride}
    def compiled(text): return {COMPILES[what]}"""
        + """
    import gc, signal
    from steprule.runtime import jit
    class Rang(Exception): pass
    def bang(*_): raise Rang
    def trace(frame, event, argument):
        global line
        if not any(name in frame.f_code.co_filename for name in ("runtime/jit", "runtime/executable", "llvmlite")):
            return None
        if event == "line":
            line += 1
            if line == at:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return trace
    signal.signal(signal.SIGINT, bang)
    dropped = []
    sys.unraisablehook = lambda unraisable: dropped.append(unraisable.exc_type)
    gc.disable()  # who else finalizes has lines of its own
    raised = 0
    for times, at in enumerate(range(1, 20_000, stride)):
        line, made = 0, False
        jit._host.cache_clear()
        sys.settrace(trace)
        try:
            code = compiled("define i64 @f() { ret i64 3 }")
            made = bool(code)
            del code  # by a finalizer: Python drops what is raised there
        except Rang:
            raised += 1
        sys.settrace(None)
        if line < at:
            break
        assert made == (raised <= times), at
        jit._free_dropped()  # where it came before a finalizer had begun
    assert raised * stride > 50, raised
    assert len(dropped) == times - raised and set(dropped) <= {Rang}, dropped
    """
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks in a signal handler")
def test_a_handler_forks_while_its_thread_compiles() -> None:
    script("""
    import faulthandler
    warnings.simplefilter("ignore", DeprecationWarning)
    faulthandler.dump_traceback_later(100, exit=True)
    from steprule.runtime import jit
    def step():
        theta = np.zeros(10)
        sr.Optimizer(theta, "lion", lr=1.0).step(np.ones(10))
        return (theta == -1).all()
    with jit._lock:  # and here comes the handler
        if not (pid := os.fork()):
            os._exit(not step())
        assert os.waitpid(pid, 0)[1] == 0
    thread = threading.Thread(target=lambda: os._exit(not step()))  # nobody holds the lock any more
    thread.start()
    thread.join()
    """)


_NO_EXECUTION = """
    import ctypes
    PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
    def forbid():
        if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
            print("no such restriction here")
            os._exit(0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a restriction of Linux")
def test_where_memory_may_not_become_executable_it_says_so_and_the_referee_steps() -> None:
    said = script(
        _NO_EXECUTION
        + """
    import torch, steprule.torch
    rng = np.random.default_rng(0)
    theta = {f"{n}": rng.standard_normal((3, 130)).astype("f4")[:, :: 1 + n % 2] for n in range(70)}
    grads = {name: np.ones_like(array) for name, array in theta.items()}
    start = {name: array.copy() for name, array in theta.items()}
    optimizer = sr.Optimizer(theta, "adam")
    forbid()  # the optimizer's own code is compiled, the driver is not
    for call in (lambda: optimizer.step(grads), lambda: sr.Optimizer(np.ones(3), "lion", clip_norm=1.0)):
        try:
            call()
            raise SystemExit("it was compiled")
        except sr.errors.TargetError as error:
            assert "may not make memory executable" in str(error) and 'backend="numpy"' in str(error), error
    assert optimizer.t == 0 and all((theta[name] == start[name]).all() for name in theta)
    p = torch.ones(4, requires_grad=True)
    p.grad = torch.ones(4)
    adam = steprule.torch.Adam([p])
    try:
        adam.step()
        raise SystemExit("it stepped")
    except sr.errors.TargetError as error:
        assert 'backend="numpy"' in str(error)
    assert (p == 1).all() and not adam.state_dict()["state"]
    for options in ({}, {"states": "8bit", "min_elements": 0}, {"clip_norm": 1.0}, {"update_clip": True}):
        referee = sr.Optimizer(theta, "adam", backend="numpy", **options)
        monitor = sr.Monitor(referee, every=2)
        for _ in range(4):
            referee.step(grads)
        referee.load_state_dict(referee.state_dict())
        assert referee.t == 4 and referee.describe()
    print("all")
    """
    )
    assert said.strip() in ("all", "no such restriction here")


def test_ctrl_c_leaves_t_and_the_parameters_in_step() -> None:
    script(
        """
    import signal
    for name, theta in {
        "dense": np.zeros(1_000_000),
        "strided": np.zeros((400, 2000))[:, ::2],
        "small": np.zeros(10),
        "many": [np.zeros(100) for _ in range(100)],
        "both": [np.zeros(300_000), np.zeros((100, 200))[:, ::2]],
    }.items():
        leaves = theta if isinstance(theta, list) else [theta]
        opt = sr.Optimizer(leaves, "sgd", lr=1.0)
        g = [np.ones_like(leaf) for leaf in leaves]
        opt.step(g)
        hits = 0
        for trial in range(150):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.00005 * (trial % 40))
                while True:
                    opt.step(g)
            except KeyboardInterrupt:
                hits += 1
            # Whatever the moment, all elements have taken the same number of steps, and it is t.
            assert {float(x) for leaf in leaves for x in (leaf.min(), leaf.max())} == {float(-opt.t)}, (name, opt.t)
        assert hits == 150
    """.replace(
            "import signal\n",
            "import signal\n    signal.signal(signal.SIGALRM, lambda *a: os.kill(os.getpid(), signal.SIGINT))\n",
            1,
        )
    )


def test_a_signal_during_a_block_comes_after_it() -> None:
    from steprule.runtime.interrupts import uninterrupted

    order: list[str] = []
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            order.append("the rest of the block")
    except KeyboardInterrupt:
        order.append("the interrupt")
    assert order == ["the rest of the block", "the interrupt"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("eager")
def test_without_threads_to_be_had_the_caller_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(pool, "_pool", pool.Pool())
    sr.set_num_threads(4)
    theta = np.zeros(100)
    optimizer = sr.Optimizer(theta, "sgd", lr=1.0)
    optimizer.step(np.ones(100))
    assert (theta == -1).all()
    assert optimizer.t == 1


def test_a_pool_has_one_memory_where_a_handler_makes_it_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that a handler's step has started wait there."""
    own, made, found = pool.Pool(), pool._memory, list[Any]()

    def interrupted() -> Any:
        memory = made()
        monkeypatch.setattr(pool, "_memory", made)
        found.append(own.memory)
        return memory

    monkeypatch.setattr(pool, "_memory", interrupted)
    assert own.memory is found[0]
    assert own.memory is found[0]


@pytest.mark.usefixtures("eager")
def test_a_handler_that_raises_while_workers_start_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not Ctrl-C, which would end the test run if it came where it should not.
    class AlarmError(Exception): ...

    def handler(*_: object) -> None:
        raise AlarmError

    start, started, own = threading.Thread.start, list[threading.Thread](), pool.Pool()

    def and_interrupt(self: threading.Thread) -> None:
        start(self)
        started.append(self)
        signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(pool, "_pool", own)
    sr.set_num_threads(4)
    optimizer = sr.Optimizer(np.zeros(100), "sgd", lr=1.0)
    monkeypatch.setattr(threading.Thread, "start", and_interrupt)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(AlarmError):
            optimizer.step(np.ones(100))
        optimizer.step(np.ones(100))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(started) == 3, "workers that nobody counted"
    assert optimizer.t == 1


def test_optimizers_in_many_threads_while_another_pool_is_busy() -> None:
    script("""
    stop = threading.Event()
    def multiply():
        a = np.ones((300, 300))
        while not stop.is_set():
            a @ a
    others = [threading.Thread(target=multiply) for _ in range(2)]
    for other in others:
        other.start()
    thetas = [np.zeros(20_000) for _ in range(6)]
    def train(theta):
        opt = sr.Optimizer(theta, "sgd", lr=1.0)
        for _ in range(300):
            opt.step(np.ones_like(theta))
    shared, lock = np.zeros(20_000), threading.Lock()
    common = sr.Optimizer(shared, "sgd", lr=1.0)
    def together():
        for _ in range(100):
            with lock:
                common.step(np.ones_like(shared))
    threads = [threading.Thread(target=train, args=(theta,)) for theta in thetas]
    threads += [threading.Thread(target=together) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    for other in others:
        other.join()
    assert all((theta == -300).all() for theta in thetas)
    assert (shared == -400).all() and common.t == 400
    """)


def test_the_interpreter_may_exit_in_the_middle_of_a_step() -> None:
    for delay in (0.0, 0.01, 0.05, 0.1):
        script(f"""
        def churn():
            theta = np.zeros(300_000)
            opt = sr.Optimizer(theta, "adam")
            while True:
                opt.step(np.ones_like(theta))
        for _ in range(3):
            threading.Thread(target=churn, daemon=True).start()
        time.sleep({delay})
        """)


def test_the_interpreter_waits_at_exit_for_a_compilation() -> None:
    said = script("""
    from steprule.runtime import jit
    held = threading.Event()
    def compile_for_long():
        with jit._lock:
            held.set()
            time.sleep(0.3)
            os.write(1, b"compiled")
    threading.Thread(target=compile_for_long, daemon=True).start()
    held.wait()
    """)
    assert said == "compiled"


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_nothing_spins_when_idle(way: str) -> None:
    script(
        way
        + """
    theta = np.zeros(1_000_000)
    opt = sr.Optimizer(theta, "adam")
    for _ in range(5):
        opt.step(np.ones_like(theta))
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.005
    """
    )


def test_more_launches_at_once_than_there_are_slots() -> None:
    script("""
    from steprule.runtime import offsets
    thetas = [np.zeros(20_000) for _ in range(2 * offsets.SLOT_COUNT)]
    def train(theta):
        opt = sr.Optimizer(theta, "sgd", lr=1.0)
        for _ in range(60):
            opt.step(np.ones_like(theta))
    threads = [threading.Thread(target=train, args=(theta,)) for theta in thetas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((theta == -60).all() for theta in thetas)
    """)


def test_a_process_that_is_paused_and_goes_on() -> None:
    script("""
    import signal, subprocess
    theta = np.zeros(100_000)
    opt = sr.Optimizer(theta, "sgd", lr=1.0)
    g = np.ones_like(theta)
    once = f"kill -STOP {os.getpid()}; sleep 0.05; kill -CONT {os.getpid()}; sleep 0.03"
    pause = "; ".join([once] * 8)
    other = subprocess.Popen(["sh", "-c", pause])
    while other.poll() is None:
        opt.step(g)
    assert (theta == -opt.t).all()
    """)


def test_threads_are_checked() -> None:
    before = sr.get_num_threads()
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(HyperparameterError, match="integer of at least 1"):
            sr.set_num_threads(wrong)  # type: ignore[arg-type]
    assert sr.get_num_threads() == before
