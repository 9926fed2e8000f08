"""Steps and gradients, as operations of a history."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn

from tests.doors.torch.histories.case import HALF, laid, numbers
from tests.doors.torch.histories.side import Side, gradient, one, operation, some, sparse, with_gradient


def grad_of(p: Tensor) -> Tensor:
    """Return the gradient that a parameter has."""
    assert p.grad is not None
    return p.grad


@operation(30)
def step(side: Side, r: random.Random, other: Side) -> Any:
    return side.step()


@operation(8)
def steps_in_a_row(side: Side, r: random.Random, other: Side) -> Any:
    for _ in range(3):
        side.step()


@operation(8)
def gradients_and_step(side: Side, r: random.Random, other: Side) -> Any:
    all_gradients(side, r, other)
    return side.step()


@operation(5)
def step_with_closure(side: Side, r: random.Random, other: Side) -> Any:
    target = 3 + r.random()  # far away: torch rounds the squares of small gradients of 16 bits to zero

    def closure() -> Tensor:
        side.optimizer.zero_grad()
        losses = [((p.double() - target) ** 2).sum() for p in side.params if p.requires_grad]
        loss = torch.stack(losses).sum() if losses else torch.zeros(())
        if losses and side.case.name != "SparseAdam":
            loss.backward()
        return loss.detach()

    return side.step(closure)


@operation(3)
def step_in_another_grad_mode(side: Side, r: random.Random, other: Side) -> Any:
    with r.choice([torch.no_grad, torch.enable_grad])():
        return side.step()


@operation(2)
def step_in_inference_mode(side: Side, r: random.Random, other: Side) -> Any:
    """With states from before: torch's of inference mode could not be changed outside of it."""
    side.step()
    with torch.inference_mode():
        return side.step()


@operation(3)
def step_with_threads(side: Side, r: random.Random, other: Side) -> Any:
    torch.set_num_threads(r.choice([1, 2, 3]))
    return side.step()


@operation(3)
def scaled_step(side: Side, r: random.Random, other: Side) -> Any:
    if side.case.dtype in HALF or side.case.name == "SparseAdam" or not side.params:
        return None
    scaler = torch.amp.GradScaler("cpu", init_scale=r.choice([4.0, 1024.0]), enabled=r.random() < 0.8)
    all_gradients(side, r, other)
    for p in side.params:
        scaler.scale(grad_of(p))
        grad_of(p).mul_(scaler.get_scale())  # as if of a loss that was scaled
    # The step that it skips is skipped by ours itself, after its hooks, as in torch's fused forms.
    if r.random() < 0.3 and scaler.is_enabled() and not side.hooks:
        grad_of(r.choice(side.params)).fill_(torch.inf)
    if r.random() < 0.3:
        scaler.unscale_(side.optimizer)
    side.call(scaler.step, side.optimizer)
    scaler.update()
    side.optimizer.zero_grad()  # torch has divided them, and ours not
    return scaler.get_scale()


# Gradients


@operation(10)
def all_gradients(side: Side, r: random.Random, other: Side) -> Any:
    for p in side.params:
        p.grad = gradient(side, r, p)


@operation(6)
def some_gradients(side: Side, r: random.Random, other: Side) -> Any:
    for p in some(r, side.params):
        p.grad = gradient(side, r, p)


@operation(4)
def no_gradient(side: Side, r: random.Random, other: Side) -> Any:
    for p in some(r, side.params):
        p.grad = None


@operation(4)
def zero_grad(side: Side, r: random.Random, other: Side) -> Any:
    side.optimizer.zero_grad(set_to_none=r.random() < 0.5)


@operation(3)
def gradients_of_zeros(side: Side, r: random.Random, other: Side) -> Any:
    for p in some(r, with_gradient(side)):
        grad_of(p).zero_()


@operation(4)
def gradients_add_up(side: Side, r: random.Random, other: Side) -> Any:
    for p in with_gradient(side):
        grad_of(p).add_(numbers(r, p.shape, p.dtype), alpha=0.5)


@operation(4)
def gradients_in_another_layout(side: Side, r: random.Random, other: Side) -> Any:
    for p in with_gradient(side):
        p.grad = laid(r, numbers(r, p.shape, p.dtype))


@operation(3)
def gradients_expanded(side: Side, r: random.Random, other: Side) -> Any:
    for p in some(r, with_gradient(side)):
        p.grad = numbers(r, (1,) * p.dim(), p.dtype).expand(p.shape)


@operation(3)
def gradients_in_other_memory(side: Side, r: random.Random, other: Side) -> Any:
    for p in some(r, with_gradient(side)):
        p.grad = grad_of(p).clone()


@operation(2)
def gradients_share_memory(side: Side, r: random.Random, other: Side) -> Any:
    for p in one(r, with_gradient(side)):
        for q in with_gradient(side):
            if q.shape == p.shape and q.dtype == p.dtype:
                q.grad = p.grad


@operation(2)
def gradients_of_the_other_kind(side: Side, r: random.Random, other: Side) -> Any:
    """Sparse where the class is for dense ones: SGD and Adagrad take them, others do not.

    Not with momentum, of which torch would make a sparse buffer that takes no dense gradient later.
    """
    params = [p for group in side.groups if not group.get("momentum") for p in group["params"]]
    for p in one(r, [p for p in params if p.numel() > 1 and p.dim()]):
        g = numbers(r, p.shape, p.dtype)
        p.grad = g if side.case.name == "SparseAdam" else sparse(r, g)
    try:
        return side.step()
    finally:
        side.optimizer.zero_grad()


@operation(3)
def gradients_of_another_type(side: Side, r: random.Random, other: Side) -> Any:
    """Of 16 bits where the parameter has 32, and the reverse, where torch steps them, and not by rounded numbers.

    SGD without decay adds up momentum in the gradient's type; see docs/torch.md.
    """
    taken = side.case.name in ("SGD", "RMSprop", "Adagrad", "Adadelta", "ASGD")
    is_rounded = side.case.name == "SGD" and any(g["momentum"] and not g["weight_decay"] for g in side.groups)
    if not taken or is_rounded or any(group["foreach"] or group.get("centered") for group in side.groups):
        return None
    for p in some(r, [p for p in side.params if p.dtype in (torch.float32, torch.bfloat16)]):
        kind = torch.bfloat16 if p.dtype == torch.float32 else torch.float32
        p.grad = None
        p.grad_dtype = kind
        p.grad = numbers(r, p.shape, kind)
    side.step()
    for p in side.params:
        p.grad, p.grad_dtype = None, p.dtype
    return None


@operation(2)
def gradient_not_finite(side: Side, r: random.Random, other: Side) -> Any:
    """What becomes infinite or NaN is so on both sides; then all is begun anew."""
    number = r.choice([torch.inf, -torch.inf, torch.nan])
    if side.case.name in ("RMSprop", "Rprop", "SparseAdam", "Adafactor"):  # see docs/torch.md
        return None
    for p in one(r, [p for p in with_gradient(side) if p.numel()]):
        p.grad = grad_of(p).clone(memory_format=torch.contiguous_format)
        p.grad.view(-1)[r.randrange(p.numel())] = number
    side.step()
    finite = [p.isfinite().tolist() for p in side.params]
    side.optimizer.state.clear()
    for p in side.params:
        p.grad = None
        p.data = torch.where(p.data.isfinite(), p.data, 1.0)
    return finite


@operation(2)
def gradients_clipped_by_torch(side: Side, r: random.Random, other: Side) -> Any:
    nn.utils.clip_grad_value_(with_gradient(side), r.choice([0.5, 1.5]))
