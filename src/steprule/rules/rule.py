"""What a rule is: a checked function for one element, with its declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steprule.errors import RuleError, suggest
from steprule.language.cached import cached_attribute
from steprule.language.functions import computing_on
from steprule.language.matrices import View, seen_as
from steprule.language.node import Node
from steprule.language.tracing import as_tuple, symbolic
from steprule.rules.hyperparameters import Hyperparameter, Role
from steprule.rules.order import check_order
from steprule.rules.outputs import misseen, sees_matrices, takes_polar
from steprule.rules.trace import Trace, Variant
from steprule.rules.traced import Traced

__all__ = ["ARGUMENTS", "Rule", "Trace", "Variant"]


@dataclass(frozen=True, eq=False)
class Rule(Traced):
    """An optimizer's step for one element, as its paper writes it.

    Called on arrays it computes: ``rule(theta, g, *slots, t=1, **hyperparameters)`` returns the new
    ``theta`` and the new slots. That is its meaning; every backend gives the same bits, but for what
    storing adds: slots are kept as their formats say (subnormal ones become zero), and float16 and
    bfloat16 are computed in float32. docs/gpu.md and docs/jax.md say where a device that computes
    the numbers of a step itself, or XLA, is not held to the last bit.
    """

    function: Callable[..., Any]
    name: str
    slots: tuple[str, ...]
    hyperparameters: Mapping[str, Hyperparameter]
    paper: str = ""
    title: str = ""
    """How its authors write its name, where that is not the name with a capital: what a class is called."""
    doc: str = ""
    scalars: frozenset[str] = frozenset()
    """The slots that are one number of a group."""
    per_tensor: frozenset[str] = frozenset()
    """The slots that are one number of each tensor."""
    per_row: frozenset[str] = frozenset()
    """The slots that are one number of each row."""
    per_column: frozenset[str] = frozenset()
    """The slots that are one number of each column."""
    matrices: View | None = None
    """How tensors are seen as matrices, if that was said; see ``view``."""
    non_negative: frozenset[str] = frozenset()
    """The slots that are never below zero."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """What slots are to the rule, where they declare it; no two are the same."""
    init: Mapping[str, float | str] = field(default_factory=dict)
    """What slots hold before the first step: a number, or a hyperparameter's name or the parameter's. Default 0."""
    evaluated: Callable[..., Any] | None = None
    """The point that the model is evaluated at, a function of names of the rule; None: the parameter itself."""
    parameter: str = "theta"
    gradient: str = "g"
    uses_t: bool = True
    made_by: tuple[Any, ...] = ()
    """The combinator and its arguments, for a rule made of another: how to make it again."""
    found_by: tuple[Any, ...] = field(default=(), init=False, repr=False)
    """How a rule of the catalogue is found there; see ``rules.known``."""
    _traced: dict[Variant, Trace] = field(default_factory=dict, init=False, repr=False)
    made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    """What has been made of it, such as kernels; see ``rules.cache``."""

    def __post_init__(self) -> None:
        self._look_like_a_function()
        for slot, start in self.init.items():
            if slot not in self.slots:
                raise RuleError(
                    f"rule {self.name!r}: init names {slot!r}, which is not a slot.{suggest(slot, self.slots)}"
                )
            if start == self.parameter and slot not in self.element_slots:
                raise RuleError(
                    f"rule {self.name!r}: init of {slot!r} names {start!r}, but the slot has no number for each element"
                )
            if isinstance(start, str) and start not in {*self.hyperparameters, self.parameter}:
                raise RuleError(
                    f"rule {self.name!r}: init of {slot!r} names {start!r}, which is not a hyperparameter, nor "
                    f"{self.parameter}"
                )
        if self.evaluated is not None:
            self._check_evaluated(self.evaluated)
        own = (getattr(self.function, "__module__", "") or "").startswith("steprule.")
        # Tests check the catalogue's: to trace all their variants would take half of an import of the package.
        if not self.is_ours or (self.made_by and not self.name.isidentifier()):
            self.check()
        # Those of other rules have variables that are called as those of the rule inside.
        if not (self.made_by or own):
            check_order(self.function, self.name, (self.parameter, *self.slots), self.traces, self.outputs)

    @property
    def is_ours(self) -> bool:
        """Whether it is a rule of this package, or made of such a one by combinators."""
        inner = self.made_by[1][0] if self.made_by else self
        own = (getattr(inner.function, "__module__", "") or "").startswith("steprule.")
        return own and (inner is self or inner.is_ours)

    def check(self) -> None:
        """Trace every variant, as is done of one's own rule when it is defined, and of the catalogue's by tests.

        Raises:
            RuleError: for a rule that is wrong in any variant.
        """
        self._check_variants()
        wrong = misseen(self.matrices, sees=self.view is not None)
        if wrong:
            raise self._error(wrong, at_return=False)

    def _look_like_a_function(self) -> None:
        """Let help, completion and pickle treat the rule as the function that it was."""
        for name in ("__module__", "__qualname__"):
            object.__setattr__(self, name, getattr(self.function, name, ""))
        object.__setattr__(self, "__name__", self.name)
        object.__setattr__(self, "__doc__", self.doc)

    def __reduce__(self) -> str | tuple[Any, ...]:
        # One's own rule is pickled by its name in its module, as functions are.
        return self.found_by or self.made_by or str(self.function.__qualname__)

    def __copy__(self) -> Rule:
        return self

    def __deepcopy__(self, memo: object) -> Rule:
        return self

    @cached_attribute
    def view(self) -> View | None:
        """How the rule sees tensors as matrices; None where it sees no rows and no columns."""
        results = (node for trace in self.traces.values() for node in (trace.parameter, *trace.kept.values()))
        sees = bool(self.vectors) or sees_matrices(results)
        return (self.matrices or "first") if sees else None

    @cached_attribute
    def needs_matrices(self) -> bool:
        """Whether the rule takes polar factors, which vectors have none of."""
        traces = self.traces.values()
        return any(takes_polar((trace.parameter, *trace.kept.values())) for trace in traces)

    def slot_of(self, role: Role) -> str | None:
        """Return the slot of a role."""
        return next((slot for slot, own in self.roles.items() if own is role), None)

    def __repr__(self) -> str:
        return f"<rule {self.name}({', '.join(self._elements)})>"

    def __call__(self, /, *elements: Any, t: Any = 1, **hyperparameters: Any) -> tuple[Any, ...]:
        """Return the new parameter and slots, computed on arrays of any kind (or traced on symbols).

        Args:
            elements: the parameter, the gradient, and one value a slot (None for a slot not kept).
            t: the step number, 1 at the first step.
            hyperparameters: numbers, booleans or choices; defaults otherwise.
        """
        names = self._elements
        if len(elements) != len(names):
            called = repr(self.name) if self.found_by else self.name  # only those of the catalogue are found by name
            raise RuleError(
                f"rule {self.name!r} takes {', '.join(names)}: {len(names)} values, got {len(elements)}. "
                f"Hyperparameters alone go to an optimizer: Optimizer(params, {called}, lr=...)"
            )
        return self.compute(elements, t, self.resolve(hyperparameters))

    def compute(self, elements: Sequence[Any], t: Any, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what a call returns, for all hyperparameters, unchecked: they may be tensors that want a gradient."""
        names = self._elements
        keywords = dict(values)
        if self.uses_t:
            keywords["t"] = _plain(t)
        elements = tuple(_plain(x) if n in self.numbers else x for n, x in zip(names, elements, strict=True))
        function = self.function
        if isinstance(t, Node) or any(isinstance(element, Node) for element in elements):
            return as_tuple(symbolic(function)(*elements, **keywords))
        with computing_on(elements[0] if hasattr(elements[0], "dtype") else None), seen_as(self.view):
            return as_tuple(function(*elements, **keywords))


ARGUMENTS = (
    *("params", "rule", "routes", "backend", "states", "weights", "min_elements", "seed"),
    *("clip_norm", "clip_value", "nonfinite", "max_skips", "update_clip"),
)
"""The arguments of optimizers, which are not names for hyperparameters."""


def _plain(number: Any) -> Any:
    """Return a NumPy number as Python's, which does not promote arrays."""
    return number.item() if isinstance(number, np.generic) else number
