"""One baseline ranked as the policies are: data/interactions -> data/baselines/NAME.

In: its name, and how to make its scorer. Out: ranks.parquet and metrics.json as an evaluation has them, under the one
seed 0, and cost.json: the seconds from training events to ranks per user who has a held-out event, loading left out,
and whether it needs the LLM. The folder of a baseline that params.yaml does not name is empty.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lea_core.common.artifacts import publish_folder, write_json
from lea_core.common.tables import INTERACTIONS, read_table, to_numpy
from lea_core.data.leaks import training_events
from lea_core.data.sequences import SPLITS, Sequences, read_sequences
from lea_core.metrics.full_ranking import rank_table, write_evaluation
from lea_core.metrics.protocol import warn_of
from lea_core.params import Params

if TYPE_CHECKING:
    from lea_core.metrics.full_ranking import Scorer

SEED = 0  # of the ranks: a baseline has no seeds


@dataclass(frozen=True)
class Log:
    """What a baseline is made from and ranks."""

    sequences: Sequences
    timestamps: np.ndarray  # (N,) int64
    events: pa.ChunkedArray  # (N,) strings

    @functools.cached_property
    def train(self) -> Sequences:
        """The training events."""
        return training_events(self.sequences)

    @property
    def times(self) -> np.ndarray:
        """Of the training events."""
        times: np.ndarray = self.timestamps[self.sequences.split == SPLITS.index("train")]
        return times

    @property
    def counts(self) -> np.ndarray:
        """Training events of each item: (I,)."""
        counts: np.ndarray = np.bincount(self.train.items, minlength=self.train.num_items)
        return counts

    @property
    def longest(self) -> int:
        """Number of events of the longest sequence."""
        return int(np.diff(self.sequences.offsets).max())


def read_log(folder: Path) -> Log:
    """Read data/interactions."""
    table = read_table(folder / "interactions.parquet", INTERACTIONS, columns=("timestamp", "event"))
    return Log(read_sequences(folder), to_numpy(table, "timestamp"), table["event"])


def rank_baseline(
    name: str, make: Callable[[], tuple[Scorer, int]], needs_llm: bool, log: Log, params: Params, data: Path
) -> None:
    """Make the scorer, rank every held-out event and publish; `make` gives it with the history that it reads."""
    p = params.evaluate
    started = time.perf_counter()
    table = rank_table({SEED: make()}, log.sequences, log.events, p.mask_seen, p.batch_users, p.cutoffs)
    seconds = (time.perf_counter() - started) / max(len(np.unique(to_numpy(table, "user"))), 1)
    with publish_folder(data / "baselines" / name) as out:
        warn_of(name, write_evaluation(out, table, log.sequences, p.cutoffs))
        write_json(out / "cost.json", {"seconds_per_user": seconds, "needs_llm": needs_llm})


def leave_out(name: str, data: Path) -> None:
    """Publish an empty folder in the baseline's place: DVC wants every output of a stage."""
    with publish_folder(data / "baselines" / name):
        pass
