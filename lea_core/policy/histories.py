"""Histories of item ids, as lists or tables, in item indices.

In: lists of ids, or a table (Polars, Arrow, pandas: whatever speaks Arrow's C stream interface). Out: `Histories`, flat
arrays. Items that the vocabulary lacks are skipped and counted, or refused. Needs neither torch nor Polars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lea_core.errors import LeaError

Unknown = Literal["skip", "refuse"]
HISTORY, USER, ITEM, TIMESTAMP = "history", "user", "item", "timestamp"


@dataclass(frozen=True)
class Histories:
    """B histories, oldest item first.

    items: (N,) int64, one history after the other.  offsets: (B + 1,) int64, history b is rows offsets[b] to
    offsets[b + 1] - 1.  unknown: (B,) int64, how many items were skipped.  users: whose they are, where that is said.
    """

    items: np.ndarray
    offsets: np.ndarray
    unknown: np.ndarray
    users: list[Any] | None

    def __len__(self) -> int:
        return len(self.unknown)

    @property
    def lengths(self) -> np.ndarray:
        """(B,) number of known items."""
        return np.diff(self.offsets)

    def newest(self, rows: np.ndarray, most: int, in_front: bool = False) -> np.ndarray:
        """The last `most` items of these histories, (b,), as a (b, T) batch, oldest first.

        T is the most items of a row, at least 1; -1 stands before them, or `in_front` behind them.
        """
        ends = self.offsets[rows + 1]
        lengths = np.minimum(ends - self.offsets[rows], most)
        width = int(lengths.max(initial=1))
        steps = np.arange(width)
        if in_front:
            places, there = (ends - lengths)[:, None] + steps, steps < lengths[:, None]
        else:
            places, there = ends[:, None] - width + steps, steps >= width - lengths[:, None]
        if not len(self.items):
            return np.full_like(places, -1)
        return np.where(there, self.items[np.where(there, places, 0)], -1)

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All items of these histories: (M,) pairs (row among `rows`, item)."""
        lengths = self.lengths[rows]
        owner = np.repeat(np.arange(len(rows)), lengths)
        first = np.repeat(self.offsets[rows], lengths)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return owner, self.items[first + within]


def read_histories(given: object, index: Mapping[str, int], unknown: Unknown) -> Histories:
    """Histories of item ids in item indices.

    given: a sequence of histories, each a sequence of ids (texts or whole numbers), oldest first; or a table with a
    column `history` of such lists, or with the columns `user` and `item`, a row per event, in order or with a column
    `timestamp`. A table's column `user` is handed through. index: item id -> item. Raises `LeaError` where that is not
    so, or with `unknown` "refuse" where an id is not in `index`.
    """
    if unknown not in ("skip", "refuse"):
        raise LeaError(f"unknown is {unknown!r}: write 'skip' or 'refuse'")
    users: list[Any] | None = None
    if isinstance(given, pa.RecordBatch):
        given = pa.Table.from_batches([given])
    if hasattr(given, "__arrow_c_stream__") and not isinstance(given, pa.ChunkedArray):
        rows, users = _table_rows(pa.table(given))
    elif isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        rows = given
    else:
        raise LeaError(f"histories are {type(given).__name__}: give a list of lists of item ids, or a table")
    found: list[int] = []
    offsets, skipped = [0], []
    for number, row in enumerate(rows):
        known = look_up(row, index, f"history {number}", unknown)
        found += known
        offsets.append(len(found))
        skipped.append(len(row) - len(known))
    return Histories(
        np.array(found, dtype=np.int64), np.array(offsets, dtype=np.int64), np.array(skipped, dtype=np.int64), users
    )


def look_up(row: object, index: Mapping[str, int], where: str, unknown: Unknown) -> list[int]:
    """The items of one history, unknown ones left out. `where` names it in errors."""
    if isinstance(row, str | bytes | Mapping) or not isinstance(row, Sequence | np.ndarray):
        raise LeaError(f"{where} is {_short(row)}: give a list of item ids, oldest first")
    try:
        found = [index[item] for item in row]
    except (KeyError, TypeError):  # numbers, unknown ids, or what is no id: slower, and with words
        found = []
        for item in row:
            place = index.get(item_id(item, where))
            if place is not None:
                found.append(place)
            elif unknown == "refuse":
                raise LeaError(
                    f"{where}: item {_short(item)} is unknown: leave it out, or skip unknown items"
                ) from None
    return found


def item_id(item: object, where: str) -> str:
    """An id as the vocabulary has it, a text. Raises `LeaError` where it is neither text nor whole number."""
    if isinstance(item, str):
        return item
    if isinstance(item, int | np.integer) and not isinstance(item, bool):
        try:
            return str(item)
        except ValueError:  # more digits than Python turns into text
            raise LeaError(f"{where}: an item is a number of too many digits: give ids as the data has them") from None
    raise LeaError(f"{where}: item {_short(item)} is neither text nor whole number: give ids as the data has them")


def _short(value: object) -> str:
    """A value in an error's words, cut to a line."""
    try:
        text = repr(value)
    except ValueError:
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _table_rows(table: pa.Table) -> tuple[Iterable[list[Any]], list[Any] | None]:
    """A table's histories, and whose they are."""
    names = table.column_names
    if HISTORY in names:
        kind = table.schema.field(HISTORY).type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            raise LeaError(f"column {HISTORY!r} holds {kind}: give lists of item ids")
        column = table[HISTORY]
        if column.null_count:
            place = int(pc.index(pc.is_null(column), True).as_py())
            raise LeaError(f"history {place} is null: give an empty list where there is none")
        users = table[USER].to_pylist() if USER in names else None
        return column.to_pylist(), users
    if USER in names and ITEM in names:
        return _grouped(table)
    raise LeaError(
        f"the table's columns are {', '.join(names) or 'none'}: give {HISTORY!r}, lists of item ids, or {USER!r} and "
        f"{ITEM!r}, a row per event"
    )


def _grouped(table: pa.Table) -> tuple[list[list[Any]], list[Any]]:
    """Events, a row each, as histories: users in order of their first row, events in order of time if it is given."""
    for name in (USER, ITEM, *([TIMESTAMP] if TIMESTAMP in table.column_names else [])):
        if table[name].null_count:
            place = int(pc.index(pc.is_null(table[name]), True).as_py())
            raise LeaError(f"row {place}: column {name!r} is null: drop such rows")
    encoded = table[USER].combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    codes, users = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    order = np.arange(table.num_rows)
    if TIMESTAMP in table.column_names:
        order = pc.sort_indices(table[TIMESTAMP]).to_numpy()  # stable
    order = order[np.argsort(codes[order], kind="stable")]
    events = table[ITEM].to_pylist()
    items = [events[row] for row in order.tolist()]
    ends = np.cumsum(np.bincount(codes, minlength=len(users))).tolist()
    return [items[start:end] for start, end in pairwise([0, *ends])], users
