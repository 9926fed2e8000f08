"""Somebody's optimizer at work on some parameters: one class for each way in which optimizers are called."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.checking.forms import JAX, NUMPY, TORCH, Arrays, Form, Library, Unfit
from steprule.doors.numpy import Optimizer
from steprule.rules import Rule

__all__ = ["BoundSession", "FunctionSession", "OptaxSession", "RuleSession", "Session", "TorchSession"]


def _types(kept: Any, depth: int) -> Iterator[str]:
    """Return the types of arrays within dicts, sequences and attributes."""
    if hasattr(kept, "dtype") and hasattr(kept, "shape"):
        if len(kept.shape):  # a step number may be an array as well
            yield str(kept.dtype).removeprefix("torch.")
        return
    if depth == 0 or isinstance(kept, (str, bytes, int, float, type(None))):
        return
    for part in _parts(kept):
        yield from _types(part, depth - 1)


def _parts(kept: Any) -> list[Any]:
    if hasattr(kept, "keys") and hasattr(kept, "values"):
        return list(kept.values())
    return list(kept) if isinstance(kept, (list, tuple)) else list(getattr(kept, "__dict__", {}).values())


class Session(ABC):
    """An optimizer with the parameters that it steps.

    Attributes:
        wrote: whether it has written to a gradient.
        params: the parameters, in the form that they are handed over in.
    """

    library: Library = NUMPY
    form: Form
    params: Any

    def __init__(self, arrays: Arrays) -> None:
        self.shapes = [array.shape for array in arrays]
        self.wrote = False
        self._gradients: list[Any] = []

    def step(self, gradients: Arrays, *, reuse: bool = False) -> None:
        """Take a step; with ``reuse``, gradients lie in the arrays in which those of the last step lay."""
        with self.library.scope():
            handed = self._hand_over(gradients, reuse)
            self._step(handed)
            self._gradients = handed
            self.wrote |= any(
                not np.array_equal(self.library.read(own), given) for own, given in zip(handed, gradients, strict=True)
            )

    def _hand_over(self, gradients: Arrays, reuse: bool) -> list[Any]:
        fill = self.library.fill
        if not (reuse and self._gradients and fill is not None):
            return [self.library.make(one) for one in gradients]
        for own, given in zip(self._gradients, gradients, strict=True):
            fill(own, given)
        return self._gradients

    def read(self) -> list[NDArray[Any]]:
        """Return copies of the parameters.

        Raises:
            Unfit: when they do not have the shapes that were handed over.
        """
        with self.library.scope():
            return self._arrays(self.params)

    def _arrays(self, params: Any) -> list[NDArray[Any]]:
        found = [self.library.read(one) for one in self.form.unpack(params)]
        if [array.shape for array in found] != self.shapes:
            theirs = ", ".join(str(array.shape) for array in found)
            raise Unfit(f"parameters of shape {theirs} in the place of {', '.join(map(str, self.shapes))}")
        return found

    def write(self, arrays: Arrays) -> None:
        """Put numbers in the place of the parameters' own."""
        with self.library.scope():
            if self.library.fill is None or self.form.alone:
                self.params = self.form.pack([self.library.make(one) for one in arrays])
                return
            for own, given in zip(self.form.unpack(self.params), arrays, strict=True):
                self.library.fill(own, given)

    def kept(self) -> set[str]:
        """Return the types of arrays in what it keeps between steps, as far as that can be seen."""
        return set(_types(self._kept(), depth=4))

    def _kept(self) -> Any:
        return ()

    @abstractmethod
    def _step(self, gradients: list[Any]) -> None:
        """Take a step along gradients of the library."""


class FunctionSession(Session):
    """A function of parameters, gradients and a state; or of parameters and gradients, with a state of its own."""

    def __init__(
        self, call: Callable[..., Any], form: Form, library: Library, state: tuple[Any, ...], arrays: Arrays
    ) -> None:
        super().__init__(arrays)
        self.call, self.form, self.library, self.state = call, form, library, state
        with library.scope():
            self.params = form.pack([library.make(one) for one in arrays])

    def _kept(self) -> Any:
        return self.state, getattr(self.call, "__self__", ())

    def write(self, arrays: Arrays) -> None:
        """Hand over new parameters in the next step: those that were returned may not be arrays to write to."""
        with self.library.scope():
            self.params = self.form.pack([self.library.make(one) for one in arrays])

    def _step(self, gradients: list[Any]) -> None:
        packed = self.form.pack(gradients)
        self._take(self.call(self.params, packed, *self.state))
        if self.form.alone and isinstance(packed, list):
            gradients[:] = packed

    def _take(self, result: Any) -> None:
        """Take what a step returns: new parameters, or these and a state, or None where it wrote into the old ones."""
        if result is None:
            return
        if isinstance(result, Iterator):
            result = list(result)
        if self.state and isinstance(result, tuple) and len(result) == 2:
            try:
                self._arrays(result[0])
            except Unfit:
                pass
            else:
                self.params, self.state = result[0], (result[1],)
                return
        self._arrays(result)
        self.params = result


class BoundSession(FunctionSession):
    """An object that was made with the parameters, and steps along gradients."""

    def __init__(self, made: Callable[[Any], Any], method: str, form: Form, library: Library, arrays: Arrays) -> None:
        super().__init__(lambda _, gradients: getattr(self.object, method)(gradients), form, library, (), arrays)
        self.object = made(self.params)

    def write(self, arrays: Arrays) -> None:
        """Write into the parameters that the object has."""
        Session.write(self, arrays)

    def _kept(self) -> Any:
        return self.object

    def _take(self, result: Any) -> None:
        if result is not None:
            super()._take(result)
        elif hasattr(self.object, "params"):
            self.params = self.object.params


class OptaxSession(Session):
    """A transformation of optax."""

    library = JAX
    form = Form("a list of arrays", list, list)

    def __init__(self, transformation: Any, arrays: Arrays) -> None:
        super().__init__(arrays)
        self.transformation = transformation
        with JAX.scope():
            self.params = [JAX.make(one) for one in arrays]
            self.state = transformation.init(self.params)

    def _kept(self) -> Any:
        return self.state

    def _step(self, gradients: list[Any]) -> None:
        updates, self.state = self.transformation.update(gradients, self.state, self.params)
        self.params = [one + update for one, update in zip(self.params, updates, strict=True)]


class TorchSession(Session):
    """An optimizer of torch.optim's kind, by its class: its step takes nothing, and reads the gradients of tensors."""

    library = TORCH
    form = Form("a list of tensors", list, list)

    def __init__(self, make: Callable[[list[Any]], Any], arrays: Arrays, method: str = "step") -> None:
        super().__init__(arrays)
        self.params = [sys.modules["torch"].nn.Parameter(TORCH.make(one)) for one in arrays]
        self.optimizer, self.method = make(self.params), method

    def _kept(self) -> Any:
        return getattr(self.optimizer, "state", self.optimizer)

    def _step(self, gradients: list[Any]) -> None:
        for param, gradient in zip(self.params, gradients, strict=True):
            param.grad = gradient
        getattr(self.optimizer, self.method)()


class RuleSession(Session):
    """A rule of this library."""

    form = Form("a list of arrays", list, list)

    def __init__(self, rule: Rule, arrays: Arrays) -> None:
        super().__init__(arrays)
        self.params = [np.array(one) for one in arrays]
        self.optimizer = Optimizer(self.params, rule)

    def _step(self, gradients: list[Any]) -> None:
        self.optimizer.step(gradients)
