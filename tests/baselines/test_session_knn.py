"""session_knn.py: a case by hand, any case against plain loops, and nobody a neighbour of himself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lea_core.baselines import neighbours as baselines
from lea_core.baselines.neighbours import of_users
from lea_core.baselines.rankers.session_knn import session_neighbours
from lea_core.data.sequences import Sequences, histories
from tests.baselines.test_neighbours import sequences

ITEMS = 6
LISTS = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=6), min_size=1, max_size=8)


def test_by_hand() -> None:
    """History 1, 0, 3 with two recent ones: item 3 weighs 1, item 0 a half."""
    train = sequences([[3, 4], [0, 5], [3, 0, 2], [3, 0], [1, 5]], ITEMS)
    times = np.zeros(11, dtype=np.int64)
    two = session_neighbours(train, times, recent=2, neighbours=2, idf=False)
    # Nearest: user 2 with 1.5; user 3 would be so too, but has nothing new; then user 0 with 1.
    expected = np.zeros((2, ITEMS))
    expected[0, [3, 0, 2, 4]] = [2.5, 1.5, 1.5, 1.0]  # the second history is empty
    np.testing.assert_allclose(two(np.array([[1, 0, 3], [-1, -1, -1]])).numpy(), expected)
    rare = session_neighbours(train, times, recent=1, neighbours=9, idf=True)(np.array([[-1, 4]])).numpy()
    item_4, item_3 = np.log(1 + 5 / 1), np.log(1 + 5 / 3)
    np.testing.assert_allclose(rare, [[0, 0, 0, item_4 * item_3, item_4 * item_4, 0]], rtol=1e-6)


def test_of_equally_near_ones_the_latest() -> None:
    train = sequences([[0, 1], [0, 2], [0, 3]], ITEMS)
    scorer = session_neighbours(train, np.array([9, 5, 0, 7, 0, 6]), recent=1, neighbours=1, idf=False)
    assert scorer(np.array([[0]])).tolist() == [[1.0, 0.0, 1.0, 0.0, 0.0, 0.0]]


def by_loops(
    lists: list[list[int]], ended: list[int], history: list[int], recent: int, neighbours: int, idf: bool
) -> np.ndarray:
    """The equations of session_knn.py, user by user and item by item."""
    sets = [set(one) for one in lists]
    takers = [max(sum(item in one for one in sets), 1) for item in range(ITEMS)]
    factor = [np.log1p(len(lists) / count) if idf else 1.0 for count in takers]
    read = min(len(history), recent)
    weights: dict[int, float] = {}
    for age, item in enumerate(reversed(history)):
        weights.setdefault(item, max(read - age, 0) / read * factor[item])
    near = []
    for user, items in enumerate(sets):
        similarity = np.float32(sum(weights.get(item, 0.0) for item in sorted(items)))
        if similarity > 0 and not items <= set(history):
            near.append((-similarity, -ended[user], user))
    scores = np.zeros(ITEMS)
    for negative, _, user in sorted(near)[:neighbours]:
        for item in sets[user]:
            scores[item] -= float(negative) * factor[item]
    return scores


@settings(max_examples=60, deadline=None)
@given(
    LISTS,
    st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=5), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([5, 17, 10**6]),
    st.randoms(use_true_random=False),
)
def test_against_plain_loops_in_blocks_of_any_size(lists, asked, recent, neighbours, idf, block, random) -> None:
    train = sequences(lists, ITEMS)
    times = np.array([random.randrange(3) for _ in train.items], dtype=np.int64)
    ended = [int(times[end - 1]) if one else 0 for one, end in zip(lists, train.offsets[1:], strict=True)]
    rows = np.full((len(asked), 5), -1)
    for row, history in zip(rows, asked, strict=True):
        row[5 - len(history) :] = history
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "BLOCK", block)
        found = session_neighbours(train, times, recent, neighbours, idf)(rows)
    expected = [by_loops(lists, ended, history, recent, neighbours, idf) for history in asked]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, ITEMS - 1), min_size=3, max_size=7), min_size=2, max_size=6), st.booleans())
def test_nobody_is_a_neighbour_of_himself(lists: list[list[int]], masked: bool) -> None:
    """Held-out events score the same where the user's own training events are taken away."""
    split = np.concatenate([[0] * (len(one) - 2) + [1, 2] for one in lists]).astype(np.int8)
    every = sequences(lists, ITEMS)
    log = Sequences(every.items, split, every.offsets, ITEMS)
    train = log.train()
    owners, _ = train.users_and_positions()
    times = np.zeros(len(train.items), dtype=np.int64)
    whole = session_neighbours(train, times, recent=2 + masked, neighbours=2, idf=False)
    for name in ("valid", "test"):
        for user, position in zip(*log.targets(name), strict=True):
            history = histories(log, np.array([user]), np.array([position]), 7)
            others = np.delete(np.arange(log.num_users), user)
            without = session_neighbours(of_users(train, others), times[owners != user], 2 + masked, 2, idf=False)
            assert whole(history).tolist() == without(history).tolist()
