"""annotate, augment: annotate rightly, propose what may be proposed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lea_core.annotate import annotate
from lea_core.augment import augment
from lea_core.environment import Environment
from lea_core.errors import LeaError
from lea_core.params import AnnotateParams, AugmentParams
from lea_core.sequences import Window, sample_actions, windows
from lea_core.tables import to_numpy
from tests.tiny_le import circle, make, sequences, shake

ANNOTATE = AnnotateParams(sampled_actions=2, seed=0, batch_tokens=40)
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


def test_annotation_equals_one_prompt_per_state_and_action(tmp_path: Path) -> None:
    le, train = shake(make(tmp_path, history=4)), sequences([3, 5, 1, 8, 0, 2, 4], [6], [], [2, 2, 7, 8])
    states, rewards = annotate(le, train, ANNOTATE)
    users, positions = train.users_and_positions()
    assert states["user"].to_pylist() == users.tolist()
    assert states["position"].to_pylist() == positions.tolist()
    assert list(zip(rewards["user"].to_pylist(), rewards["position"].to_pylist(), strict=True)) == [
        *[(0, position) for position in range(6)],
        *[(3, position) for position in range(3)],
    ]

    def reader(user: int, position: int) -> Window:
        return next(w for w in windows(train, np.array([user]), 4) if w.new <= position < w.end)

    for row, (user, position) in enumerate(zip(users.tolist(), positions.tolist(), strict=True)):
        history = train.user_items(user)[reader(user, position).start : position + 1].tolist()
        np.testing.assert_allclose(to_numpy(states, "state")[row], alone(le, history, [0])[0], **CLOSE)
    for row, action in enumerate(rewards["action"].to_pylist()):
        user, position = rewards["user"][row].as_py(), rewards["position"][row].as_py()
        history = train.user_items(user)[reader(user, position + 1).start : position + 1].tolist()
        sampled = to_numpy(rewards, "sampled_actions")[row].tolist()
        assert action == train.user_items(user)[position + 1]
        assert action not in sampled
        found = [rewards["reward"][row].as_py(), *to_numpy(rewards, "sampled_rewards")[row]]
        np.testing.assert_allclose(found, alone(le, history, [action, *sampled])[1], atol=1e-4)


def test_annotation_does_not_depend_on_the_batches(tmp_path: Path) -> None:
    le, train = shake(make(tmp_path)), circle(users=5, length=12).train()
    one, other = (
        annotate(le, train, AnnotateParams(sampled_actions=2, seed=0, batch_tokens=budget)) for budget in (20, 999)
    )
    assert one[1]["sampled_actions"].equals(other[1]["sampled_actions"])
    np.testing.assert_allclose(to_numpy(one[0], "state"), to_numpy(other[0], "state"), **CLOSE)
    np.testing.assert_allclose(to_numpy(one[1], "reward"), to_numpy(other[1], "reward"), atol=1e-4)


def test_broken_weights_are_told(tmp_path: Path) -> None:
    le, train = shake(make(tmp_path)), circle(users=2, length=8).train()
    le.heads.pooled[4] = torch.nan  # user 0 takes item 4 third, so its reward after the second is the first to break
    with pytest.raises(LeaError, match=r"user 0 at position 1 is not finite: run .* with a lower finetune_le"):
        annotate(le, train, ANNOTATE)


@pytest.mark.parametrize("repeats", [False, True])
def test_proposals_are_the_best_items_allowed_and_carry_their_reward(tmp_path: Path, repeats: bool) -> None:
    le, train = shake(make(tmp_path)), circle(users=3, length=6).train()
    states, _ = annotate(le, train, ANNOTATE)
    actions = augment(le, train, states, repeats, AugmentParams(actions=2, batch_tokens=30))
    assert actions.num_rows == 9
    for row in range(9):
        user, position = actions["user"][row].as_py(), actions["position"][row].as_py()
        items = train.user_items(user).tolist()
        state = torch.from_numpy(to_numpy(states, "state")[4 * user + position].astype(np.float32))
        with torch.no_grad():
            scores = le.heads.scores(state[None])[0].numpy()
        barred = [items[position + 1]] if repeats else items[: position + 2]
        best = [item for item in np.argsort(-scores).tolist() if item not in barred][:2]
        assert to_numpy(actions, "actions")[row].tolist() == best
        np.testing.assert_allclose(to_numpy(actions, "scores")[row], scores[best], rtol=1e-5)
        expected = alone(le, items[: position + 1], best)[1]
        np.testing.assert_allclose(to_numpy(actions, "rewards")[row], expected, atol=1e-4)


def test_proposals_that_cannot_be_made(tmp_path: Path) -> None:
    le, train = shake(make(tmp_path)), circle(users=3, length=6).train()
    states, _ = annotate(le, train, ANNOTATE)
    with pytest.raises(LeaError, match=r"augment\.actions 5: with 9 items and a history of 4"):
        augment(le, train, states, repeats=False, params=AugmentParams(actions=5, batch_tokens=999))
    assert augment(le, train, states, True, AugmentParams(actions=5, batch_tokens=999)).num_rows == 9
    with pytest.raises(LeaError, match="its rows are not the training events"):
        augment(le, circle(users=4, length=6).train(), states, False, AugmentParams(actions=1, batch_tokens=999))


@given(st.integers(2, 9), st.integers(0, 2**31))
def test_sampled_actions_never_hold_the_logged_one(num_items: int, seed: int) -> None:
    logged = np.arange(num_items).repeat(30)
    sampled = sample_actions(logged, 3, num_items, np.random.default_rng(seed))
    assert not (sampled == logged[:, None]).any()
    assert set(sampled[logged == 0].ravel()) <= set(range(1, num_items))
    with pytest.raises(LeaError, match="one item leaves nothing to sample against"):
        sample_actions(np.zeros(1, np.int64), 1, 1, np.random.default_rng(0))
