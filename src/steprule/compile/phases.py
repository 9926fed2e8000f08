"""Splitting lowered expressions into the phases of a plan, and the row of host scalars."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from steprule.compile.ir import Const, Instruction, Per, Plane, Ref, Scalar, Value
from steprule.language.node import Node
from steprule.language.walk import postorder

__all__ = ["Phases"]

Step: TypeAlias = tuple[int, Literal["element", "group"]]
"""After how many maxima over the group something is computed, and whether for each element or once a group."""


class Phases:
    """The body of a plan, phase by phase.

    Numbers of rows and columns that are ``hoisted`` are read from a plane.

    A value is computed in the first phase in which it can be. What a later phase needs of it is kept, but for values
    that follow from one other value alone by a few operations (its bits, its sign, whether it is zero): these are
    computed again, which takes less time than writing and reading them.

    Attributes:
        body: the instructions, of all phases.
        phases: what each phase runs for.
    """

    def __init__(
        self,
        planes: Sequence[Plane],
        stored: Mapping[str, Node],
        sections: Mapping[Node, str],
        hoisted: Mapping[Node, tuple[str, Per]] | None = None,
    ) -> None:
        self._index = {plane.name: index for index, plane in enumerate(planes)}
        self._phase = {plane.name: plane.phase for plane in planes}
        self._hoisted = hoisted or {}
        self._stored = stored
        self._sections = sections
        # What belongs together stands together; of what is used nothing comes after its use.
        order_of = {section: place for place, section in enumerate(dict.fromkeys(sections.values()))}
        nodes = postorder(stored.values(), self._hoisted)
        order = sorted(nodes, key=lambda node: order_of[sections[node]])
        self._steps = _steps(order)
        self._from_one = _followers(order)
        found = {*self._steps.values(), *((0, plane.phase) for plane in planes)}
        # A group's own numbers come before those of its elements.
        self._order = sorted(found, key=lambda step: (step[0], step[1] == "element"))
        self.phases: tuple[Per, ...] = tuple(per for _, per in self._order)
        self.body: list[Instruction] = []
        self._values: dict[tuple[Node, Step], int] = {}
        self._scalars: dict[Node, int] = {}
        needed = self._needed(order)
        for node in order:
            if node.stage != "host" and node.op != "symbol":
                for step in sorted(needed[node], key=self._order.index):
                    self._add(node, step)

    @property
    def row(self) -> list[Node]:
        """The host scalars."""
        return list(self._scalars)

    def place(self, step: Step) -> int:
        """Return the place of a step among the phases."""
        return self._order.index(step)

    def step_of_store(self, plane: str) -> Step:
        """Return when a plane can be written, or a sum be taken."""
        level = self._steps.get(self._stored[plane], (0, "element"))[0]
        return level, self._phase.get(plane, "element")  # a sum is over elements

    def ref(self, node: Node, step: Step) -> Ref:
        """Return how an instruction of a step refers to a value."""
        if node.op == "const":
            return Const(node.value if node.kind == "int" else float(node.value), node.kind)
        if node.stage == "host":
            return Scalar(self._scalars.setdefault(node, len(self._scalars)))
        if node in self._hoisted or node.op == "symbol":
            return Value(self._index[self._hoisted[node][0] if node in self._hoisted else node.name])
        at = (node, step) if (node, step) in self._values else (node, self._step_of(node))
        return Value(self._values[at])

    def _add(self, node: Node, step: Step) -> None:
        args = tuple(self.ref(arg, step) for arg in node.args)
        self._values[node, step] = len(self._index) + len(self.body)
        self.body.append(Instruction(node.op, args, self.place(step), self._sections[node]))

    def _step_of(self, node: Node) -> Step:
        """Return the step in which a value is computed first. A maximum is taken where its elements are."""
        return self._steps[node.args[0]] if node.op == "group_max" else self._steps[node]

    def _needed(self, order: Sequence[Node]) -> dict[Node, set[Step]]:
        """Return in which steps each value is computed."""
        computed: dict[Node, set[Step]] = defaultdict(set)
        for plane, node in self._stored.items():
            self._need(node, self.step_of_store(plane), computed)
        for node in reversed(order):
            for step in computed[node]:
                for arg in node.args:
                    self._need(arg, step, computed)
        return computed

    def _need(self, node: Node, step: Step, computed: dict[Node, set[Step]]) -> None:
        if node.stage == "host" or node in self._hoisted:
            return
        again = step[1] == "element" and node in self._from_one
        computed[node].add(step if again else self._step_of(node))


_FEW = 6
_SLOW = ("word_mul", "mul", "div", "sqrt")
"""What takes as long as reading a value again, or longer."""


def _followers(order: Sequence[Node]) -> set[Node]:
    """Return the elements' values that follow from one other value by a few operations."""
    sources: dict[Node, tuple[Node, frozenset[Node]]] = {}
    followers: set[Node] = set()
    for node in order:
        if node.stage != "element":
            continue
        args = [sources[arg] for arg in node.args if arg.stage != "host" and arg in sources]
        other = any(arg.stage == "group" for arg in node.args)
        sources[node] = (node, frozenset())
        if len({source for source, _ in args}) == 1 and not other and node.op not in _SLOW:
            way = frozenset({node}).union(*(steps for _, steps in args))
            if len(way) <= _FEW:
                sources[node] = (args[0][0], way)
                followers.add(node)
    return followers


def _steps(order: Sequence[Node]) -> dict[Node, Step]:
    steps: dict[Node, Step] = {}
    for node in order:
        if node.stage != "host":
            level = max((steps[arg][0] for arg in node.args if arg in steps), default=0) + (node.op == "group_max")
            steps[node] = (level, "group" if node.stage == "group" else "element")
    return steps
