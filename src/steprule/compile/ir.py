"""The intermediate representation: a plan, frozen and independent of targets, of one fused kernel, and its parts."""

from __future__ import annotations

from dataclasses import dataclass

from steprule.compile.operands import Const, Ref, Scalar, Value
from steprule.compile.parts import ENCODED, Instruction, Per, Plane, Product, Store, Sum, Vectors
from steprule.compile.prelude import Parts, Prelude, split
from steprule.language.bits import INPUTS
from steprule.language.cached import cached_attribute
from steprule.language.matrices import View
from steprule.language.ops import OPS, Kind
from steprule.language.sums import ALL, BLOCK, LANES, SIZE, SIZES

__all__ = [
    "BLOCK",
    "ENCODED",
    "LANES",
    "SIZE",
    "Const",
    "Instruction",
    "Per",
    "Plan",
    "Plane",
    "Product",
    "Ref",
    "Scalar",
    "Store",
    "Sum",
    "Value",
    "Vectors",
]


@dataclass(frozen=True)
class Plan:
    """What every backend is given: loads, body and stores, and the host prelude.

    Values 0 to ``len(planes) - 1`` are the planes, numbers converted to the compute type on loading; value
    ``len(planes) + k`` is the result of ``body[k]``.

    A plan without groups has one phase and is for one element: all its loads come before all its stores. A plan with
    groups is for one group, whose phases follow each other: an ``element`` phase runs for every element of the group,
    a ``group`` phase once. ``group_max`` belongs to the element phase of its operand; its result is there for the
    phases after it. Planes are loaded in the first phase of their kind.

    Sums are over all elements of a launch's row, in the order of ``language.sums`` (in a plan with groups, element i
    of a group adds to lane i), and may stand beside stores: a monitored step.

    A plan that needs sums over a tensor, or over all, has plans ``before`` it, which write nothing. Their sums, rounded
    to one number each, are arguments of the preludes of those that follow: ``totals`` names them, in the order of a
    plan's sums. A plan that steps may have such sums itself, after those that are only read: slots that are numbers
    depend on them, and are computed when it has run.

    ``per_tensor`` names the slots that are a number of each tensor.

    Where there is a ``view``, the tensor is seen as matrices, and walked tile by tile (``language.matrices``), for sums
    over the tensor as well. Before the pass over elements, ``vectors`` are computed; the last ``scratch`` planes, which
    the launch makes, hold what elements take of them. Planes of slots of rows and columns are not read by elements.

    Where a rule takes polar factors, there are ``work`` planes before the scratch planes, of all elements, which the
    launch makes, too. A plan ``before`` leaves there what is multiplied, and ``products`` says what the host makes of
    it when the pass has run, in place. They have the same places in all plans of a step.
    """

    title: str
    compute: str
    planes: tuple[Plane, ...]
    body: tuple[Instruction, ...]
    stores: tuple[Store, ...]
    prelude: Prelude
    phases: tuple[Per, ...] = ("element",)
    sums: tuple[Sum, ...] = ()
    before: tuple[Plan, ...] = ()
    totals: tuple[str, ...] = ()

    per_tensor: tuple[str, ...] = ()

    view: View | None = None
    vectors: Vectors | None = None
    scratch: int = 0
    row_sums: tuple[Sum, ...] = ()
    column_sums: tuple[Sum, ...] = ()

    work: int = 0
    products: tuple[Product, ...] = ()

    @property
    def kept_planes(self) -> tuple[Plane, ...]:
        """The planes that are a parameter's, its gradient's, or kept between steps."""
        return self.planes[: len(self.planes) - self.scratch - self.work]

    @property
    def own_planes(self) -> tuple[Plane, ...]:
        """The planes that a parameter has memory for: those that are kept, and the work planes."""
        return self.planes[: len(self.planes) - self.scratch]

    @property
    def work_planes(self) -> tuple[Plane, ...]:
        """The planes in which the host multiplies matrices."""
        return self.own_planes[len(self.kept_planes) :]

    @property
    def multiplies(self) -> bool:
        """Whether the host multiplies matrices in a step of it."""
        return any(plan.products for plan in (*self.before, self))

    @property
    def scratch_planes(self) -> tuple[Plane, ...]:
        """The planes that the launch makes, of numbers of rows and columns."""
        return self.planes[len(self.planes) - self.scratch :]

    @property
    def launches_before(self) -> int:
        """How many launches come before that of its elements: passes, and what they have of rows and columns."""
        plans = (*self.before, self)
        return len(self.before) + sum(bool(plan.vectors and plan.vectors.computed) for plan in plans)

    @property
    def width(self) -> int:
        """How many sums over the tensor, or over all, it gives."""
        return len(self.sums) + (len(self.vectors.totals) if self.vectors else 0)

    @property
    def sizes(self) -> tuple[str, ...]:
        """The names of the sizes that the prelude may take."""
        return (SIZE,) if self.view is None else SIZES

    @property
    def late_arguments(self) -> tuple[str, ...]:
        """The names of what the prelude may take of a tensor: its size, sums over it so far, numbers kept of it."""
        totals = (name for plan in self.before for name in plan.tensor_totals)
        return *self.sizes, *totals, *self.per_tensor

    @cached_attribute
    def tensor_totals(self) -> tuple[str, ...]:
        """The names of its sums over each tensor."""
        return tuple(name for name in self.totals if not name.startswith(ALL))

    @cached_attribute
    def all_totals(self) -> tuple[str, ...]:
        """The names of its sums over all tensors."""
        return tuple(name for name in self.totals if name.startswith(ALL))

    @property
    def stages(self) -> tuple[Plan, ...]:
        """The plans whose sums its prelude takes."""
        return (*self.before, self) if self.totals and self.stores and not self.products else self.before

    @cached_attribute
    def parts(self) -> Parts:
        """The prelude in parts: of a group, of each tensor, and of what the step has summed. See ``prelude.split``."""
        late, after = self.late_arguments, self.totals
        if {*late, *after}.isdisjoint(self.prelude.arguments):
            return Parts(self.prelude)
        return split(self.prelude, late, after)

    @cached_attribute
    def is_per_tensor(self) -> bool:
        """Whether numbers of a tensor enter scalars or slots, so that each has a row of scalars of its own."""
        return any(
            not {*plan.late_arguments, *plan.tensor_totals}.isdisjoint(plan.prelude.arguments)
            for plan in (*self.before, self)
        )

    @cached_attribute
    def asks_for_all(self) -> bool:
        """Whether it takes sums over all tensors, or their size."""
        return any(name.startswith(ALL) for plan in (*self.before, self) for name in plan.prelude.arguments)

    @property
    def sees_elements_alone(self) -> bool:
        """Whether it needs one pass and no number of a tensor or of all."""
        return not (self.before or self.totals or self.is_per_tensor or self.asks_for_all or self.view)

    @property
    def loads(self) -> tuple[int, ...]:
        """The planes that are read."""
        refs = [ref for instruction in self.body for ref in instruction.args]
        sums = (*self.sums, *self.row_sums, *self.column_sums)
        refs += [store.value for store in self.stores] + [result.value for result in sums]
        used = {ref.index for ref in refs if isinstance(ref, Value)}
        return tuple(index for index in range(len(self.planes)) if index in used)

    @cached_attribute
    def has_groups(self) -> bool:
        """Whether the plan is for groups of elements."""
        return any(plane.per == "group" or plane.packing > 1 for plane in self.planes)

    @property
    def packings(self) -> list[int]:
        """Of how many elements items hold the numbers, where it is more than one."""
        return sorted({plane.packing for plane in self.planes} - {1})

    @cached_attribute
    def inputs(self) -> tuple[str, ...]:
        """Which of ``language.bits.INPUTS`` it reads: random bits depend on them."""
        return tuple(name for name in INPUTS if any(name == instruction.op for instruction in self.body))

    def phase_of(self, index: int) -> int:
        """Return the phase in which a value comes to be."""
        if index >= len(self.planes):
            return self.body[index - len(self.planes)].phase
        return self.phases.index(self.planes[index].phase)

    def kind_of(self, ref: Ref) -> Kind:
        """Return what kind of value a reference is to."""
        if isinstance(ref, Const):
            return ref.kind
        if isinstance(ref, Scalar):
            return "bool" if self.prelude.conditions[ref.index] else "float"
        if ref.index < len(self.planes):
            return self.planes[ref.index].kind
        op = self.body[ref.index - len(self.planes)].op
        return OPS[op].gives if op in OPS else "int"
