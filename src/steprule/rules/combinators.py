"""Rules made of rules. Each is an ordinary function; the result compiles to one fused kernel."""

from __future__ import annotations

import functools
import math
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from steprule.errors import RuleError
from steprule.language import maximum, mean, sign, sqrt, where
from steprule.language.computing import computed
from steprule.language.node import Node
from steprule.rules.difference import descent
from steprule.rules.guard import update_ratio
from steprule.rules.hyperparameters import Hyperparameter, Range, Role
from steprule.rules.registry import COMBINATORS, find
from steprule.rules.rule import Rule

__all__ = [
    "COMBINATORS",
    "cautious",
    "cautious_decay",
    "clips",
    "decoupled",
    "is_clipped",
    "l2",
    "maximize",
    "unscaled",
    "update_clip",
]

_NON_NEGATIVE = Range(0.0)
_POSITIVE = Range(0.0, open_low=True)
_last: deque[Rule] = deque(maxlen=32)


def _wrap(
    maker: Callable[..., Rule],
    inner: Rule,
    name: str,
    function: Callable[..., Any],
    doc: str,
    paper: str,
    *extra: Hyperparameter,
) -> Rule:
    taken = [hyper.name for hyper in extra if hyper.name in inner.hyperparameters]
    if taken:
        raise RuleError(f"{name}: rule {inner.name!r} already has a hyperparameter {taken[0]!r}")
    hyperparameters = {**inner.hyperparameters, **{hyper.name: hyper for hyper in extra}}
    sources = "; ".join(source for source in (inner.paper, paper) if source)
    return replace(
        inner,
        function=function,
        name=name,
        doc=f"{doc}\n\n{inner.doc}".strip(),
        paper=sources,
        hyperparameters=hyperparameters,
        uses_t=True,
        made_by=(maker, (inner, name)),
    )


def _combinator(make: Callable[[Rule, str], Rule], last: deque[Rule] = _last) -> Callable[..., Rule]:
    """Let a combinator take a rule's name as well, and make each rule once, since each is a kernel.

    Once for as long as somebody has it, or it is among the last that were made: a sweep that writes
    ``cautious("adam")`` in its loop compiles it once, and a search over thousands of rules keeps few.
    """
    made: weakref.WeakValueDictionary[tuple[Rule, str], Rule] = weakref.WeakValueDictionary()

    @functools.wraps(make)
    def combine(rule: str | Rule, name: str | None = None) -> Rule:
        inner = find(rule)
        key = inner, name or f"{make.__name__}({inner.name})"
        found = made.get(key)
        if found is None:
            found = made.setdefault(key, make(*key))
            last.append(found)
        return found

    return combine


@_combinator
def l2(rule: Rule, name: str) -> Rule:
    """Return ``rule`` with an L2 penalty in the gradient: ``g + weight_decay * theta``.

    Adds ``weight_decay`` (default 0.01, at least 0). This is torch's ``Adam(weight_decay=...)``;
    for AdamW see ``decoupled``. Rules and combinators inside ``l2`` see the gradient with the penalty, those outside
    the original gradient: ``l2(cautious(rule))`` and ``cautious(l2(rule))`` differ.
    """

    def step(theta: Any, g: Any, /, *slots: Any, t: Any, weight_decay: Any, **hyper: Any) -> tuple[Any, ...]:
        return rule.compute([theta, g + weight_decay * theta, *slots], t, hyper)

    decay = Hyperparameter("weight_decay", 0.01, _NON_NEGATIVE)
    return _wrap(l2, rule, name, step, "With an L2 penalty in the gradient.", "", decay)


@_combinator
def decoupled(rule: Rule, name: str) -> Rule:
    """Return ``rule`` with decoupled weight decay: ``theta`` shrinks before the step, independently of g.

    Adds ``weight_decay`` (default 0.01, at least 0) and ``scale_by_lr`` (default True): the factor
    is ``1 - lr * weight_decay``, or ``1 - weight_decay`` when False (the paper's form, in which
    the decay has its own schedule).

    Source: Loshchilov & Hutter 2019, Algorithm 2, arXiv:1711.05101.
    """

    def step(
        theta: Any, g: Any, /, *slots: Any, t: Any, weight_decay: Any, scale_by_lr: bool = False, **hyper: Any
    ) -> tuple[Any, ...]:
        shrink = 1 - hyper["lr"] * weight_decay if scale_by_lr else 1 - weight_decay
        return rule.compute([shrink * theta, g, *slots], t, hyper)

    doc = (
        "With decoupled weight decay: theta shrinks by 1 - lr weight_decay before the step, or by 1 - weight_decay\n"
        "if ``scale_by_lr`` is False (the paper's form, in which the decay has its own schedule)."
    )
    paper = "decay: Loshchilov & Hutter 2019, Algorithm 2, arXiv:1711.05101"
    return _wrap(decoupled, rule, name, step, doc, paper, *_decay(rule))


def _decay(rule: Rule) -> list[Hyperparameter]:
    """Return the hyperparameters of decoupled weight decay."""
    own = [Hyperparameter("weight_decay", 0.01, _NON_NEGATIVE)]
    scales = Hyperparameter("scale_by_lr", True, choices=(False, True))
    return [*own, scales] if "lr" in rule.hyperparameters else own


@_combinator
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
        down = _computed(rule, descent(rule, rule.variant(hyper)), [theta, g, *slots], t, hyper)
        shrink = 1 - hyper["lr"] * weight_decay if scale_by_lr else 1 - weight_decay
        # Of the signs, since the product of small numbers is 0.
        decayed = where(sign(down) * sign(theta) >= 0, shrink * theta, theta)
        return rule.compute([decayed, g, *slots], t, hyper)

    doc = "With decoupled weight decay of the elements that the step does not move away from 0."
    paper = "decay: Chen et al. 2025, Algorithm 1, arXiv:2510.12402"
    return _wrap(cautious_decay, rule, name, step, doc, paper, *_decay(rule))


def _computed(rule: Rule, root: Node, elements: Sequence[Any], t: Any, values: Mapping[str, Any]) -> Any:
    """Return an expression of a rule's symbols, computed on other values."""
    names = (rule.parameter, rule.gradient, *rule.slots)
    return computed(root, {**values, "t": t, **dict(zip(names, elements, strict=True))})


@_combinator
def maximize(rule: Rule, name: str) -> Rule:
    """Return ``rule`` for ascent instead of descent: it sees ``-g``.

    Put it outside ``l2``, as in ``maximize(l2(rule))``: then the penalty is still minimized, as with ``maximize=True``
    in torch. With ``l2(maximize(rule))`` the penalty is maximized, too, so that weights grow.
    """

    def step(theta: Any, g: Any, /, *slots: Any, t: Any, **hyper: Any) -> tuple[Any, ...]:
        return rule.compute([theta, -g, *slots], t, hyper)

    return _wrap(maximize, rule, name, step, "Maximises: the gradient is negated.", "")


@_combinator
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
    return _wrap(unscaled, rule, name, step, "For gradients of a scaled loss: g is divided by the scale.", paper, scale)


@_combinator
def cautious(rule: Rule, name: str) -> Rule:
    """Return ``rule`` whose step is dropped wherever it would go against the current gradient.

    An element moves only where ``sign(theta - theta_new) == sign(g)``. The paper also scales the
    remaining steps by the tensor's share of moved elements; that is a reduction over a tensor,
    which a rule for one element cannot express, and is left to the learning rate.

    Decoupled weight decay is not part of the step: as in the authors' C-AdamW, it continues where the step is
    dropped. So ``cautious(adamw)`` is ``decoupled(cautious(adam))``, and ``cautious`` likewise moves inside
    ``cautious_decay``, ``maximize`` and ``unscaled``. A rule's own decay (adan's, asgd's) is part of its step. The
    penalty of ``l2`` is part of the gradient whose sign counts only in ``l2(cautious(rule))``.

    Source: Liang et al. 2024, Algorithm 1, arXiv:2411.16085, without the rescaling.
    """
    if rule.made_by and rule.made_by[0] in (decoupled, cautious_decay, maximize, unscaled):
        outer, (inner, _) = rule.made_by
        return outer(cautious(inner), name)  # type: ignore[no-any-return]

    def step(theta: Any, g: Any, /, *slots: Any, t: Any, **hyper: Any) -> tuple[Any, ...]:
        new, *rest = rule.compute([theta, g, *slots], t, hyper)
        agrees = sign(theta - new) * sign(g) > 0
        # A NaN agrees with nothing; dropping it would hide it from the caller.
        return where(agrees | (new != new), new, theta), *rest

    doc = "Cautious: elements whose step disagrees with the gradient's sign stay."
    paper = "mask: Liang et al. 2024, Algorithm 1, arXiv:2411.16085, without the rescaling"
    return _wrap(cautious, rule, name, step, doc, paper)


# Engines keep what they make of it: a rule that is not used any more is not kept for that.
@functools.partial(_combinator, last=deque(maxlen=0))
def update_clip(rule: Rule, name: str) -> Rule:
    """Return ``rule`` with ``lr / max(1, RMS)`` for ``lr``: steps that the second moment has not foreseen are clipped.

    RMS is the root of the mean of ``g**2 / max(v_hat, eps**2)`` over the tensor. Where it is not finite, a gradient is
    not; nothing is clipped then, so that the other elements do not suffer. A variant without ``lr`` steps as ever.

    Source: StableAdamW, Wortsman et al. 2023, Algorithm 2, arXiv:2304.13013.
    """

    def step(theta: Any, g: Any, /, *slots: Any, t: Any, lr: Any, **hyper: Any) -> tuple[Any, ...]:
        elements, values = [theta, g, *slots], {"lr": lr, **hyper}
        ratio = update_ratio(rule, rule.variant(values))
        if ratio is not None and lr is not None:
            rms = sqrt(mean(_computed(rule, ratio, elements, t, values)))
            values["lr"] = lr * where(rms < math.inf, 1 / maximum(rms, 1.0), 1.0)
        return rule.compute(elements, t, values)

    if not clips(rule):
        what = "has no lr that could be lowered" if "lr" not in rule.hyperparameters else "keeps no SecondMoment"
        raise RuleError(f"{name}: rule {rule.name!r} {what}; use clip_norm")
    paper = "clipped update: Wortsman et al. 2023, Algorithm 2, arXiv:2304.13013"
    return _wrap(update_clip, rule, name, step, "With clipped updates: lr / max(1, RMS) for lr.", paper)


def clips(rule: Rule) -> bool:
    """Whether ``update_clip`` has something to do for a rule."""
    return "lr" in rule.hyperparameters and rule.slot_of(Role.SECOND_MOMENT) is not None


def is_clipped(rule: Rule) -> bool:
    """Whether ``update_clip`` is among the combinators that a rule is made by."""
    return bool(rule.made_by) and (rule.made_by[0] is update_clip or is_clipped(rule.made_by[1][0]))


COMBINATORS.update({maker.__name__: maker for maker in (l2, decoupled, cautious_decay, maximize, unscaled, cautious)})
