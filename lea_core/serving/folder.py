"""A policy folder: its files, the hashes that hold it together, and its vocabulary.

In and out: a folder with

    manifest.json        {"format": 1, "files": {name: SHA-256}}, of every other file
    policy.json          what it takes to build the network (policy_network.PolicyConfig)
    policy.safetensors   its weights
    vocabulary.parquet   item (0 to I - 1), item_id (as in the data), train_count (its training events)
    metrics.json provenance.json README.md      its metrics, what it was made from, a model card
    item_path.safetensors    where it has one, the path by which new items enter (new_items.py)

or, exported to ONNX, with policy.onnx and onnx.json instead of the network. Reading checks every hash first, so a
folder that was cut short, edited or mixed from two folders is refused before any of it is used. A hash shows that
nothing has changed since the folder was written, not who wrote it. This module does not need torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lea_core.common.artifacts import read_json, write_json
from lea_core.common.errors import LeaError, show_causes
from lea_core.common.sources import file_sha256
from lea_core.common.tables import Schema, read_table, to_numpy, write_table
from lea_core.serving.ids import short

FORMAT = 1
MANIFEST = "manifest.json"
VOCABULARY = "vocabulary.parquet"
PROVENANCE = "provenance.json"
MEND = "copy the whole folder again, or make it again with `dvc repro`"
# One row per item, in the order of the network's rows.
SCHEMA: Schema = {"item": pa.int32(), "item_id": pa.string(), "train_count": pa.int32()}


@dataclass(frozen=True)
class Vocabulary:
    """item_ids: I texts, the data's ids.  counts: (I,) int64 training events of each."""

    item_ids: list[str]
    counts: np.ndarray

    def by_popularity(self) -> np.ndarray:
        """(I,) items, most training events first, of equal ones the lower index."""
        return np.argsort(-self.counts, kind="stable")

    def log_shares(self) -> np.ndarray:
        """(I,) float32 log of each item's share of the training events, each count one higher."""
        shares = (self.counts + 1.0) / (self.counts.sum() + len(self.counts))
        return np.log(shares).astype(np.float32)  # type: ignore[no-any-return]


def write_vocabulary(folder: Path, vocabulary: Vocabulary) -> None:
    """Write vocabulary.parquet into `folder`."""
    table = pa.table(
        {
            "item": np.arange(len(vocabulary.item_ids), dtype=np.int32),
            "item_id": pa.array(vocabulary.item_ids, pa.string()),
            "train_count": vocabulary.counts.astype(np.int32),
        }
    )
    write_table(folder / VOCABULARY, table, SCHEMA)


def read_vocabulary(folder: Path, num_items: int) -> Vocabulary:
    """Read vocabulary.parquet. Raises `LeaError` where it does not hold `num_items` items with different ids."""
    path = folder / VOCABULARY
    table = read_table(path, SCHEMA)
    if table.num_rows != num_items:
        raise LeaError(f"{path}: names {table.num_rows} items, but the network has {num_items}: {MEND}")
    if not np.array_equal(to_numpy(table, "item"), np.arange(num_items)):
        raise LeaError(f"{path}: column 'item' does not count from 0 to {num_items - 1}: {MEND}")
    item_ids = table["item_id"].to_pylist()
    if len(set(item_ids)) < num_items:
        raise LeaError(f"{path}: column 'item_id' names an item twice: {MEND}")
    return Vocabulary(item_ids, to_numpy(table, "train_count").astype(np.int64))


def read_exclude_seen(folder: Path, listed: list[str]) -> bool:
    """Whether items of the history were excluded when the policy was selected and evaluated (`evaluate.mask_seen`).

    It is the policy's default. listed: the folder's files; without provenance.json, or without the key in it, True.
    Raises `LeaError` where the value is neither true nor false.
    """
    made_of = read_json(folder / PROVENANCE) if PROVENANCE in listed else {}
    params = made_of.get("params", {})
    if not isinstance(params, dict):
        raise LeaError(f"{folder / PROVENANCE}: params is {short(params)}, not an object: {MEND}")
    found = params.get("mask_seen", True)
    if not isinstance(found, bool):
        raise LeaError(f"{folder / PROVENANCE}: params.mask_seen is {short(found)}, not true or false: {MEND}")
    return found


def seal(folder: Path) -> None:
    """Write manifest.json about the files that are in `folder` now; to be called last."""
    files = {path.name: file_sha256(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    write_json(folder / MANIFEST, {"format": FORMAT, "files": files})


def check_folder(folder: Path) -> list[str]:
    """Check the folder against its manifest; returns the names of its files.

    Raises `LeaError` where it is no policy folder, is of another format, or a file is absent or has changed.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise LeaError(
            f"{folder}: no policy folder, for it has no {MANIFEST}: name one such as data/policy, made by `dvc repro`"
        ) from None
    except (ValueError, RecursionError) as error:
        raise LeaError(f"{path}: no readable JSON ({error}): {MEND}") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise LeaError(f"{path}: format {found!r}, but this version of LEA reads {FORMAT}: {other_version(folder)}")
    files = manifest.get("files")
    if not isinstance(files, dict) or not files:
        raise LeaError(f"{path}: lists no files: {MEND}")
    for name, sha256 in files.items():
        _check_file(folder, name, sha256)
    return list(files)


def other_version(folder: Path) -> str:
    """Which LEA wrote a folder that this one cannot read, as provenance.json says, and what to do: an error's end."""
    try:
        made_of = read_json(folder / PROVENANCE)
    except LeaError as error:
        show_causes(error)
        made_of = {}
    versions = made_of.get("versions")
    known = versions if isinstance(versions, dict) else {}
    found = known.get("lea-recommender", known.get("lea"))  # the distribution's name, now and before
    writer = f"LEA {short(found)}, commit {short(made_of.get('commit'))}" if found else "another LEA"
    return f"{writer} wrote it: install that one, or make the folder again with `dvc repro`"


def _check_file(folder: Path, name: str, sha256: Any) -> None:
    path = folder / name
    if Path(name).name != name or path.is_dir():
        raise LeaError(f"{folder / MANIFEST}: lists {name!r}, which is not a file of this folder: {MEND}")
    try:
        found = file_sha256(path)
    except (FileNotFoundError, ValueError):  # the latter of a name that no file can have
        raise LeaError(f"{path}: not found, but {MANIFEST} lists it: {MEND}") from None
    if found != sha256:
        raise LeaError(f"{path}: has changed since the folder was written (its SHA-256 differs): {MEND}")
