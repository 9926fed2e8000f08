"""Running a rule's function on symbols, in each of its variants, and checking what it returns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from steprule.errors import HyperparameterError, RuleError
from steprule.language.cached import cached_attribute
from steprule.language.functions import everywhere
from steprule.language.node import VECTOR, Node, Stage, is_number, symbol
from steprule.language.tracing import explain, naming, trace
from steprule.language.walk import symbols_in
from steprule.rules.evaluated import arguments_of, misnamed, misplaced
from steprule.rules.hints import check_schedule, hint
from steprule.rules.hyperparameters import Hyperparameter
from steprule.rules.outputs import miscount, misfit, unrepeated
from steprule.rules.trace import Trace, Variant

__all__ = ["Traced"]

_MAX_VARIANTS = 128
_POINT = "evaluated point"


class Traced:
    """What of a ``Rule``, which has the attributes, follows from its function and its declaration."""

    function: Callable[..., Any]
    name: str
    slots: tuple[str, ...]
    hyperparameters: Mapping[str, Hyperparameter]
    scalars: frozenset[str]
    per_tensor: frozenset[str]
    per_row: frozenset[str]
    per_column: frozenset[str]
    init: Mapping[str, float | str]
    evaluated: Callable[..., Any] | None
    parameter: str
    gradient: str
    uses_t: bool
    made_by: tuple[Any, ...]
    _traced: dict[Variant, Trace]

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

    @property
    def _elements(self) -> tuple[str, ...]:
        return (self.parameter, self.gradient, *self.slots)

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

    def read_once(self, variant: Variant) -> set[str]:
        """Return what is read before the first step only, as the start of a slot."""
        starts = {start for start in self.init.values() if isinstance(start, str)}
        return starts - self.trace(variant).used

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
