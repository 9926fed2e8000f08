"""The plan of the pass that writes the evaluated point over a parameter, and keeps what was there."""

from __future__ import annotations

from collections.abc import Mapping

from steprule.coding import plane_name, planes_of
from steprule.compile import Plan, Plane, make_plan
from steprule.formats import Codec, RoundToNearest, Storage
from steprule.language import Node
from steprule.language.node import symbol
from steprule.language.walk import symbols_in
from steprule.rules import Rule
from steprule.rules.rule import Trace

__all__ = ["TRAINED", "evaluating_plan", "saved_planes"]

TRAINED = "trained"
"""What the planes are called, after the parameter's name, that keep it while it is the evaluated point."""


def saved_planes(rule: Rule, storage: Storage) -> tuple[Plane, ...]:
    """Return the planes that keep what a parameter was before it became the evaluated point."""
    return tuple(planes_of(plane_name(rule.parameter, TRAINED), storage.of_parameter()).values())


def evaluating_plan(
    title: str,
    rule: Rule,
    storage: Storage,
    trace: Trace,
    planes: Mapping[str, Mapping[str, Plane]],
    decoded: Mapping[str, Node],
    codecs: Mapping[str, Codec],
) -> Plan:
    """Return the plan.

    Args:
        title: of the plan.
        rule, storage, trace: what is stepped, and what it is in this variant.
        planes: those of the parameter, the gradient and the slots, by suffix.
        decoded: the numbers that they hold.
        codecs: of the parameter and the slots.
    """
    own = planes[rule.parameter]
    first, *beside = own.values()
    saved = saved_planes(rule, storage)
    point = symbol(rule.parameter, "element") if trace.evaluated is None else trace.evaluated
    encoded = codecs[rule.parameter].encode(point, RoundToNearest())
    outputs: dict[str, Node] = {plane.name: encoded[suffix] for suffix, plane in own.items()}
    items = {}
    for plane, kept in zip(own.values(), saved, strict=True):
        if plane.dtype != "float16":  # of which a NaN may have other bits when it was loaded: launches copy it
            # Under another name than the plane, which stands for its number.
            items[kept.name] = symbol(plane.name, plane.per, plane.kind)
            outputs[kept.name] = symbol(kept.name, plane.per, plane.kind)
    return make_plan(
        title=title,
        compute=storage.parameter.compute,
        planes=(
            first,
            *planes[rule.gradient].values(),
            *beside,
            *(plane for slot in (*trace.slots, *trace.vectors) for plane in planes[slot].values()),
            *saved,
        ),
        decoded={**decoded, **items},
        computed={rule.parameter: point},
        outputs=outputs,
        scalar_slots={},
        arguments=tuple(sorted(symbols_in([point]) - set(planes))),
        per_tensor=tuple(trace.per_tensor) if symbols_in([point]) & set(trace.per_tensor) else (),
    )
