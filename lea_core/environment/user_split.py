"""The users that the LE learns from: a random share. It is evaluated on all other users.

In: the training events, the share, a generator. Out: two groups of users. The function is pure, so every stage that
needs the groups can draw them again and gets the same ones.
"""

from __future__ import annotations

import numpy as np

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences


def choose_users(train: Sequences, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Users drawn for the LE, and all other users; both sorted. Raises `LeaError` where none is drawn."""
    able = np.flatnonzero(np.diff(train.offsets) >= 2)
    count = round(share * len(able))
    if count < 1:
        raise LeaError(
            f"params.yaml: finetune_le.users_share {share} of {len(able)} users with two training events leaves the LE "
            "none to learn from: raise it"
        )
    chosen = np.sort(rng.permutation(able)[:count])
    return chosen, np.setdiff1d(np.arange(train.num_users), chosen)
