"""What a rule is: a checked function for one element, with its declaration."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from steprule.errors import HyperparameterError, RuleError, suggest
from steprule.language.cached import cached_attribute
from steprule.language.functions import computing_on, everywhere
from steprule.language.matrices import View, seen_as
from steprule.language.node import VECTOR, Node, Stage, is_number, symbol
from steprule.language.tracing import as_tuple, explain, naming, symbolic, trace
from steprule.language.walk import symbols_in
from steprule.rules.evaluated import arguments_of, misnamed, misplaced
from steprule.rules.hints import check_schedule, hint
from steprule.rules.hyperparameters import Hyperparameter, Role
from steprule.rules.order import check_order
from steprule.rules.outputs import miscount, misfit, misseen, sees_matrices, takes_polar, unrepeated
from steprule.rules.trace import Trace, Variant

__all__ = ["ARGUMENTS", "Rule", "Trace", "Variant"]

_MAX_VARIANTS = 128
_POINT = "evaluated point"


@dataclass(frozen=True, eq=False)
class Rule:
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

    @property
    def element_slots(self) -> list[str]:
        """The slots that have a number for each element."""
        return [slot for slot in self.slots if slot not in self.numbers | self.vectors]

    @property
    def points(self) -> frozenset[str]:
        """The slots that begin as the parameter: points beside it, which are as large as it is."""
        return frozenset(slot for slot, start in self.init.items() if start == self.parameter)

    @property
    def numbers(self) -> frozenset[str]:
        """The slots that are one number."""
        return self.scalars | self.per_tensor

    @property
    def vectors(self) -> frozenset[str]:
        """The slots that have a number for each row or for each column."""
        return self.per_row | self.per_column

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

    @property
    def _elements(self) -> tuple[str, ...]:
        return (self.parameter, self.gradient, *self.slots)

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

    def resolve(self, given: Mapping[str, Any], where: str = "", options: Iterable[str] = ()) -> dict[str, Any]:
        """Return all hyperparameters: those ``given``, checked, and defaults. Schedules and symbols pass.

        For messages: ``where`` says which group they are of, ``options`` what the caller takes beside hyperparameters.
        """
        values: dict[str, Any] = {name: hyper.default for name, hyper in self.hyperparameters.items()}
        for name, value in given.items():
            if name not in values:
                raise HyperparameterError(
                    f"rule {self.name!r} has no hyperparameter {name!r}{where}.{hint(name, values, options)}"
                )
            hyper = self.hyperparameters[name]
            if callable(value) and not hyper.is_static:
                check_schedule(name, value, where)
            is_deferred = isinstance(value, Node) or (callable(value) and not hyper.is_static)
            values[name] = value if is_deferred else hyper.check(value, where)
        return values

    def variant(self, values: Mapping[str, Any]) -> Variant:
        """Return the choices that fix the trace for these hyperparameters."""
        return tuple((name, hyper.static(values[name])) for name, hyper in self.hyperparameters.items())

    def trace(self, variant: Variant | None = None) -> Trace:
        """Return the expressions of one variant (default: that of the default values)."""
        if variant is None:
            variant = self.variant(self.resolve({}))
        found = self._traced.get(variant)
        if found is None:
            if variant not in self._variants:
                raise RuleError(f"rule {self.name!r} has no variant {dict(variant)}")
            found = self._traced.setdefault(variant, self._trace(variant))
        return found

    def named_trace(self, variant: Variant | None = None) -> tuple[Trace, dict[Node, str]]:
        """Return a fresh trace, and the names that the rule's source gives to its expressions."""
        labels: dict[Node, str] = {}
        with naming(labels):
            trace = self._trace(variant or self.variant(self.resolve({})))
        return trace, labels

    @property
    def traces(self) -> Mapping[Variant, Trace]:
        """The expressions of every variant."""
        return {variant: self.trace(variant) for variant in self._variants}

    @cached_attribute
    def _variants(self) -> dict[Variant, None]:
        names = list(self.hyperparameters)
        options = [self.hyperparameters[name].statics() for name in names]
        variants = list(itertools.islice(itertools.product(*options), _MAX_VARIANTS + 1))
        if len(variants) > _MAX_VARIANTS:
            raise RuleError(
                f"rule {self.name!r} has more than {_MAX_VARIANTS} combinations of booleans, choices and optional "
                "hyperparameters; each would be a kernel of its own. Split it into several rules"
            )
        return {tuple(zip(names, values, strict=True)): None for values in variants}

    def _check_repeats(self, variant: Variant) -> None:
        """Trace a variant once more: what is not a function of the rule's arguments would be frozen."""
        first, second = (
            {self.parameter: one.parameter, **one.kept, **({} if one.evaluated is None else {_POINT: one.evaluated})}
            for one in (self.trace(variant), self._trace(variant))
        )
        wrong = unrepeated(first, second, (self.parameter, *self.slots, _POINT))
        if wrong:
            raise self._error(wrong, at_return=False)

    def _trace(self, variant: Variant) -> Trace:
        trace = self._collect(self.outputs(variant))
        return trace if self.evaluated is None else replace(trace, evaluated=self._point(variant, trace.kept))

    def _point(self, variant: Variant, kept: Collection[str]) -> Node | None:
        """Return the point that is evaluated; its function has None for a slot that is not kept, and may return it."""
        function = self.evaluated
        assert function is not None
        own = {name: symbol(name, self._stage_of(name)) for name in (self.parameter, *kept)}
        own |= self._hosts(variant)
        outputs = trace(function, self.name, [], {name: own.get(name) for name in arguments_of(function)})
        if len(outputs) == 1 and outputs[0] is None:
            return None
        wrong = misplaced(outputs)
        if wrong:
            raise explain(function, self.name, wrong)
        return outputs[0]  # type: ignore[no-any-return]

    def outputs(self, variant: Variant) -> tuple[Any, ...]:
        """Return what the function returns on symbols, in one variant."""
        elements = [symbol(name, self._stage_of(name)) for name in self._elements]
        hosts = self._hosts(variant)
        if self.uses_t:
            hosts["t"] = symbol("t", "host")
        return trace(self.function, self.name, elements, hosts)

    def _hosts(self, variant: Variant) -> dict[str, Any]:
        """Return what stands for the hyperparameters."""
        return {
            name: symbol(name, "host") if v == "number" and not self.hyperparameters[name].is_static else v
            for name, v in variant
        }

    def _stage_of(self, name: str) -> Stage:
        """Return the latest stage that the new value of a slot may have; its old value has the same."""
        if name in self.scalars:
            return "host"
        if name in self.vectors:
            return "row" if name in self.per_row else "column"
        return "tensor" if name in self.per_tensor else "element"

    def _collect(self, outputs: tuple[Any, ...]) -> Trace:
        expected = (self.parameter, *self.slots)
        wrong = miscount(outputs, expected)
        if wrong:
            raise self._error(wrong)
        results = {name: self._output(name, value) for name, value in zip(expected, outputs, strict=True)}
        parameter = results.pop(self.parameter)
        if parameter is None or parameter.stage != "element":
            raise self._error(
                f"the new {self.parameter} must depend on {self.parameter} or {self.gradient}, got {parameter!r}"
            )
        kept = {name: node for name, node in results.items() if node is not None}
        used = symbols_in([parameter, *kept.values()])
        foreign = used - {*self._elements, *self.hyperparameters, "t"}
        if foreign:
            raise self._error(f"depends on {', '.join(sorted(foreign))}, which belongs to another rule")
        for name in self.slots:
            if name not in kept and name in used:
                raise self._error(f"slot {name!r} is read but returned as None, so its next value is unknown")
        element = symbol(self.gradient, "element")
        return Trace(
            parameter,
            {
                name: everywhere(node, element) if is_number(node) or node.stage in VECTOR else node
                for name, node in kept.items()
                if name not in self.numbers | self.vectors
            },
            {name: node for name, node in kept.items() if name in self.scalars},
            {name: node for name, node in kept.items() if name in self.per_tensor},
            {name: node for name, node in kept.items() if name in self.vectors},
            used,
        )

    def _output(self, name: str, value: Any) -> Node | None:
        if value is None:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = Node("const", stage="host", value=float(value))
        if not isinstance(value, Node) or value.kind != "float":
            raise self._error(f"returns {value!r} for {name!r}, expected a number")
        wrong = misfit(name, self._stage_of(name), value)
        if wrong:
            raise self._error(wrong)
        return value

    def _check_variants(self) -> None:
        if not self.made_by:  # a combinator's own function, around a rule that has been checked, repeats itself
            for variant in self._variants:
                self._check_repeats(variant)
        traces = self.traces.values()
        for slot in self.slots:
            if not any(slot in trace.kept for trace in traces):
                raise self._error(f"slot {slot!r} is None in every return: remove it from the signature")
        started = {start for start in self.init.values() if isinstance(start, str)}
        for name, hyper in self.hyperparameters.items():
            if not hyper.is_static and name not in started and not any(name in trace.named for trace in traces):
                raise self._error(f"hyperparameter {name!r} is declared and never used", at_return=False)

    def _check_evaluated(self, function: Callable[..., Any]) -> None:
        others = {self.gradient: "the gradient", "t": "the step number"}
        if "trained" in self.slots:
            raise RuleError(f"rule {self.name!r}: states call what is trained 'trained'; give that slot another name")
        known = {self.parameter, *self.element_slots, *self.numbers, *self.hyperparameters}
        wrong = misnamed(function, known, others, {"rows": self.per_row, "columns": self.per_column})
        if wrong:
            raise RuleError(f"rule {self.name!r}: {wrong}")

    def _error(self, message: str, *, at_return: bool = True) -> RuleError:
        return explain(self.function, self.name, message, at_return=at_return)


ARGUMENTS = (
    *("params", "rule", "routes", "backend", "states", "weights", "min_elements", "seed"),
    *("clip_norm", "clip_value", "nonfinite", "max_skips", "update_clip"),
)
"""The arguments of optimizers, which are not names for hyperparameters."""


def _plain(number: Any) -> Any:
    """Return a NumPy number as Python's, which does not promote arrays."""
    return number.item() if isinstance(number, np.generic) else number
