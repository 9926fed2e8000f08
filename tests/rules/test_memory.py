"""A search over thousands of rules must not grow: a rule that nobody has is freed, with all that was made of it."""

from __future__ import annotations

import gc
import linecache
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.engine import Loader, PassKey, kernel, monitored_sums, plan
from steprule.formats import FORMATS, Storage
from steprule.launch.backends import BACKENDS
from steprule.launch.machine import MACHINE
from steprule.launch.referee import REFEREE
from steprule.rules import Rule, combine
from steprule.rules.guard import Guard
from steprule.runtime import Table, Team, jit
from steprule.runtime.addresses import address
from tests.cases import FOR_VECTORS as CATALOGUE

MAPS, STATM = Path("/proc/self/maps"), Path("/proc/self/statm")
linux = pytest.mark.skipif(not MAPS.exists(), reason="reads Linux's list of the process's memory")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Let nothing be freed but by reference counts."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def own_rule(number: int = 0) -> Rule:
    """Return a rule that was not there before, with Adam's slots."""
    factor = 1.0 + number / 7919

    def mine(
        theta: Any, g: Any, m: Any, v: sr.SecondMoment, *, lr: sr.Rate = 0.1, eps: sr.NonNegative = 1e-8, t: Any
    ) -> tuple[Any, ...]:
        m = 0.9 * m + 0.1 * g * factor
        v = 0.99 * v + 0.01 * g**2
        return theta - lr / (1 - 0.9**t) * m / (sr.sqrt(v) + eps), m, v

    return sr.rule(mine)


def is_executable(place: int) -> bool:
    """Whether there is machine code at an address."""
    for line in MAPS.read_text().splitlines():
        bounds, rights, *_ = line.split()
        low, high = (int(bound, 16) for bound in bounds.split("-"))
        if low <= place < high:
            return "x" in rights
    return False


_PLAIN = Storage(FORMATS["float32"])
_LOW = Storage(FORMATS["float32"], slots=(("m", "8bit"), ("v", "bfloat16")))


def _loader(name: str) -> Loader:
    """Return a backend by name; the test is skipped where its library is not installed."""
    if name in BACKENDS:
        return BACKENDS[name]
    pytest.importorskip(name)
    if name == "jax":
        from steprule.doors.jax.passes import JAX

        return JAX
    pytest.importorskip("torch")
    from steprule.doors.torch.device_table import TRITON

    return TRITON


@pytest.mark.parametrize("backend", ["llvm", "numpy", "jax", "triton"])
@pytest.mark.parametrize("storage", [_PLAIN, _LOW], ids=["plain", "low"])
def test_what_is_made_of_a_rule_holds_it_in_no_cycle(backend: str, storage: Storage, no_collector: None) -> None:
    loader = _loader(backend)
    rule = own_rule()
    variant = rule.variant(rule.resolve({}))
    guard = Guard(unscales=True, clips_norm=True)
    passes: tuple[tuple[PassKey, Guard], ...] = (
        ("step", guard),
        ("norm", Guard()),
        ("monitored", Guard()),
        (("step", 0), Guard(clips_update=True)),
    )
    for which, own in passes if backend != "jax" else (passes[0], passes[-1]):
        made = kernel(rule, variant, storage, loader, own, which)
        assert kernel(rule, variant, storage, loader, own, which) is made
    assert len(made.plan.prelude.function(*[0.5] * len(made.plan.prelude.arguments)))
    assert monitored_sums(rule, variant, storage) == monitored_sums(rule, variant, storage)
    assert plan(rule, variant, storage, kind="probe") is plan(rule, variant, storage, kind="probe")
    functions = [made.plan.prelude.function, *(filter(None, made.code) if backend == "jax" else ())]
    functions += [cell.cell_contents for cell in made.code.__closure__ or ()] if backend == "numpy" else []
    gone = [weakref.ref(thing) for thing in (rule, made, made.plan, *functions)]
    del rule, made, functions
    assert [ref() for ref in gone] == [None] * len(gone)


def _step_numpy(rule: Rule) -> None:
    several: list[dict[str, Any]] = [{}, {"backend": "numpy"}, {"clip_norm": 1.0, "update_clip": True}]
    for options in several:
        x = np.ones((3, 4), np.float32)
        optimizer = sr.Optimizer(x, rule, **options)
        optimizer.step(x.copy())


def _step_monitored(rule: Rule) -> None:
    x = np.ones((3, 4), np.float32)
    optimizer = sr.Optimizer(x, rule, states={"m": "8bit", "v": "bfloat16"}, min_elements=0)
    monitor = sr.Monitor(optimizer, every=1)
    optimizer.step(x.copy())
    assert monitor.latest
    sr.Optimizer(x.copy(), rule).load_state_dict(optimizer.state_dict(), convert=True)


def _step_torch(rule: Rule) -> None:
    torch = pytest.importorskip("torch")
    from steprule.torch import Optimizer

    several: list[dict[str, Any]] = [{}, {"lr": 0.2}, {"clip_norm": 1.0, "update_clip": True}]
    for options in several:
        p = torch.nn.Parameter(torch.ones(3, 4))
        p.grad = torch.ones(3, 4)
        Optimizer([p], rule, **options).step()


def _step_jax(rule: Rule) -> None:
    jnp = pytest.importorskip("jax.numpy")
    import steprule.jax as jax_door

    x = jnp.ones((3, 4))
    made = jax_door.transformation(rule)
    made.update(x, made.init(x), x)


DOORS = [_step_numpy, _step_monitored, _step_torch, _step_jax]


@pytest.mark.parametrize("step", DOORS, ids=lambda step: step.__name__.removeprefix("_step_"))
def test_a_rule_that_has_stepped_is_freed(step: Callable[[Rule], None]) -> None:
    rule = own_rule()
    step(rule)
    gone = weakref.ref(rule)
    del rule
    gc.collect()
    assert gone() is None


def _resident() -> int:
    return int(STATM.read_text().split()[1]) * 4096


@linux
def test_a_search_over_rules_does_not_grow(no_collector: None) -> None:
    def search(first: int, count: int) -> None:
        for number in range(first, first + count):
            rule = own_rule(number)
            made = kernel(rule, rule.variant(rule.resolve({})), _PLAIN, REFEREE)
            made.code(*(np.ones(4, np.float32) for _ in made.plan.planes), (0.1,) * 4)

    search(0, 100)
    before = _resident()
    search(100, 400)
    assert _resident() - before < 400 * 2048


@linux
def test_machine_code_is_freed_with_its_rule(no_collector: None) -> None:
    rule = own_rule()
    code = kernel(rule, rule.variant(rule.resolve({})), _PLAIN, MACHINE).code.address
    assert is_executable(code)
    del rule
    assert not is_executable(code)


@linux
def test_a_launch_keeps_its_machine_code(no_collector: None) -> None:
    rule = own_rule()
    made = kernel(rule, rule.variant(rule.resolve({})), _PLAIN, MACHINE)
    values = {**rule.resolve({}), "t": 1}
    scalars = np.array(made.plan.prelude.function(*(values[name] for name in made.plan.prelude.arguments)), float)
    arrays = [
        np.ones(100, np.float32),
        np.ones(100, np.float32),
        *(np.zeros(100, np.float32) for _ in made.state_planes),
    ]
    expected = rule.compute([array[:1] for array in arrays], 1, rule.resolve({}))[0]
    table = Table([100], len(arrays))
    table.set_row(0, made.code, address(scalars))
    table.addresses[0] = [address(array) for array in arrays]
    code = made.code.address
    del rule, made
    assert is_executable(code)
    table.prepare(Team(2))
    table.run()
    np.testing.assert_array_equal(arrays[0], np.repeat(expected, 100))
    del table
    assert not is_executable(code)


def test_code_is_freed_later_where_another_thread_compiles() -> None:
    rule = own_rule()
    code = kernel(rule, rule.variant(rule.resolve({})), _PLAIN, MACHINE).code
    assert code is not None
    del rule
    held, done = threading.Event(), threading.Event()

    def compile_slowly() -> None:
        with jit._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=compile_slowly)
    thread.start()
    held.wait()
    del code
    gc.collect()
    assert jit._dropped
    done.set()
    thread.join()
    other = own_rule(1)
    assert kernel(other, other.variant(other.resolve({})), _PLAIN, MACHINE).code.address
    assert not jit._dropped


def test_rules_come_and_go_in_many_threads() -> None:
    wrong: list[Any] = []

    def search(first: int) -> None:
        for number in range(first, first + 12):
            rule = own_rule(number)
            x, y = np.ones(70_000, np.float32), np.ones(3, np.float32)
            for array, backend in ((x, "llvm"), (y, "numpy")):
                sr.Optimizer(array, rule, backend=backend).step(np.full_like(array, 0.5))
            if not (x == y[0]).all():
                wrong.append(number)

    threads = [threading.Thread(target=search, args=(100 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_combined_rules_are_made_once_while_somebody_has_them(no_collector: None) -> None:
    rule = own_rule()
    combined = sr.cautious(sr.decoupled(rule))
    assert sr.cautious(sr.decoupled(rule)) is combined
    for number in range(combine._last.maxlen or 0):
        sr.l2(own_rule(number))
    assert sr.cautious(sr.decoupled(rule)) is combined
    gone = [weakref.ref(rule), weakref.ref(combined)]
    del rule, combined
    for number in range(combine._last.maxlen or 0):
        sr.l2(own_rule(number))
    assert [ref() for ref in gone] == [None, None]


def test_a_sweep_that_combines_in_its_loop_compiles_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    original = jit.MachineCode.__init__

    def count(self: jit.MachineCode, text: str, *names: Any) -> None:
        compiled.append(text)
        original(self, text, *names)

    monkeypatch.setattr(jit.MachineCode, "__init__", count)
    x = np.ones(3)
    for lr in (0.1, 0.2, 0.3):
        sr.Optimizer(x, sr.cautious("adam", name="swept"), lr=lr).step(np.ones(3))
        gc.collect()
    assert len(compiled) == 1


def test_rules_of_the_catalogue_stay() -> None:
    made = kernel(CATALOGUE["adam"], CATALOGUE["adam"].variant(CATALOGUE["adam"].resolve({})), _PLAIN, MACHINE)
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is not None


def test_the_text_of_a_gpus_kernel_goes_with_it() -> None:
    pytest.importorskip("triton")
    from steprule.runtime import gpu

    def texts() -> set[str]:
        return {name for name in linecache.cache if name.startswith("<steprule ")}

    before = texts()
    for number in (1, 2):
        rule = own_rule(-number)
        kernel(rule, rule.variant(rule.resolve({})), _PLAIN, _loader("triton"))
    assert len(texts() - before) == 2
    del rule
    gpu.load.cache_clear()
    gc.collect()
    assert len(texts() - before) <= 1  # Triton itself holds the last function of a name
