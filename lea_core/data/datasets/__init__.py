"""Datasets: the raw files of each kind, and the reading of all of them.

`tables.py` reads the user's own two files. A data set whose files and columns are known is a file of facts in
lea_core/data/presets/, which leaves the reading to it.

In: params.dataset. Out: data/raw/. What is fetched does not depend on how it is read: this module imports no reader.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lea_core.common.artifacts import publish_folder
from lea_core.common.errors import LeaError
from lea_core.common.registry import DATASETS
from lea_core.common.sources import fetch_file
from lea_core.params import Dataset, Tables

ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".inter", ".item")


def as_tables(dataset: Dataset) -> Tables:
    """Return the two files and column names of any dataset."""
    if isinstance(dataset, Tables):
        return dataset
    found: Tables = DATASETS.load(dataset.name).tables(dataset)
    return found


def raw_name(part: str, source: str) -> str:
    """Return the name of a raw file: `part` and the ending by which it is read.

    Raises `LeaError` where the source's ending is none of ENDINGS.
    """
    path = source.split("?", 1)[0].lower()
    for ending in ENDINGS:
        if path.endswith(ending):
            return part + ending
    raise LeaError(f"dataset.{part}.source: {source} must end in one of {', '.join(ENDINGS)}: convert or rename it")


def fetch(dataset: Dataset, cache: Path, folder: Path) -> None:
    """Copy the raw files to `interactions.<ending>` and `items.<ending>` in `folder`: both or none.

    Raises `LeaError` as `sources.fetch_file` does, and on an ending that nobody reads.
    """
    tables = as_tables(dataset)
    files = {"interactions": tables.interactions, "items": tables.items}
    names = {part: raw_name(part, file.source) for part, file in files.items()}
    with publish_folder(folder) as temporary:
        for part, file in files.items():
            section = f"dataset.{part}" if isinstance(dataset, Tables) else "dataset"
            shutil.copyfile(fetch_file(file.source, file.sha256, cache, section), temporary / names[part])
