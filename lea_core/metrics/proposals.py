"""What proposed actions are worth: does the user take them later.

In: proposals (N, A), best first, for the states after events 0..position of users' training sequences. Out: numbers.

Later means at a training position above `position`; with `skip_next`, above `position` + 1. The LE never proposes the
logged next item, so what it is compared with should be judged with `skip_next` too. An item that the user took before
and takes again counts. A proposal that nobody takes later is not thereby a bad one: the users never saw it.
How different the proposals are, `lists.diversity` says.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences


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
