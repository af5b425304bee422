"""beyond_accuracy.py: by hand, and against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lea_core.common.errors import LeaError
from lea_core.metrics.beyond_accuracy import diversity, list_rows, worth

VECTORS = np.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, 0.0]])


def test_worth_by_hand() -> None:
    """Counts 3, 1, 0, 0, so shares of 4/8, 2/8, 1/8, 1/8 with one more each: 1, 2, 3 and 3 bits."""
    found = worth(np.array([[0, 1], [0, 2]]), np.array([3, 1, 0, 0]), VECTORS)
    assert found == {
        "coverage": 0.75,
        "gini": pytest.approx(0.375),  # 2, 1, 1, 0 times: sum |x_i - x_j| / (2 n^2 mean) = 12 / 32
        "novelty": pytest.approx((1 + 2 + 1 + 3) / 4),
        "popularity": pytest.approx((3 + 1 + 3 + 0) / 4),
        "distance": pytest.approx((1 + 2) / 2),
    }


def test_rows_are_means_over_the_seeds() -> None:
    seeds = [np.array([[0, 1]]), np.array([[0, -1]])]
    rows = list_rows(seeds, [1, 2], np.array([3, 1, 0, 0]), VECTORS)
    assert [row["cutoff"] for row in rows] == [1, 2]
    assert [row["distance"] for row in rows] == [None, pytest.approx(1.0)]  # a list of one has no pair
    assert [row["coverage"] for row in rows] == [0.25, pytest.approx((0.5 + 0.25) / 2)]
    assert [row["novelty"] for row in rows] == [1.0, pytest.approx((1.5 + 1.0) / 2)]


def test_diversity_by_hand() -> None:
    found = diversity(np.array([[0, 1], [0, 2], [0, 3]]), VECTORS)
    # Distances 1, 2 and (a vector of zeros) 1. Listed 3, 1, 1, 1 times: sum |x_i - x_j| / (2 n^2 mean) = 12 / 48.
    assert found == {"coverage": 1.0, "gini": pytest.approx(0.25), "distance": pytest.approx(4 / 3)}
    same = diversity(np.array([[1], [1]]), VECTORS)
    assert same == {"coverage": 0.25, "gini": pytest.approx(0.75)}  # one item takes all: 1 - 1 / 4; no pair in a list
    with pytest.raises(LeaError, match="no list has an item"):
        diversity(np.array([[-1, -1]]), VECTORS)


@given(st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=4), min_size=1, max_size=6))
def test_diversity_against_loops(rows: list[list[int]]) -> None:
    """Lists of different lengths: the mean over the lists of the mean over their pairs."""
    vectors = np.random.default_rng(0).normal(size=(7, 4))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    times = [sum(row.count(item) for row in rows) for item in range(7)]
    apart = [
        np.mean([1 - unit[row[i]] @ unit[row[j]] for i in range(len(row)) for j in range(i)])  # of one list
        for row in rows
    ]
    found = diversity(np.array([row + [-1] * (4 - len(row)) for row in rows]), vectors)
    assert found["gini"] == pytest.approx(sum(abs(a - b) for a in times for b in times) / (2 * 7 * sum(times)))
    assert found["distance"] == pytest.approx(np.mean(apart), abs=1e-5)
