"""The statistics of a race, by SciPy: intervals, pairs that can be told apart, ranks, and what a budget buys.

Losses are arrays (rules, seeds). A run that diverged has an infinite loss, which is worse than any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steprule.race.problem import Array

__all__ = [
    *("LEVEL", "best_of_k", "critical_difference", "fewest_seeds", "holm", "interval", "p_values", "ranks", "ratios"),
]

LEVEL = 0.05
"""How often a race of equal rules may say that any two of them differ."""
_RESAMPLES = 4_999
_HUGE = 1e100
"""Stands for an infinite loss where a median is taken."""


def interval(losses: Array, axis: int = -1) -> tuple[Array, Array]:
    """Return the 95 % bootstrap interval of the median over seeds: its percentiles, since a median has few values.

    Efron & Tibshirani 1993, chapter 13, by ``scipy.stats.bootstrap`` with 4,999 resamples, always the same ones. A
    single seed tells nothing of the spread: the interval is unbounded then.
    """
    from scipy.stats import bootstrap

    values = np.where(np.isfinite(losses), losses, _HUGE)
    if values.shape[axis] < 2:
        end = np.full(np.median(values, axis=axis).shape, np.inf)
        return -end, end
    found = bootstrap(
        (values,), np.median, axis=axis, method="percentile", n_resamples=_RESAMPLES, batch=500,
        random_state=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    low, high = (np.where(end > _HUGE / 1e9, np.inf, end) for end in (found.low, found.high))
    return low, high


def p_values(losses: Array) -> Array:
    """Return for each pair of rules how surprising its losses are if both rules are equal, corrected for all pairs.

    The test is Wilcoxon's signed-rank test (1945) on the differences seed by seed: both rules of a pair have the same
    start and the same batches at a seed, which a test of unpaired losses would waste; ranks do not ask for normal
    losses, and one bad seed weighs no more than its rank. The correction is ``holm``'s.

    Returns:
        A symmetric array (rules, rules) with ones on its diagonal.
    """
    count = len(losses)
    first, second = np.triu_indices(count, 1)
    result = np.ones((count, count))
    values = _finite(losses)
    result[first, second] = result[second, first] = holm(_signed_rank(values[first] - values[second]))
    return result


def holm(p: Array) -> Array:
    """Return p values corrected for their number, by Holm 1979: right whatever the dependence between the tests.

    The k-th smallest of m is multiplied by m - k + 1, and is never below the one before it.
    """
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)) if len(p) else p
    result = np.empty(len(p))
    result[order] = np.minimum(stepped, 1.0)
    return result


def ranks(medians: Sequence[float], p: Array) -> list[tuple[int, int]]:
    """Return each rule's highest and lowest possible rank: how many rules are told apart from it as better, and worse.

    Rules that cannot be told apart share ranks.
    """
    values, apart = np.asarray(medians), p < LEVEL
    better = apart & (values[None, :] < values[:, None])
    worse = apart & (values[None, :] > values[:, None])
    count = len(values)
    return [(1 + int(a), count - int(b)) for a, b in zip(better.sum(axis=1), worse.sum(axis=1), strict=True)]


def fewest_seeds(rules: int) -> int:
    """Return how many seeds it takes to tell a pair of that many rules apart whose differences all agree."""
    pairs = max(1, rules * (rules - 1) // 2)
    # With n seeds no p value of the test is below 2 / 2^n.
    return int(np.floor(np.log2(2 * pairs / LEVEL))) + 1


def critical_difference(rules: int, problems: int) -> float:
    """Return by how much the mean ranks of two rules over that many problems must differ for them to be told apart.

    Nemenyi 1963, as in Demsar 2006 (JMLR 7, section 3.2.2): with k rules, N problems and the studentized range q of k
    values, q / sqrt(2) sqrt(k (k + 1) / (6 N)). It is made for all pairs, and for ranks without ties; those that share
    ranks vary less, so equal rules are told apart less often still. Infinite for a single rule.
    """
    from scipy.stats import studentized_range

    if rules < 2:
        return float("inf")
    q = float(studentized_range.isf(LEVEL, rules, np.inf))
    return q * float(np.sqrt(rules * (rules + 1) / (12 * problems)))


def ratios(steps: Array) -> Array:
    """Return what a performance profile is of: the steps of each rule by the fewest ones, problem by problem.

    Dolan & More 2002, Mathematical Programming 91: r = t / min t, infinite for a rule that does not reach the target.

    Args:
        steps: to the target (rules, problems); infinite for never, NaN where there is no target.

    Returns:
        The ratios, at least 1; NaN for problems without a target, with one that nobody reaches, or with one that
        some rule has reached before its first step.
    """
    fewest = steps.min(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where((fewest > 0) & np.isfinite(fewest), steps / fewest, np.nan))


def best_of_k(losses: Array) -> Array:
    """Return the expected lowest loss of k of these trials, for k from 1 to all: drawn at random, with replacement.

    With v_1 <= ... <= v_n, the lowest of k is above v_i with probability (1 - i/n)^k: Dodge et al. 2019, section 3.1,
    arXiv:1909.03004, for losses in place of accuracies.
    """
    values, count = np.sort(losses), len(losses)
    k = np.arange(1, count + 1)[:, None]
    above = (1 - np.arange(count + 1) / count) ** k
    return np.asarray((above[:, :-1] - above[:, 1:]) @ values)


def _finite(losses: Array) -> Array:
    """Return losses with a number for infinite ones, further above the others than these are apart."""
    there = losses[np.isfinite(losses)]
    # Its differences to others are the largest ones, and no two of them are equal.
    worst = there.max() + np.ptp(there) + 1 if there.size else 1.0
    return np.where(np.isfinite(losses), losses, worst)


def _signed_rank(difference: Array) -> Array:
    """Return the p value of each pair, from its differences (pairs, seeds); one where no seed differs."""
    from scipy.stats import wilcoxon

    p = np.ones(len(difference))
    # Where there are zeros or ties SciPy goes through all signs, which takes a thousand times as long, and for all rows
    # of a call alike. A zero has no sign, so leaving it out changes nothing.
    sizes = np.sort(np.abs(difference), axis=1)
    plain = (np.diff(sizes, prepend=0.0, axis=1) > 0).all(axis=1)
    if plain.any():
        p[plain] = wilcoxon(difference[plain], axis=1).pvalue
    for row in np.flatnonzero(~plain & difference.any(axis=1)):
        p[row] = wilcoxon(difference[row][difference[row] != 0]).pvalue
    return p
