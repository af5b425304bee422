"""What the stages take of time and memory as the log grows: `make bench-scale`.

In: nothing; the logs are synthetic. Out: benchmarks/results/scale.json and its picture, docs/scale.png: for each of
COMMANDS and each size, its seconds (from start to end of its process) and its peak MiB of memory, such as
preprocess_seconds_1e7 and preprocess_peak_mib_1e7; commit and hardware.

  preprocess  the stage, on a log whose catalogue grows with it
  plan        the shards of that log (plan_only.py)
  annotate    the stage, with a random LLM of two layers and a width of 16, so that what remains is our own work; two
              workers; a catalogue of a thousand items at every size, so that users alone grow.
              annotate_peak_mib_* is the master's, annotate_worker_peak_mib_* the greater worker's

The log is drawn, not simulated: ten events per user on average, some users more active, items by Zipf's law, the events
of all users interleaved in time. It measures the cost of the rows, and nothing of what a model could learn from them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.common import DEFAULTS, ROOT, WORK, run_stage, where
from benchmarks.plan_only import HISTORY
from benchmarks.scale_plot import draw
from lea_core.common.artifacts import write_json
from lea_core.params.overlay import change_params
from tests.support.tiny_project import write_le

SIZES = (10**4, 10**5, 10**6, 10**7)
EVENTS_PER_USER = 10
EVENTS_PER_ITEM = 100
# Rows drawn and written at once: what a log takes of memory does not grow with it.
CHUNK = 2**20
# A user's events fall with its rank to the power of 1 / ACTIVITY - 1: the median user has nine, the first hundreds.
ACTIVITY = 1.3
FIRST_SECOND = 1_600_000_000
WORDS = {
    "colour": ("Black", "Blue", "Brass", "Clear", "Green", "Grey", "Ivory", "Oak", "Red", "Silver", "Walnut", "White"),
    "use": ("Bath", "Camping", "Desk", "Garden", "Kitchen", "Office", "School", "Sports", "Travel", "Workshop"),
    "thing": ("Bag", "Bottle", "Box", "Brush", "Chair", "Clock", "Cup", "Hook", "Knife", "Lamp", "Mat", "Pan", "Shelf"),
}
CATALOGUE = 1000  # items of the logs that are annotated: there users alone grow
COMMANDS = {"preprocess": "stages.preprocess", "plan": "benchmarks.plan_only", "annotate": "stages.annotate"}
WORKERS = 2
SAMPLED_EVERY = 0.05  # seconds
CHANGES: dict[str, Any] = {
    "dataset": {
        "name": "tables",
        "interactions": {"source": "interactions.parquet", "sha256": None},
        "items": {"source": "items.parquet", "sha256": None},
        "columns": {"user": "user_id", "item": "item_id", "timestamp": "timestamp"}
        | dict.fromkeys(("order", "event", "rating", "split")),
        "text": "{title}",
    },
    "preprocess.min_rating": None,
    "preprocess.k_core": 0,
    "preprocess.duplicates": "keep",
    "preprocess.short_users": "train",
    "preprocess.repeats": True,
    "evaluate.mask_seen": False,
    "llm.layers": 2,
    "annotate.workers": WORKERS,
}


def synthetic_log(folder: Path, interactions: int, seed: int = 0, items: int | None = None) -> None:
    """Write interactions.parquet (user_id, item_id, timestamp) and items.parquet (item_id, title) in `folder`.

    Of `interactions` events there is one user for every ten and, without `items`, one item for every hundred; ids are
    text whose byte order is neither that of activity nor of popularity. The same seed gives the same log.
    """
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    users, items = max(interactions // EVENTS_PER_USER, 1), items or max(interactions // EVENTS_PER_ITEM, 2)
    item_names = _names("i", generator.permutation(items))
    user_names = _names("u", generator.permutation(users))
    words = [pl.Series(words).gather(generator.integers(0, len(words), items)) for words in WORDS.values()]
    numbers = pl.Series(generator.integers(1, 1000, items)).cast(pl.String)
    title = words[0] + " " + words[1] + " " + words[2] + " No. " + numbers
    pl.DataFrame({"item_id": item_names, "title": title}).write_parquet(folder / "items.parquet")
    writer = None
    for start in range(0, interactions, CHUNK):
        count = min(CHUNK, interactions - start)
        chunk = pl.DataFrame(
            {
                "user_id": user_names.gather((generator.random(count) ** ACTIVITY * users).astype(np.int64)),
                # a power of the catalogue's size, drawn evenly: an item's chance falls with its rank as 1 / rank
                "item_id": item_names.gather(((items + 1) ** generator.random(count)).astype(np.int64) - 1),
                "timestamp": FIRST_SECOND + start + np.sort(generator.integers(0, count, count)),
            }
        ).to_arrow()
        writer = writer or pq.ParquetWriter(folder / "interactions.parquet", chunk.schema)
        writer.write_table(chunk)
    if writer:
        writer.close()


def _names(letter: str, numbers: np.ndarray) -> pl.Series:
    return letter + pl.Series(numbers).cast(pl.String)


def prepared_folder(folder: Path, interactions: int, items: int | None = None) -> Path:
    """Fill a new folder with a synthetic log as if fetched and a params.yaml to go with it."""
    shutil.rmtree(folder, ignore_errors=True)
    synthetic_log(folder / "data" / "raw", interactions, items=items)
    shutil.copyfile(DEFAULTS, folder / "params.yaml")
    change_params(folder, CHANGES)
    return folder


def annotated_folder(folder: Path, interactions: int) -> Path:
    """A folder with all that `annotate` reads: a log of few items gone through preprocess, and a tiny random LE."""
    prepared_folder(folder, interactions, CATALOGUE)
    run_stage(folder, "preprocess")
    write_le(folder, HISTORY, pq.read_metadata(folder / "data" / "interactions" / "items.parquet").num_rows)
    return folder


def measure(folder: Path, name: str) -> tuple[float, float, float]:
    """Run one of COMMANDS in `folder`; its seconds, its peak MiB, the largest peak MiB of a process that it started.

    Ends where the command fails. Peaks are the system's own record (VmHWM) as it was shortly before a process's end.
    """
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "LEA_CACHE": str(folder / "cache")}
    peaks: dict[int, float] = {}
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", COMMANDS[name]], cwd=folder, env=settings) as process:
        while process.poll() is None:
            peaks |= {one: peak for one in family(process.pid) if (peak := peak_mib(one)) is not None}
            time.sleep(SAMPLED_EVERY)
    if process.returncode:
        raise SystemExit(f"{folder}: python -m {COMMANDS[name]} failed")
    own = peaks.pop(process.pid)
    return time.perf_counter() - started, own, max(peaks.values(), default=0.0)


def family(process: int) -> list[int]:
    """A process and all that it started, and these in turn; none that is gone."""
    found = [process]
    for one in found:  # it grows meanwhile
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def peak_mib(process: int) -> float | None:
    """The most memory that a process has held since it began its program; None where it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        found = Path(f"/proc/{process}/status").read_text().partition("VmHWM:")[2].split()
        return int(found[0]) / 1024 if found else None
    return None


def main() -> None:
    """Measure every command at every size, write the result, draw it, and delete the logs."""
    result: dict[str, float] = {}
    for size in SIZES:
        folder = WORK / "scale"
        for name in COMMANDS:
            if name == "preprocess":
                prepared_folder(folder, size)
            elif name == "annotate":
                annotated_folder(folder, size)
            seconds, own, other = measure(folder, name)
            label = f"1e{len(str(size)) - 1}"
            result |= {f"{name}_seconds_{label}": round(seconds, 1), f"{name}_peak_mib_{label}": round(own)}
            if name == "annotate":
                result[f"annotate_worker_peak_mib_{label}"] = round(other)
            print(f"{name} of {size:,} interactions: {seconds:.1f} s, {own:,.0f} and {other:,.0f} MiB", flush=True)
    shutil.rmtree(WORK / "scale")
    write_json(ROOT / "benchmarks" / "results" / "scale.json", {**result, "command": "make bench-scale", **where()})
    draw(result, ROOT / "docs" / "scale.png")


if __name__ == "__main__":
    main()
