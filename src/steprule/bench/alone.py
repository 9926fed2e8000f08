"""What is measured of a contestant by itself, in a process of its own: start, error, subnormal numbers, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.bench.contestant import Contestant, kept_bytes
from steprule.bench.machine import growth
from steprule.bench.on_numpy import ByHand
from steprule.bench.peers import Make, Peer, named
from steprule.bench.timing import measure, ratio
from steprule.bench.work import Work

__all__ = ["Alone", "AloneError", "Sizes", "alone", "errors"]

_ULP = 2.0**-23
"""The spacing of float32 numbers from 1 to 2, where all parameters stay."""
_FIRST_ELEMENTS = 5_000
"""Of the first step: more than the least for which any optimizer codes its state."""
_START = """
import time; start = time.perf_counter()
import importlib, sys; importlib.import_module(sys.argv[2])
imported = time.perf_counter() - start
from steprule.bench.alone import main; main(imported, *sys.argv[1:])
"""


class AloneError(Exception):
    """A contestant does not work here; the words say why."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        elements: whose memory is measured. An array of fewer than 32 MB may come from memory that was freed before.
        steps: after which the error is measured.
        error_elements: over which it is measured.
        zero_steps: steps with gradients of zero.
        zero_elements: that take them.
    """

    elements: int = 10_000_000
    steps: int = 100
    error_elements: int = 10_000
    zero_steps: int = 1_100
    zero_elements: int = 100_000


@dataclass(frozen=True)
class Alone:
    """What was measured.

    Attributes:
        import_seconds: of the module, with all that it imports.
        first_seconds: from then to the end of the first step of 5,000 elements, compilation included.
        kept: bytes a parameter between steps, the parameter included.
        extra: bytes a parameter by which a step grows the process at most; None where the system does not say.
        zero_ratio: the time of a step after many gradients of zero, over that of a fresh one.
        error, largest_error: mean and largest distance from float64, in units of the last place of a float32; None of
            another rule than AdamW.
    """

    import_seconds: float
    first_seconds: float
    kept: float
    extra: float | None
    zero_ratio: float
    error: float | None
    largest_error: float | None


def alone(peer: Peer, sizes: Sizes, seconds: float) -> Alone:
    """Measure a contestant in a process of its own.

    Raises:
        AloneError: it does not work here, or not within so many seconds.
    """
    words = [peer.name, peer.module, json.dumps(asdict(sizes))]
    try:
        done = subprocess.run(
            [sys.executable, "-c", _START, *words], capture_output=True, text=True, check=False, timeout=seconds,
            env={**os.environ, **peer.environment},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise AloneError(f"it was not done after {seconds:.0f} s") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise AloneError(lines[-1] if lines else f"its process ended with status {done.returncode}")
    return Alone(**json.loads(done.stdout.splitlines()[-1]))


def main(imported: float, name: str, _: str, sizes: str) -> None:
    """Measure the contestant of a name, and print what was found as the last line."""
    print(json.dumps(asdict(measured(named(name), Sizes(**json.loads(sizes)), imported))))


def measured(peer: Peer, sizes: Sizes, imported: float) -> Alone:
    """Measure a contestant in this process."""
    start = time.perf_counter()
    _made(peer.make, _FIRST_ELEMENTS).step()
    first = time.perf_counter() - start
    mean, largest = errors(peer.make, sizes) if peer.is_adamw else (None, None)
    zero = _zero_ratio(peer.make, sizes)
    large = _made(peer.make, sizes.elements)
    large.step()
    large.step()
    grown = growth(large.step)
    extra = None if grown is None else grown / sizes.elements
    return Alone(imported, first, kept_bytes(large.kept()) / sizes.elements, extra, zero, mean, largest)


def _made(make: Make, elements: int) -> Contestant:
    """Return a contestant with random parameters and gradients."""
    thetas, gradients = Work("", ((elements,),)).arrays()
    contestant = make(thetas)
    contestant.give(gradients)
    return contestant


def errors(make: Make, sizes: Sizes) -> tuple[float, float]:
    """Return the mean and the largest error of the parameters after some steps, in units of a float32's last place.

    The same gradients are given to AdamW in float64. Parameters are taken as a model sees them: those of bfloat16 have
    its rounding.
    """
    thetas, _ = Work("", ((sizes.error_elements,),)).arrays()
    exact = ByHand([theta.astype(np.float64) for theta in thetas])
    contestant = make(thetas)
    rng = np.random.default_rng(1)
    for _ in range(sizes.steps):
        gradient = rng.standard_normal(sizes.error_elements, np.float32)
        exact.give([gradient.astype(np.float64)])
        contestant.give([gradient])
        exact.step()
        contestant.step()
    away: NDArray[Any] = np.abs(contestant.parameters()[0] - exact.parameters()[0]) / _ULP
    return float(away.mean()), float(away.max())


def _zero_ratio(make: Make, sizes: Sizes) -> float:
    """Return the time of a step whose moments have decayed under gradients of zero, over that of a fresh one."""
    fresh, dead = _made(make, sizes.zero_elements), _made(make, sizes.zero_elements)
    dead.step()
    dead.give([np.zeros(sizes.zero_elements, np.float32)])
    for _ in range(sizes.zero_steps):
        dead.step()
    found = measure({"fresh": fresh.step, "dead": dead.step}, turns=7, turn=0.02)
    return ratio(found["dead"], found["fresh"])
