"""Atomic publication of artifacts: a reader sees the whole old file or folder, or the whole new one.

In: a writer's bytes. Out: a file or folder under `data/`, whole and synced to disk.

A file is written beside its target, synced, and moved over it. A folder is filled under a hidden name beside its
target and then takes its place. A crash, a kill or a full disk leaves the previous artifact as it was. The next
publication of the same artifact removes what dead runs left behind, and restores a folder if a kill interrupted the
swap.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lea_core.common.errors import DISK_FULL, LeaError


@contextlib.contextmanager
def publish_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit, sync it and move it over `path`.

    The caller may re-open and check the temporary file before leaving the block: an exception there keeps the old file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = _temporary(path)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        _name(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; on a clean exit, sync it and put it in the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            _sync(file)
        _sync(temporary)
        _swap(temporary, path)
    except OSError as error:
        _name(error, path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(temporary: Path, path: Path) -> None:
    """Replace a folder by a finished one. POSIX has no portable exchange, so the old one is renamed first."""
    aside = _temporary(path, "old")
    if path.exists():
        path.rename(aside)
    try:
        temporary.rename(path)
    except BaseException:
        if aside.exists():
            aside.rename(path)
        raise
    _sync(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as JSON with sorted keys, so that equal values give equal bytes; NaN is refused."""
    with publish_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises `LeaError` where the file is absent or no JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LeaError(f"{path}: not found: run `dvc repro` to make it") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LeaError(f"{path}: no readable JSON ({error}): delete it and run `dvc repro`") from None
    if not isinstance(value, dict):
        raise LeaError(f"{path}: holds {type(value).__name__}, not an object: delete it and run `dvc repro`")
    return value


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows of the same keys as CSV with a header; None becomes an empty cell.

    `columns` are the header, where there may be no row; other keys are an error.
    """
    with publish_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write named arrays, and texts in its header, as one safetensors file; it is read back before it is published."""
    from safetensors.numpy import load_file, save

    with publish_file(path) as temporary:
        # Not save_file: on a full disk it raises an error of its own that does not say so.
        # Not ascontiguousarray: it adds an axis to an array that has none.
        temporary.write_bytes(save({name: np.asarray(array, order="C") for name, array in tensors.items()}, metadata))
        if load_file(temporary).keys() != tensors.keys():
            raise LeaError(f"{path}: what was written does not read back: check the disk and run again")


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file. Raises `LeaError` where it is absent, cut short or no safetensors file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors: dict[str, np.ndarray] = load_file(path)
    except FileNotFoundError:
        raise LeaError(f"{path}: not found: run `dvc repro` to make it") from None
    except SafetensorError as error:
        raise LeaError(f"{path}: broken safetensors file ({error}): delete it and run `dvc repro`") from None
    return tensors


def _temporary(path: Path, kind: str = "tmp") -> Path:
    return path.parent / f".{path.name}.{kind}-{os.getpid()}"


def _name(error: OSError, path: Path) -> None:
    """Name the artifact in the error of a full disk: a write names no file, and a copy names the one that is read."""
    if error.errno in DISK_FULL:
        error.filename, error.filename2 = str(path), None


def _remove_leftovers(path: Path) -> None:
    for kind in ("tmp", "old"):
        for leftover in path.parent.glob(f".{path.name}.{kind}-*"):
            owner = leftover.name.rsplit("-", 1)[-1]
            if owner.isdigit() and int(owner) != os.getpid() and _alive(int(owner)):
                continue
            if kind == "old" and not path.exists():
                leftover.rename(path)
            elif leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
