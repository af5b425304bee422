"""top_items.py: by hand, and against loops over the events."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences
from lea_core.metrics.beyond_accuracy import diversity
from lea_core.metrics.proposals import later_interaction_share
from tests.baselines.test_neighbours import sequences


def test_taken_later_by_hand() -> None:
    train = sequences([[0, 1, 2, 1], [3], [4, 0]], 6)
    users, positions = np.array([0, 0, 1, 2]), np.array([0, 2, 0, 0])
    proposed = np.array([[1, 2, 5], [1, 0, 2], [0, 1, 2], [1, 0, 5]])
    # Later: {1, 2, 1}, {1}, none (left out), {0}.
    found = later_interaction_share(proposed, train, users, positions, [1, 2, 3, 10], skip_next=False)
    assert found == {1: pytest.approx(2 / 3), 2: pytest.approx((1 + 1 / 2 + 1 / 2) / 3), 3: pytest.approx(4 / 9)}
    # After the next item: {2, 1} at the first state, the only one left.
    assert later_interaction_share(proposed, train, users, positions, [3], skip_next=True) == {3: pytest.approx(2 / 3)}
    with pytest.raises(LeaError, match="no state has a later training event"):
        later_interaction_share(proposed[2:3], train, users[2:3], positions[2:3], [1], skip_next=False)


@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=8), min_size=1, max_size=4), st.booleans())
def test_taken_later_against_a_loop(lists: list[list[int]], skip_next: bool) -> None:
    train = sequences(lists, 5)
    users, positions = train.users_and_positions()
    proposed = np.random.default_rng(0).integers(0, 5, size=(len(users), 4))
    shares = []
    for user, position, row in zip(users, positions, proposed, strict=True):
        later = lists[user][position + 1 + skip_next :]
        if later:
            shares.append(np.mean([item in later for item in row[:3]]))
    found = later_interaction_share(proposed, train, users, positions, [3], skip_next)
    assert found == {3: pytest.approx(np.mean(shares))}


def test_two_hundred_thousand_states_are_judged_at_once() -> None:
    rng = np.random.default_rng(0)
    items = rng.integers(0, 1000, size=200_000)
    train = Sequences(items, np.zeros(len(items), dtype=np.int8), np.arange(0, 200_001, 10), 1001)
    users, positions = train.users_and_positions()
    following = np.minimum(positions + 1, 9) + users * 10
    proposed = np.concatenate([items[following, None], np.full((len(items), 9), 1000)], axis=1)
    found = later_interaction_share(proposed, train, users, positions, [1, 10], skip_next=False)
    assert found == {1: 1.0, 10: pytest.approx(0.1)}
    assert diversity(proposed, rng.normal(size=(1001, 64)))["coverage"] == 1.0
