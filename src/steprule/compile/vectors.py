"""What a plan computes for rows and columns before its pass over elements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from steprule.compile.ir import Instruction, Per, Plane, Ref, Value, Vectors
from steprule.language.node import VECTOR, Node
from steprule.language.sums import HOISTED
from steprule.language.walk import postorder

__all__ = ["hoisted_in", "make_vectors", "scratch_planes"]


def hoisted_in(roots: Iterable[Node], names: dict[Node, tuple[str, Per]]) -> list[Node]:
    """Return the numbers of rows and columns that elements are computed from.

    Args:
        roots: the elements.
        names: what the planes of such numbers are called, and what they are of; those that are new are added.
    """
    found: list[Node] = []
    seen: set[Node] = set()
    stack = list(roots)[::-1]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.stage in VECTOR and node.kind == "float":
            per: Per = "column" if node.stage == "column" else "row"
            names.setdefault(node, (f"{HOISTED}{per}{len(names)}", per))
            found.append(node)
        else:
            stack += node.args[::-1]
    return found


def make_vectors(
    ref: Callable[[Node], Ref],
    known: Mapping[Node, str],
    hoisted: Sequence[Node],
    slots: Sequence[tuple[int, Node]],
    totals: Sequence[tuple[Node, bool]],
) -> Vectors:
    """Return what computes these.

    Args:
        ref: how numbers of the host are referred to.
        known: what plans before have computed, by its name.
        hoisted, slots, totals: see ``Vectors``.
    """
    wanted = [*hoisted, *(node for _, node in slots), *(node for node, _ in totals)]
    order = [node for node in postorder(wanted, known) if node.stage in VECTOR]
    used = {arg for node in order for arg in node.args} | set(wanted)
    inputs = {node: node.name for node in order if node.op == "symbol"}
    inputs |= {node: name for node, name in known.items() if node in used}
    values = {node: index for index, node in enumerate(inputs)}
    body: list[Instruction] = []

    def of(node: Node) -> Ref:
        return Value(values[node]) if node in values else ref(node)

    for node in order:
        if node not in values:
            op = f"{node.op}.{node.name}" if node.name else node.op
            body.append(Instruction(op, tuple(map(of, node.args))))
            values[node] = len(inputs) + len(body) - 1
    return Vectors(
        tuple(inputs.values()),
        tuple(body),
        tuple(map(of, hoisted)),
        tuple((place, of(node)) for place, node in slots),
        tuple((of(node), is_squared) for node, is_squared in totals),
        tuple(node.stage for node in values),
    )


def scratch_planes(hoisted: Iterable[tuple[str, Per]], compute: str) -> tuple[Plane, ...]:
    """Return the planes that kernels read numbers of rows and columns from."""
    return tuple(Plane(name, compute, per) for name, per in hoisted)
