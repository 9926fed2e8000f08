"""What a fit is called, and what is worth knowing of it beside its mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from steprule.checking.fit import Fit
from steprule.checking.observe import Habits
from steprule.checking.scheduled import schedule_words
from steprule.checking.search import inner, is_adam, is_scheduled

__all__ = ["called", "remarks_of", "so_far"]

_AMSGRAD = {
    "before": "AMSGrad takes the maximum of the second moment and corrects it afterwards, as PyTorch does.",
    "after": "AMSGrad takes the maximum of the corrected second moment, as optax does.",
    "none": "AMSGrad corrects no moment, as its paper writes it; PyTorch and optax correct both.",
}

_PROPER = {"adam": "Adam", "adamw": "AdamW", "amsgrad": "AMSGrad"}


def called(found: Fit) -> str:
    """Return the rule of a fit as a person says it, mistakes left out."""
    if is_scheduled(found.candidate):
        made = found.candidate.rule.made_by
        plain = replace(found, candidate=replace(found.candidate, rule=made[1][0]))
        return f"{called(plain)} with a rate that {schedule_words(made[1][1], found.values['fall'])}"
    rule, options = found.candidate.rule, found.candidate.options
    penalized, decayed = rule.name.endswith("_l2"), rule.name.endswith("_decayed")
    if is_adam(found.candidate):
        base = "Adam" if options.get("maximum", "none") == "none" else "AMSGrad"
        if decayed:
            return "AdamW" if base == "Adam" else "AMSGrad with decoupled weight decay"
        return f"{base} with an L2 penalty in the gradient" if penalized else base
    own = inner(rule)
    changed = [f"{name}={value!r}" for name, value in options.items() if own.hyperparameters[name].default != value]
    name = f"{own.name}({', '.join(changed)})" if changed else _PROPER.get(own.name, own.name)
    if own.name == "sgd" and (penalized or decayed):
        return "sgd with weight decay"  # for which the two are the same
    return f"{name} with decoupled weight decay" if decayed else f"{name} with an L2 penalty" if penalized else name


def so_far(tried: Sequence[Fit]) -> str:
    """Return what is known before everything has been tried."""
    nearest = min(tried, key=lambda one: (is_scheduled(one.candidate), one.distance))
    number = f"{len(tried)} rules were" if len(tried) > 1 else "1 rule was"
    off = "" if nearest.distance < 0.01 else f", {min(nearest.distance, 1):.0%} off"
    return f"{number} tried so far, and none explains every step; the nearest is {called(nearest)}{off}"


def remarks_of(found: Fit, habits: Habits, said: Mapping[str, float], *, elementwise: bool) -> Iterator[str]:
    """Return what is worth knowing beside the mistakes.

    Args:
        found: what explains the steps, or comes nearest.
        habits: what was noticed while it ran.
        said: the hyperparameters that the code names.
        elementwise: whether a step of one element depends on that element alone.
    """
    if found.fits:
        yield from _of_formula(found)
        yield from _of_hyperparameters(found, said)
    elif not elementwise:
        yield (
            "The step of an element depends on others, as with a norm of the tensor or clipping. Only rules of the "
            "catalogue that are so were tried."
        )
    if habits.types:
        yield f"Parameters of float64 come back as {', '.join(sorted(habits.types))}, so fewer digits were compared."
    elif habits.single or found.candidate.books.slots == "float32":
        yield (
            "With parameters of float64 its steps have the digits of float32 alone, so fewer were compared: its state, "
            "a rate or a constant is of float32."
        )
    if habits.widens:
        yield "Parameters of float32 come back in another type; return them in the type in which they came."
    if habits.differs:
        yield "With parameters of float32 its steps differ from the rule's by more than rounding."
    if habits.printed:
        yield f"It printed {habits.printed} lines, which are not shown."


def _of_formula(found: Fit) -> Iterator[str]:
    options, values = found.candidate.options, found.values
    if is_scheduled(found.candidate):
        yield "The learning rate is that of the first step."
    if not is_adam(found.candidate):
        return
    if options.get("maximum", "none") != "none":
        yield _AMSGRAD["none" if options["corrected"] == "none" else options["maximum"]]
    if values["beta1"] > values["beta2"]:
        yield "beta1 is larger than beta2: usual are 0.9 and 0.999, so they may have changed places."
    if options.get("epsilon") == "uncorrected":
        yield (
            "Epsilon is added to the root of the second moment before that is corrected, as at the end of the paper's "
            "section 2 and in Keras; it counts as eps / sqrt(1 - beta2**t)."
        )
    decay = values.get("weight_decay", 0.0) if found.candidate.rule.name.endswith("_decayed") else 0.0
    if decay > 1:
        share = values["lr"] * decay
        yield (
            f"A step decays the parameter by {share:.6g} of itself. That is lr * weight_decay with weight_decay = "
            f"{decay:.6g}; or weight_decay = {share:.6g} that is not multiplied by the learning rate, as in the "
            "paper's text but not in PyTorch or optax."
        )


def _of_hyperparameters(found: Fit, said: Mapping[str, float]) -> Iterator[str]:
    for name, value in said.items():
        error = found.errors.get(name, float("inf"))
        if name != "weight_decay" and error < float("inf") and abs(found.values[name] - value) > max(
            1e-6 * abs(value), 10 * error
        ):  # fmt: skip
            yield f"The code says {name} = {value:g}, and its steps are those of {name} = {found.values[name]:.6g}."
