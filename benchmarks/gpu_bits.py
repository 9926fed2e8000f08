"""Does a GPU give the bits of the CPU? Every rule in every format, over shapes and numbers that are hard."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import steprule.torch
from benchmarks.gpu_models import WARM_STEPS, captured
from steprule.rules import CATALOGUE

FIRST_RULES = ("adamw", "adam", "lion", "momentum", "adagrad", "nadam", "adan", "radam")
RULES = {name: rule for name, rule in CATALOGUE.items() if not rule.needs_matrices}
"""Those that step vectors, too."""
SHAPES = [(1,), (127,), (129,), (37, 130), (6, 3, 50), (1000, 1001)]
SMALL_SHAPES = [(1,), (127,), (37, 130)]
CALM_STEPS, WILD_STEPS = 6, 2
"""Steps with plain random gradients: AdEMAMix and RAdam change their ways in these. Then the wild ones."""
SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45, -1e-40, 1e-320, 3e38, 1.0]
SHOWN = 20

Storage = tuple[torch.dtype, dict[str, Any]]
Make = Callable[[Sequence[Tensor]], torch.optim.Optimizer]


def storages() -> list[Storage]:
    """Return every way to keep parameters and states."""
    sixteen = ("nearest", "stochastic", "split24", "split32")
    kinds = [(torch.float32, ""), (torch.float64, "")]
    kinds += [(dtype, weights) for dtype in (torch.bfloat16, torch.float16) for weights in sixteen]
    found: list[Storage] = []
    for states in ("float32", "8bit", "bfloat16"):
        for dtype, weights in kinds:
            if dtype == torch.float64 and states != "float32":
                continue  # float64 parameters take no states of fewer bits
            options: dict[str, Any] = {"states": states, "min_elements": 0} if states != "float32" else {}
            found.append((dtype, {**options, **({"weights": weights} if weights not in ("", "nearest") else {})}))
    return found


@dataclass(frozen=True)
class Check:
    """An optimizer that is made twice, on the CPU and on the device.

    Attributes:
        name: for people.
        dtype: of the parameters.
        make: from parameters to the optimizer.
    """

    name: str
    dtype: torch.dtype
    make: Make


def checks() -> list[Check]:
    """Return all checks, the most telling first: there may not be time for all."""
    every = storages()
    first, others = list(FIRST_RULES), [name for name in RULES if name not in FIRST_RULES]
    low = next(s for s in every if s[1] == {"states": "8bit", "min_elements": 0, "weights": "split24"})
    few = [every[0], low, (torch.bfloat16, {"weights": "stochastic"}), every[1]]
    pairs = [(rule, few[0]) for rule in first] + [(rule, low) for rule in first]
    guards = {"clip_norm": 1.0, "nonfinite": "skip"}
    guarded = [_check(rule, (dtype, {**options, **guards})) for rule in ("lion", "momentum") for dtype, options in few]
    pairs += [(first[0], storage) for storage in every]
    pairs += [(rule, storage) for storage in few for rule in [*first, *others]]
    pairs += [(rule, storage) for storage in every for rule in [*first, *others]]
    made = [_check(rule, storage) for rule, storage in pairs if _can_be_kept(rule, storage[1].get("states", "float32"))]
    return list({check.name: check for check in [*made[:8], *guarded, *made[8:]]}.values())


def _can_be_kept(rule: str, states: str) -> bool:
    """Whether a rule has slots that devices keep so: of elements, but points; groups beside rows are refused there."""
    own = RULES[rule]
    kept = own.trace(own.variant(own.resolve({}))).slots.keys() - {*own.numbers, *own.vectors, *own.points}
    return states == "float32" or (bool(kept) and (states != "8bit" or own.view is None))


def _check(rule: str, storage: Storage) -> Check:
    dtype, options = storage
    words = " ".join(f"{key}={value}" for key, value in options.items() if key != "min_elements")
    name = f"{rule} {str(dtype).removeprefix('torch.')} {words}".rstrip()
    return Check(name, dtype, lambda params: steprule.torch.Optimizer(params, rule, **options))


def wild(rng: np.random.Generator, n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return numbers from 1e-30 to 1e30 of both signs, with zeros, infinities, NaN and subnormal numbers."""
    numbers = rng.standard_normal(n) * 10.0 ** rng.uniform(-30, 30, n)
    return np.where(rng.random(n) < 0.1, rng.choice(SPECIAL, n), numbers)


class Numbers:
    """The values of parameters and of every step's gradients, made once for all checks."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        rng = np.random.default_rng(0)
        # Each shape twice: where memory begins, and one element further on.
        self.places = [(shape, offset) for shape in shapes for offset in (0, 1)]
        sizes = [math.prod(shape) for shape, _ in self.places]
        n = sum(sizes)
        calm = [rng.standard_normal(n) * 0.1 for _ in range(CALM_STEPS)]
        calm[3][:] = 0.0
        raw = [rng.standard_normal(n), *calm, *(wild(rng, n) for _ in range(WILD_STEPS))]
        self._values = [torch.from_numpy(values).split(sizes) for values in raw]

    def at(self, t: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
        """Return the gradients of step t, or the parameters for t = 0, in fresh memory."""
        found = []
        for (shape, offset), values in zip(self.places, self._values[t], strict=True):
            memory = torch.empty(math.prod(shape) + offset, dtype=dtype, device=device)
            # Rounded on the CPU for every device.
            found.append(memory[offset:].view(shape).copy_(values.to(dtype).view(shape)))
        return found


def difference(actual: Tensor, expected: Tensor) -> str:
    """Return where two tensors differ, and in what bits; nothing where they do not. A NaN equals a NaN."""
    a, e = actual.detach().cpu().contiguous(), expected.detach().cpu().contiguous()
    if (a.dtype, a.shape) != (e.dtype, e.shape):
        return f"{a.dtype} {tuple(a.shape)}, expected {e.dtype} {tuple(e.shape)}"
    words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    differs = a.view(words) != e.view(words)
    if a.is_floating_point():
        differs &= ~(a.isnan() & e.isnan())
    if not differs.any():
        return ""
    where = tuple(int(i) for i in differs.nonzero()[0])
    got, want = a[where].item(), e[where].item()
    bits = " instead of ".join(hex(int(x.view(words)[where]) & (256 ** x.element_size() - 1)) for x in (a, e))
    return f"{int(differs.sum())} of {a.numel()} differ, first at {where}: {got!r}, expected {want!r} ({bits})"


def apart(actual: Tensor, expected: Tensor) -> str:
    """Return how far two tensors are from each other, if by more than rounding."""
    a, e = actual.detach().double().cpu(), expected.detach().double().cpu()
    distance, size = float((a - e).abs().max()), float(e.abs().max())
    return "" if distance <= 1e-6 * size else f"{distance:.1e} apart, the largest number is {size:.1e}"


def differences(
    pairs: Sequence[tuple[torch.optim.Optimizer, Sequence[Tensor]]],
    places: Sequence[Any],
    compared: Callable[[Tensor, Tensor], str] = difference,
) -> list[str]:
    """Return what differs between two optimizers and their parameters, the expected ones first."""
    (expected, e_params), (actual, a_params) = pairs
    found: list[str] = []
    for e, a, (shape, offset) in zip(e_params, a_params, places, strict=True):
        where = f"{shape}{', unaligned' if offset else ''}"
        e_state, a_state = expected.state[e], actual.state[a]
        if e_state.keys() != a_state.keys():
            found.append(f"{where}: the state has {sorted(a_state)}, expected {sorted(e_state)}")
        tensors = {"param": (a, e), **{key: (a_state[key], e_state[key]) for key in e_state if key in a_state}}
        told = {key: compared(*both) for key, both in tensors.items()}
        found += [f"{where} {key}: {words}" for key, words in told.items() if words]
    return found


def run_check(check: Check, numbers: Numbers, device: torch.device) -> list[str]:
    """Step on both and return what differs."""
    pairs, old = [], []
    for place in (torch.device("cpu"), device):
        params = numbers.at(0, check.dtype, place)
        pairs.append((check.make(params), params))
    for t in range(1, CALM_STEPS + WILD_STEPS + 1):
        for optimizer, params in pairs:
            for param, grad in zip(params, numbers.at(t, check.dtype, params[0].device), strict=True):
                if t % 3 == 0 and param.grad is not None:
                    param.grad.copy_(grad)  # where it was
                    continue
                if param.grad is not None:  # somewhere else: who still reads the old ones finds NaN
                    old.append(param.grad.fill_(math.nan))
                param.grad = grad
            optimizer.step()
        if t == CALM_STEPS:
            found = differences(pairs, numbers.places)
            if found:
                return [f"after {t} calm steps, {words}" for words in found]
    return [f"after wild steps, {words}" for words in differences(pairs, numbers.places)]


def graph_check(
    numbers: Numbers, device: torch.device, kind: str, dtype: torch.dtype, options: dict[str, Any]
) -> list[str]:
    """Replay a captured step with new gradients and a new learning rate; return what differs from plain steps.

    A device may round the powers of AdamW's bias correction otherwise than the host; Lion has none.
    """
    pairs, rates = [], []
    for place in (torch.device("cpu"), device):
        params = numbers.at(0, dtype, place)
        for param, grad in zip(params, numbers.at(1, dtype, place), strict=True):
            param.grad = grad
        rates.append(torch.tensor(1e-3, device=place))
        pairs.append((getattr(steprule.torch, kind)(params, lr=rates[-1], capturable=True, **options), params))
    plain_step = pairs[0][0].step
    for _ in range(WARM_STEPS):
        plain_step()
    replay = captured(pairs[1][0].step).replay
    for t in (2, 3, 5):
        for rate, (_, params) in zip(rates, pairs, strict=True):
            rate.fill_(1e-3 / t)
            for param, grad in zip(params, numbers.at(t, dtype, params[0].device), strict=True):
                assert param.grad is not None
                param.grad.copy_(grad)
        plain_step()
        replay()
    compared = difference if kind == "Lion" else apart
    return [f"replayed, {words}" for words in differences(pairs, numbers.places, compared)]


PERIOD, PERIODS = 2**20 + 64, 2**11
LARGE_BYTES = 10 * PERIOD * PERIODS
"""Of 2^31 and some bfloat16 elements, their gradients and a float32 slot, with what compares them."""


def large_check(device: torch.device, period: int = PERIOD, periods: int = PERIODS) -> list[str]:
    """Step a tensor of more than 2^31 elements that repeats a smaller one; return which of its parts differ."""
    generator = torch.Generator(device).manual_seed(0)
    raw = [torch.randn(1, period, generator=generator, device=device).bfloat16() for _ in range(2)]
    params = []
    for times in (1, periods):
        params.append(raw[0].repeat(times, 1))
        params[-1].grad = raw[1].repeat(times, 1)
        optimizer = steprule.torch.Optimizer([params[-1]], "momentum")
        for _ in range(2):
            optimizer.step()
    once, often = params
    wrong = [place for place, part in enumerate(often) if not torch.equal(part, once[0])]
    still = [] if not torch.equal(once, raw[0]) else ["nothing moved"]
    return still + ([f"{len(wrong)} of {periods} parts differ, first {wrong[0]} of {period} elements"] if wrong else [])


@dataclass
class Outcome:
    """What the checks found.

    Attributes:
        planned: how many there are.
        done: how many there was time for.
        wrong: names of those that differ, with what differs.
    """

    planned: int = 0
    done: int = 0
    wrong: dict[str, list[str]] = field(default_factory=dict)


def _jobs(numbers: Numbers, device: torch.device, small: bool) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    chosen = checks()
    for check in chosen[:: len(chosen) // 12] if small else chosen[:8]:
        yield check.name, partial(run_check, check, numbers, device)
    if device.type == "cuda":
        low = {"states": "8bit", "min_elements": 0, "weights": "split24"}
        yield "lion in a CUDA graph", partial(graph_check, numbers, device, "Lion", torch.float32, {})
        yield "lion, 8bit, in a CUDA graph", partial(graph_check, numbers, device, "Lion", torch.bfloat16, low)
        yield "adamw in a CUDA graph", partial(graph_check, numbers, device, "AdamW", torch.float32, {})
        if not small and torch.cuda.mem_get_info(device)[0] > LARGE_BYTES:
            yield "a tensor of more than 2^31 elements", partial(large_check, device)
    for check in [] if small else chosen[8:]:
        yield check.name, partial(run_check, check, numbers, device)


def compare(device: torch.device, deadline: float, *, small: bool) -> Outcome:
    """Run the checks until ``time.monotonic()`` is past the deadline, and print what differs."""
    numbers = Numbers(SMALL_SHAPES if small else SHAPES)
    jobs = list(_jobs(numbers, device, small))
    outcome = Outcome(planned=len(jobs))
    for name, job in jobs:
        if time.monotonic() > deadline:
            break
        try:
            found = job()
        except Exception as error:  # one format that fails must not hide what the others give
            found = [f"{type(error).__name__}: {error}"]
        outcome.done += 1
        if found:
            outcome.wrong[name] = found[:SHOWN]
            if len(outcome.wrong) <= SHOWN:
                print(f"WRONG BITS: {name}", *found[:3], sep="\n    ", flush=True)
        elif outcome.done % 20 == 0:
            print(f"{outcome.done} of {len(jobs)} checks of bits", flush=True)
    return outcome
