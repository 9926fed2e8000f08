"""The statistics of a race: against straight loops, and against races whose truth is known."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest

from steprule.race.statistics import LEVEL, best_of_k, fewest_seeds, holm, interval, p_values, ranks


def _signed_rank(differences: list[float]) -> float:
    """Return the exact p value, by going through all signs: for differences without ties and zeros."""
    places = {value: place for place, value in enumerate(sorted(map(abs, differences)), 1)}
    sizes = [places[abs(value)] for value in differences]
    mean = sum(sizes) / 2
    found = abs(sum(size for size, value in zip(sizes, differences, strict=True) if value > 0) - mean)
    sums = [sum(itertools.compress(sizes, signs)) for signs in itertools.product((0, 1), repeat=len(sizes))]
    return sum(abs(one - mean) >= found for one in sums) / len(sums)


def test_p_values_are_those_of_all_signs_with_the_correction_of_holm() -> None:
    losses = np.random.default_rng(3).normal(size=(4, 9)) + np.array([[0.0], [0.5], [1.0], [3.0]])
    pairs = list(itertools.combinations(range(4), 2))
    plain = {pair: _signed_rank((losses[pair[0]] - losses[pair[1]]).tolist()) for pair in pairs}
    expected, highest = {}, 0.0
    for place, pair in enumerate(sorted(pairs, key=lambda pair: plain[pair])):
        highest = max(highest, plain[pair] * (len(pairs) - place))
        expected[pair] = min(1.0, highest)
    found = p_values(losses)
    assert (found == found.T).all()
    assert (np.diag(found) == 1).all()
    for pair, value in expected.items():
        assert found[pair] == pytest.approx(value, rel=1e-12)
    assert min(expected.values()) < LEVEL < max(expected.values())


def test_holm_of_the_textbook() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []


def test_diverged_runs_are_worse_than_any_and_equal_to_each_other() -> None:
    finite = np.random.default_rng(0).normal(size=12)
    all_lost = np.full(12, np.inf)
    p = p_values(np.array([finite, all_lost, all_lost]))
    assert p[0, 1] == p[0, 2] == pytest.approx(3 * 2 / 2**12)
    assert p[1, 2] == 1.0
    # One lost seed weighs as the largest difference, no more.
    other = finite - np.linspace(0.1, 0.2, 12)
    other[5] = np.inf
    far = np.where(np.isfinite(other), other, 1e6)
    assert p_values(np.array([finite, other]))[0, 1] == p_values(np.array([finite, far]))[0, 1] < LEVEL


def test_seeds_without_a_difference_tell_nothing_and_ties_share_their_places() -> None:
    rng = np.random.default_rng(5)
    difference = rng.normal(size=9)
    zeros = np.concatenate([difference, np.zeros(4)])
    expected = pytest.approx(_signed_rank(difference.tolist()), rel=1e-12)
    assert p_values(np.array([zeros, np.zeros(13)]))[0, 1] == expected
    # Over all signs of the sizes 1.5, 1.5, 3, 4, 5, 6: those with a plus add up to 19.5, 9 from the middle.
    tied = np.array([1.0, -1.0, 2.0, 3.0, 4.0, 5.0])
    sums = [1.5 * a + 1.5 * b + sum(itertools.compress((3, 4, 5, 6), rest)) for a, b, *rest in _signs(6)]
    far = sum(abs(one - 10.5) >= 9.0 for one in sums)
    assert p_values(np.array([tied, np.zeros(6)]))[0, 1] == pytest.approx(far / 64, rel=1e-12)


def _signs(count: int) -> list[tuple[int, ...]]:
    return list(itertools.product((0, 1), repeat=count))


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_tell_nothing(seeds: int) -> None:
    assert (p_values(np.array([[0.0], [1.0], [2.0]]) + np.zeros((3, seeds))) >= LEVEL).all()


@pytest.mark.parametrize("rules", [2, 3, 6, 20])
def test_the_fewest_seeds_that_can_tell_a_pair_apart(rules: int) -> None:
    pairs = rules * (rules - 1) // 2

    def lowest(seeds: int) -> float:
        return pairs * _signed_rank([float(i) for i in range(1, seeds + 1)])

    fewest = fewest_seeds(rules)
    assert lowest(fewest) < LEVEL <= lowest(fewest - 1)


def test_equal_rules_are_told_apart_in_one_race_of_twenty_at_most() -> None:
    rng = np.random.default_rng(1)
    wrong = sum((p_values(rng.normal(size=(6, 16))) < LEVEL).any() for _ in range(400))
    assert wrong <= 20


def test_a_difference_of_one_standard_deviation_is_found_in_most_races_of_the_default_seeds() -> None:
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(200):
        losses = rng.normal(size=(2, 16))
        losses[0] -= 1.0
        found += p_values(losses)[0, 1] < LEVEL
    assert found > 100


def test_selecting_and_reporting_on_the_same_seeds_flatters() -> None:
    """Of sixteen equal settings the best looks a standard deviation and more better than it is; fresh seeds do not."""
    rng = np.random.default_rng(4)
    same, fresh = [], []
    for _ in range(400):
        tuning = rng.normal(size=16)
        same.append(tuning.min())
        fresh.append(np.median(rng.normal(size=16)))
    assert np.mean(same) < -1.5
    assert abs(np.mean(fresh)) < 0.05


def test_intervals_hold_the_median_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    low, high = interval(rng.normal(size=(200, 16)))
    held = np.mean((low <= 0) & (high >= 0))
    assert 0.88 <= held <= 0.99
    assert np.isinf(interval(np.array([1.0]))).all()
    low, high = interval(np.array([1.0, 2.0, 3.0, np.inf, np.inf]))
    assert np.isfinite(low)
    assert np.isinf(high)


def test_intervals_are_always_the_same_and_near_a_straight_loop() -> None:
    values = np.random.default_rng(6).normal(size=9).tolist()
    low, high = interval(np.array(values))
    assert (low, high) == interval(np.array(values))
    rng = np.random.default_rng(7)
    medians = sorted(statistics.median(rng.choice(values, 9)) for _ in range(4000))
    assert low == pytest.approx(medians[100], abs=0.3)
    assert high == pytest.approx(medians[3900], abs=0.3)


def test_ranks_are_shared_by_rules_that_cannot_be_told_apart() -> None:
    p = np.array([[1.0, 0.5, 0.01], [0.5, 1.0, 0.2], [0.01, 0.2, 1.0]])
    assert ranks([1.0, 2.0, 3.0], p) == [(1, 2), (1, 3), (2, 3)]
    assert ranks([3.0, 1.0, 2.0], np.full((3, 3), 0.001)) == [(3, 3), (1, 1), (2, 2)]


def test_the_best_of_k_trials_is_the_mean_over_all_draws() -> None:
    losses = [3.0, 1.0, 2.0, 2.0]
    found = best_of_k(np.array(losses))
    for k in (1, 2, 3, 4):
        draws = list(itertools.product(losses, repeat=k))
        assert found[k - 1] == pytest.approx(sum(map(min, draws)) / len(draws), rel=1e-12)
