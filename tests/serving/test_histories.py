"""Histories of every kind in item indices; what is none gives one line."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lea_core.common.errors import LeaError
from lea_core.serving.histories import look_up, read_histories
from tests.support.tiny_policy import IDS, INDEX

LISTS = pl.DataFrame({"user": [7, 8], "history": [["b", "a"], ["10"]]})
# What Arrow takes for text without looking at it: "a" and a byte that no text begins with.
NOT_UTF8 = pa.array([b"a", b"\xff"]).view(pa.string())
EVENTS = pl.DataFrame({"user": ["x", "y", "x", "x"], "item": ["a", "c", "b", "12"], "timestamp": [30, 5, 10, 20]})


@pytest.mark.parametrize(
    ("given", "histories", "users"),
    [
        ([["b", 10], [], np.array([11])], [[1, 3], [], [4]], None),
        ((np.array(["b", "a"]),), [[1, 0]], None),
        (LISTS, [[1, 0], [3]], [7, 8]),
        (LISTS.to_arrow(), [[1, 0], [3]], [7, 8]),
        (LISTS.to_arrow().to_batches()[0], [[1, 0], [3]], [7, 8]),
        (LISTS.drop("user"), [[1, 0], [3]], None),
        (pl.DataFrame({"history": [[10, 12]]}), [[3, 5]], None),
        (EVENTS, [[1, 5, 0], [2]], ["x", "y"]),  # users as they come, events by time
        (pd.DataFrame(EVENTS.to_dict(as_series=False)), [[1, 5, 0], [2]], ["x", "y"]),
        (EVENTS.drop("timestamp"), [[0, 1, 5], [2]], ["x", "y"]),
        (EVENTS.clear(), [], []),
        # One column, of any library, and every kind of list.
        (LISTS["history"], [[1, 0], [3]], None),
        (pd.Series([["b", "a"], ["10"]]), [[1, 0], [3]], None),
        (pa.array([["b", "a"], ["10"]]), [[1, 0], [3]], None),
        (pa.chunked_array([[["b", "a"]], [["10"]]]), [[1, 0], [3]], None),
        ([pl.Series(["b", "a"]), pd.Series([10]), pa.array(["c"])], [[1, 0], [3], [2]], None),
        (pa.table({"history": pa.array([["b", "a"]], pa.list_(pa.string(), 2))}), [[1, 0]], None),
        (pa.table({"history": pa.array([["b"], []], pa.large_list(pa.large_string()))}), [[1], []], None),
        (pa.table({"history": pa.array([["b"]], pa.list_view(pa.string_view()))}).slice(0), [[1]], None),
        (LISTS.cast({"history": pl.List(pl.Categorical)}), [[1, 0], [3]], [7, 8]),
        (pa.table({"history": [[b"b"], [b"10"]]}), [[1], [3]], None),
        # Floats that are whole numbers: 10.0 is the item 10.
        ([[10.0, np.float32(12), "a"], np.array([11.0])], [[3, 5, 0], [4]], None),
        (pl.DataFrame({"history": [[10.0], [12.0, 11.0]]}), [[3], [5, 4]], None),
        (pd.DataFrame({"user": ["x", "x"], "item": [12.0, 10.0]}), [[5, 3]], ["x"]),
        (pa.table({"user": [1], "item": pa.array([11.0], pa.float32())}), [[4]], [1]),
    ],
)
def test_histories_of_every_kind(given: Any, histories: list[list[int]], users: list[Any] | None) -> None:
    found = read_histories(given, INDEX, "refuse")
    assert [part.tolist() for part in np.split(found.items, found.offsets[1:-1])][: len(found)] == histories
    assert found.users == users


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("abc", "histories are str: give a list of lists of item ids, or a table"),
        ({"a": ["b"]}, "histories are dict: give a list of lists"),
        (3, "histories are int: give a list of lists"),
        (["a", "b"], "history 0 is 'a': give a list of item ids, oldest first"),
        ([["a"], None], "history 1 is None: give a list of item ids"),
        ([["a"], ["b", None]], "history 1: item None is neither text nor whole number"),
        ([[1.5]], "history 0: item 1.5 is neither text nor whole number"),
        ([[True]], "history 0: item True is neither"),
        ([[["a"]]], r"history 0: item \['a'\] is neither"),
        ([["a", "x"]], "history 0: item 'x' is unknown: leave it out, or skip unknown items"),
        ([[10**5000]], "history 0: an item is a number of too many digits"),
        (pl.DataFrame({"item": ["a"]}), "the table's columns are item: give 'history', lists of item ids, or 'user'"),
        (pl.DataFrame({"history": ["a"]}), "column 'history' holds .*string.*: give lists of item ids"),
        (pl.DataFrame({"history": [["a"], None]}), "row 1: column 'history' is null: give an empty list"),
        (pl.DataFrame({"user": ["u", "u"], "item": ["a", None]}), "row 1: column 'item' is null: drop such rows"),
        # Floats that are no id name row and column.
        (pd.DataFrame({"user": ["u"] * 3, "item": [10.0, 11.0, 1.5]}), "row 2: column 'item': item 1.5 is neither"),
        (pl.DataFrame({"user": ["u"] * 2, "item": [10.0, np.nan]}), "row 1: column 'item' is null: drop such rows"),
        (pl.DataFrame({"history": [[10.0], [], [11.0, 1.5]]}), "row 2: column 'history': item 1.5 is neither text nor"),
        ([[10.0], [float("nan")]], "history 1: item nan is neither text nor whole number"),
        ([[2.0**53]], r"history 0: item 9007199254740992.0 is a float of more digits than it holds: give such ids"),
        (
            pa.table({"history": pa.array([[2.0**24 - 1, 2.0**24]], pa.list_(pa.float32()))}),
            "row 0.* item 16777216.0 is a",
        ),
        # Columns of other kinds.
        (pl.Series(["a"]), "column 'history' holds .*string.*: give lists of item ids"),
        (pd.Series([["a", 10]]), "histories are a Series that Arrow cannot read .*: give columns of one type each, or"),
        (pd.DataFrame({"history": [["a", 10]]}), r"cannot read \(.*Conversion failed for column history with type"),
        (pa.table({"history": [[["a"]]]}), "column 'history' holds list<.*>: give texts or whole numbers"),
        (pa.table({"history": [[{"a": 1}]]}), "column 'history' holds struct<.*>: give texts or whole numbers"),
        (pa.table({"history": [["a"], ["b", None]]}), "row 1: column 'history' holds a null: leave such items out"),
        (
            pa.table({"user": [1, 2], "item": [b"a", b"\xff"]}),
            r"row 1: column 'item': item b'\\xff' is not UTF-8: save",
        ),
        (pa.table({"user": [1, 2], "item": NOT_UTF8}), r"row 1: column 'item': item b'\\xff' is not UTF-8: save ids"),
        (pa.table({"user": NOT_UTF8, "item": ["a", "b"]}), "column 'user' holds text that is not UTF-8"),
        (pa.table({"user": [[1]], "item": ["a"]}), "column 'user' holds list<.*>: give texts or whole numbers"),
        (EVENTS.with_columns(timestamp=pl.lit("9")), "column 'timestamp' holds .*string.*: give numbers or times"),
        (EVENTS.with_columns(timestamp=pl.lit(np.nan)), "row 0: column 'timestamp' is null: drop such rows"),
        (pa.table([LISTS["history"].to_arrow()] * 2, ["history"] * 2), "column 'history' is there twice: drop one"),
        ([np.array(3)], r"history 0 is array\(3\): give a list"),
    ],
)
def test_what_is_no_history(given: Any, message: str) -> None:
    with pytest.raises(LeaError, match=message) as error:
        read_histories(given, INDEX, "refuse")
    assert "\n" not in str(error.value)


def test_a_whole_number_with_a_point() -> None:
    """`7.0` is the item `7`, unless there is a `7.0`."""
    found = read_histories(
        [["7.0", "7", "8.00", "x.0", "8.5", "8.", "9.0"]], {"7.0": 0, "7": 1, "8": 2, "x": 3}, "skip"
    )
    assert found.items.tolist() == [0, 1, 2]
    assert found.unknown.tolist() == [4]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


def _text(item: Any) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)


@given(JUNK)
def test_any_history_is_read_or_refused_in_a_line(row: Any) -> None:
    mistake = None
    try:
        found = look_up(row, INDEX, "history 0", "skip")
    except LeaError as error:
        mistake = str(error)
    if mistake is None:
        texts = [str(int(item)) if isinstance(item, float) else _text(item) for item in row]
        assert [IDS[item] for item in found] == [text for text in texts if text in INDEX]
    else:
        assert mistake.startswith("history 0")
        assert "\n" not in mistake
