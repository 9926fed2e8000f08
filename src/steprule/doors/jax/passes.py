"""The passes over one leaf, as jitted functions: those that sum, and the step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from steprule import coding, engine
from steprule.backends import jax as jax_functions
from steprule.compile import Plan
from steprule.doors.jax.slots import slot_of
from steprule.engine import Kernel
from steprule.formats import Storage
from steprule.rules import Rule
from steprule.rules.cache import cached_with_rule
from steprule.rules.rule import Variant

__all__ = ["JAX", "Compiled", "Fixed", "PassKind", "Passes", "passes_of", "vector_inputs"]

PassKind = Literal["step", "update"]
Fixed: TypeAlias = tuple[Any, ...]
"""A row of scalars: a number where it is known while tracing, None elsewhere."""


@dataclass(frozen=True)
class JaxLoader:
    """What makes functions of JAX's arrays of plans."""

    name = "jax"

    def load(self, plan: Plan) -> jax_functions.Code:
        """Return the functions of a plan, of the convention of ``backends/jax.py``."""
        return jax_functions.load(plan)


JAX = JaxLoader()


@dataclass(frozen=True)
class Compiled:
    """A pass over one leaf: its kernel, and the jitted function that runs it."""

    kernel: Kernel
    run: Callable[..., Any]


@dataclass(frozen=True)
class Passes:
    """The passes over one leaf: those that sum, in their order, and the step.

    ``needs_theta`` says whether one of them reads the parameter.
    """

    before: tuple[Compiled, ...]
    step: Compiled
    needs_theta: bool


@cached_with_rule
def passes_of(rule: Rule, variant: Variant, storage: Storage, kind: PassKind) -> Passes:
    """Return the passes over leaves of a storage.

    Leaves of one shape and type are traced once, and a pass that is not part of a larger program is one all the same.
    """
    last = engine.kernel(rule, variant, storage, JAX, kind=kind, rides=False)
    numbers = range(len(last.plan.before))
    first = [engine.kernel(rule, variant, storage, JAX, kind=(kind, number), rides=False) for number in numbers]
    loaded = {plane for kernel in (*first, last) for plane in _loaded(kernel)}
    name = rule.name if rule.name.isidentifier() else "step"
    return Passes(
        tuple(Compiled(kernel, _jitted(_summing(rule, kernel), f"sums_of_{name}", "fixed")) for kernel in first),
        Compiled(last, _jitted(_stepping(rule, last), name, "fixed", "dtype")),
        rule.parameter in loaded,
    )


def _jitted(function: Callable[..., Any], name: str, *fixed: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    return jax.jit(function, static_argnames=fixed)


def _loaded(kernel: Kernel) -> list[str]:
    """Return the names of the planes of elements that a kernel loads, in the order of its arguments."""
    kept = kernel.plan.own_planes
    return [kept[index].name for index in kernel.plan.loads if index < len(kept)]


def vector_inputs(kernel: Kernel) -> list[str]:
    """Return the names of what a kernel takes that passes before it have found: products, and of rows and columns."""
    own, work = kernel.plan.vectors, {plane.name for plane in kernel.plan.work_planes}
    products = [name for name in _loaded(kernel) if name in work]
    return products if own is None else [*products, *(name for name in own.inputs if name not in kernel.slots)]


def _called(rule: Rule, kernel: Kernel) -> Callable[..., tuple[Any, ...]]:
    """Return a new function, which calls a kernel with a leaf, a row of scalars, and what tells random bits."""
    names, code, found = _loaded(kernel), kernel.code.kernel, vector_inputs(kernel)
    names += [] if kernel.plan.vectors is None else kernel.plan.vectors.inputs
    of_slots = [coding.plane_name(slot, spec.suffix) for slot, codec in kernel.slots.items() for spec in codec.planes]
    takes_shape = jax_functions.needs_shape(kernel.plan)

    def call(
        theta: Any,
        g: Any,
        planes: tuple[Any, ...],
        vectors: tuple[Any, ...],
        traced: tuple[Any, ...],
        zero: Any,
        keyed: Any,
        fixed: Fixed,
    ) -> tuple[Any, ...]:
        others = iter(traced)
        scalars = [next(others) if value is None else value for value in fixed]
        named = dict(zip(of_slots, planes, strict=True)) | {rule.parameter: theta, rule.gradient: g}
        named |= zip(found, vectors, strict=True)
        arrays = [*([g] if takes_shape else []), *(named[name] for name in names)]
        results: tuple[Any, ...] = code(*arrays, *scalars, zero.astype(kernel.plan.compute), *keyed)
        return results

    return call


def _summing(rule: Rule, kernel: Kernel) -> Callable[..., dict[str, Any]]:
    """Return a new function, which returns what a pass finds, by name.

    That is what the host multiplies, sums, and what it has of rows and columns.
    """
    plan, call = kernel.plan, _called(rule, kernel)
    stored = [plan.planes[store.plane].name for store in plan.stores]
    names = [*stored, *plan.totals, *jax_functions.vector_names(plan)]

    def summed(*args: Any, fixed: Fixed) -> dict[str, Any]:
        return dict(zip(names, call(*args, fixed=fixed), strict=True))

    return summed


def _stepping(rule: Rule, kernel: Kernel) -> Callable[..., Any]:
    """Return a new function, which returns the new parameter, or the update, and the new slots of a leaf."""
    call = _called(rule, kernel)

    def step(
        theta: Any,
        g: Any,
        planes: tuple[Any, ...],
        vectors: tuple[Any, ...],
        traced: tuple[Any, ...],
        zero: Any,
        keyed: Any,
        fixed: Fixed,
        dtype: str,
    ) -> tuple[Any, dict[str, Any]]:
        first, *rest = call(theta, g, planes, vectors, traced, zero, keyed, fixed)
        new = iter(rest)
        slots = {k: slot_of([next(new) for _ in codec.planes], codec, g.shape) for k, codec in kernel.slots.items()}
        return first.astype(jnp.dtype(dtype)), slots

    return step
