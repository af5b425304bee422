"""annotate, augment: annotate rightly, propose what may be proposed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lea_core.annotation.forward_pass import run_all
from lea_core.common.errors import LeaError
from lea_core.data.sequences import drawn_actions, learning_steps, sample_actions, windows
from lea_core.environment.model import Environment
from lea_core.environment.top_items import propose
from tests.support.tiny_le import circle, make, sequences, shake

CLOSE = {"atol": 2e-3, "rtol": 2e-3}  # of states, which are stored as float16


@torch.no_grad()
def alone(le: Environment, items: list[int], actions: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """State after these items and reward of each action there, one prompt for the state and one per action."""

    def hidden(prompt: list[int]) -> torch.Tensor:
        return le.llm.decoder(inputs_embeds=le.token[torch.tensor([prompt])], use_cache=False).last_hidden_state[0, -1]

    content, inputs = le.heads.inputs(torch.tensor([items[::-1]]), hidden(items)[None])
    of_actions = torch.stack([hidden([*items, action]) for action in actions])
    rewards = le.heads.rewards(content, inputs, torch.tensor([actions]), of_actions[None])
    return le.heads.state(content, inputs)[0].numpy(), rewards[0].numpy()


def test_a_pass_equals_one_prompt_per_state_and_action(tmp_path: Path) -> None:
    le, fast = (shake(make(tmp_path / name, history=4)) for name in ("plain", "fast"))
    fast.optimize_for_inference()
    train = sequences([3, 5, 1, 8, 0, 2, 4], [6], [], [2, 2, 7, 8])
    actions = np.random.default_rng(0).integers(0, 9, (len(train.items), 2))
    passed = run_all(fast, train, actions, batch_tokens=40)

    def history(user: int, position: int, owned: int) -> list[int]:
        """What the window that owns position `owned` reads up to `position`."""
        window = next(w for w in windows(train, np.array([user]), 4) if w.new <= owned < w.end)
        return train.user_items(user)[window.start : position + 1].tolist()  # type: ignore[no-any-return]

    followed = learning_steps(train)
    for event, (user, position) in enumerate(zip(*train.users_and_positions(), strict=True)):
        state, _ = alone(le, history(user, position, position), [0])
        np.testing.assert_allclose(passed.states[event], state, **CLOSE)
        if followed[event]:
            items = [train.items[event + 1], *actions[event]]
            _, rewards = alone(le, history(user, position, position + 1), items)
            np.testing.assert_allclose([passed.rewards[event], *passed.action_rewards[event]], rewards, atol=1e-3)


def test_a_pass_does_not_depend_on_the_batches(tmp_path: Path) -> None:
    le, train = shake(make(tmp_path)), circle(users=5, length=12).train()
    le.optimize_for_inference()
    actions = np.random.default_rng(0).integers(0, 9, (len(train.items), 2))
    one, other = (run_all(le, train, actions, budget) for budget in (20, 999))
    for name in ("states", "rewards", "action_rewards"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), **CLOSE)


@pytest.mark.parametrize("skip_seen", [False, True])
def test_proposals_are_the_likeliest_items_allowed(tmp_path: Path, skip_seen: bool) -> None:
    """Against P(a | s) in numpy: new items share 1 - r by their scores, those of the history r."""
    le, train = shake(make(tmp_path)), circle(users=3, length=6).train()
    share = le.heads.repeat_share.fill_(0.1).item()
    states = run_all(le, train, np.zeros((12, 1), np.int64), 999).states
    events = np.flatnonzero(learning_steps(train))
    actions, found = propose(le.heads, train, events, states[events], 2, skip_seen, skip_next=True)
    assert len(actions) == 9
    users, positions = train.users_and_positions()
    for row, event in enumerate(events):
        items, position = train.user_items(users[event]).tolist(), positions[event]
        with torch.no_grad():
            weights = le.heads.scores(torch.from_numpy(states[event].astype(np.float32))[None])[0].exp().numpy()
        seen = np.isin(np.arange(9), items[: position + 1])
        likely = np.where(seen, share * weights / weights[seen].sum(), (1 - share) * weights / weights[~seen].sum())
        excluded = items[: position + 2] if skip_seen else [items[position + 1]]
        best = [item for item in np.argsort(-likely).tolist() if item not in excluded][:2]
        assert actions[row].tolist() == best
        np.testing.assert_allclose(found[row], np.log(likely[best]), rtol=1e-4)


def test_proposals_hold_the_history_as_often_as_users_repeat(tmp_path: Path) -> None:
    """By scores alone the LE would propose what was just taken, whose text is nearest to itself."""
    le, train = shake(make(tmp_path)), circle(users=3, length=6).train()
    states = run_all(le, train, np.zeros((12, 1), np.int64), 999).states
    events = np.flatnonzero(learning_steps(train))
    users, positions = train.users_and_positions()
    histories = [set(train.user_items(users[event])[: positions[event] + 1].tolist()) for event in events]
    for share, wanted in ((1e-6, False), (1 - 1e-6, True)):
        le.heads.repeat_share.fill_(share)
        actions, _ = propose(le.heads, train, events, states[events], 1, skip_seen=False, skip_next=False)
        assert all((row[0] in history) == wanted for row, history in zip(actions.tolist(), histories, strict=True))


def test_proposals_that_cannot_be_made(tmp_path: Path) -> None:
    le, train = shake(make(tmp_path)), circle(users=3, length=6).train()
    events, states = np.flatnonzero(learning_steps(train)), np.zeros((9, le.heads.state_width), np.float16)
    with pytest.raises(LeaError, match=r"augment\.actions 5: with 9 items and a history of 4"):
        propose(le.heads, train, events, states, 5, skip_seen=True, skip_next=True)
    assert propose(le.heads, train, events, states, 5, skip_seen=False, skip_next=True)[0].shape == (9, 5)


@given(st.integers(2, 9), st.integers(0, 2**31), st.lists(st.integers(1, 6), min_size=2, max_size=5))
def test_drawn_actions_stay_when_others_come_or_go(num_items: int, seed: int, lengths: list[int]) -> None:
    train = sequences(*[[0] * length for length in lengths], items=num_items)
    ids, logged = [f"user {number}" for number in range(len(lengths))], np.arange(sum(lengths)) % num_items
    drawn = drawn_actions(ids, train, logged, 3, seed)
    assert not (drawn == logged[:, None]).any()
    assert drawn.min() >= 0
    assert drawn.max() < num_items
    without_first = sequences(*[[0] * length for length in [*lengths[1:-1], lengths[-1] + 1]], items=num_items)
    again = drawn_actions(ids[1:], without_first, np.append(logged, 0)[lengths[0] :], 3, seed)
    assert again[:-1].tolist() == drawn[lengths[0] :].tolist()


def test_drawn_actions_are_uniform() -> None:
    train = sequences([0] * 30_000, items=7)
    drawn = drawn_actions(["somebody"], train, np.full(30_000, 2), 2, 0)
    counts = np.bincount(drawn.ravel(), minlength=7)
    assert counts[2] == 0
    expected = 10_000
    assert (np.abs(np.delete(counts, 2) - expected) < 5 * expected**0.5).all()  # five standard deviations
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.03
    with pytest.raises(LeaError, match="one item leaves nothing to sample against"):
        drawn_actions(["somebody"], sequences([0], items=1), np.zeros(1, np.int64), 1, 0)


@given(st.integers(2, 9), st.integers(0, 2**31))
def test_sampled_actions_never_hold_the_logged_one(num_items: int, seed: int) -> None:
    logged = np.arange(num_items).repeat(30)
    sampled = sample_actions(logged, 3, num_items, np.random.default_rng(seed))
    assert not (sampled == logged[:, None]).any()
    assert set(sampled[logged == 0].ravel()) <= set(range(1, num_items))
    with pytest.raises(LeaError, match="one item leaves nothing to sample against"):
        sample_actions(np.zeros(1, np.int64), 1, 1, np.random.default_rng(0))
