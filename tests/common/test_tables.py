"""Schemas are kept on the way in and out, and a table that was cut short is noticed."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lea_core.common import tables
from lea_core.common.errors import LeaError

SCHEMAS = {name: schema for name, schema in vars(tables).items() if name.isupper() and isinstance(schema, dict)}


def states() -> pa.Table:
    return pa.table(
        {
            "user": pa.array([0, 0, 1], pa.int32()),
            "position": pa.array([0, 1, 0], pa.int32()),
            "state": tables.vectors(np.arange(6, dtype=np.float16).reshape(3, 2)),
        }
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_empty_tables_have_their_schema(tmp_path: Path, name: str) -> None:
    path = tmp_path / "none.parquet"
    tables.write_table(path, tables.empty(SCHEMAS[name], width=3), SCHEMAS[name])
    read = tables.read_table(path, SCHEMAS[name])
    assert (read.num_rows, read.column_names) == (0, list(SCHEMAS[name]))
    for column, kind in SCHEMAS[name].items():
        assert tables.to_numpy(read, column).shape == ((0, 3) if isinstance(kind, tables.Vector) else (0,))


def test_vectors_come_back(tmp_path: Path) -> None:
    path = tmp_path / "states.parquet"
    tables.write_table(path, states(), tables.STATES)
    read = tables.read_table(path, tables.STATES)
    assert tables.to_numpy(read, "state").tolist() == [[0, 1], [2, 3], [4, 5]]
    assert tables.to_numpy(read, "state").dtype == np.float16
    assert tables.to_numpy(read.slice(1), "state").tolist() == [[2, 3], [4, 5]]
    assert tables.to_numpy(pa.concat_tables([read, read.slice(2)]), "state").tolist() == [
        [0, 1],
        [2, 3],
        [4, 5],
        [4, 5],
    ]
    assert tables.to_numpy(read, "user").tolist() == [0, 0, 1]


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    tables.write_table(tmp_path / "a.parquet", states(), tables.STATES)
    swapped = pa.concat_tables([states().slice(0, 2), states().slice(2)]).combine_chunks()
    tables.write_table(tmp_path / "b.parquet", swapped.select(["state", "user", "position"]), tables.STATES)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range of rows can be read without the others, and how a table lies in memory does not show in the bytes."""
    monkeypatch.setattr(tables, "ROW_GROUP", 2)
    table = pa.table({"user": pa.array(range(5), pa.int32()), "user_id": ["a", "b", "c", "d", "e"]})
    tables.write_table(tmp_path / "a.parquet", table, tables.USERS)
    written = pq.ParquetFile(tmp_path / "a.parquet")
    assert [written.metadata.row_group(group).num_rows for group in range(written.num_row_groups)] == [2, 2, 1]
    assert tables.read_table(tmp_path / "a.parquet", tables.USERS).equals(table)
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(3)])
    tables.write_table(tmp_path / "b.parquet", pieces, tables.USERS)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    tables.write_table(tmp_path / "states.parquet", states(), tables.STATES)
    assert pq.read_metadata(tmp_path / "states.parquet").num_row_groups == 2
    assert tables.read_table(tmp_path / "states.parquet", tables.STATES).equals(states())


def test_some_columns(tmp_path: Path) -> None:
    """The types of the others are checked nevertheless."""
    path = tmp_path / "users.parquet"
    tables.write_table(path, pa.table({"user": pa.array([7], pa.int32()), "user_id": ["a"]}), tables.USERS)
    assert tables.read_table(path, tables.USERS, columns=("user",)).to_pydict() == {"user": [7]}
    for bad, message in (
        ({"user": pa.array([7], pa.int32()), "user_id": [1]}, "column 'user_id' holds int64, not string"),
        ({"user": pa.array([7], pa.int32())}, "column 'user_id' is missing"),
        ({"user_id": ["a"]}, "column 'user' is missing"),
        ({"user": pa.array([None], pa.int32()), "user_id": ["a"]}, "column 'user' holds 1 nulls"),
        ({"user": pa.array([7], pa.int32()), "user_id": ["a"], "extra": [1]}, "unknown column 'extra'"),
    ):
        pq.write_table(pa.table(bad), path)
        with pytest.raises(LeaError, match=rf"users\.parquet: {message}: delete it and run `dvc repro`$"):
            tables.read_table(path, tables.USERS, columns=("user",))


def replaced(column: str, values: pa.Array) -> pa.Table:
    table = states()
    return table.set_column(table.column_names.index(column), column, values)


BAD = [
    (states().drop_columns("user"), "column 'user' is missing"),
    (states().append_column("extra", states()["user"]), "unknown column 'extra'"),
    (replaced("user", pa.array([0, 0, 1], pa.int64())), "column 'user' holds int64, not int32"),
    (replaced("position", pa.array([0, None, 1], pa.int32())), "column 'position' holds 1 nulls"),
    (
        replaced("state", tables.vectors(np.zeros((3, 2), np.float32))),
        "column 'state' holds .*, not vector of halffloat",
    ),
    (replaced("state", pa.array([[1.0], [], [2.0]])), "column 'state' holds list.*, not vector of halffloat"),
]


@pytest.mark.parametrize(("table", "message"), BAD)
def test_a_table_of_another_schema_neither_gets_in_nor_out(tmp_path: Path, table: pa.Table, message: str) -> None:
    path = tmp_path / "states.parquet"
    with pytest.raises(LeaError, match=rf"states\.parquet: {message}: delete it and run `dvc repro`$"):
        tables.write_table(path, table, tables.STATES)
    assert list(tmp_path.iterdir()) == []
    pq.write_table(table, path)
    with pytest.raises(LeaError, match=rf"states\.parquet: {message}: delete it and run `dvc repro`$"):
        tables.read_table(path, tables.STATES)


def test_a_truncated_table(tmp_path: Path) -> None:
    path = tmp_path / "states.parquet"
    tables.write_table(path, states(), tables.STATES)
    whole = path.read_bytes()
    for length in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            LeaError, match=r"states\.parquet: broken Parquet file \(.*\): delete it and run `dvc repro`$"
        ):
            tables.read_table(path, tables.STATES)
    path.unlink()
    for read in (lambda: tables.read_table(path, tables.STATES), lambda: tables.is_made_from(path, path)):
        with pytest.raises(LeaError, match=r"states\.parquet: not found: run `dvc repro` to make it$"):
            read()
