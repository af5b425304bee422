"""Annotation: the LE's states and rewards of every training position (paper: s^e_t and R(s_t, a)).

In: the training events of a shard, and a trained LE. Out: arrays for the shard's file; from the arrays of all shards,
the `STATES` and `REWARDS` tables. The sampled actions depend only on the seed, the user's id and the position
(sequences.drawn_actions).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from lea_core.annotation.shard_store import Arrays
from lea_core.annotation.shards import Part, Shard
from lea_core.common.tables import REWARDS, STATES, Schema, vectors
from lea_core.data.sequences import drawn_actions, learning_steps
from lea_core.environment.model import Environment


def logged_items(part: Part) -> np.ndarray:
    """(N,): the next training item after each event; 0 where there is none."""
    return np.where(learning_steps(part.train), np.roll(part.train.items, -1), 0)


class Annotating:
    """The task of the stage `annotate`: states, and rewards of the logged and the sampled actions."""

    name = "annotate"
    outs: ClassVar[dict[Path, Schema]] = {
        Path("data/states/le.parquet"): STATES,
        Path("data/rewards/le.parquet"): REWARDS,
    }
    stored_outputs: ClassVar[tuple[str, ...]] = ("states", "rewards", "action_rewards")

    def __init__(self, sampled_actions: int, seed: int) -> None:
        self.count, self.seed = sampled_actions, seed

    def identity(self, root: Path) -> dict[str, Any]:  # noqa: ARG002 (augment reads the states)
        """The number and the seed of the sampled actions."""
        return {"sampled_actions": self.count, "seed": self.seed}

    def actions(self, root: Path, environment: Environment, part: Part, shard: Shard) -> Arrays:  # noqa: ARG002
        """Sampled actions at every event: {"actions": (N, A)}."""
        return {"actions": drawn_actions(part.user_ids, part.train, logged_items(part), self.count, self.seed)}

    def arrays(self, part: Part, inputs: Arrays) -> Arrays:
        """What the shard's file holds beside the stored outputs, by event."""
        return {
            **part.columns(),
            "action": logged_items(part).astype(np.int32),
            "actions": inputs["actions"].astype(np.int32),
        }

    def tables(self, path: Path, shards: Iterator[Arrays]) -> Iterator[pa.Table]:
        """One of the tables `outs`, shard by shard."""
        for shard in shards:
            columns = {name: shard[name] for name in ("user", "position")}
            if self.outs[path] is STATES:
                yield pa.table({**columns, "state": vectors(shard["states"])})
                continue
            followed = shard["followed"]  # events that another training event of the user follows
            yield pa.table(
                {
                    **{name: column[followed] for name, column in columns.items()},
                    "action": shard["action"][followed],
                    "reward": shard["rewards"][followed],
                    "sampled_actions": vectors(shard["actions"][followed]),
                    "sampled_rewards": vectors(shard["action_rewards"][followed]),
                }
            )

    def bytes(self, shard: Shard, state_width: int) -> int:
        """The size of both tables."""
        return (8 + 2 * state_width) * shard.events + (16 + 8 * self.count) * shard.steps
