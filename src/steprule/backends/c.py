"""A plan as a function in C99, for programs that have no Python: firmware, C++, Fortran.

The function computes the numbers of a step in double, as Python does, and then steps the arrays. Contraction of
products and sums would change bits: compile with ``-ffp-contract=off``, and without ``-ffast-math``.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from steprule.backends import host_code
from steprule.backends.c_head import ADDED, EVALUATED, TAIL, head
from steprule.backends.c_helpers import HELPERS
from steprule.backends.c_names import MATH, MATH_OF_TWO, RESERVED
from steprule.backends.host_code import Spelling, statements
from steprule.backends.loops import Writer, indented
from steprule.backends.loops_dialect import COMMON, Dialect
from steprule.backends.loops_matrices import writer
from steprule.backends.loops_memory import VECTORS, asks_for_axes, doubles_per_column, vectors_of
from steprule.backends.loops_sums import SUMS, Phrases
from steprule.backends.passes import check_known, check_no_products, over_all, passes
from steprule.compile import LANES, SIZE, Plan, distinct
from steprule.formats import GROUP
from steprule.language.matrices import ROWS
from steprule.language.sums import ALL_COLUMNS, ALL_ROWS, ALL_SIZE, IN_COLUMN, IN_ROW, NDIM

__all__ = ["emit"]

_TYPES = {
    "float32": "float",
    "float64": "double",
    "uint8": "uint8_t",
    "int8": "int8_t",
    "uint16": "uint16_t",
    "int16": "int16_t",
}
_OURS = ("seed", "tensor", "key", "all_size", "size_t", "exact_sum", "exact_rounded", *HELPERS)
_Arguments: TypeAlias = dict[str, tuple[str, str]]
"""What a function takes, by the names of planes and of the prelude's arguments, or our own: type and name."""
_OWN = "our "
_SUMS = f"{_OWN}{SUMS}"
_SPELLING = Spelling(
    target="C",
    table={
        **host_code.COMMON,
        "abs": "fabs({0})",
        "sqrt": "sqrt({0})",
        "pow": "pow({0}, {1})",
        **{f"math.{name}": f"{name}({{0}})" for name in MATH},
        **{f"math.{name}": f"{name}({{0}}, {{1}})" for name in MATH_OF_TWO},
        "math.ldexp": "ldexp({0}, (int)({1}))",
    },
    name="const double {name} = {text};",
    infinity="INFINITY",
    nan="NAN",
    conditions=("0", "1"),
)
_OPERATIONS = {
    **COMMON,
    "whole": "(float)(int32_t){0}",
    "word_maximum": "(int32_t){0} > (int32_t){1} ? {0} : {1}",
    "word_minimum": "(int32_t){0} < (int32_t){1} ? {0} : {1}",
    "index": "(uint32_t)i",
    "stream": "(uint32_t)mixed(tensor)",
    "key0": "(uint32_t)(key >> 32)",
    "key1": "(uint32_t)key",
}
_DIALECT = Dialect(
    name="C",
    operations={
        "float32": {**_OPERATIONS, "abs": "fabsf({0})", "sqrt": "sqrtf({0})"},
        "float64": {**_OPERATIONS, "abs": "fabs({0})", "sqrt": "sqrt({0})"},
    },
    larger="{name} = {word} > {name} ? {word} : {name};",
    groups=f"(length + {GROUP - 1}) / {GROUP}",
    value="const {type} {name} = {text};",
    maximum="uint32_t {name} = 0;",
    tile=f"{{type}} {{name}}[{GROUP}];",
    count="for (size_t {name} = 0; {name} < {end}; ++{name}) {{",
    size="const size_t {name} = {text};",
    types={"float32": "float", "float64": "double", "int": "uint32_t", "bool": "int"},
    infinity="INFINITY",
    nan="NAN",
    word="UINT32_C({0})",
    suffix={"float32": "f", "float64": ""},
    condition="{0}",
    number={"float32": "(float){0}", "float64": "{0}"},
    load={name: "(uint32_t){0}" if "int" in name else "{0}" for name in _TYPES},
    store={name: f"({kind}){{0}}" if "int" in name else "{0}" for name, kind in _TYPES.items()},
    reserved=(*RESERVED, *_OURS),
    sums=Phrases(
        lanes=f"double lanes{{0}}[{LANES}] = {{{{0}}}};",
        partial="exact_sum partial{0} = {{{{0}}, 0.0}};",
        wide="(double)({0})",
        value="const double {name} = {text};",
        running="double {name} = 0.0;",
        halves=f"for (size_t half = {LANES // 2}; half > 0; half /= 2)",
        lane="for (size_t lane = 0; lane < half; ++lane)",
        put="exact_add(&partial{0}, {1});",
        clear="memset(lanes{0}, 0, sizeof lanes{0});",
        rounded="exact_rounded(&partial{0})",
    ),
    vector="{type} *const {name} = {place};",
    kept_vector="const {type} *const {name} = {place};",
    doubles="double *const {name} = {place};",
    lines=f"double {{name}}[{ROWS}] = {{{{0}}}};",
)


def emit(plan: Plan, name: str, init: Mapping[str, float | str] | None = None, evaluated: Plan | None = None) -> str:
    """Return the text of a function that steps by a plan, called ``l2_adam`` for the name ``l2(adam)``.

    It takes ``n`` (in a plan with groups ``rows`` and ``length``; in one that sees matrices ``rows`` and ``columns``,
    before these ``matrices`` where a tensor may be several, and ``ndim`` where the rule asks for it), a pointer for
    each plane in the plan's order, one for sums in a plan that sums and for ``vectors`` in one that keeps numbers of
    rows and columns for its passes, where random bits are drawn ``seed`` and ``tensor`` (the number of the array), the
    hyperparameters and t as double, and a pointer for each scalar slot.

    Of a rule that sums, each pass is a function of its own: ``lamb_sums0`` and ``lamb_step``. All take ``sums``, where
    those that sum write and the others read. ``lamb`` calls them, but where sums are over all arrays, which only the
    caller knows.

    Of a rule with an evaluated point, ``adam_evaluated`` is one more function, which writes that point beside the
    parameter.

    Args:
        plan: what it does.
        name: of the rule.
        init: what slots hold before the first step, where that is not 0, as ``Rule.init`` says.
        evaluated: what computes the evaluated point, where the rule has one.

    Raises:
        TargetError: when the plan says what C has no words for.
    """
    check_known(plan, "C")
    check_no_products(plan, "C")
    name = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "step"
    name = f"step_{name}" if name[0].isdigit() else name
    if not plan.before:
        made = [_Function(plan, name)]
        name, texts = made[0].name, [made[0].text]
    else:
        made = [_Function(one, f"{name}_{which}") for which, one in passes(plan).items()]
        name = distinct([name], [*made[-1].taken, *(one.name for one in made)])[name]
        count = sum(one.width for one in passes(plan).values())
        texts = [one.text for one in made]
        texts += (
            [ADDED.format(name=name)]
            if over_all(plan)
            else [_whole(name, made, count, columns=bool(doubles_per_column(plan)))]
        )
    texts += [] if evaluated is None else [_Function(evaluated, f"{name}_{EVALUATED}").text]
    text = "\n".join(texts)
    helpers = "".join(helper for word, helper in HELPERS.items() if f"{word}(" in text)
    return f"{head(plan, name, init or {}, text, evaluated)}{helpers}\n{text}{TAIL}"


class _Function:
    """The function of one pass.

    Attributes:
        name: how it is called.
        text: its text.
        arguments: what it takes, by name, as it is declared.
        taken: all names that it uses.
    """

    def __init__(self, plan: Plan, name: str) -> None:
        body, recipe, late = writer(plan, _DIALECT), plan.prelude, _late(plan)
        own = distinct([one for one in recipe.arguments if one not in late], body.taken)
        slots = _distinct_new(recipe.scalar_slots, [*body.taken, *own.values()])
        called = {one: f"(*{text})" if one in slots else text for one, text in own.items()}
        lines, values = statements(recipe.results, _SPELLING, {**called, **late}, plan.title)
        row, kept = values[: len(recipe.conditions)], values[len(recipe.conditions) :]
        lines += [f"const double {slots[slot]} = {text};" for slot, text in zip(slots, kept, strict=True)]
        lines += ["const uint64_t key = mixed(mixed(seed) ^ (uint64_t)t);"] if plan.inputs else []
        lines += body.lines(row)
        lines += [f"*{own[slot]} = {slots[slot]};" for slot in slots]
        self.arguments = _arguments(plan, body, own)
        unread = _unread(lines, [text for _, text in self.arguments.values()])
        lines = [*unread, *lines]
        self.taken = [*body.taken, *own.values(), *slots.values()]
        self.name = distinct([name], self.taken)[name]
        self.text = _text(self.name, self.arguments, lines)


def _late(plan: Plan) -> dict[str, str]:
    """Return how the prelude's numbers of arrays are called: their sizes, and sums over them."""
    sums = [name for before in plan.before for name in before.totals]
    own = {name: f"{SUMS}[{place}]" for place, name in enumerate(sums)}
    sizes = {SIZE: " * ".join(_sizes(plan))}
    if plan.view is not None:
        both = {IN_ROW: "columns", IN_COLUMN: "rows"}
        many = {"first": "{}", "last": "matrices * {}"}[plan.view]
        sizes |= {**both, ALL_ROWS: many.format("rows"), ALL_COLUMNS: many.format("columns")}
    counted = {name: f"(double)({size} > 0 ? {size} : 1)" for name, size in sizes.items()}
    return {**own, **counted, NDIM: "(double)ndim", ALL_SIZE: "all_size"}


def _sizes(plan: Plan) -> tuple[str, ...]:
    """Return the sizes that a function takes, whose product is the number of elements."""
    if plan.view is not None:
        return (*(["matrices"] if plan.view == "last" else []), "rows", "columns")
    return ("rows", "length") if plan.has_groups else ("n",)


def _whole(name: str, parts: Sequence[_Function], count: int, *, columns: bool) -> str:
    """Return a function that calls those of all passes.

    Args:
        name: of the function.
        parts: the others.
        count: of sums. They are its own,
        columns: but where there are some for each column, which are behind them.
    """
    taken: _Arguments = {of: ("double *", SUMS) if of == _SUMS else own for of, own in parts[-1].arguments.items()}
    lines: list[str] = []
    if not columns and _SUMS in taken:
        del taken[_SUMS]
        lines.append(f"double {SUMS}[{count}];")
    for part in parts:
        given = []
        for of, (kind, _) in part.arguments.items():
            theirs, text = taken.get(of, (kind, SUMS))
            given.append(f"*{text}" if kind == "double " and theirs == "double *" else text)
        lines += _wrapped(f"{part.name}({', '.join(given)});").splitlines()
    return _text(name, taken, lines)


def _text(name: str, arguments: _Arguments, lines: Sequence[str]) -> str:
    declared = ", ".join("".join(argument) for argument in arguments.values())
    return "\n".join([_wrapped(f"void {name}({declared})"), "{", *indented(list(lines)), "}", ""])


def _unread(lines: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return statements that say which arguments a variant does not read, since compilers warn of them."""
    words = set(re.findall(r"\w+", "\n".join(lines)))
    return [f"(void){name};" for name in names if name not in words]


def _distinct_new(slots: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """Return a name for the new value of each scalar slot."""
    return dict(zip(slots, distinct([f"new_{slot}" for slot in slots], taken).values(), strict=True))


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 116, subsequent_indent="        ", break_long_words=False, break_on_hyphens=False)


def _arguments(plan: Plan, body: Writer, names: Mapping[str, str]) -> _Arguments:
    vectors = plan.vectors.slots if plan.vectors else ()
    stored = {store.plane for store in plan.stores} | {place for place, _ in vectors}
    sizes = [*_sizes(plan), *(["ndim"] if asks_for_axes(plan) else [])]
    found = {f"{_OWN}{size}": ("size_t ", size) for size in sizes}
    for index, (plane, array) in enumerate(zip(plan.kept_planes, body.arrays, strict=False)):
        found[plane.name] = f"{'' if index in stored else 'const '}{_TYPES[plane.dtype]} *", array
    if doubles_per_column(plan) or any(one.width for one in passes(plan).values()):
        found[_SUMS] = f"{'' if plan.width or plan.column_sums else 'const '}double *", SUMS
    if vectors_of(plan):
        found[f"{_OWN}{VECTORS}"] = f"{_TYPES[plan.compute]} *", VECTORS
    found |= {f"{_OWN}{name}": ("double ", name) for name in ("all_size",) if ALL_SIZE in plan.prelude.arguments}
    found |= {f"{_OWN}{name}": ("uint64_t ", name) for name in (("seed", "tensor") if plan.inputs else ())}
    pointers = plan.prelude.scalar_slots
    found |= {name: (f"double {'*' if name in pointers else ''}", text) for name, text in names.items()}
    return {**found, **({"t": ("double ", "t")} if plan.inputs and "t" not in names else {})}
