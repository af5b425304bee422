"""Intervals, p-values and effects against hand-countable cases."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test, t, ttest_1samp, ttest_ind

from lea_core.evaluation.significance import Comparison, compare, holm, over_users_and_seeds, randomisation, user_means

RNG = np.random.default_rng


def compare_once(scores: np.ndarray, others: np.ndarray) -> Comparison:
    """Two systems of one training each, (U,) both."""
    return compare(scores[None], others[None], np.ones(len(scores)), RNG(0))


def test_p_of_four_equal_signs_is_counted_by_hand() -> None:
    """Four differences of one sign: of the 16 assignments of signs two are as extreme."""
    found = compare_once(np.array([0.4, 0.3, 0.2, 0.9]), np.array([0.1, 0.1, 0.1, 0.1]))
    assert found.difference == pytest.approx(0.35)
    assert found.p_randomisation == pytest.approx(2 / 16)
    assert found.p_wilcoxon == pytest.approx(2 / 16)
    assert 0.1 <= found.low <= found.difference <= found.high <= 0.8


def test_it_is_antisymmetric() -> None:
    a, b = RNG(1).random(50), RNG(2).random(50)
    one, other = compare_once(a, b), compare_once(b, a)
    assert one.difference == pytest.approx(-other.difference)
    assert one.p_randomisation == pytest.approx(other.p_randomisation, abs=0.02)
    assert one.p_wilcoxon == pytest.approx(other.p_wilcoxon)
    assert one.effect_size == pytest.approx(-other.effect_size)
    assert (one.better, one.worse) == (other.worse, other.better)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=0.02)


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    difference = RNG(3).normal(0.1, 1.0, 2000)
    found = compare_once(difference, np.zeros(2000))
    half = 1.96 * difference.std(ddof=1) / np.sqrt(2000)
    assert (found.low, found.high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.005)


def test_nothing_differs() -> None:
    nearly = np.array([1.0 + 1e-15, 1.0 - 1e-15, 1.0])  # sums in another order
    for other in (np.ones(3), nearly):
        found = compare(np.stack([np.ones(3)] * 2), np.stack([other] * 2), np.ones(3), RNG(0))
        assert vars(found) == {
            "difference": 0.0,
            "low": 0.0,
            "high": 0.0,
            "p_randomisation": 1.0,
            "p_wilcoxon": 1.0,
            "low_with_seeds": 0.0,
            "high_with_seeds": 0.0,
            "p_with_seeds": 1.0,
            "effect_size": 0.0,
            "better": 0,
            "worse": 0,
        }


def test_many_users_signs_are_drawn_as_scipy_draws_them() -> None:
    """Of 100 users 40 do not differ; p is near .07, whose deviation is .001 here and .003 there."""
    difference = np.concatenate([RNG(15).normal(0.2, 1.0, 60), np.zeros(40)])
    found = randomisation(difference, RNG(0))
    wanted = permutation_test((difference,), np.mean, permutation_type="samples", rng=RNG(1), vectorized=True)
    assert 0.05 < found < 0.09
    assert found == pytest.approx(wanted.pvalue, abs=0.015)
    assert randomisation(np.abs(difference), RNG(0)) == 1 / 100_000


def test_wilcoxon_leaves_out_who_does_not_differ() -> None:
    """Differences 1, 2, 3, 4, -5 have ranks 1 to 5: a sum of 5 or less below zero has 10 of the 32 assignments' ways.

    Subsets of {1, .., 5} with a sum of at most 5: {}, 1, 2, 3, 4, 5, 12, 13, 14, 23; two sides.
    """
    difference = np.array([0.1, 0.0, 0.2, 0.3, 0.0, 0.4, -0.5, 0.0])
    found = compare_once(difference, np.zeros(8))
    assert found.p_wilcoxon == pytest.approx(20 / 32)
    assert (found.better, found.worse) == (4, 1)


def test_the_effect_size_by_hand() -> None:
    """Mean 2, deviation 1."""
    assert compare_once(np.array([1.0, 2.0, 3.0]), np.zeros(3)).effect_size == pytest.approx(2.0)
    assert compare_once(np.zeros(3), np.full(3, 0.1)).effect_size == -math.inf


def test_holm_by_hand() -> None:
    """.01 three times, .03 twice; .04 is no smaller than the one before it."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8), st.floats(0.01, 0.99))
def test_holm_rejects_what_its_steps_do(p: list[float], level: float) -> None:
    """As Holm writes it: from the smallest p on, reject while p_i <= level / (m - i)."""
    rejected = set()
    for step, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if (len(p) - step) * p[place] > level:
            break
        rejected.add(place)
    assert {place for place, corrected in enumerate(holm(p)) if corrected <= level} == rejected


def test_user_means_by_hand() -> None:
    scores = np.array([[1.0, 0.0, 0.5], [0.0, 0.0, 1.0]])
    means, events = user_means(scores, np.array([3, 3, 7]))
    assert means.tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert events.tolist() == [2, 1]


def test_a_difference_is_of_means_over_events() -> None:
    """A user with 2,000 events and differences of -.8, 19 with one each of .9: over events -1582.9 / 2019.

    Over users it would be +.815. The interval is that of the ratio: nearly all of it hangs on whether the one is drawn.
    """
    events = np.array([2000, *[1] * 19])
    scores, others = np.array([0.1, *[0.95] * 19]), np.array([0.9, *[0.05] * 19])
    found = compare(scores[None], others[None], events, RNG(0))
    assert found.difference == pytest.approx((19 * 0.9 - 2000 * 0.8) / 2019)
    assert (found.better, found.worse) == (19, 1)
    assert found.low < found.difference < found.high == pytest.approx(0.9)
    summed = (scores - others) * events  # its sign is what the test flips
    assert found.p_randomisation == pytest.approx(randomisation(summed, RNG(0)), abs=0.01)
    by_events = [np.repeat(one, events) for one in (scores, others)]
    assert found.difference == pytest.approx(by_events[0].mean() - by_events[1].mean())


def test_the_interval_with_seeds_is_that_of_a_ratio() -> None:
    """Against Cochran's variance of a ratio of the users' sums to their counts, written out."""
    events, difference = RNG(7).integers(1, 9, 40), RNG(8).normal(0.2, 1.0, 40)
    low, high, _ = over_users_and_seeds(np.stack([difference] * 2), np.zeros((2, 40)), events)
    mean = np.average(difference, weights=events)
    variance = 40 / 39 * (events**2 * (difference - mean) ** 2).sum() / events.sum() ** 2
    half = t.ppf(0.975, 39) * variance**0.5
    assert (low, high) == pytest.approx((mean - half, mean + half))


def test_as_many_events_of_every_user_change_nothing() -> None:
    scores, others = RNG(9).random((3, 30)), RNG(10).random((2, 30))
    assert compare(scores, others, np.full(30, 5), RNG(0)) == compare(scores, others, np.ones(30), RNG(0))


def test_users_and_seeds_by_hand() -> None:
    """Users' differences .1 and .3, seed means .4 and .6 against .3 and .3: d .2, variances .01, .01 and 0.

    So v is .02, and the degrees of freedom .02^2 / (.01^2 + .01^2) are 2, where t has the quantile 4.3027; of
    .2 / sqrt(.02) = sqrt(2) the tail is 1 - sqrt(2) / sqrt(2 + 2) on both sides together.
    """
    scores, others = np.array([[0.2, 0.6], [0.4, 0.8]]), np.array([[0.2, 0.4], [0.2, 0.4]])
    low, high, p = over_users_and_seeds(scores, others, np.full(2, 7))
    assert (low, high) == pytest.approx((0.2 - 4.3027 * 0.02**0.5, 0.2 + 4.3027 * 0.02**0.5), abs=1e-4)
    assert p == pytest.approx(1 - 0.5**0.5)
    found = compare(scores, others, np.full(2, 7), RNG(0))
    assert (found.low_with_seeds, found.high_with_seeds, found.p_with_seeds) == (low, high, p)


def test_seeds_that_do_not_vary_leave_the_users_t_test() -> None:
    difference = RNG(3).normal(0.1, 1.0, 50)
    low, high, p = over_users_and_seeds(np.stack([difference] * 3), np.zeros((3, 50)), np.ones(50))
    wanted = ttest_1samp(difference, 0.0)
    assert p == pytest.approx(wanted.pvalue)
    assert (low, high) == pytest.approx(tuple(wanted.confidence_interval(0.95)))


def test_users_alike_leave_welchs_test_of_the_seeds() -> None:
    one, other = RNG(4).normal(0.3, 0.1, 5), RNG(5).normal(0.2, 0.3, 4)
    _, _, p = over_users_and_seeds(np.stack([one] * 2, axis=1), np.stack([other] * 2, axis=1), np.ones(2))
    assert p == pytest.approx(ttest_ind(one, other, equal_var=False).pvalue)


def test_one_training_says_nothing_of_others() -> None:
    for one, other in (((1, 9), (3, 9)), ((3, 9), (1, 9)), ((3, 1), (3, 1))):
        assert np.isnan(over_users_and_seeds(RNG(0).random(one), RNG(1).random(other), np.ones(one[1]))).all()


def test_luck_of_the_seeds_is_seen_with_them_alone() -> None:
    """Two systems that are alike: each training is a draw of its own, 400 times; 5 % are to be found different.

    Users alone tell these trainings apart nearly always.
    """
    generator, hits, users_hits = RNG(6), 0, 0
    for _ in range(400):
        users = generator.normal(0.0, 1.0, 200)
        one, other = (users + generator.normal(0.0, 0.5, (5, 1)) + generator.normal(0.0, 0.3, (5, 200)) for _ in "ab")
        hits += over_users_and_seeds(one, other, np.ones(200))[2] < 0.05
        users_hits += ttest_1samp(one.mean(axis=0) - other.mean(axis=0), 0.0).pvalue < 0.05
    assert 8 <= hits <= 32  # a binomial of 400 and .05 is outside with a chance below .005
    assert users_hits > 300


@pytest.mark.parametrize("other", [np.ones(2), np.array([1.0, np.nan, 0.0])])
def test_other_users_and_nan_are_refused(other: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be the same users|not finite"):
        compare_once(np.zeros(3), other)
