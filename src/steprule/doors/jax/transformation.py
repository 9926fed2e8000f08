"""Rules as transformations of optax, and as steps that return the new parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from steprule.doors.jax.stepper import Slots, Stepper
from steprule.rules import Rule

__all__ = ["State", "Step", "named", "step", "transformation"]


class State(NamedTuple):
    """The state of a transformation.

    Attributes:
        count: the steps taken, an int32.
        slots: by name, pytrees like the parameters; of a scalar slot one number.
    """

    count: Array  # type: ignore[assignment]  # as optax's states, which have it beside the tuple's method, too
    slots: Slots


def transformation(
    rule: str | Rule,
    *,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: int | None = None,
    **hyperparameters: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return a rule as an ``optax.GradientTransformation``.

    The updates are what ``optax.apply_updates`` adds to the parameters, learning rate and sign included. They are taken
    out of the rule's expression before anything is rounded, so that float32 parameters with float32 gradients get what
    the rule gives; where the rule scales the parameters (weight decay), within two units in the last place. They have
    the type of the gradients, to which they are rounded. Parameters must be given to ``update`` where the rule reads
    them; what else it is given is for other transformations.

    Args:
        rule: a name of the catalogue, or a rule.
        states: the format of the slots, ``"float32"``, ``"bfloat16"`` or ``"8bit"``, or of some by name. Slots of
            float64 parameters are float64.
        min_elements: tensors with fewer elements keep float32 slots. Default 4096. Where all do, ``init`` warns.
        seed: of the random rounding of ``states``. Default 0.
        hyperparameters: the rule's. Numbers, arrays of JAX (traced ones as well: under ``jax.vmap`` one a run), or
            schedules: callables of the steps taken before, from 0, as optax's are.

    Raises:
        RuleError: when there is no such rule.
        HyperparameterError: for what is unknown, out of its range, without effect, or cannot be traced.
        StructureError: in ``init`` and ``update``, for leaves that are no real floating-point arrays and trees that
            do not fit.
    """
    stepper = Stepper.of(rule, states, min_elements, seed, hyperparameters)

    def init(params: optax.Params) -> State:
        return State(jnp.zeros((), jnp.int32), stepper.init(params))

    def update(
        updates: optax.Updates, state: State, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, State]:
        del extra  # what other transformations of a chain are given, such as value=
        count = optax.safe_increment(state.count)
        new, slots = stepper.take("update", params, updates, state.slots, count)
        return new, State(count, slots)

    return optax.GradientTransformationExtraArgs(init, update)


class Step:
    """A rule on pytrees of JAX: ``step(theta, g, slots, t)`` returns the new parameters and the new slots."""

    def __init__(self, stepper: Stepper) -> None:
        self._stepper = stepper

    def __repr__(self) -> str:
        return f"<step of {self._stepper.rule!r}>"

    def init(self, theta: Any) -> Slots:
        """Return the slots before the first step."""
        return self._stepper.init(theta)

    def __call__(self, theta: Any, g: Any, slots: Slots, t: Any) -> tuple[Any, Slots]:
        """Return the new parameters, rounded once to their type, and the new slots.

        Args:
            theta: the parameters.
            g: their gradients.
            slots: by name, as ``init`` or the step before returned them.
            t: the number of this step, 1 at the first; it may be traced. Schedules are called with ``t - 1``.

        Raises:
            StructureError: when the trees do not fit each other.
            HyperparameterError: when t is no step number, or a schedule cannot be traced.
        """
        return self._stepper.take("step", theta, g, slots, t)


def step(
    rule: str | Rule,
    *,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: int | None = None,
    **hyperparameters: Any,
) -> Step:
    """Return a rule as a function of pytrees that returns the new parameters directly.

    Nothing is lost on the way: parameters of float16 and bfloat16 are computed in float32 and rounded once, and on CPUs
    the new float32 parameters have the bits of the referee. Arguments and errors are those of ``transformation``.
    """
    return Step(Stepper.of(rule, states, min_elements, seed, hyperparameters))


def named(rule: Rule) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """Return the function that makes transformations of a rule: its hyperparameters, then how states are kept."""
    hypers = list(rule.hyperparameters.values())
    hypers.sort(key=lambda hyper: hyper.name != "lr")
    kinds = [inspect.Parameter.POSITIONAL_OR_KEYWORD] + [inspect.Parameter.KEYWORD_ONLY] * len(hypers)
    own = [
        inspect.Parameter(hyper.name, kind, default=hyper.default) for hyper, kind in zip(hypers, kinds, strict=False)
    ]
    others = list(inspect.signature(transformation).parameters.values())[1:-1]
    signature = inspect.Signature([*own, *others], return_annotation=optax.GradientTransformationExtraArgs)
    first = own[0].name

    def make(*args: Any, **options: Any) -> optax.GradientTransformationExtraArgs:
        if len(args) > 1:
            raise TypeError(f"{rule.name}() takes {first} alone by its place, got {args}; name the others")
        if args and first in options:
            raise TypeError(f"{rule.name}() got {first} twice: {args[0]!r} and {options[first]!r}")
        return transformation(rule, **dict(zip((first,), args, strict=False)), **options)

    make.__name__ = make.__qualname__ = rule.name
    make.__module__ = "steprule.jax"
    make.__doc__ = (
        f"Return ``optax``'s form of {rule.name}: ``steprule.jax.transformation({rule.name!r}, ...)``.\n\n"
        f"{rule.doc}\n\nSource: {rule.paper}."
    )
    make.__signature__ = signature  # type: ignore[attr-defined]
    return make
