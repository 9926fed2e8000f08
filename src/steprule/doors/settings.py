"""The options of ``minimize``, checked: when it stops and which point it returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steprule.errors import HyperparameterError, suggest
from steprule.rules import Rule

__all__ = ["OPTIONS", "Settings", "sort_names"]

OPTIONS = ("maxiter", "gtol", "tol", "patience", "ftol", "average", "data", "disp", "finite_diff_rel_step")
"""The options of ``minimize`` that ``options`` and ``method`` may hold as well, beside hyperparameters."""

_ELSEWHERE = {
    "constraints": "no rule handles constraints; use bounds=, a penalty in fun, or SciPy's SLSQP or trust-constr",
    "hess": "the rules use first derivatives only; leave it away",
    "hessp": "the rules use first derivatives only; leave it away",
    "method": "the rule is chosen by rule=",
}


@dataclass(frozen=True)
class Settings:
    """When a run stops, and what it returns.

    Attributes:
        maxiter: the number of steps at most.
        gtol: largest element of the (projected) gradient at convergence; None with ``data``.
        patience: iterations (with ``data``: passes) without improvement after which to stop; None is never.
        ftol: the relative improvement that counts.
        average: None for the best (with ``data``: the last) point, "polyak" for the mean of the
            iterates, or a decay for their exponential average.
    """

    maxiter: int = 10_000
    gtol: float | None = 1e-5
    patience: int | None = None
    ftol: float = 2.220446049250313e-09
    average: str | float | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any], is_stochastic: bool) -> Settings:
        """Return the settings from options of which None is the default.

        Raises:
            HyperparameterError: out of range, or without effect.
        """
        maxiter, patience = given["maxiter"], given["patience"]
        return cls(
            maxiter=cls.maxiter if maxiter is None else _count("maxiter", maxiter, 0),
            gtol=_read_gtol(given["gtol"], given["tol"], is_stochastic),
            patience=None if patience is None else _count("patience", patience, 1),
            ftol=_read_ftol(given["ftol"], patience),
            average=_read_average(given["average"]),
        )


def sort_names(rule: Rule, given: Mapping[str, Any], what: str = "minimize") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options among ``given``, and the hyperparameters of the rule.

    Raises:
        HyperparameterError: for a name that is neither, or that is both.
    """
    for name in rule.hyperparameters:
        if name in OPTIONS:
            raise HyperparameterError(
                f"rule {rule.name!r} has a hyperparameter {name!r}, which is an option of minimize; rename it"
            )
    options = {name: value for name, value in given.items() if name in OPTIONS}
    hyperparameters = {name: value for name, value in given.items() if name in rule.hyperparameters}
    for name in given:
        if name not in options and name not in hyperparameters:
            remedy = _ELSEWHERE.get(name)
            hint = f": {remedy}" if remedy else f".{suggest(name, [*OPTIONS, *rule.hyperparameters])}"
            raise HyperparameterError(f"{what} with rule {rule.name!r} has no option {name!r}{hint}")
    return options, hyperparameters


def _read_gtol(gtol: Any, tol: Any, is_stochastic: bool) -> float | None:
    if is_stochastic:
        if gtol is not None or tol is not None:
            raise HyperparameterError(
                "gtol and tol do nothing with data=, since the gradient of one batch does not vanish at the optimum; "
                "use maxiter, or patience (counted in passes)"
            )
        return None
    given = tol if gtol is None else gtol
    return Settings.gtol if given is None else _tolerance("gtol" if gtol is not None else "tol", given)


def _read_ftol(ftol: Any, patience: Any) -> float:
    if ftol is None:
        return Settings.ftol
    if patience is None:
        raise HyperparameterError("ftol does nothing without patience; give patience=, a number of iterations, too")
    return _tolerance("ftol", ftol)


def _read_average(average: Any) -> str | float | None:
    if average is None or (isinstance(average, str) and average == "polyak"):
        return average
    decay = _number(average)
    if decay is not None and 0 < decay < 1:
        return decay
    hint = suggest(average, ["polyak"]) if isinstance(average, str) else ""
    raise HyperparameterError(f"average must be None, 'polyak' or a decay in (0, 1), got {average!r}.{hint}")


def _tolerance(name: str, value: Any) -> float:
    number = _number(value)
    if number is None or not 0 <= number < math.inf:
        raise HyperparameterError(f"{name} must be a number of at least 0, got {value!r}")
    return number


def _count(name: str, value: Any, least: int) -> int:
    number = _number(value)
    if number is None or not (least <= number < math.inf) or number != int(number):
        raise HyperparameterError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(number)


def _number(value: Any) -> float | None:
    if isinstance(value, (bool, str, bytes)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
