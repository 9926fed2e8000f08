"""train(), eval() and evaluating(): what optimizers have whose rule evaluates another point than it trains at."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast, overload

from torch import Tensor

from steprule.doors.reentrancy import NotReentrant
from steprule.doors.torch.options import Choice, GroupOptions
from steprule.doors.torch.points import Entered, Left
from steprule.doors.torch.trained import TRAINED_KEYS
from steprule.errors import StateError

__all__ = ["MODE", "HasEvaluated", "trains"]

MODE = "train_mode"
"""The option of groups that says whether their parameters are where they train. Where there is none they are."""

R = TypeVar("R")


class _Evaluates(Generic[R]):
    """A method that optimizers have whose rule has an evaluated point, and others have not: ``hasattr`` tells.

    So accelerate and Hugging Face's Trainer find out whether there is anything to switch.
    """

    def __init__(self, function: Callable[[Any], R]) -> None:
        self._function = function
        functools.update_wrapper(self, function)  # type: ignore[arg-type]

    @overload
    def __get__(self, optimizer: None, kind: type) -> Callable[[Any], R]: ...
    @overload
    def __get__(self, optimizer: HasEvaluated, kind: type) -> Callable[[], R]: ...
    def __get__(self, optimizer: HasEvaluated | None, kind: type) -> Callable[..., R]:
        if optimizer is None:
            return self._function
        name = self._function.__name__
        if "param_groups" not in vars(optimizer):  # Lightning's wrapper has our class, and asks the optimizer itself
            raise AttributeError(f"{type(optimizer).__name__} has no {name!r}", name=name)
        words = optimizer._why_not_evaluated(name)
        if words:
            raise AttributeError(words, name=name, obj=optimizer)
        return cast(Callable[[], R], types.MethodType(self._function, optimizer))


class HasEvaluated(NotReentrant):
    """The two modes of an optimizer, which ``Base`` is; it has the groups, the state and the options."""

    param_groups: list[dict[str, Any]]
    state: Any
    _point_of_its_own = ""
    """Why a class has no evaluated point though its rule has one; empty if it has."""

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        raise NotImplementedError

    def _options_of(self, groups: Sequence[dict[str, Any]]) -> list[GroupOptions]:
        raise NotImplementedError

    @_Evaluates
    def eval(self) -> None:
        """Let the parameters be the point that the model is evaluated at, until ``train()``; twice is as once.

        Evaluate, and save models that are to be used, in this mode. What the parameters were is kept, bit by bit, in
        the state, which takes their memory once more. Parameters that have taken no step are that point already.

        Raises:
            StateError: where a step is under way, or the state does not fit.
            StructureError: for parameters that share memory, or whose formats take kernels that they do not have.
            RuntimeError: with ``differentiable=True``, and while a CUDA graph is captured; then nothing is changed.
        """
        self._refuse_reentry("eval()")
        options = self._of_mode(training=True)
        Entered(options, self.state).take(_flag(options, training=False))

    @_Evaluates
    def train(self) -> None:
        """Let the parameters be what they were before ``eval()``, in every bit, whatever was done to them meanwhile.

        In training mode, in which an optimizer begins, it does nothing.

        Raises:
            StateError: where a step is under way, or parameters are not those that ``eval()`` left; then nothing is
                changed.
        """
        self._refuse_reentry("train()")
        options = self._of_mode(training=False)
        Left(options, self.state, self._trained_of).take(_flag(options, training=True))

    @_Evaluates
    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluate in a ``with`` statement: ``eval()``, and after it the mode that was before, also after an error."""
        was = [trains(group) for group in self.param_groups]
        self.eval()
        try:
            yield
        finally:
            self.train() if all(was) else self.eval()

    def _of_mode(self, *, training: bool) -> list[GroupOptions]:
        """Return the options of the groups in a mode, of those whose rule has an evaluated point."""
        options = self._options_of(self.param_groups)
        return [own for own in options if own.rule.evaluated is not None and trains(own.group) == training]

    def _trained_of(self, point: Tensor, options: GroupOptions, slots: Mapping[str, Tensor]) -> Tensor:
        """Return the training point where the state has only the evaluated one: another library left it so.

        Raises:
            StateError: where it does not follow.
        """
        raise StateError(
            f"a state of evaluation mode has no {TRAINED_KEYS[0]!r}, the parameter that training goes on from; nothing "
            "was changed. Load a state dict that was saved in training mode, or by this optimizer"
        )

    @property
    def _has_evaluated(self) -> bool:
        """Whether a group steps by a rule with an evaluated point."""
        groups = () if self._point_of_its_own else self.param_groups
        return any(self._rule(group)[0].evaluated is not None for group in groups)

    def _why_not_evaluated(self, name: str) -> str:
        """Return why there is no method of that name; empty if there is."""
        kind = type(self).__name__
        if self._point_of_its_own:
            return f"{kind} has no {name}(): {self._point_of_its_own}"
        if self._has_evaluated:
            return ""
        rule = self._rule(self.param_groups[0])[0].name
        return (
            f"{kind} has no {name}(): rule {rule!r} has its model evaluated at the parameters themselves. Leave the "
            "call out, or step by a rule that evaluates another point, such as steprule.averaged or "
            "steprule.schedule_free of it"
        )

    def _check_training(self) -> None:
        """Refuse to step parameters that are not where they train.

        Raises:
            StateError: with what to call.
        """
        if not all(map(trains, self.param_groups)) and self._has_evaluated and self._of_mode(training=False):
            for name in ("grad_scale", "found_inf"):  # GradScaler would multiply the next scale by this one
                vars(self).pop(name, None)
            raise StateError(
                f"{type(self).__name__} is in evaluation mode, in which its parameters are not those that are trained; "
                "nothing was stepped. Call its train() before training goes on, as model.train()"
            )

    def _begin_mode(self, options: Mapping[str, Any], group: dict[str, Any]) -> None:
        """Let a new group with these options be in the mode of the others. Its parameters have taken no step."""
        if not self._point_of_its_own and self._rule(options)[0].evaluated is not None:
            group[MODE] = all(map(trains, self.param_groups))

    def _with_mode(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Return a state dict with training points for evaluation mode alone.

        Raises:
            StateError: for one of evaluation mode, where there is no such mode.
        """
        groups = {key: group for group in state_dict["param_groups"] for key in group["params"]}
        kept = {key for key, group in groups.items() if not trains(group)}
        entries = state_dict["state"]
        if not self._has_evaluated:
            if any(TRAINED_KEYS[0] in entries.get(key, ()) for key in kept):
                raise StateError(
                    f"the state dict is of an optimizer in evaluation mode, which {type(self).__name__} has not; "
                    "nothing was changed. Call train() of that optimizer before its state and the model's are saved"
                )
            return state_dict
        state = {
            key: entry if key in kept or key not in groups else _without_point(entry) for key, entry in entries.items()
        }
        return {**state_dict, "state": state}


def trains(group: Mapping[str, Any]) -> bool:
    """Whether the parameters of a group are where they train."""
    return bool(group.get(MODE, True))


def _flag(options: Sequence[GroupOptions], *, training: bool) -> Callable[[], None]:
    """Return what notes the mode of groups."""

    def note() -> None:
        for own in options:
            own.group[MODE] = training

    return note


def _without_point(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in TRAINED_KEYS}
