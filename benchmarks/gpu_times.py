"""Times optimizers on a device, each in turns with a copy of its memory: CUDA events, the host's clock, or both."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.gpu_models import LOW, Case, Contestant, Step, contestants, kept_bytes, moved_bytes, random_params

TURNS, FEWEST_TURNS = 11, 3
L2_CACHE = 64 * 2**20
"""Taken for a GPU that does not say how large its cache is; the largest are smaller, or say so."""


@dataclass(frozen=True)
class Sample:
    """Seconds a call: by events of the device, of the host until the last call returned, and of both until the end."""

    events: float
    host: float
    wall: float


@dataclass
class Result:
    """What was measured of a contestant in a case; without samples it was left out, as the remark says.

    Attributes:
        by_wall: whether its time is that of host and device together.
        samples: turn by turn.
        copies: the bandwidth of a copy beside each.
        elements: of all parameters.
        kept: bytes per parameter between steps.
        failed: whether it did not do what a step must.
    """

    case: str
    contestant: Contestant
    by_wall: bool = False
    samples: list[Sample] = field(default_factory=list)
    copies: list[float] = field(default_factory=list)
    elements: int = 0
    kept: float = 0.0
    remark: str = ""
    failed: bool = False

    @property
    def moved(self) -> float:
        return moved_bytes(self.kept, self.contestant) if self.contestant.steps else 0.0

    @property
    def seconds(self) -> list[float]:
        return [sample.wall if self.by_wall else sample.events for sample in self.samples]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def middle(self, way: str) -> float:
        """Return the median of one of the ways to time."""
        seconds: list[float] = [getattr(sample, way) for sample in self.samples]
        return statistics.median(seconds)

    @property
    def share(self) -> float:
        """The bytes moved a second, as a share of the copy's in the same turn."""
        return share_of_copy(self.moved * self.elements, self.seconds, self.copies)


def share_of_copy(moved: float, seconds: Sequence[float], copies: Sequence[float]) -> float:
    """Return the median over turns of the bandwidth of a step, as a share of the copy's."""
    return statistics.median(moved / took / copy for took, copy in zip(seconds, copies, strict=True))


class Meter:
    """Times calls on a device, in turns with a copy from memory to memory.

    Args:
        device: where.
        small: whether the script is only tried.
    """

    def __init__(self, device: torch.device, small: bool) -> None:
        self.device, self.is_cuda = device, device.type == "cuda"
        self.turn, self.limit = (0.001, 0.02) if small else (0.05, 3.0)
        self._source = torch.randn(2**18 if small else 2**28, device=device)
        self._target = torch.full_like(self._source, math.nan)
        self.copy()
        if not torch.equal(self._source, self._target):
            raise RuntimeError("a copy on the device differs from what was copied; nothing was measured")
        self.copied = 2 * self._source.numel() * self._source.element_size()

    def copy(self) -> None:
        self._target.copy_(self._source)

    def synchronize(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def sample(self, call: Step, n: int) -> Sample:
        """Return the times of a call, n of them in a row."""
        self.synchronize()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if self.is_cuda else []
        start = time.perf_counter()
        for event in events[:1]:
            event.record()
        for _ in range(n):
            call()
        for event in events[1:]:
            event.record()
        host = time.perf_counter() - start
        self.synchronize()
        wall = time.perf_counter() - start
        between = events[0].elapsed_time(events[1]) / 1e3 if events else wall
        return Sample(between / n, host / n, wall / n)

    def bandwidth(self) -> float:
        """Return the bytes a second of a copy, those read and those written."""
        return self.copied / self.sample(self.copy, 10).events

    def measure(self, calls: Sequence[Step]) -> tuple[list[Sample], list[float]]:
        """Return samples of the calls, which are made in turn, and the copy's bandwidth beside each."""
        turn = itertools.cycle(calls)

        def step() -> None:
            next(turn)()

        self.sample(step, max(3, 2 * len(calls)))  # first steps lay out, compile and wake the device up
        once = self.sample(step, max(3, len(calls))).wall
        n = min(1_000, max(1, math.ceil(self.turn / once)))
        turns = min(TURNS, max(FEWEST_TURNS, int(self.limit / (n * once))))
        pairs = [(self.bandwidth(), self.sample(step, n)) for _ in range(turns)]
        return [sample for _, sample in pairs], [copy for copy, _ in pairs]

    def sets(self, case: Case, bytes_an_element: float) -> int:
        """Return how many sets of tensors must be visited in turn, so that no cache holds one until its next turn."""
        if not case.by_wall:
            return 1
        cache = getattr(torch.cuda.get_device_properties(self.device), "L2_cache_size", 0) if self.is_cuda else 2**14
        return 1 + math.ceil(3 * (cache or L2_CACHE) / (case.elements * bytes_an_element))

    def free(self) -> float:
        """Return the bytes that tensors can still have."""
        if not self.is_cuda:
            return math.inf
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return float(torch.cuda.mem_get_info(self.device)[0] + cached)


def moves_all(params: Sequence[Tensor], step: Step) -> bool:
    """Take a step, and return whether it moved nearly every element, and all to finite numbers."""
    before = [param.detach().clone() for param in params]
    step()
    moved = [int((param.detach() != old).sum()) >= 0.9 * old.numel() for param, old in zip(params, before, strict=True)]
    return all(moved) and all(bool(param.detach().isfinite().all()) for param in params)


def bytes_needed(case: Case, contestant: Contestant, sets: int) -> float:
    """Return what a run takes at most: parameter, gradients, a copy to compare with, states, others' temporaries."""
    return 1.05 * sets * case.elements * (6 * contestant.dtype.itemsize + 8)


def run(name: str, case: Case, contestant: Contestant, meter: Meter, left: float) -> Result:
    """Measure a contestant in a case, or say why not."""
    result = Result(name, contestant, case.by_wall, elements=case.elements)
    if contestant.needs_cuda and not meter.is_cuda:
        result.remark = "left out: needs CUDA"
    elif importlib.util.find_spec(contestant.module.partition(".")[0]) is None:
        result.remark = "left out: not installed"
    elif left < contestant.seconds:
        result.remark = "left out: no time left"
    else:
        try:
            with contextlib.redirect_stderr(sys.stdout):  # torchao tells which of its libraries it could not load
                _measure(result, case, meter)
        except Exception as error:  # another's failure, or memory that is not there, must not end the run
            words = (str(error).splitlines() or [""])[0][:120]
            result.samples, result.failed = [], contestant.is_ours
            result.remark = f"left out: {type(error).__name__}: {words}"
        gc.collect()
        if meter.is_cuda:
            torch.cuda.empty_cache()
    return result


def _measure(result: Result, case: Case, meter: Meter) -> None:
    contestant = result.contestant
    sets = meter.sets(case, 7.0 if contestant.format == LOW else 4.0 * contestant.dtype.itemsize)
    needed, free = bytes_needed(case, contestant, sets), meter.free()
    if needed > free:
        result.remark = f"left out: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free"
        return
    torch.manual_seed(0)
    params = [random_params(case.shapes, contestant.dtype, meter.device) for _ in range(sets)]
    optimizers = [contestant.make(own) for own in params]
    calls = [contestant.act(*pair) for pair in zip(params, optimizers, strict=True)]
    result.failed = contestant.steps and not moves_all(params[0], calls[0])
    if contestant.steps:
        result.kept = kept_bytes(params[0], optimizers[0])
    result.samples, result.copies = meter.measure(calls)
    result.failed |= not all(bool(param.detach().isfinite().all()) for own in params for param in own)
    if result.failed:
        result.remark = "WRONG: not every parameter moved, or some are not finite"
    elif meter.is_cuda and result.middle("host") > 0.8 * result.middle("events"):
        result.remark = "bound by the host"


Results = dict[tuple[str, str, str], Result]
"""By case, format and optimizer."""


def measure_all(chosen: dict[str, Case], meter: Meter, deadline: float, tell: Callable[[str], None]) -> Results:
    """Measure every contestant in every case, in the order of tiers; return what was found in that of the table."""
    found: Results = {}
    everyone = contestants()
    for tier, name in itertools.product(sorted({one.tier for one in everyone}), chosen):
        for contestant in (one for one in everyone if one.tier == tier and name in one.names):
            result = run(name, chosen[name], contestant, meter, deadline - time.monotonic())
            found[name, contestant.format, contestant.name] = result
            took = f"{1e3 * result.median:.3f} ms" if result.samples else ""
            tell(" ".join(filter(None, [f"{name}, {contestant.format}, {contestant.name}:", took, result.remark])))
    order = [(name, one.format, one.name) for name in chosen for one in everyone]
    return {key: found[key] for key in order if key in found}
