"""The synthetic log of the scale benchmark, and the memory that preprocess takes of a million events."""

from pathlib import Path

import polars as pl
import pytest

from benchmarks import scale

# Measured: 390; a log of texts rather than codes took 570.
PEAK_MIB = 500


def test_the_synthetic_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "CHUNK", 3000)
    for name, seed in (("a", 0), ("again", 0), ("other", 1)):
        scale.synthetic_log(tmp_path / name, 10_000, seed)
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
    folder = scale.prepared_folder(tmp_path / "work", 10**6)
    seconds, peak = scale.measure(folder, scale.COMMANDS["preprocess"])
    assert (folder / "data" / "interactions" / "interactions.parquet").exists()
    assert seconds > 0
    assert 50 < peak < PEAK_MIB
