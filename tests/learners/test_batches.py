"""Windows and transitions, and what is drawn for them."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences
from lea_core.learners.batches import TrainingData, training_windows
from lea_core.learners.supervision import Supervision, transitions
from tests.support.circle import CPU, RNG, WORLD, networks, params, sequences


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 7), st.integers(0, 5))
def test_windows_cover_every_target_once(lengths: list[int], history: int, seed: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    train = Sequences(np.zeros(offsets[-1], int), np.zeros(offsets[-1], np.int8), offsets, 1)
    wanted = [row + 1 for row in transitions(train)]
    assert wanted == [row for first, end in pairwise(offsets) for row in range(first + 1, end)]
    if not wanted:
        with pytest.raises(LeaError, match="no user has two training events"):
            training_windows(train, history, np.random.default_rng(seed))
        return
    starts, stops = training_windows(train, history, np.random.default_rng(seed))
    assert [row for start, stop in zip(starts, stops, strict=True) for row in range(start + 1, stop)] == wanted
    assert (stops - starts).max() <= history + 1


def test_batch_by_hand() -> None:
    train = sequences([6, 5]).train()  # items 0 1 2 3 and 1 2 3
    rewards = torch.tensor([10.0, 11.0, 12.0, 20.0, 21.0])
    states = torch.arange(7, dtype=torch.float16)[:, None]
    given = Supervision(rewards, states, torch.arange(5)[:, None], torch.arange(5.0)[:, None])
    data = TrainingData(train, given, params().methods.snqn, params().train, CPU)
    # user 0 from its second event on; user 1 without its last
    batch = data.packed(np.array([1, 4]), np.array([4, 6]), RNG)
    assert batch.items.tolist() == [[1, 2, 3], [1, 2, -1]]
    assert batch.events.tolist() == [0, 1, 2, 3, 4]
    assert batch.source.tolist() == [0, 1, 3]
    assert batch.action.tolist() == [2, 3, 2]
    assert batch.last.tolist() == [False, True, False]  # the window's end is no user's end
    assert batch.reward.tolist() == [11.0, 12.0, 20.0]
    assert batch.le_states is not None
    assert batch.le_states.tolist() == [[1.0], [2.0], [3.0], [4.0], [5.0]]
    assert batch.sampled_actions is not None
    assert batch.sampled_actions.tolist() == [[1], [2], [3]]
    hidden = torch.arange(6.0).view(2, 3, 1)
    assert batch.states(hidden).tolist() == [[0.0], [1.0], [2.0], [3.0], [4.0]]


def test_transitions_by_hand() -> None:
    train = sequences([8, 5]).train()  # items 0 1 2 3 4 5 and 1 2 3
    rewards = torch.arange(7.0)
    p = params({"train.batches": {"kind": "transitions", "size": 2}})  # train.history is 4
    data = TrainingData(train, Supervision(rewards), p.methods.sqn, p.train, CPU)
    batch = data.transitions(np.array([4, 6]), RNG)  # user 0 after item 4, user 1 after its first
    assert batch.items.tolist() == [[1, 2, 3, 4], [2, 3, 4, 5], [1, -1, -1, -1], [1, 2, -1, -1]]  # s, s', s, s'
    hidden = torch.arange(16.0).view(4, 4, 1)
    assert batch.states(hidden).flatten().tolist() == [3.0, 7.0, 8.0, 13.0]
    assert batch.source.tolist() == [0, 2]
    assert batch.action.tolist() == [5, 2]
    assert batch.last.tolist() == [True, False]
    assert batch.reward.tolist() == [4.0, 5.0]
    plain = TrainingData(train, Supervision(rewards), p.methods.supervised, p.train, CPU)
    assert plain.transitions(np.array([4, 6]), RNG).items.tolist() == [[1, 2, 3, 4], [1, -1, -1, -1]]  # s alone


def test_an_epoch_of_transitions_takes_each_once() -> None:
    p = params({"train.batches": {"kind": "transitions", "size": 5}})
    rewards = torch.arange(float(len(transitions(WORLD.train()))))  # each transition's own number
    data = TrainingData(WORLD.train(), Supervision(rewards), p.methods.sqn, p.train, CPU)
    taken = [batch.reward.tolist() for batch in data.epoch(np.random.default_rng(0))]
    assert max(map(len, taken)) == 5
    assert sorted(number for numbers in taken for number in numbers) == rewards.tolist()


def test_drawn_items_and_their_expected_counts() -> None:
    train = Sequences(np.array([0, 0, 0, 1]), np.zeros(4, np.int8), np.array([0, 4]), 3)
    p = params({"train.loss": {"name": "sampled_softmax", "negatives": 2, "popularity": 1.0}})
    data = TrainingData(train, Supervision(torch.ones(3)), p.methods.supervised, p.train, CPU)
    share = torch.tensor([4.0, 2.0, 1.0]) / 7  # training counts 3, 1, 0, plus 1
    counts, generator = torch.zeros(3), np.random.default_rng(0)
    for _ in range(1000):
        batch = next(data.epoch(generator))
        assert batch.loss_items is not None
        torch.testing.assert_close(batch.loss_log_counts, (2 * share[batch.loss_items]).log())
        counts += batch.loss_items.bincount(minlength=3)
    torch.testing.assert_close(counts / counts.sum(), share, atol=0.02, rtol=0.0)


def test_the_greedy_action_is_looked_for_among_the_drawn_and_the_logged() -> None:
    p = params({"train.greedy_items": 2})
    train = WORLD.train()
    data = TrainingData(train, Supervision(torch.ones(len(transitions(train)))), p.methods.sqn, p.train, CPU)
    batch = data.packed(np.array([0]), np.array([4]), RNG)  # actions 1, 2, 3
    assert batch.greedy_items is not None
    items = batch.greedy_items.tolist()
    assert {1, 2, 3} <= set(items)
    assert len(items) <= 5
    online, _ = networks(p, 10, None)
    states = torch.randn(6, 16)
    q = online.critic(states)
    assert online.greedy(states, batch.greedy_items).flatten().tolist() == [
        items[place] for place in q[:, items].argmax(dim=1).tolist()
    ]
    assert torch.equal(online.greedy(states, torch.arange(10)), online.greedy(states, None))


@pytest.mark.parametrize(
    ("changes", "num_items", "message"),
    [
        ({"methods.snqn.negatives": 10}, 10, "the method's negatives is 10, but .* has 10 items: use fewer"),
        ({"train.loss": {"name": "gbce", "negatives": 64, "calibration": 0.5}}, 10, "train.loss.negatives is 64, but"),
        ({"train.greedy_items": 10}, 10, "train.greedy_items is 10, but .* has 10 items"),
        ({}, 1, "one item leaves nothing to choose from: keep more items"),
    ],
)
def test_what_a_small_catalogue_cannot_give(changes: dict[str, Any], num_items: int, message: str) -> None:
    p, world = params(changes), sequences([6], num_items)
    with pytest.raises(LeaError, match=message):
        TrainingData(world.train(), Supervision(torch.ones(3)), p.methods.snqn, p.train, CPU)


@pytest.mark.parametrize("kind", ["packed", "transitions"])
def test_sequences_of_one_event_teach_nothing(kind: str) -> None:
    p, world = params({"train.batches": {"kind": kind, "size": 8}}), sequences([3, 3])
    data = TrainingData(world.train(), Supervision(torch.ones(0)), p.methods.snqn, p.train, CPU)
    with pytest.raises(LeaError, match="no user has two training events: give more data"):
        next(data.epoch(RNG))
