"""How good proposed actions are: whether the user interacts with them later.

In: proposals (N, A), best first, for the states after events 0..position of users' training sequences. Out: numbers.

Later means at a training position above `position`; with `skip_next`, above `position` + 1. The LE never proposes the
logged next item, so methods that it is compared with should be measured with `skip_next` too. A repeated interaction
counts. A proposal without a later interaction is not always bad: the users never saw it. For the diversity of the
proposals see `beyond_accuracy.diversity`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences


def later_interaction_share(
    proposed: np.ndarray,
    train: Sequences,
    users: np.ndarray,
    positions: np.ndarray,
    cutoffs: Iterable[int],
    skip_next: bool,
) -> dict[int, float]:
    """For each cutoff k up to A: the share of the first k proposals with a later interaction, mean over the states.

    users, positions: (N,). The mean is over the states that have a later event; at the others no proposal can have one.
    Raises `LeaError` where there is no such state.
    """
    first = positions + 1 + skip_next  # (N,): where later starts
    possible = first < np.diff(train.offsets)[users]
    if not possible.any():
        raise LeaError("no state has a later training event: there is nothing to judge the proposals by")
    owners, places = train.users_and_positions()
    # The last interaction of each user with each item.
    reversed_keys = (owners * train.num_items + train.items)[::-1]
    keys, at = np.unique(reversed_keys, return_index=True)  # the first of the reversed is the last
    last = places[::-1][at]
    asked = users[possible, None] * train.num_items + proposed[possible]  # (N, A)
    found = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    met = (keys[found] == asked) & (last[found] >= first[possible, None])
    return {k: float(met[:, :k].mean()) for k in cutoffs if k <= proposed.shape[1]}
