"""Histories of item ids, as lists or tables, in item indices.

In: lists of ids, or a table (Polars, Arrow, pandas: whatever speaks Arrow's C stream interface). Out: `Histories`, flat
arrays. Items that the vocabulary lacks are skipped and counted, or refused. Needs neither torch nor Polars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lea_core.common.errors import LeaError
from lea_core.data.sequences import ragged_ranges
from lea_core.serving.ids import NUMBERS, id_column, id_lists, item_id, known_as, short

Unknown = Literal["skip", "refuse"]
HISTORY, USER, ITEM, TIMESTAMP = "history", "user", "item", "timestamp"


@dataclass(frozen=True)
class Histories:
    """B histories, oldest item first, as a ragged batch.

    items: (N,) int64, one history after the other.  offsets: (B + 1,) int64, history b is rows offsets[b] to
    offsets[b + 1] - 1.  unknown: (B,) int64, how many items were skipped.  users: the user of each, if it was given.
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

        T is the largest number of items of a row, at least 1. Shorter rows are padded with -1 on the left, or with
        `in_front` on the right.
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
        owner, places = ragged_ranges(self.offsets[rows], self.lengths[rows])
        return owner, self.items[places]


def read_histories(given: object, index: Mapping[str, int], unknown: Unknown) -> Histories:
    """Histories of item ids in item indices.

    given: a sequence of histories, each a sequence of ids (ids.py), oldest first; or a table with a column `history` of
    such lists, or that column alone; or a table with the columns `user` and `item`, a row per event, in order or with a
    column `timestamp`. A table's column `user` goes to `users`. index: item id -> item. Raises `LeaError` where that
    is not so, or with `unknown` "refuse" where an id is not in `index`.
    """
    if unknown not in ("skip", "refuse"):
        raise LeaError(f"unknown is {unknown!r}: write 'skip' or 'refuse'")
    users: list[Any] | None = None
    rows: Iterable[Any]
    if isinstance(given, pa.Array) or hasattr(given, "__arrow_c_stream__"):
        rows, users = _table_rows(_table(given))
    elif isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        rows = given
    else:
        raise LeaError(f"histories are {type(given).__name__}: give a list of lists of item ids, or a table")
    rows = list(rows)
    if (at_once := _all_known(rows, index)) is not None:
        items, lengths = at_once
        return Histories(items, np.concatenate([[0], lengths.cumsum()]), np.zeros_like(lengths), users)
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


def _all_known(rows: list[Any], index: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray] | None:
    """Items of all rows and their lengths where each is a list of known texts, else None.

    This is the usual case, and most of the time of a large batch, so there is no Python loop over items.
    """
    if not all(type(row) is list for row in rows):
        return None
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    try:
        return np.fromiter(map(index.__getitem__, chain.from_iterable(rows)), np.int64, int(lengths.sum())), lengths
    except (KeyError, TypeError):
        return None


def look_up(row: object, index: Mapping[str, int], where: str, unknown: Unknown) -> list[int]:
    """The items of one history, unknown ones left out. `where` names it in errors."""
    for way in ("to_list", "to_pylist", "as_py"):  # a column of Polars, pandas or Arrow
        row = getattr(row, way)() if hasattr(row, way) else row
    single = isinstance(row, np.ndarray) and row.ndim == 0
    if single or isinstance(row, str | bytes | Mapping) or not isinstance(row, Sequence | np.ndarray):
        raise LeaError(f"{where} is {short(row)}: give a list of item ids, oldest first")
    try:
        found = [index[item] for item in row]
    except (KeyError, TypeError):  # numbers, unknown ids, or what is no id: slower, and with words
        found = []
        for item in row:
            name = known_as(item_id(item, where), index)
            if name is not None:
                found.append(index[name])
            elif unknown == "refuse":
                raise LeaError(f"{where}: item {short(item)} is unknown: leave it out, or skip unknown items") from None
    return found


def _table(given: Any) -> pa.Table:
    """A table, or a column as the column `history` of one. Raises `LeaError` where Arrow cannot read it."""
    try:
        if isinstance(given, pa.RecordBatch):
            return pa.Table.from_batches([given])
        if isinstance(given, pa.Array):
            return pa.table({HISTORY: given})
        if isinstance(given, pa.ChunkedArray) or hasattr(given, "to_list"):  # a Series of Polars or pandas
            return pa.table({HISTORY: pa.chunked_array(given)})
        return pa.table(given)
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = "; ".join(map(str, error.args)).splitlines()[0]
        raise LeaError(
            f"histories are a {type(given).__name__} that Arrow cannot read ({reason}): give columns of one type each, "
            "or a list of lists of item ids"
        ) from None


def _table_rows(table: pa.Table) -> tuple[list[list[str]], list[Any] | None]:
    """A table's histories and their users."""
    names = table.column_names
    if twice := [name for name in (HISTORY, USER, ITEM, TIMESTAMP) if names.count(name) > 1]:
        raise LeaError(f"column {twice[0]!r} is there twice: drop one")
    if HISTORY in names:
        return id_lists(table[HISTORY], HISTORY), _users(table[USER]) if USER in names else None
    if USER in names and ITEM in names:
        return _grouped(table)
    raise LeaError(
        f"the table's columns are {', '.join(names) or 'none'}: give {HISTORY!r}, lists of item ids, or {USER!r} and "
        f"{ITEM!r}, a row per event"
    )


def _users(column: pa.ChunkedArray | pa.Array) -> list[Any]:
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        raise LeaError(f"column {USER!r} holds text that is not UTF-8: save it as UTF-8") from None


def _grouped(table: pa.Table) -> tuple[list[list[str]], list[Any]]:
    """Events, a row each, as histories: users in the order of their first row, events by time if there are times."""
    timed = TIMESTAMP in table.column_names
    for name in (USER, ITEM, *([TIMESTAMP] if timed else [])):
        missing = pc.is_null(table[name], nan_is_null=True)
        if (place := int(pc.index(missing, True).as_py())) >= 0:
            raise LeaError(f"row {place}: column {name!r} is null: drop such rows")
    try:
        encoded = table[USER].combine_chunks().dictionary_encode()
    except pa.ArrowNotImplementedError:
        raise LeaError(f"column {USER!r} holds {table[USER].type}: give texts or whole numbers") from None
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    codes, users = encoded.indices.to_numpy(), _users(encoded.dictionary)
    order = np.arange(table.num_rows)
    if timed:
        kind = table[TIMESTAMP].type
        if not any(is_kind(kind) for is_kind in (*NUMBERS, pa.types.is_temporal, pa.types.is_null)):
            raise LeaError(f"column {TIMESTAMP!r} holds {kind}: give numbers or times")
        order = pc.sort_indices(table[TIMESTAMP]).to_numpy()  # stable
    order = order[np.argsort(codes[order], kind="stable")]
    events = id_column(table[ITEM], ITEM)
    items = [events[row] for row in order.tolist()]
    ends = np.cumsum(np.bincount(codes, minlength=len(users))).tolist()
    return [items[start:end] for start, end in pairwise([0, *ends])], users
