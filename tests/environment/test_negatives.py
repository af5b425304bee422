"""negatives.py: never the logged item, whatever the data; the windows and probabilities by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lea_core.common.errors import LeaError
from lea_core.environment.negatives import log_popularity, popularity_matched, text_hard, text_neighbours


@given(
    st.lists(st.integers(0, 4), min_size=3, max_size=9),
    st.integers(1, 12),
    st.integers(0, 99),
)
def test_a_negative_is_another_item_of_the_catalogue(counts: list[int], nearest: int, seed: int) -> None:
    rng, size = np.random.default_rng(seed), len(counts)
    logged = np.arange(2 * size).reshape(2, size) % size
    vectors = rng.normal(size=(size, 3)) * (np.arange(size) > 0)[:, None]  # the first item has no text
    for drawn in (
        popularity_matched(logged, np.array(counts), rng, 20, window=nearest),
        text_hard(text_neighbours(vectors, nearest), logged, rng, 20),
    ):
        assert drawn.shape == (2, size, 20)
        assert drawn.dtype == np.int64
        assert drawn.min() >= 0
        assert drawn.max() < size
        assert (drawn != logged[..., None]).all()


def test_matched_negatives_are_the_nearest_in_popularity() -> None:
    counts, rng = np.array([50, 1, 40, 2, 30, 3]), np.random.default_rng(0)
    drawn = popularity_matched(np.array([5, 0, 1]), counts, rng, 200, window=2)
    # In order of counts: 1, 3, 5, 4, 2, 0. In the middle one from each side, at the ends both from one.
    assert [set(row.tolist()) for row in drawn] == [{3, 4}, {2, 4}, {3, 5}]


def test_equally_popular_items_are_all_reached() -> None:
    drawn = [
        popularity_matched(np.array([0]), np.ones(9), np.random.default_rng(seed), 4, window=2) for seed in range(50)
    ]
    assert set(np.concatenate(drawn).ravel().tolist()) == set(range(1, 9))


def test_hard_negatives_are_the_nearest_by_cosine() -> None:
    vectors = np.array([[1.0, 0.0], [9.0, 1.0], [1.0, 1.0], [0.0, 0.1], [0.0, 0.0]])
    drawn = text_hard(text_neighbours(vectors, 2), np.array([0, 3, 4]), np.random.default_rng(0), 200)
    # Item 3 points up: next to it the diagonal, then item 1. Item 4 has no text: any other will do.
    assert [set(row.tolist()) for row in drawn] == [{1, 2}, {1, 2}, {0, 1, 2, 3}]


def test_of_equal_texts_the_lower_items_are_near() -> None:
    """Of items 0, 2, .. 58 with one text and 1, 3, .. 59 with another; item 60 has none."""
    vectors = np.concatenate([np.tile(np.eye(2), (30, 1)), np.zeros((1, 2))])
    found = text_neighbours(vectors, 12)
    for item in range(60):
        others = [other for other in range(item % 2, 60, 2) if other != item]
        assert sorted(found[item]) == others[:12]
    assert found[60].tolist() == [-1] * 12


def test_probability_of_a_draw_by_popularity() -> None:
    np.testing.assert_allclose(np.exp(log_popularity(np.array([4, 1, 0, 9]))), np.array([4, 1, 0, 9]) / 14)


def test_nothing_to_draw_from() -> None:
    rng, one = np.random.default_rng(0), np.array([0])
    with pytest.raises(LeaError, match="one item leaves nothing"):
        popularity_matched(one, np.array([3]), rng, 2)
    with pytest.raises(LeaError, match="one item leaves nothing"):
        text_neighbours(np.ones((1, 2)), 5)
    with pytest.raises(LeaError, match="no item has a training event"):
        log_popularity(np.array([0, 0]))
