"""Shard files: the finished work of one shard, in the cache folder, which DVC neither tracks nor deletes.

In and out: named arrays and a JSON record. A file is published by one rename, with the hash of its content in its
header. So it is complete or absent, and a file that was changed later is detected and computed again.

`Known` finds windows in the shard files of earlier runs of the same LE and copies their results.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lea_core.common.artifacts import publish_file
from lea_core.common.errors import LeaError, show_causes, warn

RECORD, KEYS, RANGES = "record", "window_keys", "window_ranges"
Arrays = dict[str, np.ndarray]


def write(path: Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
    """Publish arrays and record; the record gets `sha256` of the arrays."""
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header = json.dumps({**record, "sha256": _digest(whole)}, sort_keys=True, allow_nan=False)
    with publish_file(path) as temporary:
        temporary.write_bytes(save(whole, metadata={RECORD: header}))


def read(path: Path, names: Iterable[str] = ()) -> tuple[Arrays, dict[str, Any]] | None:
    """Arrays (all, checked by their hash; or only `names`, unchecked) and record; None where the file is absent.

    A broken file is removed after a warning: None too.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as opened:
            record = json.loads((opened.metadata() or {}).get(RECORD, "{}"))
            arrays = {name: opened.get_tensor(name) for name in (tuple(names) or opened.keys())}
        if "sha256" in record and (names or _digest(arrays) == record["sha256"]):
            return arrays, record
        reason = "its content is not what was written"
    except FileNotFoundError:
        return None
    except (SafetensorError, json.JSONDecodeError) as error:  # cut, edited, or without one of `names`
        show_causes(error)
        reason = str(error)
    warn(f"{path}: broken shard ({reason}): it is computed again")
    path.unlink(missing_ok=True)
    return None


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def write_known(path: Path, folders: Iterable[Path]) -> None:
    """Write an index of the windows in the shard files of these folders; where a window is in several, the first."""
    with publish_file(path) as temporary:
        database = sqlite3.connect(temporary)
        try:
            database.execute("PRAGMA journal_mode = OFF")
            database.execute("CREATE TABLE windows (key BLOB PRIMARY KEY, file TEXT, row INTEGER) WITHOUT ROWID")
            for folder in folders:
                for file in sorted(folder.glob("*.safetensors")):
                    if (found := read(file, [KEYS])) is not None:
                        name = f"{folder.name}/{file.name}"
                        rows = ((key.tobytes(), name, row) for row, key in enumerate(found[0][KEYS]))
                        database.executemany("INSERT OR IGNORE INTO windows VALUES (?, ?, ?)", rows)
            database.commit()
        except sqlite3.OperationalError as error:
            raise LeaError(f"{path}: cannot be written ({error}): free some space and run again") from None
        finally:
            database.close()


class Known:
    """Read access to such an index; without the file, no window is known."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent.parent
        self._database = None
        if path.exists():
            self._database = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )

    def find(self, keys: np.ndarray) -> list[tuple[str, int] | None]:
        """File and row of the window with each of the `keys` (W, 16), or None."""
        if self._database is None:
            return [None] * len(keys)
        query = "SELECT file, row FROM windows WHERE key = ?"
        return [self._database.execute(query, (key.tobytes(),)).fetchone() for key in keys]

    def fill(self, found: list[tuple[str, int] | None], ranges: np.ndarray, arrays: Arrays) -> np.ndarray:
        """Copy the results of the windows that were found into `arrays`; returns which windows are filled, (W,) bool.

        ranges: (W, 4), start and end row of the events that a window owns, and of the steps that it rewards. `states`
        use the first range, all other arrays the second. A file that is gone, broken or lacks an array fills nothing.
        """
        filled = np.zeros(len(found), dtype=bool)
        by_file: dict[str, list[int]] = {}
        for window, row in enumerate(found):
            if row is not None:
                by_file.setdefault(row[0], []).append(window)
        for name, windows in by_file.items():
            source = read(self._folder / name)
            if source is None or not arrays.keys() <= source[0].keys():
                continue
            for window in windows:
                there = source[0][RANGES][found[window][1]]  # type: ignore[index]
                for part, array in arrays.items():
                    at = slice(0, 2) if part == "states" else slice(2, 4)
                    (start, end), (old_start, old_end) = ranges[window, at], there[at]
                    array[start:end] = source[0][part][old_start:old_end]
                filled[window] = True
        return filled
