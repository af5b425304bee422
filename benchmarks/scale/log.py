"""A synthetic log of any size: ten events per user on average, some users more active, items by Zipf's law.

It measures the cost of the rows, and nothing of what a model could learn from them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.support.jobs import DEFAULTS
from lea_core.params.overlay import change_params

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
    "annotate.workers": 2,
}


def synthetic_log(folder: Path, interactions: int, seed: int = 0, items: int | None = None) -> None:
    """Write interactions.parquet (user_id, item_id, timestamp) and items.parquet (item_id, title) in `folder`.

    There is one user for every ten events and, without `items`, one item for every hundred; the events of all users are
    interleaved in time. Ids are text whose byte order is neither that of activity nor of popularity. The same seed
    gives the same log.
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
