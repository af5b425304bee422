"""What the stages take of time and memory as the log grows: `make bench-scale`.

In: nothing; the logs are synthetic. Out: benchmarks/results/scale.json: for each command of COMMANDS and each size, its
seconds (from start to end of its process) and its peak MiB of memory, such as preprocess_seconds_1e7 and
preprocess_peak_mib_1e7; commit and hardware.

The log is drawn, not simulated: ten events per user on average, some users more active, items by Zipf's law, the events
of all users interleaved in time. It measures the cost of the rows, and nothing of what a model could learn from them.
"""

from __future__ import annotations

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

from benchmarks.common import ROOT, WORK, where
from lea_core.artifacts import write_json
from tests.lane import change_params

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
# What is measured, in this order, in one folder: a module to run, and its arguments.
COMMANDS: dict[str, list[str]] = {"preprocess": ["stages.preprocess"]}
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
}
# Runs a module and leaves its process's own peak, in KiB, in the file named first: what the system reports of a child
# (rusage) is no less than what its parent held when it started it.
PEAK = """
import atexit, pathlib, runpy, sys
def record():
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path(file).write_text(status.partition("VmHWM:")[2].split()[0])
file, module, *rest = sys.argv[1:]
atexit.register(record)
sys.argv = [module, *rest]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def synthetic_log(folder: Path, interactions: int, seed: int = 0) -> None:
    """Write interactions.parquet (user_id, item_id, timestamp) and items.parquet (item_id, title) in `folder`.

    Of `interactions` events there is one user for every ten and one item for every hundred; ids are text whose byte
    order is neither that of activity nor of popularity. The same seed gives the same log.
    """
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    users, items = max(interactions // EVENTS_PER_USER, 1), max(interactions // EVENTS_PER_ITEM, 2)
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


def prepared_folder(folder: Path, interactions: int) -> Path:
    """Fill a new folder with a synthetic log as if fetched and a params.yaml to go with it."""
    shutil.rmtree(folder, ignore_errors=True)
    synthetic_log(folder / "data" / "raw", interactions)
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    change_params(folder, CHANGES)
    return folder


def measure(folder: Path, command: list[str]) -> tuple[float, float]:
    """Run a module with its arguments in `folder`; its seconds and peak MiB. Ends where the command fails."""
    peak = folder / "peak"
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    if subprocess.run([sys.executable, "-c", PEAK, str(peak), *command], cwd=folder, env=settings).returncode:
        raise SystemExit(f"{folder}: python -m {' '.join(command)} failed")
    return time.perf_counter() - started, int(peak.read_text()) / 1024


def main() -> None:
    """Measure every command at every size, write the result, and delete the logs."""
    result: dict[str, float] = {}
    for size in SIZES:
        folder = prepared_folder(WORK / "scale", size)
        for name, command in COMMANDS.items():
            seconds, peak = measure(folder, command)
            label = f"1e{len(str(size)) - 1}"
            result |= {f"{name}_seconds_{label}": round(seconds, 1), f"{name}_peak_mib_{label}": round(peak)}
            print(f"{name} of {size:,} interactions: {seconds:.1f} s, {peak:,.0f} MiB", flush=True)
    shutil.rmtree(WORK / "scale")
    write_json(ROOT / "benchmarks" / "results" / "scale.json", {**result, "command": "make bench-scale", **where()})


if __name__ == "__main__":
    main()
