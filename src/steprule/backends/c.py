"""A plan as one function in C99, for programs that have no Python: firmware, C++, Fortran.

The function computes the numbers of a step in double, as Python does, and then steps the arrays. Contraction of
products and sums would change bits: compile with ``-ffp-contract=off``, and without ``-ffast-math``.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

from steprule.backends import host_code
from steprule.backends.c_names import MATH, MATH_OF_TWO, RESERVED
from steprule.backends.host_code import Spelling, statements
from steprule.backends.loops import COMMON, Dialect, Writer, indented
from steprule.backends.loops_sums import SUMS
from steprule.compile import BLOCK, ENCODED, LANES, Plan, distinct
from steprule.formats import GROUP

__all__ = ["emit"]

_TYPES = {
    "float32": "float",
    "float64": "double",
    "uint8": "uint8_t",
    "int8": "int8_t",
    "uint16": "uint16_t",
    "int16": "int16_t",
}
_OURS = ("seed", "tensor", "key", "size_t", "bits_of", "real_of", "mixed", "floor_mod", "floor_divide")
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
    has_sums=True,
)
_HEAD = """\
/* {title}

   {call}
   {arguments}

   Compile with -ffp-contract=off (or -std=c99, which says so to GCC): fused multiply-adds give other bits.
   Link with -lm.{note} */

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__FAST_MATH__)
#error "-ffast-math reorders arithmetic, so that the bits differ; compile without it"
#endif
#if FLT_EVAL_METHOD < 0 || FLT_EVAL_METHOD == 1 || FLT_EVAL_METHOD == 2
#error "float is computed in a wider type here, so that the bits differ; on x86 compile with -msse2 -mfpmath=sse"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#ifdef __cplusplus
extern "C" {{
#endif
"""
_TAIL = """
#ifdef __cplusplus
}
#endif
"""
_HELPERS = {
    "bits_of": """
static uint32_t bits_of(float x)
{
    uint32_t word;
    memcpy(&word, &x, sizeof word);
    return word;
}
""",
    "real_of": """
static float real_of(uint32_t word)
{
    float x;
    memcpy(&x, &word, sizeof x);
    return x;
}
""",
    "mixed": """
/* The next number of SplitMix64. */
static uint64_t mixed(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}
""",
    "floor_mod": """
/* x % y as in Python. */
static double floor_mod(double x, double y)
{
    const double rest = fmod(x, y);
    if (rest == 0.0)
        return copysign(0.0, y);
    return (rest < 0.0) != (y < 0.0) ? rest + y : rest;
}
""",
    "floor_divide": """
/* x // y as in Python. */
static double floor_divide(double x, double y)
{
    const double rest = fmod(x, y);
    double whole = (x - rest) / y;
    if (rest != 0.0 && (rest < 0.0) != (y < 0.0))
        whole -= 1.0;
    if (whole == 0.0)
        return copysign(0.0, x / y);
    return whole - floor(whole) > 0.5 ? floor(whole) + 1.0 : floor(whole);
}
""",
}


def emit(plan: Plan, name: str, init: Mapping[str, float | str] | None = None) -> str:
    """Return the text of one function that steps by a plan, called ``l2_adam`` for the name ``l2(adam)``.

    It takes ``n`` (in a plan with groups ``rows`` and ``length``), a pointer for each plane in the plan's order, one
    for partial sums in a plan that sums, where random bits are drawn ``seed`` and ``tensor`` (the number of the array),
    the hyperparameters and t as double, and a pointer for each scalar slot.

    Args:
        plan: what it does.
        name: of the rule.
        init: what slots hold before the first step, where that is not 0, as ``Rule.init`` says.

    Raises:
        TargetError: when the plan says what C has no words for.
    """
    writer = Writer(plan, _DIALECT)
    recipe = plan.prelude
    names = distinct(recipe.arguments, writer.taken)
    slots = _distinct_new(recipe.scalar_slots, [*writer.taken, *names.values()])
    called = {name: f"(*{text})" if name in slots else text for name, text in names.items()}
    lines, values = statements(recipe.results, _SPELLING, called, plan.title)
    row, kept = values[: len(recipe.conditions)], values[len(recipe.conditions) :]
    lines += [f"const double {slots[slot]} = {text};" for slot, text in zip(slots, kept, strict=True)]
    lines += ["const uint64_t key = mixed(mixed(seed) ^ (uint64_t)t);"] if plan.inputs else []
    lines += writer.lines(row)
    lines += [f"*{names[slot]} = {slots[slot]};" for slot in slots]
    lines = [*_unread(lines, [*writer.arrays, *names.values()]), *lines]
    name = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "step"
    name = f"step_{name}" if name[0].isdigit() else name
    name = distinct([name], [*writer.taken, *names.values(), *slots.values()])[name]
    arguments = _arguments(plan, writer, names)
    text = "\n".join([_wrapped(f"void {name}({', '.join(arguments)})"), "{", *indented(lines), "}", ""])
    helpers = "".join(helper for word, helper in _HELPERS.items() if f"{word}(" in text)
    note = f"\n\n   {ENCODED}" if "/* encode " in text else ""
    call, described = _called(plan, name, init or {}), _described(plan)
    head = _HEAD.format(title=_harmless(plan.title), call=call, arguments=described, note=note)
    return f"{head}{helpers}\n{text}{_TAIL}"


def _unread(lines: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return statements that say which arguments a variant does not read, since compilers warn of them."""
    words = set(re.findall(r"\w+", "\n".join(lines)))
    return [f"(void){name};" for name in names if name not in words]


def _distinct_new(slots: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """Return a name for the new value of each scalar slot."""
    return dict(zip(slots, distinct([f"new_{slot}" for slot in slots], taken).values(), strict=True))


def _harmless(text: str) -> str:
    """Return a text on one line that does not end the comment it is in."""
    return " ".join(text.split()).replace("*/", "* /").replace("/*", "/ *")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 116, subsequent_indent="        ", break_long_words=False, break_on_hyphens=False)


def _arguments(plan: Plan, writer: Writer, names: dict[str, str]) -> list[str]:
    stored = {store.plane for store in plan.stores}
    arguments = ["size_t rows", "size_t length"] if plan.has_groups else ["size_t n"]
    for index, (plane, array) in enumerate(zip(plan.planes, writer.arrays, strict=True)):
        arguments.append(f"{'' if index in stored else 'const '}{_TYPES[plane.dtype]} *{array}")
    arguments += [f"double *{SUMS}"] if plan.sums else []
    arguments += ["uint64_t seed", "uint64_t tensor"] if plan.inputs else []
    slots = plan.prelude.scalar_slots
    taken = [*names, *(["t"] if plan.inputs and "t" not in names else [])]
    return arguments + [f"double {'*' if name in slots else ''}{names.get(name, name)}" for name in taken]


def _called(plan: Plan, name: str, init: Mapping[str, float | str]) -> str:
    size = "a matrix of rows x length elements, row after row" if plan.has_groups else "n elements"
    counted = " with t = 1, 2, 3, ..." if "t" in plan.prelude.arguments or plan.inputs else "."
    kept = {*plan.prelude.scalar_slots, *(plane.name for plane in plan.planes[2:])}
    starts = [f"{slot} = {start}" for slot, start in init.items() if slot in kept]
    first = f" Before the first step {', '.join(starts)}; other slots are 0." if starts else ""
    first = first or (" Before the first step all slots are 0." if kept else "")
    return _commented(f"One step of {size}, in place: call {name}{counted}{first}")


def _described(plan: Plan) -> str:
    groups = [plane.name.replace(".", "_") for plane in plan.planes if plane.per == "group"]
    said = [f"{plan.planes[1].name} is only read."]
    if groups:
        said.append(f"{' and '.join(groups)}: one number for every {GROUP} elements of a row, or what is left of them.")
    for packing in plan.packings:
        names = " and ".join(plane.name.replace(".", "_") for plane in plan.planes if plane.packing == packing)
        said.append(
            f"{names}: {packing} neighbours of a row per item, first in the lowest bits; (length + {packing - 1}) / "
            f"{packing} items per row."
        )
    if plan.sums:
        block = f"{BLOCK // LANES} groups" if plan.has_groups else f"{BLOCK} elements"
        said.append(f"{SUMS}: takes {len(plan.sums)} numbers for every {block}, or what is left of them.")
    if plan.inputs:
        said.append("seed: any number; tensor: another one for each array, so that their random bits differ.")
    return _commented(" ".join(said))


def _commented(text: str) -> str:
    return textwrap.fill(text, 112, subsequent_indent="   ")
