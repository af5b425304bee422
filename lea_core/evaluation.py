"""Evaluation: the ranks that policies give to held-out events, as a table and in a few numbers.

In: policies by seed, the sequences. Out: the RANKS table, one row per seed and event; its metrics over the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lea_core.metrics import metrics, ranks, seen_items
from lea_core.sequences import SPLITS, Sequences, batches, histories
from lea_core.tables import to_numpy

if TYPE_CHECKING:
    from torch import Tensor

    from lea_core.policy import Policy


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
