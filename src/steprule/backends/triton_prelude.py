"""A prelude as Triton text: what the host computes once a step, computed where only the device knows the numbers.

``kernel(table, decision, GUARDED)`` takes addresses as 64-bit integers. Program i computes the scalars of row i of the
table, whose 64-bit integers are ``WORDS``, then the addresses of the slots that are numbers, one float64 number each,
first of those whose new values it computes, then of those that it only reads. For each plan whose sums it takes, those
before this one and perhaps this one, there follow the address of its partial sums, how many lines of them there are,
both again for each sum of numbers of rows or columns (``triton_vectors``), and the address of its sums over all tensors
(``triton_totals``) if it has any.

- ``values``: the address of a float64 number for each of the prelude's arguments. Those of t, of scalar slots and of
  the factors that are found on the device are not read;
- ``step``, ``is_double``: the address of the count of steps taken, a float32 or float64 number. Rows must not share
  counts or slots: every program moves its own on;
- ``scalars``: where the row is written, as the host writes it, then the two keys of random bits;
- ``seed``: of random bits;
- ``size``: how many elements the tensor has, but 1 where it has none; then, as far as it is seen as matrices, how
  many there are in a row and in a column, and how many rows and columns;
- ``all_size``: how many all tensors have.

``decision`` is the address of what ``triton_decide`` decides. With ``GUARDED``, a step that is not taken leaves counts
and slots as they are; the row may be written nevertheless.

Arithmetic is float64 and in the order of the prelude, so the scalars are the host's, but for these:

- Powers with an integer in the exponent, as in beta**t, are rounded correctly, but where they are below the
  smallest normal number. C's pow, which Python calls, is not always: glibc's is off by one bit in one of a thousand.
- Other powers, exp, log and the like come from the vendor's library, and may differ from Python's in the last bits.
- Where Python raises (a division by zero, the root or the logarithm of a negative number, overflow), the result is
  infinite or NaN. Whole numbers above 2**53 are rounded.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from steprule.backends.triton_decide import DECISION, TOTAL
from steprule.backends.triton_decide import THREADS as THREADS_OF_TOTAL
from steprule.backends.triton_math import HELPERS, spelled
from steprule.compile import Plan, Prelude, assignments, distinct
from steprule.formats import keys
from steprule.language.sums import ALL_SIZE, SIZES
from steprule.language.walk import symbols_in
from steprule.rules.guard import CLIP_FACTOR

__all__ = ["WORDS", "emit", "threads_of", "width_of"]

WORDS = ("values", "step", "is_double", "scalars", "seed", *(name.removeprefix("_") for name in (*SIZES, ALL_SIZE)))
"""What a row of the table begins with."""
Stages = Sequence[Plan]
Names = Sequence[str]

_KERNEL = """\

@triton.jit(do_not_specialize=["table", "decision"])
def kernel(table: tl.int64, decision: tl.int64, GUARDED: tl.constexpr):
    words = table.to(tl.pointer_type(tl.int64)) + tl.program_id(0).to(tl.int64) * {width}
    values = tl.load(words + {values}).to(tl.pointer_type(tl.float64))
    step = tl.load(words + {step})
    double, single = step.to(tl.pointer_type(tl.float64)), step.to(tl.pointer_type(tl.float32))
    is_double = tl.load(words + {is_double}) != 0
    is_single = is_double == 0
    scalars = tl.load(words + {scalars}).to(tl.pointer_type(tl.float64))
    decided = decision.to(tl.int64).to(tl.pointer_type(tl.float64))  # 0 comes as a word of 32 bits
    taken = tl.full((), True, tl.int1)
    if GUARDED:
        taken = tl.load(decided + {taken}) != 0.0
    t = tl.load(double, is_double, other=0.0) + tl.load(single, is_single, other=0.0).to(tl.float64) + 1.0
{body}
    tl.store(double, t, is_double & taken)
    tl.store(single, t.to(tl.float32), is_single & taken)
"""
_HEAD = '''\
"""The prelude of a step, in float64:

{prelude}
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice

'''


def width_of(prelude: Prelude, stages: Stages = (), read: Names = ()) -> int:
    """Return the integers of a row of the table; ``read`` are slots that are only read."""
    return _places(prelude, stages, read)[-1]


def _places(prelude: Prelude, stages: Stages, read: Names) -> list[int]:
    """Return where in a row the words of each plan begin, and where they end."""
    widths = (2 * (1 + plan.width - len(plan.sums)) + bool(plan.all_totals) for plan in stages)
    return list(itertools.accumulate(widths, initial=len(WORDS) + len(prelude.scalar_slots) + len(read)))


def threads_of(prelude: Prelude, stages: Stages = ()) -> int:
    """Return the threads of a program: one does, but for sums."""
    totals = {name for plan in stages for name in plan.tensor_totals}
    return THREADS_OF_TOTAL if totals & symbols_in(prelude.results) else 32


def emit(prelude: Prelude, stages: Stages = (), read: Names = ()) -> str:
    """Return the text of the module that defines ``kernel``.

    Args:
        prelude: a plan's.
        stages: the plans whose sums it may take.
        read: the slots that it takes, and that stay as they are.

    Raises:
        TargetError: for functions of ``math`` that devices do not have.
    """
    body = _body(prelude, _totals(prelude, stages, read), read)
    kernel = _KERNEL.format(
        width=width_of(prelude, stages, read),
        taken=DECISION.index("taken"),
        body="\n".join(f"    {line}" for line in body),
        **{word: index for index, word in enumerate(WORDS)},
    )
    sums = TOTAL if threads_of(prelude, stages) == THREADS_OF_TOTAL else ""
    head = _HEAD.format(prelude="\n".join(f"    {line}" for line in prelude.text.splitlines()))
    return head + sums + _helpers(kernel) + kernel


def _totals(prelude: Prelude, stages: Stages, read: Names) -> dict[str, str]:
    """Return how each sum is taken, by the name of the prelude's argument."""
    texts: dict[str, str] = {}
    for plan, first in zip(stages, _places(prelude, stages, read), strict=False):
        of_elements = len(plan.sums)
        start = plan.width - len(plan.totals)  # what is only read of a step comes before
        for column, name in enumerate(plan.totals, start):
            if name in plan.all_totals:
                last = first + 2 * (1 + plan.width - of_elements)
                texts[name] = f"tl.load({_word(last)}{_POINTER} + {plan.all_totals.index(name)})"
            elif column < of_elements:
                texts[name] = f"total({_word(first)}{_POINTER} + {column}, {_word(first + 1)}, {of_elements})"
            else:
                own = first + 2 * (1 + column - of_elements)
                texts[name] = f"total({_word(own)}{_POINTER}, {_word(own + 1)}, 1)"
    return texts


def _helpers(kernel: str) -> str:
    """Return the functions that a kernel calls, those that others call before them."""
    needed: list[str] = []
    rest = kernel
    for name, text in reversed(HELPERS.items()):
        if re.search(rf"\b{name}\(", rest):
            needed.insert(0, text)
            rest += text
    return "".join(needed)


def _body(prelude: Prelude, totals: Mapping[str, str], read: Names) -> list[str]:
    """Return the lines that load, compute and store."""
    used, count = symbols_in(prelude.results), len(prelude.conditions)
    slots = (*prelude.scalar_slots, *read)
    names = _names(prelude, slots)
    lines = [f"slot{k} = {_word(len(WORDS) + k)}{_POINTER}" for k in range(len(slots))]
    lines += [
        f"{names[name]} = {_loaded(prelude, totals, slots, name)}"
        for name in prelude.arguments
        if name in used and name != "t"
    ]
    named, texts = assignments(prelude.results, names.values(), lambda node, args: spelled(node, args, names))
    lines += named
    for index, (node, is_condition) in enumerate(zip(prelude.results, prelude.conditions, strict=False)):
        text = f"{texts[node]}.to(tl.float64)" if is_condition else texts[node]
        lines.append(f"tl.store(scalars + {index}, {text})")
    lines += _keys(count)
    return lines + [f"tl.store(slot{k}, {texts[node]}, taken)" for k, node in enumerate(prelude.results[count:])]


_POINTER = ".to(tl.pointer_type(tl.float64))"


def _word(index: int) -> str:
    return f"tl.load(words + {index})"


def _names(prelude: Prelude, slots: Names) -> dict[str, str]:
    """Return how the arguments are called: names of hyperparameters may be any, so ours keep out of their way."""
    ours = "".join([_HEAD, TOTAL, _KERNEL, *HELPERS.values(), *_keys(0)])
    taken = set(re.findall(r"\w+", ours)) | {f"slot{k}" for k in range(len(slots))}
    return {**distinct([name for name in prelude.arguments if name != "t"], taken), "t": "t"}


def _loaded(prelude: Prelude, totals: Mapping[str, str], slots: Names, name: str) -> str:
    if name == CLIP_FACTOR:
        return f"tl.load(decided + {DECISION.index('factor')})"
    if name in (*SIZES, ALL_SIZE):
        return f"{_word(WORDS.index(name.removeprefix('_')))}.to(tl.float64)"
    if name in totals:
        return totals[name]
    if name in slots:
        return f"tl.load(slot{slots.index(name)})"
    return f"tl.load(values + {prelude.arguments.index(name)})"


class _Lines:
    """Writes what is computed with it, one line an operation; arithmetic wraps around at 64 bits by itself."""

    def __init__(self, text: str, lines: list[str]) -> None:
        self._lines = lines
        self.name = f"word{len(lines)}"
        lines.append(f"{self.name} = {text}")

    def _then(self, op: str, other: Any) -> _Lines:
        operand = other.name if isinstance(other, _Lines) else f"tl.full((), {other:#x}, tl.uint64)"
        return _Lines(f"{self.name} {op} {operand}", self._lines)

    def __add__(self, other: Any) -> _Lines:
        return self._then("+", other)

    def __mul__(self, other: Any) -> _Lines:
        return self._then("*", other)

    def __xor__(self, other: Any) -> _Lines:
        return self._then("^", other)

    def __and__(self, other: Any) -> _Lines:
        return self if other == 2**64 - 1 else self._then("&", other)

    def __rshift__(self, other: Any) -> _Lines:
        return self._then(">>", other)


def _keys(count: int) -> list[str]:
    """Return the lines that store the keys after a row of so many scalars, as ``formats.rounding`` makes them."""
    lines: list[str] = []
    seed: Any = _Lines(f"{_word(WORDS.index('seed'))}.to(tl.uint64, bitcast=True)", lines)
    t: Any = _Lines("t.to(tl.int64).to(tl.uint64, bitcast=True)", lines)
    found: Any = keys(seed, t)
    # By signed integers: not every target converts large numbers from unsigned words alike.
    stores = [f"tl.store(scalars + {count + k}, {key.name}.to(tl.int64).to(tl.float64))" for k, key in enumerate(found)]
    return lines + stores
