"""benchmarks/annotation/methods.py: a prompt for everything and a cache of prefixes give what the packed pass gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.annotation.methods import Annotation, cut, kv_cache, naive
from lea_core.data.sequences import Sequences, learning_steps, windows
from lea_core.environment.model import Environment
from lea_core.llm.packing import packs
from tests.support.tiny_le import ITEMS, circle, make, sequences, shake

LOG = sequences([3, 5, 1, 8, 0, 2, 4, 3, 6, 5, 7], [2], [], [0, 7, 7, 1], [6, 4], [8, 1, 1, 2, 0, 3, 7], [5])
Way = Callable[[Environment, Sequences, np.ndarray, np.ndarray, int, int], Annotation]


def packed(le: Environment, log: Sequences, users: np.ndarray, actions: np.ndarray, history: int) -> Annotation:
    """As annotate() does it, of these users alone, in float32."""
    states = np.full((len(log.items), le.heads.state_width), np.nan, dtype=np.float32)
    logged_rewards, rewards = np.full(len(actions), np.nan), np.full(actions.shape, np.nan)
    parts = packs(log, windows(log, users, history), 40, actions.shape[1], learning_steps(log))
    for part in parts:
        acting = part.events[part.acting]
        with torch.inference_mode():
            judged = le.predict(log, part, actions[acting])
        states[part.events[part.owned]] = judged.states[torch.from_numpy(part.owned)].numpy()
        logged_rewards[acting], rewards[acting] = judged.logged_rewards.numpy(), judged.rewards.numpy()
    events = np.concatenate([np.arange(*log.offsets[user : user + 2]) for user in users])
    steps = events[learning_steps(log)[events]]
    tokens = sum(part.tokens for part in parts)
    return Annotation(states[events], logged_rewards[steps], rewards[steps], tokens, tokens)


@pytest.mark.parametrize("way", [naive, kv_cache])
@pytest.mark.parametrize("history", [4, 5, 6, 20])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_gives_what_the_packed_pass_gives(tmp_path: Path, kind: str, history: int, way: Way) -> None:
    le, users = shake(make(tmp_path, kind)), np.array([5, 0, 1, 2, 3, 4])  # in an order of their own; one left out
    actions = np.random.default_rng(0).integers(0, ITEMS, size=(len(LOG.items), 3))
    wanted = packed(le, LOG, users, actions, history)
    for batch_tokens in (1, 17, 999):
        found = way(le, LOG, users, actions, history, batch_tokens)
        assert found.states.shape == (25, le.heads.state_width)
        assert found.states.dtype == np.float32
        for name in ("states", "logged_rewards", "rewards"):
            given, expected = getattr(found, name), getattr(wanted, name)
            assert given.shape == expected.shape
            np.testing.assert_allclose(given, expected, atol=1e-4, rtol=0.0)
    if way is kv_cache:
        assert found.real_tokens == wanted.real_tokens  # the cache spares what packing spares


@pytest.mark.parametrize("way", [naive, kv_cache])
def test_rewards_are_not_all_alike(tmp_path: Path, way: Way) -> None:
    """The test above would not see an h_{t,a} that is ignored if the rewards hardly depended on it."""
    le, log = shake(make(tmp_path)), circle(4, 9).train()
    actions = np.tile(np.arange(ITEMS), (len(log.items), 1))
    found = way(le, log, np.arange(4), actions, 6, 64)
    logged = log.items[1:][learning_steps(log)[:-1]]
    np.testing.assert_allclose(found.rewards[np.arange(len(logged)), logged], found.logged_rewards, atol=1e-4)
    with torch.no_grad():
        le.heads.reward_score.weight.zero_()
    assert np.abs(way(le, log, np.arange(4), actions, 6, 64).rewards - found.rewards).max() > 0.1


def test_tokens_by_hand(tmp_path: Path) -> None:
    le, log = shake(make(tmp_path)), sequences([3, 5, 1], [2], [], [0, 7])
    actions = np.zeros((6, 2), dtype=np.int64)
    users = np.arange(4)
    # States: prompts of 1 + 2 + 3, 1, 1 + 2 tokens. Actions, three for each of three steps: of 2, 3 and 2 tokens.
    found = naive(le, log, users, actions, 6, 999)
    assert found.real_tokens == 10 + 3 * 7
    assert found.computed_tokens == 3 * 3 + 3 * 1 + 9 * 3  # states 3 2 2 | 1 1 1: what is much shorter is read apart
    # Six tokens a batch: states 3 2 | 2 | 1 1 1; each step's actions alone, the longest first.
    assert naive(le, log, users, actions, 6, 6).computed_tokens == 6 + 2 + 3 + 9 + 6 + 6
    # Windows of 3, 1, 2 tokens and two actions for each of three steps.
    found = kv_cache(le, log, users, actions, 6, 999)
    assert found.real_tokens == 6 + 6
    assert found.computed_tokens == 2 * 3 + 1 + 6  # windows 3 2 | 1
    assert kv_cache(le, log, users, actions, 6, 5).computed_tokens == 3 + 2 + 1 + 6
    # Read two at a time, user 0's second window is 5 1; it rereads 5 for its own state and for the step out of 5.
    assert kv_cache(le, log, users, actions, 2, 999).real_tokens == 2 + 2 + 1 + 2 + 6
    assert naive(le, log, users, actions, 2, 999).real_tokens == (1 + 2) + (1 + 2) + 1 + (1 + 2) + 3 * 3 * 2


def test_batches_are_alike_within_the_budget() -> None:
    lengths = np.array([1, 9, 6, 5, 1, 1, 7, 30])
    assert [batch.tolist() for batch in cut(lengths, 18)] == [[7], [1, 6], [2, 3], [0, 4, 5]]
    assert [batch.tolist() for batch in cut(lengths, 18, least=9)] == [[7], [1, 6], [2, 3], [0, 4], [5]]
    assert not list(cut(lengths[:0], 18))


@pytest.mark.parametrize("way", [naive, kv_cache])
def test_nobody_to_annotate(tmp_path: Path, way: Way) -> None:
    le = shake(make(tmp_path))
    found = way(le, LOG, np.array([2]), np.zeros((len(LOG.items), 3), dtype=np.int64), 6, 99)
    assert found == Annotation(found.states, found.logged_rewards, found.rewards, 0, 0)
    assert (len(found.states), found.logged_rewards.shape, found.rewards.shape) == (0, (0,), (0, 3))
