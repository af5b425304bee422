"""Augmentation: positive actions that the LE proposes at every training position (paper: augmented positive actions).

In: the training events of a shard, their states (from annotate) and a trained LE. Out: arrays for the shard's file;
from the arrays of all shards, the `ACTIONS` table.

The proposals (top_items.py) leave out the logged next item. Where users never repeat an item, they also leave out the
history; otherwise its items are proposed as often as users repeat. The states are known from annotation, so each window
needs one forward pass, with the proposals appended, for their rewards. We could not read the paper's rule and number of
proposals.
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
from lea_core.common.tables import ACTIONS, Schema, read_states, vectors
from lea_core.data.sequences import learning_steps
from lea_core.environment.model import Environment
from lea_core.environment.top_items import propose

STATES_FILE = Path("data/states/le.parquet")


class Augmenting:
    """The task of the stage `augment`: rewards of proposed actions."""

    name = "augment"
    outs: ClassVar[dict[Path, Schema]] = {Path("data/actions/le.parquet"): ACTIONS}
    stored_outputs: ClassVar[tuple[str, ...]] = ("action_rewards",)

    def __init__(self, actions: int, repeats: bool) -> None:
        self.count, self.repeats = actions, repeats

    def identity(self, root: Path) -> dict[str, Any]:
        """The number of proposals, whether repeats may be proposed, and the hash of the states."""
        states = root / STATES_FILE
        if not states.exists():
            raise LeaError(f"{states}: not found: run `dvc repro annotate` to make it")
        return {"actions": self.count, "repeats": self.repeats, "states": file_sha256(states)}

    def actions(self, root: Path, environment: Environment, part: Part, shard: Shard) -> Arrays:
        """Proposed actions at every step and log P(a | s): {"actions": (N, A), "scores": (N, A)}; 0 at other events.

        Raises `LeaError` where the catalogue is too small, or the states belong to other events.
        """
        states = read_states(root / STATES_FILE, shard.first_event, *part.users_and_positions())
        events = np.flatnonzero(learning_steps(part.train))
        actions = np.zeros((shard.events, self.count), dtype=np.int64)
        scores = np.zeros(actions.shape, dtype=np.float32)
        actions[events], scores[events] = propose(
            environment.heads,
            part.train,
            events,
            states[events],
            self.count,
            skip_seen=not self.repeats,
            skip_next=True,
        )
        return {"actions": actions, "scores": scores}

    def arrays(self, part: Part, inputs: Arrays) -> Arrays:
        """What the shard's file holds beside the stored outputs, by event."""
        return {**part.columns(), "actions": inputs["actions"].astype(np.int32), "scores": inputs["scores"]}

    def tables(self, path: Path, shards: Iterator[Arrays]) -> Iterator[pa.Table]:  # noqa: ARG002 (annotate has two)
        """The ACTIONS table, shard by shard."""
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

    def bytes(self, shard: Shard, state_width: int) -> int:  # noqa: ARG002 (annotate writes states)
        """The size of the ACTIONS table."""
        return (8 + 12 * self.count) * shard.steps
