"""Ranks of the next items, and the ranking metrics: HR, NDCG and MRR at a cutoff.

In: scores of all items for each event. Out: one rank per event; metrics. Each event has exactly one relevant item, the
next one, so the ideal DCG is that of rank 1.

Tie rule: the mean rank among equals, 1 + #(higher) + #(equal others) / 2. It depends on the scores alone, so CPU and
GPU agree, and a scorer that gives all items the same score gets no hits. A half rank counts if it is not above the
cutoff.

Seen items: the mask removes the items of the user's whole history from the candidates. If the target is one of them,
its rank is infinite: a miss at every cutoff. If no more candidates are left than the cutoff, any scores would give a
hit, so the event is a miss at this cutoff too (`by_name`).

torch is imported inside functions: the report uses the metrics alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences, batches, ragged_ranges

if TYPE_CHECKING:
    from torch import Tensor

# Scores that are counted at a time. Counting needs 5 more bytes per score, and is several times slower if these do not
# fit into the processor's cache.
COUNTED_AT_ONCE = 2**20
ALL = -1  # candidates of an event that is ranked without a mask: all items
SELECTION = "NDCG@10"  # on validation events: chooses a training's checkpoint and a variant's tuned settings


def ranks(scores: Tensor, targets: Tensor, seen: Tensor | None = None) -> Tensor:
    """1-based mean rank of each row's target among the candidates: (B,) float32, infinite if it is no candidate.

    scores: (B, I) floats, higher is better. targets: (B,) int64. seen: (B, I) bool, items that are no candidates.
    Raises `LeaError` where a score is NaN.
    """
    if seen is None:
        owner = items = targets[:0]
    else:
        owner, items = seen.nonzero(as_tuple=True)
    return ranks_among_unseen(scores, targets, owner, items)


def ranks_among_unseen(scores: Tensor, targets: Tensor, owner: Tensor, items: Tensor) -> Tensor:
    """`ranks` with the excluded items as distinct pairs: item items[m] in row owner[m], both (M,) int64.

    They are counted like all items and then subtracted: M steps for any size of the catalogue; a mask takes B * I.
    """
    import torch

    unusable = scores.amax(dim=1).isnan()  # (B,): a maximum hands NaN on
    if bool(unusable.any()):
        row = int(unusable.int().argmax())
        raise LeaError(f"the scores of row {row} hold NaN: train the policy again with a lower train.learning_rate")
    own = scores.gather(1, targets[:, None])  # (B, 1)
    excluded, own_again = scores[owner, items], own[:, 0].index_select(0, owner)  # (M,)
    none = torch.zeros_like(targets)
    higher = none.index_add(0, owner, -(excluded > own_again).long())  # (B,)
    equal = none.index_add(0, owner, -(excluded == own_again).long())
    for rows in batches(len(targets), COUNTED_AT_ONCE // scores.shape[1]):
        higher[rows] += (scores[rows] > own[rows]).sum(dim=1, dtype=torch.int32)
        equal[rows] += (scores[rows] == own[rows]).sum(dim=1, dtype=torch.int32)
    found = 1.0 + higher.float() + (equal.float() - 1.0) / 2.0
    found[owner[items == targets.index_select(0, owner)]] = torch.inf  # the target itself is excluded
    return found


def seen_items(sequences: Sequences, users: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct items of each user's events before each position: (M,) pairs (row, item).

    Rows index `users` and `positions`, (B,) both; the pairs are sorted.
    """
    owner, rows = ragged_ranges(sequences.offsets[users], positions)
    pairs = np.sort(owner * sequences.num_items + sequences.items[rows])
    return np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], sequences.num_items)


def hit_rate(ranks: np.ndarray, cutoff: int) -> np.ndarray:
    """HR@cutoff of each event: 1 where its rank is within the cutoff, else 0."""
    return (ranks <= cutoff).astype(np.float64)


def ndcg(ranks: np.ndarray, cutoff: int) -> np.ndarray:
    """NDCG@cutoff of each event: 1 / log2(rank + 1) within the cutoff, else 0."""
    return hit_rate(ranks, cutoff) / np.log2(ranks.astype(np.float64) + 1.0)


def mrr(ranks: np.ndarray, cutoff: int) -> np.ndarray:
    """MRR@cutoff of each event: 1 / rank within the cutoff, else 0."""
    return hit_rate(ranks, cutoff) / ranks.astype(np.float64)


METRICS = {"HR": hit_rate, "NDCG": ndcg, "MRR": mrr}


def by_name(metric: str, ranks: np.ndarray, candidates: np.ndarray | None = None) -> np.ndarray:
    """A metric of each event by a name such as NDCG@10; ranks of any shape, and the same shape out.

    candidates: number of candidates of each event, of the shape of `ranks`; ALL without a mask. With no more candidates
    than the cutoff an event scores 0.
    """
    name, _, cutoff = metric.partition("@")
    values = METRICS[name](ranks, int(cutoff))
    return values if candidates is None else np.where(too_few(candidates, int(cutoff)), 0.0, values)


def too_few(candidates: np.ndarray, cutoff: int) -> np.ndarray:
    """Whether a mask leaves so few candidates that any scores would give a hit at the cutoff: bool."""
    few: np.ndarray = (candidates != ALL) & (candidates <= cutoff)
    return few


def metrics(ranks: np.ndarray, cutoffs: Iterable[int], candidates: np.ndarray | None = None) -> dict[str, float]:
    """Mean HR, NDCG and MRR at each cutoff, by names such as NDCG@10. Raises `LeaError` where there is no event.

    ranks, candidates: (N,), see `by_name`.
    """
    if not len(ranks):
        raise LeaError("there is no event to rank: give valid and test events that another event of the user precedes")
    names = [f"{name}@{cutoff}" for name in METRICS for cutoff in cutoffs]
    return {name: float(by_name(name, ranks, candidates).mean()) for name in names}
