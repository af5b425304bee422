"""The scale benchmark: its log, its picture, how it measures, and the memory of preprocess and of its plan."""

import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from benchmarks.scale import log as scale_log
from benchmarks.scale import plot, stages
from benchmarks.scale.random_le import write_random_le
from benchmarks.support.jobs import RESULTS, ROOT, peak_mib
from lea_core.common.artifacts import read_json
from lea_core.environment import model as environment
from lea_core.llm import language_model

# Measured: 390; a log of texts rather than codes took 570.
PEAK_MIB = 500
# Measured: 154, of which 133 for a log of ten thousand events.
PLAN_MIB = 200


def test_the_synthetic_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_log, "CHUNK", 3000)
    for name, seed in (("a", 0), ("again", 0), ("other", 1)):
        scale_log.synthetic_log(tmp_path / name, 10_000, seed)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    for part in ("interactions", "items"):
        same, again, other = (files[tmp_path / name / f"{part}.parquet"] for name in ("a", "again", "other"))
        assert same == again != other
    log = pl.read_parquet(tmp_path / "a" / "interactions.parquet")
    items = pl.read_parquet(tmp_path / "a" / "items.parquet")
    assert log.height == 10_000
    assert log["timestamp"].is_sorted()
    assert items["item_id"].is_unique().all()
    assert set(log["item_id"]) <= set(items["item_id"])
    assert 990 < log["user_id"].n_unique() <= 1000
    shares = log["item_id"].value_counts(sort=True)["count"] / log.height
    assert shares[0] > 10 * shares[shares.len() // 2]  # skewed, as popularity is


def test_the_peak_of_preprocess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two threads, for every further one has buffers of its own, whatever the log."""
    monkeypatch.setenv("POLARS_MAX_THREADS", "2")
    folder = scale_log.prepared_folder(tmp_path / "work", 10**6)
    seconds, peak, _ = stages.measure(folder, "preprocess")
    assert (folder / "data" / "interactions" / "interactions.parquet").exists()
    assert seconds > 0
    assert 50 < peak < PEAK_MIB
    assert stages.measure(folder, "plan")[1] < PLAN_MIB


def test_a_catalogue_of_a_given_size(tmp_path: Path) -> None:
    scale_log.synthetic_log(tmp_path, 5000, items=30)
    assert pl.read_parquet(tmp_path / "items.parquet").height == 30
    assert pl.read_parquet(tmp_path / "interactions.parquet")["item_id"].n_unique() == 30


def test_peaks_are_of_a_process_and_of_those_that_it_started() -> None:
    hold = "import sys; held = bytearray(b'x') * (100 * 2**20); print(flush=True); sys.stdin.read()"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    with subprocess.Popen([sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()  # both are there
        own, child = stages.family(process.pid)
        assert own == process.pid
        small, large = peak_mib(own), peak_mib(child)
        process.stdin.close()
        process.wait()
        assert small is not None
        assert large is not None
        assert small < 100 < large < small + 110
        assert peak_mib(process.pid) is None
        assert stages.family(process.pid) == [process.pid]


def test_the_picture_of_the_result() -> None:
    figure = plot.stages_picture(read_json(RESULTS / "scale.json"))
    seconds, peaks = figure.axes
    assert [len(line.get_xdata()) for line in seconds.lines] == [len(stages.SIZES)] * 3  # type: ignore[arg-type]
    assert len(peaks.lines) == 5


def test_the_random_le_is_what_annotate_loads(tmp_path: Path) -> None:
    write_random_le(tmp_path, 30)
    data = tmp_path / "data"
    tokens = environment.read_item_tokens(data / "item_tokens" / "items.parquet")
    le = environment.load(data / "le", language_model.load(data / "llm", 2), tokens)
    assert (le.num_items, le.llm.width, le.shape.history) == (30, 16, 50)


def test_no_benchmark_imports_a_test() -> None:
    files = (ROOT / "benchmarks").glob("[!.]*/*.py")
    assert not [file for file in files if re.search(r"^\s*(from|import) tests\b", file.read_text(), re.MULTILINE)]
