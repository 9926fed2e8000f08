"""What the GPU benchmark steps, and by whom: lists of tensors, contestants, and the bytes that a step must move."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Shape = tuple[int, ...]
Params = Sequence[Tensor]
Step = Callable[[], object]
FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16
LR = 1e-3
GRADIENTS, PARAMETERS = 1e-3, 0.02
"""Standard deviations: a first step of AdamW by LR changes the bfloat16 nearest to almost every such parameter."""
WARM_STEPS = 3
"""Steps before a graph is captured."""
OURS, FUSED = "steprule", "torch fused"
PLAIN = "float32"
STATES_32, STATES_16 = "bfloat16, states float32", "bfloat16, states bfloat16"
LOW, TORCHAO = "bfloat16 split24, states 8bit", "bfloat16 stochastic, states 8bit"
GUARDED, GRAPH, MOVED = "float32, guarded", "float32, CUDA graph", "float32, gradients move"


@dataclass(frozen=True)
class Case:
    """A list of tensors.

    Attributes:
        title: for people.
        shapes: of the tensors.
        by_wall: whether its time is that of host and device together: there is little for the device to do.
    """

    title: str
    shapes: tuple[Shape, ...]
    by_wall: bool = False

    @property
    def elements(self) -> int:
        return sum(map(math.prod, self.shapes))


def gpt_shapes(layers: int, width: int, vocabulary: int, context: int) -> tuple[Shape, ...]:
    """Return the shapes of a GPT's parameters: one matrix for words at both ends, biases, layer norms."""
    norm = [(width,), (width,)]
    linears = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
    attend, mix, widen, narrow = ([shape, shape[:1]] for shape in linears)
    block = [*norm, *attend, *mix, *norm, *widen, *narrow]
    return ((vocabulary, width), (context, width), *(block * layers), *norm)


def cases(small: bool) -> dict[str, Case]:
    """Return the lists of tensors by name; tiny ones where only the script is tried."""
    if small:
        return {
            "one": Case("one tensor", ((40, 256),)),
            "gpt": Case("a GPT's tensors", gpt_shapes(2, 16, 65, 8)),
            "many": Case("20 x 50", ((50,),) * 20, by_wall=True),
        }
    return {
        "one": Case("200 M in one tensor", ((12_500, 16_000),)),
        "gpt": Case("GPT of 1.3 B, 292 tensors", gpt_shapes(24, 2048, 50_257, 2048)),
        "many": Case("1,000 x 1,000", ((1_000,),) * 1_000, by_wall=True),
    }


def random_params(shapes: Sequence[Shape], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Return random parameters with random gradients: zeros would be kind to the power that a GPU may draw."""
    params: list[Tensor] = []
    for shape in shapes:
        values = torch.randn(shape, dtype=dtype, device=device).mul_(PARAMETERS)
        params.append(torch.nn.Parameter(values))
        params[-1].grad = _gradient(values)
    return params


def _gradient(like: Tensor) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, device=like.device).mul_(GRADIENTS)


Act = Callable[[Params, torch.optim.Optimizer], Step]
"""From parameters and their optimizer to what is timed."""


def plain(params: Params, optimizer: torch.optim.Optimizer) -> Step:
    """Return the step."""
    return optimizer.step


def clipped(params: Params, optimizer: torch.optim.Optimizer) -> Step:
    """Return the step, after the gradients were clipped as torch does it."""

    def both() -> None:
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()

    return both


def replayed(params: Params, optimizer: torch.optim.Optimizer) -> Step:
    """Return the replay of a step captured in a CUDA graph."""
    return captured(optimizer.step).replay


def captured(step: Step) -> torch.cuda.CUDAGraph:
    """Return a graph of one step, after a few that are not captured."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_STEPS):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def moved(params: Params, optimizer: torch.optim.Optimizer) -> Step:
    """Return a step with gradients that lie elsewhere than at the step before.

    The gradients of the step before are NaN once, so that a step that reads the old ones shows.
    """
    first = [param.grad for param in params if param.grad is not None]
    assign = assigned(params, optimizer)

    def step() -> None:
        assign()
        optimizer.step()

    step()
    for grad in first:
        grad.fill_(math.nan)
    step()
    for grad in first:
        grad.normal_(std=GRADIENTS)
    return step


def assigned(params: Params, optimizer: torch.optim.Optimizer) -> Step:
    """Return what sets gradients and takes no step: the part of ``moved`` that is not the optimizer's."""
    sets: list[list[Tensor | None]] = [
        [param.grad for param in params],
        [_gradient(param.detach()) for param in params],
    ]
    turn = itertools.cycle(sets)

    def assign() -> None:
        for param, grad in zip(params, next(turn), strict=True):
            param.grad = grad

    return assign


@dataclass(frozen=True)
class Contestant:
    """An AdamW, in one format.

    Attributes:
        name: whose.
        format: how parameters and states are kept, or what else is done.
        dtype: of parameters and gradients.
        options: of its constructor.
        kind: from the module to the class.
        act: what is timed.
        rival: the format of torch's fused AdamW that it is compared with.
        module: what must be installed besides torch.
        beyond: bytes per parameter that are moved besides those of the step itself.
        tier: what is measured first, should time run out.
        seconds: what must be left for it to begin: set-up and compilation.
        names: the cases it takes part in.
    """

    name: str
    format: str
    dtype: torch.dtype
    options: Mapping[str, Any]
    kind: str = "AdamW"
    act: Act = plain
    rival: str = ""
    module: str = "torch.optim"
    beyond: float = 0.0
    tier: int = 0
    seconds: float = 3.0
    names: tuple[str, ...] = ("one", "gpt", "many")

    @property
    def steps(self) -> bool:
        return self.act is not assigned

    @property
    def is_variation(self) -> bool:
        """Whether it is the plain float32 step with something else done."""
        return self.format in (GUARDED, GRAPH, MOVED)

    @property
    def needs_cuda(self) -> bool:
        return self.act is replayed or self.module not in ("torch.optim", "steprule.torch")

    @property
    def is_ours(self) -> bool:
        return self.module == "steprule.torch"

    def make(self, params: Params) -> torch.optim.Optimizer:
        """Return its optimizer.

        Raises:
            ImportError: when its library is not installed.
        """
        options = dict(self.options)
        if self.is_ours and "states" in options and max(param.numel() for param in params) < 4096:
            options["min_elements"] = 0  # small tensors would keep float32 states
        made = getattr(importlib.import_module(self.module), self.kind)(list(params), lr=LR, **options)
        assert isinstance(made, torch.optim.Optimizer)
        return made


def contestants() -> list[Contestant]:
    """Return all of them, in the order of the table."""
    ours, door = OURS, "steprule.torch"
    fused, foreach, low = {"fused": True}, {"foreach": True}, {"states": "8bit", "weights": "split24"}
    flash: dict[str, Any] = {"module": "flashoptim", "kind": "FlashAdamW", "seconds": 20}
    apex: dict[str, Any] = {"module": "apex.optimizers", "kind": "FusedAdam", "tier": 3}
    graph, guards = {"capturable": True}, {"clip_norm": 1.0, "nonfinite": "skip"}
    moving: dict[str, Any] = {"act": moved, "tier": 2, "rival": MOVED, "names": ("gpt", "many")}
    graphs: dict[str, Any] = {"act": replayed, "tier": 2, "rival": GRAPH, "names": ("one", "many")}
    unquantized = {"quantize": False, "master_weight_bits": None}
    own: list[Contestant] = [
        Contestant(ours, PLAIN, FLOAT32, {}, module=door, rival=PLAIN),
        Contestant(FUSED, PLAIN, FLOAT32, fused, rival=PLAIN),
        Contestant("torch foreach", PLAIN, FLOAT32, foreach, rival=PLAIN),
        Contestant("flashoptim", PLAIN, FLOAT32, unquantized, tier=3, rival=PLAIN, **flash),
        Contestant("apex", PLAIN, FLOAT32, {"weight_decay": 0.01}, rival=PLAIN, **apex),
        Contestant(ours, STATES_32, BFLOAT16, {}, module=door, rival=STATES_16),
        Contestant("apex", STATES_32, BFLOAT16, {"weight_decay": 0.01}, rival=STATES_16, **apex),
        Contestant(ours, STATES_16, BFLOAT16, {"states": "bfloat16"}, module=door, rival=STATES_16),
        Contestant(FUSED, STATES_16, BFLOAT16, fused, rival=STATES_16),
        Contestant("torch foreach", STATES_16, BFLOAT16, foreach, rival=STATES_16),
        Contestant(ours, LOW, BFLOAT16, low, module=door, rival=STATES_16),
        Contestant("flashoptim", LOW, BFLOAT16, {}, tier=1, rival=STATES_16, **flash),
    ]
    others = [
        Contestant(
            "torchao", TORCHAO, BFLOAT16, {"bf16_stochastic_round": True}, "AdamW8bit", rival=STATES_16,
            module="torchao.optim", tier=4, seconds=120,
        ),
        Contestant(ours, GUARDED, FLOAT32, guards, module=door, rival=GUARDED, beyond=4, tier=2),
        Contestant(FUSED, GUARDED, FLOAT32, fused, act=clipped, rival=GUARDED, beyond=12, tier=2),
        Contestant(ours, GRAPH, FLOAT32, graph, module=door, **graphs),
        Contestant(FUSED, GRAPH, FLOAT32, {**fused, **graph}, **graphs),
        Contestant(ours, MOVED, FLOAT32, {}, module=door, **moving),
        Contestant(FUSED, MOVED, FLOAT32, fused, **moving),
        Contestant("gradients set, no step", MOVED, FLOAT32, fused, **{**moving, "act": assigned}),
    ]  # fmt: skip
    return own + others


def bytes_of(value: object) -> int:
    """Return the bytes of a slot: of a tensor, or of those that it is made of.

    torchao's slots are subclasses of tensors, flashoptim's hold tensors as attributes.
    """
    if hasattr(value, "__tensor_flatten__"):
        return sum(bytes_of(getattr(value, name)) for name in value.__tensor_flatten__()[0])
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    parts = getattr(value, "__dict__", {})
    return sum(bytes_of(part) for part in parts.values() if isinstance(part, Tensor))


def kept_bytes(params: Params, optimizer: torch.optim.Optimizer) -> float:
    """Return the bytes per parameter that lie in memory between steps: itself and its states, without the gradient."""
    slots = [slot for param in params for key, slot in optimizer.state[param].items() if key != "step"]
    return sum(map(bytes_of, [*params, *slots])) / sum(param.numel() for param in params)


def moved_bytes(kept: float, contestant: Contestant) -> float:
    """Return the bytes per parameter that a step must move: what is kept is read and written, the gradient read."""
    return 2 * kept + contestant.dtype.itemsize + contestant.beyond
