"""Ranks of the items that came next, and the ranking metrics made of them.

In: scores of all items for each event. Out: one rank per event; HR, NDCG and MRR at a cutoff. Each event has exactly
one relevant item, the one that came next, so NDCG needs no ideal ranking beside rank 1.

Tie rule: the mean rank among equals, 1 + #(higher) + #(equal others) / 2. It depends on nothing but the scores, so CPU
and GPU agree, and a constant scorer gets no hit it did not earn. A half rank is inside a cutoff when it is not above.

Seen items: the mask removes the items of the user's whole history from the candidates, never the target itself; a
repeated item is thus ranked among the unseen ones.

This module imports torch only where it is given tensors: the report reads it for the metrics alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from lea_core.errors import LeaError
from lea_core.sequences import Sequences

if TYPE_CHECKING:
    from torch import Tensor


def ranks(scores: Tensor, targets: Tensor, seen: Tensor | None = None) -> Tensor:
    """1-based mean rank of each row's target among the candidates: (B,) float32.

    scores: (B, I) floats, higher is better. targets: (B,) int64. seen: (B, I) bool, items to leave out; a seen target
    stays. Raises `LeaError` where a score is NaN.
    """
    if bool(scores.isnan().any()):
        row = int(scores.isnan().any(dim=1).int().argmax())
        raise LeaError(f"the scores of row {row} hold NaN: train the policy again with a lower train.learning_rate")
    own = scores.gather(1, targets[:, None])  # (B, 1)
    higher, equal = scores > own, scores == own
    if seen is not None:
        others = ~seen.scatter(1, targets[:, None], False)  # out of place: the caller's mask stays
        higher, equal = higher & others, equal & others
    return 1.0 + higher.sum(dim=1).float() + (equal.sum(dim=1).float() - 1.0) / 2.0


def seen_items(sequences: Sequences, users: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(B, I) bool: the items of each user before each position."""
    seen = np.zeros((len(users), sequences.num_items), dtype=bool)
    for row, (user, position) in enumerate(zip(users, positions, strict=True)):
        seen[row, sequences.user_items(user)[:position]] = True
    return seen


def hit_rate(ranks: np.ndarray, cutoff: int) -> np.ndarray:
    """HR@cutoff of each event: 1 where its rank is within the cutoff, else 0."""
    return (ranks <= cutoff).astype(np.float64)


def ndcg(ranks: np.ndarray, cutoff: int) -> np.ndarray:
    """NDCG@cutoff of each event: 1 / log2(rank + 1) within the cutoff, else 0."""
    return hit_rate(ranks, cutoff) / np.log2(ranks.astype(np.float64) + 1.0)


def mrr(ranks: np.ndarray, cutoff: int) -> np.ndarray:
    """MRR@cutoff of each event: 1 / rank within the cutoff, else 0."""
    return hit_rate(ranks, cutoff) / ranks.astype(np.float64)


def metrics(ranks: np.ndarray, cutoffs: Iterable[int]) -> dict[str, float]:
    """Mean HR, NDCG and MRR at each cutoff, by names such as NDCG@10. Raises `LeaError` where there is no event."""
    if not len(ranks):
        raise LeaError("there is no event to rank: give valid and test events that another event of the user precedes")
    functions = {"HR": hit_rate, "NDCG": ndcg, "MRR": mrr}
    return {
        f"{name}@{cutoff}": float(function(ranks, cutoff).mean())
        for name, function in functions.items()
        for cutoff in cutoffs
    }
