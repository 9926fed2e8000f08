"""Situations that tell a story: states of the page, as the pairs of a link."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steprule.lab.entrants import menu
from steprule.lab.view import Entry, View
from steprule.rules import Rule
from steprule.rules.settings import without_defaults

__all__ = ["first_view", "is_story", "presets"]

Pairs = dict[str, str]
_STORIES: tuple[tuple[str, str, str, Pairs], ...] = (
    (
        "valley",
        "Why momentum crosses the valley",
        "Plain gradient descent is held to a rate that the walls allow, and creeps along the floor. Momentum,"
        " at the same rate, adds up the small slopes of the floor, while those of the walls cancel. The "
        "sliders are set to sgd alone: twice the rate helps it, and at 0.005 the walls throw it out.",
        {
            "surface": "rosenbrock",
            "rules": "sgd,momentum",
            "look": "sgd",
            "scope": "one",
            "sgd.lr": "0.001",
            "momentum.lr": "0.001",
        },
    ),
    (
        "stall",
        "Why AdaGrad stalls",
        "AdaGrad divides by the root of the sum of all squared gradients, which only grows: the large "
        "gradients of the first wall are never forgotten, and its steps shrink for good. RMSProp and Adam "
        "forget them. See √G, and the length of the steps.",
        {
            "surface": "rosenbrock",
            "rules": "adagrad,rmsprop,adam",
            "look": "adagrad",
            "steps": "1000",
            "adagrad.lr": "0.1",
            "rmsprop.lr": "0.01",
            "adam.lr": "0.05",
        },
    ),
    (
        "correction",
        "What bias correction does in the first ten steps",
        "m and v start at zero and have to warm up, v a hundred times as slowly. Without the correction the "
        "first step is 0.1 / √0.001 = 3.2 times the learning rate, and the next ones are too long as well. Here, as "
        "when a model is trained further, the start is near the minimum already: uncorrected steps throw it out, and "
        "what they lost is not regained by the end. Far from a minimum long steps can be luck. See 1 − β₂ᵗ.",
        {
            "surface": "long-valley",
            "rules": "adam_uncorrected,adam",
            "look": "adam",
            "steps": "60",
            "lr": "0.1",
            "start": "1.1,1.1",
        },
    ),
    (
        "scale",
        "Scaling the loss changes nothing",
        "With ε = 0 Adam's step does not depend on the size of the gradient: multiply the loss by a power of "
        "two, and every bit of the path stays. Move “loss ×”: Adam keeps its path, sgd crawls or is thrown "
        "out.",
        {
            "surface": "long-valley",
            "rules": "sgd,adam",
            "look": "adam",
            "eps": "0",
            "sgd.lr": "0.05",
            "adam.lr": "0.05",
            "scale": "0.25",
        },
    ),
    (
        "bound",
        "The step bound",
        "While its gradients are alike, Adam's steps are no longer than the learning rate (dotted), however large the"
        " gradients are (here the loss is a thousand times itself). But y has been silent for 5,000 steps, and is then "
        "seen in each: its first gradient makes a step of 0.1 / √0.001 = 3.2 times the rate (Kingma & Ba, section 2.1)"
        ", the twelfth one of 6.5 times, for m has gathered them all while v has hardly begun to grow. No gradients "
        "whatever make it more than (1 − β₁) / (√(1 − β₂) √(1 − β₁² / β₂)) = 7.3 times. RMSProp, which corrects "
        "nothing, begins with ten times the rate.",
        {
            "surface": "silence",
            "rules": "rmsprop,adam",
            "look": "adam",
            "lr": "0.002",
            "scale": "1000",
            "t": "4980",
            "from": "4950",
            "speed": "60",
            "axis": "1",
        },
    ),
    (
        "annealing",
        "Why Adam's steps shrink by themselves",
        "m̂ over the root of v̂ (see m_hat / root) is a ratio of signal to noise (Kingma & Ba, section 2.1). Far from "
        "the minimum gradients point the same way, and it is near one: steps are as long as the learning rate. Near "
        "the minimum only noise is left, it falls towards zero, and so do the steps, at the same learning rate.",
        {
            "surface": "noisy-bowl",
            "rules": "adam",
            "look": "adam",
            "steps": "400",
            "lr": "0.02",
            "noise": "1",
            "inside": "m_hat / root,sqrt v_hat",
        },
    ),
    (
        "amsgrad",
        "AMSGrad's counterexample",
        "One step in 101 has the slope 1010, the others −10: on average the minimum is at −1. Adam has "
        "forgotten the large gradient before the next one comes, and is carried back to +1 each time. AMSGrad"
        " keeps the largest v, and goes to −1. Time runs down.",
        {
            "surface": "reddi",
            "rules": "adam,amsgrad",
            "look": "amsgrad",
            "steps": "6000",
            "beta2": "0.99",
            "lr": "0.1",
        },
    ),
    (
        "decay",
        "Decoupled against coupled weight decay",
        "Both shrink the parameters towards zero. In AdamW the decay is apart from the gradient. L2 in the "
        "gradient is divided by √v̂ as well, so where gradients are noisy it is hardly felt. See where the "
        "two end, and move λ (weight_decay, under “More”).",
        {
            "surface": "long-valley",
            "rules": "l2(adam),adamw",
            "look": "adamw",
            "weight_decay": "0.5",
            "lr": "0.05",
            "noise": "5",
            "steps": "600",
        },
    ),
    (
        "sparse",
        "Sparse gradients",
        "x is seen in every step; y in one of ten, at random, as the row of a rare word, so on average the bowl is "
        "hardly inclined along y. sgd has one rate for both: the largest that x bears (0.2; here 0.19) is little for y."
        " AdaGrad and Adam divide by what each coordinate has seen: when y comes, its steps are long.",
        {
            "surface": "sparse-bowl",
            "rules": "sgd,adagrad,adam",
            "look": "adagrad",
            "steps": "200",
            "axis": "1",
            "sgd.lr": "0.19",
            "adagrad.lr": "1",
            "adam.lr": "0.1",
        },
    ),
    (
        "saddle",
        "Leaving a saddle",
        "The start is a millionth beside the ridge, where the gradient along y is almost zero: sgd and momentum wait "
        "there until it has grown. Rules that divide by its size do not see how small it is.",
        {
            "surface": "saddle",
            "start": "-1.5,0.000001",
            "steps": "120",
            "rules": "sgd,momentum,rmsprop,adam",
            "look": "adam",
            "sgd.lr": "0.1",
            "momentum.lr": "0.02",
            "rmsprop.lr": "0.01",
            "adam.lr": "0.05",
        },
    ),
    (
        "schedule-free",
        "Training without a schedule",
        "At a constant rate noise throws sgd about for ever: a schedule would have to lower the rate, and know when "
        "the run ends. Schedule-free SGD, at the same rate, steps z, averages it as x (thick), and takes its gradients "
        "at θ (thin, with the hollow mark), a tenth of the way from x to z. Evaluated is x: from the hundredth step on "
        "its loss is, on average, less than a tenth of sgd's. Look inside: z jumps as sgd does, and c, what a step "
        "counts for in the average, falls. Give sgd a tenth of its rate: the end is calm, and the way there long.",
        {
            "surface": "noisy-bowl",
            "rules": "sgd,schedule_free_sgd",
            "look": "schedule_free_sgd",
            "steps": "400",
            "noise": "1",
            "inside": "z,c",
            "sgd.lr": "0.2",
            "schedule_free_sgd.lr": "0.2",
        },
    ),
    (
        "starts",
        "A thousand starts",
        "Four minima of equal depth: which one is reached depends on the start, and differently for each "
        "rule. Where the borders are frayed, a rule is thrown from basin to basin before it settles.",
        {
            "surface": "himmelblau",
            "rules": "sgd,momentum,rmsprop,adam,lion,rprop",
            "look": "adam",
            "view": "thousand",
            "sgd.lr": "0.01",
            "momentum.lr": "0.01",
            "rmsprop.lr": "0.05",
            "adam.lr": "0.2",
            "lion.lr": "0.05",
            "rprop.lr": "0.1",
        },
    ),
)
_FIRST: Pairs = {
    "surface": "long-valley",
    "rules": "sgd,momentum,adagrad,rmsprop,adam,rprop",
    "look": "adam",
    "sgd.lr": "0.05",
    "momentum.lr": "0.02",
    "adagrad.lr": "0.5",
    "rmsprop.lr": "0.02",
    "adam.lr": "0.1",
    "rprop.lr": "0.01",
}


def _telling(rules: Sequence[Rule]) -> Rule:
    """Return the rule to look into: one's own, or else the first one that has slots to show."""
    return min(rules, key=lambda rule: (rule.name in menu(), not rule.slots))


def presets() -> list[dict[str, Any]]:
    """Return the presets as the page wants them."""
    return [
        {"key": key, "title": title, "story": story, "pairs": [[*pair] for pair in pairs.items()]}
        for key, title, story, pairs in _STORIES
    ]


def is_story(text: str) -> bool:
    """Whether a story has that name."""
    return any(text == key for key, *_ in _STORIES)


def first_view(view: View) -> dict[str, Any]:
    """Return the state of a page that was opened without a link: ``View``, and what it leaves open.

    The rates of ``_FIRST`` are for its rules from its start. Else the page looks for rates itself (``tunes``), for
    all rules alike: one at the library's default beside one with a chosen rate would look broken.
    """
    tunes = view != View()
    pairs = {key: value for key, value in _FIRST.items() if not (tunes and key.endswith(".lr"))}
    if view.rules:
        # As in links, where a comma parts names.
        telling = _telling([entry.rule for entry in view.asked])
        pairs["rules"] = ",".join(one.name.replace("%", "%25").replace(",", "%2C") for one in view.entries)
        pairs["look"] = next(entry.name for entry in view.asked if entry.rule is telling)
        for entry in view.entries:
            pairs |= _sliders(entry, tunes=tunes)
    if view.surface is not None:
        pairs["surface"] = view.surface.key
    if view.start is not None:
        pairs["start"] = ",".join(map(repr, view.start))
    listed = [[*pair] for pair in pairs.items()]
    return {"surface": pairs["surface"], "rules": pairs["rules"], "pairs": listed, "tunes": tunes}


def _sliders(entry: Entry, *, tunes: bool) -> Pairs:
    """Return where the sliders of a rule stand; those of one that is shown twice as those of the other, unless set.

    Rates that the page looks for are left open.
    """
    plain = f"{without_defaults(entry.rule)[0].name}."
    usual = {key.removeprefix(plain): value for key, value in _FIRST.items() if key.startswith(plain)}
    if tunes:
        usual.pop("lr", None)
    values = {**usual, **{name: repr(value) for name, value in entry.settings}}
    return {f"{entry.name}.{name}": value for name, value in values.items()}
