"""A plan as JavaScript: a module with ``prelude`` and ``kernel``, for browsers and Node.

JavaScript has float64 alone. In float32 every result is rounded by ``Math.fround``: for ``+ - * / sqrt`` of float32
numbers that is the float32 result, since float64 has more than twice the digits (Figueroa 1995,
doi:10.1145/221332.221334). Powers, ``exp`` and ``log`` of the prelude are computed in two parts and rounded once,
because browsers' own differ from the C library's in the last place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steprule.backends import host_code
from steprule.backends.host_code import Spelling, statements
from steprule.backends.javascript_calls import (
    LATE,
    Part,
    arguments,
    behind,
    how_to_evaluate,
    how_to_step,
    parts,
    point_part,
    taken_behind,
)
from steprule.backends.javascript_math import HELPERS
from steprule.backends.javascript_names import MATH, RESERVED
from steprule.backends.loops import indented
from steprule.backends.loops_dialect import COMMON, Dialect
from steprule.backends.loops_matrices import writer
from steprule.backends.loops_memory import times
from steprule.backends.loops_sums import SUMS, Phrases
from steprule.backends.passes import check_known, check_no_products, over_all
from steprule.compile import ENCODED, LANES, Plan, distinct
from steprule.formats import GROUP
from steprule.language.matrices import ROWS
from steprule.language.node import Node

__all__ = ["LATE", "Part", "arguments", "behind", "emit", "function", "functions", "helpers", "parts", "point_part"]

_SPELLING = Spelling(
    target="JavaScript",
    table={
        **host_code.COMMON,
        "abs": "Math.abs({0})",
        "sqrt": "Math.sqrt({0})",
        "pow": "power({0}, {1})",
        "math.pow": "power({0}, {1})",
        "math.exp": "exponential({0})",
        "math.log": "logarithm({0})",
        "math.exp2": "power(2.0, {0})",
        "math.fabs": "Math.abs({0})",
        "math.atan2": "Math.atan2({0}, {1})",
        "math.fmod": "({0} % {1})",
        "math.hypot": "Math.hypot({0}, {1})",
        "math.ldexp": "({0} * power(2.0, {1}))",
        "math.isnan": "Number.isNaN({0})",
        "math.isfinite": "Number.isFinite({0})",
        "math.isinf": "(Math.abs({0}) === Infinity)",
        **{f"math.{name}": f"Math.{name}({{0}})" for name in MATH},
    },
    name="const {name} = {text};",
    infinity="Infinity",
    nan="NaN",
    conditions=("false", "true"),
)
_ARITHMETIC = {"add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "sqrt": "Math.sqrt({0})"}
_OPERATIONS = {
    **COMMON,
    **_ARITHMETIC,
    "abs": "Math.abs({0})",
    "eq": "{0} === {1}",
    "ne": "{0} !== {1}",
    "whole": "{0} | 0",
    "word_add": "({0} + {1}) >>> 0",
    "word_sub": "({0} - {1}) >>> 0",
    "word_mul": "Math.imul({0}, {1}) >>> 0",
    "word_and": "({0} & {1}) >>> 0",
    "word_or": "({0} | {1}) >>> 0",
    "word_xor": "({0} ^ {1}) >>> 0",
    "shift_left": "({0} << {1}) >>> 0",
    "shift_right": "{0} >>> {1}",
    "word_maximum": "Math.max({0} | 0, {1} | 0) >>> 0",
    "word_minimum": "Math.min({0} | 0, {1} | 0) >>> 0",
    "word_eq": "{0} === {1}",
    "index": "(origin[0] + i) >>> 0",
    "stream": "origin[1]",
    "key0": "keys[0]",
    "key1": "keys[1]",
}
_ARRAYS = {
    "float32": "Float32Array",
    "float64": "Float64Array",
    "uint8": "Uint8Array",
    "int8": "Int8Array",
    "uint16": "Uint16Array",
    "int16": "Int16Array",
}
_DIALECT = Dialect(
    name="JavaScript",
    operations={
        "float32": {**_OPERATIONS, **{op: f"fround({text})" for op, text in _ARITHMETIC.items()}},
        "float64": _OPERATIONS,
    },
    larger="{name} = Math.max({name}, {word});",
    groups=f"Math.ceil(length / {GROUP})",
    value="const {name} = {text};",
    maximum="let {name} = 0;",
    tile=f"const {{name}} = new {{type}}({GROUP});",
    count="for (let {name} = 0; {name} < {end}; {name}++) {{",
    size="const {name} = {text};",
    types={"float32": "Float32Array", "float64": "Float64Array", "int": "Uint32Array", "bool": "Array"},
    infinity="Infinity",
    nan="NaN",
    word="{0}",
    suffix={"float32": "", "float64": ""},
    condition="{0} !== 0 && {0} !== false",
    number={"float32": "fround({0})", "float64": "{0}"},
    load={name: "{0} >>> 0" if "int" in name else "{0}" for name in _ARRAYS},
    store=dict.fromkeys(_ARRAYS, "{0}"),
    reserved=RESERVED,
    sums=Phrases(
        lanes=f"const lanes{{0}} = new Float64Array({LANES});",
        partial="const partial{0} = [];",
        wide="{0}",
        value="const {name} = {text};",
        running="let {name} = 0;",
        halves=f"for (let half = {LANES // 2}; half > 0; half >>= 1)",
        lane="for (let lane = 0; lane < half; lane++)",
        put="partial{0}.push({1});",
        clear="lanes{0}.fill(0);",
        rounded="rounded_once(partial{0})",
    ),
    vector="const {name} = vectors.{key} = new {type}({length});",
    kept_vector="const {name} = vectors.{key};",
    doubles="const {name} = new Float64Array({length});",
    lines=f"const {{name}} = new Float64Array({ROWS});",
)


def emit(plan: Plan, init: Mapping[str, float | str] | None = None, evaluated: Plan | None = None) -> str:
    """Return the text of an ES module that exports ``prelude`` and ``kernel``.

    ``prelude(...)`` takes the hyperparameters, t and scalar slots by position, in the plan's order, and returns the row
    of scalars, then the new scalar slots. ``kernel(...)`` takes a typed array for each plane in the plan's order and
    the row; where random bits are drawn, the two ``keys`` of the step and the ``origin``: the index of the first
    element and the word of the array's stream; in a plan with groups, the number of rows last. Both throw where
    something is missing: JavaScript would read undefined, and make NaN of the parameters.

    Of a rule that sums, each pass before has two functions of its own, ``prelude0`` and ``sums0``, which puts its
    results into the array ``sums``, behind the row. Later preludes take it, and the number of elements.

    Of a rule with an evaluated point there are ``prelude_evaluated`` and ``evaluated``, which writes that point into an
    array of its own.

    Args:
        plan: what a step does.
        init: what slots hold before the first step, where that is not 0, as ``Rule.init`` says.
        evaluated: what computes the evaluated point, where the rule has one.

    Raises:
        TargetError: when the plan says what JavaScript has no words for.
    """
    arrays = ", ".join(f"{plane.name} {_ARRAYS[plane.dtype]}" for plane in plan.kept_planes if plane.dtype in _ARRAYS)
    text = functions(plan, checks=True, evaluated=evaluated)
    point = [] if evaluated is None else [point_part(evaluated)]
    added = ["rounded_once"] if over_all(plan) else []
    called = f"{helpers(' '.join([text, *(f'{name}(' for name in added)]))}"
    head = [
        f"{' '.join(plan.title.split())}: {arrays}",
        *([ENCODED] if "/* encode " in text else []),
        *_starts(plan, init or {}),
        *how_to_step(plan),
        *(line for part in point for line in how_to_evaluate(part)),
    ]
    exported = [name for part in (*parts(plan), *point) for name in (part.prelude, part.kernel)]
    comment = "\n".join(f"// {line}" for line in head)
    return f"{comment}\n\n{called}{text}\nexport {{ {', '.join([*exported, *added])} }};\n"


def _starts(plan: Plan, init: Mapping[str, float | str]) -> list[str]:
    """Return a line that says what slots hold before the first step, where that is not 0."""
    kept = {*plan.prelude.scalar_slots, *(plane.name for plane in plan.kept_planes[2:])}
    starts = [f"{slot} = {start}" for slot, start in init.items() if slot in kept]
    return [f"Before the first step {', '.join(starts)}; other slots are 0."] if starts else []


def functions(plan: Plan, checks: bool = False, evaluated: Plan | None = None) -> str:
    """Return the functions of all passes alone; what they call is what ``helpers`` gives for the text.

    Args:
        plan: what they do.
        checks: whether they check that all arguments are there and arrays are equally long.
        evaluated: what computes the evaluated point, where the rule has one.

    Raises:
        TargetError: when the plan says what JavaScript has no words for.
    """
    check_known(plan, "JavaScript")
    check_no_products(plan, "JavaScript")
    point = [] if evaluated is None else [point_part(evaluated)]
    return "\n".join(_functions(part, checks) for part in (*parts(plan), *point))


def _functions(part: Part, checks: bool) -> str:
    plan, prelude, kernel = part
    body, recipe, wanted = writer(plan, _DIALECT), plan.prelude, arguments(plan)
    names = distinct([name for name in wanted if name not in LATE], body.taken)
    ours = {name: LATE[name] for name in wanted if name in LATE}
    totals = [name for before in plan.before for name in before.totals]
    texts = {**names, **ours, **{name: f"{SUMS}[{place}]" for place, name in enumerate(totals)}}
    given = [*names.values(), *ours.values()]
    host = function(
        prelude, recipe.results, texts, plan.title, _all_given(prelude, given) if checks else [], arguments=given
    )
    row = [f"scalars[{index}]" for index in range(len(recipe.conditions))]
    planes = plan.kept_planes
    takes = [*body.arrays[: len(planes)], "scalars", *taken_behind(plan)]
    elements = [name for name, plane in zip(takes, planes, strict=False) if plane.is_elementwise]
    sized = []
    if plan.view is None:
        size = f"{elements[0]}.length"
        sized = [f"const length = rows ? {size} / rows : 0;" if plan.has_groups else f"const n = {size};"]
    checked = _equally_long(kernel, elements) if plan.view is None else _as_long_as_said(kernel, plan, takes)
    lines = [*(checked if checks else []), *sized, *body.lines(row)]
    return "\n".join([host, f"function {kernel}({', '.join(takes)}) {{", *indented(lines), "}", ""])


def _as_long_as_said(kernel: str, plan: Plan, names: Sequence[str]) -> list[str]:
    """Return lines that throw for arrays that have other lengths than numbers of rows and columns say."""
    is_one = plan.view == "first"
    lengths = {
        "element": "rows * columns" if is_one else "matrices * rows * columns",
        "row": times(1, 0, is_one=is_one),
        "column": times(0, 1, is_one=is_one),
    }
    given = [(name, lengths[plane.per]) for name, plane in zip(names, plan.kept_planes, strict=False)]
    return [
        "for (const [array, length, must] of [",
        *(f'    [{name}, {length}, "{name} must have {length}"],' for name, length in given),
        "]) {",
        f"    if (array.length !== length) throw new RangeError(`{kernel}: ${{must}} = ${{length}} numbers, got ` +",
        "        array.length);",
        "}",
    ]


def _all_given(prelude: str, names: Sequence[str]) -> list[str]:
    """Return lines that throw for a number that was left away."""
    if not names:
        return []
    return [
        f"for (const value of [{', '.join(names)}]) {{",
        f'    if (value === undefined) throw new TypeError("{prelude} takes {len(names)}: {", ".join(names)}");',
        "}",
    ]


def _equally_long(kernel: str, names: Sequence[str]) -> list[str]:
    """Return lines that throw for arrays with fewer or more elements than the first."""
    first, *others = names
    if not others:
        return []
    return [
        f"for (const array of [{', '.join(others)}]) {{",
        f"    if (array.length !== {first}.length) {{",
        f'        throw new RangeError("{kernel}: {", ".join(names)} must be equally long, got " + '
        f'[{", ".join(names)}].map((one) => one.length).join(", "));',
        "    }",
        "}",
    ]


def function(
    name: str,
    results: Sequence[Node],
    names: Mapping[str, str],
    title: str = "",
    checks: Sequence[str] = (),
    arguments: Sequence[str] | None = None,
) -> str:
    """Return a function that computes expressions of the host in float64 and returns them as an array.

    Args:
        name: of the function.
        results: the expressions.
        names: how their symbols are called.
        title: for messages.
        checks: lines that come first.
        arguments: what it takes. Default: the symbols, in the order of ``names``.

    Raises:
        TargetError: when they call what JavaScript has no function for.
    """
    lines, values = statements(results, _SPELLING, names, title or name)
    body = indented([*checks, *lines, f"return [{', '.join(values)}];"])
    given = names.values() if arguments is None else arguments
    return "\n".join([f"function {name}({', '.join(given)}) {{", *body, "}", ""])


def helpers(text: str) -> str:
    """Return the functions that a text calls, and those that these call, in their order."""
    wanted = text
    chosen: list[str] = []
    for name, helper in reversed(HELPERS.items()):
        if f"{name}(" in wanted:
            chosen.insert(0, helper)
            wanted += helper
    constants = "const fround = Math.fround;\n" if "fround(" in wanted else ""
    return "".join([constants, *chosen, "\n" if constants or chosen else ""])
