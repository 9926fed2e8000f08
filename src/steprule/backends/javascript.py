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
from steprule.backends.javascript_math import HELPERS
from steprule.backends.loops import COMMON, Dialect, Writer, indented
from steprule.compile import ENCODED, Plan, distinct
from steprule.errors import TargetError
from steprule.formats import GROUP
from steprule.language.node import Node

__all__ = ["emit", "function", "functions", "helpers"]

_RESERVED = (
    *("arguments", "await", "break", "case", "catch", "class", "const", "continue", "debugger", "default", "delete"),
    *("do", "else", "enum", "eval", "export", "extends", "false", "finally", "for", "function", "if", "implements"),
    *("import", "in", "instanceof", "interface", "let", "new", "null", "package", "private", "protected", "public"),
    *("return", "static", "super", "switch", "this", "throw", "true", "try", "typeof", "var", "void", "while", "with"),
    *("yield", "async", "of", "undefined", "Infinity", "NaN", "Math", "BigInt", "Float32Array", "Uint32Array"),
    *("keys", "origin"),
    *("scalars", "prelude", "kernel", "fround", "words", "floats", "lost", "array", "value", "one"),
    *HELPERS,
)
_MATH = (
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "ceil", "cos", "cosh", "expm1", "floor", "log10"),
    *("log1p", "log2", "sin", "sinh", "tan", "tanh", "trunc"),
)
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
        **{f"math.{name}": f"Math.{name}({{0}})" for name in _MATH},
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
    reserved=_RESERVED,
)


def emit(plan: Plan) -> str:
    """Return the text of an ES module that exports ``prelude`` and ``kernel``.

    ``prelude(...)`` takes the hyperparameters, t and scalar slots by position, in the plan's order, and returns the row
    of scalars, then the new scalar slots. ``kernel(...)`` takes a typed array for each plane in the plan's order and
    the row; where random bits are drawn, the two ``keys`` of the step and the ``origin``: the index of the first
    element and the word of the array's stream; in a plan with groups, the number of rows last. Both throw where
    something is missing: JavaScript would read undefined, and make NaN of the parameters.

    Raises:
        TargetError: when the plan says what JavaScript has no words for.
    """
    arrays = ", ".join(f"{plane.name} {_ARRAYS[plane.dtype]}" for plane in plan.planes if plane.dtype in _ARRAYS)
    module = _module(plan)
    note = f"// {ENCODED}\n" if "/* encode " in module else ""
    return f"// {' '.join(plan.title.split())}: {arrays}\n{note}\n{module}\nexport {{ prelude, kernel }};\n"


def _module(plan: Plan) -> str:
    """Return the text of ``emit`` without its exports: function declarations, after those that they call."""
    text = functions(plan, checks=True)
    return f"{helpers(text)}{text}"


def functions(plan: Plan, checks: bool = False) -> str:
    """Return ``prelude`` and ``kernel`` alone; what they call is what ``helpers`` gives for the text.

    Args:
        plan: what they do.
        checks: whether they check that all arguments are there and arrays are equally long.

    Raises:
        TargetError: for a plan that has sums of elements, or takes them.
    """
    if plan.sums or plan.before:
        raise TargetError(f"{plan.title}: sums over elements are not written in JavaScript")
    writer = Writer(plan, _DIALECT)
    recipe = plan.prelude
    names = distinct(recipe.arguments, writer.taken)
    host = function("prelude", recipe.results, names, plan.title, _all_given(list(names.values())) if checks else [])
    row = [f"scalars[{index}]" for index in range(len(recipe.conditions))]
    arguments = [*writer.arrays, "scalars", *(["keys", "origin = [0, 0]"] if plan.inputs else [])]
    arguments += ["rows = 1"] if plan.has_groups else []
    first = next(index for index, plane in enumerate(plan.planes) if plane.is_elementwise)
    size = f"{writer.arrays[first]}.length"
    sized = f"const length = rows ? {size} / rows : 0;" if plan.has_groups else f"const n = {size};"
    elements = [name for name, plane in zip(writer.arrays, plan.planes, strict=True) if plane.is_elementwise]
    lines = [*(_equally_long(elements) if checks else []), sized, *writer.lines(row)]
    kernel = [f"function kernel({', '.join(arguments)}) {{", *indented(lines)]
    return "\n".join([host, *kernel, "}", ""])


def _all_given(names: Sequence[str]) -> list[str]:
    """Return lines that throw for a number that was left away."""
    if not names:
        return []
    return [
        f"for (const value of [{', '.join(names)}]) {{",
        f'    if (value === undefined) throw new TypeError("prelude takes {len(names)}: {", ".join(names)}");',
        "}",
    ]


def _equally_long(names: Sequence[str]) -> list[str]:
    """Return lines that throw for arrays with fewer or more elements than the first."""
    first, *others = names
    if not others:
        return []
    return [
        f"for (const array of [{', '.join(others)}]) {{",
        f"    if (array.length !== {first}.length) {{",
        f'        throw new RangeError("kernel: {", ".join(names)} must be equally long, got " + '
        f'[{", ".join(names)}].map((one) => one.length).join(", "));',
        "    }",
        "}",
    ]


def function(
    name: str, results: Sequence[Node], names: Mapping[str, str], title: str = "", checks: Sequence[str] = ()
) -> str:
    """Return a function that computes expressions of the host in float64 and returns them as an array.

    Args:
        name: of the function.
        results: the expressions.
        names: how their symbols are called, in the order of its arguments.
        title: for messages.
        checks: lines that come first.

    Raises:
        TargetError: when they call what JavaScript has no function for.
    """
    lines, values = statements(results, _SPELLING, names, title or name)
    body = indented([*checks, *lines, f"return [{', '.join(values)}];"])
    return "\n".join([f"function {name}({', '.join(names.values())}) {{", *body, "}", ""])


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
