"""What a plan computes for rows and columns, as lines of the text of a JAX kernel.

Their arrays have the axes of the tensor, with length 1 along those that are summed, and are filled to its shape where
elements take them. There are few of these numbers, so zero is added to all results of arithmetic, whatever follows:
``jax`` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steprule.compile import Const, Plan, Ref, Value, distinct
from steprule.compile.ir import Vectors

__all__ = ["VectorText"]

_ARITHMETIC = ("add", "sub", "mul", "div", "sqrt")
_SHAPES = {"row": "rows", "column": "columns"}


class VectorText:
    """The lines that compute numbers of rows and columns, and the text of what they come to.

    Args:
        plan: the plan.
        vectors: what it computes of rows and columns.
        planes: what the text calls the plan's planes.
        scalars: what it calls the scalars.
        words: how it spells operations.
        taken: names that are in use.

    Attributes:
        inputs: what the text calls the inputs.
        slots: the places of the planes of slots among them.
        lines: in order.
        hoisted, new, totals: what is hoisted, the new slots, and the sums over the tensor.
    """

    def __init__(
        self,
        plan: Plan,
        vectors: Vectors,
        planes: Sequence[str],
        scalars: Sequence[str],
        words: Mapping[str, str],
        taken: Sequence[str],
    ) -> None:
        self._compute, self._scalars, self._words = plan.compute, scalars, words
        at = {plane.name: place for place, plane in enumerate(plan.own_planes)}
        others = distinct([name for name in vectors.inputs if name not in at], taken)
        self.inputs = [planes[at[name]] if name in at else others[name] for name in vectors.inputs]
        self.slots = [at[name] for name in vectors.inputs if name in at]
        self._names = [*self.inputs, *(f"v{number}" for number in range(len(vectors.body)))]
        self.lines = [f'rows, columns = kept_shapes(shape, "{plan.view}")']
        for number, instruction in enumerate(vectors.body):
            args = [self._ref(ref) for ref in instruction.args]
            self.lines.append(f"v{number} = {self._instruction(instruction.op, args, str(plan.view))}")
        scratch = range(len(plan.own_planes), len(plan.planes))
        for place, ref in zip(scratch, vectors.hoisted, strict=True):
            self.lines.append(f"{planes[place]} = filled({self._ref(ref)}, shape)")
        self.hoisted = [
            self._of(ref, plan.planes[place].per) for place, ref in zip(scratch, vectors.hoisted, strict=True)
        ]
        self.new = [
            f'store({self._of(ref, plan.planes[place].per)}, "{plan.planes[place].dtype}")'
            for place, ref in vectors.slots
        ]
        self.totals = [
            f"{'total_of_squares' if is_squared else 'total'}({self._ref(ref)})" for ref, is_squared in vectors.totals
        ]

    def _of(self, ref: Ref, per: str) -> str:
        return f"filled({self._ref(ref)}, {_SHAPES[per]})"

    def _instruction(self, op: str, args: Sequence[str], view: str) -> str:
        word, _, over = op.partition(".")
        if over:  # of what is not summed there are numbers, of each row or column
            shape = "columns" if over == "row" else "rows"
            return f'along("{word}", filled({args[0]}, {shape}), "{over}", "{view}")'
        text = self._words[op].format(*args)
        return f"{text} + zero" if op in _ARITHMETIC else text

    def _ref(self, ref: Ref) -> str:
        if isinstance(ref, Const):
            return f"{self._compute}({ref.value!r})"
        return self._names[ref.index] if isinstance(ref, Value) else self._scalars[ref.index]
