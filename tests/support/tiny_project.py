"""A project's data/ around the tiny LE: what the stages annotate and augment read; for tests of sharded passes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lea_core import params
from lea_core.common import tables
from lea_core.data.sequences import SPLITS, Sequences
from lea_core.params import Params
from tests.support.lane import PARAMS, ROOT, change_params
from tests.support.tiny_le import ITEMS, item_tokens, make, shake

CHANGES: dict[str, Any] = {
    "llm.layers": 2,
    "preprocess.repeats": True,
    "tokenize_items.content_width": 4,
    "finetune_le.heads.width": 8,
    "annotate.batch_tokens": 64,
    "annotate.shard_events": 40,
    "annotate.workers": 1,
}


def log(users: int, longest: int = 30, seed: int = 0) -> Sequences:
    """Random histories of 3 to `longest` of the nine items; each user's last two events are held out."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    split = np.zeros(offsets[-1], dtype=np.int8)
    split[offsets[1:] - 1], split[offsets[1:] - 2] = 2, 1
    return Sequences(rng.integers(0, 9, offsets[-1]), split, offsets, 9)


def write_log(folder: Path, sequences: Sequences, user_ids: list[str] | None = None) -> None:
    """data/interactions of these sequences; users are called u000, u001, .. without `user_ids`."""
    users, positions = sequences.users_and_positions()
    count = len(users)
    interactions = {
        "user": users.astype(np.int32),
        "position": positions.astype(np.int32),
        "item": sequences.items.astype(np.int32),
        "timestamp": np.arange(count),
        "event": pa.array([""] * count),
        "rating": np.full(count, np.nan, dtype=np.float32),
        "split": pa.array([SPLITS[code] for code in sequences.split]),
    }
    ids = user_ids or [f"u{user:03d}" for user in range(sequences.num_users)]
    names = pa.array([f"i{item}" for item in range(sequences.num_items)])
    counts = np.bincount(sequences.train().items, minlength=sequences.num_items).astype(np.int32)
    numbers = np.arange(sequences.num_items, dtype=np.int32)
    items = {"item": numbers, "item_id": names, "text": names, "train_count": counts}
    data = folder / "data" / "interactions"
    tables.write_table(data / "interactions.parquet", pa.table(interactions), tables.INTERACTIONS)
    tables.write_table(data / "items.parquet", pa.table(items), tables.ITEMS)
    tables.write_table(
        data / "users.parquet",
        pa.table({"user": np.arange(len(ids), dtype=np.int32), "user_id": pa.array(ids)}),
        tables.USERS,
    )


def write_tokens(folder: Path, token: np.ndarray | None = None, items: int = ITEMS) -> None:
    """data/item_tokens of the tiny LE, on demand with other tokens."""
    tokens = item_tokens(items=items)
    table = {
        "item": np.arange(len(tokens.token), dtype=np.int32),
        "token": tables.vectors(tokens.token if token is None else token),
        "pooled": tables.vectors(tokens.pooled),
        "content": tables.vectors(tokens.content),
    }
    tables.write_table(folder / "data" / "item_tokens" / "items.parquet", pa.table(table), tables.ITEM_TOKENS)


def write_le(folder: Path, history: int, items: int = ITEMS) -> None:
    """data/item_tokens, data/llm and data/le of the tiny LE."""
    write_tokens(folder, items=items)
    shake(make(folder / "tiny", items=items, history=history)).save(folder / "data" / "le", {})
    shutil.copytree(folder / "tiny" / "llm", folder / "data" / "llm")


def write_project(folder: Path, sequences: Sequences, **changes: Any) -> Params:
    """The whole of it, with a params.yaml; further `changes` of `annotate`'s parameters by their names."""
    write_log(folder, sequences)
    write_le(folder, history=8)
    shutil.copyfile(PARAMS, folder / "params.yaml")
    return change(folder, **changes)


def change(folder: Path, **changes: Any) -> Params:
    """Set parameters of `annotate` in its params.yaml."""
    change_params(folder, CHANGES | {f"annotate.{name}": value for name, value in changes.items()})
    return params.load(folder / "params.yaml")


def start(folder: Path, stage: str, **settings: Any) -> subprocess.Popen[str]:
    """Run a stage there; its cache is `folder`/cache."""
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LEA_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )
