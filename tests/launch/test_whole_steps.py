"""A step is whole, or has not happened: whatever a signal handler does, at whatever line it runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import steprule as sr
import steprule.torch as st
from steprule.errors import StateError
from tests.launch.number_rules import RULES
from tests.tracing import at_line

ROOMS = ("/steprule/doors/", "/steprule/launch/", "/steprule/runtime/", "/steprule/monitor/")
SIGNAL = signal.SIGUSR1


@pytest.fixture(autouse=True)
def _gradients_are_recorded() -> Iterator[None]:
    """Leave torch as it was.

    A tracer raises between the last line of a `with` and its end, where no signal handler runs.
    """
    yield
    torch.set_grad_enabled(True)


class HandlerError(ArithmeticError, ValueError, TypeError, LookupError):
    """What a handler raises: of every kind that code may catch, and must not take for its own."""


class Run:
    """An optimizer with fixed gradients: ``step`` takes a step, ``state`` is all that a step changes, as bytes."""

    def __init__(
        self, step: Callable[[], None], state: Callable[[], Any], load: Callable[[], None], optimizer: Any
    ) -> None:
        self.step, self.state, self.load, self.optimizer = step, state, load, optimizer

    def t(self) -> int:
        """The steps taken."""
        state = getattr(self.optimizer, "state", None)
        return int(next(iter(state.values()))["step"]) if state else int(self.optimizer.t)


def flat(value: Any) -> Any:
    """Return arrays and tensors as bytes, in whatever holds them."""
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [flat(item) for item in value]
    if isinstance(value, torch.Tensor):
        value = value.detach().clone().view(torch.uint8) if value.dim() else value.item()
        return flat(value.numpy()) if isinstance(value, torch.Tensor) else value
    return value.tobytes() if isinstance(value, np.ndarray) else value


def numpy_run(arrays: list[Any], rule: Any = "adam", monitored: bool = False, **options: Any) -> Run:
    rng = np.random.default_rng(0)
    grads = [rng.standard_normal(array.shape).astype(array.dtype) for array in arrays]
    for array in arrays:
        array[...] = rng.standard_normal(array.shape)
    optimizer = sr.Optimizer(arrays, rule, **options)
    if monitored:
        sr.Monitor(optimizer, every=1)
    saved = optimizer.state_dict()

    def state() -> Any:
        # The format of the gradients' decision counts as well.
        return flat([arrays, optimizer.state_dict(), optimizer.t, optimizer.skipped])

    return Run(lambda: optimizer.step(grads), state, lambda: optimizer.load_state_dict(saved), optimizer)


def torch_run(
    tensors: list[torch.Tensor], make: Any = st.Adam, monitored: bool = False, sparse: bool = False, **options: Any
) -> Run:
    torch.manual_seed(0)
    params = [torch.nn.Parameter(tensor) for tensor in tensors]
    for param in params:
        torch.nn.init.normal_(param)
        grad = torch.randn(param.shape, dtype=param.dtype)
        param.grad = grad.to_sparse() if sparse else grad
    optimizer = make(params, lr=0.1, **options)
    if monitored:
        sr.Monitor(optimizer, every=1)
    saved = optimizer.state_dict()

    def state() -> Any:
        return flat([params, optimizer.state_dict()])

    return Run(optimizer.step, state, lambda: optimizer.load_state_dict(saved), optimizer)


def strided(*shape: int) -> Any:
    return np.zeros((*shape[:-1], 2 * shape[-1]), np.float32)[..., ::2]


RUNS: dict[str, Callable[[], Run]] = {
    "dense": lambda: numpy_run([np.zeros(40, np.float32), np.zeros((3, 5))]),
    "strided": lambda: numpy_run([np.zeros(40, np.float32), strided(3, 50), strided(7)]),
    "scalar slots": lambda: numpy_run([np.zeros(9)], "nadam"),
    "8bit": lambda: numpy_run([np.asfortranarray(np.zeros((4, 130), np.float32))], states="8bit", min_elements=0),
    "referee": lambda: numpy_run([np.zeros(9), strided(3, 4)], backend="numpy"),
    "guards": lambda: numpy_run([np.zeros(9), strided(3, 4)], clip_norm=0.1, update_clip=True),
    "monitored": lambda: numpy_run([np.zeros(9), strided(3, 4)], monitored=True),
    "monitored referee": lambda: numpy_run([np.zeros(9)], monitored=True, backend="numpy"),
    "numbers of tensors": lambda: numpy_run([np.zeros(9), np.zeros(3)], RULES["layer_moment"]),
    "sums of the step itself": lambda: numpy_run([np.zeros(9), strided(3, 4)], RULES["mixed"]),
    "torch": lambda: torch_run([torch.zeros(9), torch.zeros(3, 4)]),
    "torch, scalar slots": lambda: torch_run([torch.zeros(9)], st.NAdam),
    "torch, strided": lambda: torch_run([torch.zeros(9), torch.zeros(3, 8)[:, ::2]]),
    "torch, guards": lambda: torch_run([torch.zeros(9), torch.zeros(3, 8)[:, ::2]], clip_norm=0.1, update_clip=True),
    "torch, numbers of tensors": lambda: torch_run(
        [torch.zeros(9), torch.zeros(3)], st.Optimizer, rule=RULES["layer_moment"]
    ),
    "torch, sums of the step itself": lambda: torch_run([torch.zeros(9)], st.Optimizer, rule=RULES["mixed"]),
    "torch, sparse": lambda: torch_run([torch.zeros(9, 2)], st.Adagrad, sparse=True),
    "torch, monitored": lambda: torch_run([torch.zeros(9), torch.zeros(3, 8)[:, ::2]], monitored=True),
}


@pytest.fixture
def handler() -> Iterator[Callable[[Callable[[], None]], Any]]:
    before = signal.getsignal(SIGNAL)
    yield lambda act: signal.signal(SIGNAL, lambda *_: act())
    signal.signal(SIGNAL, before)


def signalled(step: Callable[[], None], line: int) -> int:
    """Take a step in which the signal comes at that line of ours, and return how many lines there were until then."""
    with at_line(ROOMS, line, lambda: signal.raise_signal(SIGNAL)) as lines:
        step()
    return len(lines)


def lines_of(run: Run) -> int:
    return signalled(run.step, -1)


def each_line(kind: str, begun: int, stride: int) -> Iterator[tuple[Run, Any, Any, int]]:
    """Yield a run for every line at which a signal may come, its state before the step and after it."""
    for _ in range(2):  # the first compiles
        run = RUNS[kind]()
        for _ in range(begun):
            run.step()
        states = [run.state()]
        lines = lines_of(run)
    states.append(run.state())
    assert states[0] != states[1]
    for line in range(1, lines + 1, stride):
        own = RUNS[kind]()
        for _ in range(begun):
            own.step()
        yield own, *states, line


# At every line where a step is one call; elsewhere at some, and at more of them in the long sweep.
SHORT = {("dense", 0): 1, ("dense", 2): 1, ("torch", 0): 13, ("torch", 2): 1}
PLAIN = {(kind, begun): SHORT.get((kind, begun), 41) for kind in RUNS for begun in (0, 2)}
LONG = {case: 7 for case, stride in PLAIN.items() if stride > 1}
CASES = [
    pytest.param(*case, stride, id=f"{case[0]}-{case[1]}-{stride}", marks=[pytest.mark.slow] if some is LONG else [])
    for some in (PLAIN, LONG)
    for case, stride in some.items()
]


@pytest.mark.parametrize(("kind", "begun", "stride"), CASES)
def test_a_handler_that_raises(kind: str, begun: int, stride: int, handler: Any) -> None:
    def act() -> None:
        raise HandlerError

    handler(act)
    for run, before, after, line in each_line(kind, begun, stride):
        with pytest.raises(HandlerError):
            signalled(run.step, line)
        found = run.state()
        assert found in (before, after), f"line {line}"
        if found == before:
            run.step()
        assert run.state() == after, f"line {line}"


@pytest.mark.parametrize(("kind", "begun", "stride"), CASES)
def test_what_a_handler_finds(kind: str, begun: int, stride: int, handler: Any) -> None:
    for run, before, after, line in each_line(kind, begun, stride):
        found: list[Any] = []
        handler(lambda run=run, found=found: found.append(run.state()))
        signalled(run.step, line)
        assert len(found) == 1
        assert found[0] in (before, after), f"line {line}"
        assert run.state() == after, f"line {line}"


@pytest.mark.parametrize("door", ["numpy", "torch"])
def test_a_monitor_does_not_count_a_step_that_was_not_taken(door: str, handler: Any) -> None:
    """The step that is interrupted would be read, and the launch has taken one before that was not."""

    def act() -> None:
        raise HandlerError

    def begun() -> tuple[Run, sr.Monitor]:
        run = numpy_run([np.zeros(9)]) if door == "numpy" else torch_run([torch.zeros(9)])
        monitor = sr.Monitor(run.optimizer, every=2)
        for _ in range(3):
            run.step()
        return run, monitor

    handler(act)
    lines = lines_of(begun()[0])
    for line in range(1, lines):
        run, monitor = begun()
        with pytest.raises(HandlerError):
            signalled(run.step, line)
        if run.t() == 4:
            break
        for _ in range(4):
            run.step()
        assert [row["step"] for row in monitor.rows] == [1, 2, 4, 6], f"line {line}"
    assert 10 < line < lines


@pytest.mark.parametrize("what", ["step", "load"])
@pytest.mark.parametrize("kind", RUNS)
def test_a_handler_that_steps_or_loads_is_refused(kind: str, what: str, handler: Any) -> None:
    refused: list[str] = []
    for run, before, after, line in each_line(kind, 2, 29):
        handler(getattr(run, what))
        try:
            signalled(run.step, line)
        except StateError as error:
            refused.append(str(error))
            assert run.state() in (before, after), f"line {line}"
    assert refused
    assert all("is under way" in message for message in refused)


def test_all_handlers_wait_for_the_end_of_a_block() -> None:
    from steprule.runtime.interrupts import uninterrupted

    order: list[str] = []
    numbers = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, _: object) -> None:
        order.append(signal.Signals(number).name)
        if number != signal.SIGTERM:
            raise TimeoutError(number)

    def block() -> None:
        with uninterrupted(), uninterrupted():
            for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR2):
                signal.raise_signal(number)
            order.append("the rest of the block")

    handlers: Any = {number: lambda n, f: note(n, f) for number in numbers}
    try:
        for number, own in handlers.items():
            signal.signal(number, own)
        with pytest.raises(TimeoutError):
            block()
        assert order == ["the rest of the block", "SIGUSR2", "SIGUSR1", "SIGTERM"]
        assert {number: signal.getsignal(number) for number in numbers} == handlers
    finally:
        for number, own in before.items():
            signal.signal(number, own)


def test_handlers_that_a_block_sets_stay() -> None:
    from steprule.runtime.interrupts import uninterrupted

    before = signal.getsignal(SIGNAL)
    try:
        signal.signal(SIGNAL, lambda *_: None)
        with uninterrupted():
            signal.signal(SIGNAL, signal.SIG_IGN)
        assert signal.getsignal(SIGNAL) is signal.SIG_IGN
    finally:
        signal.signal(SIGNAL, before)


def run_script(body: str) -> None:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(body)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_at_random_times() -> None:
    """Signals of two kinds, one whose handler raises and one whose handler looks, while steps run."""
    run_script("""
    import os, signal, threading, time
    import numpy as np, torch
    import steprule as sr, steprule.torch as st
    from steprule.runtime import launch
    launch.WAKE_ELEMENTS, launch.CHUNK = 1, 1000
    sr.set_num_threads(3)
    class Alarm(Exception): pass
    def dense(): return [np.zeros(n) for n in (10, 5000, 40_000)]
    def strided(): return [np.zeros(100), np.zeros((40, 300))[:, ::2]]
    rng = np.random.default_rng(0)
    for make in (dense, strided):
        for door in ("numpy", "torch"):
            theta = make()
            if door == "numpy":
                opt = sr.Optimizer(theta, "sgd", lr=1.0)
                g = [np.ones_like(x) for x in theta]
                step, t = lambda: opt.step(g), lambda: opt.t
            else:
                tensors = [torch.from_numpy(x).requires_grad_() for x in theta]
                for x in tensors: x.grad = torch.ones_like(x)
                opt = st.RMSprop(tensors, lr=1.0, alpha=0.0, eps=0.0)
                step = opt.step
                t = lambda: int(opt.state[tensors[0]]["step"].item()) if opt.state else 0
            torn = []
            def look(where):
                found = {float(x) for leaf in theta for x in (leaf.min(), leaf.max())}
                if found != {float(-t())}: torn.append((where, t(), found))
            armed = False
            def bang(*_):  # a signal may come late: by way of another thread, which must first get a core
                global armed
                if armed:
                    armed = False
                    raise Alarm
            signal.signal(signal.SIGALRM, bang)
            signal.signal(signal.SIGUSR1, lambda *_: look("in the handler"))
            done = threading.Event()
            def looks():
                while not done.wait(0.0007): os.kill(os.getpid(), signal.SIGUSR1)
            step()  # compiles the kernel, and the next one what looks at tensors: alarms are for steps alone
            step()
            thread = threading.Thread(target=looks); thread.start()
            hits, end = 0, time.monotonic() + 1.5
            while time.monotonic() < end:
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(0.0001, 0.002)))
                    until = time.monotonic() + 0.05
                    while time.monotonic() < until: step()
                    armed = False
                except Alarm:
                    hits += 1
                look("after the alarm")
            signal.setitimer(signal.ITIMER_REAL, 0)
            done.set(); thread.join()
            assert hits > 5, hits
            assert not torn, (make.__name__, door, torn[:3])
    """)


def test_the_bits_do_not_depend_on_the_floating_point_mode_of_the_caller() -> None:
    run_script("""
    import numpy as np, torch
    import steprule as sr
    from steprule.runtime import launch
    launch.WAKE_ELEMENTS, launch.GRAIN_ELEMENTS, launch.CHUNK = 1, 1, 100
    def run(threads, flushed):
        sr.set_num_threads(threads)
        theta = [np.zeros(3000, np.float32), np.zeros((30, 100), np.float32)[:, ::2]]
        g = [np.full_like(x, 1e-37) for x in theta]
        opt = sr.Optimizer(theta, "sgd", lr=1e-3)
        torch.set_flush_denormal(flushed)
        for _ in range(5): opt.step(g)
        kept = float(np.float64(5e-324) * 1) != 0
        torch.set_flush_denormal(False)
        assert kept != flushed  # the caller's mode is as it was
        return [x.tobytes() for x in theta]
    assert torch.set_flush_denormal(True), "this processor cannot flush subnormals"
    torch.set_flush_denormal(False)
    found = [run(threads, flushed) for threads in (1, 2, 3) for flushed in (False, True)]
    assert all(own == found[0] for own in found)
    assert np.frombuffer(found[0][0], np.float32)[0] != 0
    """)


def test_memory_that_runs_out_is_noticed_before_anything_moves() -> None:
    run_script("""
    import resource
    import numpy as np
    import steprule as sr
    def arrays(): return [np.zeros(1000, np.float32), np.asfortranarray(np.zeros((3, 1_000_000), np.float32))]
    for options in ({"states": "8bit"}, {"backend": "numpy"}, {}, {"clip_norm": 1.0}):
        theta, g = arrays(), [np.ones_like(x) for x in arrays()]
        g[1] = np.ascontiguousarray(g[1])  # walked apart
        opt = sr.Optimizer(theta, "adam", lr=0.1, **options)
        monitor = sr.Monitor(opt, every=1) if not options else None
        opt.step(g)
        before = [x.copy() for x in theta]
        size = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (size + (3 << 20), resource.RLIM_INFINITY))
        failed = False
        try: opt.step(g)
        except MemoryError: failed = True
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert opt.t == 2 - failed, options
        assert all((x == y).all() == failed for x, y in zip(theta, before)), options
        assert failed or not options or "clip_norm" in options, options
    """)


_TORN_DOWN = """
import os
import numpy as np, steprule as sr
class Last:
    def __del__(self):
        self.step([self.grad, self.grad])
        self.write(1, f"{self.optimizer.t} {float(self.theta[-1, -1]):.2f}".encode())
sr.set_num_threads(2)
theta = np.ones((500, 600))
last = Last()
last.optimizer = sr.Optimizer([theta, np.ones((600, 500)).T], "sgd", lr=0.25)
last.step, last.write, last.theta, last.grad = last.optimizer.step, os.write, theta, np.ones((500, 600))
last.step([last.grad, last.grad])
"""


def test_a_finalizer_steps_when_python_is_torn_down() -> None:
    """Python imports nothing then, as ``array.ctypes`` does: with workers, and with an array that goes by parts."""
    done = subprocess.run([sys.executable, "-c", _TORN_DOWN], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr) == ("2 0.50", "")
