"""From a rule's trace, with what stands for its values in memory, to a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steprule.compile.lower import Lowering
from steprule.compile.parts import Plan, Plane, Store, Sum
from steprule.compile.phases import Phases
from steprule.compile.prelude import make_prelude
from steprule.language.node import Node
from steprule.language.walk import postorder
from steprule.language.words import INPUTS

__all__ = ["make_plan"]


def make_plan(
    title: str,
    compute: str,
    planes: tuple[Plane, ...],
    decoded: Mapping[str, Node],
    computed: Mapping[str, Node],
    outputs: Mapping[str, Node],
    scalar_slots: Mapping[str, Node],
    arguments: tuple[str, ...],
    sums: Sequence[tuple[Node, bool]] = (),
) -> Plan:
    """Return the plan that computes ``outputs`` and ``sums`` from the ``planes``.

    Args:
        title: shown in emitted code.
        compute: NumPy's name of the type of the arithmetic.
        planes: in the order of the kernel's address row.
        decoded: what stands for a symbol of the outputs, from symbols of the planes.
        computed: the new values of the parameter and the slots, by name: the rule's own part.
        outputs: the new value of each plane that is written, by its name.
        scalar_slots: the new value of each scalar slot.
        arguments: the names that the prelude takes.
        sums: what is summed over the elements, and whether it is squared.
    """
    lower = Lowering(decoded)
    stored = {name: lower(node) for name, node in outputs.items()}
    hosts = {name: lower(node) for name, node in scalar_slots.items()}
    summed = {f"sum {index}": lower(node) for index, (node, _) in enumerate(sums)}
    split = Phases(planes, {**stored, **summed}, _parts(lower, decoded, computed, stored, summed))
    names = [plane.name for plane in planes]
    stores = tuple(
        Store(names.index(name), split.ref(node, split.step_of_store(name)), split.place(split.step_of_store(name)))
        for name, node in stored.items()
    )
    results = tuple(
        Sum(split.ref(node, split.step_of_store(name)), squared, split.place(split.step_of_store(name)))
        for (name, node), (_, squared) in zip(summed.items(), sums, strict=True)
    )
    prelude = make_prelude(arguments, split.row, hosts)
    return Plan(title, compute, planes, tuple(split.body), stores, prelude, split.phases, results)


def _parts(
    lower: Lowering,
    decoded: Mapping[str, Node],
    computed: Mapping[str, Node],
    stored: Mapping[str, Node],
    summed: Mapping[str, Node],
) -> dict[Node, str]:
    """Return what each expression belongs to, in the order in which a kernel reads: decode, rule, encode, sums."""
    parts: dict[Node, str] = {}
    sections = [(f"decode {name}", node) for name, node in decoded.items()]
    sections += [("the rule", node) for node in computed.values()]
    for part, node in sections:
        for found in postorder([lower(node)]):
            parts.setdefault(found, part)
    for found in postorder(stored.values()):
        of_elements = [arg for arg in found.args if arg.stage != "host"]
        if found.op in INPUTS or (of_elements and all(parts.get(arg) == "random bits" for arg in of_elements)):
            parts.setdefault(found, "random bits")
    for name, node in stored.items():
        for found in postorder([node]):
            parts.setdefault(found, f"encode {name.partition('.')[0]}")
    for found in postorder(summed.values()):
        parts.setdefault(found, "sums")
    return parts
