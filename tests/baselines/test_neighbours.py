"""neighbours.py: every scorer by hand, item neighbours against a loop over users, proposals against what they leave."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lea_core.baselines import neighbours
from lea_core.baselines.neighbours import (
    by_history,
    item_neighbours,
    nearest_by_users,
    of_users,
    popularity,
    propose,
    recent_counts,
    text_neighbours,
    with_repeats,
)
from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences

EMPTY = np.full((1, 3), -1)


def sequences(lists: list[list[int]], num_items: int) -> Sequences:
    items = np.array([item for one in lists for item in one], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, lists)])
    return Sequences(items, np.zeros(len(items), dtype=np.int8), offsets, num_items)


def test_popularity_and_text_by_hand() -> None:
    counts = popularity(np.array([3, 0, 7]))(np.array([[-1, 0], [-1, -1]]))
    assert counts.tolist() == [[3.0, 0.0, 7.0], [3.0, 0.0, 7.0]]
    scorer = text_neighbours(np.array([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0], [-5.0, 0.0]]))
    scores = scorer(np.array([[2, 1, 0], [0, 0, 2], [-1, -1, -1]]))
    expected = [[1.0, 0.8, 0.0, -0.6], [0.0] * 4, [0.0] * 4]  # of a zero vector, and of no history
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-6)


def test_recent_counts_by_hand() -> None:
    train = sequences([[0, 1], [1, 2, 2], [], [3]], 5)
    clock = np.array([10, 50, 20, 90, 110, 100])  # a span of 100
    assert recent_counts(train, clock, 0.2).tolist() == [0, 0, 2, 1, 0]  # from 90 on, 90 itself counts
    assert recent_counts(train, clock + 2**60, 0.2).tolist() == [0, 0, 2, 1, 0]  # in nanoseconds too
    assert recent_counts(train, clock, 1.0).tolist() == [1, 2, 2, 1, 0]
    for no_clock in ([7] * 6, [0, 1, 0, 1, 2, 0]):  # all at once, and the events of each user numbered
        assert recent_counts(train, np.array(no_clock), 0.2).tolist() == [1, 2, 2, 1, 0]
    assert recent_counts(sequences([[]], 2), np.zeros(0, dtype=np.int64), 0.2).tolist() == [0, 0]


def test_item_neighbours_by_hand() -> None:
    # Users who take 0: two, 1: three, 2: one; 0 and 1 share two (an item taken twice counts once), 1 and 2 share one.
    train = sequences([[0, 1, 0], [1, 0], [2, 1], []], 4)
    scorer = item_neighbours(train, recent=2, decay=0.5, shrinkage=1.0)
    near, far = 2 / (6**0.5 + 1), 1 / (3**0.5 + 1)
    scores = scorer(np.array([[2, 0, 1], [-1, 0, 2], [3, 3, 3], [-1, -1, -1]]))
    expected = [[near, 0.5 * near, far, 0], [0, 0.5 * near + far, 0, 0], [0] * 4, [0] * 4]
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=7), min_size=1, max_size=8), st.sampled_from([6, 13, 10**6]))
def test_similarities_against_a_loop_in_blocks_of_any_size(lists: list[list[int]], block: int) -> None:
    together: Counter[tuple[int, int]] = Counter()
    takers: Counter[int] = Counter()
    for one in lists:
        takers.update(set(one))
        together.update(permutations(set(one), 2))
    expected = np.zeros((6, 6))
    for (a, b), count in together.items():
        expected[a, b] = count / ((takers[a] * takers[b]) ** 0.5 + 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "BLOCK", block)
        index, similarity = nearest_by_users(sequences(lists, 6), shrinkage=0.5, neighbours=99)
        best, strongest = nearest_by_users(sequences(lists, 6), shrinkage=0.5, neighbours=2)
    found = torch.zeros(6, 6).scatter_add_(1, index, similarity)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(strongest.numpy(), -np.sort(-expected, axis=1)[:, :2], rtol=1e-6)
    np.testing.assert_allclose(found.gather(1, best).numpy(), strongest.numpy())
    for item, near in enumerate(best.tolist()):
        assert near == sorted(range(6), key=lambda other: (-expected[item, other], other))[:2]


def test_repeats_by_hand() -> None:
    """Steps 0-1, 1-0, 2-2: two of three repeat, so the history shares 2.5 / 4 and new items 1.5 / 4."""
    scorer = with_repeats(popularity(np.array([3, 1, 4, 0])), sequences([[0, 1, 0], [2, 2], [3]], 4))
    scores = scorer(np.array([[-1, 0, 1], [2, 2, 2], [-1, -1, -1], [-1, -1, 3]]))
    expected = [
        [0.625 * 3 / 4, 0.625 * 1 / 4, 0.375, 0.0],
        [0.375 * 3 / 4, 0.375 * 1 / 4, 0.625, 0.0],
        [0.375 * 3 / 8, 0.375 * 1 / 8, 0.375 * 4 / 8, 0.0],
        [0.375 * 3 / 8, 0.375 * 1 / 8, 0.375 * 4 / 8, 0.0],  # item 3 has no score to share
    ]
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-6)
    below = with_repeats(lambda items: torch.tensor([[-1.0, 2.0, 0.0]]).expand(len(items), -1), sequences([[0, 1]], 3))
    assert below(np.array([[2]])).tolist() == [[0.0, 0.75, 0.0]]  # no step of one: .5 / 2 repeat


def test_events_of_some_users_alone() -> None:
    found = of_users(sequences([[0, 1], [2], [], [3, 4]], 5), np.array([3, 2, 0]))
    assert [found.user_items(user).tolist() for user in range(4)] == [[0, 1], [], [], [3, 4]]


def test_proposals_leave_out_the_history_and_on_request_the_next_item() -> None:
    train = sequences([[4, 0, 1], [2]], 5)
    scorer = popularity(np.array([5, 4, 3, 2, 1]))
    users, positions = np.array([0, 0, 1]), np.array([0, 1, 0])
    rank = by_history(scorer, train, 2)
    found, _ = propose(rank, train, users, positions, count=2, skip_next=False, batch=2)
    assert found.tolist() == [[0, 1], [1, 2], [0, 1]]
    found, _ = propose(rank, train, users, positions, count=2, skip_next=True)
    assert found.tolist() == [[1, 2], [2, 3], [0, 1]]
    with pytest.raises(LeaError, match="fewer of the 5 items are unseen"):
        propose(rank, train, users, positions, count=4, skip_next=False)
