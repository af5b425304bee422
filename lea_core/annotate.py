"""Annotation: the LE's states and rewards of every training position (paper: s^e_t and R(s_t, a)).

In: the training events of a shard, and a trained LE. Out: shard arrays, and of all shards the `STATES` and `REWARDS`
tables. What is sampled depends on the seed, the user's id and the position alone (sequences.drawn_actions).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from lea_core.environment import Environment
from lea_core.llm_pass import Passed
from lea_core.packing import learning_steps
from lea_core.params import Params
from lea_core.sequences import drawn_actions
from lea_core.shard_files import Arrays
from lea_core.shards import Part, Shard
from lea_core.tables import REWARDS, STATES, Schema, vectors

OUTS: dict[Path, Schema] = {Path("data/states/le.parquet"): STATES, Path("data/rewards/le.parquet"): REWARDS}


def logged_items(part: Part) -> np.ndarray:
    """(N,): the next training item of each event; 0 where there is none."""
    return np.where(learning_steps(part.train), np.roll(part.train.items, -1), 0)


class Annotating:
    """What the pass of `annotate` asks of the LE."""

    name = "annotate"

    def __init__(self, wanted: Params) -> None:
        self.params = wanted.annotate
        self.count = self.params.sampled_actions

    def actions(self, environment: Environment, part: Part, shard: Shard) -> Arrays:  # noqa: ARG002 (augment's)
        """Sampled actions at every event: {"actions": (N, A)}."""
        p = self.params
        return {"actions": drawn_actions(part.user_ids, part.train, logged_items(part), p.sampled_actions, p.seed)}

    def arrays(self, part: Part, asked: Arrays, passed: Passed) -> Arrays:
        """What the shard's file holds, by event."""
        users, positions = part.users_and_positions()
        return {
            "user": users.astype(np.int32),
            "position": positions.astype(np.int32),
            "followed": learning_steps(part.train),
            "action": logged_items(part).astype(np.int32),
            "actions": asked["actions"].astype(np.int32),
            "states": passed.states,
            "rewards": passed.rewards,
            "action_rewards": passed.action_rewards,
        }

    @staticmethod
    def reusable(passed: Passed) -> Arrays:
        """The arrays that a window passed before gives again."""
        return {"states": passed.states, "rewards": passed.rewards, "action_rewards": passed.action_rewards}

    @staticmethod
    def tables(path: Path, shards: Iterator[Arrays]) -> Iterator[pa.Table]:
        """One of OUTS, shard by shard."""
        for shard in shards:
            columns = {name: shard[name] for name in ("user", "position")}
            if OUTS[path] is STATES:
                yield pa.table({**columns, "state": vectors(shard["states"])})
                continue
            followed = shard["followed"]
            yield pa.table(
                {
                    **{name: column[followed] for name, column in columns.items()},
                    "action": shard["action"][followed],
                    "reward": shard["rewards"][followed],
                    "sampled_actions": vectors(shard["actions"][followed]),
                    "sampled_rewards": vectors(shard["action_rewards"][followed]),
                }
            )
