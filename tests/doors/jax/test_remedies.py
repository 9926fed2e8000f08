"""What messages of the JAX door say to do is done here, and helps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import steprule as sr
import steprule.jax as ours
from steprule.doors.jax import (
    adapted,
    alias,
    convert,
    leaves,
    mask,
    scaled,
    slots,
    stepper,
    transformation,
    tree_step,
    values,
)
from steprule.errors import StepruleError
from steprule.rules.papers.novograd import novograd
from tests.doors.remedies import Remedy, untried

pytestmark = pytest.mark.apart

PARAMS = {"w": jnp.full((2, 3), 2.0), "b": jnp.full(3, -1.0)}
GRADS = {"w": jnp.full((2, 3), 0.5), "b": jnp.full(3, 0.25)}


def stepped(tx: Any, params: Any = PARAMS, grads: Any = GRADS, state: Any = None, *, given: Any = PARAMS) -> Any:
    """Return the parameters after a step; ``given`` is what update is told of them."""
    state = tx.init(params) if state is None else state
    updates, _ = tx.update(grads, state, params if given is PARAMS else given)
    return optax.apply_updates(params, updates)


def made(wrong: Callable[[], Any], says: str, *right: Callable[[], Any]) -> Remedy:
    """The remedies of a transformation that cannot be made."""

    def then(make: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: stepped(make())

    return Remedy(then(wrong), says, tuple(map(then, right)))


def counted(theta: Any, g: Any) -> Any:
    step = ours.step("adam", lr=0.1)
    return lambda t: step(theta, g, step.init(theta), t)[0]


def many(rates: Any) -> Any:
    return jax.vmap(lambda lr: stepped(ours.adam(lr)))(rates)


def jitted(make: Callable[[Any], Any], value: Any, **static: Any) -> Any:
    return jax.jit(lambda own: stepped(make(own)), **static)(value)


def accumulating(start: Any, **states: Any) -> Any:
    return ours.adagrad(0.1, initial_accumulator=start, states="8bit", min_elements=1, **states)


def injected(**static: Any) -> Any:
    tx = optax.inject_hyperparams(ours.adam, **static)(0.1, seed=3, states="8bit", min_elements=1)
    return jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)


SMALL: dict[str, Any] = {"states": "8bit", "min_elements": 1}
THEIRS = optax.adam(0.1).init(PARAMS)
OURS = ours.adam(0.1).init(PARAMS)
EIGHT_BITS = ours.adam(0.1, **SMALL).init(PARAMS)
COMPLEX = {"w": jnp.ones(3, jnp.complex64)}
BOTH = {**COMPLEX, "r": jnp.ones((2, 3))}
NUMBERED = ours.step(novograd)
SQUARE = {"w": jnp.ones((3, 3)), "b": jnp.ones(3)}
FOUR_BITS = ours.adam(0.1, states="4bit", min_elements=1)
WIDE, WIDER = {"w": jnp.ones((2, 130))}, {"w": jnp.ones((2, 140))}
MASK = jax.tree.map(lambda p: p.ndim > 1, PARAMS)
REMEDIES: dict[str, Remedy] = {
    # values.py, and names
    "guard": made(
        lambda: ours.adam(0.1, clip_norm=1.0),
        r"optax.chain\(optax.clip_by_global_norm\(...\), tx\)",
        lambda: optax.chain(optax.clip_by_global_norm(1.0), ours.adam(0.1)),
    ),
    "value": made(
        lambda: ours.transformation("adam", clip_value=1.0),
        r"optax.chain\(optax.clip\(...\), tx\)",
        lambda: optax.chain(optax.clip(1.0), ours.adam(0.1)),
    ),
    "nonfinite": made(
        lambda: ours.adam(0.1, nonfinite="skip"),
        "optax.apply_if_finite",
        lambda: optax.apply_if_finite(ours.adam(0.1), max_consecutive_errors=3),
    ),
    "optax's name": made(lambda: ours.sgd(0.1, momentun=0.9), "mean 'momentum'", lambda: ours.sgd(0.1, momentum=0.9)),
    "rate": made(lambda: ours.adam(learnin_rate=0.1), "mean 'learning_rate'", lambda: ours.adam(learning_rate=0.1)),
    "option": made(lambda: ours.adam(0.1, seeds=1), "mean 'seed'", lambda: ours.adam(0.1, seed=1, **SMALL)),
    "decay": made(lambda: ours.adamw(0.1, mask_=MASK), "mean 'mask'", lambda: ours.adamw(0.1, mask=MASK)),
    "case": made(lambda: ours.transformation("AdamW"), "mean 'adamw'", lambda: ours.transformation("adamw")),
    "no rule": Remedy(
        lambda: ours.transformation(None),
        "no rule is named; give the name of one, or routes",
        (
            lambda: stepped(ours.transformation("adam", lr=0.1)),
            lambda: stepped(ours.transformation(None, routes=[("*", "adam", {})])),
        ),
    ),
    "static": Remedy(
        lambda: jitted(lambda flag: ours.momentum(0.1, nesterov=flag), True),
        "Give a Python value, or with jax.jit make nesterov a static argument",
        (
            lambda: stepped(ours.momentum(0.1, nesterov=True)),
            lambda: jitted(lambda flag: ours.momentum(0.1, nesterov=flag), True, static_argnums=0),
        ),
    ),
    "rates": Remedy(lambda: stepped(ours.adam(jnp.ones(3))), "map over it with jax.vmap", (lambda: many(jnp.ones(3)),)),
    "bfloat16": Remedy(
        lambda: stepped(optax.inject_hyperparams(ours.adam)(0.1), {"w": jnp.ones(3, jnp.bfloat16)}),
        "takes hyperparam_dtype=jnp.float32",
        (
            lambda: stepped(
                optax.inject_hyperparams(ours.adam, hyperparam_dtype=jnp.float32)(0.1),
                params := {"w": jnp.ones(3, jnp.bfloat16)},
                params,
            ),
        ),
    ),
    "schedule": made(
        lambda: ours.adam(sr.schedules.cosine(0.1, 100)),
        r"optax.cosine_decay_schedule\(...\)",
        lambda: ours.adam(optax.cosine_decay_schedule(0.1, 100)),
    ),
    "step number": Remedy(lambda: counted(PARAMS, GRADS)(0), "1 at the first", (lambda: counted(PARAMS, GRADS)(1),)),
    "math": Remedy(
        lambda: (
            jax.jit(lambda g: stepped(ours.adam(lambda t: 0.1 * math.cos(t)), grads=g))(GRADS)
            and jax.jit(ours.adam(lambda t: 0.1 * math.cos(t)).update)(GRADS, OURS)
        ),
        "with jax.numpy in place of math",
        (lambda: jax.jit(ours.adam(lambda t: 0.1 * jnp.cos(t)).update)(GRADS, OURS),),
    ),
    # alias.py
    "parameters": made(
        lambda: ours.adam(cast(Any, PARAMS)), r"tx = adam\(1e-3\); state = tx.init", lambda: ours.adam(1e-3)
    ),
    "twice": made(
        lambda: ours.adam(0.1, b1=0.9, beta1=0.8),
        "give one of them",
        lambda: ours.adam(0.1, b1=0.9),
        lambda: ours.adam(0.1, beta1=0.8),
    ),
    "means nothing": made(
        lambda: ours.sgd(0.1, nesterov=True),
        "leave it out, or use optax.sgd",
        lambda: ours.sgd(0.1),
        lambda: optax.sgd(0.1, nesterov=True),
    ),
    "amsgrad": made(
        lambda: ours.amsgrad(0.1, bias_correction_mu=False),
        "both moments or none.*optax.amsgrad corrects one",
        lambda: ours.amsgrad(0.1, bias_correction_mu=False, bias_correction_nu=False),
    ),
    "moment twice": made(
        lambda: ours.adam(0.1, mu_dtype="bfloat16", states="8bit"),
        "leave one of them out",
        lambda: ours.adam(0.1, mu_dtype="bfloat16"),
        lambda: ours.adam(0.1, **SMALL),
    ),
    "no moment": made(lambda: ours.sgd(0.1, accumulator_dtype="bfloat16"), "leave it out", lambda: ours.sgd(0.1)),
    "no momentum": made(
        lambda: ours.adafactor(0.1, dtype_momentum="bfloat16"),
        "keeps no moment with these options; leave it out",
        lambda: ours.adafactor(0.1),
        lambda: ours.adafactor(0.1, momentum=0.9, dtype_momentum="bfloat16"),
    ),
    "a mask of ratios": made(
        lambda: ours.lars(0.1, trust_ratio_mask=False),
        "leave it out, or use optax.lars",
        lambda: ours.lars(0.1),
        lambda: optax.lars(0.1, trust_ratio_mask=False),
    ),
    "type of a moment": made(
        lambda: ours.adam(0.1, mu_dtype="float16"),
        "mu_dtype must be one of float32, bfloat16, .*mean 'bfloat16'",
        lambda: ours.adam(0.1, mu_dtype="float32"),
        lambda: ours.adam(0.1, mu_dtype="bfloat16"),
    ),
    # scaled.py
    "least norm": made(
        lambda: ours.scale_by_trust_ratio(1e-3),
        "Leave it out, or use optax.scale_by_trust_ratio",
        lambda: ours.scale_by_trust_ratio(),
        lambda: optax.scale_by_trust_ratio(1e-3),
    ),
    # adapted.py
    "betas": made(
        lambda: ours.prodigy(1.0, betas=(0.8, 0.9), beta1=0.9),
        "betas and beta1 are one argument",
        lambda: ours.prodigy(1.0, betas=(0.8, 0.9)),
        lambda: ours.prodigy(1.0, beta1=0.9),
    ),
    "no pair": made(
        lambda: ours.prodigy(1.0, betas=0.9), "must be a pair", lambda: ours.prodigy(1.0, betas=(0.9, 0.99))
    ),
    "what is factored": made(
        lambda: ours.adafactor(0.1, min_dim_size_to_factor=64),
        r"64 cannot be had: every matrix is factored here.* Leave it out, or give 1, or .*optax.partition",
        lambda: ours.adafactor(0.1),
        lambda: ours.adafactor(0.1, min_dim_size_to_factor=1),
        lambda: optax.partition(
            {"large": ours.adafactor(0.1), "small": ours.rmsprop(0.1)}, {"w": "large", "b": "small"}
        ),
    ),
    "not factored": made(
        lambda: ours.adafactor(0.1, factored=False),
        "Leave it out, or use steprule.jax.rmsprop",
        lambda: ours.adafactor(0.1),
        lambda: ours.rmsprop(0.1),
    ),
    "offset": made(
        lambda: ours.adafactor(0.1, decay_offset=100),
        "Leave it out, and begin with what init returns, or give beta2",
        lambda: ours.adafactor(0.1),
        lambda: ours.adafactor(0.1, beta2=0.999),
    ),
    "decay twice": made(
        lambda: ours.adafactor(0.1, weight_decay=0.1, weight_decay_rate=0.01),
        "give one of them",
        lambda: ours.adafactor(0.1, weight_decay=0.1),
        lambda: ours.adafactor(0.1, weight_decay_rate=0.01),
    ),
    "decay without a rate": made(
        lambda: ours.adafactor(0.0, weight_decay_rate=0.01),
        "Give a rate above 0",
        lambda: ours.adafactor(0.1, weight_decay_rate=0.01),
    ),
    # transformation.py
    "moment": made(
        lambda: ours.adam(0.1, mu_dtype="complex64"),
        "has the type that steps are computed in .* or .* bfloat16",
        lambda: ours.adam(0.1, mu_dtype="float32"),
        lambda: ours.adam(0.1, mu_dtype="bfloat16"),
    ),
    "injected": Remedy(
        lambda: optax.inject_hyperparams(ours.transformation)("adam", lr=0.1).init(PARAMS),
        r"injected: optax.inject_hyperparams\(lambda lr: steprule.jax.transformation\('adam', lr=lr\)\)\(lr=0.1\)$",
        (lambda: stepped(optax.inject_hyperparams(lambda lr: ours.transformation("adam", lr=lr))(lr=0.1)),),
    ),
    "state of optax": Remedy(
        lambda: stepped(ours.adam(0.1), state=THEIRS),
        r"by state = steprule.jax.from_optax\('adam', state, optimizer.init\(params\)\), once",
        (lambda: stepped(ours.adam(0.1), state=ours.from_optax("adam", THEIRS, ours.adam(0.1).init(PARAMS))),),
    ),
    "state elsewhere": Remedy(
        lambda: ours.adam(0.1).update(GRADS, PARAMS, OURS),
        r"call update\(grads, state, params\)",
        (lambda: ours.adam(0.1).update(GRADS, OURS, PARAMS)[0],),
    ),
    "state that means something else": Remedy(
        lambda: stepped(ours.adan(0.1), state=optax.adan(0.1).init(PARAMS)),
        "Begin with what init returns",
        (lambda: stepped(ours.adan(0.1)),),
    ),
    # mask.py, stepper.py
    "mask": made(
        lambda: ours.adamw(0.1, mask=[True]),
        r"jax.tree.map\(lambda p: p.ndim > 1, params\)",
        lambda: ours.adamw(0.1, mask=MASK),
    ),
    "masks of numbers": made(
        lambda: ours.adamw(0.1, mask={"w": 1, "b": 0}),
        "where True or False is meant",
        lambda: ours.adamw(0.1, mask=MASK),
    ),
    "mask of nothing": made(
        lambda: ours.transformation("adam", mask=MASK),
        r"steprule.decoupled\(rule\) and steprule.l2\(rule\) add it",
        lambda: ours.transformation(sr.decoupled("adam"), mask=MASK),
        lambda: ours.transformation(sr.l2("adam"), mask=MASK),
    ),
    "state of another rule": Remedy(
        lambda: stepped(ours.adam(0.1), state=ours.lion(0.1).init(PARAMS)),
        "Call init again",
        (lambda: stepped(ours.adam(0.1)),),
    ),
    "traced size": Remedy(
        injected,
        r"static_args=\('min_elements',\)",
        (lambda: injected(static_args=("min_elements",))[0],),
    ),
    "seeds": Remedy(
        lambda: jitted(lambda seeds: ours.adam(0.1, seed=seeds, **SMALL), jnp.arange(3)),
        "one integer, .* map over it with jax.vmap",
        (lambda: jax.vmap(lambda seed: stepped(ours.adam(0.1, seed=seed, **SMALL)))(jnp.arange(3)),),
    ),
    # slots.py, tree_step.py
    "formats": Remedy(
        lambda: stepped(ours.adam(0.1, **SMALL), state=OURS),
        "Call init again",
        (lambda: stepped(ours.adam(0.1, **SMALL)),),
    ),
    "numbers of rows": Remedy(
        lambda: stepped(ours.adafactor(0.1), state=ours.adafactor(0.1).init(SQUARE), params=PARAMS),
        "of the parameters that init was called with",
        (lambda: stepped(ours.adafactor(0.1)),),
    ),
    "no number": Remedy(
        lambda: NUMBERED(PARAMS, GRADS, {"m": PARAMS, "v": PARAMS}, 1),
        "Call init again",
        (lambda: NUMBERED(PARAMS, GRADS, NUMBERED.init(PARAMS), 1),),
    ),
    "complex matrices": Remedy(
        lambda: ours.adafactor(0.1).init(COMPLEX),
        r"\(optax.partition\)",
        (
            lambda: stepped(
                optax.partition({"a": ours.adafactor(0.1), "b": ours.adam(0.1)}, {"w": "b", "r": "a"}),
                BOTH,
                BOTH,
                given=BOTH,
            ),
        ),
    ),
    "traced start": Remedy(
        lambda: jitted(accumulating, 0.5),
        "give a Python number, or keep this slot in float32",
        (
            lambda: stepped(accumulating(0.5)),
            lambda: jitted(lambda start: ours.adagrad(0.1, initial_accumulator=start), 0.5),
        ),
    ),
    "no parameters": Remedy(
        lambda: stepped(ours.adamw(0.1), given=None),
        r"call update\(grads, state, params\)",
        (lambda: stepped(ours.adamw(0.1)),),
    ),
    # leaves.py
    "structure": Remedy(
        lambda: stepped(ours.adam(0.1), grads=[*GRADS.values()]),
        "take gradients by those parameters",
        (lambda: stepped(ours.adam(0.1), grads=GRADS),),
    ),
    "text": Remedy(
        lambda: stepped(ours.adam(0.1), {"w": jnp.ones(3), "name": "a"}),
        "None in its place",
        (lambda: stepped(ours.adam(0.1), own := {"w": jnp.ones(3), "name": None}, own),),
    ),
    "tensor": Remedy(
        lambda: stepped(ours.adam(0.1), {"w": torch.ones(3)}),
        r"jnp.asarray\(tensor.detach\(\).numpy\(\)\)",
        (lambda: stepped(ours.adam(0.1), own := {"w": jnp.asarray(torch.ones(3).detach().numpy())}, own),),
    ),
    "integers": Remedy(
        lambda: stepped(ours.adam(0.1), {"w": jnp.ones(3, "int32")}),
        r"optax.masked\(..., mask\).* x.astype\('float32'\)",
        (
            lambda: stepped(ours.adam(0.1), own := {"w": jnp.ones(3, "int32").astype("float32")}, own),
            lambda: stepped(
                optax.masked(ours.adam(0.1), {"w": True, "n": False}),
                {"w": jnp.ones(3), "n": jnp.ones(3, "int32")},
                {"w": jnp.ones(3), "n": jnp.zeros(3, "int32")},
            )["w"],
        ),
    ),
    "shape": Remedy(
        lambda: stepped(ours.adam(0.1), grads={"w": jnp.ones((3, 2)), "b": jnp.ones(3)}),
        "of the parameters that init was called with",
        (lambda: stepped(ours.adam(0.1)),),
    ),
    "codes of another shape": Remedy(
        lambda: FOUR_BITS.update(WIDER, FOUR_BITS.init(WIDE), WIDER),
        "of the parameters that init was called with",
        (lambda: stepped(FOUR_BITS, WIDER, WIDER, given=WIDER),),
    ),
    "complex gradients": Remedy(
        lambda: stepped(ours.adam(0.1), {"w": jnp.ones(3)}, COMPLEX),
        "of the parameters that init was called with",
        (lambda: stepped(ours.adam(0.1), COMPLEX, COMPLEX),),
    ),
    # convert.py
    "count": Remedy(
        lambda: ours.from_optax("adam", THEIRS, OURS, t=3), "leave t=", (lambda: ours.from_optax("adam", THEIRS, OURS),)
    ),
    "no count": Remedy(
        lambda: ours.from_optax("momentum", optax.trace(0.9).init(PARAMS), ours.momentum(0.1).init(PARAMS)),
        "give t=",
        (lambda: ours.from_optax("momentum", optax.trace(0.9).init(PARAMS), ours.momentum(0.1).init(PARAMS), t=3),),
    ),
    "no slots": Remedy(
        lambda: ours.from_optax("sgd", THEIRS, OURS), "init makes all of it", (lambda: stepped(ours.sgd(0.1)),)
    ),
    "8 bits": Remedy(
        lambda: ours.from_optax("adam", THEIRS, EIGHT_BITS),
        "With convert=True",
        (lambda: stepped(ours.adam(0.1, **SMALL), state=ours.from_optax("adam", THEIRS, EIGHT_BITS, convert=True)),),
    ),
    "8 bits, to optax": Remedy(
        lambda: ours.to_optax("adam", EIGHT_BITS, THEIRS),
        "With convert=True",
        (lambda: stepped(optax.adam(0.1), state=ours.to_optax("adam", EIGHT_BITS, THEIRS, convert=True)),),
    ),
    "other parameters": Remedy(
        lambda: ours.from_optax("adam", optax.adam(0.1).init(jnp.ones(3)), OURS),
        "init both with the same parameters",
        (lambda: ours.from_optax("adam", optax.adam(0.1).init(PARAMS), OURS),),
    ),
    "other options": Remedy(
        lambda: ours.from_optax("adam", THEIRS, ours.lion(0.1).init(PARAMS)),
        "give the rule and the hyperparameters",
        (lambda: ours.from_optax("lion", optax.lion(0.1).init(PARAMS), ours.lion(0.1).init(PARAMS), t=None),),
    ),
    "complex state": Remedy(
        lambda: ours.from_optax("adam", optax.adam(0.1).init(COMPLEX), ours.adam(0.1).init(COMPLEX)),
        "begin with what init returns",
        (lambda: stepped(ours.adam(0.1), COMPLEX, COMPLEX),),
    ),
}


@pytest.mark.parametrize("name", REMEDIES)
def test_what_a_message_says_helps(name: str) -> None:
    fails, says, done = REMEDIES[name]
    with pytest.raises(StepruleError, match=says):
        fails()
    for helped in done:
        assert all(np.isfinite(np.asarray(leaf, np.complex64)).all() for leaf in jax.tree.leaves(helped()))


def test_no_error_is_without_a_remedy_that_is_tried() -> None:
    files = (adapted, alias, convert, leaves, mask, scaled, slots, stepper, transformation, tree_step, values)
    assert untried(files, REMEDIES.values()) == []


# Where optax's own transformation counts the steps.
COUNTED = ("adabelief", "adam", "adamax", "adamaxw", "adamw", "amsgrad", "lion", "nadam", "nadamw", "radam", "yogi")


@pytest.mark.parametrize("name", COUNTED)
def test_the_way_from_a_state_of_optax_is_one_for_every_rule(name: str) -> None:
    tx, state = getattr(ours, name)(0.1), getattr(optax, name)(0.1).init(PARAMS)
    with pytest.raises(StepruleError) as caught:
        tx.update(GRADS, state, PARAMS)
    told = str(caught.value).partition("by state = ")[2].removesuffix(", once")
    begun = eval(told, {"steprule": sr, "state": state, "optimizer": tx, "params": PARAMS})
    told_of_optax = getattr(optax, name)(0.1).update(GRADS, state, PARAMS)[0]
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4), tx.update(GRADS, begun, PARAMS)[0], told_of_optax
    )
