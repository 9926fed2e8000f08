"""The callback of ``minimize``: which of its two forms it has, and what the second one is shown."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from steprule.doors.box import Vector
from steprule.errors import StructureError

__all__ = ["Show", "wrap"]

_FORMS = "callback must be callback(xk) or callback(intermediate_result)"

Show = Callable[[Vector, float, int, Callable[[], Any]], object]
"""Shows a callback x, the loss, the number of steps, and what returns the state."""


def wrap(callback: Any) -> Show | None:
    """Return what shows a callback where a run is; a parameter of that very name asks for the result, as in SciPy.

    Raises:
        StructureError: when it cannot be called with one argument.
    """
    if callback is None:
        return None
    if not callable(callback):
        raise StructureError(f"{_FORMS}, got {callback!r}")
    try:
        signature = inspect.signature(callback)
    except ValueError:
        # Some builtins have no signature.
        return lambda x, loss, nit, take: callback(x.copy())
    wants_result = "intermediate_result" in signature.parameters
    try:
        signature.bind(intermediate_result=None) if wants_result else signature.bind(None)
    except TypeError as error:
        raise StructureError(f"{_FORMS}, and this one has the parameters {signature}: {error}") from None
    if not wants_result:
        return lambda x, loss, nit, take: callback(x.copy())

    def show(x: Vector, loss: float, nit: int, take: Callable[[], Any]) -> object:
        result = _intermediate()(x=x.copy(), fun=loss, nit=nit)
        # Beside the items: SciPy's class makes an item of every attribute.
        object.__setattr__(result, "_take", take)
        try:
            return callback(intermediate_result=result)
        finally:
            object.__setattr__(result, "_take", None)

    return show


@functools.cache
def _intermediate() -> Any:
    """Return the class of intermediate results, whose ``state`` is made when it is asked for."""
    from scipy.optimize import OptimizeResult

    class IntermediateResult(OptimizeResult):
        def __missing__(self, name: str) -> Any:
            if name != "state":
                raise KeyError(name)
            if self._take is None:
                raise AttributeError("the state is that of the moment: read it while the callback runs")
            self["state"] = self._take()
            return self["state"]

        def __dir__(self) -> list[str]:
            return sorted({*self, "state"})

        def __reduce__(self) -> Any:
            # A copy has the items alone.
            return OptimizeResult, (dict(self),)

    return IntermediateResult
