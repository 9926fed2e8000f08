"""``steprule emit``: what really runs."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import typer

from steprule import formats
from steprule.backends import c, javascript, jax, latex, llvm, numpy, numpy_vectors, triton, triton_vectors
from steprule.backends.passes import described, described_point, passes, product_in_words
from steprule.cli.arguments import complete_rule
from steprule.cli.compiled import assembly_of, code_of_gpu
from steprule.compile import Plan
from steprule.engine import plan
from steprule.errors import HyperparameterError, TargetError
from steprule.evaluated import evaluated
from steprule.rules import Rule, load
from steprule.rules.rule import Variant
from steprule.rules.settings import Settings, read, without_defaults

__all__ = ["emit"]


_STATES = f"Format of the slots: {', '.join(formats.STATES)}; or of one, as in v={formats.STATES[-1]}."


class Target(enum.StrEnum):
    """What to write the rule in."""

    llvm = "llvm"
    asm = "asm"
    triton = "triton"
    ptx = "ptx"
    amdgcn = "amdgcn"
    jax = "jax"
    c = "c"
    javascript = "javascript"
    numpy = "numpy"
    latex = "latex"


GPUS = {
    Target.ptx: ("sm_90", "sm_75", "sm_80", "sm_86", "sm_89", "sm_100", "sm_120"),
    Target.amdgcn: ("gfx942", "gfx90a", "gfx950", "gfx1100", "gfx1201"),
}
"""For whom code of GPUs is written, the default first. Of others LLVM may end the process instead of raising."""


class Weights(enum.StrEnum):
    """Storage of 16-bit parameters."""

    nearest = "nearest"
    stochastic = "stochastic"
    split24 = "split24"
    split32 = "split32"


class Dtype(enum.StrEnum):
    """The type of the parameters."""

    float16 = "float16"
    bfloat16 = "bfloat16"
    float32 = "float32"
    float64 = "float64"


def emit(
    rule: Annotated[
        str,
        typer.Argument(
            help="NAME, file.py:NAME, module:NAME, 'NAME(hyper=value, ...)' or 'l2(NAME)(hyper=value, ...)'.",
            autocompletion=complete_rule,
        ),
    ],
    target: Annotated[
        Target,
        typer.Option(
            "--target",
            metavar="TARGET",
            help="llvm, asm (of a processor); triton, ptx and amdgcn (of GPUs); jax; c (a function in C99); javascript "
            "(a module); numpy (what the others are compared with); latex (the formula).",
        ),
    ] = Target.llvm,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of the rule, as in nesterov=true."),
    ] = None,
    dtype: Annotated[
        Dtype | None,
        typer.Option(metavar="TYPE", help="Parameters' type: float16, bfloat16, float32, float64. Default: float32."),
    ] = None,
    states: Annotated[
        list[str] | None,
        typer.Option(metavar="FORMAT", help=_STATES),
    ] = None,
    weights: Annotated[
        Weights | None,
        typer.Option(
            metavar="FORMAT",
            help="Format of 16-bit parameters: nearest, stochastic, split24, split32. Default: nearest.",
        ),
    ] = None,
    triple: Annotated[
        str | None, typer.Option(metavar="TRIPLE", help="With asm: another target, such as aarch64-linux-gnu.")
    ] = None,
    cpu: Annotated[
        str,
        typer.Option(
            metavar="CPU",
            help="With --triple: a processor, such as x86-64-v2. With ptx or amdgcn: a GPU, such as sm_80.",
        ),
    ] = "",
) -> None:
    """Print the code of a rule for a target."""
    _check_machine(target, triple, cpu)
    chosen, settings = without_defaults(load(rule))
    variant = chosen.variant(chosen.resolve(_joined(dict(settings), parse(chosen, options or []))))
    if target is Target.latex:
        given = [name for name, value in (("dtype", dtype), ("states", states), ("weights", weights)) if value]
        if given:
            raise HyperparameterError(f"--{given[0]} has no effect on a formula")
        typer.echo(_called_with(chosen, settings, target) + latex.emit(chosen, variant))
        return
    storage = _storage(chosen, variant, dtype or Dtype.float32, states or [], weights or Weights.nearest)
    if target is Target.jax:
        storage = _of_jax(storage)
    recipe = plan(chosen, variant, storage, rides=target not in _WHOLE)
    point = _point(chosen, variant, storage, target)
    write = partial(_emit, chosen, target=target, triple=triple, cpu=cpu)
    if target in _WITH_POINT:
        text = write(recipe, point)
    else:
        text = write(recipe) if target in _WHOLE else _pass_by_pass(recipe, target, write)
        text += _text_of_point(point, target, write)
    moved = _comment(target, [*described(recipe), *described_point(point)])
    typer.echo(_called_with(chosen, settings, target) + moved + text.rstrip("\n"))


def _point(rule: Rule, variant: Variant, storage: formats.Storage, target: Target) -> Plan | None:
    """Return what computes the evaluated point for a target, if the rule has one.

    Optimizers let it take the parameter's place; functions that have no optimizer around them write it beside that.
    """
    found = evaluated(rule, variant, storage)
    if found is None:
        return None
    return found.plan if target in _WHOLE else plan(rule, variant, storage, kind="evaluate")


def _text_of_point(point: Plan | None, target: Target, write: Callable[[Plan], str]) -> str:
    """Return the text of the pass that computes the evaluated point, which is no part of a step."""
    if point is None:
        return ""
    return f"\n\n{_comment(target, ['The evaluated point, when it is asked for:'])}\n{write(point)}"


_COMMENT = {"llvm": ";", "amdgcn": ";", "ptx": "//", "c": "//", "javascript": "//", "latex": "%"}
"""How a line of comment begins; elsewhere with #."""
_WHOLE = (Target.c, Target.javascript, Target.jax)
"""The targets whose text has all passes of a step; of others each pass is a kernel, and its text one of its own."""
_WITH_POINT = (Target.c, Target.javascript)
"""Those whose text has a function for the evaluated point; for others that is a text of its own."""


def _comment(target: Target, lines: Iterable[str]) -> str:
    return "".join(f"{_COMMENT.get(target, '#')} {line}\n" for line in lines)


def _pass_by_pass(recipe: Plan, target: Target, write: Callable[[Plan], str]) -> str:
    """Return the texts of all passes one after the other, each behind what is computed for rows and columns before."""
    found = passes(recipe)
    if len(found) == 1:
        return _of_vectors(recipe, target) + write(recipe)
    heads = [f"Pass {number} of {len(found)}, {name}:" for number, name in enumerate(found, start=1)]
    texts = [
        f"{_comment(target, ['', head])}\n{_of_vectors(one, target)}{write(one)}{_of_products(one, target)}"
        for head, one in zip(heads, found.values(), strict=True)
    ]
    return "\n".join(texts)


def _of_vectors(plan: Plan, target: Target) -> str:
    """Return what NumPy computes for rows and columns before a pass; other texts have it among their functions."""
    own = plan.vectors
    if own is None or not (own.hoisted or own.slots or own.totals) or target is not Target.numpy:
        return ""
    return f"{numpy_vectors.emit(plan)}\n"


def _of_products(plan: Plan, target: Target) -> str:
    """Return comments that say what the host multiplies after a pass."""
    lines = [line for product in plan.products for line in product_in_words(plan, product)]
    return f"\n{_comment(target, lines)}" if lines else ""


def _called_with(rule: Rule, settings: Settings, target: Target) -> str:
    """Return a line that says which settings are not a part of the code, since they are given to every step."""
    numbers = tuple((name, value) for name, value in settings if not _is_in_code(rule, name))
    if not numbers:
        return ""
    written = ", ".join(f"{name} = {value}" for name, value in numbers)
    return _comment(target, [f"To be given to every step: {written}"])


def _joined(settings: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    twice = next((name for name in options if name in settings), None)
    if twice is not None:
        raise HyperparameterError(f"{twice} is given twice, behind the rule's name and by --set; drop one of them")
    return {**settings, **options}


def _is_in_code(rule: Rule, name: str) -> bool:
    """Whether a hyperparameter chooses the code; others are numbers that every step is given."""
    return rule.hyperparameters[name].is_static or rule.hyperparameters[name].optional


def _check_machine(target: Target, triple: str | None, cpu: str) -> None:
    """Refuse a choice of a machine that has no effect, or that there is no code for."""
    if target in GPUS:
        names = GPUS[target]
        if triple:
            raise HyperparameterError(
                f"--triple has no effect on --target {target}; choose a GPU with --cpu {names[0]}"
            )
        if cpu and cpu not in names:
            raise TargetError(f"--cpu {cpu} is not a GPU of --target {target}; choose one of {', '.join(names)}")
    elif target is Target.asm:
        if cpu and not triple:
            raise HyperparameterError("--cpu needs --triple, such as --triple x86_64-linux-gnu")
    elif triple or cpu:
        raise HyperparameterError(
            f"--triple and --cpu choose a machine for --target asm, --cpu a GPU for ptx and amdgcn; {target} has none"
        )


def _storage(rule: Rule, variant: Variant, dtype: Dtype, states: list[str], weights: Weights) -> formats.Storage:
    """Return the formats of a matrix that is large enough for all of them."""
    kept = list(rule.trace(variant).slots)
    pairs = [text.partition("=") for text in states]
    if any(equals for _, equals, _ in pairs) and not all(equals for _, equals, _ in pairs):
        raise HyperparameterError(f"--states is one format, or SLOT=FORMAT once for each slot, got {states}")
    whole = pairs[-1][0] if pairs and not pairs[-1][1] else "float32"
    wanted = {slot: name for slot, equals, name in pairs if equals} or whole
    chosen = formats.Formats.of(wanted, weights, formats.MIN_ELEMENTS, kept, points=rule.points)
    kind = formats.FORMATS[dtype]
    if weights is not Weights.nearest and dtype not in (Dtype.float16, Dtype.bfloat16):
        raise HyperparameterError(f"--weights {weights} is for --dtype bfloat16 and float16, not {dtype}")
    return chosen.storage(kind, (formats.MIN_ELEMENTS, formats.GROUP), kept, "--dtype")


def _of_jax(storage: formats.Storage) -> formats.Storage:
    """Return what the JAX door makes kernels for."""
    if storage.parameter.name != storage.parameter.compute:
        raise HyperparameterError(
            f"--dtype {storage.parameter.name} has no effect on --target jax: parameters are widened to "
            f"{storage.parameter.compute} before the kernel, and rounded to nearest after it"
        )
    return replace(storage, flushes=False)


_TEXTS: dict[Target, Callable[[Plan], str]] = {
    Target.llvm: llvm.emit,
    Target.triton: lambda recipe: "\n\n".join([triton.emit(recipe), *triton_vectors.texts(recipe)]),
    Target.jax: jax.emit,
    Target.numpy: numpy.emit,
}


def _emit(rule: Rule, recipe: Plan, point: Plan | None = None, *, target: Target, triple: str | None, cpu: str) -> str:
    if target in _TEXTS:
        return _TEXTS[target](recipe)
    if target is Target.c:
        return c.emit(recipe, rule.name, rule.init, point)
    if target is Target.javascript:
        return javascript.emit(recipe, rule.init, point)
    if target in GPUS:
        return code_of_gpu(recipe, target, cpu or GPUS[target][0])
    return assembly_of(recipe, triple, cpu)


def parse(rule: Rule, options: list[str]) -> dict[str, Any]:
    """Return the hyperparameters that ``NAME=VALUE`` texts say, for ``rule.resolve`` to check.

    Raises:
        HyperparameterError: for a text without ``=``, or an option that is not a part of the code.
    """
    values: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals:
            raise HyperparameterError(f"{option!r} must be NAME=VALUE, as in nesterov=true")
        if name in values:
            raise HyperparameterError(f"--set {name} is given twice; drop one of them")
        values[name] = read(rule, name, text)
        if name in rule.hyperparameters and not _is_in_code(rule, name):
            raise HyperparameterError(
                f"--set {option} has no effect: {name} is given to every step and is not a part of the code. "
                f"Options that are: {', '.join(_options(rule)) or 'none'}"
            )
    return values


def _options(rule: Rule) -> list[str]:
    return [f"{hyper.name} ({hyper.kind})" for hyper in rule.hyperparameters.values() if _is_in_code(rule, hyper.name)]
