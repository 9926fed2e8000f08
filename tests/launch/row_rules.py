"""Rules that see the rows and columns of tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from steprule import (
    PerColumn,
    PerRow,
    PerTensor,
    Scalar,
    maximum,
    mean,
    ndim,
    norm,
    rms,
    rule,
    size,
    sqrt,
    total,
    where,
)
from steprule.language.matrices import Along, kept_shape


def _factored(theta: Any, g: Any, r: Any, c: Any, lr: float, beta: float, t: int) -> Any:
    beta = beta * (1 - beta ** (t - 1)) / (1 - beta**t)
    r = beta * r + (1 - beta) * mean(g * g + 1e-30, over="row")
    c = beta * c + (1 - beta) * mean(g * g + 1e-30, over="column")
    step = g / sqrt(r / mean(r, over="column") * c)
    return theta - lr * maximum(1e-3, rms(theta)) / maximum(1.0, rms(step)) * step, r, c


@rule
def factored(theta: Any, g: Any, r: PerRow, c: PerColumn, *, t: int, lr: float = 0.1, beta: float = 0.9) -> Any:
    """A second moment in factors, and a step that is clipped, as Adafactor has them."""
    return _factored(theta, g, r, c, lr, beta, t)


@rule(matrices="last")
def factored_last(theta: Any, g: Any, r: PerRow, c: PerColumn, *, t: int, lr: float = 0.1, beta: float = 0.9) -> Any:
    """The same of stacks of matrices."""
    return _factored(theta, g, r, c, lr, beta, t)


@rule(init={"v": "start"})
def by_neuron(theta: Any, g: Any, m: Any, v: PerRow, *, t: int, lr: float = 0.1, start: float = 0.25) -> Any:
    """A second moment of each row, as Adam-mini has it."""
    m = 0.9 * m + (1 - 0.9) * g
    v = 0.99 * v + (1 - 0.99) * mean(g * g, over="row")
    return theta - lr * (m / (1 - 0.9**t)) / (sqrt(v / (1 - 0.99**t)) + 1e-8), m, v


@rule
def centred(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
    """Gradients without their mean: no slot."""
    return theta - lr * (g - mean(g, over="row"))


@rule(matrices="last")
def confident(
    theta: Any, g: Any, m: Any, r: PerRow, c: PerColumn, ur: PerRow, uc: PerColumn, *, lr: float = 0.1
) -> Any:
    """Sums of what other sums are in, over rows and columns, as CAME has them."""
    r = 0.9 * r + 0.1 * mean(g * g + 1e-30, over="row")
    c = 0.9 * c + 0.1 * mean(g * g + 1e-30, over="column")
    u = g / sqrt(r / mean(r, over="column") * c)
    u = u / maximum(1.0, rms(u))
    m = 0.9 * m + 0.1 * u
    off = (u - m) ** 2 + 1e-16
    ur = 0.99 * ur + 0.01 * mean(off, over="row")
    uc = 0.99 * uc + 0.01 * mean(off, over="column")
    return theta - lr * m / sqrt(ur / mean(ur, over="column") * uc), m, r, c, ur, uc


@rule
def mixed(
    theta: Any,
    g: Any,
    m: Any,
    r: PerRow,
    c: PerColumn,
    spread: PerTensor,
    steps: PerRow,
    d: Scalar,
    *,
    t: int,
    lr: float = 0.1,
    odd: bool = False,
) -> Any:
    """All words over all there is, and choices of rows."""
    long = norm(g, over="row")
    r = where(long > spread, 0.5 * r + long, r - total(theta, over="row") / size(g, over="row"))
    c = 0.5 * c + rms(g, over="column") * total(r, over="column") / size(r) + 1 / t
    flat = where(c > mean(c, over="row"), 1.0, 0.25) * size(theta, over="column")
    m = 0.5 * m + (g * flat if odd else g - flat / size(c)) / (1.0 + abs(r) + abs(c) + abs(d))
    spread = 0.5 * spread + rms(c) + mean(m) + total(abs(r)) / size(g, over="row")
    return theta - lr * m, m, r, c, spread, steps + 1.0, d + total(m * r, over="all") / size(m, over="all")


@rule
def spread_out(theta: Any, g: Any, m: Any, c: PerColumn, *, lr: float = 0.1) -> Any:
    """Slots of elements and columns that are what rows, or hyperparameters, have."""
    return theta - lr * g + m * c, mean(g, over="row"), lr


@rule(matrices="last")
def shared(theta: Any, g: Any, r: PerRow, c: PerColumn, *, lr: float = 0.1) -> Any:
    """A number of the matrix that elements take in one pass, and columns in the next."""
    r = 0.5 * r + mean(g * g, over="row")
    scale = mean(r, over="column")
    scaled = g * scale
    c = 0.5 * c + mean(scaled * scaled, over="column") * scale
    return theta - lr * (scaled + c), r, c


@rule
def of_vectors(theta: Any, g: Any, r: PerRow, c: PerColumn, *, lr: float = 0.1) -> Any:
    """Every sum of numbers of rows and of columns: over the others, and over the tensor."""
    r = 0.5 * r + total(abs(g), over="row")
    c = 0.5 * c + mean(g * g, over="column")
    of_columns = rms(c, over="row") + total(c, over="row") + mean(c)
    of_rows = norm(r, over="column") + mean(r, over="column") + total(r)
    return theta - lr * g / (of_columns + of_rows + 1.0), 0.5 * r + of_columns, c + norm(c) / of_rows


@rule
def fading(theta: Any, g: Any, r: PerRow, c: PerColumn, *, lr: float = 0.1) -> Any:
    """Slots of rows and columns without a sum."""
    return theta - lr * g / (1.0 + r + c), 0.5 * r + 1.0, where(c > 2.0, 0.25, c + lr)


@rule(matrices="last")
def in_pairs(theta: Any, g: Any, r: PerRow, c: PerColumn, *, lr: float = 0.1) -> Any:
    """Several sums over rows, columns and the tensor in one pass."""
    r = 0.5 * r + mean(g, over="row") - rms(theta, over="row")
    c = 0.5 * c + total(g, over="column") - norm(theta, over="column")
    return theta - lr * (g - mean(g)) / (1.0 + abs(r) + abs(c) + rms(theta)), r, c


@rule(matrices="last")
def by_axes(theta: Any, g: Any, r: PerRow, *, lr: float = 0.1) -> Any:
    """A step of its own for vectors, which are one row as matrices of one row are, and for numbers."""
    r = 0.5 * r + mean(abs(g), over="row")
    return theta - lr * where(ndim(g) > 1, g / (r + 1e-3), g * r) / (1 + ndim(r)), r


@rule
def crossed(theta: Any, g: Any, r: PerRow, s: PerRow, a: PerRow, c: PerColumn, *, lr: float = 0.1) -> Any:
    """A number of each matrix that elements are computed from in one pass, slots of rows and columns in the next."""
    r = 0.5 * r + mean(g * g, over="row")
    size_of_all = 1.0 + mean(r, over="column") + rms(c, over="row") + mean(s, over="column")
    a = 0.5 * mean(a, over="column") + total(c, over="row")
    u = g / size_of_all
    c = 0.5 * c + mean(g * g, over="column") / size_of_all
    return theta - lr * u / (1.0 + rms(u)) + c, r, r * size_of_all, a, c


@rule
def chosen(
    theta: Any, g: Any, r: PerRow, c: PerColumn, *, t: int, lr: float = 0.1, whole: bool = True, both: bool = True
) -> Any:
    """What is chosen for all there is, by an option or by the step: it is summed as what it was chosen from."""
    r = 0.5 * r + mean(g * g, over="row")
    c = 0.5 * c + mean(g * g, over="column")
    of_all = mean(r, over="column")
    rows = total(where(whole, of_all, r), over="column") + total(where(t == 1, of_all, r))
    columns = total(where(whole, of_all, c), over="row") + total(where(t == 1, c, of_all))
    elements = mean(where(both, r, c)) + mean(where(both, r, g)) + total(where(t == 1, c, r))
    return theta - lr * (rows + columns + elements), r, c


@rule
def kept_on(theta: Any, g: Any, r: PerRow, *, lr: float = 0.1) -> Any:
    """A slot that elements take in a pass before the step alone."""
    r = 0.5 * r + mean(g * g, over="row")
    return theta - lr * g * mean(g * r, over="column"), r


@rule
def outer(theta: Any, g: Any, r: PerRow, c: PerColumn, *, lr: float = 0.1) -> Any:
    """Sums of elements that are computed of numbers of rows and columns alone."""
    off = r - c
    r = 0.5 * r + mean(g, over="row") + rms(off, over="row") / (1.0 + norm(off))
    return theta - lr * (g + off), r, 0.5 * c + total(off, over="column")


RULES = {
    own.name: own
    for own in (
        *(factored, factored_last, by_neuron, centred, confident, mixed, spread_out, in_pairs, crossed, by_axes),
        *(chosen, shared, of_vectors, fading, kept_on, outer),
    )
}
ALONE = [name for name in RULES if name != "mixed"]
"""Those whose tensors know nothing of each other."""


def starts_of(some: Any, array: Any) -> list[Any]:
    """Return the slots before the first step."""
    given = {
        name: some.hyperparameters[own].default if isinstance(own, str) else own for name, own in some.init.items()
    }
    found: list[Any] = []
    for name in some.slots:
        start = float(given.get(name, 0.0))
        if name in some.numbers:
            found.append(start)
        elif name in some.vectors:
            over: Along = "row" if name in some.per_row else "column"
            found.append(np.full(kept_shape(array.shape, over, some.view), start, array.dtype))
        else:
            found.append(np.full_like(array, start))
    return found


def straight_factored(theta: list[list[float]], gradients: list[list[list[float]]]) -> list[list[float]]:
    """Return the matrix after steps of ``factored``, by plain loops."""
    n, m = len(theta), len(theta[0])
    r, c = [0.0] * n, [0.0] * m
    for t, g in enumerate(gradients, start=1):
        beta = 0.9 * (1 - 0.9 ** (t - 1)) / (1 - 0.9**t)
        for i in range(n):
            r[i] = beta * r[i] + (1 - beta) * math.fsum(g[i][j] ** 2 + 1e-30 for j in range(m)) / m
        for j in range(m):
            c[j] = beta * c[j] + (1 - beta) * math.fsum(g[i][j] ** 2 + 1e-30 for i in range(n)) / n
        mean_r = math.fsum(r) / n
        step = [[g[i][j] / math.sqrt(r[i] / mean_r * c[j]) for j in range(m)] for i in range(n)]
        length = math.sqrt(math.fsum(s * s for row in step for s in row) / (n * m))
        scale = math.sqrt(math.fsum(x * x for row in theta for x in row) / (n * m))
        lr = 0.1 * max(1e-3, scale) / max(1.0, length)
        theta = [[theta[i][j] - lr * step[i][j] for j in range(m)] for i in range(n)]
    return theta
