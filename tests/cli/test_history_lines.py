"""Lines of histories: any bytes are a history or one line that says why not; batches keep order and numbers."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lea_core.cli import history_lines
from lea_core.cli.history_lines import ABSENT, Batch, lines, open_parquet, parse, rows
from lea_core.common.errors import LeaError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
IDS = st.lists(TEXT | st.integers())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
# What looks like a history and is none: cut, spliced, of other types, with keys of others.
NEARLY = st.builds(
    lambda value, cut, extra: json.dumps(value, ensure_ascii=False).encode()[:cut] + extra,
    JSON | st.dictionaries(st.sampled_from(["history", "user", "users"]), JSON),
    st.integers(0, 60),
    st.binary(max_size=3),
)


@given(st.binary() | NEARLY)
@example(b"[" * 200_000)
@example(b'{"history": [], "user": ' + b"[" * 900 + b"]" * 900 + b"}")
@example(b"[" + b"1" * 5_000 + b"]")
@example(b"[1e999]")
@example(b'{"history": [], "user": 1e999}')
@example(b'["\\ud800"]')
@example(b'{"history": [], "user": "\\ud800"}')
@example(b"[NaN]")
@example(b"[true]")
def test_any_bytes_are_a_history_or_one_line(raw: bytes) -> None:
    why = ""
    try:
        history, user = parse(raw)
    except LeaError as error:
        why = str(error)
    if why:
        assert "\n" not in why
    else:
        assert all(isinstance(item, str) for item in history)
        json.dumps([history, None if user is ABSENT else user], ensure_ascii=False, allow_nan=False).encode()


@given(IDS, JSON, st.booleans())
def test_valid_lines_round_trip(history: list[str | int], user: Any, ascii_only: bool) -> None:
    texts = [str(item) for item in history]
    line = json.dumps({"history": history, "user": user}, ensure_ascii=ascii_only).encode()
    assert parse(line + b"\r\n") == (texts, user)
    assert parse(json.dumps(history, ensure_ascii=ascii_only).encode()) == (texts, ABSENT)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a,b", "no JSON (Expecting value at character 1)"),
        (b'["a"', "no JSON (Expecting ',' delimiter at character 5)"),
        (b'["\xff"]', "byte 3 is not UTF-8"),
        (b"[NaN]", "NaN is no JSON"),
        (b"[null]", "item None is neither text nor whole number"),
        (b"[true]", "item True is neither text nor whole number"),
        (b"[1.5]", "item 1.5 is neither text nor whole number"),
        (b"[1e16]", "item 1e+16 is a float of more digits than it holds: give such ids as text"),
        (b'[["a"]]', "item ['a'] is neither text nor whole number"),
        (b'"abc"', "text, not a history"),
        (b"null", "null, not a history"),
        (b"{}", "has no key 'history'"),
        (b'{"history": "abc"}', "'history' is text: give a list"),
        (b'{"history": [], "users": 1}', "has an unknown key 'users'"),
    ],
)
def test_what_is_said(raw: bytes, message: str) -> None:
    with pytest.raises(LeaError) as caught:
        parse(raw)
    assert message in str(caught.value)


def read(text: bytes, size: int) -> tuple[list[Batch], list[str]]:
    refused: list[str] = []
    return list(lines(io.BytesIO(text), size, lambda name, _: refused.append(name))), refused


@pytest.mark.parametrize("size", [1, 2, 100])
def test_lines_keep_their_order_and_numbers(size: int) -> None:
    text = b'\xef\xbb\xbf["a"]\n\n  \r\n{"history": ["b", 2.0], "user": null}\nno\n[]\n["last"]'
    batches, refused = read(text, size)
    assert refused == ["line 5"]
    assert [name for batch in batches for name in batch.names] == ["line 1", "line 4", "line 6", "line 7"]
    assert [history for batch in batches for history in batch.histories] == [["a"], ["b", "2"], [], ["last"]]
    assert [user for batch in batches for user in batch.users] == [ABSENT, None, ABSENT, ABSENT]
    assert max(len(batch.names) for batch in batches) == min(size, 4)


def test_memory_is_bounded_by_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_lines, "LONGEST", 10)
    monkeypatch.setattr(history_lines, "BATCH_BYTES", 12)
    batches, refused = read(b'["12345"]\n["too long by far, three times over"]\n["1"]\n["2"]\n["3"]\n', 100)
    assert refused == ["line 2"]
    assert [batch.names for batch in batches] == [["line 1", "line 3"], ["line 4", "line 5"]]
    exactly = read(b'["12345"]\n["123456"]', 100)  # 10 bytes with their line's end, and without one
    assert exactly[1] == []


def table(folder: Path, columns: dict[str, pa.Array]) -> Path:
    path = folder / "histories.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_rows_of_parquet(tmp_path: Path) -> None:
    history = pa.array([[1, 2], None, [], [3, None], [4]], pa.list_(pa.int64()))
    path = table(tmp_path, {"user": pa.array([7, 8, None, 9, 10]), "history": history, "more": pa.nulls(5)})
    refused: list[str] = []
    with path.open("rb") as stream:
        batches = list(rows("f", open_parquet("f", stream), 2, lambda name, why: refused.append(f"{name}: {why}")))
    assert [name for batch in batches for name in batch.names] == ["row 0", "row 2", "row 4"]
    assert [history for batch in batches for history in batch.histories] == [["1", "2"], [], ["4"]]
    assert [user for batch in batches for user in batch.users] == [7, None, 10]
    assert refused == [
        "row 1: column 'history' is null: give an empty list where there is none",
        "row 3: column 'history' holds a null: leave such items out",
    ]


NOT_UTF8 = pa.array([b"a", b"\xff", b"c"]).view(pa.string())


@pytest.mark.parametrize(
    ("history", "user", "histories", "refused"),
    [
        (
            [[1.0], [2.5], [3.0]],
            None,
            [["1"], ["3"]],
            "row 1: column 'history': item 2.5 is neither text nor whole number",
        ),
        (
            pa.ListArray.from_arrays([0, 1, 2, 3], NOT_UTF8),
            None,
            [["a"], ["c"]],
            r"row 1: column 'history': item b'\xff' is",
        ),
        (
            pa.array([["a", "b"]] * 3, pa.list_(pa.string(), 2)),
            NOT_UTF8,
            [["a", "b"]] * 2,
            "row 1: column 'user' is no whole",
        ),
        (
            [["a"]] * 3,
            [1.0, 1.5, None],
            [["a"]] * 2,
            "row 1: column 'user' is no whole number or no UTF-8: give text or",
        ),
        (
            pa.array([["a"], [b"\xff"], []], pa.large_list(pa.binary())),
            None,
            [["a"], []],
            "row 1: column 'history': item b",
        ),
    ],
)
def test_a_row_that_is_none_is_refused_and_the_others_are_read(
    tmp_path: Path, history: Any, user: Any, histories: list[list[str]], refused: str
) -> None:
    """Whatever the file has for text: Arrow does not look at it before it is read."""
    path = table(tmp_path, {"history": history} if user is None else {"history": history, "user": user})
    said: list[str] = []
    with path.open("rb") as stream:
        (batch,) = rows("f", open_parquet("f", stream), 9, lambda name, why: said.append(f"{name}: {why}"))
    assert batch.histories == histories
    assert batch.names == ["row 0", "row 2"]
    assert [type(whose) for whose in batch.users if whose not in (ABSENT, None)] in ([], [str, str], [int])
    assert len(said) == 1
    assert said[0].startswith(refused)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"items": pa.array([["a"]])}, "its columns are items: give 'history'"),
        ({"history": pa.array(["a"])}, "column 'history' holds string: give lists"),
        ({"history": pa.array([[["a"]]])}, "column 'history' holds list<.*>: give texts or whole numbers"),
        ({"history": pa.array([[{"a": 1}]])}, "column 'history' holds struct<.*>: give texts or whole numbers"),
        ({"history": pa.array([["a"]]), "user": pa.array([[1.5]])}, "column 'user' holds list"),
    ],
)
def test_other_columns_are_refused(tmp_path: Path, columns: dict[str, pa.Array], message: str) -> None:
    with table(tmp_path, columns).open("rb") as stream, pytest.raises(LeaError, match=rf"^f: {message}"):
        open_parquet("f", stream)
    with pytest.raises(LeaError, match=r"^f: broken Parquet file"):
        open_parquet("f", io.BytesIO(b"PAR1 and no more"))
