"""Shards: the training events, divided into groups of consecutive users. A shard is computed, stored and resumed alone.

In: data/interactions. Out: the plan, and the events of one shard, read without the others.

The plan depends only on the data, `annotate.shard_events` and the LE's history, not on the workers. Files are read in
parts: the memory for the plan or for a shard does not grow with the number of users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from lea_core.common.tables import INTERACTIONS, USERS, read_rows, to_numpy
from lea_core.data.leaks import training_events
from lea_core.data.sequences import Sequences, from_columns, learning_steps, split_codes, window_tokens

COLUMNS = {name: INTERACTIONS[name] for name in ("user", "item", "split")}


@dataclass(frozen=True)
class Shard:
    """Users `first_user` to `end_user` - 1: their rows of interactions.parquet and their training events.

    Training events are numbered over all users, like the rows of data/states/le.parquet. `steps` of them are followed
    by another. `tokens` is the number of events that the LLM reads, twice where windows overlap, without actions.
    """

    number: int
    first_user: int
    end_user: int
    first_row: int
    end_row: int
    first_event: int
    end_event: int
    steps: int
    tokens: int

    @property
    def events(self) -> int:
        """Number of training events."""
        return self.end_event - self.first_event

    def tokens_with_actions(self, actions: int) -> int:
        """Tokens that the LLM reads with this number of actions at every step."""
        return self.tokens + actions * self.steps


@dataclass(frozen=True)
class Part:
    """The content of a shard: training events of its users, who are numbered from 0 here, and these users' ids."""

    train: Sequences
    first_user: int
    user_ids: list[str]

    def users_and_positions(self) -> tuple[np.ndarray, np.ndarray]:
        """The user of every event, numbered over all shards, and its position."""
        users, positions = self.train.users_and_positions()
        return users + self.first_user, positions

    def columns(self) -> dict[str, np.ndarray]:
        """User, position, and whether a training event follows, of every event; (N,) each."""
        users, positions = self.users_and_positions()
        followed = learning_steps(self.train)
        return {"user": users.astype(np.int32), "position": positions.astype(np.int32), "followed": followed}


def plan(folder: Path, shard_events: int, history: int) -> list[Shard]:
    """Divide the users of `folder` (data/interactions), in their order, into shards of `shard_events` training events.

    A shard ends with the user who fills it. Users without training events belong to the shard around them.
    """
    done = np.zeros(5, dtype=np.int64)  # users, rows, training events, steps, tokens before this shard
    total = done.copy()  # the same before the present users
    shards: list[Shard] = []

    def close(at: np.ndarray) -> None:
        nonlocal done
        shards.append(
            Shard(
                len(shards),
                *(int(value) for bounds in zip(done[:3], at[:3], strict=True) for value in bounds),
                *(int(value) for value in (at - done)[3:]),
            )
        )
        done = at

    for rows, events in _lengths(folder / "interactions.parquet"):
        each = [np.ones_like(rows), rows, events, np.maximum(events - 1, 0), window_tokens(events, history)]
        sums = total[:, None] + np.cumsum(np.stack(each), axis=1)  # (5, users)
        total = sums[:, -1]
        while (full := int(np.searchsorted(sums[2], done[2] + shard_events))) < sums.shape[1]:
            close(sums[:, full])
    if total[2] > done[2]:
        close(total)
    return shards


def _lengths(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of rows and training events of every user, in order, some users at a time."""
    waiting: tuple[int, int, int] | None = None  # user, rows and events of the last user: more may follow
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(index).num_rows for index in range(file.metadata.num_row_groups)]
    first = 0
    for size in groups:
        table = read_rows(path, {name: INTERACTIONS[name] for name in ("user", "split")}, first, first + size)
        first += size
        users = to_numpy(table, "user").astype(np.int64)
        base = int(users[0]) if waiting is None else waiting[0]
        rows = np.bincount(users - base)
        events = np.bincount((users - base)[split_codes(table, path) == 0], minlength=len(rows))
        if waiting is not None:
            rows[0] += waiting[1]
            events[0] += waiting[2]
        waiting = (base + len(rows) - 1, int(rows[-1]), int(events[-1]))
        if len(rows) > 1:
            yield rows[:-1], events[:-1]
    if waiting is not None:
        yield np.array([waiting[1]]), np.array([waiting[2]])


def read(folder: Path, shard: Shard, num_items: int) -> Part:
    """The training events of a shard, checked for leaks. Raises `LeaError` as `training_events` does."""
    table = read_rows(folder / "interactions.parquet", COLUMNS, shard.first_row, shard.end_row)
    users = to_numpy(table, "user").astype(np.int64) - shard.first_user
    split = split_codes(table, folder / "interactions.parquet")
    sequences = from_columns(users, to_numpy(table, "item"), split, num_items)
    ids = read_rows(folder / "users.parquet", USERS, shard.first_user, shard.end_user)["user_id"].to_pylist()
    return Part(training_events(sequences, shard.first_user), shard.first_user, ids)
