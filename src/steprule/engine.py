"""Where rules, formats and backends meet: ``kernel(rule, variant, format, backend)``, cached on the rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from steprule.backends import numpy_vectors
from steprule.coding import plane_name, planes_of, symbols_of
from steprule.compile import Plan, Plane, make_plan
from steprule.evaluating import evaluating_plan
from steprule.formats import Codec, Format, StochasticRounding, Storage
from steprule.language import Node
from steprule.language.cached import cached_attribute
from steprule.language.functions import everywhere
from steprule.language.node import symbol
from steprule.rules import Rule
from steprule.rules.cache import cached_with_rule
from steprule.rules.combinators import clips, update_clip
from steprule.rules.difference import difference
from steprule.rules.guard import UNGUARDED, Guard
from steprule.rules.named import named, probes
from steprule.rules.readings import Read, readings
from steprule.rules.rule import Trace, Variant

__all__ = [
    "Kernel",
    "Loader",
    "PassKey",
    "PassKind",
    "kernel",
    "kind_of",
    "monitored_sums",
    "pass_plan",
    "plan",
]

PassKind = Literal["step", "monitored", "update", "probe", "norm", "evaluate"]
"""What a pass does; see ``plan``."""
PassKey = PassKind | tuple[PassKind, int]
"""The pass of a kind, or one before it, by number, that finds sums which it takes. See ``Plan.before``."""


class Loader(Protocol):
    """What compiles plans: a backend of launches, or JAX."""

    @property
    def name(self) -> str:
        """What users call it."""
        ...

    def load(self, plan: Plan) -> Any:
        """Return the code of a plan, in whatever form it is run by.

        Raises:
            TargetError: when it cannot be had here.
        """
        ...


@dataclass(frozen=True, eq=False)
class Kernel:
    """One fused step, ready to run.

    Attributes:
        plan: what it computes; its planes are the order of addresses or arrays.
        codecs: of the parameter and the slots, by name.
        code: what its backend's ``load`` made of the plan. It is freed with the last kernel, or table of a launch, that
            has it.
    """

    plan: Plan
    codecs: Mapping[str, Codec]
    code: Any

    @property
    def state_planes(self) -> tuple[Plane, ...]:
        """The planes beside the parameter and the gradient: the slots', and further bits of the parameter."""
        return self.plan.kept_planes[2:]

    @cached_attribute
    def slots(self) -> Mapping[str, Codec]:
        """The codec of each slot."""
        parameter = self.plan.planes[0].name
        return {name: codec for name, codec in self.codecs.items() if name != parameter}

    @cached_attribute
    def vectors(self) -> Callable[..., tuple[Any, Any, Any]]:
        """What computes the plan's numbers of rows and columns; see ``backends.numpy_vectors``."""
        return numpy_vectors.load(self.plan)

    @cached_attribute
    def needs_order(self) -> bool:
        """Whether it takes C order alone: for matrices, groups or random bits, or as planes beside a value have it."""
        return (
            self.plan.has_groups
            or self.plan.view is not None
            or bool(self.plan.inputs)
            or self.plan.work > 0
            or any(len(codec.planes) > 1 for codec in self.codecs.values())
        )


@cached_with_rule
def plan(
    rule: Rule,
    variant: Variant,
    storage: Format | Storage,
    guard: Guard = UNGUARDED,
    kind: PassKind = "step",
    rides: bool = True,
) -> Plan:
    """Return the plan of one variant of a rule for parameters stored in that format.

    Gradients are of the parameter's type, slots of the compute type, where the storage does not say otherwise. The
    planes are the parameter's, the gradient, what is kept beside the parameter, and each slot's, named after it:
    ``m``, and ``m.scale`` where it has a scale. They are the same for all kinds:

    - ``"step"`` writes the parameter and the slots;
    - ``"monitored"`` does so, and sums what ``monitored_sums`` names;
    - ``"update"`` writes the slots and, into a plane beside them, what is to be added to the parameter;
    - ``"probe"`` steps, and writes what ``rules.named.probes`` names into planes after the slots, ``probe.0``, ...;
    - ``"norm"`` sums the squares of the gradient to be clipped by its norm; and before, where its values are clipped;
    - ``"evaluate"`` writes the evaluated point, rounded to nearest, into the parameter, and what the parameter's planes
      were, bit by bit, into ``evaluating.saved_planes`` after the slots. It reads no gradient and has no guard.

    Sums that nothing but the next step asks for are taken by the pass that steps; without ``rides`` in one before, for
    targets whose prelude is computed when all sums are known.
    """
    if isinstance(storage, Format):
        return plan(rule, variant, Storage(storage), guard, kind, rides)
    inside = named(guarded(rule, guard), variant) if kind == "probe" else None
    trace = inside.trace if inside else _trace(rule, variant, guard)
    codecs = codecs_of(rule, variant, storage)
    read = {**codecs, rule.gradient: storage.of_gradient()}
    planes = {name: planes_of(name, codec) for name, codec in read.items()}
    decoded = {name: codec.decode(symbols_of(planes[name])) for name, codec in read.items()}
    given = decoded[rule.gradient]
    decoded[rule.gradient] = guard.gradient(given, guard.symbols)
    if kind == "evaluate":
        title = f"evaluate pass of {_title(rule, variant, storage)}"
        return evaluating_plan(title, rule, storage, trace, planes, decoded, codecs)
    first, *beside = planes[rule.parameter].values()
    steps = kind in ("step", "monitored", "update", "probe")
    numbers = trace.numbers if steps else {}
    encoded = _encoded(trace, rule, codecs) if steps else {}
    computed = {rule.parameter: trace.parameter, **trace.slots, **trace.vectors} if steps else {}
    outputs = {plane.name: encoded[name][k] for name in encoded for k, plane in planes[name].items()}
    shown = {plane_name("probe", str(k)): node for k, node in enumerate(probes(inside).values())} if inside else {}
    added = [Plane(name, storage.parameter.compute) for name in shown]
    outputs |= shown
    if kind == "update":
        added = [Plane(plane_name(rule.parameter, "update"), storage.parameter.compute)]
        update = difference(trace.parameter, symbol(rule.parameter, "element"))
        computed[rule.parameter] = (
            everywhere(update, symbol(rule.gradient, "element")) if update.stage == "host" else update
        )
        outputs = {added[0].name: computed[rule.parameter], **outputs}
        for plane in planes[rule.parameter].values():
            del outputs[plane.name]
    return make_plan(
        title=_title(rule, variant, storage) if kind == "step" else f"{kind} pass of {_title(rule, variant, storage)}",
        compute=storage.parameter.compute,
        planes=(
            first,
            *planes[rule.gradient].values(),
            *beside,
            *(plane for slot in (*trace.slots, *trace.vectors) for plane in planes[slot].values()),
            *added,
        ),
        decoded=decoded,
        computed=computed,
        outputs=outputs,
        scalar_slots=numbers,
        # Every slot that is a number, also one that is never read: targets take and return it in one place.
        arguments=(*sorted((trace.used - set(trace.numbers) - set(read)) | set(numbers)), *guard),
        sums=_summed(rule, variant, storage, guard, given, encoded, kind),
        per_tensor=tuple(trace.per_tensor) if steps else (),
        rides=rides,
        view=rule.view if steps else None,
    )


def _summed(
    rule: Rule,
    variant: Variant,
    storage: Storage,
    guard: Guard,
    given: Node,
    encoded: Mapping[str, Mapping[str, Node]],
    kind: PassKind,
) -> list[tuple[Node, bool]]:
    """Return what a pass sums, and whether it is squared."""
    if kind in ("step", "update", "probe"):
        return []
    if kind == "monitored":
        reads = _reads(guarded(rule, guard), variant, storage, given, encoded)
        return [(read.node, read.is_squared) for read in reads.values()]
    clipped = guard.measured(given, guard.symbols)
    return [(clipped, True), *([(guard.unscaled(given, guard.symbols), True)] if guard.clips_value else [])]


def guarded(rule: Rule, guard: Guard) -> Rule:
    """Return what steps where a rule is guarded; gradients are guarded when they are read."""
    return update_clip(rule) if guard.clips_update and clips(rule) else rule


@cached_with_rule
def _trace(rule: Rule, variant: Variant, guard: Guard) -> Trace:
    """Return what a guarded rule computes: making the rule again takes a tenth of a second, and it is not kept."""
    return guarded(rule, guard).trace(variant)


@cached_with_rule
def monitored_sums(rule: Rule, variant: Variant, storage: Storage) -> tuple[str, ...]:
    """Return the names of what a monitored step sums; see ``rules.readings``."""
    given = symbol(rule.gradient, "element")
    encoded = _encoded(rule.trace(variant), rule, codecs_of(rule, variant, storage))
    return tuple(_reads(rule, variant, storage, given, encoded))


def _reads(
    rule: Rule, variant: Variant, storage: Storage, given: Node, encoded: Mapping[str, Mapping[str, Node]]
) -> dict[str, Read]:
    codecs = codecs_of(rule, variant, storage)
    low = [name for name, codec in codecs.items() if name == rule.parameter or not codec.is_plain]
    return readings(rule, variant, given, {name: codecs[name].reloaded(encoded[name]) for name in low})


def _encoded(trace: Trace, rule: Rule, codecs: Mapping[str, Codec]) -> dict[str, Mapping[str, Node]]:
    """Return the new planes of each value, by suffix."""
    rounding = StochasticRounding()
    return {
        name: codecs[name].encode(node, rounding)
        for name, node in {rule.parameter: trace.parameter, **trace.slots, **trace.vectors}.items()
    }


@cached_with_rule
def codecs_of(rule: Rule, variant: Variant, storage: Storage) -> Mapping[str, Codec]:
    """Return the codecs of the parameter and of each slot, by name."""
    trace = rule.trace(variant)
    slots = {slot: storage.of_slot(slot, slot in rule.non_negative, slot in rule.points) for slot in trace.slots}
    vectors = {
        slot: storage.of_vector("row" if slot in rule.per_row else "column", rule.view or "first")
        for slot in trace.vectors
    }
    return {rule.parameter: storage.of_parameter(), **slots, **vectors}


def kind_of(which: PassKey) -> PassKind:
    """Return the kind of a pass, or of the one that it comes before."""
    return which if isinstance(which, str) else which[0]


def pass_plan(
    rule: Rule, variant: Variant, storage: Format | Storage, guard: Guard, which: PassKey, rides: bool = True
) -> Plan:
    """Return the plan of one pass of a step."""
    own = plan(rule, variant, storage, guard, kind_of(which), rides)
    return own if isinstance(which, str) else own.before[which[1]]


@cached_with_rule
def kernel(
    rule: Rule,
    variant: Variant,
    storage: Format | Storage,
    backend: Loader,
    guard: Guard = UNGUARDED,
    kind: PassKey = "step",
    rides: bool = True,
) -> Kernel:
    """Return the kernel of one variant of a rule, loaded by a backend on first use.

    Args:
        rule, variant, storage, guard, rides: see ``plan``.
        backend: what runs it.
        kind: what it does, or which pass before that.
    """
    if isinstance(storage, Format):
        return kernel(rule, variant, Storage(storage), backend, guard, kind, rides)
    recipe = pass_plan(rule, variant, storage, guard, kind, rides)
    return Kernel(recipe, codecs_of(rule, variant, storage), backend.load(recipe))


def _title(rule: Rule, variant: Variant, storage: Storage) -> str:
    changed = [
        f"{name}={'...' if value == 'number' else value!r}"
        for name, value in variant
        if value != rule.hyperparameters[name].static(rule.hyperparameters[name].default)
    ]
    title = f"{rule.name}({', '.join(changed)})" if changed else rule.name
    weights = f" ({storage.weights})" if storage.weights != "nearest" else ""
    slots = "".join(f", {slot} in {name}" for slot, name in storage.slots)
    gradient = f", gradient in {storage.gradient.name}" if storage.gradient else ""
    return f"{title} on {storage.parameter.name}{weights}{slots}{gradient}"
