"""The same data in every form gives the same result; every mistake in a file gives one line with its row."""

import gzip
import io
import zipfile
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from lea_core import params
from lea_core.common.errors import LeaError
from lea_core.common.registry import DATASETS
from lea_core.data import datasets
from lea_core.data.datasets import raw_name
from lea_core.data.datasets.tables import Raw, item_text, read
from lea_core.params import Tables
from tests.support.lane import PARAMS, ROOT, environment, skipped_offline
from tests.support.tiny_tables import INTERACTIONS, ITEMS, csv, edited, tables, write

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


def test_item_text() -> None:
    items = pl.DataFrame({"a": ["x", None, "", " "], "b": [1, None, 2, None], "c": [["p", "q"], None, [], None]})
    assert item_text(items, "{{{a}}}: {b} [{c}] ", "f").to_list() == ["{x}: 1 [p, q]", "", "{}: 2 []", ""]


# ---- what a bad file becomes


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
        if ending == ".parquet":  # the name of a column that is no UTF-8
            path.write_bytes(whole.replace(b"stars", b"st\xffrs"))
            with pytest.raises(LeaError, match=r"^a\.parquet: cannot be read \('utf-8' codec can't decode byte 0xff"):
                read(tmp_path, tables(f"a{ending}"), with_split=True)
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
    dataset = DATASETS.load("ml-100k").Settings(
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
    assert not isinstance(dataset, Tables)
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
