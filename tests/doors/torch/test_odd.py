"""One odd tensor among others (strided, transposed, expanded, sparse, absent now and then): the launch serves again."""

from __future__ import annotations

import signal
import sys
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor

from steprule.doors.torch import odd
from steprule.doors.torch.base import Base
from steprule.errors import StructureError
from steprule.launch import slices
from steprule.monitor import Monitor
from steprule.torch import SGD, Adagrad, Adam, Optimizer, SparseAdam
from tests.covering import rotated
from tests.doors.torch.cases import assert_equal, tensors_of
from tests.tracing import at_line

SHAPE = (6, 4)


def sparse(param: Tensor, t: int) -> Tensor:
    """Return a gradient of two rows, or four elements, of which one stands there twice."""
    indices = torch.tensor([[1, t % 6, 1]])
    return torch.sparse_coo_tensor(indices, normal((3, 4), t).to(param.dtype), param.shape)


def sparse_elements(param: Tensor, t: int) -> Tensor:
    indices = torch.tensor([[1, t % 6, 1, 5], [0, 3, 0, t % 4]])
    return torch.sparse_coo_tensor(indices, normal((4,), t).to(param.dtype), param.shape)


def normal(shape: tuple[int, ...], t: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(t))


def strided_parameter(param: Tensor, t: int) -> Tensor:
    return normal(SHAPE, t)


KINDS: dict[str, Callable[[Tensor, int], Tensor | None]] = {
    "strided parameter": strided_parameter,
    "transposed": lambda param, t: normal((4, 6), t).t(),
    "transposed now and then": lambda param, t: normal((4, 6), t).t() if t % 3 == 1 else normal(SHAPE, t),
    "expanded": lambda param, t: normal((6, 1), t).expand(6, 4),
    "another type": lambda param, t: normal(SHAPE, t).double(),
    "a sign that is due": lambda param, t: torch._neg_view(normal(SHAPE, t)),
    "unaligned": lambda param, t: unaligned(normal(SHAPE, t)),
    "unaligned, absent now and then": lambda param, t: unaligned(normal(SHAPE, t)) if t % 2 else None,
    "absent now and then": lambda param, t: normal(SHAPE, t) if t % 2 else None,
    "absent, else transposed": lambda param, t: normal((4, 6), t).t() if t % 2 else None,
    "sparse": sparse,
    "sparse, absent now and then": lambda param, t: sparse(param, t) if t % 2 else None,
    "sparse elements": sparse_elements,
    "sparse, strided parameter": sparse,
}
MOST = 4
"""How often a step is laid out at most: a gradient that comes and goes is known when it is back the second time."""
SELDOM = {"transposed now and then"}
CLASSES: dict[str, Callable[..., Base]] = {
    "Adam": Adam,
    "NAdam": lambda params, **options: Optimizer(params, rule="nadam", **options),
    "Adam, update_clip": lambda params, **options: Adam(params, update_clip=True, **options),
    "SGD": lambda params, **options: SGD(params, lr=0.1, **options),
    "Adagrad": Adagrad,
}


def unaligned(tensor: Tensor) -> Tensor:
    home = bytearray(4 * tensor.numel() + 1)
    return torch.frombuffer(home, dtype=torch.float32, offset=1).view(tensor.shape).copy_(tensor)


def made(make: Callable[..., Base], kind: str, at: int, **options: Any) -> tuple[Base, list[torch.nn.Parameter]]:
    tensors = [normal(SHAPE, 100 + place) for place in range(4)]
    if "strided parameter" in kind:
        tensors[at] = normal((6, 8), 7)[:, ::2]
    params = [torch.nn.Parameter(tensor) for tensor in tensors]
    return make(params, **options), params


def give(params: list[torch.nn.Parameter], kind: str, at: int, t: int) -> None:
    for place, param in enumerate(params):
        param.grad = normal(SHAPE, 10 * t + place).to(param.dtype)
    set_gradient(params[at], KINDS[kind](params[at], t + 50))


def set_gradient(param: torch.nn.Parameter, grad: Tensor | None) -> None:
    if grad is not None and grad.dtype != param.dtype:
        param.grad_dtype = None
    param.grad = grad


def forget(optimizer: Base) -> None:
    """Let the next step be laid out as if it were the first."""
    optimizer._forget()


def takes(name: str, kind: str) -> bool:
    return "sparse" not in kind or name in ("SGD", "Adagrad")


PAIRS = [(name, kind) for name in CLASSES for kind in KINDS if takes(name, kind)]
PLACES = [(name, kind, at) for name, kind in PAIRS for at in (0, 2, 3)]
GUARDS: dict[str, dict[str, Any]] = {"alone": {}, "guards": {"clip_norm": 0.5, "nonfinite": "skip"}}


@pytest.mark.parametrize(
    ("place", "guards"),
    rotated(PLACES, [*GUARDS]),
    ids=lambda x: "-".join(map(str, x)) if isinstance(x, tuple) else x,
)
def test_the_launch_serves_again_with_the_bits_of_a_fresh_one(
    place: tuple[str, str, int], guards: str, layouts: list[Base]
) -> None:
    (name, kind, at), options = place, GUARDS[guards]
    (optimizer, params), (twin, others) = (made(CLASSES[name], kind, at, **options) for _ in range(2))
    versions = [param._version for param in params]
    for t in range(8):
        for mine in (params, others):
            give(mine, kind, at, t)
            if options and t == 5:
                other = mine[(at + 1) % 4].grad
                assert other is not None
                other[0, 0] = torch.inf
        forget(twin)
        given = [None if p.grad is None else p.grad.clone() for p in params]
        optimizer.step()
        twin.step()
        assert_equal(tensors_of(optimizer, params), tensors_of(twin, others))
        for param, grad in zip(params, given, strict=True):
            assert grad is None or torch.equal(param.grad.to_dense(), grad.to_dense())  # type: ignore[union-attr]
        stepped = [grad is not None and not (options and t == 5) for grad in given]
        assert [a < b for a, b in zip(versions, [p._version for p in params], strict=True)] == stepped
        versions = [param._version for param in params]
    assert optimizer.skipped == twin.skipped == bool(options)
    assert kind in SELDOM or layouts.count(optimizer) <= MOST
    assert layouts.count(twin) == 8


def test_an_absent_parameter_keeps_its_step_count() -> None:
    optimizer, params = made(Adam, "absent now and then", 1)
    for t in range(8):
        give(params, "absent now and then", 1, t)
        optimizer.step()
    assert [optimizer.state[param]["step"].item() for param in params] == [8, 4, 8, 8]


def laid_out(kinds: tuple[str, str], layouts: list[Base], monkeypatch: pytest.MonkeyPatch) -> tuple[Base, list[int]]:
    """Step along gradients of one kind, then of another, and return how often that was laid out after each step."""
    monkeypatch.setattr(odd, "_CALM", 3)
    (optimizer, params), (twin, others) = made(Adam, "transposed", 1), made(Adam, "transposed", 1)
    counts = []
    for t in range(20):
        for mine in (params, others):
            give(mine, kinds[t >= 6], 1, t)
        forget(twin)
        optimizer.step()
        twin.step()
        counts.append(layouts.count(optimizer))
        assert_equal(tensors_of(optimizer, params), tensors_of(twin, others))
    return optimizer, counts


def test_what_comes_and_goes_and_then_stays_is_odd_no_more(
    layouts: list[Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer, counts = laid_out(("absent now and then", "strided parameter"), layouts, monkeypatch)
    assert counts[6:].count(counts[-1]) > 8
    assert counts[-1] == counts[5] + 1
    assert optimizer._launch is not None
    assert not optimizer._launch._odd


def test_what_comes_and_goes_unaligned_and_then_stays_is_not_laid_out_in_every_step(
    layouts: list[Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, counts = laid_out(("unaligned, absent now and then", "unaligned"), layouts, monkeypatch)
    assert counts[-1] == counts[5]
    assert counts[-1] <= MOST


def test_a_monitor_reads_what_is_stepped_in_its_order() -> None:
    for kind in ("sparse", "transposed", "absent now and then"):
        told = []
        for is_fresh in (False, True):
            optimizer, params = made(Adagrad, kind, 1)
            monitor = Monitor(optimizer, every=1)
            for t in range(7):
                give(params, kind, 1, t)
                if is_fresh:
                    forget(optimizer)
                optimizer.step()
            told.append(monitor.rows)
        assert len(told[0]) > 20
        assert told[0] == told[1]


@pytest.mark.parametrize("kind", ["transposed", "absent now and then", "sparse"])
def test_a_gradient_in_a_parameter_is_copied_before_it_moves(kind: str) -> None:
    (optimizer, params), (twin, others) = (made(Adagrad, kind, 1) for _ in range(2))
    for t in range(6):
        for mine in (params, others):
            give(mine, kind, 1, t)
            if t in (3, 5):  # the odd one's gradient lies in a regular parameter, or the other way round
                mine[1].grad = mine[2].detach().view(4, 6).t() if kind == "transposed" else mine[2].detach()
                mine[0].grad = mine[1].detach()
        if t in (3, 5):
            for param in others:
                assert param.grad is not None
                param.grad = param.grad.clone()
        forget(twin)
        optimizer.step()
        twin.step()
        assert_equal(tensors_of(optimizer, params), tensors_of(twin, others))


def test_gradients_are_not_held() -> None:
    optimizer, params = made(SGD, "sparse", 1)
    for t in range(4):
        give(params, "sparse", 1, t)
        optimizer.step()
        assert optimizer._launch is not None
        assert not optimizer._launch._odd._kept


@pytest.mark.parametrize("make", [SGD, Adagrad, SparseAdam])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("rows", [1, 40, 3000])
def test_sparse_rows_step_as_dense_ones(make: Callable[..., Base], dtype: torch.dtype, rows: int) -> None:
    """Each row that is touched is stepped as a parameter of its own, on any number of threads."""
    if dtype is torch.complex64 and make is SparseAdam:
        pytest.skip("torch refuses it")
    whole = normal((4000, 33), 0).to(dtype)
    param, alone = torch.nn.Parameter(whole.clone()), torch.nn.Parameter(whole[:rows].clone())
    optimizer = make([param], lr=0.1)
    rule, options = optimizer._rule(optimizer.param_groups[0])
    twin = Optimizer([alone], rule=rule, lr=0.1, **options)
    at = torch.randperm(4000, generator=torch.Generator().manual_seed(1))[:rows]
    with torch.no_grad():
        alone.copy_(param[at])
    for t in range(3):
        values = normal((rows, 33), t + 1).to(dtype)
        param.grad = torch.sparse_coo_tensor(at[None], values, param.shape)
        alone.grad = values
        optimizer.step()
        twin.step()
        assert torch.equal(param[at], alone)
    rest = torch.ones(4000, dtype=torch.bool)
    rest[at] = False
    assert torch.equal(param[rest], whole[rest])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64])
def test_equal_indices_are_summed_in_their_order(dtype: torch.dtype) -> None:
    """And numbers of 16 bits are rounded once."""
    param = torch.nn.Parameter(torch.zeros(10, 2, dtype=dtype))
    optimizer = SGD([param], lr=1.0)
    wide = {torch.bfloat16: torch.float32, torch.float16: torch.float32}.get(dtype, dtype)
    for count in (3, 40, 7):  # another number of slices at each step
        at = torch.randint(0, 10, (count,), generator=torch.Generator().manual_seed(count))
        values = (normal((count, 2), count) * 10.0 ** (torch.arange(count)[:, None] % 5)).to(dtype)
        sums = torch.zeros(10, 2, dtype=wide)
        for place, line in zip(at.tolist(), values, strict=True):
            sums[place] += line.to(wide)
        with torch.no_grad():
            param.zero_()
        param.grad = torch.sparse_coo_tensor(at[None], values, param.shape)
        optimizer.step()
        assert torch.equal(param, -sums.to(dtype))


@pytest.mark.parametrize("options", [{"clip_norm": 0.5}, {}], ids=["clip_norm", "none"])
def test_bits_do_not_depend_on_the_order_of_a_gradients_slices(options: dict[str, Any]) -> None:
    (optimizer, params), (twin, others) = (made(Adagrad, "sparse", 1, **options) for _ in range(2))
    monitors = [Monitor(optimizer, every=1), Monitor(twin, every=1)]
    for t in range(4):
        for mine in (params, others):
            give(mine, "sparse", 1, t)
            at, values = torch.tensor([[5, 0, 3, 1]]), normal((4, 4), t)
            mine[1].grad = torch.sparse_coo_tensor(at, values, SHAPE)
        others[1].grad = others[1].grad.coalesce()  # type: ignore[union-attr]
        optimizer.step()
        twin.step()
        assert_equal(tensors_of(optimizer, params), tensors_of(twin, others))
    assert monitors[0].rows == monitors[1].rows


@pytest.fixture
def handler() -> Iterator[None]:
    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, handle)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGUSR1")
@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("kind", ["transposed", "absent now and then", "sparse", "sparse, strided parameter"])
@pytest.mark.parametrize("after", [1, *range(5, 200, 14)])
def test_a_signal_at_any_line_leaves_a_step_whole_or_untaken(kind: str, after: int) -> None:
    (optimizer, params), (twin, others) = (made(Adagrad, kind, 1) for _ in range(2))
    for t in range(4):
        for own, mine in ((optimizer, params), (twin, others)):
            give(mine, kind, 1, t)
            own.step()
    give(params, kind, 1, 4)
    with at_line(("/doors/torch/", "/launch/"), after, lambda: signal.raise_signal(signal.SIGUSR1)) as lines:
        try:
            optimizer.step()
            interrupted = False
        except KeyboardInterrupt:
            interrupted = True
    assert interrupted == (after <= len(lines))
    before = tensors_of(twin, others)
    is_taken = not torch.equal(params[0], others[0])
    give(others, kind, 1, 4)
    twin.step()
    assert_equal(tensors_of(optimizer, params), tensors_of(twin, others) if is_taken else before)
    if not is_taken:
        optimizer.step()
    for t in (5, 6):
        for own, mine in ((optimizer, params), (twin, others)):
            give(mine, kind, 1, t)
            own.step()
        assert_equal(tensors_of(optimizer, params), tensors_of(twin, others))


def test_gradients_that_were_stepped_are_freed_with_the_last_one_who_has_them() -> None:
    for kind in ("transposed", "sparse", "another type", "absent now and then"):
        optimizer, params = made(SGD, kind, 1)
        seen: list[weakref.ref[Any]] = []
        for t in (1, 2, 3, 4, 5):
            give(params, kind, 1, t)
            grad = params[1].grad
            if grad is not None:
                seen.append(weakref.ref(grad.untyped_storage() if grad.layout is torch.strided else grad))
                seen.append(weakref.ref(grad))
            del grad
            optimizer.step()
        assert optimizer._launch is not None
        optimizer.zero_grad()
        assert not [one for one in seen if one() is not None]
        held = [value for own in vars(optimizer._launch._odd).values() for value in _tensors_in(own)]
        assert all(any(value is param for param in params) for value in held)


def _tensors_in(thing: Any) -> list[Tensor]:
    """Return the tensors in lists, tuples and what follows a gradient, and in lists and tuples of these."""
    if isinstance(thing, Tensor):
        return [thing]
    if isinstance(thing, odd._Odd):
        return _tensors_in([*vars(thing).values()])
    return [tensor for one in thing for tensor in _tensors_in(one)] if isinstance(thing, list | tuple) else []


def test_a_skipped_step_holds_no_gradients() -> None:
    optimizer, params = made(SGD, "another type", 1, nonfinite="skip")
    for t in range(4):
        give(params, "another type", 1, t)
        if t == 3:
            grad = params[0].grad
            assert grad is not None
            grad[0, 0] = torch.inf
        optimizer.step()
    assert optimizer.skipped == 1
    assert optimizer._launch is not None
    assert not optimizer._launch._odd._kept


@pytest.mark.parametrize("start", [1, 2, 3])
@pytest.mark.parametrize("kind", ["transposed", "expanded", "sparse, strided parameter"])
def test_a_monitor_that_is_first_due_when_the_odd_one_is_like_others(kind: str, start: int) -> None:
    (optimizer, params), (twin, others) = (made(Adagrad, kind, 1) for _ in range(2))
    monitors = []
    for t in range(8):
        if t == start:  # the first step that is read is one whose gradients all lie as the parameters do
            monitors = [Monitor(optimizer, every=1), Monitor(twin, every=1)]
        for mine in (params, others):
            give(mine, "strided parameter" if t == start and "sparse" not in kind else kind, 1, t)
        forget(twin)
        optimizer.step()
        twin.step()
        assert_equal(tensors_of(optimizer, params), tensors_of(twin, others))
    assert monitors[0].rows == monitors[1].rows
    assert len(monitors[0].rows) > 16


def test_a_parameter_that_gets_another_number_of_axes_is_laid_out_anew() -> None:
    param, other = torch.nn.Parameter(normal((5,), 0)), torch.nn.Parameter(normal((3,), 1))
    optimizer = SGD([param, other], lr=0.5)
    for shape in ((5,), (), (2, 3), (4,)):
        param.data = normal(shape, 2)
        for t in range(3):
            before = param.detach().clone()
            set_gradient(param, None)
            set_gradient(param, normal(shape, t).double())
            other.grad = normal((3,), t)
            optimizer.step()
            assert param.grad is not None
            assert torch.equal(param, before - 0.5 * param.grad.float())


@pytest.mark.parametrize("is_laid_out", [False, True])
@pytest.mark.parametrize("indices", [[[1, 6]], [[1, -1]], [[1, 6], [1, 2]], [[1, -1], [1, 2]], [[1, 5], [1, 4]]])
def test_an_index_outside_of_the_parameter_is_refused(indices: list[list[int]], is_laid_out: bool) -> None:
    optimizer, params = made(SGD, "sparse", 1)
    for t in range(2 * is_laid_out):
        give(params, "sparse" if len(indices) == 1 else "sparse elements", 1, t)
        optimizer.step()
    give(params, "sparse", 1, 9)
    shape = (2, 4) if len(indices) == 1 else (2,)
    with torch.sparse.check_sparse_tensor_invariants(False):
        bad = torch.sparse_coo_tensor(torch.tensor(indices), normal(shape, 0), SHAPE)
    params[1].grad = bad
    before = tensors_of(optimizer, params)
    with pytest.raises(StructureError, match="index"):
        optimizer.step()
    assert_equal(tensors_of(optimizer, params), before)
    give(params, "sparse", 1, 10)
    optimizer.step()
    assert not torch.equal(params[1], before[1])


@pytest.mark.parametrize("make", [SGD, Adagrad, SparseAdam])
@pytest.mark.parametrize("shape", [(), (3,), (4, 3)])
def test_a_sparse_gradient_may_have_no_sparse_axis(make: Callable[..., Base], shape: tuple[int, ...]) -> None:
    param, alone = (torch.nn.Parameter(normal(shape, 0)) for _ in range(2))
    optimizer = make([param], lr=0.1)
    rule, options = optimizer._rule(optimizer.param_groups[0])
    twin = Optimizer([alone], rule=rule, lr=0.1, **options)
    for t in range(6):
        if t == 3:
            Monitor(optimizer, every=1)
        values = normal((1, *shape), t + 1)
        param.grad = torch.sparse_coo_tensor(torch.zeros((0, 1), dtype=torch.int64), values, shape)
        alone.grad = values[0].clone()
        optimizer.step()
        twin.step()
        assert torch.equal(param, alone)


@pytest.mark.parametrize("make", [SGD, Adam])
def test_parameters_that_share_memory_are_read_one_after_the_other(make: Callable[..., Base]) -> None:
    results = []
    for is_read in (False, True):
        memory = normal(SHAPE, 0)
        params = [torch.nn.Parameter(memory), torch.nn.Parameter(memory.view(4, 6))]
        optimizer = make(params, lr=0.1)
        if is_read:
            Monitor(optimizer, every=1)
        for t in range(3):
            for place, param in enumerate(params):
                param.grad = normal(tuple(param.shape), 2 * t + place)
            optimizer.step()
        results.append(tensors_of(optimizer, params))
    assert_equal(*results)


def test_slices_are_all_stepped_though_the_number_of_threads_changes_while_they_are_laid_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = iter([2, 4])  # another thread calls set_num_threads
    monkeypatch.setattr(slices, "parts_of", lambda elements, most: next(parts))
    param = torch.nn.Parameter(torch.zeros(4, 65_536))
    param.grad = torch.ones(4, 65_536).to_sparse(1)
    SGD([param], lr=1.0).step()
    assert (param == -1).all()
