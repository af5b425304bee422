"""Augmentation: positive actions that the LE proposes at every training position (paper: augmented positive actions).

In: the training events of a shard, their states (of annotate) and a trained LE. Out: shard arrays, and of all shards
the `ACTIONS` table.

The proposals of a state are the items of highest score that pass the filter: never the logged next item, and, where a
user takes no item twice, none of the history. The states are known from annotation, so the LLM passes over each
sequence once, with the proposals appended, to give their rewards. The paper's rule and number are not public.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from lea_core.environment import Environment
from lea_core.errors import LeaError
from lea_core.llm_pass import Passed
from lea_core.packing import learning_steps
from lea_core.params import Params
from lea_core.sequences import Sequences, batches, seen_pairs
from lea_core.shard_files import Arrays
from lea_core.shards import Part, Shard
from lea_core.tables import ACTIONS, STATES, Schema, read_rows, to_numpy, vectors

OUTS: dict[Path, Schema] = {Path("data/actions/le.parquet"): ACTIONS}
SCORES = 2**24  # scores in memory at once


class Augmenting:
    """What the pass of `augment` asks of the LE; `states` is the table of annotate."""

    name = "augment"

    def __init__(self, wanted: Params, states: Path) -> None:
        self.count = wanted.augment.actions
        self.skip_seen = not wanted.preprocess.repeats
        self.states = states

    def actions(self, environment: Environment, part: Part, shard: Shard) -> Arrays:
        """Proposed actions at every step and their scores: {"actions": (N, A), "scores": (N, A)}; 0 at other events.

        Raises `LeaError` where the catalogue is too small, or where the states are of other events.
        """
        table = read_rows(self.states, STATES, shard.first_event, shard.end_event)
        users, positions = part.users_and_positions()
        if not (
            np.array_equal(to_numpy(table, "user"), users) and np.array_equal(to_numpy(table, "position"), positions)
        ):
            raise LeaError(f"{self.states}: its rows are not the training events: run `dvc repro annotate`")
        events = np.flatnonzero(learning_steps(part.train))
        states = to_numpy(table, "state")[events]
        actions = np.zeros((shard.events, self.count), dtype=np.int64)
        scores = np.zeros(actions.shape, dtype=np.float32)
        actions[events], scores[events] = propose(
            environment, part.train, events, states, self.count, self.skip_seen, skip_next=True
        )
        return {"actions": actions, "scores": scores}

    def arrays(self, part: Part, asked: Arrays, passed: Passed) -> Arrays:
        """What the shard's file holds, by event."""
        users, positions = part.users_and_positions()
        return {
            "user": users.astype(np.int32),
            "position": positions.astype(np.int32),
            "followed": learning_steps(part.train),
            "actions": asked["actions"].astype(np.int32),
            "scores": asked["scores"],
            "action_rewards": passed.action_rewards,
        }

    @staticmethod
    def reusable(passed: Passed) -> Arrays:
        """The arrays that a window passed before gives again."""
        return {"action_rewards": passed.action_rewards}

    @staticmethod
    def tables(path: Path, shards: Iterator[Arrays]) -> Iterator[pa.Table]:  # noqa: ARG004 (annotate has two)
        """The one of OUTS, shard by shard."""
        for shard in shards:
            followed = shard["followed"]
            yield pa.table(
                {
                    **{name: shard[name][followed] for name in ("user", "position")},
                    "actions": vectors(shard["actions"][followed]),
                    "scores": vectors(shard["scores"][followed]),
                    "rewards": vectors(shard["action_rewards"][followed]),
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
