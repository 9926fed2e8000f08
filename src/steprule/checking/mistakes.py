"""The known mistakes: what each is called, what is wrong, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from steprule.checking.fit import Fit
from steprule.checking.observe import HALVES, Habits
from steprule.checking.search import is_adam
from steprule.checking.simulate import PLAIN, Books

__all__ = ["DISTURBED", "LATER", "MISTAKES", "Mistake", "found_in"]


@dataclass(frozen=True)
class Mistake:
    """A known mistake.

    Attributes:
        name: what it is called.
        what: what is wrong.
        remedy: what to write instead.
    """

    name: str
    what: str
    remedy: str


_ALL = (
    Mistake(
        "epsilon inside the root",
        "It divides by sqrt(v_hat + eps). With eps = 1e-8 that acts on gradients below 1e-4, where the paper's acts on "
        "gradients below 1e-8.",
        "Add epsilon to the root: m_hat / (sqrt(v_hat) + eps).",
    ),
    Mistake(
        "corrected moments are stored",
        "m and v are overwritten by their bias-corrected values, so that the next step corrects them again.",
        "Give the corrected values names of their own, m_hat = m / (1 - beta1**t), and keep m.",
    ),
    Mistake(
        "corrected first moment is stored",
        "m is overwritten by its bias-corrected value, so that the next step corrects it again.",
        "Give it a name of its own, m_hat = m / (1 - beta1**t), and keep m.",
    ),
    Mistake(
        "corrected second moment is stored",
        "v is overwritten by its bias-corrected value, so that the next step corrects it again.",
        "Give it a name of its own, v_hat = v / (1 - beta2**t), and keep v.",
    ),
    Mistake(
        "no bias correction",
        "Neither moment is corrected for its start at zero, so the first steps are too large by up to "
        "(1 - beta1) / sqrt(1 - beta2).",
        "Divide m by 1 - beta1**t and v by 1 - beta2**t before the step.",
    ),
    Mistake(
        "second moment is not corrected",
        "Only m is corrected for its start at zero; v starts too small, so the first steps are too large.",
        "Divide v by 1 - beta2**t as well.",
    ),
    Mistake(
        "first moment is not corrected",
        "Only v is corrected for its start at zero; m starts too small, so the first steps are too small.",
        "Divide m by 1 - beta1**t as well.",
    ),
    Mistake(
        "step counter starts at 0",
        "The first correction divides by 1 - beta**0 = 0, and the first step is not a number.",
        "Count the step before the correction: t = t + 1, then 1 - beta1**t.",
    ),
    Mistake(
        "step counter is one ahead",
        "The first step is corrected as if it were the second.",
        "Let t be 1 in the first step.",
    ),
    Mistake(
        "step counter advances once a tensor",
        "t is counted within the loop over parameters, so that each tensor is corrected by another step number.",
        "Count t once a step, before the loop over parameters.",
    ),
    Mistake(
        "state is shared between tensors",
        "All tensors have one m and one v, in which their gradients are mixed.",
        "Keep moments for each parameter, by its place or its name.",
    ),
    Mistake(
        "step goes uphill",
        "It adds the step to the parameter, so that the loss rises.",
        "Subtract it: theta = theta - lr * ..., unless the gradient is that of what is to be maximized.",
    ),
    Mistake(
        "gradient is read late",
        "A step goes along the gradient of the step before.",
        "Read the gradient that the step is given.",
    ),
    Mistake(
        "gradient is kept by reference",
        "It keeps the array of the gradient itself and reads it in a later step, when the next gradient may lie there.",
        "Keep a copy.",
    ),
    Mistake(
        "gradient is written to",
        "It changes the gradient that it is given, which its caller may still need: to log, to clip, to accumulate.",
        "Write g = g + ... where it says g += ...; do not work in place on the gradient.",
    ),
    Mistake(
        "beta2 is 0.99",
        "The usual value is 0.999. An average over 100 steps in place of 1000 makes steps noisier.",
        "Write 0.999, unless 0.99 is meant.",
    ),
    Mistake(
        "weight decay is in the gradient",
        "It is called AdamW, but adds weight_decay * theta to the gradient, where it is divided by the root of v like "
        "the gradient itself.",
        "Shrink the parameter itself: theta = theta - lr * weight_decay * theta, and leave the gradient as it is.",
    ),
    Mistake(
        "moments in low precision",
        "The moments are rounded to half precision, in which an average of 1000 steps may not move at all.",
        "Make them of the parameter's type, or of float32 at least.",
    ),
    Mistake(
        "step is returned",
        "It returns the step alone, in the place of the parameter after it.",
        "Return p + step; or add it where it is called, as optax.apply_updates does.",
    ),
)  # fmt: skip
DISTURBED = Mistake(
    "tensors disturb each other",
    "One tensor alone goes as the rule takes it, several together do not, and none of the known mistakes says how.",
    "Keep all that is kept from step to step by parameter, but for the step number.",
)
"""What several tensors do that no known mistake explains."""
LATER = Mistake(
    "later steps are others",
    "The first steps go as the rule takes them, and later ones do not, of one tensor alone as well.",
    "See what happens at the step that is named below. The end of a warm-up, or another change of the learning rate, "
    "is none, if it is meant.",
)
"""What a longer run does that no rule explains."""
MISTAKES: Mapping[str, Mistake] = {one.name: one for one in _ALL}
"""The known mistakes by name; that weight decay is scaled otherwise is beside them, since it has a number."""

_CORRECTED = {
    "both in place": "corrected moments are stored",
    "m in place": "corrected first moment is stored",
    "v in place": "corrected second moment is stored",
    "none": "no bias correction",
    "m": "second moment is not corrected",
    "v": "first moment is not corrected",
}


def found_in(found: Fit, books: Books, habits: Habits, declared: Mapping[str, float], name: str) -> list[Mistake]:
    """Return the mistakes of what a fit explains.

    Args:
        found: what explains the steps of one tensor; of one that does not, habits alone are told.
        books: what explains those of several.
        habits: what was noticed without a rule.
        declared: the hyperparameters that the code itself names.
        name: what it is called.
    """
    names = [
        *(_in_formula(found, name) if found.fits else ()),
        *_in_bookkeeping(books if found.fits else PLAIN, habits),
    ]
    scaled = _scaled_otherwise(found, declared) if found.fits else None
    return [*(MISTAKES[one] for one in names), *([scaled] if scaled else [])]


def _in_formula(found: Fit, name: str) -> Iterator[str]:
    if not is_adam(found.candidate):
        return
    options, values = found.candidate.options, found.values
    is_amsgrad_of_the_paper = options.get("corrected") == "none" and options.get("maximum") != "none"
    if options.get("corrected") in _CORRECTED and not is_amsgrad_of_the_paper:
        yield _CORRECTED[options["corrected"]]
    if options.get("epsilon") == "inside" and values["eps"]:
        yield "epsilon inside the root"
    if abs(values["beta2"] - 0.99) <= (1e-3 if found.candidate.books.slots else 1e-6):
        yield "beta2 is 0.99"
    if "adamw" in name.lower().replace("_", "") and found.candidate.rule.name.endswith("_l2"):
        yield "weight decay is in the gradient"


def _in_bookkeeping(books: Books, habits: Habits) -> Iterator[str]:
    if books.ahead == 1:
        yield "step counter is one ahead"
    if books.ahead == -1 and not books.skips:
        yield "step counter starts at 0"
    for is_there, name in (
        (books.per_tensor, "step counter advances once a tensor"),
        (books.shared, "state is shared between tensors"),
        (books.uphill, "step goes uphill"),
        (books.late and not habits.keeps, "gradient is read late"),
        (habits.keeps, "gradient is kept by reference"),
        (habits.wrote, "gradient is written to"),
        (books.slots in HALVES, "moments in low precision"),
        (habits.returns_step, "step is returned"),
    ):
        if is_there:
            yield name


def _scaled_otherwise(found: Fit, declared: Mapping[str, float]) -> Mistake | None:
    """Return the mistake of a weight decay that is not the one that the code declares."""
    own, said = found.values.get("weight_decay"), declared.get("weight_decay")
    if not (own and said) or abs(own / said - 1) < 1e-6:
        return None
    lr, ratio = found.values["lr"], own / said
    words = {1 / lr: "it is not multiplied by the learning rate", lr: "it is multiplied by the learning rate twice"}
    why = next((why for one, why in words.items() if abs(ratio / one - 1) < 1e-6), f"it is {ratio:.6g} times that")
    return Mistake(
        "weight decay is scaled otherwise",
        f"The code says weight_decay = {said:g}, and decays by lr * {own:.6g} a step: {why}.",
        "Write theta = theta - lr * weight_decay * theta; or say in its name that the decay has another scale.",
    )
