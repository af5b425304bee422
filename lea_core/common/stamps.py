"""Stamps: by the hashes of what the report shows of a signal, DVC tells whether a report would be another.

DVC knows no dependency that is there only under a condition; but a stage of a variant depends on the paths that it
makes of the variant's keys. So of every table that a variant may name, data/<part>/<source>.parquet, there is a stamp,
data/stamps/<part>/<source>.json: of the LE's signals with what is measured of them, else empty. A variant that uses no
signal then needs none of it, and its report runs no language model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from lea_core.common.artifacts import read_json, write_json
from lea_core.common.layout import FOLDERS
from lea_core.common.sources import file_sha256


def stamp_path(data: Path, folder: str, source: str) -> Path:
    """Where the stamp of data/<folder>/<source>.parquet lies."""
    return data / "stamps" / folder / f"{source}.json"


def write_stamp(data: Path, folder: str, source: str, shown: Iterable[Path] = ()) -> None:
    """Write the stamp of a table; `shown`: files and folders of which the report shows something beside it."""
    files = [file for path in shown for file in ([path] if path.is_file() else sorted(path.iterdir()))]
    hashes = {file.relative_to(data).as_posix(): file_sha256(file) for file in files}
    write_json(stamp_path(data, folder, source), hashes)


def of_variant(data: Path, variant: Mapping[str, str]) -> dict[str, str]:
    """What the stamps of the tables that a variant names hold, together. variant: its keys of params.yaml."""
    found: dict[str, str] = {}
    for part, folder in FOLDERS.items():
        found |= read_json(stamp_path(data, folder, variant[part]))
    return found
