"""Controls as tables: the rows of the LE's table, with other numbers in them.

In: data/<part>/le.parquet, the training events and the items' content vectors. Out: tables of the same schema, for
data/<part>/<control>.parquet. The same seed gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from lea_core import tables
from lea_core.controls.actions import Ranker, best_of, ranker
from lea_core.controls.rewards import HALF, control_rewards
from lea_core.controls.states import control_states
from lea_core.errors import LeaError
from lea_core.sequences import Sequences

SCHEMAS = {"states": tables.STATES, "rewards": tables.REWARDS, "actions": tables.ACTIONS}


@dataclass(frozen=True)
class World:
    """What controls are made of beside the LE's table."""

    train: Sequences
    content: np.ndarray  # (I, C)
    recent: int  # items that the text's mean is over
    decay: float  # the weight of each older one against the next newer
    skip_seen: bool  # propose nothing of the history


def read_le(data: Path, part: str) -> pa.Table:
    """The LE's table of a part. Raises `LeaError` where it was made from other interactions."""
    path = data / part / "le.parquet"
    table = tables.read_table(path, SCHEMAS[part])
    if not tables.is_made_from(path, data / "interactions" / "interactions.parquet"):
        raise LeaError(f"{path}: made from other interactions: run `dvc repro` to make it anew")
    return table


def write(data: Path, part: str, source: str, table: pa.Table) -> None:
    """Publish data/<part>/<source>.parquet."""
    made_from = data / "interactions" / "interactions.parquet"
    tables.write_parts(data / part / f"{source}.parquet", [table], SCHEMAS[part], made_from)


def control_table(part: str, source: str, le: pa.Table, world: World, seed: int) -> pa.Table:
    """The table of a control, for the LE's table `le` of that part."""
    generator = np.random.default_rng([seed, *f"{part} {source}".encode()])  # of its own, whatever else is made
    if part == "actions":
        return proposals(le, ranker(source, world.train, world.content), world.train, world.skip_seen)
    if part == "states":
        states = control_states(
            source,
            tables.to_numpy(le, "state"),
            world.train,
            world.content,
            world.recent,
            world.decay,
            generator,
        )
        return _with(le, {"state": tables.vectors(states)})
    logged, sampled = control_rewards(
        source,
        tables.to_numpy(le, "reward"),
        tables.to_numpy(le, "sampled_rewards"),
        tables.to_numpy(le, "action"),
        tables.to_numpy(le, "sampled_actions"),
        world.train,
        generator,
    )
    return _with(le, {"reward": pa.array(logged), "sampled_rewards": tables.vectors(sampled)})


def proposals(le: pa.Table, rank: Ranker, train: Sequences, skip_seen: bool) -> pa.Table:
    """As many proposals by `rank` as the LE's, after the same events."""
    users, positions = (tables.to_numpy(le, name).astype(np.int64) for name in ("user", "position"))
    count = tables.to_numpy(le, "actions").shape[1]
    actions, scores = best_of(rank, train, users, positions, count, skip_seen)
    rewards = np.full_like(scores, HALF)
    columns = {"actions": actions, "scores": scores, "rewards": rewards}
    return _with(le, {name: tables.vectors(values) for name, values in columns.items()})


def _with(table: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    """The table with these columns in their places; what the file said of itself is left behind."""
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, column)
    return table.replace_schema_metadata(None)
