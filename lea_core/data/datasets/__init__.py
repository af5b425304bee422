"""Datasets: the raw files of each kind, and the reading of all of them.

`tables.py` reads the user's own two files; `ml_100k.py` states which files and columns MovieLens-100K has and leaves
the reading to it. A dataset to add is one such file of facts and its line in `as_tables`.

In: params.dataset. Out: data/raw/. What is fetched does not depend on how it is read: this module imports no reader.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lea_core.common.artifacts import publish_folder
from lea_core.common.errors import LeaError
from lea_core.common.sources import fetch_file
from lea_core.data.datasets import ml_100k
from lea_core.params import MovieLens, Tables

ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".inter", ".item")


def as_tables(dataset: MovieLens | Tables) -> Tables:
    """Return the two files and column names of any dataset."""
    return ml_100k.preset(dataset) if isinstance(dataset, MovieLens) else dataset


def raw_name(part: str, source: str) -> str:
    """Return the name of a raw file: `part` and the ending by which it is read.

    Raises `LeaError` where the source's ending is none of ENDINGS.
    """
    path = source.split("?", 1)[0].lower()
    for ending in ENDINGS:
        if path.endswith(ending):
            return part + ending
    raise LeaError(f"dataset.{part}.source: {source} must end in one of {', '.join(ENDINGS)}: convert or rename it")


def fetch(dataset: MovieLens | Tables, cache: Path, folder: Path) -> None:
    """Copy the raw files to `interactions.<ending>` and `items.<ending>` in `folder`: both or none.

    Raises `LeaError` as `sources.fetch_file` does, and on an ending that nobody reads.
    """
    tables = as_tables(dataset)
    files = {"interactions": tables.interactions, "items": tables.items}
    names = {part: raw_name(part, file.source) for part, file in files.items()}
    with publish_folder(folder) as temporary:
        for part, file in files.items():
            section = "dataset" if isinstance(dataset, MovieLens) else f"dataset.{part}"
            shutil.copyfile(fetch_file(file.source, file.sha256, cache, section), temporary / names[part])
