"""Top-k lists: the best items by their scores, without those that are excluded.

In: scores of all items. Out: lists of items, best first, -1 where a list has fewer.

Tie rule: a higher score comes first, and of equal scores the lower item index. It depends on the scores alone, so CPU
and GPU agree. (A rank follows another rule: a target gets the mean rank among its equals, see ranking.py.) An item that
scores minus infinity is on no list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lea_core.data.sequences import batches

if TYPE_CHECKING:
    from torch import Tensor

SCORES = 2**20  # that are copied at a time


def best_items(
    scores: Tensor, count: int, excluded: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[Tensor, Tensor]:
    """The `count` best items of each row and their scores, best first by the tie rule: (B, count) int64 and float.

    scores: (B, I); they are not changed.  excluded: pairs (row, item) that are on no list, (M,) both, rows ascending,
    such as `sequences.seen_pairs` gives. Where a row has fewer items, the rest is -1 and minus infinity.
    """
    import torch

    found = torch.full((len(scores), count), -1, device=scores.device)
    values = scores.new_full(found.shape, -torch.inf)
    for rows in batches(len(scores), SCORES // scores.shape[1]):
        own = scores[rows]
        if excluded is not None:
            owner, items = excluded
            pairs = slice(*np.searchsorted(owner, [rows.start, rows.stop]))
            own = own.clone()
            own[owner[pairs] - rows.start, items[pairs]] = -torch.inf
        best = best_first(own, min(count, own.shape[1]))
        values[rows, : best.shape[1]] = own.gather(1, best)
        found[rows, : best.shape[1]] = best
    return found.masked_fill_(values.isneginf(), -1), values


def best_first(scores: Tensor, count: int) -> Tensor:
    """(B, I) scores -> (B, count), count <= I, items by the tie rule. `topk` alone takes any of equal items."""
    import torch

    values, items = scores.topk(min(count + 1, scores.shape[1]), dim=1)
    items = items[:, :count]
    if values.shape[1] > count:
        last = values[:, count - 1, None]  # (B, 1)
        split = (last[:, 0] == values[:, count]).nonzero()[:, 0]  # equals within and beyond the list
        for part in batches(len(split), SCORES // scores.shape[1]):
            rows = split[part]
            equal = scores[rows] == last[rows]
            listed = values[rows, :count] == last[rows]  # as many of them as fit: the lower ones
            equal &= equal.cumsum(dim=1, dtype=torch.int32) <= listed.sum(dim=1, keepdim=True)
            own = items[rows]
            own[listed] = equal.nonzero()[:, 1]
            items[rows] = own
    items = items.sort(dim=1).values
    order = scores.gather(1, items).sort(dim=1, descending=True, stable=True).indices
    return items.gather(1, order)
