"""finetune, annotate, augment: learn what can be learnt, annotate rightly, propose what may be proposed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lea_core.annotate import annotate
from lea_core.augment import augment
from lea_core.errors import LeaError
from lea_core.finetune import choose_users, finetune
from lea_core.le_quality import quality, worse_than_start
from lea_core.params import AnnotateParams, AugmentParams, LeParams
from lea_core.sequences import SPLITS, Sequences, owned_steps, sample_actions, window_batches, windows
from lea_core.tables import to_numpy
from tests.test_environment import make, shake

SETTINGS = {
    "seed": 0,
    "users_share": 0.5,
    "selection_users": 50,
    "history": 6,
    "recent_items": 2,
    "recent_decay": 0.5,
    "temperature": 0.25,
    "reward_negatives": 2,
    "reward_weight": 1.0,
    "reward_centring": 0.01,
    "weight_decay": 0.0,
    "patience": 20,
    "batch_tokens": 256,
    "heads": {"epochs": 30, "learning_rate": 0.02},
    "lora": {"rank": 2, "alpha": 4, "targets": ["q_proj", "v_proj"], "epochs": 2, "learning_rate": 0.005},
}


def circle(users: int, length: int, step: int = 2) -> Sequences:
    """Every user walks the nine items in a circle: item x is always followed by x + step. Last two events held out."""
    items = np.concatenate([(user + step * np.arange(length)) % 9 for user in range(users)]).astype(np.int64)
    split = np.tile(np.array([0] * (length - 2) + [1, 2], dtype=np.int8), users)
    return Sequences(items, split, np.arange(users + 1) * length, 9)


def test_le_learns_the_rule_of_the_log_and_never_ends_below_its_start(tmp_path: Path) -> None:
    sequences = circle(users=60, length=8)
    le, p = make(tmp_path), LeParams(**SETTINGS)
    users, unseen = choose_users(sequences.train(), p.users_share, np.random.default_rng(0))
    assert (len(users), len(np.intersect1d(users, unseen))) == (30, 0)
    before = quality(le, sequences, unseen, False, p)["valid"]
    curve = finetune(le, sequences.train(), users, unseen, False, p)
    after = quality(le, sequences, unseen, False, p)["valid"]
    assert before["le_ndcg10"] == pytest.approx(before["content_start_ndcg10"])
    # The next item follows from the last one alone, so every rank is 1 once that is learnt.
    assert after["le_ndcg10"] > 0.95
    assert after["le_reward_accuracy"] > 0.95
    assert after["content_start_ndcg10"] == before["content_start_ndcg10"] < 0.7
    assert max(row["ndcg10"] for row in curve) >= curve[0]["ndcg10"]


def test_an_le_below_its_start_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert not worse_than_start({"users": 3})
    assert not worse_than_start({"valid": {"le_ndcg10": 0.2, "content_start_ndcg10": 0.2}})
    assert worse_than_start({"valid": {"le_ndcg10": 0.1, "content_start_ndcg10": 0.2}})
    assert "the LE reaches NDCG@10 0.1000" in capsys.readouterr().err


def test_annotation_equals_one_prompt_per_state_and_action(tmp_path: Path) -> None:
    le, train = shake(make(tmp_path)), circle(users=3, length=8).train()  # six events each, windows of six
    states, rewards = annotate(le, train, AnnotateParams(sampled_actions=2, seed=0, batch_tokens=40))
    assert states.num_rows == 18
    assert rewards.num_rows == 15
    state, sampled = to_numpy(states, "state"), to_numpy(rewards, "sampled_actions")
    for row in range(rewards.num_rows):
        user, position = int(rewards["user"][row].as_py()), int(rewards["position"][row].as_py())
        history = train.user_items(user)[: position + 1]
        action = int(train.user_items(user)[position + 1])
        candidates = np.array([action, *sampled[row]])
        assert int(rewards["action"][row].as_py()) == action
        assert action not in sampled[row]
        with torch.no_grad():
            judged = le.judge(history[None], np.repeat(candidates[None, None], len(history), axis=1))
        expected = judged.action_rewards[0, -1].numpy()
        found = np.array([rewards["reward"][row].as_py(), *to_numpy(rewards, "sampled_rewards")[row]])
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_allclose(state[user * 6 + position], judged.state[0, -1].numpy(), atol=1e-3)


def test_proposals_are_the_best_unseen_items_and_carry_their_reward(tmp_path: Path) -> None:
    le, train = shake(make(tmp_path)), circle(users=3, length=6).train()
    states, _ = annotate(le, train, AnnotateParams(sampled_actions=1, seed=0, batch_tokens=999))
    actions = augment(le, train, states, repeats=False, params=AugmentParams(actions=2, batch_tokens=999))
    assert actions.num_rows == 9
    proposed, rewards = to_numpy(actions, "actions"), to_numpy(actions, "rewards")
    for row in range(9):
        user, position = int(actions["user"][row].as_py()), int(actions["position"][row].as_py())
        history = train.user_items(user)
        with torch.no_grad():
            judged = le.judge(history[None, : position + 1], np.tile(proposed[row], (1, position + 1, 1)))
        scores = judged.scores[0, -1].numpy().copy()
        scores[history[: position + 2]] = -np.inf  # the history and the logged next item
        assert proposed[row].tolist() == np.argsort(-scores)[:2].tolist()
        np.testing.assert_allclose(rewards[row], judged.action_rewards[0, -1].numpy(), atol=1e-3)
    with pytest.raises(LeaError, match=r"augment\.actions 5: with 9 items and a history of 4"):
        augment(le, train, states, repeats=False, params=AugmentParams(actions=5, batch_tokens=999))
    with pytest.raises(LeaError, match="its rows are not the training events"):
        augment(le, circle(users=4, length=6).train(), states, False, AugmentParams(actions=1, batch_tokens=999))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 12), st.integers(1, 40))
def test_windows_own_every_position_and_every_step_once(lengths: list[int], history: int, budget: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    train = Sequences(np.zeros(offsets[-1], dtype=np.int64), np.zeros(offsets[-1], np.int8), offsets, 1)
    cut = window_batches(windows(train, np.arange(len(lengths)), history), budget)
    everything = [window for batch in cut for window in batch]
    owned = sorted((w.user, p) for w in everything for p in range(w.new, w.end))
    assert owned == [(user, p) for user, length in enumerate(lengths) for p in range(length)]
    assert all(w.length <= history and (w.start == 0 or w.new - w.start >= history // 2) for w in everything)
    assert all(len(batch) == 1 or batch[0].length * len(batch) <= budget for batch in cut)
    if history > 1:
        steps = sorted(
            (batch[row].user, batch[row].start + time)
            for batch in cut
            for row, time in zip(*owned_steps(batch), strict=True)
        )
        assert steps == [(user, p) for user, length in enumerate(lengths) for p in range(length - 1)]


@given(st.integers(2, 9), st.integers(0, 2**31))
def test_sampled_actions_never_hold_the_logged_one(num_items: int, seed: int) -> None:
    logged = np.arange(num_items).repeat(30)
    sampled = sample_actions(logged, 3, num_items, np.random.default_rng(seed))
    assert not (sampled == logged[:, None]).any()
    assert set(sampled[logged == 0].ravel()) <= set(range(1, num_items))
    with pytest.raises(LeaError, match="one item leaves nothing to sample against"):
        sample_actions(np.zeros(1, np.int64), 1, 1, np.random.default_rng(0))


def test_subset_of_nobody_is_refused() -> None:
    with pytest.raises(LeaError, match=r"users_share 0\.01 of 12 users .* leaves the LE none"):
        choose_users(circle(12, 8).train(), 0.01, np.random.default_rng(0))
    assert SPLITS == ("train", "valid", "test")
