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

from lea_core.annotate import each_pack
from lea_core.environment import Environment
from lea_core.errors import LeaError
from lea_core.packing import learning_steps
from lea_core.params import AugmentParams
from lea_core.sequences import Sequences, batches, seen_pairs
from lea_core.tables import to_numpy, vectors

SCORES = 2**24  # scores in memory at once


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
    followed = learning_steps(train)
    events = np.flatnonzero(followed)
    found, scores = propose(
        environment, train, events, to_numpy(states, "state")[events], params.actions, not repeats, True
    )
    proposed = np.zeros((len(users), params.actions), dtype=np.int64)
    rewards = np.empty(proposed.shape, dtype=np.float32)
    proposed[events] = found
    history = environment.shape.history
    for packed in each_pack("augment", train, history, params.batch_tokens, params.actions):
        acting = packed.events[packed.acting]
        rewards[acting] = environment.judge(train, packed, proposed[acting]).rewards.cpu().numpy()
    return pa.table(
        {
            "user": users[followed].astype(np.int32),
            "position": positions[followed].astype(np.int32),
            "actions": vectors(found.astype(np.int32)),
            "scores": vectors(scores),
            "rewards": vectors(rewards[followed]),
        }
    )


@torch.inference_mode()
def propose(
    environment: Environment,
    train: Sequences,
    events: np.ndarray,
    states: np.ndarray,
    count: int,
    skip_seen: bool,
    skip_next: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` best items after each event (N,) from its state (N, C + K), and their scores; both (N, A).

    Left out are the items of the history with `skip_seen` and the logged next one with `skip_next`. Raises `LeaError`
    where too few are left.
    """
    longest = int(np.diff(train.offsets).max(initial=0)) if skip_seen else 0
    if train.num_items - longest - skip_next < count:
        raise LeaError(
            f"params.yaml: augment.actions {count}: with {train.num_items} items and a history of {longest} there are "
            "too few unseen items to propose: lower it"
        )
    proposed = np.empty((len(events), count), dtype=np.int64)
    scores = np.empty((len(events), count), dtype=np.float32)
    for part in batches(len(events), max(SCORES // train.num_items, 1)):
        device = environment.llm.device
        every = environment.heads.scores(torch.from_numpy(states[part].astype(np.float32)).to(device))
        if skip_seen:
            owner, items = (torch.from_numpy(pair).to(device) for pair in seen_pairs(train, events[part]))
            every[owner, items] = -torch.inf
        if skip_next:
            every[torch.arange(len(every)), torch.from_numpy(train.items[events[part] + 1]).to(device)] = -torch.inf
        best = every.topk(count, dim=1)
        proposed[part], scores[part] = best.indices.cpu().numpy(), best.values.cpu().numpy()
    return proposed, scores
