"""What looks at torch's operations, or records them, sees the whole step; what does not leaves it to the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import steprule.torch as door
from steprule.errors import StructureError
from tests.doors.torch.cases import DENSE_ALL, TOGETHER, case_id, ours

Step = Callable[[Tensor, Tensor], Tensor]
FIRST = (torch.ones(3), torch.full((3,), 0.25))
OTHER = (torch.tensor([5.0, -1.0, 0.5]), torch.tensor([2.0, 0.5, -0.25]))


def step_of(name: str, options: dict[str, Any]) -> Step:
    """Return a training step that makes its optimizer, takes two steps and returns what became of the parameter."""

    def step(w: Tensor, g: Tensor) -> Tensor:
        w = w.clone()
        optimizer = ours(name, [w], **options)
        w.grad = g.clone()
        optimizer.step()
        optimizer.step()
        return w.clone()

    return step


def exported(step: Step) -> Any:
    class Exported(nn.Module):
        def forward(self, w: Tensor, g: Tensor) -> Tensor:
            return step(w, g)

    return torch.export.export(Exported(), FIRST, strict=False).module()


TRACERS: dict[str, Callable[[Step], Any]] = {
    "make_fx": lambda step: make_fx(step)(*FIRST),
    "make_fx with fake tensors": lambda step: make_fx(step, tracing_mode="fake")(*FIRST),
    "make_fx above autograd": lambda step: make_fx(step, pre_dispatch=True)(*FIRST),
    "make_fx of functions": lambda step: make_fx(torch.func.functionalize(step))(*FIRST),
    "export": exported,
    "jit": lambda step: torch.jit.trace(step, FIRST, check_trace=False),
}


@pytest.mark.filterwarnings("ignore")  # of numbers taken out of tensors, and of what is deprecated
@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize(("name", "options"), [("SGD", {"lr": 0.1}), ("AdamW", {"lr": 0.1}), ("NAdam", {"lr": 0.1})])
def test_a_step_is_part_of_what_is_traced(name: str, options: dict[str, Any], tracer: str) -> None:
    step = step_of(name, options)
    graph = TRACERS[tracer](step)
    torch.testing.assert_close(graph(*OTHER), step(*OTHER))


@pytest.mark.parametrize(("name", "options"), DENSE_ALL, ids=case_id)
def test_every_class_is_traced(name: str, options: dict[str, Any]) -> None:
    step = step_of(name, options)
    if name in TOGETHER:
        with pytest.raises(StructureError, match="sums over all tensors"):
            make_fx(step)(*FIRST)
        return
    torch.testing.assert_close(make_fx(step)(*FIRST)(*OTHER), step(*OTHER))


@pytest.mark.parametrize(("name", "options"), DENSE_ALL, ids=case_id)
def test_every_class_steps_fake_tensors(name: str, options: dict[str, Any]) -> None:
    with FakeTensorMode():
        model = nn.Linear(4, 2)
        optimizer = ours(name, model.parameters(), **options)
        for _ in range(2):
            model(torch.ones(3, 4)).sum().backward()
            if name in TOGETHER:
                with pytest.raises(StructureError, match="sums over all tensors"):
                    optimizer.step()
                return
            optimizer.step()
    tensors = [tensor for entry in optimizer.state.values() for tensor in entry.values()]
    assert all(isinstance(tensor, FakeTensor) for tensor in tensors)
    optimizer.step()  # fake tensors are subclasses, and are stepped as such


class Seen(TorchDispatchMode):
    """Notes the operations in place, and on what."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.written: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.copy_, torch.ops.aten.index_put_):
            self.written.append(args[0])
        return func(*args, **(kwargs or {}))


def stepped(t: int = 3, **options: Any) -> tuple[Any, nn.Parameter]:
    """Return an optimizer whose launch is kept, and its parameter."""
    w = nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3))
    optimizer: Any = door.AdamW([w], lr=0.1, **options)
    for i in range(t):
        w.grad = torch.linspace(0.5, 1.5 + i, 6).reshape(2, 3)
        optimizer.step()
    return optimizer, w


def test_a_mode_sees_a_step_whose_launch_was_kept() -> None:
    optimizer, w = stepped()
    plain, v = stepped()
    assert optimizer._launch is not None
    with Seen() as seen:
        optimizer.step()
    plain.step()
    assert any(tensor is w for tensor in seen.written)
    torch.testing.assert_close(w, v)
    assert optimizer.state[w]["step"] == 4
    optimizer.step()  # by the kernel again, and it is kept
    plain.step()
    assert optimizer._launch is not None
    torch.testing.assert_close(w, v)


def test_a_mode_sees_sparse_steps_and_steps_in_the_backward_pass() -> None:
    embedding = nn.Embedding(5, 2, sparse=True)
    sparse = door.SparseAdam(embedding.parameters(), lr=0.1)
    embedding(torch.tensor([1, 3])).sum().backward()
    with Seen() as seen:
        sparse.step()
    assert any(tensor.data_ptr() == embedding.weight.data_ptr() for tensor in seen.written)

    model = nn.Linear(2, 1)
    optimizer = door.AdamW(model.parameters(), lr=0.1)
    door.step_in_backward(optimizer)
    with Seen() as seen:
        model(torch.ones(1, 2)).sum().backward()
    assert any(tensor is model.weight for tensor in seen.written)


def test_counting_operations_changes_no_more_than_roundings() -> None:
    optimizer, w = stepped()
    plain, v = stepped()
    with FlopCounterMode(display=False):
        optimizer.step()
    plain.step()
    torch.testing.assert_close(w, v)


@pytest.mark.parametrize("mode", [Seen, FakeTensorMode], ids=["counting", "fake"])
@pytest.mark.parametrize(
    "options",
    [{"states": "8bit", "min_elements": 0}, {"weights": "split24"}, {"update_clip": True}],
    ids=case_id,
)
def test_what_takes_a_kernel_is_refused_under_a_mode(mode: Callable[[], Any], options: dict[str, Any]) -> None:
    kind = torch.bfloat16 if "weights" in options else torch.float32
    current = mode()
    with current:
        w = nn.Parameter(torch.ones(2, 3, dtype=kind))
        optimizer: Any = door.AdamW([w], **options)
        w.grad = torch.ones(2, 3, dtype=kind)
    with current, pytest.raises(StructureError, match=r"TorchDispatchMode .* nothing was stepped"):
        optimizer.step()
    assert not optimizer.state


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{"clip_norm": 1.0}, {"nonfinite": "skip"}], ids=case_id)
@pytest.mark.parametrize("tracer", ["make_fx", "make_fx with fake tensors", "jit"])
def test_decisions_about_numbers_are_not_traced(tracer: str, options: dict[str, Any]) -> None:
    with pytest.raises(StructureError, match="decide by the gradients' numbers"):
        TRACERS[tracer](step_of("AdamW", {"lr": 0.1, **options}))


def test_clipping_by_value_is_traced() -> None:
    step = step_of("SGD", {"lr": 0.1, "clip_value": 0.3})
    torch.testing.assert_close(make_fx(step)(*FIRST)(*OTHER), step(*OTHER))


class Calls(TorchFunctionMode):
    """Lets every function through."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Calls, lambda: torch.device("meta")], ids=["calls", "device"])
def test_modes_for_functions_leave_a_step_to_the_kernel(mode: Callable[[], Any]) -> None:
    optimizer, w = stepped()
    plain, v = stepped()
    launch = optimizer._launch
    with mode():
        optimizer.step()
    plain.step()
    assert optimizer._launch is launch
    assert w.equal(v)
    with mode():
        fresh, u = stepped(0)
        u.grad = torch.ones(2, 3, device=u.device)
        fresh.step()


def test_an_optimizer_is_made_within_a_compiled_function() -> None:
    torch._dynamo.reset()
    step = step_of("AdamW", {"lr": 0.1})
    assert torch.compile(step, backend="eager")(*OTHER).equal(step(*OTHER))
    torch._dynamo.reset()


class Plain(Tensor):
    """A subclass that knows how to make zeros like itself, and no other tensors."""

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket in (torch.ops.aten.full_like, torch.ops.aten.empty_like, torch.ops.aten.ones_like):
            raise NotImplementedError(f"Plain does not know {func}")
        with torch._C._DisableTorchDispatch():
            return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "ASGD"])
def test_subclasses_need_not_make_more_than_zeros(name: str) -> None:
    options: dict[str, Any] = {"momentum": 0.9} if name == "SGD" else {}
    w = torch.linspace(-1, 1, 6).as_subclass(Plain)
    optimizer = ours(name, [w], lr=0.1, **options)
    for _ in range(2):
        w.grad = torch.ones(6).as_subclass(Plain)
        optimizer.step()
    assert not w.as_subclass(Tensor).equal(torch.linspace(-1, 1, 6))
