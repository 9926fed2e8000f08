"""Ways to write Adam wrong: what each does to a run, and whether ``steprule check`` finds it.

Run it in a checkout of steprule with

    pip install '.[race]'
    python -m examples.adam_wrong          # minutes on two cores; it writes docs/adam_wrong.json and .png

There is one right Adam below, as text. A mistake is a few of its lines, written otherwise. Each of the programs trains
the same network on scikit-learn's digits, from the same weights on the same batches: at the usual learning rate, at the
one of a grid that is best for it, and at the usual one with gradients that are a ten thousandth as large.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import steprule as sr
from steprule.files import write_whole
from steprule.film.draw import new_figure
from steprule.race.classifier import Classifier
from steprule.race.data import digits
from steprule.report.theme import WIDTH, bare, title
from steprule.style import LIGHT

RIGHT = """
def adam(params, grads, state, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    state["t"] = state.get("t", 0) + 1
    for i, (p, g) in enumerate(zip(params, grads)):
        t = state["t"]
        m, v = state.get(i) or (np.zeros_like(p), np.zeros_like(p))
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        p -= lr * m_hat / (np.sqrt(v_hat) + eps)
        state[i] = m, v
    return params, state
"""
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
USUAL = 1e-3
SEEDS = (1, 2, 3)
TUNED_WITH = 1000
"""The seed of the runs that choose a learning rate. Those that are shown have others."""
EPOCHS = 20
SMALL = 1e-4
"""What gradients are multiplied with in the third kind of run: Adam's steps do not depend on their scale."""
DOCS = Path(__file__).parent.parent / "docs"
Step = Callable[..., Any]


@dataclass(frozen=True)
class Slip:
    """A few lines, and what is written in their place.

    Attributes:
        name: as ``steprule check`` calls it, where it knows it.
        changes: right lines and wrong ones, without what is alike around them.
        beside: the name of the right program that it is compared with; ``""`` is Adam.
    """

    name: str
    changes: tuple[tuple[str, str], ...]
    beside: str = ""

    def text(self) -> str:
        """Return the program."""
        text = RIGHT
        for right, wrong in self.changes:
            if text.count(right) != 1:
                raise ValueError(f"{self.name}: {right!r} is {text.count(right)} times in the program, expected once")
            text = text.replace(right, wrong)
        return text


_STEP = "p -= lr * m_hat / (np.sqrt(v_hat) + eps)"
_M_HAT, _V_HAT = "m_hat = m / (1 - beta1**t)", "v_hat = v / (1 - beta2**t)"
_STORED = "state[i] = m, v"
_DECAY = ("eps=1e-8", "eps=1e-8, weight_decay=0.1"), (_STEP, f"p -= lr * weight_decay * p\n        {_STEP}")
_READ = "m, v = state.get(i) or (np.zeros_like(p), np.zeros_like(p))"
_MAXIMUM = (_READ, "m, v, v_max = state.get(i) or (0 * p, 0 * p, 0 * p)"), (_STORED, "state[i] = m, v, v_max")


def _adamw(*changes: tuple[str, str], name: str) -> Slip:
    return Slip(name, (("def adam(", "def adamw("), *_DECAY, *changes), "" if name == "AdamW" else "AdamW")


def _amsgrad(corrected: str, name: str) -> Slip:
    return Slip(name, (*_MAXIMUM, (_V_HAT, corrected)), "" if name == "AMSGrad" else "AMSGrad")


SLIPS = (
    Slip("", ()),
    Slip("epsilon inside the root", (("(np.sqrt(v_hat) + eps)", "np.sqrt(v_hat + eps)"),)),
    Slip("corrected moments are stored", (("m_hat = m /", "m = m_hat = m /"), ("v_hat = v /", "v = v_hat = v /"))),
    Slip("corrected first moment is stored", (("m_hat = m /", "m = m_hat = m /"),)),
    Slip("corrected second moment is stored", (("v_hat = v /", "v = v_hat = v /"),)),
    Slip("no bias correction", ((_M_HAT, "m_hat = m"), (_V_HAT, "v_hat = v"))),
    Slip("second moment is not corrected", ((_V_HAT, "v_hat = v"),)),
    Slip("first moment is not corrected", ((_M_HAT, "m_hat = m"),)),
    Slip("step counter starts at 0", (('state.get("t", 0) + 1', 'state.get("t", -1) + 1'),)),
    Slip("step counter is one ahead", (('state.get("t", 0) + 1', 'state.get("t", 1) + 1'),)),
    Slip(
        "step counter advances once a tensor",
        (
            ('    state["t"] = state.get("t", 0) + 1\n', ""),
            ('t = state["t"]', 't = state["t"] = state.get("t", 0) + 1'),
        ),
    ),
    Slip("state is shared between tensors", (("state.get(i)", "state.get(p.shape)"), ("state[i]", "state[p.shape]"))),
    Slip("step goes uphill", (("p -= lr", "p += lr"),)),
    Slip(
        "gradient is read late",
        ((_READ, f'{_READ}\n        state["g", i], g = g.copy(), state.get(("g", i), 0 * g)'),),
    ),
    Slip("gradient is written to", (("(1 - beta2) * g**2", "(1 - beta2) * np.square(g, out=g)"),)),
    Slip("beta2 is 0.99", (("beta2=0.999", "beta2=0.99"),)),
    Slip("moments in low precision", ((_STORED, "state[i] = m.astype(np.float16), v.astype(np.float16)"),)),
    Slip("moments in bfloat16", ((_STORED, "state[i] = bfloat16(m), bfloat16(v)"),)),
    _adamw(name="AdamW"),
    _adamw(
        ("p -= lr * weight_decay * p\n        ", ""),
        (_READ, f"{_READ}\n        g = g + weight_decay * p"),
        name="weight decay is in the gradient",
    ),
    _adamw(("p -= lr * weight_decay * p", "p -= weight_decay * p"), name="weight decay is scaled otherwise"),
    _amsgrad("v_max = np.maximum(v_max, v)\n        v_hat = v_max / (1 - beta2**t)", "AMSGrad"),
    _amsgrad(f"{_V_HAT}\n        v_hat = v_max = np.maximum(v_max, v_hat)", "maximum after the correction"),
)
"""Adam, AdamW and AMSGrad, which are right, and the mistakes."""


def bfloat16(x: NDArray[Any]) -> NDArray[Any]:
    """Return the nearest bfloat16 numbers, ties to even, as float32."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)) & np.uint32(0xFFFF0000)).view(np.float32)


def program(slip: Slip) -> Step:
    """Return the function that a slip's text defines."""
    names: dict[str, Any] = {"np": np, "bfloat16": bfloat16}
    exec(compile(slip.text(), slip.name or "adam", "exec"), names)
    step: Step = next(value for name, value in names.items() if name.startswith("adam"))
    return step


def network() -> Classifier:
    """Return the problem: two hidden layers of 64 units, so that tensors are there which have one shape."""
    return Classifier(digits(), hidden=(64, 64))


def train(step: Step, lr: float, seed: int, epochs: int = EPOCHS, scale: float = 1.0) -> list[float]:
    """Return the validation loss (cross entropy in nats) after each epoch; infinite where it is no number.

    Args:
        step: the optimizer.
        lr: its learning rate.
        seed: of the first weights and of the order of the samples.
        epochs: of nine batches.
        scale: what gradients are multiplied with.
    """
    problem = network()
    params = problem.init(np.random.default_rng(seed))
    order = np.random.default_rng(seed + 1)
    state: dict[Any, Any] = {}
    losses = []
    with np.errstate(all="ignore"):
        for _ in range(epochs):
            for batch in problem.batches(order):
                _, grads = problem.loss_and_grad(params, batch)
                scaled = [np.float32(scale) * grad for grad in grads["weights"] + grads["biases"]]
                step(params["weights"] + params["biases"], scaled, state, lr=lr)
            loss = problem.evaluate(params)["validation_loss"]
            losses.append(loss if math.isfinite(loss) else math.inf)
    return losses


def measured(slip: Slip) -> dict[str, Any]:
    """Return what a program came to at the usual rate and at the best one, and what it is taken for."""
    step = program(slip)
    tuned = [train(step, rate, TUNED_WITH)[-1] for rate in RATES]
    best = RATES[int(np.argmin(tuned))]
    answer = sr.check(step)
    return {
        "name": slip.name,
        "beside": slip.beside,
        "usual": [train(step, USUAL, seed)[-1] for seed in SEEDS],
        "small": [train(step, USUAL, seed, scale=SMALL)[-1] for seed in SEEDS],
        "best": [train(step, best, seed)[-1] for seed in SEEDS],
        "rate": best,
        "tuned": tuned,
        "headline": answer.headline,
        "found": [one.name for one in answer.mistakes],
        "remarks": list(answer.remarks),
    }


def draw(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return the picture: the loss of each mistake, at the usual rate and at its best one, on a logarithmic axis."""
    figure = new_figure(WIDTH, 6.4, LIGHT.paper)
    axes = figure.add_axes((0.4, 0.09, 0.56, 0.78))
    bare(axes, LIGHT)
    axes.set_xscale("log")
    axes.set_xlim(*_SHOWN)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    for place, row in enumerate(rows):
        axes.axhline(place, color=LIGHT.line, linewidth=0.6, zorder=0)
        for key, color, marker in (("best", LIGHT.palette[1], "s"), ("usual", LIGHT.palette[0], "o")):
            loss = statistics.median(row[key])
            is_off = loss > _SHOWN[1]
            axes.plot(
                min(loss, _SHOWN[1]), place, marker=">" if is_off else marker, markersize=6, color=color, clip_on=False
            )  # fmt: skip
    right = {row["beside"] for row in rows}
    names = [f"{row['name'] or 'Adam'}, right" if row["name"] in right else row["name"] for row in rows]
    axes.set_yticks(range(len(rows)), names)
    ticks = [0.1, 0.2, 0.5, 1, 2, 5]
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.minorticks_off()
    axes.tick_params(axis="y", labelsize=9)
    axes.set_xlabel("validation loss after 20 epochs, median of three seeds", color=LIGHT.muted, fontsize=10)
    subtitle = f"circles: at lr = {USUAL:g}; squares: at the best of six rates; arrows: above {_SHOWN[1]:g}, or NaN"
    title(figure, "What each mistake does to a run", subtitle, LIGHT)
    return figure


_SHOWN = (0.1, 5.0)


def main() -> None:
    """Run everything and write it beside the pages."""
    with ProcessPoolExecutor(2) as pool:
        rows = list(pool.map(measured, SLIPS))
    write_whole(DOCS / "adam_wrong.json", json.dumps(rows, indent=1) + "\n")
    draw(rows).savefig(DOCS / "adam_wrong.png", dpi=110)


if __name__ == "__main__":
    main()
