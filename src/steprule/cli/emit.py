"""``steprule emit``: what really runs."""

from __future__ import annotations

import enum
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from steprule import formats
from steprule.backends import c, javascript, jax, latex, llvm, numpy, triton
from steprule.compile import Plan
from steprule.engine import plan
from steprule.errors import HyperparameterError, TargetError
from steprule.rules import Rule, load
from steprule.rules.rule import Variant

__all__ = ["emit"]


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
    """How parameters of 16 bits are kept."""

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
    rule: Annotated[str, typer.Argument(help="A name of the catalogue, file.py:name or module:name.")],
    target: Annotated[
        Target,
        typer.Option(
            "--target",
            help="llvm IR, machine assembly; Triton text, code of NVIDIA's or AMD's GPUs; JAX text; a function in C99; "
            "a module of JavaScript; NumPy text; formula.",
        ),
    ] = Target.llvm,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the rule, as in nesterov=true.")
    ] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Type of the parameters; default float32.")] = None,
    states: Annotated[
        list[str] | None, typer.Option(help="Format of the slots: 8bit, bfloat16 or float32; or of one, as in v=8bit.")
    ] = None,
    weights: Annotated[
        Weights | None, typer.Option(help="How float16 and bfloat16 parameters are kept; default nearest.")
    ] = None,
    triple: Annotated[str | None, typer.Option(help="With asm: another target, such as aarch64-linux-gnu.")] = None,
    cpu: Annotated[
        str,
        typer.Option(help="With --triple: a processor, such as x86-64-v2. With ptx or amdgcn: a GPU, such as sm_80."),
    ] = "",
) -> None:
    """Write out a rule as a target runs it."""
    _check_machine(target, triple, cpu)
    chosen = load(rule)
    variant = chosen.variant(chosen.resolve(parse(chosen, options or [])))
    if target is Target.latex:
        given = [name for name, value in (("dtype", dtype), ("states", states), ("weights", weights)) if value]
        if given:
            raise HyperparameterError(f"--{given[0]} has no effect on a formula")
        typer.echo(latex.emit(chosen, variant))
        return
    storage = _storage(chosen, variant, dtype or Dtype.float32, states or [], weights or Weights.nearest)
    if target is Target.jax:
        storage = _of_jax(storage)
    typer.echo(_emit(chosen, plan(chosen, variant, storage), target, triple, cpu).rstrip("\n"))


def _check_machine(target: Target, triple: str | None, cpu: str) -> None:
    """Refuse a choice of a machine that has no effect, or that there is no code for."""
    if target in GPUS:
        names = GPUS[target]
        if triple:
            raise HyperparameterError(
                f"--triple has no effect on --target {target}; choose a GPU with --cpu {names[0]}"
            )
        if cpu and cpu not in names:
            raise TargetError(f"--cpu {cpu} is no GPU of --target {target}; choose one of {', '.join(names)}")
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
    chosen = formats.Formats.of(wanted, weights, formats.MIN_ELEMENTS, kept)
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
    Target.triton: triton.emit,
    Target.jax: jax.emit,
    Target.numpy: numpy.emit,
    Target.javascript: javascript.emit,
}


def _emit(rule: Rule, recipe: Plan, target: Target, triple: str | None, cpu: str) -> str:
    if target in _TEXTS:
        return _TEXTS[target](recipe)
    if target is Target.c:
        return c.emit(recipe, rule.name, rule.init)
    if target in GPUS:
        return _code_of_gpu(recipe, target, cpu or GPUS[target][0])
    from steprule.runtime.jit import assembly

    with _without_remarks():
        return assembly(llvm.emit(recipe), triple, cpu)


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keep LLVM from writing to the terminal that a processor without vectors has no vector code; pass on all else."""
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            said.seek(0)
            lines = [line for line in said.read().splitlines(keepends=True) if b"loop not vectorized" not in line]
            os.write(2, b"".join(lines))


def _code_of_gpu(recipe: Plan, target: Target, gpu: str) -> str:
    if find_spec("triton") is None:
        raise TargetError(
            f"--target {target} is written by Triton, which is not installed; install it (pip install triton, on "
            "Linux), or take --target triton, the text that it would compile"
        )
    from steprule.runtime.gpu import compiled

    kernel = compiled(triton.emit(recipe), gpu, triton.threads_of(recipe), {"GUARDED": False})
    return str(kernel.asm[str(target)])


def parse(rule: Rule, options: list[str]) -> dict[str, Any]:
    """Return the hyperparameters that ``NAME=VALUE`` texts say, for ``rule.resolve`` to check.

    Raises:
        HyperparameterError: for a text without ``=``, or an option that is no part of the code.
    """
    values: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals:
            raise HyperparameterError(f"{option!r} must be NAME=VALUE, as in nesterov=true")
        values[name] = _value(rule, name, text)
        hyper = rule.hyperparameters.get(name)
        if hyper is not None and not hyper.is_static and not hyper.optional:
            raise HyperparameterError(
                f"--set {option} has no effect: {name} is given to every step and is no part of the code. "
                f"Options that are: {', '.join(_options(rule)) or 'none'}"
            )
    return values


def _options(rule: Rule) -> list[str]:
    return [f"{h.name} ({h.kind})" for h in rule.hyperparameters.values() if h.is_static or h.optional]


def _value(rule: Rule, name: str, text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    hyper = rule.hyperparameters.get(name)
    if hyper is not None and text in hyper.choices:
        return text
    if text.lower() in words:
        return words[text.lower()]
    try:
        return float(text)
    except ValueError:
        return text
