"""Rules as methods of SciPy's own ``minimize``, and of what hands its ``method`` on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from steprule.doors.scipy import minimize
from steprule.doors.settings import sort_names
from steprule.errors import HyperparameterError
from steprule.rules import Rule, find

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["Method", "method"]


def method(rule: str | Rule = "adam", **settings: Any) -> Method:
    """Return a rule as a method for SciPy: ``scipy.optimize.minimize(..., method=method("adam", lr=0.1))``.

    Everything that takes ``minimize``'s ``method`` takes it, ``scipy.optimize.basinhopping`` for one. That one keeps
    a lower minimum only from a run with ``success``: give local runs a test that they meet, or ``noisy=True``.

    Args:
        rule: a name of the catalogue, or a ``Rule``.
        settings: hyperparameters of the rule, and options of ``steprule.minimize`` from ``maxiter`` on.
            SciPy's ``options`` may give them as well, and take precedence; SciPy's ``tol`` is gtol.

    SciPy itself hands a custom method None for ``jac="2-point"``, ``"3-point"`` or ``"cs"``, so it gets
    the default differences; ``steprule.minimize`` knows these schemes. ``hess`` and ``hessp`` are not
    used, which is a RuntimeWarning as with SciPy's own first-order methods.

    Raises:
        RuleError: no such rule.
        HyperparameterError: an unknown name or wrong value. Constraints raise it when SciPy calls.
    """
    return Method(rule, settings)


class Method:
    """What ``method`` returns: callable as SciPy calls a custom method."""

    def __init__(self, rule: str | Rule, settings: Mapping[str, Any]) -> None:
        self._rule = find(rule)
        self._settings = dict(settings)
        _, hyperparameters = sort_names(self._rule, settings, "method")
        self._rule.resolve(hyperparameters)

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value!r}" for name, value in self._settings.items())
        return f"steprule.scipy.method({self._rule.name!r}{settings})"

    def __call__(
        self,
        fun: Callable[..., Any],
        x0: Any = None,
        args: Any = (),
        *,
        jac: Any = None,
        hess: Any = None,
        hessp: Any = None,
        bounds: Any = None,
        constraints: Any = (),
        callback: Callable[..., object] | None = None,
        **options: Any,
    ) -> OptimizeResult:
        """Minimize; see ``steprule.minimize``."""
        if x0 is None:
            raise HyperparameterError(
                f"{self!r} needs a start, and scipy.optimize.minimize_scalar gives none; "
                "call scipy.optimize.minimize(fun, [x0], method=...)"
            )
        is_empty = isinstance(constraints, (tuple, list, dict)) and not constraints
        if constraints is not None and not is_empty:
            raise HyperparameterError(
                f"{self!r} cannot handle constraints; use bounds=, a penalty in fun, or SciPy's SLSQP or trust-constr"
            )
        unused = (("hess", hess, "Hessian information"), ("hessp", hessp, "Hessian-vector product information"))
        for name, value, what in unused:
            if value is not None:
                warnings.warn(f"Method {self!r} does not use {what} ({name}).", RuntimeWarning, stacklevel=3)
        fun, jac = _without_memory(fun, jac)
        settings = {name: value for name, value in self._settings.items() if name not in options}
        common = {"rule": self._rule, "jac": jac, "bounds": bounds, "callback": callback}
        return minimize(fun, x0, args, options=options, **common, **settings)


def _without_memory(fun: Any, jac: Any) -> tuple[Any, Any]:
    """Undo what SciPy makes of ``jac=True``: an object that remembers loss and gradient by x alone.

    With ``data`` it would answer for the batch before wherever x has not moved, at a bound for instance.
    """
    from scipy.optimize._optimize import MemoizeJac

    is_memory = isinstance(fun, MemoizeJac) and getattr(jac, "__self__", None) is fun
    if is_memory:
        return fun.fun, True
    return fun, jac
