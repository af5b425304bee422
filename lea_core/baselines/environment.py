"""The LE as a recommender of its own: log P(a | s) of all items for any history (paper: s^e_t; heads.py: `ranking`).

In: a trained LE. Out: a `Scorer` (neighbours.py) that asks the LLM for every history, one pass over those of a call
together.

Every history is a window of its own, its last `history` items, so its state is that of the whole window however long
the user's sequence is. (`measure_le` reads overlapping windows, whose later states see half of it at least.) Of items
that stand further back the LE does not know that they were taken before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lea_core.data.sequences import Sequences, windows
from lea_core.environment.model import Environment
from lea_core.llm.packing import fitted_packs

if TYPE_CHECKING:
    from lea_core.metrics.full_ranking import Scorer


def le_ranker(le: Environment, batch_tokens: int, read: Callable[[int], object] = lambda tokens: tokens) -> Scorer:
    """(B, T) right-aligned item indices, -1 for none -> (B, I) float32 log P(a | s), zeros without a history.

    batch_tokens: that the LLM reads at a time. read: called with the number of tokens of every batch that is done.
    """

    @torch.inference_mode()
    def scorer(items: np.ndarray) -> Tensor:
        log = _as_sequences(items[:, -le.shape.history :], le.num_items)
        able = np.flatnonzero(np.diff(log.offsets))
        last = log.offsets[able + 1] - 1  # (S,): row of each history's last event
        states = torch.zeros(len(log.items), le.heads.state_width, device=le.llm.device)
        none = np.zeros(len(log.items), dtype=bool)
        for packed in fitted_packs(log, windows(log, able, le.shape.history), batch_tokens, 0, none):
            ends = np.flatnonzero(packed.following < 0)
            events = packed.events[ends]
            content, inputs = le.heads.inputs(le.recent(log, events), le.read(packed)[0][ends])
            states[events] = le.heads.state(content, inputs)
            read(packed.tokens)
        scores = torch.zeros(len(items), le.num_items, device=le.llm.device)
        scores[able] = le.heads.rank_all(states[last], log, last)
        return scores

    return scorer


def _as_sequences(items: np.ndarray, num_items: int) -> Sequences:
    """Every row of histories (B, T) as a user's training events."""
    known = items >= 0
    offsets = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
    return Sequences(items[known], np.zeros(offsets[-1], dtype=np.int8), offsets, num_items)
