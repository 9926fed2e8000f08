"""Problems by name or by file."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from steprule.errors import ProblemError, suggest
from steprule.race.plane import Box
from steprule.race.problem import DEFAULT_EPOCHS, DEFAULT_LRS, Problem
from steprule.race.problems import NAMES
from steprule.race.signature import check_signature
from steprule.rules import CATALOGUE
from steprule.rules.load import load_file
from steprule.usercode import user_code

__all__ = ["Loaded", "describe", "load_problem"]

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
    minima: tuple[tuple[float, float], ...]
    schedule: Any
    """How the learning rate falls unless the user says it; "linear" where the problem does not."""
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
    if path.suffix != ".py" or not path.is_file():
        raise ProblemError(_why_none(spec, path))
    return _load(str(path.resolve()), hashlib.sha256(path.read_bytes()).hexdigest())


def describe(name: str) -> str:
    """Return the one-line description of a problem that ships, without loading its data."""
    return _first_line(_shipped(name))


def _why_none(spec: str, path: Path) -> str:
    """Return what keeps ``spec`` from naming a problem."""
    if path.is_dir():
        return f"{spec!r} is a folder. Give a problem's name, or the .py file of one of your own"
    if path.is_file():
        return f"{spec!r} is not a .py file. A problem of your own is a Python file; see docs/race.md"
    if path.suffix == ".py":
        return f"there is no file {spec!r} (from {Path.cwd()})"
    if path.with_suffix(".py").is_file():
        return f"no problem is called {spec!r}. For a file of your own write {spec}.py."
    if set(spec.split(",")) & set(CATALOGUE):
        # A blank after a comma of --rules makes the next word the problem.
        return f"no problem is called {spec!r}, but a rule is. In --rules, separate rules by commas, without spaces"
    hint = suggest(spec, NAMES)
    if "Did you mean" not in hint:
        hint += (
            " A problem of your own is a .py file with four functions: docs/race.md. Surfaces, and expressions in x "
            f"and y, are for the lab: steprule lab --surface {shlex.quote(spec)}"
        )
    return f"no problem is called {spec!r}.{hint}"


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
            check_signature(problem, "problem", (), path.stem)
            problem = problem()
    missing = [name for name in _FUNCTIONS if not callable(getattr(problem, name, None))]
    if missing:
        raise ProblemError(f"problem {path.name} has no {', '.join(missing)}: {_MANUAL}")
    return _loaded(problem, path.stem, spec, getattr(problem, "description", "") or _first_line(module), digest)


def _loaded(problem: Problem, name: str, spec: str, description: str, digest: str) -> Loaded:
    epochs = getattr(problem, "epochs", DEFAULT_EPOCHS)
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ProblemError(f"problem {name}: epochs must be an integer of at least 1, got {epochs!r}")
    lrs = getattr(problem, "lrs", DEFAULT_LRS)
    if not isinstance(lrs, Iterable):
        raise ProblemError(f"problem {name}: lrs must be a sequence of positive numbers, got {lrs!r}")
    box = getattr(problem, "box", None)
    schedule = getattr(problem, "schedule", "linear")
    return Loaded(problem, name, spec, description, epochs, tuple(lrs), box, _minima(problem, name), schedule, digest)


def _minima(problem: Problem, name: str) -> tuple[tuple[float, float], ...]:
    given = getattr(problem, "minima", ())
    try:
        return tuple((float(x), float(y)) for x, y in given)
    except (TypeError, ValueError):
        raise ProblemError(f"problem {name}: minima must be points, as in [(1.0, 1.0)], got {given!r}") from None


def _first_line(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").split("\n", 1)[0].rstrip(".")
