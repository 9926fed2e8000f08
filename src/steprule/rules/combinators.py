"""Rules made of rules. Each is an ordinary function; the result compiles to one fused kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from steprule.errors import RuleError
from steprule.language import maximum, mean, ndim, sign, size, total, where
from steprule.rules.averages import averaged, lookahead
from steprule.rules.combine import combinator, computed, wrap
from steprule.rules.decay import decayed
from steprule.rules.difference import descent
from steprule.rules.hyperparameters import Hyperparameter, Range
from steprule.rules.registry import COMBINATORS
from steprule.rules.rule import Rule
from steprule.rules.scaled import clips, is_clipped, trust_ratio, update_clip
from steprule.rules.schedule_free import schedule_free

__all__ = [
    "COMBINATORS",
    "averaged",
    "batched",
    "cautious",
    "cautious_decay",
    "centralized",
    "clips",
    "decoupled",
    "is_clipped",
    "l2",
    "lookahead",
    "maximize",
    "schedule_free",
    "trust_ratio",
    "unscaled",
    "update_clip",
]

_NON_NEGATIVE = Range(0.0)
_POSITIVE = Range(0.0, open_low=True)


@combinator
def l2(rule: Rule, name: str) -> Rule:
    """Return ``rule`` with an L2 penalty in the gradient: ``g + weight_decay * theta``.

    Adds ``weight_decay`` (default 0.01, at least 0). This is torch's ``Adam(weight_decay=...)``;
    for AdamW see ``decoupled``. Rules and combinators inside ``l2`` see the gradient with the penalty, those outside
    the original gradient: ``l2(cautious(rule))`` and ``cautious(l2(rule))`` differ.
    """

    def step(theta: Any, g: Any, /, *slots: Any, t: Any, weight_decay: Any, **hyper: Any) -> tuple[Any, ...]:
        return rule.compute([theta, g + weight_decay * theta, *slots], t, hyper)

    decay = Hyperparameter("weight_decay", 0.01, _NON_NEGATIVE)
    return wrap(l2, rule, name, step, "With an L2 penalty in the gradient.", "", decay)


@combinator
def decoupled(rule: Rule, name: str) -> Rule:
    """Return ``rule`` with decoupled weight decay: ``theta`` shrinks before the step, independently of g.

    Adds ``weight_decay`` (default 0.01, at least 0) and ``scale_by_lr`` (default True): what is taken off is
    ``lr * weight_decay * theta``, or ``weight_decay * theta`` when False (the paper's form, in which the decay has its
    own schedule). It is taken off together with the step, ``theta - (step + decay)``, so that theta is rounded once.

    Source: Loshchilov & Hutter 2019, Algorithm 2, arXiv:1711.05101.
    """

    def step(
        theta: Any, g: Any, /, *slots: Any, t: Any, weight_decay: Any, scale_by_lr: bool = False, **hyper: Any
    ) -> tuple[Any, ...]:
        return decayed(rule, _shrinkage(theta, weight_decay, scale_by_lr, hyper), [theta, g, *slots], t, hyper)

    doc = (
        "With decoupled weight decay: before the step, theta shrinks by ``lr * weight_decay * theta``, or by\n"
        "``weight_decay * theta`` if ``scale_by_lr`` is False (the paper's form; the decay has its own schedule)."
    )
    paper = "decay: Loshchilov & Hutter 2019, Algorithm 2, arXiv:1711.05101"
    return wrap(decoupled, rule, name, step, doc, paper, *_decay(rule))


def _shrinkage(theta: Any, weight_decay: Any, scale_by_lr: bool, hyper: Mapping[str, Any]) -> Any:
    """Return what decoupled weight decay takes off theta."""
    return (hyper["lr"] * weight_decay if scale_by_lr else weight_decay) * theta


def _decay(rule: Rule) -> list[Hyperparameter]:
    """Return the hyperparameters of decoupled weight decay."""
    own = [Hyperparameter("weight_decay", 0.01, _NON_NEGATIVE)]
    scales = Hyperparameter("scale_by_lr", True, choices=(False, True))
    return [*own, scales] if "lr" in rule.hyperparameters else own


@combinator
def cautious_decay(rule: Rule, name: str) -> Rule:
    """Return ``rule`` with weight decay only where its step does not go away from 0.

    As in ``decoupled``, ``theta`` shrinks before the step, but only those elements whose step, without decay, is 0 or
    has the sign of ``theta``: where both would push an element the same way. Adds ``weight_decay`` and
    ``scale_by_lr``, as ``decoupled`` does. The decay of AdamW in this form is ``cautious_decay(adam)``.

    Source: Chen et al. 2025, Algorithm 1, arXiv:2510.12402.
    """

    def step(
        theta: Any, g: Any, /, *slots: Any, t: Any, weight_decay: Any, scale_by_lr: bool = False, **hyper: Any
    ) -> tuple[Any, ...]:
        down = computed(rule, descent(rule, rule.variant(hyper)), [theta, g, *slots], t, hyper)
        # Of the signs, since the product of small numbers is 0.
        is_inward = sign(down) * sign(theta) >= 0
        decay = where(is_inward, _shrinkage(theta, weight_decay, scale_by_lr, hyper), 0.0)
        return decayed(rule, decay, [theta, g, *slots], t, hyper)

    doc = "With decoupled weight decay of the elements that the step does not move away from 0."
    paper = "decay: Chen et al. 2025, Algorithm 1, arXiv:2510.12402"
    return wrap(cautious_decay, rule, name, step, doc, paper, *_decay(rule))


@combinator
def maximize(rule: Rule, name: str) -> Rule:
    """Return ``rule`` for ascent instead of descent: it sees ``-g``.

    Put it outside ``l2``, as in ``maximize(l2(rule))``: then the penalty is still minimized, as with ``maximize=True``
    in torch. With ``l2(maximize(rule))`` the penalty is maximized, too, so that weights grow.
    """

    def step(theta: Any, g: Any, /, *slots: Any, t: Any, **hyper: Any) -> tuple[Any, ...]:
        return rule.compute([theta, -g, *slots], t, hyper)

    return wrap(maximize, rule, name, step, "Maximises: the gradient is negated.", "")


@combinator
def unscaled(rule: Rule, name: str) -> Rule:
    """Return ``rule`` for gradients of a scaled loss: it sees ``g / grad_scale``.

    Adds ``grad_scale`` (default 1.0, above 0). A float16 loss is scaled up so that small gradients
    do not underflow; the step removes the scale again without an extra pass over the gradients.

    Source: Micikevicius et al. 2018, Section 3.2, arXiv:1710.03740.
    """

    def step(theta: Any, g: Any, /, *slots: Any, t: Any, grad_scale: Any, **hyper: Any) -> tuple[Any, ...]:
        return rule.compute([theta, g / grad_scale, *slots], t, hyper)

    scale = Hyperparameter("grad_scale", 1.0, _POSITIVE)
    paper = "scale: Micikevicius et al. 2018, Section 3.2, arXiv:1710.03740"
    return wrap(unscaled, rule, name, step, "For gradients of a scaled loss: g is divided by the scale.", paper, scale)


@combinator
def cautious(rule: Rule, name: str) -> Rule:
    """Return ``rule`` whose step is dropped wherever it would go against the current gradient.

    An element moves only where ``sign(theta - theta_new) == sign(g)``. Adds ``rescale``: what the steps of those that
    move are multiplied by. ``"none"``: nothing, which needs one pass over memory less. ``"paper"``: as in Algorithm 1,
    by n / (k + 1), where k of the n elements of the tensor move. ``"clamped"``: as in the authors' code and timm, by
    n / k, at most 1000.

    Decoupled weight decay is not part of the step: as in the authors' C-AdamW, it continues where the step is
    dropped. So ``cautious(adamw)`` is ``decoupled(cautious(adam))``, and ``cautious`` likewise moves inside
    ``cautious_decay``, ``maximize`` and ``unscaled``. A rule's own decay (adan's, asgd's) is part of its step. The
    penalty of ``l2`` is part of the gradient whose sign counts only in ``l2(cautious(rule))``.

    Source: Liang et al. 2024, Algorithm 1, arXiv:2411.16085.
    """
    if rule.made_by and rule.made_by[0] in (decoupled, cautious_decay, maximize, unscaled):
        outer, (inner, _) = rule.made_by
        return outer(cautious(inner), name)  # type: ignore[no-any-return]

    def step(theta: Any, g: Any, /, *slots: Any, t: Any, rescale: str, **hyper: Any) -> tuple[Any, ...]:
        elements = [theta, g, *slots]
        new, *rest = rule.compute(elements, t, hyper)
        down, moved = theta - new, new
        if rescale != "none":  # digits that a sum with theta would lose are not multiplied then
            down = computed(rule, descent(rule, rule.variant(hyper)), elements, t, hyper)
        agrees = sign(down) * sign(g) > 0
        if rescale != "none":
            moved = theta - _rescaling(where(agrees, 1.0, 0.0), rescale) * down
        # A NaN agrees with nothing; dropping it would hide it from the caller.
        return where(agrees | (new != new), moved, theta), *rest

    doc = "Cautious: elements whose step disagrees with the gradient's sign stay."
    paper = "mask: Liang et al. 2024, Algorithm 1, arXiv:2411.16085"
    rescale = Hyperparameter("rescale", "none", choices=("none", "paper", "clamped"))
    return wrap(cautious, rule, name, step, doc, paper, rescale)


@combinator
def centralized(rule: Rule, name: str) -> Rule:
    """Return ``rule`` for centralized gradients: it sees ``g`` minus the mean of its row.

    A row is all that has one index along the first axis: the weights of a neuron, a filter. A vector keeps its
    gradient. Where ``rule`` sees the last two axes as matrices (adafactor), rows are theirs.
    ``l2(centralized(rule))`` takes the mean of the penalty away as well, as the authors' code does;
    ``centralized(l2(rule))`` of the gradient alone.

    Source: Yong et al. 2020, Algorithm 1, arXiv:2004.01461.
    """

    def step(theta: Any, g: Any, /, *slots: Any, t: Any, **hyper: Any) -> tuple[Any, ...]:
        centre = where(ndim(g) > 1, mean(g, over="row"), 0.0)
        return rule.compute([theta, g - centre, *slots], t, hyper)

    paper = "centralized gradient: Yong et al. 2020, Algorithm 1, arXiv:2004.01461"
    return wrap(centralized, rule, name, step, "For gradients without the mean of their row.", paper)


@combinator
def batched(rule: Rule, name: str) -> Rule:
    """Return ``rule`` for stacks of matrices: they are along the last two axes, and the axes before count them.

    For a rule that sees rows and columns, or takes polar factors, of all that is along the first axis and of the rest:
    ``muon`` steps a tensor of shape (3, 64, 128) as one matrix of 3 rows and 8,192 columns, ``batched(muon)`` as three
    of 64 rows and 128 columns each. A matrix is stepped as without it.

    Raises:
        RuleError: for a rule that sees no matrices, or whose matrices are along the last two axes already.
    """
    if rule.view is None:
        raise RuleError(f"{name}: rule {rule.name!r} steps every element by itself, whatever its axes; use it as is")
    if rule.view == "last":
        raise RuleError(f"{name}: the matrices of rule {rule.name!r} are along the last two axes already; use it as is")
    if rule.made_by:  # what is inside sees the matrices
        outer, (inner, *rest) = rule.made_by
        given = [name] if outer in COMBINATORS.values() else rest
        return outer(batched(inner), *given)  # type: ignore[no-any-return]
    doc = f"For stacks of matrices: they are along the last two axes, and the axes before count them.\n\n{rule.doc}"
    return replace(rule, name=name, matrices="last", doc=doc.strip(), made_by=(batched, (rule, name)))


def _rescaling(mask: Any, rescale: str) -> Any:
    return size(mask) / (total(mask) + 1) if rescale == "paper" else 1 / maximum(mean(mask), 1e-3)


_ALL = (
    *(l2, decoupled, cautious_decay, maximize, unscaled, cautious, centralized, trust_ratio, update_clip),
    *(schedule_free, averaged, lookahead, batched),
)
COMBINATORS.update({maker.__name__: maker for maker in _ALL})
