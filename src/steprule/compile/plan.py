"""From a rule's trace, with what stands for its values in memory, to a plan."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace

from steprule.compile.ir import Per, Plan, Plane, Product, Store, Sum
from steprule.compile.lower import Lowering
from steprule.compile.phases import Phases
from steprule.compile.prelude import NEVER_RAISES, make_prelude
from steprule.compile.vectors import hoisted_in, make_vectors, scratch_planes
from steprule.language.bits import INPUTS
from steprule.language.matrices import View
from steprule.language.node import VECTOR, Node
from steprule.language.sums import ALL_SIZE, COLUMN, ROW, SIZE, SIZES
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
    per_tensor: tuple[str, ...] = (),
    view: View | None = None,
    rides: bool = True,
) -> Plan:
    """Return the plan that computes ``outputs`` and ``sums`` from the ``planes``, with the plans that come before it.

    Args:
        title: shown in emitted code.
        compute: NumPy's name of the type of the arithmetic.
        planes: in the order of the kernel's address row.
        decoded: what stands for a symbol of the outputs, from symbols of the planes.
        computed: the new values of the parameter and the slots, by name: the rule's own part.
        outputs: the new value of each plane that is written, by its name.
        scalar_slots: the new value of each slot that is one number.
        arguments: the names that the prelude takes.
        sums: what is summed over the elements, and whether it is squared.
        per_tensor: the arguments that are numbers of the tensor.
        rides: whether sums that only scalar slots ask for are taken while the plan steps, not in a pass before.
        view: how the tensor is seen as matrices; None where it is not.
    """
    lower = Lowering(decoded)
    lowered = {name: lower(node) for name, node in outputs.items()}
    of_vectors = {plane.name for plane in planes if plane.per in ("row", "column")}
    stored = {name: node for name, node in lowered.items() if name not in of_vectors}
    slots = {name: node for name, node in lowered.items() if name in of_vectors}
    hosts = {name: lower(node) for name, node in scalar_slots.items()}
    summed = {f"sum {index}": lower(node) for index, (node, _) in enumerate(sums)}
    squares = {name for name, (_, is_squared) in zip(summed, sums, strict=True) if is_squared}
    sizes = (SIZE,) if view is None else SIZES
    read, names = set(summed), dict[Node, tuple[str, Per]]()
    step = [*stored.values(), *slots.values(), *summed.values()]
    needed = _needed([*step, *hosts.values()], lower.totals)
    work = {name: Plane(name, compute) for name in lower.products if name in needed}
    planes = (*planes, *work.values())
    places = {plane.name: index for index, plane in enumerate(planes)}

    def made(
        title: str,
        stored: Mapping[str, Node],
        summed: Mapping[str, Node],
        hosts: Mapping[str, Node],
        slots: Mapping[str, Node],
    ) -> Plan:
        """Return a plan; what is ``summed`` of rows and columns comes last."""
        of_elements = {name: node for name, node in summed.items() if node.stage not in VECTOR or name in read}
        totals = [(node, name in lower.squared) for name, node in summed.items() if name not in of_elements]
        roots = {**stored, **of_elements}
        # What plans before have hoisted of a matrix is a plane of rows, which no number of columns may be met by.
        known = {node: name for node, (name, _) in names.items() if node.stage != "matrix"}
        hoisted = hoisted_in(roots.values(), names)
        own = (*planes, *scratch_planes((names[node] for node in hoisted), compute))
        sections = _sections(lower, decoded, computed, stored, summed)
        split = Phases(own, roots, sections, {node: names[node] for node in hoisted})
        stores = tuple(_store(split, name, node, planes) for name, node in stored.items())
        results = tuple(
            replace(_sum(split, name, node, name in squares | lower.squared), name=name, word=lower.along[name])
            if name in lower.along
            else _sum(split, name, node, name in squares | lower.squared)
            for name, node in of_elements.items()
        )
        named = zip(of_elements, results, strict=True)
        new = [(index, slots[name]) for name, index in places.items() if name in slots]
        vectors = make_vectors(lambda node: split.ref(node, (0, "element")), known, hoisted, new, totals)
        row = split.row
        taken = [name for name in (*lower.totals, *sizes, ALL_SIZE) if name in symbols_in([*row, *hosts.values()])]
        prelude = make_prelude((*arguments, *taken), row, dict(hosts))
        along = {name: result for name, result in named if result.name}
        return Plan(
            title,
            compute,
            own,
            tuple(split.body),
            stores,
            prelude,
            split.phases,
            tuple(result for result in results if not result.name),
            per_tensor=per_tensor,
            view=view,
            vectors=None if view is None else vectors,
            scratch=len(hoisted),
            row_sums=tuple(own for name, own in along.items() if name.startswith(ROW)),
            column_sums=tuple(own for name, own in along.items() if name.startswith(COLUMN)),
            work=len(work),
        )

    before: tuple[Plan, ...] = ()
    riding = _riding(step, hosts, needed, lower.along) if stored and rides else ()
    for level in _levels({name: node for name, node in needed.items() if name not in riding}):
        factors, taken = [name for name in level if name in work], [name for name in level if name not in work]
        left = {name: needed[name] for name in factors}
        what = "products" if factors else "sums"
        plan = made(f"{what} of {title}", left, {name: needed[name] for name in taken}, {}, {})
        products = tuple(Product(places[name], lower.products[name]) for name in factors)
        before += (replace(plan, before=before, totals=_in_order(taken, needed, lower.along), products=products),)
    last = made(title, stored, {**summed, **{name: needed[name] for name in riding}}, hosts, slots)
    return replace(last, before=before, totals=riding)


def _in_order(names: Iterable[str], totals: Mapping[str, Node], along: Container[str]) -> tuple[str, ...]:
    """Return the names of sums over the tensor as a plan gives them: those over elements first."""
    own = [name for name in names if name not in along]
    return (*(n for n in own if totals[n].stage not in VECTOR), *(n for n in own if totals[n].stage in VECTOR))


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


def _riding(
    step: Sequence[Node], slots: Mapping[str, Node], totals: Mapping[str, Node], along: Container[str]
) -> tuple[str, ...]:
    """Return the names of the sums that are taken while the step is: nothing but the next step asks for them.

    What is made of them is computed when the arrays have moved, so that it must not fail.
    """
    riding = totals.keys() - _needed(step, totals).keys()
    riding -= symbols_in(totals[name] for name in riding)
    riding = {name for name in riding if name not in along and totals[name].stage not in VECTOR}
    for node in postorder(slots.values()) if riding else ():
        if node.args and node.op not in NEVER_RAISES:
            riding -= symbols_in([node])
    return tuple(name for name in totals if name in riding)


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
    sections += [("the rule", node) for node in (*computed.values(), *(lower.totals[name] for name in lower.products))]
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
