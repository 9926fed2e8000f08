"""What is decided about a step, as Triton text: the device finds out what the host need not wait for.

``kernel(sums, found, decision, blocks, COLUMNS, SKIPS, CLIPS)``, one program of ``THREADS`` threads, takes addresses as
64-bit integers:

- ``sums``: of ``blocks`` lines of ``COLUMNS`` float64 numbers that are not negative: partial sums of squares. The first
  column is of the gradient to be clipped, the last of the gradient as it was given;
- ``found``: of one float32 that is not 0 where a ``GradScaler`` found a gradient that is not finite, or 0;
- ``decision``: of the float64 numbers ``DECISION``.

It decides as ``doors.guards.Guards.decide`` does: with ``SKIPS`` a step whose gradients are not finite is not taken,
and counted; with ``CLIPS`` the factor is ``clip_norm / (sqrt(total) + 1e-6)``, and at most 1. A step that is not taken
for what ``found`` says is not counted. The factor of a step that is not taken is 1.

One thing is different. Where gradients are finite, but the sum of their squares is too large for float64, the host
looks again; here they count as not finite, and without ``SKIPS`` the factor is 0.
"""

from __future__ import annotations

__all__ = ["DECISION", "THREADS", "TOTAL", "emit"]

DECISION = ("factor", "taken", "skipped", "in_a_row", "clip_norm", "total")
"""What is decided. ``skipped`` and ``in_a_row`` go on from what they were, ``clip_norm`` is given."""
THREADS = 256

TOTAL = '''\

@triton.jit
def two_sum(a, b):
    """Return a + b, and what was lost in rounding it."""
    high = a + b
    there = high - a
    return high, (a - (high - there)) + (b - there)


@triton.jit
def join(a0, a1, a2, b0, b1, b2):
    """Add two sums, each of three parts."""
    high, x = two_sum(a0, b0)
    low, y = two_sum(a1, b1)
    low, z = two_sum(low, x)
    return high, low, a2 + b2 + y + z


@triton.jit
def halves(numbers):
    """Return the first half of some numbers, and the second."""
    HALF: tl.constexpr = numbers.shape[0] // 2
    both = tl.reshape(numbers, (2, HALF))
    is_first = tl.arange(0, 2)[:, None] == 0
    return tl.sum(tl.where(is_first, both, 0.0), 0), tl.sum(tl.where(is_first, 0.0, both), 0)


@triton.jit
def rounded(high, low, rest):
    """Return the sum of three parts, rounded once."""
    plain = high + tl.where(tl.abs(high) < float("inf"), low, 0.0)
    high, low = two_sum(high, low)
    low, rest = two_sum(low, rest)
    high, low = two_sum(high, low)
    low, rest = two_sum(low, rest)
    # Half way between two numbers, the last part tells which is the nearer.
    other = high + 2.0 * low
    is_half = (other - high == 2.0 * low) & ((low < 0.0) == (rest < 0.0)) & (low != 0.0) & (rest != 0.0)
    return tl.where(tl.abs(plain) < float("inf"), tl.where(is_half, other, high), plain)


@triton.jit
def total(numbers, count, STRIDE: tl.constexpr):
    """Return the sum of numbers that are not negative, rounded once, as math.fsum does.

    Infinity and NaN stay; a sum that is too large is infinity. Three parts hold 159 bits.
    """
    high = tl.zeros((512,), tl.float64)
    low, rest = high, high
    at = tl.arange(0, 512).to(tl.int64)
    start = tl.full((), 0, tl.int64)
    while start < count:  # the interpreter of Triton 3.6 has no range up to a number that was loaded
        for _ in tl.static_range(8):  # loads in flight
            number = tl.load(numbers + at * STRIDE, at < count, other=0.0)
            high, lost = two_sum(high, number)
            low, lost = two_sum(low, lost)
            rest += lost
            at += 512
        start += 4096
    for _ in tl.static_range(9):  # a reduction by a function of ours would take the interpreter half a second
        high0, high1 = halves(high)
        low0, low1 = halves(low)
        rest0, rest1 = halves(rest)
        high, low, rest = join(high0, low0, rest0, high1, low1, rest1)
    return rounded(tl.sum(high, 0), tl.sum(low, 0), tl.sum(rest, 0))  # of one

'''

_KERNEL = '''\
"""What is decided about a step, in float64."""

import triton
import triton.language as tl

{total}
@triton.jit(do_not_specialize=["sums", "found", "decision", "blocks"])
def kernel(
    sums: tl.int64, found: tl.int64, decision: tl.int64, blocks: tl.int64,
    COLUMNS: tl.constexpr, SKIPS: tl.constexpr, CLIPS: tl.constexpr,
):
    sums, found = sums.to(tl.int64), found.to(tl.int64)  # the interpreter takes 0 for 32 bits
    sums = sums.to(tl.pointer_type(tl.float64))
    decision = decision.to(tl.pointer_type(tl.float64))
    squares = total(sums, blocks, COLUMNS)
    given = squares
    if COLUMNS > 1:
        given = total(sums + (COLUMNS - 1), blocks, COLUMNS)
    is_found = tl.load(found.to(tl.pointer_type(tl.float32)), found != 0, other=0.0) != 0.0
    skipped, in_a_row = tl.load(decision + 2), tl.load(decision + 3)
    taken = is_found == 0
    if SKIPS:
        is_finite = tl.abs(given) < float("inf")
        counts = taken & (is_finite == 0)  # the scaler's own are not counted
        tl.store(decision + 2, tl.where(counts, skipped + 1.0, skipped))
        in_a_row = tl.where(counts, in_a_row + 1.0, in_a_row)
        taken = taken & is_finite
    tl.store(decision + 3, tl.where(taken, 0.0, in_a_row))
    tl.store(decision + 1, taken.to(tl.float64))
    factor = tl.full((), 1.0, tl.float64)
    if CLIPS:
        factor = tl.load(decision + 4) / (tl.sqrt(squares) + tl.full((), 1e-6, tl.float64))
        factor = tl.where((factor >= 1.0) | (taken == 0), 1.0, factor)  # NaN stays
    tl.store(decision, factor)
    tl.store(decision + 5, squares)
'''


def emit() -> str:
    """Return the text of the module that defines ``kernel``."""
    return _KERNEL.format(total=TOTAL)
