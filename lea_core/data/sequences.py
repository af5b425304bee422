"""All users' sequences as flat arrays, and windows of them as padded batches.

In: the `interactions` table. Out: `Sequences` (items, split codes and per-user offsets) and the windows that the LE
and the learners read.

Axis letters, used in every shape comment of this project: B batch, T time (positions of a sequence), I items,
H width of the LLM, C width of a content vector or LE state, D width of a recommender's state, A actions per state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lea_core.common.errors import LeaError
from lea_core.common.tables import INTERACTIONS, ITEMS, read_table, to_numpy

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Sequences:
    """Every user's events in time order, one user after the other.

    items: (N,) int64 item indices.  split: (N,) int8, index into SPLITS.  offsets: (U + 1,) int64, user u's events
    are rows offsets[u] to offsets[u + 1] - 1.  num_items: size of the catalogue.
    """

    items: np.ndarray
    split: np.ndarray
    offsets: np.ndarray
    num_items: int

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.offsets) - 1

    def user_items(self, user: int) -> np.ndarray:
        """All items of a user, of every split, in time order."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def train(self) -> Sequences:
        """The training events alone; users keep their index, some may have none."""
        keep = self.split == SPLITS.index("train")
        counts = np.add.reduceat(np.append(keep, False), self.offsets[:-1]) if self.num_users else keep[:0]
        counts = np.where(np.diff(self.offsets) > 0, counts, 0)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Sequences(self.items[keep], self.split[keep], offsets, self.num_items)

    def users_and_positions(self) -> tuple[np.ndarray, np.ndarray]:
        """For every row: its user, and its position in the user's sequence; both (N,)."""
        lengths = np.diff(self.offsets)
        users = np.repeat(np.arange(self.num_users), lengths)
        return users, np.arange(len(self.items)) - np.repeat(self.offsets[:-1], lengths)

    def targets(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Users and positions of the events to predict in `split`: those that at least one event precedes."""
        users, positions = self.users_and_positions()
        chosen = (self.split == SPLITS.index(split)) & (positions > 0)
        return users[chosen], positions[chosen]


def read_sequences(folder: Path) -> Sequences:
    """Read `interactions.parquet` and the catalogue size from the preprocess folder.

    Raises `LeaError` as `read_table` does, and where the splits hold another name than those of SPLITS.
    """
    path = folder / "interactions.parquet"
    table = read_table(path, INTERACTIONS, columns=("user", "item", "split"))
    num_items = read_table(folder / "items.parquet", ITEMS).num_rows
    split = split_codes(table, path)
    return from_columns(to_numpy(table, "user"), to_numpy(table, "item"), split, num_items)


def from_columns(users: np.ndarray, items: np.ndarray, split: np.ndarray, num_items: int) -> Sequences:
    """Sequences of the columns of `interactions`, sorted by user and position; users are numbered from 0."""
    num_users = int(users[-1]) + 1 if len(users) else 0
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=num_users))]).astype(np.int64)
    return Sequences(items.astype(np.int64), split, offsets, num_items)


def split_codes(table: pa.Table, path: Path) -> np.ndarray:
    """(N,) int8: the index into SPLITS of each row's split. Raises `LeaError` on another name in the file `path`."""
    found = pc.index_in(table["split"], value_set=pa.array(SPLITS))
    if found.null_count:
        raise LeaError(f"{path}: column 'split' holds others than {', '.join(SPLITS)}: delete it and run `dvc repro`")
    codes: np.ndarray = found.cast(pa.int8()).to_numpy()
    return codes


def histories(sequences: Sequences, users: np.ndarray, positions: np.ndarray, length: int) -> np.ndarray:
    """The last `length` items before each (user, position), right-aligned: (B, T), -1 where there is none."""
    first = sequences.offsets[users][:, None]
    rows = first + positions[:, None] + np.arange(-length, 0)  # (B, T) of the flat arrays
    result: np.ndarray = sequences.items.take(rows, mode="clip")  # a row before the first user's is overwritten below
    result[rows < first] = -1
    return result


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` rows, but of one row or more, that cover `count` rows in order."""
    size = max(size, 1)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def ragged_ranges(starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranges of different lengths, one after the other: (R,) starts and lengths -> (M,) pairs (range, number)."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    before = np.cumsum(lengths) - lengths  # numbers of earlier ranges
    return owner, np.arange(len(owner)) + np.repeat(starts - before, lengths)


@dataclass(frozen=True)
class Window:
    """Positions start to end - 1 of a user's sequence, read together; this window owns the positions from `new` on."""

    user: int
    start: int
    end: int
    new: int

    @property
    def length(self) -> int:
        """Number of items read."""
        return self.end - self.start


def windows(sequences: Sequences, users: np.ndarray, length: int) -> list[Window]:
    """Cover every position of these users' sequences once.

    A sequence of at most `length` items is one window. A longer one is split into windows of `length` items that
    overlap by half: the first window owns all its positions, each later one its second half. So each state has read at
    least length / 2 items where there are as many.
    """
    stride = max(length - length // 2, 1)
    result = []
    for user in users.tolist():
        total = int(sequences.offsets[user + 1] - sequences.offsets[user])
        end = min(total, length)
        if total:
            result.append(Window(user, 0, end, 0))
        while end < total:
            new, end = end, min(total, end + stride)
            result.append(Window(user, max(end - length, 0), end, new))
    return result


def seen_pairs(sequences: Sequences, events: np.ndarray, with_next: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Which items each history holds: for events (S,), rows of the sequences, the (M,) pairs (index into S, item).

    A history is the event and all earlier ones of the same user; with_next: also the event after it, if there is one.
    The pairs are in the order of `events`. An item that occurs twice in a history comes twice.
    """
    users = np.searchsorted(sequences.offsets, events, side="right") - 1
    first, end = sequences.offsets[users], sequences.offsets[users + 1]
    owner, rows = ragged_ranges(first, np.minimum(events + 1 + with_next, end) - first)
    return owner, sequences.items[rows]


def in_history(sequences: Sequences, users: np.ndarray, positions: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Which of the items (N, A) are among the events 0..position of their row's user: (N, A) bool.

    users, positions: (N,) each.
    """
    owners, places = sequences.users_and_positions()
    keys, first = np.unique(owners * sequences.num_items + sequences.items, return_index=True)
    asked = users[:, None] * sequences.num_items + items
    found = np.searchsorted(keys, asked).clip(max=len(keys) - 1)
    seen: np.ndarray = (keys[found] == asked) & (places[first[found]] <= positions[:, None])
    return seen


def learning_steps(sequences: Sequences) -> np.ndarray:
    """(N,) bool: events whose next event is of the same user, so that their states have a logged action."""
    steps = np.ones(len(sequences.items), dtype=bool)
    steps[sequences.offsets[1:][np.diff(sequences.offsets) > 0] - 1] = False
    return steps


def count_repeats(sequences: Sequences, events: np.ndarray) -> int:
    """How many of these events, (S,), each followed by another, are followed by an item of their own history."""
    owner, seen = seen_pairs(sequences, events)
    return len(np.unique(owner[seen == sequences.items[events[owner] + 1]]))


def sample_actions(logged: np.ndarray, count: int, num_items: int, rng: np.random.Generator) -> np.ndarray:
    """`count` items for each logged one, uniform over the others, repetitions possible: (...,) -> (..., count) int64.

    Raises `LeaError` where there is no other item.
    """
    _check_others(num_items)
    drawn = rng.integers(0, num_items - 1, size=(*logged.shape, count))
    return drawn + (drawn >= logged[..., None])


def _check_others(num_items: int) -> None:
    if num_items < 2:
        raise LeaError("data/interactions/items.parquet: one item leaves nothing to sample against: keep more items")


def window_tokens(lengths: np.ndarray, length: int) -> np.ndarray:
    """Items that the `windows` of sequences of these lengths read, overlaps counted twice: (U,) -> (U,)."""
    more = np.maximum(lengths - length, 0)
    stride = max(length - length // 2, 1)
    return np.where(more, length * (1 + -(-more // stride)), lengths)


def drawn_actions(user_ids: list[str], train: Sequences, logged: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` items for each event, uniform over all but the logged next one, repetitions possible: (N, A) int64.

    logged: (N,), the next item.  A draw depends only on the seed, the user's id, the position and the size of the
    catalogue: it stays the same when other users are added or removed, or when this user has more events. Raises
    `LeaError` where there is no other item.
    """
    _check_others(train.num_items)
    starts = [int.from_bytes(blake2b(f"{seed} {user}".encode(), digest_size=8).digest()) for user in user_ids]
    users, positions = train.users_and_positions()
    counter = positions[:, None].astype(np.uint64) * np.uint64(count) + np.arange(1, count + 1, dtype=np.uint64)
    mixed = np.array(starts, dtype=np.uint64)[users][:, None] + counter * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # SplitMix64 (Steele et al., 2014)
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    uniform = ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53  # [0, 1)
    drawn: np.ndarray = (uniform * (train.num_items - 1)).astype(np.int64)
    return drawn + (drawn >= logged[:, None])
