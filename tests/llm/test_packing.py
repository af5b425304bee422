"""packing.py: every event, step and action stands where it belongs, and no token sees what is none of its business."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lea_core.data.sequences import Sequences, learning_steps, windows
from lea_core.llm.packing import LEAST_ROW, Packed, fitted_packs, packs
from tests.support.tiny_le import sequences

Packer = Callable[..., list[Packed]]
PACKERS = pytest.mark.parametrize("pack", [packs, fitted_packs])


def distinct(lengths: list[int]) -> Sequences:
    """Users of these many events; event n is of item n, so that every token tells which event it is."""
    ends = np.cumsum([0, *lengths]).tolist()
    return sequences(*[list(range(start, end)) for start, end in itertools.pairwise(ends)], items=ends[-1] + 1)


def sees(packed: Packed) -> np.ndarray:
    return (packed.mask(torch.float32, torch.device("cpu"))[:, 0] == 0).numpy()


def test_mask_by_hand() -> None:
    train = sequences([3, 5, 1], [2])
    (packed,) = packs(train, windows(train, np.arange(2), 6), 256, 1, learning_steps(train))
    # One row: items 3, 5, 1, the actions after 3 and after 5, then the other user's item 2.
    assert packed.items.tolist() == [[3, 5, 1, -1, -1, 2]]
    assert packed.positions.tolist() == [[0, 1, 2, 1, 2, 0]]
    assert sees(packed)[0].astype(int).tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 0, 0, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert packed.cells.tolist() == [0, 1, 2, 5]
    assert packed.following.tolist() == [1, 2, -1, -1]
    assert packed.acting.tolist() == [0, 1]
    assert packed.action_cells.tolist() == [[3], [4]]


def test_a_step_between_two_windows_belongs_to_the_later_one() -> None:
    train = sequences([0, 1, 2, 3, 4])
    (packed,) = packs(train, windows(train, np.arange(1), 4), 256, 1, learning_steps(train))
    # Windows 0 to 3 and 1 to 4, which overlap in 1 to 3: the step from 3 to 4 stands in the second alone.
    assert packed.events.tolist() == [0, 1, 2, 3, 1, 2, 3, 4]
    assert packed.owned.tolist() == [True] * 4 + [False] * 3 + [True]
    assert packed.acting.tolist() == [0, 1, 2, 6]
    assert packed.events[packed.following[packed.acting]].tolist() == [1, 2, 3, 4]


CASES = st.tuples(
    st.lists(st.integers(0, 25), min_size=1, max_size=6),  # lengths
    st.integers(2, 12),  # history
    st.integers(1, 300),  # budget
    st.integers(0, 3),  # actions
    st.integers(0, 99),  # seed of who and what is chosen
)


@PACKERS
@given(CASES)
def test_every_event_is_owned_and_every_chosen_step_acts_once(
    pack: Packer, case: tuple[list[int], int, int, int, int]
) -> None:
    lengths, history, budget, actions, seed = case
    train, rng = distinct(lengths), np.random.default_rng(seed)
    users = np.flatnonzero(rng.random(len(lengths)) < 0.8)
    chosen = rng.random(len(train.items)) < 0.7  # also where no event follows
    cut = pack(train, windows(train, users, history), budget, actions, chosen)
    mine = np.isin(train.users_and_positions()[0], users)
    owned = [event for packed in cut for event in packed.events[packed.owned].tolist()]
    assert sorted(owned) == np.flatnonzero(mine).tolist()
    acting = [event for packed in cut for event in packed.events[packed.acting].tolist()]
    assert sorted(acting) == (np.flatnonzero(mine & chosen).tolist() if actions else [])
    followed = learning_steps(train)
    for packed in cut:
        assert packed.action_cells.shape == (len(packed.acting), actions)
        for state in packed.acting.tolist():
            event = int(packed.events[state])
            assert not followed[event] or packed.events[packed.following[state]] == event + 1
        assert (packed.items.reshape(-1)[packed.cells] == train.items[packed.events]).all()


@PACKERS
@given(CASES)
def test_a_token_sees_the_events_of_its_window_up_to_its_own(
    pack: Packer, case: tuple[list[int], int, int, int, int]
) -> None:
    lengths, history, budget, actions, seed = case
    train, rng = distinct(lengths), np.random.default_rng(seed)
    chosen = rng.random(len(train.items)) < 0.7
    for packed in pack(train, windows(train, np.arange(len(lengths)), history), budget, actions, chosen):
        size = packed.items.shape[1]
        expected = np.zeros((len(packed.items) * size, len(packed.items) * size), dtype=bool)
        window = []  # cells of the window's events up to the one at hand
        for state, cell in enumerate(packed.cells.tolist()):
            window.append(cell)
            expected[cell, window] = True
            for row in np.flatnonzero(packed.acting == state):
                for action in packed.action_cells[row].tolist():
                    expected[action, [*window, action]] = True
                    assert packed.positions.reshape(-1)[action] == len(window)
            assert packed.positions.reshape(-1)[cell] == len(window) - 1
            if packed.following[state] < 0:
                window = []
        used = {*packed.cells.tolist(), *packed.action_cells.ravel().tolist()}
        assert len(used) == len(packed.cells) + packed.action_cells.size == packed.tokens
        for cell in range(len(expected)):
            expected[cell, cell] = True  # padding sees itself, so that its row is not empty
        found = np.zeros_like(expected)
        for number, row in enumerate(sees(packed)):
            part = slice(number * size, (number + 1) * size)
            found[part, part] = row
        assert (found == expected).all()


@PACKERS
@given(CASES)
def test_batches_keep_to_the_budget_unless_one_window_is_above_it(
    pack: Packer, case: tuple[list[int], int, int, int, int]
) -> None:
    lengths, history, budget, actions, _ = case
    train = distinct(lengths)
    for packed in pack(train, windows(train, np.arange(len(lengths)), history), budget, actions, learning_steps(train)):
        assert packed.items.size <= budget or (packed.following < 0).sum() == 1


@PACKERS
def test_little_padding(pack: Packer) -> None:
    rng = np.random.default_rng(0)
    train = distinct(rng.geometric(1 / 60, size=400).tolist())
    cut = pack(train, windows(train, np.arange(400), 100), 8 * LEAST_ROW, 2, learning_steps(train))
    assert sum(packed.tokens for packed in cut) > 0.95 * sum(packed.items.size for packed in cut)


@given(CASES)
def test_a_state_sees_half_of_the_history_or_all_there_is(case: tuple[list[int], int, int, int, int]) -> None:
    lengths, history, *_ = case
    for window in windows(distinct(lengths), np.arange(len(lengths)), history):
        assert window.length <= history
        assert window.start == 0 or window.new - window.start >= history // 2
