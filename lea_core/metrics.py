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

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lea_core.errors import LeaError
from lea_core.sequences import SPLITS, Sequences, batches, histories
from lea_core.tables import to_numpy

if TYPE_CHECKING:
    from torch import Tensor

    from lea_core.policy import Policy


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


def rank_events(
    scorer: Callable[[np.ndarray], Tensor],
    sequences: Sequences,
    users: np.ndarray,
    positions: np.ndarray,
    history: int,
    mask_seen: bool,
    batch: int,
) -> np.ndarray:
    """Ranks (N,) of the items at (users, positions), both (N,), given the true history before each.

    scorer: (B, history) right-aligned item indices, -1 for none -> (B, I) scores, such as `Policy.scores`.
    """
    import torch

    result = np.empty(len(users), dtype=np.float32)
    for part in batches(len(users), batch):
        u, p = users[part], positions[part]
        scores = scorer(histories(sequences, u, p, history))
        targets = torch.from_numpy(sequences.items[sequences.offsets[u] + p]).to(scores.device)
        seen = torch.from_numpy(seen_items(sequences, u, p)).to(scores.device) if mask_seen else None
        result[part] = ranks(scores, targets, seen).cpu().numpy()
    return result


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


def rank_table(policies: Mapping[int, Policy], sequences: Sequences, mask_seen: bool, batch: int) -> pa.Table:
    """The RANKS table: every valid and test event ranked by the policy of every seed."""
    parts = []
    for seed, policy in policies.items():
        for split in ("valid", "test"):
            users, positions = sequences.targets(split)
            history = policy.config.history
            ranked = rank_events(policy.scores, sequences, users, positions, history, mask_seen, batch)
            columns = {
                "seed": np.full(len(users), seed, dtype=np.int32),
                "split": pa.array([split] * len(users), pa.string()),
                "user": users.astype(np.int32),
                "position": positions.astype(np.int32),
                "item": sequences.items[sequences.offsets[users] + positions].astype(np.int32),
                "rank": ranked,
            }
            parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def summarise(table: pa.Table, sequences: Sequences, cutoffs: Iterable[int]) -> dict[str, Any]:
    """A RANKS table -> for each split and metric: mean and standard deviation over seeds, and each seed's value.

    The deviation is that of a sample (n - 1), null for one seed. `events` counts what was ranked, `skipped` the events
    that no other precedes.
    """
    seed, split, rank = (to_numpy(table, column) for column in ("seed", "split", "rank"))
    result: dict[str, Any] = {"events": {}, "skipped": {}}
    for code, name in enumerate(SPLITS[1:], start=1):
        by_seed = [metrics(rank[(seed == one) & (split == name)], cutoffs) for one in np.unique(seed)]
        result[name] = {}
        for metric in by_seed[0]:
            values = [scores[metric] for scores in by_seed]
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            result[name][metric] = {"mean": float(np.mean(values)), "sd": deviation, "seeds": values}
        result["events"][name] = len(sequences.targets(name)[0])
        result["skipped"][name] = int((sequences.split == code).sum()) - result["events"][name]
    return result
