"""Annotation: the LE's states and rewards of every training position (paper: s^e_t and R(s_t, a)).

In: a trained LE, the training events. Out: the `STATES` and `REWARDS` tables.

One pass of the LLM over packed windows gives all states, the reward of each logged next item (it stands in the
sequence) and the rewards of the sampled actions appended to it. What is sampled depends on the seed and the training
events alone, so it does not change with the batches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch

from lea_core.environment import Environment
from lea_core.errors import LeaError
from lea_core.packing import Packed, learning_steps, packs
from lea_core.params import AnnotateParams
from lea_core.progress import announce, bar
from lea_core.sequences import Sequences, sample_actions, windows
from lea_core.tables import vectors


def each_pack(stage: str, train: Sequences, history: int, batch_tokens: int, actions: int) -> Iterator[Packed]:
    """All training sequences, packed, with a forecast after the second batch and a progress bar."""
    everyone = np.flatnonzero(np.diff(train.offsets) > 0)
    cut = packs(train, windows(train, everyone, history), batch_tokens, actions, learning_steps(train))
    total = sum(packed.tokens for packed in cut)
    with bar(total, stage, "token") as progress:
        for number, packed in enumerate(cut):
            started = time.perf_counter()
            yield packed
            progress.update(packed.tokens)
            if number == min(1, len(cut) - 1):  # the first batch warms up
                announce(stage, total, packed.tokens / (time.perf_counter() - started))


@torch.inference_mode()
def annotate(environment: Environment, train: Sequences, params: AnnotateParams) -> tuple[pa.Table, pa.Table]:
    """The STATES and REWARDS tables of all training positions, in order of user and position.

    Raises `LeaError` naming user and position where a state is not finite.
    """
    users, positions = train.users_and_positions()
    followed = learning_steps(train)
    logged = np.where(followed, np.roll(train.items, -1), 0)  # (N,): the next training item
    sampled = sample_actions(logged, params.sampled_actions, train.num_items, np.random.default_rng(params.seed))
    states = np.empty((len(users), environment.heads.state_width), dtype=np.float16)
    rewards = np.full(len(users), np.nan, dtype=np.float32)
    sampled_rewards = np.empty(sampled.shape, dtype=np.float32)
    history = environment.shape.history
    for packed in each_pack("annotate", train, history, params.batch_tokens, params.sampled_actions):
        acting = packed.events[packed.acting]
        judged = environment.judge(train, packed, sampled[acting])
        states[packed.events[packed.owned]] = judged.states[torch.from_numpy(packed.owned)].half().cpu().numpy()
        rewards[acting] = judged.logged_rewards.cpu().numpy()
        sampled_rewards[acting] = judged.rewards.cpu().numpy()
    _check_finite(states, rewards, followed, users, positions)
    columns = {"user": users.astype(np.int32), "position": positions.astype(np.int32)}
    return pa.table({**columns, "state": vectors(states)}), pa.table(
        {
            **{name: column[followed] for name, column in columns.items()},
            "action": logged[followed].astype(np.int32),
            "reward": rewards[followed],
            "sampled_actions": vectors(sampled[followed].astype(np.int32)),
            "sampled_rewards": vectors(sampled_rewards[followed]),
        }
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
