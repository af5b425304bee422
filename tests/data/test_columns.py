"""Every role of a column by every type that a file can hold: read alike, or refused in one line."""

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lea_core.common.errors import LeaError
from lea_core.data.datasets.tables import read
from lea_core.serving.histories import read_histories
from tests.support.tiny_tables import INTERACTIONS, ITEMS, edited, tables, write

TEXTS = ["3", "4"]
JSON = pa.ExtensionArray.from_storage(pa.json_(), pa.array(TEXTS))
SAME_NUMBERS = {
    **{str(kind): pa.array([3, 4], kind) for kind in (pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float64())},
    "decimal": pa.array([Decimal("3.00"), Decimal("4.00")], pa.decimal128(10, 2)),
    "small decimal": pa.array([Decimal(3), Decimal(4)], pa.decimal32(5, 0)),
    **{str(kind): pa.array(TEXTS, kind) for kind in (pa.string(), pa.large_string(), pa.string_view())},
    **{str(kind): pa.array([b"3", b"4"], kind) for kind in (pa.binary(), pa.binary(1), pa.large_binary())},
    "categories": pa.array(TEXTS).dictionary_encode(),
    "numbers in a dictionary": pa.array([3.0, 4.0]).dictionary_encode(),
    "floats as text": pa.array(["3.0", "4.0"]),
    "json": JSON,
}
MOMENTS = [datetime(2010, 1, 2), datetime(2010, 1, 3)]
SAME_MOMENTS = {
    "date32": pa.array(MOMENTS, pa.date32()),
    "date64": pa.array(MOMENTS, pa.date64()),
    "text": pa.array(["2010-01-02", "2010-01-03"]),
    **{f"time in {unit}": pa.array(MOMENTS, pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")},
    **{f"zone {zone}": pa.array(MOMENTS, pa.timestamp("us", zone)) for zone in ("UTC", "Asia/Tokyo", "+05:30", "Z")},
}
ONLY_TEXT = {
    "bool": (pa.array([True, False]), ["true", "false"]),
    "time of day": (pa.array([moment.time() for moment in MOMENTS]), ["00:00:00", "00:00:00"]),
    "words": (pa.array(["a", "b"]), ["a", "b"]),
    "letters": (pa.array(["é".encode(), b"b"]), ["é", "b"]),
}
LISTS = {  # the text of items, and nothing else
    "list": (pa.array([["a", None, "b"], None]), ["a, b", ""]),
    "large list": (pa.array([["a", "b"], []], pa.large_list(pa.string())), ["a, b", ""]),
    "fixed-size list": (pa.array([["a", "b"], ["c", None]], pa.list_(pa.string(), 2)), ["a, b", "c"]),
    "list of floats": (pa.array([[1.0, 2.5], []]), ["1, 2.5", ""]),
    "list of bytes": (pa.array([[b"a", b"b"], [b"c"]]), ["a, b", "c"]),
    "list of categories": (pa.array([["a"], ["b"]], pa.list_(pa.dictionary(pa.int32(), pa.string()))), ["a", "b"]),
    "nothing": (pa.nulls(2), ["", ""]),
    "list of nothing": (pa.array([[], [None]]), ["", ""]),
}
NOTHING = {
    "duration": pa.array([timedelta(1), timedelta(2)]),
    "bytes": pa.array([b"3", b"\xff"]),
    "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"\xff" * 16, b"\x01" * 16], pa.binary(16))),
    "list of lists": pa.array([[["a"]], []]),
    "fixed-size list of lists": pa.array([[["a"]], [["b"]]], pa.list_(pa.list_(pa.string()), 1)),
    "list of bad bytes": pa.array([[b"a"], [b"\xff", None]]),
    "struct": pa.array([{"a": 1}, {"a": 2}]),
    "struct of many": pa.array([{str(number): 1 for number in range(100)}] * 2),
    "list of structs": pa.array([[{"a": 1}], []]),
    "map": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
}
ROLES = {"who": "user_id", "what": "item_id", "when": "timestamp", "pos": "order", "kind": "event", "stars": "rating"}
GOOD = {"who": TEXTS, "what": TEXTS, "when": [3, 4], "pos": [3, 4], "kind": TEXTS, "stars": [3, 4]}
ITEM_ROLES = {"what": "item_id", "title": "text"}


def outcome(folder: Path, role: str, values: pa.Array) -> list[Any] | None:
    """What is read where column `role` of the interactions, or of the items, has these values; None: refused."""
    part, _, name = role.rpartition(".")
    rows = {"": GOOD | {"fold": ["train", "test"]}, "items": {"what": TEXTS, "title": TEXTS}}
    rows[part] = rows[part] | {name: values}
    if name == "what":  # the other file has the same ids, as text
        rows["items"] = rows["items"] | {"what": values if part else TEXTS}
    for key, file in (("", "interactions"), ("items", "items")):
        pq.write_table(pa.table(rows[key]), folder / f"{file}.parquet")
    try:
        raw = read(folder, tables("a.parquet", "b.parquet", "{title}", order="pos"), with_split=True)
    except LeaError as error:
        line = str(error)
        assert line.startswith(f"{'b' if part else 'a'}.parquet: column {name!r}")
        assert "\n" not in line
        assert len(line) < 250
        return None
    return raw.items[ITEM_ROLES[name]].to_list() if part else raw.interactions[ROLES.get(name, name)].to_list()


@pytest.mark.parametrize("kind", SAME_NUMBERS)
def test_numbers_read_alike_from_every_type(tmp_path: Path, kind: str) -> None:
    for role in (*ROLES, "items.what", "items.title"):
        expected = [3, 4] if role in ("when", "pos", "stars") else TEXTS
        if (kind, role) in (("floats as text", "kind"), ("floats as text", "items.title")):
            expected = ["3.0", "4.0"]  # words, of which nobody says that they are numbers
        assert outcome(tmp_path, role, SAME_NUMBERS[kind]) == expected, role
    assert outcome(tmp_path, "fold", SAME_NUMBERS[kind]) is None


@pytest.mark.parametrize("kind", SAME_MOMENTS)
def test_moments_read_alike_from_every_type(tmp_path: Path, kind: str) -> None:
    values = SAME_MOMENTS[kind]
    assert outcome(tmp_path, "when", values) == [1_262_390_400_000_000, 1_262_476_800_000_000]
    for role in ("who", "kind", "items.title"):
        days = [text[:10] for text in outcome(tmp_path, role, values) or []]
        assert days == ["2010-01-02", "2010-01-03"], role
    for role in ("pos", "stars", "fold"):
        assert outcome(tmp_path, role, values) is None, role


@pytest.mark.parametrize("kind", [*ONLY_TEXT, *LISTS, *NOTHING])
def test_other_types_are_text_or_refused(tmp_path: Path, kind: str) -> None:
    values, text = (ONLY_TEXT | LISTS).get(kind) or (NOTHING[kind], None)
    assert outcome(tmp_path, "items.title", values) == text
    for role in ("who", "kind"):
        assert outcome(tmp_path, role, values) == (text if kind in ONLY_TEXT else None), role
    for role in ("when", "pos", "stars", "fold"):
        assert outcome(tmp_path, role, values) is None, role
    if kind not in ONLY_TEXT:
        assert outcome(tmp_path, "what", values) is outcome(tmp_path, "items.what", values) is None


def test_whole_numbers_are_one_id_however_they_are_written(tmp_path: Path) -> None:
    """Pandas turns a column of integers with a gap into floats, of which a CSV keeps `7.0`."""

    def ids(*edits: tuple[str, str], items: str = ITEMS) -> tuple[list[str], list[str], list[str]]:
        write(tmp_path, edited(INTERACTIONS, *edits), items)
        raw = read(tmp_path, tables(), with_split=True)
        return tuple(column.to_list() for column in (*raw.interactions["user_id", "item_id"], raw.items["item_id"]))

    plain_ids = (["u1", "u2", "u1"], ["7", "8", "8"], ["7", "8", "9"])
    floats = edited(ITEMS, ("7,", "7.0,"), ("8,", "8.0,"), ("9,", "9.0,"))
    assert ids((",7,", ",7.0,"), (",8,", ",8.0,")) == plain_ids
    assert ids((",7,", ",7.0,")) == plain_ids
    assert ids(items=floats) == ids((",7,", ",7.0,"), items=floats) == plain_ids
    assert ids(("u1,", "1,"), ("u2,", "1.0,"))[0] == ["1", "1", "1"]
    trained = {name: item for item, name in enumerate(plain_ids[2])}
    assert read_histories([["7.0", "8.00"], ["9"]], trained, "refuse").items.tolist() == [
        0,
        1,
        2,
    ]  # as the file has them
    versions = edited(floats, ("9.0,", "9.0-beta,"))  # not numbers: they stay
    assert ids((",7,", ",7.0,"), (",8,", ",8.0,"), items=versions)[1:] == (
        ["7.0", "8.0", "8.0"],
        ["7.0", "8.0", "9.0-beta"],
    )
    with pytest.raises(LeaError, match=r"^goods\.csv: column 'what', row 2: repeats the item '7.0' of a row above"):
        ids(items=edited(ITEMS, ("8,", "7.0,")))
