"""Each step by hand, the whole against published splits, and the stages as a user runs them, interrupted ones too."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from lea_core import params
from lea_core.common import tables
from lea_core.common.errors import LeaError
from lea_core.data import datasets
from lea_core.data.datasets.columns import coded
from lea_core.data.datasets.tables import Raw, read
from lea_core.data.preprocess import SAME_EVENT, draw_users, duplicates, in_order, k_core, numbered, prepare
from lea_core.data.sequences import read_sequences
from lea_core.data.splits import ORDER
from lea_core.params import Columns, FileSource, PreprocessParams, Tables, read_yaml
from tests.support.lane import PARAMS

ROOT = Path(__file__).parents[2]


def settings(**changes: Any) -> PreprocessParams:
    """Keep everything, but for `changes`; `method` is the split's."""
    base = params.load(PARAMS).preprocess
    split = base.split.model_copy(update={"method": changes.pop("method", "leave_one_out")})
    plain = {"min_rating": None, "max_users": None, "k_core": 0, "duplicates": "error", "repeats": True}
    return base.model_copy(update={**plain, "split": split, **changes})


def raw(rows: list[tuple[str, str, int]], ratings: list[float] | None = None) -> Raw:
    """Interactions (user, item, time) in the order of the file, and the items that they name."""
    users, items, times = zip(*rows, strict=True)
    count = len(rows)
    interactions = pl.DataFrame(
        {
            "user_id": users,
            "item_id": items,
            "timestamp": times,
            "order": range(1, count + 1),
            "row": range(1, count + 1),
            "event": [""] * count,
            "rating": pl.Series(ratings or [float("nan")] * count, dtype=pl.Float32),
            "split": [""] * count,
        }
    )
    texts = [f"text of {item}" for item in sorted(set(items))]
    return Raw(
        interactions,
        pl.DataFrame({"item_id": sorted(set(items)), "text": texts}),
        "clicks.csv",
        "counters from 1 to 3, not dates",
    )


ROWS = [("u10", "b", 3), ("u9", "a", 1), ("u10", "a", 1), ("u9", "c", 2), ("u10", "c", 2), ("u9", "b", 2)]


def test_tables_by_hand() -> None:
    """Ids are numbered in byte order (u10 before u9); of u9's tie at time 2, the earlier row c comes first."""
    prepared = prepare(raw(ROWS), settings())
    assert prepared.interactions.drop_columns("rating").to_pydict() == {
        "user": [0, 0, 0, 1, 1, 1],
        "position": [0, 1, 2, 0, 1, 2],
        "item": [0, 2, 1, 0, 2, 1],
        "timestamp": [1, 2, 3, 1, 2, 2],
        "event": [""] * 6,
        "split": ["train", "valid", "test"] * 2,
    }
    assert prepared.users.to_pydict() == {"user": [0, 1], "user_id": ["u10", "u9"]}
    assert prepared.items.to_pydict() == {
        "item": [0, 1, 2],
        "item_id": ["a", "b", "c"],
        "text": ["text of a", "text of b", "text of c"],
        "train_count": [2, 0, 0],
    }


def test_an_order_column_breaks_ties_before_the_file_does() -> None:
    data = raw(ROWS)
    turned = data.interactions.with_columns(order=-pl.col("row"))
    prepared = prepare(replace(data, interactions=turned), settings())
    assert prepared.interactions["item"].to_pylist() == [0, 2, 1, 0, 1, 2]  # u9's b now comes before its c


def test_quality_by_hand() -> None:
    rows = [*ROWS, ("u9", "a", 9), ("u8", "d", 1), ("u9", "a", 9)]
    quality = prepare(raw(rows, [5.0] * 8 + [4.0]), settings(short_users="drop", duplicates="drop")).quality
    assert quality == {
        "times": "counters from 1 to 3, not dates",
        "rows": 9,
        "rows_rated_low": 0,
        "rows_duplicate": 1,
        "rows_duplicate_dropped": 1,
        "rows_of_users_not_drawn": 0,
        "rows_outside_k_core": 0,
        "rows_of_short_users": 1,
        "users": 2,
        "items": 3,
        "events": 7,
        "events_train": 3,
        "events_valid": 2,
        "events_test": 2,
        "density": 1.0,
        "user_events_min": 3,
        "user_events_p10": 3,
        "user_events_median": 3,
        "user_events_p90": 4,
        "user_events_max": 4,
        "tie_share": 1 / 5,
        "repeats_share": pytest.approx(1 / 7),
        "valid_cold_share": 0.5,  # u9's valid event is of b, which nobody trained on; u10's is of c
        "test_cold_share": 0.5,
        "items_without_text": 0,
    }


def test_low_ratings() -> None:
    prepared = prepare(raw([*ROWS, ("u9", "d", 3)], [4.0] * 6 + [3.9]), settings(min_rating=4.0))
    assert prepared.interactions.num_rows == 6
    assert prepared.items["item_id"].to_pylist() == ["a", "b", "c"]
    with pytest.raises(LeaError, match=r"^clicks\.csv: no rating reaches preprocess\.min_rating 5\.0: lower it$"):
        prepare(raw(ROWS, [4.0] * 6), settings(min_rating=5.0))
    with pytest.raises(LeaError, match=r"^preprocess\.min_rating is set, but dataset\.columns\.rating is null"):
        prepare(raw(ROWS), settings(min_rating=4.0))


def test_duplicates() -> None:
    once, twice = raw(ROWS, [5.0] * 6), raw([*ROWS, ("u9", "c", 2), ("u9", "c", 2)], [5.0] * 8)
    with pytest.raises(
        LeaError, match=r"^clicks\.csv: row 7 has the user, item, timestamp and event of row 4 \(2 such"
    ):
        prepare(twice, settings())
    assert prepare(twice, settings(duplicates="drop")).interactions.equals(prepare(once, settings()).interactions)
    assert prepare(twice, settings(duplicates="keep")).interactions.num_rows == 8


EVENTS = st.lists(st.tuples(*[st.integers(0, 2)] * 5), max_size=30)


def tiny_events(rows: list[tuple[int, ...]]) -> pl.DataFrame:
    """Few users, items, times, events and orders, so that many are equal; "u10" stands before "u9"."""
    names = {"user_id": ("u9", "u10", "U"), "item_id": ("b", "", "ä"), "event": ("", "buy", "view")}
    columns = dict(zip((*names, "timestamp", "order"), zip(*rows, strict=True) if rows else [()] * 5, strict=True))
    texts = {name: pl.Series([kinds[code] for code in columns[name]], dtype=pl.String) for name, kinds in names.items()}
    numbers = {name: pl.Series(columns[name], dtype=pl.Int64) - 1 for name in ("timestamp", "order")}
    return pl.DataFrame(texts | numbers | {"row": pl.int_range(1, len(rows) + 1, eager=True)})


@given(EVENTS)
def test_codes_find_the_duplicates_and_the_order_that_texts_do(rows: list[tuple[int, ...]]) -> None:
    events = tiny_events(rows)
    seen = [tuple(row) for row in events.select(SAME_EVENT).iter_rows()]
    expected = [row in seen[:number] for number, row in enumerate(seen)]
    in_codes = events.with_columns(coded(events[name]) for name in ("user_id", "item_id", "event"))
    for kind in (events, in_codes):
        assert duplicates(kind).to_list() == expected
        assert in_order(kind)["row"].to_list() == events.sort(ORDER)["row"].to_list()


@given(st.lists(st.sampled_from(["u9", "u10", "", "ä", "z", "Z"])), st.data())
def test_numbers_of_ids_are_places_in_byte_order(ids: list[str], data: st.DataObject) -> None:
    """Of the ids that occur, also where filtered events left categories behind that do not."""
    series = pl.Series(ids, dtype=pl.String)
    mask = pl.Series(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))), dtype=pl.Boolean)
    places = {name: place for place, name in enumerate(sorted(set(series.filter(mask)), key=str.encode))}
    for kind in (series, coded(series)):
        assert numbered(kind.filter(mask)).tolist() == [places[name] for name in series.filter(mask)]


def test_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    data = raw([*ROWS, ("u9", "a", 9)])
    items = pl.DataFrame({"item_id": ["a", "b", "c", "never seen"], "text": ["x", "", "", ""]})
    prepared = prepare(replace(data, items=items), settings(repeats=False))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "warning: 2 items have no text, 'b' first: kept; the LE knows little of them"
    assert lines[1].startswith("warning: 14.3% of the events are of an item that their user had before")
    assert prepared.quality["items_without_text"] == 2
    assert prepared.items["text"].to_pylist() == ["x", "", ""]


def test_draw_of_users_ignores_the_order_of_rows() -> None:
    events = pl.DataFrame({"user_id": [f"u{number}" for number in range(50)] * 2})
    drawn = draw_users(events, 10, np.random.default_rng(3))
    assert (drawn["user_id"].n_unique(), drawn.height) == (10, 20)
    again = draw_users(events.reverse(), 10, np.random.default_rng(3))
    assert set(again["user_id"]) == set(drawn["user_id"])
    assert set(draw_users(events, 10, np.random.default_rng(4))["user_id"]) != set(drawn["user_id"])
    assert draw_users(events, 50, np.random.default_rng(3)).equals(events)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40), st.integers(0, 4))
def test_k_core_drops_one_by_one(pairs: list[tuple[int, int]], k: int) -> None:
    """The definition, slowly: as long as some user or item is too rare, remove one of its events."""
    left = list(range(len(pairs)))
    while rare := [n for n in left for side in (0, 1) if sum(pairs[m][side] == pairs[n][side] for m in left) < k]:
        left.remove(rare[0])
    users, items = (pl.Series([str(pair[side]) for pair in pairs], dtype=pl.String) for side in (0, 1))
    assert k_core(users, items, k).to_list() == [n in left for n in range(len(pairs))]


def test_nothing_survives_the_k_core() -> None:
    with pytest.raises(LeaError, match=r"^clicks\.csv: no event survives preprocess\.k_core 4: lower it$"):
        prepare(raw(ROWS), settings(k_core=4))


# ---- published data


@pytest.mark.parametrize("name", ["scientific", "lastfm"])
def test_leave_one_out_is_the_published_split(tmp_path: Path, name: str) -> None:
    """Both data sets come with the split of the papers that use them."""
    source = ROOT.parent / "shared" / "data" / name
    if not source.is_dir():
        pytest.skip(f"{source} is not on this machine")
    dataset = Tables(
        name="tables",
        interactions=FileSource(source=str(source / "interactions.parquet"), sha256=None),
        items=FileSource(source=str(source / "items.parquet"), sha256=None),
        columns=Columns(
            user="user_id", item="item_id", timestamp="timestamp", order="pos", event=None, rating=None, split="split"
        ),
        text={"scientific": "{title}. {brand}", "lastfm": "{name}: {tags}"}[name],
    )
    datasets.fetch(dataset, tmp_path / "cache", tmp_path / "raw")
    data = read(tmp_path / "raw", dataset, with_split=True)
    published, own = (
        prepare(data, settings(method=method)).interactions.drop_columns("rating")
        for method in ("column", "leave_one_out")
    )
    assert published.num_rows == {"scientific": 59_427, "lastfm": 52_551}[name]
    assert own.equals(published)


# ---- the stages


def clicks(users: int = 3) -> str:
    rows = [f"u{user},i{(user + time) % 4},{time}" for user in range(users) for time in range(4)]
    return "\n".join(["user,item,time", *rows, ""])


def repository(folder: Path, **preprocess: Any) -> None:
    """A params.yaml for two small files, which lie in data/raw as if fetched."""
    raw_params = read_yaml(PARAMS)
    raw_params["dataset"] = {
        "name": "tables",
        "interactions": {"source": "clicks.csv", "sha256": None},
        "items": {"source": "goods.csv", "sha256": None},
        "columns": {"user": "user", "item": "item", "timestamp": "time"}
        | dict.fromkeys(("order", "event", "rating", "split")),
        "text": "{title}",
    }
    raw_params["preprocess"] |= {"min_rating": None, "k_core": 0} | preprocess
    YAML().dump(raw_params, folder / "params.yaml")
    (folder / "data" / "raw").mkdir(parents=True)
    (folder / "data" / "raw" / "interactions.csv").write_text(clicks())
    (folder / "data" / "raw" / "items.csv").write_text("item,title\ni0,Saw\ni1,Nail\ni2,Glue\ni3,\n")


def start(folder: Path, stage: str, limit: int | None = None) -> subprocess.Popen[str]:
    """Run a stage there; with `limit`, no file that it writes may grow beyond so many bytes."""
    limits = None if limit is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    kept = {name: value for name, value in os.environ.items() if name not in ("LEA_CACHE", "DVC_ROOT")}
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limits,
    )


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(file.relative_to(folder)): sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which preprocess ran once."""
    folder = tmp_path_factory.mktemp("ran")
    repository(folder)
    stdout, stderr = start(folder, "preprocess").communicate(timeout=60)
    assert stdout.startswith(
        "3 users, 4 items, 12 events (density 100.00%, 4 events per user in the median)\n"
        "  times    counters from 0 to 3, not dates\n"
    )
    assert stderr == "warning: 1 items have no text, 'i3' first: kept; the LE knows little of them\n"
    return folder


@pytest.fixture
def done(ran: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_stage_and_its_repetition(done: Path) -> None:
    data = done / "data"
    assert tables.read_table(data / "interactions" / "interactions.parquet", tables.INTERACTIONS).num_rows == 12
    assert tables.read_table(data / "interactions" / "items.parquet", tables.ITEMS).num_rows == 4
    assert tables.read_table(data / "interactions" / "users.parquet", tables.USERS).num_rows == 3
    assert tables.read_table(data / "states" / "none.parquet", tables.STATES).num_rows == 0
    assert tables.read_table(data / "rewards" / "none.parquet", tables.REWARDS).num_rows == 0
    assert tables.read_table(data / "actions" / "none.parquet", tables.ACTIONS).num_rows == 0
    assert json.loads((data / "interactions" / "quality.json").read_text())["items_without_text"] == 1

    before = digests(data)
    lines = (data / "raw" / "interactions.csv").read_text().splitlines()
    (data / "raw" / "interactions.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    start(done, "preprocess").communicate(timeout=60)
    after = digests(data)
    assert {name for name in before if before[name] != after[name]} == {"raw/interactions.csv"}


def test_sequences_are_read_from_the_tables(done: Path) -> None:
    """User u takes items u to u + 3, modulo 4, the last two of them held out."""
    folder = done / "data" / "interactions"
    sequences = read_sequences(folder)
    assert sequences.items.tolist() == [0, 1, 2, 3, 1, 2, 3, 0, 2, 3, 0, 1]
    assert sequences.split.tolist() == [0, 0, 1, 2] * 3
    assert (sequences.split.dtype, sequences.items.dtype) == (np.int8, np.int64)
    assert sequences.offsets.tolist() == [0, 4, 8, 12]
    assert sequences.num_items == 4

    table = tables.read_table(folder / "interactions.parquet", tables.INTERACTIONS)
    other = pa.array(["train"] * 11 + ["dev"])
    table = table.set_column(table.column_names.index("split"), "split", other)
    tables.write_table(folder / "interactions.parquet", table, tables.INTERACTIONS)
    with pytest.raises(LeaError, match=r"interactions\.parquet: column 'split' holds others than train, valid, test:"):
        read_sequences(folder)


def test_a_bad_row_keeps_what_was_there(done: Path) -> None:
    path = done / "data" / "raw" / "interactions.csv"
    path.write_text(path.read_text().replace("u1,i1,0", "u1,i9,0"))
    before = digests(done)
    process = start(done, "preprocess")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert stderr == "error: clicks.csv: column 'item', row 5: item 'i9' is not in goods.csv: mend the file\n"
    assert digests(done) == before


def test_a_full_disk_keeps_what_was_there(done: Path) -> None:
    (done / "data" / "raw" / "interactions.csv").write_text(clicks(users=2_000))
    before = digests(done)
    process = start(done, "preprocess", limit=5_000)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.splitlines()[-1] == (
        "error: disk full while writing in data: nothing was published; free some space and run again"
    )
    assert "Traceback" not in stderr
    assert digests(done) == before


def open_pipe(path: Path, reader: subprocess.Popen[str]) -> int:
    """Open the writing end as soon as `reader` has the other."""
    while reader.poll() is None:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            time.sleep(0.01)
    raise AssertionError(reader.communicate())


def test_ctrl_c_in_fetch_keeps_what_was_there(tmp_path: Path) -> None:
    """The file to fetch is a pipe, so that the stage waits in the middle of its work until the signal comes."""
    repository(tmp_path)
    os.mkfifo(tmp_path / "clicks.csv")
    before = digests(tmp_path / "data")
    process = start(tmp_path, "fetch_data")
    pipe = open_pipe(tmp_path / "clicks.csv", process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    os.close(pipe)
    assert process.returncode == 1
    assert stderr == "error: interrupted: nothing was published; run the same command to start again\n"
    assert digests(tmp_path / "data") == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


def test_light_stages_do_not_load_torch() -> None:
    """Nor transformers: they would turn a stage of one second into one of many."""
    code = "import sys, stages.fetch_data, stages.preprocess, stages.tidy, stages.signals, stages.stamp_le\n"
    code += "print({'torch', 'transformers', 'dvc'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n"
