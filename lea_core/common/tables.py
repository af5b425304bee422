"""Every Parquet artifact's schema, and the only way in and out of Parquet.

In and out: Parquet files under `data/`. A table is checked on writing and on reading: columns, types, no nulls. It is
published atomically (see `artifacts.py`) after its footer and row count were read back, with a fixed compression, row
groups of a fixed size and no time stamps inside, so equal tables are equal bytes.

Vectors are fixed-size lists. Their width differs between artifacts (it comes from the LLM or a parameter), so a schema
states `Vector(type)` and the width is read from the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lea_core.common.artifacts import publish_file
from lea_core.common.errors import LeaError
from lea_core.common.sources import file_sha256


@dataclass(frozen=True)
class Vector:
    """The type of a column of equally long vectors."""

    item: pa.DataType


Schema = dict[str, pa.DataType | Vector]

# Rows of a Parquet row group, the smallest piece that can be read. Later stages read ranges of rows, so the memory they
# need does not grow with the table. With fewer rows per group the file would be larger.
ROW_GROUP = 2**16
# Under this name a table keeps the hash of the file that its rows are about.
MADE_FROM = "made_from"
NO_NOTES: Mapping[str, str] = {}

# One row per kept event, sorted by user and position; position counts a user's events from 0 in time order.
INTERACTIONS: Schema = {
    "user": pa.int32(),
    "position": pa.int32(),
    "item": pa.int32(),
    "timestamp": pa.int64(),
    "event": pa.string(),  # "" where the data has no event column
    "rating": pa.float32(),  # NaN where the data has no rating column
    "split": pa.string(),  # train, valid or test
}
# One row per item, sorted by item; `train_count` counts its training events (its popularity).
ITEMS: Schema = {"item": pa.int32(), "item_id": pa.string(), "text": pa.string(), "train_count": pa.int32()}
USERS: Schema = {"user": pa.int32(), "user_id": pa.string()}
# token: (H,) in the LLM's input space; pooled: (H,) text vector, standardised over the items; content: (C,) the same
# whitened, unit length.
ITEM_TOKENS: Schema = {
    "item": pa.int32(),
    "token": Vector(pa.float32()),
    "pooled": Vector(pa.float32()),
    "content": Vector(pa.float32()),
}
# What an item's embedding starts from, the directions of most variance first; a row for every item.
ITEM_VECTORS: Schema = {"item": pa.int32(), "vector": Vector(pa.float32())}
# The LE's state after a user's events 0..position; a row for every training event.
STATES: Schema = {"user": pa.int32(), "position": pa.int32(), "state": Vector(pa.float16())}
# The LE's reward of the logged next item (`action`, the item at position + 1) and of sampled items, from the state at
# `position`; a row for every training event that another training event follows.
REWARDS: Schema = {
    "user": pa.int32(),
    "position": pa.int32(),
    "action": pa.int32(),
    "reward": pa.float32(),
    "sampled_actions": Vector(pa.int32()),
    "sampled_rewards": Vector(pa.float32()),
}
# Actions that the LE proposes from the state at `position`, likeliest first, with log P(action | state) as score (those
# of a control are its own) and LE reward; the same rows as REWARDS.
ACTIONS: Schema = {
    "user": pa.int32(),
    "position": pa.int32(),
    "actions": Vector(pa.int32()),
    "scores": Vector(pa.float32()),
    "rewards": Vector(pa.float32()),
}
# The items that the LE ranks first in the state at `position`, likeliest first, and log P(item | state); the same rows
# as REWARDS.
RANKINGS: Schema = {
    "user": pa.int32(),
    "position": pa.int32(),
    "items": Vector(pa.int32()),
    "log_probabilities": Vector(pa.float32()),
}
# One row per seed, split (valid, test) and evaluated event: the 1-based rank of the event's item among all candidates,
# infinite where it is none of them; how many candidates there were (metrics.ALL where no item was left out); and the
# best of them (evaluate.cutoffs has how many), best first, -1 where there are fewer.
RANKS: Schema = {
    "seed": pa.int32(),
    "split": pa.string(),
    "user": pa.int32(),
    "position": pa.int32(),
    "event": pa.string(),  # "" where the data has no event column
    "item": pa.int32(),
    "rank": pa.float32(),
    "candidates": pa.int32(),
    "top": Vector(pa.int32()),
}


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn an error in reading a Parquet file into one line that says what is wrong."""
    try:
        yield
    except FileNotFoundError:
        raise LeaError(f"{path}: not found: run `dvc repro` to make it") from None
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise LeaError(f"{path}: broken Parquet file ({reason}): delete it and run `dvc repro`") from None


def write_table(path: Path, table: pa.Table, schema: Schema) -> None:
    """Check `table` against `schema`, write it beside `path`, read its footer back, and publish it.

    Raises `LeaError` naming file and column where a column is missing, extra, of another type, or holds nulls.
    """
    check(path, table, schema)
    with publish_file(path) as temporary:
        columns = table.select(list(schema))
        with pq.ParquetWriter(temporary, columns.schema, compression="zstd", version="2.6") as writer:
            for start in range(0, max(table.num_rows, 1), ROW_GROUP):
                # combined, because the borders of chunks would change the bytes
                writer.write_table(columns.slice(start, ROW_GROUP).combine_chunks())
        if pq.read_metadata(temporary).num_rows != table.num_rows:
            raise LeaError(f"{path}: what was written does not read back: check the disk and run again")


def read_table(path: Path, schema: Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet artifact and check it; all of it, or these `columns` alone (the others' types are checked too).

    Raises `LeaError` where it is absent, cut short or of another schema.
    """
    # Not `pq.read_table`: it imports pyarrow.dataset, and Pandas with it where that is installed.
    with _reading(path), pq.ParquetFile(path) as file:
        found = file.schema_arrow
        table = file.read(None if columns is None else [name for name in columns if name in found.names])
    if columns is not None:
        check(path, found.empty_table(), schema)
    check(path, table, {name: kind for name, kind in schema.items() if columns is None or name in columns})
    return table


def read_rows(path: Path, schema: Schema, start: int, stop: int) -> pa.Table:
    """Read rows `start` to `stop` - 1 of these columns, no more of the file than the row groups that hold them.

    Raises `LeaError` as `read_table` does, and where the file has fewer rows.
    """
    with _reading(path), pq.ParquetFile(path) as file:
        metadata = file.metadata
        ends = np.cumsum([metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)])
        if metadata.num_rows < stop:
            raise LeaError(f"{path}: has {metadata.num_rows} rows, not {stop}: delete it and run `dvc repro`")
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        columns = [name for name in schema if name in file.schema_arrow.names]
        table = file.read_row_groups(list(range(first, last + 1)), columns=columns)
        before = int(ends[first] - metadata.row_group(int(first)).num_rows)
    check(path, table, schema)
    return table.slice(start - before, stop - start)


def read_states(path: Path, first: int, users: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The states (N, W) of N consecutive training events, from row `first` of the STATES table on.

    users, positions: (N,), of these events. Raises `LeaError` as `read_rows` does, and where the rows are of others.
    """
    table = read_rows(path, STATES, first, first + len(users))
    if not (np.array_equal(to_numpy(table, "user"), users) and np.array_equal(to_numpy(table, "position"), positions)):
        raise LeaError(f"{path}: its rows are not the training events: run `dvc repro annotate`")
    return to_numpy(table, "state")


def write_parts(
    path: Path, parts: Iterable[pa.Table], schema: Schema, made_from: Path, notes: Mapping[str, str] = NO_NOTES
) -> None:
    """Write one table from parts, a few of which are in memory at a time; equal rows give equal bytes.

    Row groups have ROW_GROUP rows, whatever the size of the parts. The hash of the file `made_from` is stored with the
    table, for `is_made_from`, and so are the `notes`. Raises `LeaError` as `write_table` does.
    """
    rows = 0
    origin = {**notes, MADE_FROM: file_sha256(made_from)}
    with publish_file(path) as temporary, contextlib.ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        waiting: list[pa.Table] = []
        for part in parts:
            check(path, part, schema)
            waiting.append(part.select(list(schema)))
            rows += part.num_rows
            if writer is None:
                columns = waiting[0].schema.with_metadata(origin)
                writer = stack.enter_context(pq.ParquetWriter(temporary, columns, compression="zstd", version="2.6"))
            while sum(table.num_rows for table in waiting) >= ROW_GROUP:
                joined = pa.concat_tables(waiting)
                writer.write_table(joined.slice(0, ROW_GROUP))
                waiting = [joined.slice(ROW_GROUP)]
        if writer is None:
            raise LeaError(f"{path}: there is nothing to write: give the pipeline more data")
        writer.write_table(pa.concat_tables(waiting))
        stack.close()
        if pq.read_metadata(temporary).num_rows != rows:
            raise LeaError(f"{path}: what was written does not read back: check the disk and run again")


def is_made_from(path: Path, source: Path) -> bool:
    """Whether the table at `path`, of `write_parts`, was made from the file `source` as it is now.

    Raises `LeaError` where the table is absent or cut short.
    """
    with _reading(path):
        metadata = pq.read_schema(path).metadata or {}
    found: bool = metadata.get(MADE_FROM.encode()) == file_sha256(source).encode()
    return found


def check(path: Path, table: pa.Table, schema: Schema) -> None:
    """Raise `LeaError` where `table` differs from `schema`; `path` is its name in messages."""
    mend = "delete it and run `dvc repro`"
    for column, wanted in schema.items():
        if column not in table.column_names:
            raise LeaError(f"{path}: column {column!r} is missing: {mend}")
        found = table.schema.field(column).type
        if isinstance(wanted, Vector):
            right = pa.types.is_fixed_size_list(found) and found.value_type == wanted.item
            wanted_name = f"vector of {wanted.item}"
        else:
            right, wanted_name = found == wanted, str(wanted)
        if not right:
            raise LeaError(f"{path}: column {column!r} holds {found}, not {wanted_name}: {mend}")
        if table[column].null_count:
            raise LeaError(f"{path}: column {column!r} holds {table[column].null_count} nulls: {mend}")
    extra = sorted(set(table.column_names) - set(schema))
    if extra:
        raise LeaError(f"{path}: unknown column {extra[0]!r}: {mend}")


def empty(schema: Schema, width: int = 1) -> pa.Table:
    """Return a table of no rows; its vectors have `width`."""
    types = {name: pa.list_(kind.item, width) if isinstance(kind, Vector) else kind for name, kind in schema.items()}
    return pa.table({name: pa.array([], type=kind) for name, kind in types.items()})


def vectors(array: np.ndarray) -> pa.FixedSizeListArray:
    """(N, W) array -> a column of N vectors of width W, of the same number type."""
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])


def to_numpy(table: pa.Table, column: str) -> np.ndarray:
    """Return a column as (N,) array, or as (N, W) where it holds vectors."""
    chunked = table[column].combine_chunks()
    array = chunked.combine_chunks() if isinstance(chunked, pa.ChunkedArray) else chunked
    if pa.types.is_fixed_size_list(array.type):
        return _plain(array.flatten()).reshape(len(array), array.type.list_size)
    return _plain(array)


def _plain(array: pa.Array) -> np.ndarray:
    """`array.to_numpy` without importing pandas, which takes longer than an answer of a policy."""
    numbers = pa.types.is_integer(array.type) or pa.types.is_floating(array.type)
    if numbers and len(array) and not array.null_count:
        return np.from_dlpack(array)
    plain: np.ndarray = array.to_numpy(zero_copy_only=False)
    return plain
