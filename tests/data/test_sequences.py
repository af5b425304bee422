"""sequences.py: flat arrays of ranges and histories, by hand and against loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lea_core.data.sequences import batches, from_columns, ragged_ranges, seen_pairs


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=8))
def test_ragged_ranges_against_a_loop(ranges: list[tuple[int, int]]) -> None:
    starts, lengths = np.array(ranges, dtype=np.int64).reshape(-1, 2).T
    owner, numbers = ragged_ranges(starts, lengths)
    wanted = [(place, start + step) for place, (start, length) in enumerate(ranges) for step in range(length)]
    assert list(zip(owner.tolist(), numbers.tolist(), strict=True)) == wanted


def test_the_items_of_a_history_by_hand() -> None:
    """User 0 has the items 5, 6, 5, user 2 the item 7; of the rows 1, 2 and 3, the last two end a sequence."""
    sequences = from_columns(np.array([0, 0, 0, 2]), np.array([5, 6, 5, 7]), np.zeros(4, np.int8), 9)
    owner, items = seen_pairs(sequences, np.array([1, 2, 3]))
    assert [owner.tolist(), items.tolist()] == [[0, 0, 1, 1, 1, 2], [5, 6, 5, 6, 5, 7]]
    owner, items = seen_pairs(sequences, np.array([1, 2, 3]), with_next=True)
    assert [owner.tolist(), items.tolist()] == [[0, 0, 0, 1, 1, 1, 2], [5, 6, 5, 5, 6, 5, 7]]


def test_a_batch_has_a_row_at_least() -> None:
    assert list(batches(3, 0)) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert list(batches(3, 2)) == [slice(0, 2), slice(2, 3)]
