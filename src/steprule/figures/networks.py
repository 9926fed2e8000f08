"""Networks that are trained through PyTorch: convolutions, and a variational autoencoder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.figures.samples import samples
from steprule.race.problem import Array

if TYPE_CHECKING:
    import torch

__all__ = ["autoencoder", "convolutions"]

_BATCH = 128
_INPUT_DROPOUT = 0.2


def _batches(count: int, seed: int, epoch: int) -> Iterator[Array]:
    """Yield the rows of each batch, in an order that seed and epoch decide."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    for start in range(0, count, _BATCH):
        yield order[start : start + _BATCH]


def convolutions(
    data: str, rule: str, lr: float, seed: int, epochs: int, channels: tuple[int, ...], units: int, dropout: float,
    hyperparameters: tuple[tuple[str, Any], ...] = (),
) -> dict[str, Any]:  # fmt: skip
    """Train a network of convolutions on images, and return its losses.

    Args:
        data: images, by name.
        rule: of the catalogue.
        lr: its rate.
        seed: of the start, the batches and the dropout.
        epochs: passes over the images.
        channels: of each 5 x 5 convolution, which 3 x 3 max-pooling of stride 2 follows.
        units: of the dense layer.
        dropout: of these units; that of the inputs is 20 %.
        hyperparameters: of the rule.

    Returns:
        ``batch``: the mean loss over the batches of each epoch, with dropout; ``test``: the loss of the test images at
        the end, without. Both None where it diverged.
    """
    import torch

    from steprule.torch import Optimizer

    split = samples(data)
    x, y = _images(split.train_x), torch.from_numpy(split.train_y)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    model = _network(x, int(split.train_y.max()) + 1, channels, units, dropout)
    optimizer = Optimizer(model.parameters(), rule, lr=lr, **dict(hyperparameters))
    curve = []
    for epoch in range(epochs):
        total = 0.0
        for rows in _batches(len(y), seed, epoch):
            loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        if not math.isfinite(total):
            return {"batch": None, "test": None}
        curve.append(total / len(y))
    return {"batch": curve, "test": _test_loss(model, _images(split.test_x), torch.from_numpy(split.test_y))}


def _test_loss(model: torch.nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the mean loss without dropout, batch by batch."""
    import torch

    model.eval()
    with torch.no_grad():
        pairs = zip(x.split(_BATCH), y.split(_BATCH), strict=True)
        return sum(
            float(torch.nn.functional.cross_entropy(model(one), of, reduction="sum")) for one, of in pairs
        ) / len(y)


def _images(x: Array) -> torch.Tensor:
    """Return (samples, channels, side, side): of rows of one channel, or of three, one after the other."""
    import torch

    for colours in (1, 3):
        side = math.isqrt(x.shape[1] // colours)
        if side * side * colours == x.shape[1]:
            return torch.from_numpy(x.reshape(len(x), colours, side, side))
    raise ValueError(f"rows of {x.shape[1]} numbers are no square images")


def _network(
    x: torch.Tensor, classes: int, channels: tuple[int, ...], units: int, dropout: float
) -> torch.nn.Sequential:
    from torch import nn

    layers: list[nn.Module] = [nn.Dropout(_INPUT_DROPOUT)]
    before, side = x.shape[1], x.shape[2]
    for count in channels:
        layers += [nn.Conv2d(before, count, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
        before, side = count, (side + 1) // 2
    layers += [nn.Flatten(), nn.Linear(before * side * side, units), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(units, classes))


def autoencoder(
    data: str, epochs: int, seed: int, lr: float, beta1: float, beta2: float, corrected: bool,
    hidden: int = 100, latent: int = 10,
) -> dict[str, Any]:  # fmt: skip
    """Return the loss of a variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114) that Adam trains.

    Args:
        data: images with values from 0 to 1, by name.
        epochs: passes over the images.
        seed: of the start, the batches and the noise.
        lr, beta1, beta2: of Adam.
        corrected: whether with bias correction.
        hidden: softplus units of the encoder, and of the decoder.
        latent: dimensions.

    Returns:
        ``loss``: the negative variational bound an image in nats, the mean of the last epoch; None where it diverged.
    """
    import torch

    from steprule.torch import Optimizer

    x = torch.from_numpy(samples(data).train_x)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    encoder, decoder = _dense(x.shape[1], hidden, 2 * latent), _dense(latent, hidden, x.shape[1])
    params = [*encoder.parameters(), *decoder.parameters()]
    optimizer = Optimizer(params, "adam", lr=lr, beta1=beta1, beta2=beta2, bias_correction=corrected)
    total = math.nan
    for epoch in range(epochs):
        total = 0.0
        for rows in _batches(len(x), seed, epoch):
            loss = _bound(encoder, decoder, x[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        if not math.isfinite(total):
            return {"loss": None}
    return {"loss": total / len(x)}


def _dense(inputs: int, hidden: int, outputs: int) -> torch.nn.Sequential:
    from torch import nn

    return nn.Sequential(nn.Linear(inputs, hidden), nn.Softplus(), nn.Linear(hidden, outputs))


def _bound(encoder: torch.nn.Module, decoder: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the mean of the reconstruction's cross entropy plus the divergence from the standard normal."""
    import torch

    mean, log_variance = encoder(x).chunk(2, dim=1)
    z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
    lost = torch.nn.functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
    apart = -0.5 * torch.sum(1 + log_variance - mean**2 - log_variance.exp())
    return (lost + apart) / len(x)
