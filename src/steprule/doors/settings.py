"""The options of ``minimize``, checked: when it stops and which point it returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steprule.errors import HyperparameterError, suggest
from steprule.rules import CATALOGUE, Rule
from steprule.rules.hints import hint as hint_of

__all__ = ["CLIPPING", "OPTIONS", "STEPS", "Settings", "check_eps", "sort_names"]

STEPS = ("finite_diff_rel_step", "finite_diff_abs_step", "workers")
"""The options of differences."""
CLIPPING = ("clip_norm", "clip_value", "update_clip")
"""The options that the optimizer takes."""
OPTIONS = (
    *("maxiter", "gtol", "tol", "patience", "ftol", "average", "data", "noisy", "measurements", "state", "disp"),
    *("nonfinite", "max_skips", *CLIPPING, *STEPS),
)
"""The options of ``minimize`` that ``options`` and ``method`` may hold as well, beside hyperparameters."""
_NONFINITE = ("stop", "skip", "raise")

_ELSEWHERE = {
    "constraints": "no rule handles constraints; use bounds=, a penalty in fun, or SciPy's SLSQP or trust-constr",
    "hess": "the rules use first derivatives only; leave it out",
    "hessp": "the rules use first derivatives only; leave it out",
    "method": "the rule is chosen by rule=",
    "learning_rate": "it is called lr",
    **dict.fromkeys(
        ("states", "weights", "min_elements", "seed", "backend"),
        "x and the slots are in float64; leave it out, or step arrays by a steprule.Optimizer",
    ),
}


@dataclass(frozen=True)
class Settings:
    """When a run stops, and what it returns.

    Attributes:
        kind: what is known of the loss: "best", where points can be compared, "data" or "noisy".
        maxiter: the number of steps at most.
        gtol: largest element of the (projected) gradient at convergence; None with ``data`` or ``noisy``.
        patience: iterations (with ``data``: passes) without improvement after which to stop; None is never.
        ftol: the relative improvement that counts.
        average: None for the best (with ``data``: the last) point, "polyak" for the mean of the
            iterates, "tail" for that of the last, or a decay for their exponential average.
        nonfinite: "stop", "skip" or "raise".
        measurements: how often a noisy loss is measured at the end; None for a tenth as many as steps, 10 to 100.
    """

    kind: str = "best"
    maxiter: int = 10_000
    gtol: float | None = 1e-5
    patience: int | None = None
    ftol: float = 2.220446049250313e-09
    average: str | float | None = None
    nonfinite: str = "stop"
    measurements: int | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """Return the settings from options of which None is the default.

        Raises:
            HyperparameterError: out of range, or without effect.
        """
        maxiter, patience = given["maxiter"], given["patience"]
        kind = _read_kind(given["data"], given["noisy"])
        if kind == "noisy" and patience is not None:
            raise HyperparameterError(
                "patience does nothing with noisy, since single losses cannot be compared; use maxiter, or a callback "
                "that raises StopIteration"
            )
        average = _read_average(given["average"])
        return cls(
            kind=kind,
            maxiter=cls.maxiter if maxiter is None else _count("maxiter", maxiter, 0),
            gtol=_read_gtol(given["gtol"], given["tol"], kind),
            patience=None if patience is None else _count("patience", patience, 1),
            ftol=_read_ftol(given["ftol"], patience),
            average="tail" if kind == "noisy" and average is None else average,
            nonfinite=_read_nonfinite(given["nonfinite"]),
            measurements=_read_measurements(given["measurements"], kind),
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
            hint = _hint(name, given[name], rule)
            raise HyperparameterError(f"{what} with rule {rule.name!r} has no option {name!r}{hint}")
    return options, hyperparameters


def _hint(name: str, value: Any, rule: Rule) -> str:
    """Return where an option of another name is said, or which may be meant."""
    if name == "method" and isinstance(value, str) and value.lower() in CATALOGUE:
        return f": a rule is chosen by rule={value.lower()!r}"
    return f": {_ELSEWHERE[name]}" if name in _ELSEWHERE else f".{hint_of(name, rule.hyperparameters, OPTIONS)}"


def check_eps(rule: Rule, options: Mapping[str, Any]) -> None:
    """Refuse ``eps`` in SciPy's ``options``, where two things have that name.

    Raises:
        HyperparameterError: saying how to give either.
    """
    if "eps" in options:
        raise HyperparameterError(
            "eps in options is SciPy's name for the step of differences, which is finite_diff_abs_step here. An eps of "
            f"the rule is a keyword, of minimize or method({rule.name!r}, eps={options['eps']!r})"
        )


def _read_kind(data: Any, noisy: Any) -> str:
    """Return what is known of the loss: "best", "data" or "noisy"."""
    if not isinstance(noisy, bool):
        raise HyperparameterError(f"noisy must be True or False, got {noisy!r}")
    if noisy and data is not None:
        raise HyperparameterError("noisy does nothing with data=, whose batches are taken for noise already; remove it")
    return "noisy" if noisy else "best" if data is None else "data"


def _read_measurements(measurements: Any, kind: str) -> int | None:
    if measurements is None:
        return None
    if kind != "noisy":
        raise HyperparameterError("measurements does nothing without noisy=True; remove it, or give noisy=True, too")
    return _count("measurements", measurements, 0)


def _read_nonfinite(nonfinite: Any) -> str:
    if nonfinite is None:
        return Settings.nonfinite
    if nonfinite not in _NONFINITE:
        words = " A step along NaN leads nowhere, so it is not taken; 'stop' ends the run before it."
        hint = words if nonfinite == "propagate" else ""
        raise HyperparameterError(f"nonfinite must be one of {', '.join(_NONFINITE)}, got {nonfinite!r}.{hint}")
    return str(nonfinite)


def _read_gtol(gtol: Any, tol: Any, kind: str) -> float | None:
    if kind != "best":
        if gtol is not None or tol is not None:
            seen = "data=, since the gradient of one batch" if kind == "data" else "noisy, since a noisy gradient"
            remedy = ", or patience (counted in passes)" if kind == "data" else ""
            raise HyperparameterError(
                f"gtol and tol do nothing with {seen} does not vanish at the optimum; use maxiter{remedy}"
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
    if average is None or (isinstance(average, str) and average in ("polyak", "tail")):
        return average
    decay = _number(average)
    if decay is not None and 0 < decay < 1:
        return decay
    hint = suggest(average, ["polyak", "tail"]) if isinstance(average, str) else ""
    raise HyperparameterError(f"average must be None, 'polyak', 'tail' or a decay in (0, 1), got {average!r}.{hint}")


def _tolerance(name: str, value: Any) -> float:
    number = _number(value)
    if number is None or not 0 <= number < math.inf:
        raise HyperparameterError(f"{name} must be a number of at least 0, got {value!r}")
    return number


def _count(name: str, value: Any, least: int) -> int:
    number = _number(value)
    if number is None or not (least <= number < math.inf) or number != int(number):
        raise HyperparameterError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(number)


def _number(value: Any) -> float | None:
    if isinstance(value, (bool, str, bytes)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
