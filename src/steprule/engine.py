"""Where rules, formats and backends meet: ``kernel(rule, variant, format, backend)``, cached."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from steprule.backends import llvm, numpy
from steprule.compile import Plan, Plane, make_plan
from steprule.errors import TargetError, suggest
from steprule.formats import Format, flush
from steprule.language import Node
from steprule.rules import Rule
from steprule.rules.rule import Variant

__all__ = ["BACKENDS", "Kernel", "check_backend", "kernel", "plan"]

BACKENDS = ("llvm", "numpy")
"""What a step may run on: machine code (the default), or the referee."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """One fused step, ready to run.

    Attributes:
        plan: what it computes; its planes are the order of addresses or arrays.
        slots: the element slots that it keeps, in that order.
        address: the machine code, of the convention of ``backends/llvm.py``; 0 for the referee.
        run: the referee's ``run(*arrays, scalars)``; None for machine code.
    """

    plan: Plan
    slots: tuple[str, ...]
    address: int
    run: Callable[..., None] | None


def check_backend(name: str) -> str:
    """Return ``name`` if there is such a backend.

    Raises:
        TargetError: when there is none.
    """
    if name not in BACKENDS:
        raise TargetError(f"no backend is called {name!r}.{suggest(name, BACKENDS)}")
    return name


@functools.cache
def plan(rule: Rule, variant: Variant, storage: Format) -> Plan:
    """Return the plan of one variant of a rule for parameters stored in that format.

    Gradients are of the parameter's type, slots of the compute type.
    """
    trace = rule.trace(variant)
    inputs = (
        Plane(rule.parameter, storage.name),
        Plane(rule.gradient, storage.name),
        *(Plane(slot, storage.compute) for slot in trace.slots),
    )

    def encode(name: str, node: Node) -> Node:
        kept: Node = node if name == rule.parameter else flush(node, storage.compute)
        return kept

    elements = {plane.name for plane in inputs}
    return make_plan(
        title=_title(rule, variant, storage),
        compute=storage.compute,
        inputs=inputs,
        outputs={rule.parameter: trace.parameter, **trace.slots},
        scalar_slots=dict(trace.scalars),
        arguments=tuple(sorted(trace.used - elements)),
        encode=encode,
    )


@functools.cache
def kernel(rule: Rule, variant: Variant, storage: Format, backend: str = "llvm") -> Kernel:
    """Return the kernel of one variant of a rule, compiled on first use."""
    recipe = plan(rule, variant, storage)
    slots = tuple(plane.name for plane in recipe.planes[2:])
    if check_backend(backend) == "numpy":
        return Kernel(recipe, slots, 0, numpy.load(recipe))
    # Imported late: describing a rule or drawing its formula needs no compiler.
    from steprule.runtime.jit import build, has_half

    if storage.name == "float16" and not has_half():
        raise TargetError("this processor has no float16 conversions; use float32, or backend='numpy'")
    (address,) = build(llvm.emit(recipe), "kernel")
    return Kernel(recipe, slots, address, None)


def _title(rule: Rule, variant: Variant, storage: Format) -> str:
    changed = [
        f"{name}={'...' if value == 'number' else value!r}"
        for name, value in variant
        if value != rule.hyperparameters[name].static(rule.hyperparameters[name].default)
    ]
    return f"{rule.name}({', '.join(changed)}) on {storage.name}" if changed else f"{rule.name} on {storage.name}"
