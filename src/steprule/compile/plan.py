"""From a rule's trace, with what stands for its values in memory, to a plan."""

from __future__ import annotations

from collections.abc import Mapping

from steprule.compile.lower import Lowering
from steprule.compile.parts import Plan, Plane, Store
from steprule.compile.phases import Phases
from steprule.compile.prelude import make_prelude
from steprule.language.node import Node

__all__ = ["make_plan"]


def make_plan(
    title: str,
    compute: str,
    planes: tuple[Plane, ...],
    decoded: Mapping[str, Node],
    outputs: Mapping[str, Node],
    scalar_slots: Mapping[str, Node],
    arguments: tuple[str, ...],
) -> Plan:
    """Return the plan that computes ``outputs`` from the ``planes``.

    Args:
        title: shown in emitted code.
        compute: NumPy's name of the type of the arithmetic.
        planes: in the order of the kernel's address row.
        decoded: what stands for a symbol of the outputs, from symbols of the planes.
        outputs: the new value of each plane that is written, by its name.
        scalar_slots: the new value of each scalar slot.
        arguments: the names that the prelude takes.
    """
    lower = Lowering(decoded)
    stored = {name: lower(node) for name, node in outputs.items()}
    hosts = {name: lower(node) for name, node in scalar_slots.items()}
    split = Phases(planes, stored)
    names = [plane.name for plane in planes]
    stores = tuple(
        Store(names.index(name), split.ref(node, split.step_of_store(name)), split.place(split.step_of_store(name)))
        for name, node in stored.items()
    )
    prelude = make_prelude(arguments, split.row, hosts)
    return Plan(title, compute, planes, tuple(split.body), stores, prelude, split.phases)
