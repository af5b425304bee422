"""Annotation: the LE's states and rewards of every training position (paper: s^e_t and R(s_t, a)).

In: a trained LE, the training events. Out: the `STATES` and `REWARDS` tables.

One pass of the LLM over each window gives all its states, the reward of each logged next item (it stands in the
sequence) and the rewards of the sampled actions appended to it. What is sampled depends on the seed, the user and the
position alone, so it does not change with the batches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch

from lea_core.environment import Environment
from lea_core.errors import LeaError
from lea_core.params import AnnotateParams
from lea_core.progress import announce, bar
from lea_core.sequences import Sequences, Window, sample_actions, window_batches, window_items, window_values, windows
from lea_core.tables import vectors


def each_batch(
    stage: str, train: Sequences, history: int, batch_tokens: int, tokens_per_item: int
) -> Iterator[list[Window]]:
    """All training sequences as window batches, with a forecast after the second one and a progress bar."""
    everyone = np.flatnonzero(np.diff(train.offsets) > 0)
    cut = window_batches(windows(train, everyone, history), batch_tokens, tokens_per_item)
    total = tokens_per_item * sum(window.length for batch in cut for window in batch)
    with bar(total, stage, "token") as progress:
        for number, batch in enumerate(cut):
            started = time.perf_counter()
            yield batch
            tokens = tokens_per_item * sum(window.length for window in batch)
            progress.update(tokens)
            if number == min(1, len(cut) - 1):  # the first batch warms up
                announce(stage, total, tokens / (time.perf_counter() - started))


def owned(window: Window) -> slice:
    """Times of a window's own positions."""
    return slice(window.new - window.start, window.length)


@torch.inference_mode()
def annotate(environment: Environment, train: Sequences, params: AnnotateParams) -> tuple[pa.Table, pa.Table]:
    """The STATES and REWARDS tables of all training positions, in order of user and position.

    Raises `LeaError` naming user and position where a state is not finite.
    """
    users, positions = train.users_and_positions()
    followed = np.append(users[1:] == users[:-1], False) if len(users) else np.zeros(0, dtype=bool)
    logged = np.where(followed, np.roll(train.items, -1), -1)  # (N,): the next training item, -1 after the last
    sampled = sample_actions(
        logged.clip(min=0), params.sampled_actions, train.num_items, np.random.default_rng(params.seed)
    )
    states = np.empty((len(users), environment.content.shape[1]), dtype=np.float16)
    rewards = np.full(len(users), np.nan, dtype=np.float32)
    sampled_rewards = np.empty(sampled.shape, dtype=np.float32)
    history = environment.shape.history
    for batch in each_batch("annotate", train, history, params.batch_tokens, 1 + params.sampled_actions):
        result = environment.judge(window_items(train, batch), window_values(train, batch, sampled, 0))
        next_items = result.items.roll(-1, dims=1).clamp(min=0)[..., None]
        next_hidden = result.hidden.roll(-1, dims=1)[:, :, None]
        logged_rewards = environment.reward(result.scores, next_items, next_hidden)[..., 0]
        for row, window in enumerate(batch):
            mine, offset = owned(window), train.offsets[window.user] + window.start
            rows = slice(offset + mine.start, offset + mine.stop)
            states[rows] = result.state[row, mine].half().cpu().numpy()
            sampled_rewards[rows] = result.action_rewards[row, mine].cpu().numpy()
            # The reward at a position needs the next item in the window: the last one comes from the next window,
            # which starts its own positions one later, so each window also fills the position before its first.
            first = max(mine.start - 1, 0)
            rewards[offset + first : offset + mine.stop - 1] = logged_rewards[row, first : mine.stop - 1].cpu().numpy()
    _check_finite(states, rewards, followed, users, positions)
    return _states(users, positions, states), _rewards(
        users[followed],
        positions[followed],
        logged[followed],
        rewards[followed],
        sampled[followed],
        sampled_rewards[followed],
    )


def _check_finite(
    states: np.ndarray, rewards: np.ndarray, followed: np.ndarray, users: np.ndarray, positions: np.ndarray
) -> None:
    broken = ~np.isfinite(states).all(axis=1) | (followed & ~np.isfinite(rewards))
    if broken.any():
        row = int(broken.argmax())
        raise LeaError(
            f"annotate: the LE's state of user {users[row]} at position {positions[row]} is not finite: run "
            "`dvc repro -f finetune_le` with a lower finetune_le.lora.learning_rate"
        )


def _states(users: np.ndarray, positions: np.ndarray, states: np.ndarray) -> pa.Table:
    return pa.table({"user": users.astype(np.int32), "position": positions.astype(np.int32), "state": vectors(states)})


def _rewards(
    users: np.ndarray,
    positions: np.ndarray,
    logged: np.ndarray,
    rewards: np.ndarray,
    sampled: np.ndarray,
    sampled_rewards: np.ndarray,
) -> pa.Table:
    return pa.table(
        {
            "user": users.astype(np.int32),
            "position": positions.astype(np.int32),
            "action": logged.astype(np.int32),
            "reward": rewards,
            "sampled_actions": vectors(sampled.astype(np.int32)),
            "sampled_rewards": vectors(sampled_rewards),
        }
    )
