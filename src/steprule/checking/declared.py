"""What somebody's code says of its hyperparameters, to be held against what its steps say."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from steprule.rules import Rule

__all__ = ["declared"]

_NAMES = {
    "lr": ("lr", "learning_rate", "alpha", "step_size", "eta"),
    "beta1": ("beta1", "b1", "beta_1"),
    "beta2": ("beta2", "b2", "beta_2"),
    "eps": ("eps", "epsilon"),
    "weight_decay": ("weight_decay", "wd", "decay", "lambda_"),
}


def declared(thing: Any, settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the hyperparameters that are settings or defaults of a function, or of a class's first arguments.

    Args:
        thing: a function, a class, or anything else, which declares nothing.
        settings: what it is given, which goes before its defaults.
    """
    given = {**dict(_defaults(thing)), **settings}
    betas = given.get("betas")
    if isinstance(betas, tuple) and len(betas) == 2:
        given = {"beta1": betas[0], "beta2": betas[1], **given}
    found = {own: given[name] for own, names in _NAMES.items() for name in reversed(names) if name in given}
    return {own: float(value) for own, value in found.items() if isinstance(value, (int, float))}


def _defaults(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, Rule):
        yield from ((name, hyper.default) for name, hyper in thing.hyperparameters.items())
        return
    with contextlib.suppress(TypeError, ValueError):
        for one in inspect.signature(thing).parameters.values():
            if one.default is not inspect.Parameter.empty:
                yield one.name, one.default
