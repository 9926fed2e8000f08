"""Write an optimizer's step once, as its paper writes it; run those exact bits at memory speed.

    import numpy as np, steprule as sr

    x = np.zeros(3)
    opt = sr.Optimizer(x, rule="adam", lr=0.1)
    opt.step(np.ones(3))

See ``steprule.Optimizer`` (NumPy arrays, in place), ``steprule.minimize`` and ``steprule.scipy``
(SciPy's conventions), ``steprule.torch`` (PyTorch's optimizers), ``steprule.jax`` (optax's
transformations), ``steprule.rules`` (the catalogue),
``steprule.rule`` (your own rules), ``steprule.check`` (somebody's optimizer, held against the rules),
``steprule.schedules``, and the command ``steprule``.
"""

from typing import TYPE_CHECKING, Any

from steprule import errors, rules, schedules
from steprule.doors.group import Group
from steprule.doors.numpy import Optimizer
from steprule.language import maximum, mean, minimum, ndim, norm, polar, rms, sign, size, sqrt, total, where
from steprule.rules import (
    Decay,
    FirstMoment,
    Fraction,
    NonNegative,
    PerColumn,
    PerRow,
    PerTensor,
    Positive,
    Range,
    Rate,
    Rule,
    Scalar,
    SecondMoment,
    averaged,
    batched,
    cautious,
    cautious_decay,
    centralized,
    decoupled,
    l2,
    lookahead,
    maximize,
    rule,
    schedule_free,
    trust_ratio,
    unscaled,
    update_clip,
)
from steprule.runtime import get_num_threads, set_num_threads
from steprule.runtime.interrupts import uninterrupted
from steprule.version import __version__

if TYPE_CHECKING:
    from steprule import convert, scipy
    from steprule import jax as jax
    from steprule import torch as torch
    from steprule.checking import check
    from steprule.doors.checkpoint.api import load, save
    from steprule.doors.scipy import minimize
    from steprule.monitor import Monitor

__all__ = [
    "Decay",
    "FirstMoment",
    "Fraction",
    "Group",
    "Monitor",
    "NonNegative",
    "Optimizer",
    "PerColumn",
    "PerRow",
    "PerTensor",
    "Positive",
    "Range",
    "Rate",
    "Rule",
    "Scalar",
    "SecondMoment",
    "__version__",
    "averaged",
    "batched",
    "cautious",
    "cautious_decay",
    "centralized",
    "check",
    "convert",
    "decoupled",
    "errors",
    "get_num_threads",
    "l2",
    "load",
    "lookahead",
    "maximize",
    "maximum",
    "mean",
    "minimize",
    "minimum",
    "ndim",
    "norm",
    "polar",
    "rms",
    "rule",
    "rules",
    "save",
    "schedule_free",
    "schedules",
    "scipy",
    "set_num_threads",
    "sign",
    "size",
    "sqrt",
    "total",
    "trust_ratio",
    "unscaled",
    "update_clip",
    "where",
]


def __getattr__(name: str) -> Any:
    """Import a door when it is first asked for: scipy.optimize takes a third of a second, torch more."""
    if name == "minimize":
        from steprule.doors.scipy import minimize

        return minimize
    if name == "check":
        from steprule.checking import check

        return check
    if name == "Monitor":
        from steprule.monitor import Monitor

        return Monitor
    if name in ("load", "save"):
        with uninterrupted():  # a handler that saves would find half of the module
            from steprule.doors.checkpoint.api import load, save

        globals().update(load=load, save=save)
        return globals()[name]
    if name in ("convert", "jax", "scipy", "torch"):
        import importlib

        return importlib.import_module(f"steprule.{name}")
    raise AttributeError(f"module 'steprule' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, those that are imported late included."""
    return __all__
