"""Rankings of all items in a state by the LE: the most likely items, proposals, and the rank of the next item.

In: the heads of a trained LE, events and their states. Out: items with log P(a | s), or ranks. P(a | s) gives the items
of the history the probability with which users repeat (heads.ranking); by its scores alone the LE would rank the
history first. All items are ranked for a few states at a time, so memory does not grow with the number of states.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences, batches, seen_pairs
from lea_core.environment.heads import Heads
from lea_core.metrics.ranking import ranks
from lea_core.metrics.top_k import best_items

SCORES_AT_ONCE = 2**22  # scores of items in memory at once, in a few copies


@torch.inference_mode()
def likeliest(
    heads: Heads,
    train: Sequences,
    events: np.ndarray,
    states: np.ndarray,
    count: int,
    skip_seen: bool = False,
    skip_next: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` most likely items after each event (N,), from its state (N, C + K), and log P(a | s): (N, A) both.

    `skip_seen` leaves out the items of the history, `skip_next` the logged next item. Of equally likely items the lower
    index comes first (top_k.py). At least `count` items must be left.
    """
    items = np.empty((len(events), count), dtype=np.int64)
    log_probabilities = np.empty((len(events), count), dtype=np.float32)
    own = torch.from_numpy(states.astype(np.float32))
    for part, ranking in _rankings(heads, train, events, own):
        excluded = (np.arange(len(ranking)), train.items[events[part] + 1]) if skip_next else None
        if skip_seen:
            excluded = seen_pairs(train, events[part], skip_next)
        best, values = best_items(ranking, count, excluded)
        items[part], log_probabilities[part] = best.cpu().numpy(), values.cpu().numpy()
    return items, log_probabilities


def propose(
    heads: Heads,
    train: Sequences,
    events: np.ndarray,
    states: np.ndarray,
    count: int,
    skip_seen: bool,
    skip_next: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Proposed actions: as `likeliest`. Raises `LeaError` where fewer than `count` items may be proposed."""
    longest = int(np.diff(train.offsets).max(initial=0)) if skip_seen else 0
    if train.num_items - longest - skip_next < count:
        raise LeaError(
            f"params.yaml: augment.actions {count}: with {train.num_items} items and a history of {longest} there are "
            "too few unseen items to propose: lower it"
        )
    return likeliest(heads, train, events, states, count, skip_seen, skip_next)


def rank_next(heads: Heads, sequences: Sequences, events: np.ndarray, states: Tensor) -> np.ndarray:
    """Rank (N,) of the item after each event, from its state (N, C + K), among all items."""
    result = np.empty(len(events), dtype=np.float32)
    for part, ranking in _rankings(heads, sequences, events, states):
        logged = torch.from_numpy(sequences.items[events[part] + 1]).to(ranking.device)
        result[part] = ranks(ranking, logged).cpu().numpy()
    return result


def _rankings(heads: Heads, sequences: Sequences, events: np.ndarray, states: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Log P(a | s) of all items for a few states at a time: the part of `events`, and (S, I)."""
    for part in batches(len(events), SCORES_AT_ONCE // sequences.num_items):
        yield part, heads.rank_all(states[part].to(heads.content.device), sequences, events[part])
