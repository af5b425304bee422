"""The LE's rankings: the items that it ranks first in every training state, with their probabilities.

In: the LE's heads and the states that annotate kept; the LLM itself is not needed. Out: the `RANKINGS` table, a row for
every training event that another follows. A learner takes them as soft positive actions (losses.ranked).

Probabilities are the LE's own (heads.ranking): the logged next item is among them, and so are items of the history, as
often as users repeat. This is ours: no source on the paper has more than proposed actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from lea_core.common.errors import LeaError
from lea_core.common.tables import STATES, read_rows, to_numpy, vectors
from lea_core.data.sequences import Sequences, batches, learning_steps
from lea_core.environment.heads import Heads
from lea_core.metrics.top_k import best_items

SCORES = 2**22  # in memory at once, a few times over
ROWS = 2**15  # states read at a time


def rankings(heads: Heads, train: Sequences, states: Path, count: int) -> Iterator[pa.Table]:
    """Parts of RANKINGS: the `count` likeliest items after each event that another follows, likeliest first.

    states: the STATES table of the training events. Raises `LeaError` where the catalogue is smaller than `count` or
    the states are of other events.
    """
    if count > train.num_items:
        raise LeaError(f"params.yaml: rank.items {count}: there are {train.num_items} items: lower it")
    users, positions = train.users_and_positions()
    followed = learning_steps(train)
    for rows in batches(len(train.items), ROWS):
        table = read_rows(states, STATES, rows.start, rows.stop)
        if not (
            np.array_equal(to_numpy(table, "user"), users[rows])
            and np.array_equal(to_numpy(table, "position"), positions[rows])
        ):
            raise LeaError(f"{states}: its rows are not the training events: run `dvc repro annotate`")
        chosen = np.flatnonzero(followed[rows])
        if len(chosen):
            items, probabilities = likeliest(heads, train, chosen + rows.start, to_numpy(table, "state")[chosen], count)
            events = chosen + rows.start
            yield pa.table(
                {
                    "user": users[events].astype(np.int32),
                    "position": positions[events].astype(np.int32),
                    "items": vectors(items),
                    "log_probabilities": vectors(probabilities),
                }
            )


@torch.inference_mode()
def likeliest(
    heads: Heads, train: Sequences, events: np.ndarray, states: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` items after each event (N,), from its state (N, C + K), and their log P(a | s): (N, K) both."""
    items = np.empty((len(events), count), dtype=np.int32)
    log_probabilities = np.empty((len(events), count), dtype=np.float32)
    for part in batches(len(events), SCORES // train.num_items):
        every = heads.rank_all(torch.from_numpy(states[part].astype(np.float32)), train, events[part])  # (S, I)
        best, values = best_items(every, count)
        items[part], log_probabilities[part] = best.numpy(), values.numpy()
    return items, log_probabilities
