"""Checkpoints of long stages: a run that was killed continues from its last one, if its inputs are the same.

In: named arrays and a JSON object. Out: one safetensors file, with the JSON in its header, in the cache folder. DVC
does not track it, and does not delete it with a stage's outputs.

The folder's name holds a hash of everything that the result depends on, code and libraries included, so a run with
other inputs starts from the beginning. A save replaces the file in one move: a kill leaves the old or the new one. A
checkpoint that cannot be read or written gives a warning; the run goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lea_core.common.artifacts import publish_file
from lea_core.common.code_hash import computed_by
from lea_core.common.errors import warn
from lea_core.common.sources import cache_folder

KEPT = 3  # checkpoints per stage: those used last; they are of runs with different inputs
STATE = "state"
PAUSE = 20  # saving takes at most about 1/20 of the time


class Checkpoint:
    """Where one stage with one set of inputs keeps its progress.

    module: what computes the result, such as `lea_core.experiments.tuning`; its code and libraries (code_hash.py) are
    part of the key.  identity: everything else that the result depends on, as JSON values: hashes of inputs,
    parameters, device.  folder: its name in the cache folder.
    """

    def __init__(self, stage: str, module: str, identity: Mapping[str, object], folder: str = "resume") -> None:
        whole = {"identity": identity, **computed_by(module)}
        digest = hashlib.sha256(json.dumps(whole, sort_keys=True, allow_nan=False).encode()).hexdigest()
        self._stage = stage
        self._file = cache_folder() / folder / f"{stage}-{digest[:16]}" / "checkpoint.safetensors"
        self._saved, self._cost = time.monotonic(), 0.0

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The arrays and the state of the last save; None if there is none. A broken one is deleted, with a warning."""
        from safetensors import SafetensorError, safe_open

        with contextlib.suppress(OSError):
            os.utime(self._file.parent)  # marks it as used; without this it is only deleted earlier
        try:
            with safe_open(self._file, "numpy") as opened:
                state = json.loads(opened.metadata()[STATE])
                return {name: opened.get_tensor(name) for name in opened.keys()}, state  # noqa: SIM118 (no mapping)
        except FileNotFoundError:
            return None
        # A file that was cut short or edited: no safetensors, no header, no JSON in it.
        except (KeyError, OSError, SafetensorError, TypeError, ValueError) as error:
            warn(f"{self._file}: broken checkpoint ({error}): what it held is computed anew")
            self.remove()
            return None

    def save(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Replace the last save, and delete the stage's oldest checkpoints. The state's integers may have any size."""
        from safetensors.numpy import save

        started = time.monotonic()
        # Not ascontiguousarray: it adds an axis to an array that has none.
        arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
        content = save(arrays, metadata={STATE: json.dumps(state, allow_nan=False)})
        try:
            with publish_file(self._file) as temporary:
                temporary.write_bytes(content)
            self._remove_stale()
        except OSError as error:
            warn(f"{self._file}: no checkpoint saved ({error.strerror}): this run goes on, another would start anew")
        self._saved = time.monotonic()
        self._cost = self._saved - started

    def due(self, every: float) -> bool:
        """Whether `every` seconds have passed since the last save, or more where saving itself takes long."""
        return time.monotonic() - self._saved >= max(every, PAUSE * self._cost)

    def remove(self) -> None:
        """Delete the checkpoint, once the stage's outputs are published."""
        shutil.rmtree(self._file.parent, ignore_errors=True)

    def _remove_stale(self) -> None:
        folders = list(self._file.parent.parent.glob(f"{self._stage}-{'[0-9a-f]' * 16}"))
        for folder in sorted(folders, key=_changed, reverse=True)[KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)


def _changed(folder: Path) -> float:
    """When a folder last changed; 0 if another run has just deleted it."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
