"""Controls of the actions signal: the items that a cheap scorer ranks best after every training event.

In: training events, item vectors or a policy. Out: rankers. From these, tables.py makes as many proposals as the LE's,
after the same events and by the same rule: not the logged next item, and no item of the history.

- popularity: training counts.  item_knn: item neighbours.  text: neighbours of the last item by its text.
- policy: a trained policy's best items.

A training event must not be predicted from itself, so popularity and item neighbours are counted for every user without
that user's own events. Two exceptions remain. The neighbours of an item are chosen with the events of all users, and
only their similarity is counted again; this matters if an item has more than NEIGHBOURS. And a policy was trained on
all these events, the later ones too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lea_core.baselines.neighbours import Ranker, by_history, nearest_by_users, text_neighbours
from lea_core.data.sequences import Sequences, histories, ragged_ranges

RECENT, DECAY, SHRINKAGE, NEIGHBOURS = 10, 0.8, 50.0, 200  # of item neighbours, as in neighbours.py


def ranker(source: str, train: Sequences, content: np.ndarray) -> Ranker:
    """The scores of a control. content: (I, C)."""
    if source == "popularity":
        return popularity_of_others(train)
    if source == "item_knn":
        return item_neighbours_of_others(train)
    if source == "text":
        return by_history(text_neighbours(content), train, 1)
    raise ValueError(f"no control of actions is called {source!r}")


def own_counts(train: Sequences, users: np.ndarray) -> Tensor:
    """How often each user interacts with each item in training: (B,) -> (B, I) float32."""
    owner, rows = ragged_ranges(train.offsets[users], np.diff(train.offsets)[users])
    pairs = torch.from_numpy(owner), torch.from_numpy(train.items[rows])
    return torch.zeros(len(users), train.num_items).index_put_(pairs, torch.ones(()), accumulate=True)


def popularity_of_others(train: Sequences) -> Ranker:
    """Training counts without the user's own events."""
    counts = torch.from_numpy(np.bincount(train.items, minlength=train.num_items).astype(np.float32))
    return lambda users, positions: counts - own_counts(train, users)  # noqa: ARG005 (positions: others need them)


def item_neighbours_of_others(train: Sequences) -> Ranker:
    """`baselines.item_neighbours` with every similarity counted without the user of the history.

    That user has every item of the history. So one user fewer has that item and, if the user has the other item too,
    one fewer has that one, and one fewer has both.
    """
    index, similarity = nearest_by_users(train, SHRINKAGE, NEIGHBOURS)  # (I, K)
    users, _ = train.users_and_positions()
    distinct = np.unique(users * train.num_items + train.items) % train.num_items  # each item once per user
    number = torch.from_numpy(np.bincount(distinct, minlength=train.num_items)).double()  # (I,) users of each item
    norm = (number[:, None] * number[index]).sqrt() + SHRINKAGE
    together = (similarity.double() * norm).round()  # (I, K): users with both items, whole numbers

    def scores(users: np.ndarray, positions: np.ndarray) -> Tensor:
        items = histories(train, users, positions + 1, RECENT)  # (B, T)
        own = (own_counts(train, users) > 0).double()  # (B, I)
        result = torch.zeros(len(users), train.num_items)
        for age in range(RECENT):
            item = torch.from_numpy(items[:, -1 - age])  # (B,)
            known = item.clamp(min=0)
            near = index[known]  # (B, K)
            also = own.gather(1, near)
            others = ((number[known] - 1.0).clamp(min=0.0)[:, None] * (number[near] - also)).sqrt() + SHRINKAGE
            alike = (together[known] - also).clamp(min=0.0) / others
            weight = torch.where(item >= 0, DECAY**age, 0.0)[:, None]
            result.scatter_add_(1, near, (alike * weight).float())
        return result

    return scores
