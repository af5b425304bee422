"""reward.py: pairs and AUC against every comparison, Spearman and the curve by hand, a curve that must fit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lea_core.common.errors import LeaError
from lea_core.metrics.reward import auc, average_ranks, pairwise_accuracy, popularity_correlation, reliability


def win(logged: float, negative: float) -> float:
    return 1.0 if logged > negative else 0.5 if logged == negative else 0.0


@given(st.integers(1, 6), st.integers(1, 3), st.data())
def test_accuracy_and_auc_against_every_comparison(events: int, count: int, data: st.DataObject) -> None:
    values = st.sampled_from([-2.0, 0.0, 0.5, 3.0])
    logged = data.draw(st.lists(values, min_size=events, max_size=events))
    row = st.lists(values, min_size=count, max_size=count)
    negatives = data.draw(st.lists(row, min_size=events, max_size=events))
    own = [win(a, b) for a, row in zip(logged, negatives, strict=True) for b in row]
    every = [win(a, b) for a in logged for row in negatives for b in row]
    assert pairwise_accuracy(np.array(logged), np.array(negatives)) == pytest.approx(np.mean(own))
    assert auc(np.array(logged), np.array(negatives)) == pytest.approx(np.mean(every))


def test_a_shift_per_state_costs_auc_alone() -> None:
    logged, negatives = np.array([1.0, 11.0]), np.array([[0.0], [10.0]])
    assert (pairwise_accuracy(logged, negatives), auc(logged, negatives)) == (1.0, 0.75)


def test_spearman_by_hand() -> None:
    assert average_ranks(np.array([7.0, 3.0, 7.0, 9.0])).tolist() == [2.5, 1.0, 2.5, 4.0]
    counts = np.array([10, 20, 20, 500])
    # Ranks 1, 2, 3, 4 beside 1, 2.5, 2.5, 4: 4.5 / sqrt(5 * 4.5).
    found = popularity_correlation(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 2, 3]), counts)
    assert found == pytest.approx(4.5 / math.sqrt(5 * 4.5))
    assert popularity_correlation(np.array([[3.0, -1.0]]), np.array([[0, 3]]), counts) == pytest.approx(-1.0)
    assert popularity_correlation(np.ones(2), np.array([0, 3]), counts) == 0.0


def test_reliability_by_hand() -> None:
    # sigmoid(log 3) = 3/4 and sigmoid(log 9) = 9/10; the third pair is in the wrong order.
    logged, negatives = np.log([3.0, 9.0, 1.0]), np.log([[1.0], [1.0], [3.0]])
    found = reliability(logged, negatives, bins=2)
    low, high = found["curve"]
    assert high == {"predicted": pytest.approx(0.8), "observed": pytest.approx(2 / 3), "count": 3}
    assert low == {"predicted": pytest.approx(0.2), "observed": pytest.approx(1 / 3), "count": 3}
    assert found["calibration_error"] == pytest.approx(0.8 - 2 / 3)


def test_rewards_that_are_log_odds_are_calibrated_and_doubled_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    difference = rng.normal(size=100_000) * 2
    wrong = rng.random(difference.shape) > 1 / (1 + np.exp(-difference))
    logged = np.where(wrong, -difference, difference)
    negatives = np.zeros((len(logged), 1))
    assert reliability(logged, negatives)["calibration_error"] < 0.01
    assert reliability(2 * logged, negatives)["calibration_error"] > 0.05
    assert reliability(np.array([1e4]), np.array([[-1e4]]))["calibration_error"] == 0.0  # no overflow


@pytest.mark.parametrize("function", [pairwise_accuracy, auc, reliability])
def test_no_reward_and_no_number_are_refused(function: object) -> None:
    with pytest.raises(LeaError, match="no reward to judge"):
        function(np.zeros(0), np.zeros((0, 3)))  # type: ignore[operator]
    with pytest.raises(LeaError, match="NaN"):
        function(np.zeros(1), np.array([[math.nan]]))  # type: ignore[operator]
