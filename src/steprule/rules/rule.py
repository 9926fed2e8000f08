"""What a rule is: a checked Python function for one element, with its declaration."""

from __future__ import annotations

import inspect
import itertools
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

from steprule.errors import HyperparameterError, RuleError, suggest
from steprule.language.node import Node, symbol
from steprule.language.tracing import explain, naming, symbolic, trace
from steprule.rules.hyperparameters import Hyperparameter, Scalar, Value, declare

__all__ = ["Rule", "Trace", "Variant", "rule"]

Variant = tuple[tuple[str, Value], ...]
"""The choices that are fixed when a rule is traced: booleans, choices, and which optionals are None."""

_MAX_VARIANTS = 128


@dataclass(frozen=True)
class Trace:
    """What a rule computes in one variant, as expressions."""

    parameter: Node
    slots: Mapping[str, Node]
    """The new value of each element slot that this variant keeps."""
    scalars: Mapping[str, Node]
    """The new value of each scalar slot."""
    used: frozenset[str]
    """The symbols that the results depend on."""


@dataclass(frozen=True, eq=False)
class Rule:
    """An optimizer's step for one element, as its paper writes it.

    Called on arrays it computes: ``rule(theta, g, *slots, t=1, **hyperparameters)`` returns the new
    ``theta`` and the new slots. That is its meaning; every backend gives the same bits.
    """

    function: Callable[..., Any]
    name: str
    slots: tuple[str, ...]
    hyperparameters: Mapping[str, Hyperparameter]
    paper: str = ""
    doc: str = ""
    scalars: frozenset[str] = frozenset()
    """The slots that are one number on the host."""
    init: Mapping[str, float | str] = field(default_factory=dict)
    """What slots hold before the first step: a number, or the name of a hyperparameter. Default 0."""
    parameter: str = "theta"
    gradient: str = "g"
    uses_t: bool = True

    def __post_init__(self) -> None:
        for slot, start in self.init.items():
            if slot not in self.slots:
                raise RuleError(
                    f"rule {self.name!r}: init names {slot!r}, which is no slot.{suggest(slot, self.slots)}"
                )
            if isinstance(start, str) and start not in self.hyperparameters:
                raise RuleError(f"rule {self.name!r}: init of {slot!r} names {start!r}, which is no hyperparameter")
        self._check_variants()

    def __repr__(self) -> str:
        return f"<rule {self.name}({', '.join((self.parameter, self.gradient, *self.slots))})>"

    def __call__(self, *elements: Any, t: Any = 1, **hyperparameters: Any) -> tuple[Any, ...]:
        """Return the new parameter and slots, computed on arrays of any kind (or traced on symbols).

        Args:
            elements: the parameter, the gradient, and one value a slot (None for a slot not kept).
            t: the step number, 1 at the first step.
            hyperparameters: numbers, booleans or choices; defaults otherwise.
        """
        names = (self.parameter, self.gradient, *self.slots)
        if len(elements) != len(names):
            raise RuleError(f"rule {self.name!r} takes {', '.join(names)}: {len(names)} values, got {len(elements)}")
        keywords = dict(self.resolve(hyperparameters))
        if self.uses_t:
            keywords["t"] = t
        function = self.function
        if isinstance(t, Node) or any(isinstance(element, Node) for element in elements):
            function = symbolic(function)
        result = function(*elements, **keywords)
        return result if isinstance(result, tuple) else (result,)

    def resolve(self, given: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """Return all hyperparameters: those ``given``, checked, and defaults. Schedules and symbols pass."""
        values: dict[str, Any] = {name: hyper.default for name, hyper in self.hyperparameters.items()}
        for name, value in given.items():
            if name not in values:
                hint = suggest(name, values) if values else " It has none."
                raise HyperparameterError(f"rule {self.name!r} has no hyperparameter {name!r}{where}.{hint}")
            hyper = self.hyperparameters[name]
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
        if variant not in self._traces:
            raise RuleError(f"rule {self.name!r} has no variant {dict(variant)}")
        return self._traces[variant]

    def named_trace(self, variant: Variant | None = None) -> tuple[Trace, dict[Node, str]]:
        """Return a fresh trace, and the names that the rule's source gives to its expressions."""
        labels: dict[Node, str] = {}
        with naming(labels):
            trace = self._trace(variant or self.variant(self.resolve({})))
        return trace, labels

    @cached_property
    def _traces(self) -> dict[Variant, Trace]:
        names = list(self.hyperparameters)
        options = [self.hyperparameters[name].statics() for name in names]
        variants = list(itertools.islice(itertools.product(*options), _MAX_VARIANTS + 1))
        if len(variants) > _MAX_VARIANTS:
            raise RuleError(
                f"rule {self.name!r} has more than {_MAX_VARIANTS} combinations of booleans, choices and optional "
                "hyperparameters; each would be a kernel of its own. Split it into several rules"
            )
        return {(v := tuple(zip(names, values, strict=True))): self._trace(v) for values in variants}

    def _trace(self, variant: Variant) -> Trace:
        elements = [
            symbol(name, "host" if name in self.scalars else "element")
            for name in (self.parameter, self.gradient, *self.slots)
        ]
        hosts: dict[str, Any] = {
            name: symbol(name, "host") if v == "number" and not self.hyperparameters[name].is_static else v
            for name, v in variant
        }
        if self.uses_t:
            hosts["t"] = symbol("t", "host")
        outputs = trace(self.function, self.name, elements, hosts)
        return self._collect(outputs)

    def _collect(self, outputs: tuple[Any, ...]) -> Trace:
        expected = (self.parameter, *self.slots)
        if len(outputs) != len(expected):
            missing = expected[len(outputs) :]
            lacking = f": {', '.join(missing)} is never returned" if missing else ""
            raise self._error(
                f"returns {len(outputs)} values, expected {len(expected)} ({', '.join(expected)}){lacking}"
            )
        results = {name: self._output(name, value) for name, value in zip(expected, outputs, strict=True)}
        parameter = results.pop(self.parameter)
        if parameter is None or parameter.stage != "element":
            raise self._error(
                f"the new {self.parameter} must depend on {self.parameter} or {self.gradient}, got {parameter!r}"
            )
        kept = {name: node for name, node in results.items() if node is not None}
        used = _symbols([parameter, *kept.values()])
        for name in self.slots:
            if name not in kept and name in used:
                raise self._error(f"slot {name!r} is read but returned as None, so its next value is unknown")
        return Trace(
            parameter,
            {name: node for name, node in kept.items() if name not in self.scalars},
            {name: node for name, node in kept.items() if name in self.scalars},
            used,
        )

    def _output(self, name: str, value: Any) -> Node | None:
        if value is None:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = Node("const", stage="host", value=float(value))
        if not isinstance(value, Node) or value.kind != "float":
            raise self._error(f"returns {value!r} for {name!r}, expected a number")
        if name in self.scalars and value.stage != "host":
            raise self._error(f"slot {name!r} is a Scalar, so it may depend on hyperparameters, t and Scalars only")
        return value

    def _check_variants(self) -> None:
        traces = self._traces.values()
        for slot in self.slots:
            if not any(slot in trace.slots or slot in trace.scalars for trace in traces):
                raise self._error(f"slot {slot!r} is None in every return: remove it from the signature")
        started = {start for start in self.init.values() if isinstance(start, str)}
        for name, hyper in self.hyperparameters.items():
            if not hyper.is_static and name not in started and not any(name in trace.used for trace in traces):
                raise self._error(f"hyperparameter {name!r} is declared and never used", at_return=False)

    def _error(self, message: str, *, at_return: bool = True) -> RuleError:
        return explain(self.function, self.name, message, at_return=at_return)


def _symbols(roots: list[Node]) -> frozenset[str]:
    """Return the names of the symbols that the expressions depend on."""
    seen: set[Node] = set()
    names: set[str] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op == "symbol":
            names.add(node.name)
        stack.extend(node.args)
    return frozenset(names)


@overload
def rule(function: Callable[..., Any], /) -> Rule: ...
@overload
def rule(
    *, paper: str = "", name: str | None = None, init: Mapping[str, float | str] | None = None
) -> Callable[[Callable[..., Any]], Rule]: ...
def rule(
    function: Callable[..., Any] | None = None,
    /,
    *,
    paper: str = "",
    name: str | None = None,
    init: Mapping[str, float | str] | None = None,
) -> Rule | Callable[[Callable[..., Any]], Rule]:
    """Make a rule of a function ``(parameter, gradient, *slots, *, t, **hyperparameters)``.

    The signature is the declaration: first the parameter, then the gradient, then the slots
    (annotated ``Scalar`` for one number on the host); keyword-only names are hyperparameters with
    default and range; ``t``, if named, is the step number. It returns the new parameter and slots;
    a slot returned as None is not kept.

    Args:
        paper: where the rule comes from.
        name: default: the function's name.
        init: what slots hold before the first step, a number or a hyperparameter's name. Default 0.

    Raises:
        RuleError: at once, with the line of the source, when the rule is wrong.
        HyperparameterError: when a default is outside its range.
    """
    if function is None:
        return lambda decorated: _declare(decorated, paper, name, init or {})
    return _declare(function, paper, name, init or {})


def _declare(function: Callable[..., Any], paper: str, name: str | None, init: Mapping[str, float | str]) -> Rule:
    title = name or function.__name__
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise explain(function, title, f"unknown annotation: {error}") from None
    elements: list[str] = []
    hyperparameters: dict[str, Hyperparameter] = {}
    parameters = inspect.signature(function).parameters
    for parameter in parameters.values():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty:
            elements.append(parameter.name)
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            raise explain(
                function, title, f"{parameter} is not allowed: slots are plain names, hyperparameters come after *"
            )
        elif parameter.name != "t":
            hyperparameters[parameter.name] = _hyperparameter(function, title, parameter, hints)
    if len(elements) < 2:
        raise explain(function, title, f"takes {elements}, expected at least the parameter and the gradient")
    return Rule(
        function=function,
        name=title,
        slots=tuple(elements[2:]),
        hyperparameters=hyperparameters,
        paper=paper,
        doc=inspect.getdoc(function) or "",
        scalars=frozenset(slot for slot in elements[2:] if hints.get(slot) == Scalar),
        init=init,
        parameter=elements[0],
        gradient=elements[1],
        uses_t="t" in parameters,
    )


def _hyperparameter(
    function: Callable[..., Any], title: str, parameter: inspect.Parameter, hints: Mapping[str, Any]
) -> Hyperparameter:
    if parameter.default is parameter.empty:
        raise explain(function, title, f"hyperparameter {parameter.name!r} has no default")
    try:
        return declare(parameter.name, hints.get(parameter.name, float), parameter.default)
    except (RuleError, HyperparameterError) as error:
        raise type(error)(str(explain(function, title, str(error)))) from None
