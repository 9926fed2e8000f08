"""Problems by name or by file, checked before a race spends a minute on them."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from steprule.doors.numpy import Optimizer
from steprule.doors.structure import Structure
from steprule.errors import ProblemError, StructureError, suggest
from steprule.race.plane import Box
from steprule.race.problem import DEFAULT_EPOCHS, DEFAULT_LRS, Problem
from steprule.race.problems import NAMES
from steprule.race.usercode import user_code
from steprule.rules.load import load_file

__all__ = ["Loaded", "check_problem", "describe", "load_problem", "train_loss"]

_FUNCTIONS = ("init", "batches", "loss_and_grad", "evaluate")
_MANUAL = "a problem has init(rng), batches(rng), loss_and_grad(params, batch) and evaluate(params); see docs/race.md"


@dataclass(frozen=True)
class Loaded:
    """A problem with its name, its settings, and a digest of the file it comes from."""

    problem: Problem
    name: str
    spec: str
    """What loads it again in another process: a name, or an absolute path."""
    description: str
    epochs: int
    lrs: tuple[float, ...]
    box: Box | None
    digest: str
    """Of the user's file, so that runs of its earlier versions are not taken for runs of this one."""


def load_problem(spec: str) -> Loaded:
    """Return the problem of that name, or in that file. A file is loaded again when it has changed.

    Raises:
        ProblemError: when there is none, or it breaks the protocol; quoting the user's frames where
            the file raises.
    """
    if spec in NAMES:
        return _load(spec, "")
    path = Path(spec)
    if path.suffix != ".py":
        hint = (
            f" For a file of your own write {spec}.py." if path.with_suffix(".py").is_file() else suggest(spec, NAMES)
        )
        raise ProblemError(f"no problem is called {spec!r}.{hint}")
    if not path.is_file():
        raise ProblemError(f"there is no file {spec!r} (from {Path.cwd()})")
    return _load(str(path.resolve()), hashlib.sha256(path.read_bytes()).hexdigest())


def describe(name: str) -> str:
    """Return the one-line description of a problem that ships, without loading its data."""
    return _first_line(_shipped(name))


def check_problem(loaded: Loaded) -> float:
    """Try each function once, and a step; return the loss at the start.

    Raises:
        ProblemError: naming the function and what is wrong with what it returned.
    """
    with user_code(f"problem {loaded.name}", ProblemError), np.errstate(all="ignore"):
        try:
            return _try(loaded.problem, loaded.name)
        except StructureError as error:
            raise ProblemError(f"problem {loaded.name}: {error}") from None


def train_loss(metrics: Any, name: str) -> float:
    """Return ``metrics["train_loss"]`` as a float.

    Raises:
        ProblemError: when ``metrics`` is no mapping, or it is missing or no number.
    """
    if not isinstance(metrics, Mapping) or "train_loss" not in metrics:
        got = f"the keys {sorted(metrics)}" if isinstance(metrics, Mapping) else _kind(metrics)
        raise ProblemError(f"problem {name}: evaluate must return a dict with 'train_loss', got {got}")
    try:
        return float(metrics["train_loss"])
    except (TypeError, ValueError):
        raise ProblemError(f"problem {name}: train_loss must be a number, got {metrics['train_loss']!r}") from None


_NOTHING = object()


def _shipped(name: str) -> ModuleType:
    return importlib.import_module(f"steprule.race.problems.{name.replace('-', '_')}")


# Data are large: keep those of the last problem only.
@functools.lru_cache(maxsize=1)
def _load(spec: str, digest: str) -> Loaded:
    if spec in NAMES:
        module = _shipped(spec)
        return _loaded(module.problem(), spec, spec, _first_line(module), digest)
    path = Path(spec)
    # A problem may import the files beside it, as a script may.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    with user_code(f"problem {path.name}", ProblemError):
        module = load_file(path)
        problem: Any = getattr(module, "problem", module)
        if inspect.isclass(problem) or (callable(problem) and not hasattr(problem, "init")):
            problem = problem()
    missing = [name for name in _FUNCTIONS if not callable(getattr(problem, name, None))]
    if missing:
        raise ProblemError(f"problem {path.name} has no {', '.join(missing)}: {_MANUAL}")
    return _loaded(problem, path.stem, spec, getattr(problem, "description", "") or _first_line(module), digest)


def _loaded(problem: Problem, name: str, spec: str, description: str, digest: str) -> Loaded:
    epochs = getattr(problem, "epochs", DEFAULT_EPOCHS)
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ProblemError(f"problem {name}: epochs must be a whole number of at least 1, got {epochs!r}")
    lrs = tuple(getattr(problem, "lrs", DEFAULT_LRS))
    return Loaded(problem, name, spec, description, epochs, lrs, getattr(problem, "box", None), digest)


def _try(problem: Problem, name: str) -> float:
    params = problem.init(np.random.default_rng(0))
    # The optimizer says best what does not fit it.
    optimizer = Optimizer(params, "sgd", lr=0.0)
    _check_repeats(params, problem.init(np.random.default_rng(0)), name)
    start = train_loss(problem.evaluate(params), name)
    if not math.isfinite(start):
        raise ProblemError(f"problem {name} starts at train_loss = {start}; init(rng) must give a finite loss")
    batch = next(iter(problem.batches(np.random.default_rng(0))), _NOTHING)
    if batch is _NOTHING:
        raise ProblemError(f"problem {name}: batches(rng) yields no batch, so nothing would be stepped")
    result = problem.loss_and_grad(params, batch)
    if not isinstance(result, tuple) or len(result) != 2:
        raise ProblemError(f"problem {name}: loss_and_grad must return (loss, gradients), got {_kind(result)}")
    optimizer.step(result[1])
    return start


def _check_repeats(first: Any, second: Any, name: str) -> None:
    structure = Structure.of(first)
    pairs = zip(structure.leaves(first, "params"), structure.leaves(second, "params"), strict=True)
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in pairs):
        raise ProblemError(
            f"problem {name}: init(rng) gives other parameters when it is called again with an equal generator, "
            "so the rules would not start alike. Draw every random number from rng"
        )


def _first_line(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").split("\n", 1)[0].rstrip(".")


def _kind(value: object) -> str:
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"
