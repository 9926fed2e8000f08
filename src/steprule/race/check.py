"""The check of a problem before a race: each function is tried once, and what it breaks is named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from steprule.doors.numpy import Optimizer
from steprule.doors.structure import Structure, keystr
from steprule.errors import ProblemError, StructureError
from steprule.race.load import Loaded
from steprule.race.problem import Array, Params, Problem
from steprule.race.signature import check_signature
from steprule.usercode import user_code

__all__ = ["VALIDATION", "Found", "check_problem", "metrics_of", "misfit"]

_ARGUMENTS = {"init": ("rng",), "batches": ("rng",), "loss_and_grad": ("params", "batch"), "evaluate": ("params",)}
_NOTHING = object()
VALIDATION = "validation_loss"


@dataclass(frozen=True)
class Found:
    """What trying a problem has shown.

    Args:
        metric: the loss that settings are selected by and rules compared by: ``validation_loss``, or ``train_loss``
            where ``evaluate`` gives no other.
        start: that loss at the start, for one seed.
        batches: how many there are in the first epoch.
    """

    metric: str
    start: float
    batches: int


def check_problem(loaded: Loaded) -> Found:
    """Try each function once, and a step; return what that has shown.

    Raises:
        ProblemError: naming the function and what is wrong with it, or with what it returned.
    """
    for function, arguments in _ARGUMENTS.items():
        check_signature(getattr(loaded.problem, function), function, arguments, loaded.name)
    with user_code(f"problem {loaded.name}", ProblemError), np.errstate(all="ignore"):
        try:
            return _try(loaded.problem, loaded.name)
        except StructureError as error:
            raise ProblemError(f"problem {loaded.name}: {error}") from None


def metrics_of(returned: Any, name: str) -> dict[str, float]:
    """Return what ``evaluate`` returned, as floats; ``train_loss`` is among them.

    Raises:
        ProblemError: when it is not a mapping, has no ``train_loss``, or something in it is not a number.
    """
    if not isinstance(returned, Mapping) or "train_loss" not in returned:
        got = f"the keys {sorted(map(str, returned))}" if isinstance(returned, Mapping) else _kind(returned)
        raise ProblemError(f"problem {name}: evaluate must return a dict with 'train_loss', got {got}")
    return {str(key): _number(value, f"problem {name}: {key}") for key, value in returned.items()}


def misfit(error: StructureError, name: str) -> str:
    """Return the message for gradients that do not fit the parameters."""
    return f"problem {name}: the gradients of loss_and_grad do not fit: {error}"


def _try(problem: Problem, name: str) -> Found:
    params = problem.init(np.random.default_rng(0))
    # The optimizer says best what does not fit it.
    optimizer = Optimizer(params, "sgd", lr=0.0)
    _check_repeats(params, problem.init(np.random.default_rng(0)), name)
    structure = Structure.of(params)
    before = [np.array(array) for array in structure.leaves(params, "params")]
    metrics = metrics_of(problem.evaluate(params), name)
    _check_unchanged(structure, before, params, f"problem {name}: evaluate")
    for key in ("train_loss", VALIDATION):
        if not math.isfinite(metrics.get(key, 0.0)):
            raise ProblemError(f"problem {name} starts at {key} = {metrics[key]}; init(rng) must give a finite loss")
    result = problem.loss_and_grad(params, _first_batch(problem, name))
    _check_unchanged(structure, before, params, f"problem {name}: loss_and_grad")
    if not isinstance(result, tuple) or len(result) != 2:
        raise ProblemError(f"problem {name}: loss_and_grad must return (loss, gradients), got {_kind(result)}")
    _number(result[0], f"problem {name}: the loss of loss_and_grad")
    try:
        optimizer.step(result[1])
    except StructureError as error:
        raise ProblemError(misfit(error, name)) from None
    metric = VALIDATION if VALIDATION in metrics else "train_loss"
    return Found(metric, metrics[metric], sum(1 for _ in problem.batches(np.random.default_rng(0))))


def _first_batch(problem: Problem, name: str) -> Any:
    batches = problem.batches(np.random.default_rng(0))
    if not hasattr(batches, "__iter__") and not hasattr(batches, "__getitem__"):
        raise ProblemError(f"problem {name}: batches must yield batches or return a list of them, got {_kind(batches)}")
    batch = next(iter(batches), _NOTHING)
    if batch is _NOTHING:
        raise ProblemError(f"problem {name}: batches(rng) yields no batch, so nothing would be stepped")
    return batch


def _check_repeats(first: Params, second: Params, name: str) -> None:
    structure = Structure.of(first)
    pairs = zip(structure.leaves(first, "params"), structure.leaves(second, "params"), strict=True)
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in pairs):
        raise ProblemError(
            f"problem {name}: init(rng) gives other parameters when it is called again with an equal generator, "
            "so the rules would not start alike. Draw every random number from rng"
        )


def _check_unchanged(structure: Structure, before: list[Array], params: Params, function: str) -> None:
    for old, new, path in zip(before, structure.leaves(params, "params"), structure.paths(), strict=True):
        if not np.array_equal(old, new, equal_nan=True):
            raise ProblemError(
                f"{function} changes params{keystr(path)}, which only the optimizer may. "
                "Compute with copies: p = p + 1, not p += 1"
            )


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ProblemError(f"{what} must be a number, got {value!r}") from None


def _kind(value: object) -> str:
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"
