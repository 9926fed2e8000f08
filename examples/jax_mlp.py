"""Train a small network on scikit-learn's digits with Flax NNX, then 64 of them at once, each with its learning rate.

Run it with

    pip install '.[jax,race]' flax              # in a checkout of steprule
    python examples/jax_mlp.py                  # --rule lion, or any other name of the catalogue

A rule of steprule.jax is an optax.GradientTransformation: nnx.Optimizer takes it as it is. Its hyperparameters may be
traced, so the sweep is one function of the learning rate under jax.vmap, and one compiled program for all its runs:
half a minute on two cores. It draws what they come to.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import typer
from flax import nnx
from jax import Array
from matplotlib import colormaps
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import steprule.jax
from steprule.film.draw import new_figure
from steprule.report.theme import WIDTH, bare, title
from steprule.rules.catalogue import find
from steprule.style import LIGHT

RUNS, LOWEST, HIGHEST = 64, 1e-2, 1e3
BATCH = 32
BEYOND = 1e9
PICTURE = "jax_sweep.png"


class Digits(NamedTuple):
    """Images of 64 pixels in [0, 1], and the digits on them."""

    images: Array
    labels: Array

    def of(self, chosen: Any) -> Digits:
        """Return some of them."""
        return Digits(self.images[chosen], self.labels[chosen])


class Sweep(NamedTuple):
    """By run: the learning rate, the loss of each step, and the accuracy at the end."""

    rates: Any
    losses: Any
    accuracies: Any


class MLP(nnx.Module):
    """A network with two hidden layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(m, n, rngs=rngs) for m, n in [(64, 128), (128, 64), (64, 10)]])

    def __call__(self, images: Array) -> Array:
        """Return the scores (image, digit)."""
        *hidden, last = self.layers
        for layer in hidden:
            images = nnx.relu(layer(images))
        scores: Array = last(images)
        return scores


def digits() -> tuple[Digits, Digits]:
    """Return four fifths of the digits to train on, and the others to test with."""
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        (images / 16).astype(np.float32), labels.astype(np.int32), test_size=0.2, random_state=0, stratify=labels
    )
    return Digits(jnp.asarray(train_x), jnp.asarray(train_y)), Digits(jnp.asarray(test_x), jnp.asarray(test_y))


def batches(count: int, epochs: int, seed: int) -> NDArray[np.int64]:
    """Return which of ``count`` images each step takes, (epoch, step, image): every epoch another order."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(count)[: count // BATCH * BATCH].reshape(-1, BATCH) for _ in range(epochs)]
    return np.stack(orders)


def loss(model: MLP, some: Digits) -> Array:
    """Return the mean cross entropy, in nats an image."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(model(some.images), some.labels))


def accuracy(model: MLP, some: Digits) -> Array:
    """Return the share of the images whose digit has the highest score."""
    share: Array = jnp.mean(model(some.images).argmax(-1) == some.labels)
    return share


@nnx.jit
def train_step(model: MLP, optimizer: nnx.Optimizer[MLP], data: Digits, chosen: Any) -> Array:
    """Step the model, in place, and return the loss before it."""
    value: Array
    value, gradients = nnx.value_and_grad(loss)(model, data.of(chosen))
    optimizer.update(model, gradients)
    return value


def train(
    model: MLP,
    transformation: optax.GradientTransformation,
    data: Digits,
    plan: NDArray[np.int64],
    watch: Callable[[int, float], None],
) -> list[float]:
    """Train the model on ``batches``; ``watch`` is told each epoch and its mean loss, which are returned."""
    optimizer, means = nnx.Optimizer(model, transformation, wrt=nnx.Param), []
    for epoch, steps in enumerate(plan, 1):
        losses = [train_step(model, optimizer, data, chosen) for chosen in steps]
        means.append(float(jnp.mean(jnp.stack(losses))))
        watch(epoch, means[-1])
    return means


def sweep(
    model: MLP,
    make: Callable[..., optax.GradientTransformation],
    rates: Any,
    data: Digits,
    test: Digits,
    plan: NDArray[np.int64],
) -> Sweep:
    """Train from the model's weights with each learning rate, all at the same time; ``make`` is called with ``lr=``."""
    graph, start = nnx.split(model)

    def run(lr: Array) -> tuple[Array, Array]:
        transformation = make(lr=lr)

        def step(carry: Any, chosen: Any) -> tuple[Any, Array]:
            params, state = carry
            value, gradients = jax.value_and_grad(lambda own: loss(nnx.merge(graph, own), data.of(chosen)))(params)
            updates, state = transformation.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), value

        (params, _), losses = jax.lax.scan(step, (start, transformation.init(start)), plan.reshape(-1, BATCH))
        return losses, accuracy(nnx.merge(graph, params), test)

    losses, accuracies = jax.jit(jax.vmap(run))(jnp.asarray(rates, jnp.float32))
    return Sweep(np.asarray(rates), np.asarray(losses), np.asarray(accuracies))


def smooth(losses: Any, epochs: int) -> Any:
    """Return geometric means, as are read off a log axis, over an epoch: of each run four an epoch."""
    logs = np.log(np.nan_to_num(losses, nan=BEYOND, posinf=BEYOND).clip(1 / BEYOND, BEYOND), dtype=np.float64)
    steps = losses.shape[1]
    sums = np.pad(logs.cumsum(axis=1), ((0, 0), (1, 0)))
    ends = np.linspace(1, steps, 4 * epochs + 1).round().astype(int)
    begins = np.maximum(0, ends - steps // epochs)
    return np.exp((sums[:, ends] - sums[:, begins]) / (ends - begins))


def best_of(swept: Sweep, curves: Any) -> str:
    """Return what the run with the lowest loss came to."""
    best = curves[:, -1].argmin()
    return (
        f"{len(curves)} runs, lr {swept.rates[0]:.2g} to {swept.rates[-1]:.2g}: the loss is lowest at lr "
        f"{swept.rates[best]:.2g}, {curves[best, -1]:.2g}; test accuracy {swept.accuracies[best]:.1%}"
    )


def colors_of(runs: int) -> Any:
    """Return a colour for each learning rate, from blue for the lowest; the map's yellow is too pale for white."""
    return colormaps["plasma"](np.linspace(0, 0.86, runs))


def draw_curves(axes: Axes, curves: Any, epochs: int, best: int) -> None:
    """Draw the losses of all runs, the best one above the others."""
    x, colors = np.linspace(0, epochs, curves.shape[1]), colors_of(len(curves))
    for curve, color in zip(curves, colors, strict=True):
        axes.plot(x, curve, color=color, linewidth=0.9)
    axes.plot(x, curves[best], color=LIGHT.paper, linewidth=4.5)
    axes.plot(x, curves[best], color=colors[best], linewidth=2.4)
    axes.set(yscale="log", xlim=(0, epochs), xlabel="epoch")


def draw_ends(axes: Axes, rates: Any, values: Any, best: int) -> None:
    """Draw where the runs ended by their learning rates, in the colours of their curves."""
    colors = colors_of(len(rates))
    axes.plot(rates, values, color=LIGHT.muted, linewidth=0.7, alpha=0.6, zorder=1)
    axes.scatter(rates, values, c=colors, s=22, zorder=2, linewidths=0, clip_on=False)
    axes.scatter(rates[best], values[best], color=[colors[best]], s=75, zorder=3, edgecolor=LIGHT.text, linewidths=1.4)
    axes.set(xscale="log", yscale="log", xlim=(rates[0] / 1.25, rates[-1] * 1.25), xlabel="learning rate")


def label(axes: Axes, name: str, note: str) -> None:
    """Say above a panel what it shows, and leave of its axes what is read."""
    bare(axes, LIGHT)
    axes.set_title(name, loc="left", color=LIGHT.text, fontsize=10.5, fontweight="bold")
    axes.set_title(note, loc="right", color=LIGHT.muted, fontsize=9)
    axes.xaxis.label.set(color=LIGHT.muted, fontsize=9.5)


def draw(swept: Sweep, curves: Any, epochs: int, rule: str, path: Path) -> None:
    """Draw the smooth losses of all runs and, below by their learning rates, where they ended."""
    ends, first, best = curves[:, -1], float(np.median(curves[:, 0])), int(curves[:, -1].argmin())
    limits = min(first, ends.min()) / 2, 2 * first
    errors = (100 * (1 - swept.accuracies)).clip(min=0.1)
    figure = new_figure(WIDTH, 8.0, LIGHT.paper)
    upper = figure.add_gridspec(1, left=0.1, right=0.965, top=0.875, bottom=0.54)[0]
    lower = figure.add_gridspec(2, height_ratios=[4, 3], hspace=0.27, left=0.1, right=0.965, top=0.435, bottom=0.065)
    top, middle, low = (figure.add_subplot(place) for place in (upper, lower[0], lower[1]))
    draw_curves(top, curves, epochs, best)
    draw_ends(middle, swept.rates, ends.clip(max=limits[1]), best)
    draw_ends(low, swept.rates, errors, best)
    for panel in (top, middle):
        panel.set_ylim(*limits)
    low.set_ylim(min(1.0, errors.min() / 1.5), 130)
    low.yaxis.set_major_formatter("{x:g} %")
    label(top, "Training loss", "geometric mean of an epoch's steps")
    label(middle, "Loss of the last epoch", f"lowest at lr {swept.rates[best]:.2g}")
    label(low, "Test images read wrong", f"{1 - swept.accuracies[best]:.1%} where the loss is lowest")
    middle.set_xlabel("")
    middle.tick_params(labelbottom=False)
    subtitle = f"{rule} on scikit-learn's digits. The colour is the learning rate, as on the axis below."
    title(figure, f"{len(curves)} learning rates in one compiled program", subtitle, LIGHT)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=150)
    Image.open(drawn).quantize(256).save(path, optimize=True)  # a quarter of the size


def rates_around(lr: float) -> Any:
    """Return the learning rates of the sweep.

    Raises:
        ValueError: when they are not all numbers of float32 above 0.
    """
    kinds = np.finfo(np.float32)
    if not kinds.tiny <= lr * LOWEST < lr * HIGHEST <= kinds.max:
        raise ValueError(f"a learning rate of {lr:g} leaves no room for the sweep from {LOWEST:g} to {HIGHEST:g} of it")
    return np.geomspace(lr * LOWEST, lr * HIGHEST, RUNS)


def main(
    rule: Annotated[str, typer.Option(help="A rule of the catalogue.")] = "adam",
    lr: Annotated[
        float | None, typer.Option(help="The sweep goes from 1/100 to 1000 of it. Default: the rule's.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of each run.")] = 30,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the weights and the batches.")] = 0,
    states: Annotated[str, typer.Option(help="How slots are kept: float32, bfloat16 or 8bit.")] = "float32",
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder of the picture.")] = Path("jax-results"),
) -> None:
    """Train a small network on digits, then with many learning rates at once."""
    model = MLP(nnx.Rngs(seed))
    weights = nnx.split(model)[1]
    try:
        rate: Any = find(rule).hyperparameters["lr"].default if lr is None else lr
        make = partial(steprule.jax.transformation, rule, states=states)
        transformation, rates = make(lr=rate), rates_around(rate)
        jax.eval_shape(lambda lr: make(lr=lr).init(weights), jnp.float32(rate))
        output.mkdir(parents=True, exist_ok=True)
        (output / PICTURE).open("ab").close()  # otherwise a folder that cannot be written is found at the end
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    data, test = digits()
    plan = batches(len(data.labels), epochs, seed)
    console = Console(highlight=False)
    begin = perf_counter()
    trained = nnx.clone(model)
    train(trained, transformation, data, plan, lambda epoch, mean: console.print(f"epoch {epoch:3}  loss {mean:.4f}"))
    console.print(f"{rule}, lr {rate:g}: test accuracy {accuracy(trained, test):.1%}, {perf_counter() - begin:.1f} s")
    begin = perf_counter()
    swept = sweep(model, make, rates, data, test, plan)
    curves = smooth(swept.losses, epochs)
    console.print(f"{best_of(swept, curves)}, {perf_counter() - begin:.1f} s")
    draw(swept, curves, epochs, rule, output / PICTURE)
    console.print(f"Picture: {output / PICTURE}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
