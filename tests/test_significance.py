"""Intervals, p-values and effects against hand-countable cases."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lea_core.significance import compare, holm, user_means

RNG = np.random.default_rng


def test_p_of_four_equal_signs_is_counted_by_hand() -> None:
    """Four differences of one sign: of the 16 assignments of signs two are as extreme."""
    found = compare(np.array([0.4, 0.3, 0.2, 0.9]), np.array([0.1, 0.1, 0.1, 0.1]), RNG(0))
    assert found.difference == pytest.approx(0.35)
    assert found.p_randomisation == pytest.approx(2 / 16)
    assert found.p_wilcoxon == pytest.approx(2 / 16)
    assert 0.1 <= found.low <= found.difference <= found.high <= 0.8


def test_it_is_antisymmetric() -> None:
    a, b = RNG(1).random(50), RNG(2).random(50)
    one, other = compare(a, b, RNG(0)), compare(b, a, RNG(0))
    assert one.difference == pytest.approx(-other.difference)
    assert one.p_randomisation == pytest.approx(other.p_randomisation, abs=0.02)
    assert one.p_wilcoxon == pytest.approx(other.p_wilcoxon)
    assert one.effect_size == pytest.approx(-other.effect_size)
    assert (one.better, one.worse) == (other.worse, other.better)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=0.02)


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    difference = RNG(3).normal(0.1, 1.0, 2000)
    found = compare(difference, np.zeros(2000), RNG(0))
    half = 1.96 * difference.std(ddof=1) / np.sqrt(2000)
    assert (found.low, found.high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.005)


def test_nothing_differs() -> None:
    nearly = np.array([1.0 + 1e-15, 1.0 - 1e-15, 1.0])  # sums in another order
    for other in (np.ones(3), nearly):
        assert vars(compare(np.ones(3), other, RNG(0))) == {
            "difference": 0.0,
            "low": 0.0,
            "high": 0.0,
            "p_randomisation": 1.0,
            "p_wilcoxon": 1.0,
            "effect_size": 0.0,
            "better": 0,
            "worse": 0,
        }


def test_wilcoxon_leaves_out_who_does_not_differ() -> None:
    """Differences 1, 2, 3, 4, -5 have ranks 1 to 5: a sum of 5 or less below zero has 10 of the 32 assignments' ways.

    Subsets of {1, .., 5} with a sum of at most 5: {}, 1, 2, 3, 4, 5, 12, 13, 14, 23; two sides.
    """
    difference = np.array([0.1, 0.0, 0.2, 0.3, 0.0, 0.4, -0.5, 0.0])
    found = compare(difference, np.zeros(8), RNG(0))
    assert found.p_wilcoxon == pytest.approx(20 / 32)
    assert (found.better, found.worse) == (4, 1)


def test_the_effect_size_by_hand() -> None:
    """Mean 2, deviation 1."""
    assert compare(np.array([1.0, 2.0, 3.0]), np.zeros(3), RNG(0)).effect_size == pytest.approx(2.0)
    assert compare(np.zeros(3), np.full(3, 0.1), RNG(0)).effect_size == -math.inf


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
    assert user_means(np.array([1.0, 0.0, 0.5]), np.array([3, 3, 7])).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("other", [np.ones(2), np.array([1.0, np.nan, 0.0])])
def test_other_users_and_nan_are_refused(other: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be the same users|not finite"):
        compare(np.zeros(3), other, RNG(0))
