"""A plan as JAX text: a function of arrays, which XLA compiles with the program that it is part of.

XLA contracts products and sums into one operation, turns a division by one number into a product, and reorders
constants. So products are written ``a * b + zero``: contracted or not, that is the product, rounded once, as long as
``zero`` is a negative zero of which the compiler knows nothing. It costs no time where there are fused multiply-adds.
A division by one number is made a division by an array (``divide_by``). On CPUs the kernel has the referee's bits
then, but for subnormal numbers, which XLA takes for zero there.

Arrays keep their shapes: what there is once a group is spread over its elements where they need it. Were arrays made
rows of groups and filled up, XLA would store each of them before it did anything else.

``kernel(*arrays, *scalars, zero)`` takes what the plan loads, and returns what it stores and then what it sums, in the
plan's order. Where the plan draws random bits, the two keys of the step and the number of the tensor's stream follow.
Scalars that depend on sums over a tensor are those of ``late``, the second part of the prelude. Of rows and columns the
arrays are followed by the inputs of ``Plan.vectors``, what is stored by the new slots of rows and columns, and what is
summed by the arrays that ``vector_names`` names; see ``jax_vectors``. Matrices are multiplied by whoever calls it: a
pass that has ``Plan.products`` returns what they are made of, and those after it take what became of that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from steprule.backends.jax_prelude import emit as emit_prelude
from steprule.backends.jax_vectors import VectorText
from steprule.backends.numpy import OPERATORS
from steprule.backends.passes import check_known
from steprule.compile import Const, Instruction, Plan, Ref, Store, Value, distinct
from steprule.compile.ir import Per, Sum
from steprule.language.bits import INPUTS
from steprule.language.matrices import Along

__all__ = ["HELPERS", "Code", "emit", "load", "needs_shape", "vector_names"]

_JAX = {
    **OPERATORS,
    "div": "divide({0}, {1})",
    "abs": "abs({0})",
    "sqrt": "root({0})",
    "where": "where({0}, {1}, {2})",
    "bits": "bits({0})",
    "real": "real({0})",
    "whole": "whole({0})",
    "half": "half({0})",
    "word_maximum": "word_maximum({0}, {1})",
    "word_minimum": "word_minimum({0}, {1})",
    "word_where": "where({0}, {1}, {2})",
    "group_max": "group_max({0})",
    **{name: name for name in INPUTS},
}
_OF_VECTORS = {**_JAX, "div": "divide_along({0}, {1})"}
HELPERS = (
    *("along", "bits", "divide", "divide_along", "divide_by", "filled", "group_max", "half", "index_of", "kept_shapes"),
    *("load", "packed", "real", "root", "spread", "store", "total", "total_of_squares", "unpacked", "where", "whole"),
    *("word_maximum", "word_minimum"),
)
"""What the text may import from ``jax_math``."""
_UNCONTRACTED = ("mul", "div", "sqrt", "lt", "le", "gt", "ge", "eq", "ne")
"""What takes a product as it is: nothing is contracted with it."""
_OURS = (
    *("abs", "like", "zero", "key0", "key1", "stream", "index", "shape", "kernel", "prelude", "late", "inf", "nan"),
    *("uint32", "rows", "columns"),
)


def emit(plan: Plan) -> str:
    """Return the text of ``prelude`` and ``kernel``, and of ``late`` where the plan has it; see the top of this file.

    Raises:
        TargetError: when the prelude calls what JAX cannot trace, or waits for what the step sums.
    """
    check_known(plan, "JAX")
    writer = _Writer(plan)
    kernel = [f"def kernel({', '.join(writer.arguments)}):", *_indented(writer.lines())]
    words = set(re.findall(r"\w+", "\n".join(kernel)))
    first, late = plan.parts.first, plan.parts.late
    lines = [
        f"# {plan.title}",
        "from math import inf, nan",
        "",
        f"from numpy import {plan.compute}, uint32",
        "",
        "from steprule.backends import jax_scalars as math",
        f"from steprule.backends.jax_math import {', '.join(name for name in HELPERS if name in words)}",
        "",
        "",
        emit_prelude(plan.title, first),
        "",
        *([] if late is None else [emit_prelude(plan.title, late, "late"), ""]),
        *kernel,
    ]
    return "\n".join(lines) + "\n"


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" if line else line for line in lines]


class _Writer:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        vectors = plan.vectors
        of_vectors = [] if vectors is None else [f"v{k}" for k in range(len(vectors.body))]
        ours = [*_OURS, *HELPERS, plan.compute, *of_vectors, *(f"x{k}" for k in range(len(plan.body)))]
        self._scalars = [f"s{k}" for k in range(len(plan.prelude.conditions))]
        names = [plane.name.replace(".", "_") for plane in plan.planes]
        self._values = list(distinct(names, [*ours, *self._scalars]).values())
        kept = names[: len(plan.own_planes)]
        self._arrays = list(distinct([f"{name}_" for name in kept], [*ours, *self._values]).values())
        taken = [*ours, *self._values, *self._arrays]
        self._vectors = (
            None if vectors is None else VectorText(plan, vectors, self._values, self._scalars, _OF_VECTORS, taken)
        )
        self._uncontracted = _uncontracted(plan)
        self._per: list[Per] = [
            "group" if instruction.op == "group_max" else plan.phases[instruction.phase] for instruction in plan.body
        ]

    @property
    def _shaped(self) -> str:
        """An array of the parameter's shape. Where none is loaded (but packed numbers) one is given, and not read."""
        plan = self._plan
        alike = [index for index in _loads(plan) if plan.planes[index].is_elementwise]
        return self._arrays[alike[0]] if alike else "like"

    @property
    def arguments(self) -> list[str]:
        keys = ["key0", "key1", "stream"] if self._plan.inputs else []
        like = ["like"] if needs_shape(self._plan) else []
        own = [] if self._vectors is None else [self._array(name) for name in self._vectors.inputs]
        return [*like, *(self._arrays[index] for index in _loads(self._plan)), *own, *self._scalars, "zero", *keys]

    def _array(self, name: str) -> str:
        """Return the argument of what is called so in vectors: that of a slot is loaded."""
        return self._arrays[self._values.index(name)] if name in self._values else name

    def lines(self) -> list[str]:
        plan = self._plan
        asks = plan.has_groups or plan.view is not None or "index" in plan.inputs
        lines = [f"shape = {self._shaped}.shape"] if asks else []
        lines += ["index = index_of(shape)"] if "index" in plan.inputs else []
        slots = [] if self._vectors is None else self._vectors.slots
        lines += [f"{self._values[index]} = {self._load(index)}" for index in (*_loads(plan), *slots)]
        lines += [] if self._vectors is None else self._vectors.lines
        section = "the rule"
        for number, instruction in enumerate(plan.body):
            if instruction.section != section:
                section = instruction.section
                lines.append(f"# {section}")
            lines.append(f"x{number} = {self._instruction(number, instruction)}")
        results = [*map(self._store, plan.stores), *map(self._sum, plan.sums)]
        if self._vectors is not None:
            stored, summed = results[: len(plan.stores)], results[len(plan.stores) :]
            along = [self._along(own, "row") for own in plan.row_sums]
            along += [self._along(own, "column") for own in plan.column_sums]
            hoisted = [] if _is_last(plan) else self._vectors.hoisted
            results = [*stored, *self._vectors.new, *summed, *self._vectors.totals, *along, *hoisted]
        return [*lines, f"return ({', '.join(results)},)"]

    def _load(self, index: int) -> str:
        plane, array = self._plan.planes[index], self._arrays[index]
        text = f'load({array}, "{plane.dtype}", {self._plan.compute})'
        return f"unpacked({text}, {plane.packing}, {plane.bits}, shape)" if plane.packing > 1 else text

    def _instruction(self, number: int, instruction: Instruction) -> str:
        args = [self._ref(ref, self._plan.phases[instruction.phase]) for ref in instruction.args]
        word = ""
        if instruction.op == "div" and _is_number(instruction.args[1], self._plan):
            word = "divide_along" if isinstance(instruction.args[1], Value) else "divide_by"
        text = f"{word}({args[0]}, {args[1]})" if word else _JAX[instruction.op].format(*args)
        return f"{text} + zero" if number in self._uncontracted else text

    def _store(self, store: Store) -> str:
        plane = self._plan.planes[store.plane]
        value = self._ref(store.value, plane.per)
        value = f"packed({value}, {plane.packing}, {plane.bits})" if plane.packing > 1 else value
        return f'store({value}, "{plane.dtype}")'

    def _sum(self, result: Sum) -> str:
        name = "total_of_squares" if result.is_squared else "total"
        return f"{name}({self._ref(result.value, 'element')})"

    def _along(self, result: Sum, over: Along) -> str:
        return f'along("{result.word}", {self._ref(result.value, "element")}, "{over}", "{self._plan.view}")'

    def _ref(self, ref: Ref, per: Per) -> str:
        """Return a value in an operation on elements, or on what there is once a group."""
        plan = self._plan
        if isinstance(ref, Const):
            return f"uint32({int(ref.value)})" if ref.kind == "int" else f"{plan.compute}({ref.value!r})"
        if not isinstance(ref, Value):
            return self._scalars[ref.index]
        number = ref.index - len(plan.planes)
        name = self._values[ref.index] if number < 0 else f"x{number}"
        of = plan.planes[ref.index].per if number < 0 else self._per[number]
        return f"spread({name}, shape)" if (per, of) == ("element", "group") else name


def _loads(plan: Plan) -> list[int]:
    """Return the planes that the kernel is given: not those that hold what it computes of rows and columns."""
    return [index for index in plan.loads if index < len(plan.own_planes)]


def _is_last(plan: Plan) -> bool:
    """Whether it is the pass that steps: those before it store nothing, or what the host multiplies."""
    return bool(plan.stores) and not plan.products


def vector_names(plan: Plan) -> list[str]:
    """Return the names of what the kernel finds of rows and columns, for the passes after it."""
    names = [] if _is_last(plan) else [plane.name for plane in plan.scratch_planes]
    return [*(own.name for own in (*plan.row_sums, *plan.column_sums)), *names]


def needs_shape(plan: Plan) -> bool:
    """Whether the kernel's first argument is an array that only tells the parameter's shape."""
    asks = plan.has_groups or plan.view is not None
    return asks and not any(plan.planes[index].is_elementwise for index in _loads(plan))


def _uncontracted(plan: Plan) -> set[int]:
    """Return the places of the results to which ``zero`` is added, since XLA would join them with what follows.

    These are products that are added to something, or leave the kernel; products with one number that are multiplied by
    another, and sums with one number that are added to something; quotients and roots that are divided, or divided by;
    and roots that are squared. Products that are summed are widened in between, and nothing is contracted across that;
    with ``zero`` XLA would store an array of it for its sum.
    """
    planes = len(plan.planes)
    ops = [instruction.op for instruction in plan.body]
    scaled = {number for number, instruction in enumerate(plan.body) if _has_number(instruction, plan, ("mul",))}
    shifted = {number for number, instruction in enumerate(plan.body) if _has_number(instruction, plan, ("add", "sub"))}
    products = {store.value.index - planes for store in plan.stores if isinstance(store.value, Value)}
    found: set[int] = set()
    for number, instruction in enumerate(plan.body):
        places = {ref.index - planes for ref in instruction.args if isinstance(ref, Value)} - set(range(-planes, 0))
        if instruction.op in ("add", "sub"):
            found |= places & shifted
        if instruction.op not in _UNCONTRACTED:
            products |= places
        elif number in scaled:
            found |= places & scaled
        elif instruction.op == "div":
            found |= {place for place in places if ops[place] in ("div", "sqrt")}
        elif instruction.op == "mul" and instruction.args[0] == instruction.args[1]:
            found |= {place for place in places if ops[place] == "sqrt"}
    return found | {number for number in products if number >= 0 and ops[number] == "mul"}


def _has_number(instruction: Instruction, plan: Plan, ops: tuple[str, ...]) -> bool:
    return instruction.op in ops and any(_is_number(ref, plan) for ref in instruction.args)


def _is_number(ref: Ref, plan: Plan) -> bool:
    """Whether an operand is one number of the tensor, or of each row or column."""
    return not isinstance(ref, Value) or len(plan.own_planes) <= ref.index < len(plan.planes)


class Code(NamedTuple):
    """What ``emit`` writes, ready to be traced.

    Attributes:
        prelude: the scalars of a step, or what of them depends on no sum, and what ``late`` takes of it.
        kernel: the operations on arrays.
        late: the scalars that depend on sums over a tensor; None where there are none.
    """

    prelude: Callable[..., tuple[Any, ...]]
    kernel: Callable[..., tuple[Any, ...]]
    late: Callable[..., tuple[Any, ...]] | None


def load(plan: Plan) -> Code:
    """Return the functions that ``emit`` writes."""
    namespace: dict[str, Any] = {}
    exec(compile(emit(plan), f"<jax kernel of {plan.title}>", "exec"), namespace)
    # No function is in its own namespace, which would be a reference cycle.
    return Code(namespace.pop("prelude"), namespace.pop("kernel"), namespace.pop("late", None))
