"""The same data in every form gives the same result; every mistake in a file gives one line with its row."""

import gzip
import io
import zipfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lea_core import datasets, params
from lea_core.datasets import raw_name
from lea_core.datasets.tables import Raw, item_text, read
from lea_core.errors import LeaError
from lea_core.params import Columns, FileSource, MovieLens, Tables
from tests.lane import PARAMS, ROOT, environment, skipped_offline

INTERACTIONS = """\
who,what,when,stars,kind,fold
u1,7,100,4.5,view,train
u2,8,90,3,buy,train
u1,8,100,1,view,test
"""
ITEMS = """\
what,title,brand
7,Saw,Acme
8,"Nails, long",
9,,
"""
COLUMNS = {"user": "who", "item": "what", "timestamp": "when", "rating": "stars", "event": "kind", "split": "fold"}


def tables(
    interactions: str = "clicks.csv", items: str = "goods.csv", text: str = "{title} by {brand}", **columns: Any
) -> Tables:
    return Tables(
        name="tables",
        interactions=FileSource(source=interactions, sha256=None),
        items=FileSource(source=items, sha256=None),
        columns=Columns(**({"order": None} | COLUMNS | columns)),
        text=text,
    )


def write(folder: Path, interactions: str = INTERACTIONS, items: str = ITEMS) -> None:
    (folder / "interactions.csv").write_text(interactions, encoding="utf-8")
    (folder / "items.csv").write_text(items, encoding="utf-8")


def csv(text: str) -> pl.DataFrame:
    return pl.read_csv(io.StringIO(text))


# ---- what a good file becomes


def test_a_hand_checked_read(tmp_path: Path) -> None:
    write(tmp_path)
    raw = read(tmp_path, tables(), with_split=True)
    assert raw.interactions.rows(named=True) == [
        {
            "user_id": "u1",
            "item_id": "7",
            "timestamp": 100,
            "order": 1,
            "row": 1,
            "event": "view",
            "rating": 4.5,
            "split": "train",
        },
        {
            "user_id": "u2",
            "item_id": "8",
            "timestamp": 90,
            "order": 2,
            "row": 2,
            "event": "buy",
            "rating": 3.0,
            "split": "train",
        },
        {
            "user_id": "u1",
            "item_id": "8",
            "timestamp": 100,
            "order": 3,
            "row": 3,
            "event": "view",
            "rating": 1.0,
            "split": "test",
        },
    ]
    assert raw.items.rows() == [("7", "Saw by Acme"), ("8", "Nails, long by"), ("9", "")]
    assert raw.source == "clicks.csv"


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path)
    raw = read(tmp_path, tables(rating=None, event=None, split=None), with_split=False)
    assert raw.interactions["rating"].is_nan().all()
    assert set(raw.interactions["event"]) == set(raw.interactions["split"]) == {""}


def test_every_ending_reads_the_same(tmp_path: Path) -> None:
    def as_atomic(frame: pl.DataFrame) -> bytes:
        return frame.rename(lambda name: f"{name}:token").write_csv(separator="\t", quote_style="never").encode()

    def as_parquet(frame: pl.DataFrame) -> bytes:
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        return buffer.getvalue()

    forms = {
        ".csv": lambda frame: frame.write_csv().encode(),
        ".tsv": lambda frame: frame.write_csv(separator="\t").encode(),
        ".csv.gz": lambda frame: gzip.compress(frame.write_csv().encode()),
        ".inter": as_atomic,
        ".item": as_atomic,
        ".parquet": as_parquet,
    }
    read_back: list[Raw] = []
    for ending, form in forms.items():
        for part, text in (("interactions", INTERACTIONS), ("items", ITEMS)):
            (tmp_path / f"{part}{ending}").write_bytes(form(csv(text)))
        read_back.append(read(tmp_path, tables(f"a{ending}", f"b{ending}"), with_split=True))
    for raw in read_back[1:]:
        assert raw.interactions.equals(read_back[0].interactions)
        assert raw.items.equals(read_back[0].items)


TIMES = [
    (["1000000000000000003", "1000000000000000001.0"], [10**18 + 3, 10**18 + 1]),  # more digits than a float has
    ([Decimal(10**18 + 1)], [10**18 + 1]),
    (["1.5", "2"], [1_500_000, 2_000_000]),
    (["1970-01-01 00:00:01", "1970-01-01 00:00:00.5"], [1_000_000, 500_000]),
    (["1970-01-01T01:00:00+01:00", "1970-01-01T00:00:01Z"], [0, 1_000_000]),
    (["1970-01-02", "1970-01-01"], [86_400_000_000, 0]),
    ([3.0, 2.0], [3, 2]),
    ([0.25, 2.0], [250_000, 2_000_000]),
    (pl.Series([1075.0, 1075.0001220703125], dtype=pl.Float32), [1_075_000_000, 1_075_000_122]),  # float32's next
    ([date(1970, 1, 2), date(1970, 1, 1)], [86_400_000_000, 0]),
    ([datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)], [1_000_000]),
    (pl.Series([1, 3]).cast(pl.Datetime("ns")), [1, 3]),  # in microseconds, they would be one moment
]


@pytest.mark.parametrize(("values", "expected"), TIMES)
def test_times(tmp_path: Path, values: list[object] | pl.Series, expected: list[int]) -> None:
    rows = {"who": ["u"] * len(values), "what": [7] * len(values), "when": values}
    pl.DataFrame(rows).write_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "items.csv").write_text(ITEMS)
    wanted = tables("a.parquet", rating=None, event=None, split=None)
    assert read(tmp_path, wanted, with_split=False).interactions["timestamp"].to_list() == expected


def test_item_text() -> None:
    items = pl.DataFrame({"a": ["x", None, "", " "], "b": [1, None, 2, None], "c": [["p", "q"], None, [], None]})
    assert item_text(items, "{{{a}}}: {b} [{c}] ", "f").to_list() == ["{x}: 1 [p, q]", "", "{}: 2 []", ""]


# ---- what a bad file becomes


def edited(text: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


BAD_INTERACTIONS = [
    ([("who,", "user,")], r"column 'who' is missing: mend dataset\.columns\.user; the file has user, what, when,"),
    ([("u2,8", ",8")], r"column 'who', row 2: is empty"),
    ([("u2,8,", '"",8,')], r"column 'who', row 2: is empty"),
    ([("u2,8", "u2,"), ("u1,8", "u1,")], r"column 'what', row 2 \(and 1 more\): is empty"),
    ([("u2,8", "u2,88")], r"column 'what', row 2: item '88' is not in goods\.csv"),
    ([(",90,", ",soon,")], r"column 'when', row 2: holds 'soon', not a number as the other rows do"),
    ([(",90,", ",1e400,")], r"column 'when', row 2: holds '1e400', which is no time"),
    (
        [("100", "soon"), (",90,", ",later,")],
        r"column 'when', row 1 \(and 2 more\): holds 'soon', not a number or a date",
    ),
    ([(",3,", ",good,")], r"column 'stars', row 2: holds 'good', not a number"),
    ([(",3,", ",nan,")], r"column 'stars', row 2: holds 'nan', not a number"),
    ([(",buy,", ",,")], r"column 'kind', row 2: is empty"),
    ([("test", "dev")], r"column 'fold', row 3: holds 'dev', not one of train, valid, test"),
    ([("u1,8,100,1,view,test\n", "u1,8")], r"column 'when', row 3: is empty"),  # the file is cut short
    ([(",100,1,", ",100,1,1,")], r"cannot be read \(.*\): the file is cut short, damaged or misnamed"),
]


@pytest.mark.parametrize(("edits", "message"), BAD_INTERACTIONS)
def test_bad_interactions(tmp_path: Path, edits: list[tuple[str, str]], message: str) -> None:
    write(tmp_path, edited(INTERACTIONS, *edits))
    with pytest.raises(LeaError, match=rf"^clicks\.csv: {message}") as caught:
        read(tmp_path, tables(), with_split=True)
    assert "\n" not in str(caught.value)


BAD_ITEMS = [
    ([("what,", "id,")], r"column 'what' is missing: mend dataset\.columns\.item; the file has id, title, brand$"),
    ([("8,", ",")], r"column 'what', row 2: is empty: mend the file$"),
    ([("8,", "7,")], r"column 'what', row 2: repeats the item '7' of a row above: mend the file$"),
    ([("8,", "7,"), ("9,", "7,")], r"column 'what', row 2 \(and 1 more\): repeats the item '7'"),
    ([(ITEMS, "what,title,brand\n")], r"has no rows: mend dataset\.items\.source$"),
    ([(ITEMS, "")], r"cannot be read \(empty CSV\): the file is cut short, damaged or misnamed$"),
]


@pytest.mark.parametrize(("edits", "message"), BAD_ITEMS)
def test_bad_items(tmp_path: Path, edits: list[tuple[str, str]], message: str) -> None:
    write(tmp_path, items=edited(ITEMS, *edits))
    with pytest.raises(LeaError, match=rf"^goods\.csv: {message}"):
        read(tmp_path, tables(), with_split=True)


BAD_TEMPLATES = [
    ("{title} {price}", r"^dataset\.text: goods\.csv has no column 'price': it has what, title, brand$"),
    ("{title", r"^dataset\.text: '\{title': expected '\}' before end of string: write each column as \{name\}$"),
    ("no column", r"write one or more columns"),
    ("{title:>9}", r"write one or more columns, each as \{name\} with nothing after it$"),
    ("{title!r}", r"with nothing after it$"),
]


@pytest.mark.parametrize(("template", "message"), BAD_TEMPLATES)
def test_bad_templates(tmp_path: Path, template: str, message: str) -> None:
    write(tmp_path)
    with pytest.raises(LeaError, match=message):
        read(tmp_path, tables(text=template), with_split=True)


# ---- every role by every type that a file can hold

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


# ---- numbers that are kept wrongly

SECONDS = [881_250_949, 881_250_969, 891_717_742]  # 1997-12-04 to 1998-04-04


def frame(role: str, values: object) -> pl.DataFrame:
    column = values if isinstance(values, pl.Series) else pl.Series(values, strict=False)
    count = len(column)
    rows = {
        "who": ["u"] * count,
        "what": [7] * count,
        "when": range(count),
        "pos": range(count),
        "stars": [3.0] * count,
    }
    return pl.DataFrame(rows).with_columns(column.alias(role))


def read_column(folder: Path, role: str, values: object) -> Raw:
    frame(role, values).write_parquet(folder / "interactions.parquet")
    (folder / "items.csv").write_text(ITEMS)
    return read(folder, tables("a.parquet", event=None, split=None, order="pos"), with_split=False)


EXACT = r"cannot tell whole numbers apart: write the column as whole numbers or text$"
UNIT = r": a missing value, or another unit: mend the file: one unit throughout, and no row without a time$"
YEAR = r"not one of 1902 to 20\d\d: mend the file"
FLOAT32 = pl.Series(SECONDS, dtype=pl.Float32)
WRONG_NUMBERS = [
    ("when", FLOAT32, rf"row 1 \(and 2 more\): holds 881250944\.0, but from 16,777,216 on Float32 {EXACT}"),
    ("when", pl.Series([1, 2**24], dtype=pl.Float32), rf"row 2: holds 16777216\.0, but .* Float32 {EXACT}"),
    ("when", [2.0**53], rf"row 1: holds 9007199254740992\.0, but from 9,007,199,254,740,992 on Float64 {EXACT}"),
    ("when", ["1e18", "1"], rf"row 1: holds 1e\+18, but from .* {EXACT}"),
    ("pos", FLOAT32, rf"row 1 \(and 2 more\): holds 881250944\.0, but .* Float32 {EXACT}"),
    ("who", FLOAT32, rf"row 1 \(and 2 more\): holds 881250944\.0, but .* Float32 {EXACT}"),
    ("what", pl.Series([7, 2**11], dtype=pl.Float16), rf"row 2: holds 2048\.0, but from 2,048 on Float16 {EXACT}"),
    ("when", [*SECONDS, 881_250_950_000], rf"row 4: holds 881250950000, but row 1 881250949{UNIT}"),
    ("when", [881_250_950_000, *SECONDS, 0], rf"row 1 \(and 1 more\): holds 881250950000, but row 2 881250949{UNIT}"),
    ("when", [10**9, 1_690_000_000, 10**12], rf"row 3: holds 1000000000000, but row 1 1000000000{UNIT}"),  # 2001, 2023
    ("when", [*map(str, SECONDS), "0"], rf"row 4: holds '0', but row 1 '881250949'{UNIT}"),
    ("when", [0, 0, 0, *SECONDS], rf"row 1 \(and 2 more\): holds 0, but row 4 881250949{UNIT}"),
    ("when", [*SECONDS, -1], rf"row 4: holds -1, but row 1 881250949{UNIT}"),
    ("when", [881_250_949.5, 88.5], rf"row 2: holds 88\.5, but row 1 881250949\.5{UNIT}"),
    ("when", [date(2010, 1, 1), date(1970, 1, 1)], rf"row 2: holds datetime\.date\(1970, 1, 1\), but row 1 .*{UNIT}"),
    ("pos", [*SECONDS, 881_250_950_000], rf"row 4: holds 881250950000, but row 1 881250949{UNIT}"),
    ("when", [*SECONDS, 4_102_444_800], rf"row 4: holds 4102444800, in seconds since 1970 the year 2100, {YEAR}"),
    ("when", [*SECONDS, -2_208_988_800], rf"row 4: holds -2208988800, in seconds since 1970 the year 1900, {YEAR}"),
    ("when", [32_503_680_000_000], rf"row 1: holds 32503680000000, in milliseconds since 1970 the year 3000, {YEAR}"),
    ("when", [datetime(2010, 1, 1), datetime(2100, 1, 1)], rf"row 2: holds datetime\..*, the year 2100, {YEAR}"),
    ("when", ["2010-01-01", "1899-01-01"], rf"row 2: holds '1899-01-01', the year 1899, {YEAR}"),
    ("when", pl.Series([2**31 - 1]).cast(pl.Date), r"row 1: holds 185542587100800, a date outside the years 1 to 9999"),
    ("who", pl.Series([0, 2**63 - 1]).cast(pl.Datetime), r"row 2: holds .*, a date outside the years 1 to 9999"),
    ("when", [2**64 - 1], r"row 1: holds 18446744073709551615, which is no time: mend the file$"),
    ("when", [float("inf"), 1.0], r"row 1: holds inf, which is no time: mend the file$"),
    ("when", [1.0, float("nan")], r"row 2: is empty: mend the file$"),
    ("pos", [0.5], r"row 1: holds 0\.5, not a whole number: mend the file$"),
    ("pos", ["x"], r"row 1: holds 'x', not a whole number: mend the file$"),
    ("stars", [float("inf")], r"row 1: holds inf, not a number: mend the file$"),
    ("stars", [float("nan")], r"row 1: is empty: mend the file$"),
]


@pytest.mark.parametrize(("role", "values", "message"), WRONG_NUMBERS)
def test_wrong_numbers(tmp_path: Path, role: str, values: object, message: str) -> None:
    with pytest.raises(LeaError, match=rf"^a\.parquet: column '{role}', {message}"):
        read_column(tmp_path, role, values)


FIRST_AND_LAST = [
    (SECONDS, "from 1997-12-04 to 1998-04-04 (seconds since 1970)"),
    ([second * 10**9 for second in SECONDS], "from 1997-12-04 to 1998-04-04 (nanoseconds since 1970)"),
    ([1_304_899_200] * 5 + [-405_129_600], "from 1957-03-01 to 2011-05-09 (seconds since 1970)"),  # as in Last.fm
    ([float(second) + 0.5 for second in SECONDS], "from 1997-12-04 to 1998-04-04 (seconds since 1970)"),
    ([date(1969, 12, 31), date(1970, 1, 2)], "from 1969-12-31 to 1970-01-02"),
    (pl.Series(SECONDS, dtype=pl.UInt64), "from 1997-12-04 to 1998-04-04 (seconds since 1970)"),
    ([3, 0, -1], "counters from -1 to 3, not dates"),
    (list(range(0, 2**40, 2**33)), "counters from 0 to 1090921693184, not dates"),  # microseconds since a start
    ([0.25, 2.0], "counters from 0.25 to 2.0, not dates"),
]


@pytest.mark.parametrize(("values", "words"), FIRST_AND_LAST)
def test_the_first_and_last_time_are_told(tmp_path: Path, values: list[Any], words: str) -> None:
    assert read_column(tmp_path, "when", values).times == words


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
    versions = edited(floats, ("9.0,", "9.0-beta,"))  # not numbers: they stay
    assert ids((",7,", ",7.0,"), (",8,", ",8.0,"), items=versions)[1:] == (
        ["7.0", "8.0", "8.0"],
        ["7.0", "8.0", "9.0-beta"],
    )
    with pytest.raises(LeaError, match=r"^goods\.csv: column 'what', row 2: repeats the item '7.0' of a row above"):
        ids(items=edited(ITEMS, ("8,", "7.0,")))


# ---- damaged files


def test_a_file_that_was_cut_short_or_damaged(tmp_path: Path) -> None:
    """Every cut of a Parquet and a gzipped file, and what is neither."""
    (tmp_path / "items.csv").write_text(ITEMS)
    buffer = io.BytesIO()
    csv(INTERACTIONS).write_parquet(buffer)
    files = {".parquet": buffer.getvalue(), ".csv.gz": gzip.compress(INTERACTIONS.encode())}
    for ending, whole in files.items():
        path = tmp_path / f"interactions{ending}"
        path.write_bytes(whole)
        assert read(tmp_path, tables(f"a{ending}"), with_split=True).interactions.height == 3
        flipped = (
            whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]
        )  # of gzip's checksum, or the length of Parquet's footer
        broken = [whole[:length] for length in range(0, len(whole), 37)]
        for content in (*broken, whole[:-1], flipped, bytes(100), INTERACTIONS.encode()[::-1] + b"\xff"):
            path.write_bytes(content)
            with pytest.raises(
                LeaError, match=rf"^a{ending}: (cannot be read \(.+\): the file is cut|has no rows)"
            ) as caught:
                read(tmp_path, tables(f"a{ending}"), with_split=True)
            assert "\n" not in str(caught.value)


def test_settings_that_the_file_cannot_meet(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(LeaError, match=r"^dataset\.columns\.split is null, but preprocess\.split\.method is column"):
        read(tmp_path, tables(split=None), with_split=True)
    with pytest.raises(LeaError, match=r"interactions\.tsv: not found: run `dvc repro`"):
        read(tmp_path, tables("a.tsv"), with_split=True)
    with pytest.raises(LeaError, match=r"^dataset\.items\.source: goods\.xlsx must end in one of \.csv, "):
        raw_name("items", "goods.xlsx")
    assert raw_name("items", "https://host/goods.CSV.gz?signed=a.b") == "items.csv.gz"


# ---- ml-100k


def test_ml_100k_is_tables_with_facts(tmp_path: Path) -> None:
    """A wheel of two ratings, fetched and read."""
    wheel = tmp_path / "small.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "recbole/dataset_example/ml-100k/ml-100k.inter",
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n22\t242\t5\t881250940\n",
        )
        archive.writestr(
            "recbole/dataset_example/ml-100k/ml-100k.item",
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            '242\t"Kolya"\t1996\tComedy War\n',
        )
    dataset = MovieLens(
        name="ml-100k",
        source=str(wheel),
        sha256=sha256(wheel.read_bytes()).hexdigest(),
        text="{movie_title} ({release_year}): {class}",
    )
    datasets.fetch(dataset, tmp_path / "cache", tmp_path / "raw")
    raw = read(tmp_path / "raw", datasets.as_tables(dataset), with_split=False)
    assert raw.interactions.select("user_id", "item_id", "timestamp", "order", "rating").rows() == [
        ("196", "242", 881250949, 1, 3.0),
        ("22", "242", 881250940, 2, 5.0),
    ]
    assert raw.items.rows() == [("242", '"Kolya" (1996): Comedy War')]


def test_fetch_is_all_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_text(INTERACTIONS)
    (tmp_path / "goods.csv").write_text(ITEMS)
    wanted = tables(str(tmp_path / "clicks.csv"), str(tmp_path / "goods.csv"))
    datasets.fetch(wanted, tmp_path / "cache", tmp_path / "raw")
    assert {file.name: file.read_text() for file in (tmp_path / "raw").iterdir()} == {
        "interactions.csv": INTERACTIONS,
        "items.csv": ITEMS,
    }
    (tmp_path / "clicks.csv").write_text("changed")
    (tmp_path / "goods.csv").unlink()
    with pytest.raises(LeaError, match=r"^dataset\.items\.source: .*goods\.csv not found: mend the path$"):
        datasets.fetch(wanted, tmp_path / "cache", tmp_path / "raw")
    assert (tmp_path / "raw" / "interactions.csv").read_text() == INTERACTIONS


def test_the_real_ml_100k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GroupLens states 943 users, 1,682 films and 100,000 ratings, 21,201 of which are fives."""
    monkeypatch.chdir(ROOT)
    dataset = params.load(PARAMS).dataset
    assert isinstance(dataset, MovieLens)
    with skipped_offline():
        datasets.fetch(dataset, Path(environment()["LEA_CACHE"]), tmp_path / "raw")
    raw = read(tmp_path / "raw", datasets.as_tables(dataset), with_split=False)
    assert raw.interactions.height == 100_000
    assert (raw.interactions["user_id"].n_unique(), raw.interactions["item_id"].n_unique()) == (943, 1682)
    assert raw.interactions["rating"].value_counts().sort("rating")["count"].to_list() == [
        6110,
        11370,
        27145,
        34174,
        21201,
    ]
    assert raw.items.row(by_predicate=pl.col("item_id") == "50") == (
        "50",
        "Star Wars (1977): Action Adventure Romance Sci-Fi War",
    )
