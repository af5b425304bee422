"""Augmentation: positive actions that the LE proposes at every training position (paper: augmented positive actions).

In: the training events of a shard, their states (of annotate) and a trained LE. Out: shard arrays, and of all shards
the `ACTIONS` table.

What is proposed (top_items.py) leaves out the logged next item and, where a user takes no item twice, the history;
where users repeat, its items are proposed as they do. The states are known from annotation, so the LLM passes over each
sequence once, with the proposals appended, to give their rewards. The paper's rule and number we could not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from lea_core.annotation.shard_store import Arrays
from lea_core.annotation.shards import Part, Shard
from lea_core.common.errors import LeaError
from lea_core.common.sources import file_sha256
from lea_core.common.tables import ACTIONS, STATES, Schema, read_rows, to_numpy, vectors
from lea_core.data.sequences import learning_steps
from lea_core.environment.model import Environment
from lea_core.environment.top_items import propose

STATES_FILE = Path("data/states/le.parquet")


class Augmenting:
    """What the pass of `augment` asks of the LE."""

    name = "augment"
    outs: ClassVar[dict[Path, Schema]] = {Path("data/actions/le.parquet"): ACTIONS}
    kept: ClassVar[tuple[str, ...]] = ("action_rewards",)

    def __init__(self, actions: int, repeats: bool) -> None:
        self.count, self.repeats = actions, repeats

    def identity(self, root: Path) -> dict[str, Any]:
        """Number of proposals, what may be proposed, and the states that they are proposed from."""
        states = root / STATES_FILE
        if not states.exists():
            raise LeaError(f"{states}: not found: run `dvc repro annotate` to make it")
        return {"actions": self.count, "repeats": self.repeats, "states": file_sha256(states)}

    def actions(self, root: Path, environment: Environment, part: Part, shard: Shard) -> Arrays:
        """Proposed actions at every step and log P(a | s): {"actions": (N, A), "scores": (N, A)}; 0 at other events.

        Raises `LeaError` where the catalogue is too small, or where the states are of other events.
        """
        table = read_rows(root / STATES_FILE, STATES, shard.first_event, shard.end_event)
        users, positions = part.users_and_positions()
        if not (
            np.array_equal(to_numpy(table, "user"), users) and np.array_equal(to_numpy(table, "position"), positions)
        ):
            raise LeaError(f"{root / STATES_FILE}: its rows are not the training events: run `dvc repro annotate`")
        events = np.flatnonzero(learning_steps(part.train))
        states = to_numpy(table, "state")[events]
        actions = np.zeros((shard.events, self.count), dtype=np.int64)
        scores = np.zeros(actions.shape, dtype=np.float32)
        actions[events], scores[events] = propose(
            environment, part.train, events, states, self.count, skip_seen=not self.repeats, skip_next=True
        )
        return {"actions": actions, "scores": scores}

    def arrays(self, part: Part, asked: Arrays) -> Arrays:
        """What the shard's file holds beside, by event."""
        return {**part.columns(), "actions": asked["actions"].astype(np.int32), "scores": asked["scores"]}

    def tables(self, path: Path, found: Iterator[Arrays]) -> Iterator[pa.Table]:  # noqa: ARG002 (annotate has two)
        """The one of `outs`, shard by shard."""
        for shard in found:
            followed = shard["followed"]
            yield pa.table(
                {
                    **{name: shard[name][followed] for name in ("user", "position")},
                    "actions": vectors(shard["actions"][followed]),
                    "scores": vectors(shard["scores"][followed]),
                    "rewards": vectors(shard["action_rewards"][followed]),
                }
            )

    def bytes(self, shard: Shard, state_width: int) -> int:  # noqa: ARG002 (annotate writes states)
        """Of the one table."""
        return (8 + 12 * self.count) * shard.steps
