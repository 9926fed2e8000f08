"""``optax.contrib.muon`` by rules: its names, its arguments in their order, its defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers

from steprule.doors.jax.alias import meant
from steprule.doors.jax.several import Several, multiplied_in
from steprule.doors.jax.stepper import Stepper
from steprule.doors.jax.transformation import of_stepper
from steprule.errors import HyperparameterError, StructureError, suggest
from steprule.rules import batched
from steprule.rules.papers.muon import muon as rule

__all__ = ["muon"]

_COEFFICIENTS = ("standard", "polar_express")
_BY_OPTAX = "use optax.contrib.muon for that"
_VIEWS = ("columns/rows", "rows/columns", "batches of columns/rows", "batches of rows/columns")
"""What scales the rate of a matrix: outputs by inputs, which are one or the other."""
_ADAM = len(_VIEWS)


def muon(
    learning_rate: Any,
    ns_coeffs: Any = (3.4445, -4.7750, 2.0315),
    ns_steps: Any = 5,
    beta: Any = 0.95,
    eps: Any = 1e-8,
    weight_decay: Any = 0.0,
    weight_decay_mask: Any = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: Any = 0.9,
    adam_b2: Any = 0.999,
    adam_eps_root: Any = 0.0,
    adam_weight_decay: Any = 0.0,
    adam_learning_rate: Any = None,
    muon_weight_dimension_numbers: Any = None,
    consistent_rms: Any = None,
    products: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Return Muon for matrices and AdamW for all else, as ``optax.contrib.muon`` does.

    As there, all parameters of two dimensions are matrices, embeddings too, whose first axis are inputs. To choose by
    names use ``transformation("adamw", routes=[("matrices", "muon", {...})])``, whose defaults are those of the rules.

    Args:
        learning_rate: a number, an array, or a schedule.
        ns_coeffs: three numbers, or ``"standard"``, which are optax's, or ``"polar_express"``, one polynomial a step.
        ns_steps: Newton-Schulz steps.
        beta: of the average of gradients, which is corrected for its start at 0.
        eps: the least that a norm counts as; optax adds it to the norm. Also that of Adam.
        weight_decay: decoupled, times the rate.
        weight_decay_mask: which matrices decay; see ``transformation``.
        mu_dtype: what first moments are kept in: ``"bfloat16"`` (rounded stochastically); None: as computed.
        nesterov: for Adam's part as well.
        adaptive: must be False.
        preconditioning: must be ``"frobenius"``.
        adam_b1, adam_b2, adam_eps_root, adam_weight_decay: of Adam's part.
        adam_learning_rate: the same rate if None.
        muon_weight_dimension_numbers: a tree of ``optax.contrib.MuonDimensionNumbers``, each for the subtree below it,
            with None for what AdamW steps; or a callable that makes such a tree. The axes must be two of a matrix, the
            last two of a batch, or the first and all others.
        consistent_rms: the rate is times this and sqrt(max(inputs, outputs)) instead of sqrt(max(1, outputs/inputs)).
        products: ``"bfloat16"``: what matrices are multiplied in; None: what steps are computed in.

    Raises:
        HyperparameterError: for what is out of its range or not supported, with what to use instead.
        StructureError: in ``init`` and ``update``, for dimension numbers that do not fit.
    """
    _refuse(adaptive, preconditioning)
    values = {
        **_coefficients(ns_coeffs),
        "lr": learning_rate,
        "momentum": beta,
        "weight_decay": weight_decay,
        "nesterov": nesterov,
        "bias_correction": True,
        "ns_steps": ns_steps,
        "eps": eps,
    }
    rms = {} if consistent_rms is None else {"adjust_lr": "match_rms_adamw", "consistent_rms": consistent_rms}
    kinds = [{"adjust_lr": word, **rms} for word in ("transposed", "original")]
    states, small = _kept(mu_dtype)
    steppers = [
        Stepper.of(own, states, small, None, {**values, **kind}, weight_decay_mask)
        for own in (rule, batched(rule))
        for kind in kinds
    ]
    of_adam = {
        "learning_rate": learning_rate if adam_learning_rate is None else adam_learning_rate,
        "b1": adam_b1,
        "b2": adam_b2,
        "eps": eps,
        "eps_root": adam_eps_root,
        "weight_decay": adam_weight_decay,
        "nesterov": nesterov,
    }
    adam, adam_values = meant("adamw", of_adam)
    steppers.append(Stepper.of(adam, states, small, None, adam_values, None))

    def assign(tree: Any, leaves: Sequence[Any], names: Sequence[str]) -> list[int]:
        return _places(muon_weight_dimension_numbers, tree, leaves, names)

    made = Several(tuple(steppers), adam, assign)
    return of_stepper(made if products is None else multiplied_in(made, products))


def _refuse(adaptive: Any, preconditioning: Any) -> None:
    """Refuse what the rule does not do."""
    if adaptive is not False:
        raise HyperparameterError(f"adaptive={adaptive!r} is not supported (steps times a dual norm); {_BY_OPTAX}")
    if preconditioning != "frobenius":
        raise HyperparameterError(
            f"preconditioning={preconditioning!r} is not supported: matrices are divided by their Frobenius norm; "
            f"{_BY_OPTAX}"
        )


def _coefficients(given: Any) -> dict[str, Any]:
    """Return what the rule calls the coefficients."""
    if isinstance(given, str):
        if given not in _COEFFICIENTS:
            raise HyperparameterError(
                f"ns_coeffs={given!r} is not supported, only three numbers or a name.{suggest(given, _COEFFICIENTS)} "
                f"For others {_BY_OPTAX}"
            )
        return {"coefficients": "polar_express"} if given == "polar_express" else {}
    numbers = list(given)
    if len(numbers) != 3 or any(isinstance(own, Sequence) for own in numbers):
        raise HyperparameterError(
            f"ns_coeffs must be three numbers, the same in every step, got {given!r}. Polynomials of each step are "
            f"those of ns_coeffs='polar_express'; for others {_BY_OPTAX}"
        )
    return dict(zip(("a", "b", "c"), numbers, strict=True))


def _kept(mu_dtype: Any) -> tuple[str | Mapping[str, str], int | None]:
    """Return how first moments are kept, and from which size on."""
    if mu_dtype is None:
        return "float32", None
    name = str(jax.dtypes.canonicalize_dtype(mu_dtype))
    if name != "bfloat16":
        raise HyperparameterError(
            f"mu_dtype must be 'bfloat16' or None, with which moments have the type of the arithmetic, got {name!r}"
        )
    return {"m": "bfloat16"}, 0


def _places(numbers: Any, tree: Any, leaves: Sequence[Any], names: Sequence[str]) -> list[int]:
    """Return what steps each leaf that is not None: a place in ``_VIEWS``, or that of Adam."""
    if numbers is None:
        return [0 if leaf.ndim == 2 else _ADAM for leaf in leaves]
    told = numbers(tree) if callable(numbers) else numbers

    def is_end(x: Any) -> bool:
        return x is None or isinstance(x, MuonDimensionNumbers)

    try:
        spread = jax.tree.map(lambda own, below: [own] * len(jax.tree.leaves(below)), told, tree, is_leaf=is_end)
    except (ValueError, TypeError, KeyError) as error:
        raise StructureError(
            f"muon_weight_dimension_numbers have another structure than the parameters: {str(error).rstrip('.')}"
        ) from None
    every = [own for below in jax.tree.leaves(spread, is_leaf=lambda x: isinstance(x, list)) for own in below]
    return [_place(*own) for own in zip(every, leaves, names, strict=True)]


def _place(own: Any, leaf: Any, name: str) -> int:
    """Return which view of a leaf its dimension numbers are, by their axes.

    Raises:
        StructureError: for axes that are no view of rules.
    """
    if own is None:
        return _ADAM
    given = (own.reduction_axis, own.output_axis)
    inputs, outputs = (
        tuple(axis % max(1, leaf.ndim) for axis in ((axes,) if isinstance(axes, int) else axes)) for axes in given
    )
    first, others, last = (0,), tuple(range(1, leaf.ndim)), (leaf.ndim - 2, leaf.ndim - 1)
    if leaf.ndim >= 2:
        if (inputs, tuple(sorted(outputs))) == (first, others):
            return 0
        if (tuple(sorted(inputs)), outputs) == (others, first):
            return 1
        if (*inputs, *outputs) == last:
            return 2
        if (*outputs, *inputs) == last:
            return 3
    raise StructureError(
        f"{name} of shape {leaf.shape} is no matrix by reduction_axis={given[0]!r}, output_axis={given[1]!r}: these "
        "must be two axes of a matrix, the last two of a batch, or the first and all others. Transpose it, or "
        f"{_BY_OPTAX}"
    )
