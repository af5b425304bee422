"""The same data in every form gives the same result; every mistake in a file gives one line with its row."""

import gzip
import io
import zipfile
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lea_core import datasets, params, sources
from lea_core.datasets import raw_name
from lea_core.datasets.tables import Raw, item_text, read
from lea_core.errors import LeaError
from lea_core.params import Columns, FileSource, MovieLens, Tables
from tests.lane import PARAMS, ROOT, skipped_offline

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
    (["5", "1000000000000000001"], [5, 1_000_000_000_000_000_001]),  # more digits than a float has
    (["1.5", "2"], [1_500_000, 2_000_000]),
    (["1970-01-01 00:00:01", "1970-01-01 00:00:00.5"], [1_000_000, 500_000]),
    (["1970-01-01T01:00:00+01:00", "1970-01-01T00:00:01Z"], [0, 1_000_000]),
    (["1970-01-02", "1970-01-01"], [86_400_000_000, 0]),
    ([3.0, 2.0], [3, 2]),
    ([0.25, 2.0], [250_000, 2_000_000]),
    ([date(1970, 1, 2), date(1970, 1, 1)], [86_400_000_000, 0]),
    ([datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)], [1_000_000]),
]


@pytest.mark.parametrize(("values", "expected"), TIMES)
def test_times(tmp_path: Path, values: list[object], expected: list[int]) -> None:
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


def test_bad_types_in_parquet(tmp_path: Path) -> None:
    wanted = tables("a.parquet", rating=None, event=None, split=None, order="pos")
    good: dict[str, list[object]] = {"who": ["u"], "what": [7], "when": [1], "pos": [0]}
    (tmp_path / "items.csv").write_text(ITEMS)
    for column, value, message in (
        ("when", True, r"column 'when' holds Boolean, not numbers or times"),
        ("when", float("nan"), r"column 'when', row 1: is empty"),
        ("what", [7], r"column 'what' holds List\(Int64\), not text or numbers"),
        ("pos", 0.5, r"column 'pos', row 1: holds 0\.5, not a whole number"),
        ("pos", "x", r"column 'pos', row 1: holds 'x', not a whole number"),
        ("pos", date(1970, 1, 1), r"column 'pos' holds Date, not a whole numbers"),
    ):
        pl.DataFrame(good | {column: [value]}).write_parquet(tmp_path / "interactions.parquet")
        with pytest.raises(LeaError, match=rf"^a\.parquet: {message}"):
            read(tmp_path, wanted, with_split=False)


def test_truncated_parquet(tmp_path: Path) -> None:
    path = tmp_path / "interactions.parquet"
    csv(INTERACTIONS).write_parquet(path)
    (tmp_path / "items.csv").write_text(ITEMS)
    whole = path.read_bytes()
    assert read(tmp_path, tables("a.parquet"), with_split=True).interactions.height == 3
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(LeaError, match=r"^a\.parquet: cannot be read \(.*\): the file is cut short"):
            read(tmp_path, tables("a.parquet"), with_split=True)


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
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n22\t242\t5\t8\n",
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
        ("22", "242", 8, 2, 5.0),
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
        datasets.fetch(dataset, sources.cache_folder(), tmp_path / "raw")
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
