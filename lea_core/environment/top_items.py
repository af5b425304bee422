"""Proposals: the items that the LE ranks best in a state.

In: a trained LE, events and their states. Out: items and their log P(a | s), in which the history's items are as likely
as users repeat (heads.ranking); by its scores alone the LE would propose the history. All items are ranked for some
states at a time, so memory grows with neither the number of states nor, beyond one row, that of items.
"""

from __future__ import annotations

import numpy as np
import torch

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences, batches, seen_pairs
from lea_core.environment.model import Environment
from lea_core.metrics.top_k import best_items

SCORES = 2**22  # in memory at once, a few times over


@torch.inference_mode()
def propose(
    environment: Environment,
    train: Sequences,
    events: np.ndarray,
    states: np.ndarray,
    count: int,
    skip_seen: bool,
    skip_next: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` likeliest items after each event (N,) from its state (N, C + K), and log P(a | s); both (N, A).

    Left out are the items of the history with `skip_seen` and the logged next one with `skip_next`. Of equally likely
    items the lower comes first (top_k.py). Raises `LeaError` where too few are left.
    """
    longest = int(np.diff(train.offsets).max(initial=0)) if skip_seen else 0
    if train.num_items - longest - skip_next < count:
        raise LeaError(
            f"params.yaml: augment.actions {count}: with {train.num_items} items and a history of {longest} there are "
            "too few unseen items to propose: lower it"
        )
    proposed = np.empty((len(events), count), dtype=np.int64)
    log_probabilities = np.empty((len(events), count), dtype=np.float32)
    for part in batches(len(events), SCORES // train.num_items):
        device = environment.llm.device
        own = torch.from_numpy(states[part].astype(np.float32)).to(device)
        every = environment.heads.rank_all(own, train, events[part])  # (S, I)
        excluded = (np.arange(len(own)), train.items[events[part] + 1]) if skip_next else None
        if skip_seen:
            excluded = seen_pairs(train, events[part], skip_next)
        best, values = best_items(every, count, excluded)
        proposed[part], log_probabilities[part] = best.cpu().numpy(), values.cpu().numpy()
    return proposed, log_probabilities
