"""The LE's rankings: the most likely items in every training state, with their probabilities.

In: the LE's heads and the states of `annotate`; the LLM is not needed. Out: the `RANKINGS` table, a row for every
training event that is followed by another. A learner uses them as soft positive actions (losses.ranked).

The probabilities are the LE's own (heads.ranking): no item is left out, neither the logged next item nor items of the
history. Rankings are our addition: the sources on the paper mention proposed actions only.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from lea_core.common.errors import LeaError
from lea_core.common.tables import read_states, vectors
from lea_core.data.sequences import Sequences, batches, learning_steps
from lea_core.environment.heads import Heads
from lea_core.environment.top_items import likeliest

STATES_AT_ONCE = 2**15  # states read at a time


def rankings(heads: Heads, train: Sequences, states: Path, count: int) -> Iterator[pa.Table]:
    """Parts of RANKINGS: the `count` most likely items after each event that is followed by another, best first.

    states: the STATES table of the training events. Raises `LeaError` where the catalogue is smaller than `count`, or
    the states belong to other events.
    """
    if count > train.num_items:
        raise LeaError(f"params.yaml: rank.items {count}: there are {train.num_items} items: lower it")
    users, positions = train.users_and_positions()
    followed = learning_steps(train)
    for rows in batches(len(train.items), STATES_AT_ONCE):
        found = read_states(states, rows.start, users[rows], positions[rows])
        chosen = np.flatnonzero(followed[rows])
        if len(chosen):
            events = chosen + rows.start
            items, log_probabilities = likeliest(heads, train, events, found[chosen], count)
            yield pa.table(
                {
                    "user": users[events].astype(np.int32),
                    "position": positions[events].astype(np.int32),
                    "items": vectors(items.astype(np.int32)),
                    "log_probabilities": vectors(log_probabilities),
                }
            )
