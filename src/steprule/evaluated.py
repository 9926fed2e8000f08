"""The point at which a rule's parameters are evaluated, computed beside them: for targets that keep both."""

from __future__ import annotations

from dataclasses import dataclass

from steprule.coding import plane_name, planes_of, symbols_of
from steprule.compile import Plan, Plane, make_plan
from steprule.engine import codecs_of
from steprule.formats import RoundToNearest, Storage
from steprule.language.walk import symbols_in
from steprule.rules import Rule
from steprule.rules.cache import cached_with_rule
from steprule.rules.rule import Variant

__all__ = ["EVALUATED", "Evaluated", "evaluated"]

EVALUATED = "evaluated"
"""What is behind the parameter's name in that of the plane with its evaluated point: ``theta.evaluated``."""


@dataclass(frozen=True)
class Evaluated:
    """How the evaluated point is computed from what is kept of a parameter.

    Attributes:
        plan: it reads the parameter and the slots that it needs, and writes planes of its own.
        reads: the values that it reads, in the order of its planes: the parameter's and those of slots.
        arguments: the hyperparameters and the slots that are one number which its prelude takes, in order.
    """

    plan: Plan
    reads: tuple[str, ...]
    arguments: tuple[str, ...]


@cached_with_rule
def evaluated(rule: Rule, variant: Variant, storage: Storage) -> Evaluated | None:
    """Return how the evaluated point is computed; None of a rule that is evaluated where it trains.

    It is rounded to nearest in the parameter's format, whatever a step does, as ``eval()`` of an optimizer does.
    """
    node = rule.trace(variant).evaluated
    if node is None:
        return None
    codecs, used = codecs_of(rule, variant, storage), symbols_in([node])
    reads = tuple(name for name in codecs if name in used)
    planes = {name: planes_of(name, codecs[name]) for name in reads}
    codec = codecs[rule.parameter]
    results = {
        plane_name(plane_name(rule.parameter, EVALUATED), suffix): number
        for suffix, number in codec.encode(node, RoundToNearest()).items()
    }
    written = [
        Plane(name, spec.dtype, spec.per, spec.packing) for name, spec in zip(results, codec.planes, strict=True)
    ]
    arguments = tuple(sorted(used - set(reads)))
    plan = make_plan(
        title=f"evaluated point of {rule.name} on {storage.parameter.name}",
        compute=storage.parameter.compute,
        planes=(*(plane for own in planes.values() for plane in own.values()), *written),
        decoded={name: codecs[name].decode(symbols_of(own)) for name, own in planes.items()},
        computed={rule.parameter: node},
        outputs=results,
        scalar_slots={},
        arguments=arguments,
        per_tensor=tuple(name for name in arguments if name in rule.per_tensor),
    )
    return Evaluated(plan, reads, arguments)
