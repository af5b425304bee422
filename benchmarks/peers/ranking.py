"""The ranks and metrics of lea_core/metrics/ranking.py in numpy alone, for scripts in environments that lack lea_core.

In: scores of all items for each event. Out: one rank and number of candidates per event; NDCG and HR at a cutoff.
"""

from __future__ import annotations

import numpy as np

ALL = -1  # candidates of an event that is ranked without a mask: all items


def ranks(scores: np.ndarray, targets: np.ndarray, seen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """1-based mean rank of each row's target among the candidates, 1 + #higher + #(equal others) / 2: (B,) float32.

    And the number of candidates, ALL without `seen`: (B,) int64.

    scores: (B, I), higher is better. targets: (B,). seen: (B, I) bool, items that are no candidates; the rank of a seen
    target is infinite. Raises `ValueError` where a score is NaN.
    """
    if np.isnan(scores).any():
        raise ValueError("the scores hold NaN")
    rows = np.arange(len(targets))
    own = scores[rows, targets][:, None]  # (B, 1)
    others = np.ones(scores.shape, dtype=bool) if seen is None else ~seen
    others[rows, targets] = False
    higher, equal = (scores > own) & others, (scores == own) & others
    found = (1.0 + higher.sum(axis=1) + equal.sum(axis=1) / 2.0).astype(np.float32)
    if seen is None:
        return found, np.full(len(targets), ALL)
    return np.where(seen[rows, targets], np.float32(np.inf), found), (~seen).sum(axis=1)


def at_cutoff(found: np.ndarray, candidates: np.ndarray, cutoff: int) -> dict[str, float]:
    """Mean NDCG and HR of ranks (N,), by names such as NDCG@10.

    candidates: (N,); where a mask left no more than the cutoff, the event is a miss, as any scores would make it a hit.
    """
    hits = ((found <= cutoff) & ((candidates == ALL) | (candidates > cutoff))).astype(np.float64)
    gains = hits / np.log2(found.astype(np.float64) + 1.0)
    return {f"NDCG@{cutoff}": float(gains.mean()), f"HR@{cutoff}": float(hits.mean())}
