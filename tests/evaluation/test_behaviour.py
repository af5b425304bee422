import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences
from lea_core.evaluation.off_policy import behaviour
from lea_core.evaluation.off_policy.behaviour import count, events, fit, log_likelihoods
from tests.support.tiny_project import log

# user 0: 0 1 | 2 | 3; user 1: 0 1 0 | 1 | 2
SEQUENCES = Sequences(
    np.array([0, 1, 2, 3, 0, 1, 0, 1, 2]), np.array([0, 0, 1, 2, 0, 0, 0, 1, 2], dtype=np.int8), np.array([0, 4, 9]), 4
)


def test_by_hand() -> None:
    """Five training events: item 0 three times, item 1 twice; 0 -> 1 twice, 1 -> 0 once. Smoothing 1/2 an item."""
    found = count(SEQUENCES.train(), smoothing=0.5, repeats=True)
    assert found.popularity.tolist() == [3.5 / 7, 2.5 / 7, 0.5 / 7, 0.5 / 7]
    users, positions = SEQUENCES.targets("valid")  # 1 -> 2 and 0 -> 1
    parts = found.parts(SEQUENCES, users, positions)
    assert parts.t.tolist() == [0.0, 1.0]
    assert parts.mixed(0.2) == pytest.approx([0.8 * 0.5 / 7, 0.2 + 0.8 * 2.5 / 7])
    users, positions = SEQUENCES.targets("test")  # 2 -> 3 and 1 -> 2; nothing follows 2 in training
    assert found.parts(SEQUENCES, users, positions).mixed(0.2) == pytest.approx([0.5 / 7, 0.8 * 0.5 / 7])
    unseen = count(SEQUENCES.train(), smoothing=0.5, repeats=False)
    users, positions = events(SEQUENCES, "valid", repeats=False)
    assert users.tolist() == [0]  # user 1 had item 1 before
    # without 0 and 1, two items are left that popularity knows nothing of; 1 -> 0 takes 0.2 of what is gone
    assert unseen.parts(SEQUENCES, users, positions).mixed(0.2) == pytest.approx([0.5])


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.booleans(), st.floats(0.0, 0.99))
def test_probabilities_of_all_candidates_sum_to_one(seed: int, repeats: bool, mixture: float) -> None:
    sequences = log(users=4, longest=7, seed=seed)
    found = count(sequences.train(), smoothing=0.1, repeats=repeats)
    users, positions = sequences.targets("test")
    rows = sequences.offsets[users] + positions
    total = np.zeros(len(rows))
    for item in range(sequences.num_items):
        items = sequences.items.copy()
        items[rows] = item
        other = Sequences(items, sequences.split, sequences.offsets, sequences.num_items)
        probability = found.parts(other, users, positions).mixed(mixture)
        seen = [item in sequences.user_items(user)[:position] for user, position in zip(users, positions, strict=True)]
        total += np.where(np.array(seen) & (not repeats), 0.0, probability)
    assert total == pytest.approx(np.ones(len(rows)), abs=1e-12)


def test_held_out_events_are_not_counted() -> None:
    sequences = log(users=20)
    items = np.where(sequences.split > 0, 8 - sequences.items, sequences.items)
    other = count(Sequences(items, sequences.split, sequences.offsets, 9).train(), 1.0, False)
    same = count(sequences.train(), 1.0, False)
    assert all(np.array_equal(getattr(same, name), getattr(other, name)) for name in ("popularity", "pairs", "shares"))


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = log(users=20, longest=6)
    users, positions = events(sequences, "test", repeats=False)
    whole = fit(sequences, 1.0, False).of(sequences, users, positions)
    monkeypatch.setattr(behaviour, "PAIRS_AT_ONCE", 1)
    assert [part.tolist() for part in events(sequences, "test", repeats=False)] == [users.tolist(), positions.tolist()]
    assert fit(sequences, 1.0, False).of(sequences, users, positions).tolist() == whole.tolist()


def test_validation_chooses_the_mixture() -> None:
    """Where an item tells the next one, transitions get all the weight; where it tells nothing, hardly any."""
    start = np.random.default_rng(0).integers(0, 9, 300)
    cycles = (start[:, None] + np.arange(8)) % 9
    split = np.tile(np.array([0, 0, 0, 0, 0, 0, 1, 2], dtype=np.int8), 300)
    offsets = np.arange(0, 2401, 8)
    ordered = Sequences(cycles.reshape(-1), split, offsets, 9)
    assert fit(ordered, 1.0, True).mixture == 0.99
    found = log_likelihoods(fit(ordered, 1.0, True), ordered, "test")
    assert found["mixture"] == pytest.approx(np.log(0.99 + 0.01 / 9), abs=1e-3)
    assert found["popularity"] == pytest.approx(found["uniform"], abs=0.01) == -np.log(9)
    shuffled = Sequences(np.random.default_rng(1).integers(0, 9, 2400), split, offsets, 9)
    assert fit(shuffled, 1.0, True).mixture < 0.3


def test_without_validation_events_it_is_an_error() -> None:
    only = Sequences(SEQUENCES.items, np.zeros(9, dtype=np.int8), SEQUENCES.offsets, 4)
    with pytest.raises(LeaError, match="no validation event to choose the behaviour policy by"):
        fit(only, 1.0, False)
