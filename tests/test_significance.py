"""Intervals and p-values against hand-countable cases."""

import numpy as np
import pytest

from lea_core.significance import compare

RNG = np.random.default_rng


def test_p_of_four_equal_signs_is_counted_by_hand() -> None:
    """Four differences of one sign: of the 16 assignments of signs two are as extreme."""
    found = compare(np.array([0.4, 0.3, 0.2, 0.9]), np.array([0.1, 0.1, 0.1, 0.1]), RNG(0))
    assert found.difference == pytest.approx(0.35)
    assert found.p == pytest.approx(2 / 16)
    assert 0.1 <= found.low <= found.difference <= found.high <= 0.8


def test_it_is_antisymmetric() -> None:
    a, b = RNG(1).random(50), RNG(2).random(50)
    one, other = compare(a, b, RNG(0)), compare(b, a, RNG(0))
    assert one.difference == pytest.approx(-other.difference)
    assert one.p == pytest.approx(other.p, abs=0.02)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=0.02)


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    difference = RNG(3).normal(0.1, 1.0, 2000)
    found = compare(difference, np.zeros(2000), RNG(0))
    half = 1.96 * difference.std(ddof=1) / np.sqrt(2000)
    assert (found.low, found.high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.005)


def test_nothing_differs() -> None:
    assert vars(compare(np.ones(3), np.ones(3), RNG(0))) == {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}


@pytest.mark.parametrize("other", [np.ones(2), np.array([1.0, np.nan, 0.0])])
def test_other_users_and_nan_are_refused(other: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be the same users|not finite"):
        compare(np.zeros(3), other, RNG(0))
