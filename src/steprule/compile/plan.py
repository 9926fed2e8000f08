"""From a rule's trace, with what stands for its values in memory, to a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from steprule.compile.ir import SIZE, Plan, Plane, Store, Sum
from steprule.compile.lower import Lowering
from steprule.compile.phases import Phases
from steprule.compile.prelude import make_prelude
from steprule.language.bits import INPUTS
from steprule.language.node import Node
from steprule.language.sums import ALL_SIZE
from steprule.language.walk import postorder, symbols_in

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
    """Return the plan that computes ``outputs`` and ``sums`` from the ``planes``, with the plans that come before it.

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
    squares = {name for name, (_, is_squared) in zip(summed, sums, strict=True) if is_squared}

    def made(title: str, stored: Mapping[str, Node], summed: Mapping[str, Node], hosts: Mapping[str, Node]) -> Plan:
        split = Phases(planes, {**stored, **summed}, _sections(lower, decoded, computed, stored, summed))
        stores = tuple(_store(split, name, node, planes) for name, node in stored.items())
        results = tuple(_sum(split, name, node, name in squares | lower.squared) for name, node in summed.items())
        row = split.row
        taken = [name for name in (*lower.totals, SIZE, ALL_SIZE) if name in symbols_in([*row, *hosts.values()])]
        prelude = make_prelude((*arguments, *taken), row, dict(hosts))
        return Plan(title, compute, planes, tuple(split.body), stores, prelude, split.phases, results)

    before: tuple[Plan, ...] = ()
    needed = _needed([*stored.values(), *hosts.values(), *summed.values()], lower.totals)
    for names in _levels(needed):
        plan = made(f"sums of {title}", {}, {name: needed[name] for name in names}, {})
        before += (replace(plan, before=before, totals=names),)
    return replace(made(title, stored, summed, hosts), before=before)


def _store(split: Phases, name: str, node: Node, planes: Sequence[Plane]) -> Store:
    step = split.step_of_store(name)
    index = next(index for index, plane in enumerate(planes) if plane.name == name)
    return Store(index, split.ref(node, step), split.place(step))


def _sum(split: Phases, name: str, node: Node, is_squared: bool) -> Sum:
    step = split.step_of_store(name)
    return Sum(split.ref(node, step), is_squared, split.place(step))


def _needed(roots: Iterable[Node], totals: Mapping[str, Node]) -> dict[str, Node]:
    """Return what is summed for expressions: a choice that is decided leaves sums that nobody asks for."""
    names = symbols_in(roots) & totals.keys()
    while more := symbols_in(totals[name] for name in names) & totals.keys() - names:
        names |= more
    return {name: node for name, node in totals.items() if name in names}


def _levels(totals: Mapping[str, Node]) -> list[tuple[str, ...]]:
    """Return the names of the sums that can be taken in one pass, pass by pass: after those that they depend on."""
    levels: dict[str, int] = {}
    for name, node in totals.items():
        levels[name] = 1 + max((levels[other] for other in symbols_in([node]) & levels.keys()), default=-1)
    return [tuple(n for n, level in levels.items() if level == k) for k in range(1 + max(levels.values(), default=-1))]


def _sections(
    lower: Lowering,
    decoded: Mapping[str, Node],
    computed: Mapping[str, Node],
    stored: Mapping[str, Node],
    summed: Mapping[str, Node],
) -> dict[Node, str]:
    """Return what each expression belongs to, in the order in which a kernel reads: decode, rule, encode, sums."""
    found_in: dict[Node, str] = {}
    sections = [(f"decode {name}", node) for name, node in decoded.items()]
    sections += [("the rule", node) for node in computed.values()]
    for section, node in sections:
        for found in postorder([lower(node)]):
            found_in.setdefault(found, section)
    for found in postorder(stored.values()):
        of_elements = [arg for arg in found.args if arg.stage != "host"]
        if found.op in INPUTS or (of_elements and all(found_in.get(arg) == "random bits" for arg in of_elements)):
            found_in.setdefault(found, "random bits")
    for name, node in stored.items():
        for found in postorder([node]):
            found_in.setdefault(found, f"encode {name.partition('.')[0]}")
    for found in postorder(summed.values()):
        found_in.setdefault(found, "sums")
    return found_in
