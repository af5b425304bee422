"""The best items by their scores.

In: scores of all items. Out: lists of items, best first, -1 where a list has fewer.

Tie rule: a higher score first, of equal scores the lower item index. It depends on nothing but the scores, so CPU and
GPU agree. (Ranks know no such order: a target shares the mean rank among its equals, see ranking.py.) An item that
scores minus infinity is on no list.

This module imports torch only where it is given tensors: the report reads it for the numbers alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lea_core.data.sequences import batches

if TYPE_CHECKING:
    from torch import Tensor

SCORES = 2**20  # that are copied in one piece, to take the best of


def best_items(scores: Tensor, owner: Tensor, items: Tensor, count: int) -> Tensor:
    """The `count` best candidates of each row by the tie rule, best first, -1 where there are fewer: (B, count) int64.

    scores: (B, I), left as they are. The items to leave out are pairs: of row owner[m], ascending, the item items[m],
    both (M,).
    """
    import torch

    found = torch.full((len(scores), count), -1, device=scores.device)
    for rows in batches(len(scores), max(1, SCORES // scores.shape[1])):
        own = scores[rows].clone()
        first, last = torch.searchsorted(owner, torch.tensor([rows.start, rows.stop], device=owner.device)).tolist()
        own[owner[first:last] - rows.start, items[first:last]] = -torch.inf
        best = best_first(own, min(count, own.shape[1]))
        best[own.gather(1, best).isneginf()] = -1
        found[rows, : best.shape[1]] = best
    return found


def best_first(scores: Tensor, count: int) -> Tensor:
    """(B, I) scores -> (B, count), count <= I, items by the tie rule. `topk` alone takes any of equal items."""
    import torch

    values, items = scores.topk(min(count + 1, scores.shape[1]), dim=1)
    items = items[:, :count]
    if values.shape[1] > count:
        last = values[:, count - 1, None]  # (B, 1)
        split = (last[:, 0] == values[:, count]).nonzero()[:, 0]  # equals within and beyond the list
        for part in batches(len(split), max(1, SCORES // scores.shape[1])):
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
