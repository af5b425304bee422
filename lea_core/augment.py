"""Augmentation: positive actions that the LE proposes at every training position (paper: augmented positive actions).

In: a trained LE, its states, the training events. Out: the `ACTIONS` table.

The proposals of a state are the items of highest score that pass the filter: never the logged next item, and, where a
user takes no item twice, none of the history. The states are known from annotation, so the LLM passes over each
sequence once, with the proposals appended, to give their rewards. The paper's rule and number are not public.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from lea_core.annotate import each_batch, owned
from lea_core.environment import Environment
from lea_core.errors import LeaError
from lea_core.params import AugmentParams
from lea_core.sequences import Sequences, batches, window_items, window_values
from lea_core.tables import to_numpy, vectors

ROWS = 4096  # positions whose scores are in memory at once


@torch.inference_mode()
def augment(
    environment: Environment, train: Sequences, states: pa.Table, repeats: bool, params: AugmentParams
) -> pa.Table:
    """The ACTIONS table of all training positions that another training event follows.

    Raises `LeaError` where the catalogue is too small, or where the states are of other events.
    """
    users, positions = train.users_and_positions()
    if not (
        np.array_equal(to_numpy(states, "user"), users) and np.array_equal(to_numpy(states, "position"), positions)
    ):
        raise LeaError("data/states/le.parquet: its rows are not the training events: run `dvc repro annotate`")
    followed = np.append(users[1:] == users[:-1], False) if len(users) else np.zeros(0, dtype=bool)
    proposed, scores = _propose(environment, train, to_numpy(states, "state"), repeats, params.actions)
    rewards = np.empty(proposed.shape, dtype=np.float32)
    history = environment.shape.history
    for batch in each_batch("augment", train, history, params.batch_tokens, 1 + params.actions):
        result = (
            environment.judge(window_items(train, batch), window_values(train, batch, proposed, 0))
            .action_rewards.cpu()
            .numpy()
        )
        for row, window in enumerate(batch):
            mine, offset = owned(window), train.offsets[window.user] + window.start
            rewards[offset + mine.start : offset + mine.stop] = result[row, mine]
    return pa.table(
        {
            "user": users[followed].astype(np.int32),
            "position": positions[followed].astype(np.int32),
            "actions": vectors(proposed[followed].astype(np.int32)),
            "scores": vectors(scores[followed]),
            "rewards": vectors(rewards[followed]),
        }
    )


def _propose(
    environment: Environment, train: Sequences, states: np.ndarray, repeats: bool, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` best items of each position that pass the filter, and their scores; both (N, A)."""
    users, positions = train.users_and_positions()
    longest = int(np.diff(train.offsets).max(initial=0))
    if train.num_items - 1 - (0 if repeats else longest) < count:
        raise LeaError(
            f"params.yaml: augment.actions {count}: with {train.num_items} items and a history of {longest} there are "
            "too few unseen items to propose: lower it"
        )
    proposed = np.empty((len(users), count), dtype=np.int64)
    scores = np.empty((len(users), count), dtype=np.float32)
    for part in batches(len(users), ROWS):
        every = environment.scores(torch.from_numpy(states[part].astype(np.float32)).to(environment.llm.device))
        for row, (user, position) in enumerate(zip(users[part], positions[part], strict=True)):
            items = train.user_items(user)
            barred = items[position + 1 : position + 2] if repeats else items[: position + 2]
            every[row, torch.from_numpy(barred).to(every.device)] = -torch.inf
        best = every.topk(count, dim=1)
        proposed[part], scores[part] = best.indices.cpu().numpy(), best.values.cpu().numpy()
    return proposed, scores
