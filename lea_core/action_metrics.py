"""What proposed actions are worth: does the user take them later, and how different are they.

In: proposals (N, A), best first, for the states after events 0..position of users' training sequences. Out: numbers.

Later means at a training position above `position`; with `skip_next`, above `position` + 1. The LE never proposes the
logged next item, so what it is compared with should be judged with `skip_next` too. An item that the user took before
and takes again counts. A proposal that nobody takes later is not thereby a bad one: the users never saw it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lea_core.errors import LeaError
from lea_core.sequences import Sequences, batches

ROWS = 4096  # lists whose vectors are in memory at once


def taken_later_share(
    proposed: np.ndarray,
    train: Sequences,
    users: np.ndarray,
    positions: np.ndarray,
    cutoffs: Iterable[int],
    skip_next: bool,
) -> dict[int, float]:
    """For each cutoff k up to A: mean over states of the share of the first k proposals that the user takes later.

    users, positions: (N,). The mean is over the states that have a later event, for at the others no proposal can be
    taken. Raises `LeaError` where there is none.
    """
    first = positions + 1 + skip_next  # (N,): where later starts
    possible = first < np.diff(train.offsets)[users]
    if not possible.any():
        raise LeaError("no state has a later training event: there is nothing to judge the proposals by")
    owners, places = train.users_and_positions()
    # Of a user's equal items the last one counts: later than it there is none.
    reversed_keys = (owners * train.num_items + train.items)[::-1]
    keys, at = np.unique(reversed_keys, return_index=True)  # the first of the reversed is the last
    last = places[::-1][at]
    asked = users[possible, None] * train.num_items + proposed[possible]  # (N, A)
    found = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    taken = (keys[found] == asked) & (last[found] >= first[possible, None])
    return {k: float(taken[:, :k].mean()) for k in cutoffs if k <= proposed.shape[1]}


def diversity(proposed: np.ndarray, vectors: np.ndarray) -> dict[str, float]:
    """How different the proposals (N, A) are; vectors (I, W) of any length, a row of zeros similar to nothing.

    coverage: share of the catalogue that is proposed at all.  gini: of how often each item of the catalogue is
    proposed, 0 where equally often, towards 1 where a few items take all.  distance: mean of 1 - cosine over the pairs
    within a list, for lists of two or more.
    """
    if not proposed.size:
        raise LeaError("there is no proposal to judge: augment.actions must be above zero and some state be there")
    times = np.sort(np.bincount(proposed.ravel(), minlength=len(vectors)))  # (I,)
    size = len(times)
    weights = 2.0 * np.arange(1, size + 1) - size - 1.0
    result = {"coverage": float((times > 0).mean()), "gini": float((weights * times).sum() / (size * times.sum()))}
    count = proposed.shape[1]
    if count > 1:
        unit = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
        squares = (unit**2).sum(axis=1)  # (I,): 1, or 0 for a row of zeros
        cosines = 0.0
        for part in batches(len(proposed), ROWS):
            # The sum's square is the squares and twice the products of all pairs.
            total = unit[proposed[part]].sum(axis=1)  # (B, W)
            cosines += float(((total**2).sum() - squares[proposed[part]].sum(dtype=np.float64)) / 2.0)
        result["distance"] = 1.0 - cosines / (len(proposed) * count * (count - 1) / 2.0)
    return result
