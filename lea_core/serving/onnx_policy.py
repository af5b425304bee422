"""The policy as ONNX Runtime runs it: load an exported folder, recommend. It needs no torch.

In: a folder that `lea export --onnx` wrote (onnx_export.py); histories. Out: `Recommendations` (recommender.py).
Imports numpy, pyarrow and onnxruntime alone: a process answers some tenths of a second after it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from lea_core.common.artifacts import read_json
from lea_core.common.errors import LeaError
from lea_core.serving.folder import MEND, Vocabulary, check_folder, read_vocabulary
from lea_core.serving.histories import Histories
from lea_core.serving.ids import short
from lea_core.serving.recommender import Answer, Recommender

GRAPH, DESCRIPTION = "policy.onnx", "onnx.json"
INPUTS, OUTPUTS = ["items", "seen", "k"], ["best", "scores"]
NOTHING = np.full((1, 1), -1)


class OnnxPolicy(Recommender):
    """A policy's graph with its vocabulary: item ids in, item ids out."""

    scores_at_once = 2**18  # 1 MiB: what a batch has of scores stays in the cache of a core

    def __init__(
        self, session: Any, vocabulary: Vocabulary, history: int, threads: int = 1, exclude_seen: bool = True
    ) -> None:
        super().__init__(vocabulary, exclude_seen)
        self._session, self._history = session, history
        self._threads = ThreadPoolExecutor(threads) if threads > 1 else None

    @classmethod
    def load(cls, folder: Path | str, threads: int = 1) -> OnnxPolicy:
        """Read an exported folder. Raises `LeaError` where it is broken, has changed, or is of another version.

        threads: batches that are worked on at a time.
        """
        folder = Path(folder)
        listed = check_folder(folder)
        for name in (GRAPH, DESCRIPTION):
            if name not in listed:
                raise LeaError(f"{folder}: has no {name}: make such a folder with `lea export --onnx`")
        made = read_json(folder / DESCRIPTION)
        for name in ("num_items", "history"):
            value = made.get(name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise LeaError(f"{folder / DESCRIPTION}: {name} is {short(value)}, not a whole number from 1: {MEND}")
        exclude_seen = made.get("exclude_seen", True)  # a folder of before does not say
        if not isinstance(exclude_seen, bool):
            raise LeaError(f"{folder / DESCRIPTION}: exclude_seen is {short(exclude_seen)}, not true or false: {MEND}")
        vocabulary = read_vocabulary(folder, made["num_items"])
        return cls(_session(folder / GRAPH), vocabulary, made["history"], threads, exclude_seen)

    def _map(self, best: Callable[[np.ndarray], Answer], parts: list[np.ndarray]) -> Iterable[Answer]:
        return self._threads.map(best, parts) if self._threads and len(parts) > 1 else map(best, parts)

    def _best(self, found: Histories, rows: np.ndarray, k: int, exclude_seen: bool) -> Answer:
        items = found.newest(rows, self._history, in_front=True)
        if exclude_seen:
            longest = int(found.lengths[rows].max())
            seen = found.newest(rows, longest, in_front=True) if longest > self._history else items
        else:
            seen = np.broadcast_to(NOTHING, (len(rows), 1))
        best, scores = self._session.run(OUTPUTS, {"items": items, "seen": seen, "k": np.array([k])})
        scores[best < 0] = np.nan
        return best, scores


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise LeaError("onnxruntime is not installed: pip install 'lea-recommender[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # one graph on many threads is slower than many batches on one each
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # what it raises has no common base but this one
        raise LeaError(f"{path}: no graph that this onnxruntime can run ({error}): {MEND}") from None
    inputs = [value.name for value in (*session.get_inputs(), *session.get_overridable_initializers())]
    if sorted(inputs) != sorted(INPUTS) or [value.name for value in session.get_outputs()] != OUTPUTS:
        raise LeaError(f"{path}: not a policy's graph, for its inputs are {', '.join(inputs)}: {MEND}")
    return session
