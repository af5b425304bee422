"""Proposals in the place of the LE's: the items that a cheap scorer ranks best after every training event.

In: training events, item vectors or a policy. Out: as many new items as the LE's, after the same events, under the same
rule: not the logged next item, and none of the history.

- popularity: training counts.  item_knn: item neighbours.  text: neighbours of the last item by its text.
- policy: a trained policy's best items.

A training event must not be predicted from itself, so popularity and item neighbours are counted for every user without
that user's own events. Two things remain. An item's neighbours are looked for with everybody's events, and only their
similarity is counted anew, which matters where an item has more than NEIGHBOURS. And a policy has been trained on all
these events, the later ones too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lea_core.baselines.neighbours import best_items, nearest_by_users, text_neighbours
from lea_core.data.sequences import Sequences, batches, histories
from lea_core.metrics.full_ranking import Scorer

Ranker = Callable[[np.ndarray, np.ndarray], Tensor]  # users and positions (B,) -> scores (B, I) after these events

RECENT, DECAY, SHRINKAGE, NEIGHBOURS = 10, 0.8, 50.0, 200  # of item neighbours, as in neighbours.py
SCORES = 2**24  # in memory at once


def ranker(source: str, train: Sequences, content: np.ndarray) -> Ranker:
    """The scores of a control. content: (I, C)."""
    if source == "popularity":
        return popularity_of_others(train)
    if source == "item_knn":
        return item_neighbours_of_others(train)
    if source == "text":
        return by_history(text_neighbours(content), train, 1)
    raise ValueError(f"no control of actions is called {source!r}")


def by_history(scorer: Scorer, train: Sequences, history: int) -> Ranker:
    """A scorer of histories, of up to `history` items, as a scorer of events."""
    return lambda users, positions: scorer(histories(train, users, positions + 1, history)).cpu()


def best_of(
    rank: Ranker,
    train: Sequences,
    users: np.ndarray,
    positions: np.ndarray,
    count: int,
    skip_next: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` best items after each event, and their scores; users, positions (N,) -> (N, A).

    Left out are the items of the history and, with `skip_next`, the logged next one.
    """
    proposed = np.empty((len(users), count), dtype=np.int32)
    scores = np.empty((len(users), count), dtype=np.float32)
    for part in batches(len(users), max(SCORES // train.num_items, 1)):
        found = rank(users[part], positions[part])  # (B, I)
        proposed[part], scores[part] = best_items(found, train, users[part], positions[part], count, skip_next)
    return proposed, scores


def own_counts(train: Sequences, users: np.ndarray) -> Tensor:
    """How often each user takes each item in training: (B,) -> (B, I) float32."""
    lengths = np.diff(train.offsets)[users]
    row = np.repeat(np.arange(len(users)), lengths)
    within = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = train.items[train.offsets[users][row] + within]
    counts = torch.zeros(len(users), train.num_items)
    return counts.index_put_((torch.from_numpy(row), torch.from_numpy(items)), torch.ones(()), accumulate=True)


def popularity_of_others(train: Sequences) -> Ranker:
    """Training counts without the user's own events."""
    counts = torch.from_numpy(np.bincount(train.items, minlength=train.num_items).astype(np.float32))
    return lambda users, positions: counts - own_counts(train, users)  # noqa: ARG005 (positions: others need them)


def item_neighbours_of_others(train: Sequences) -> Ranker:
    """`baselines.item_neighbours` with every similarity counted without the user whose history it is.

    The user has every item of the history, so what comes off is one taker of that item and, where the user has the
    other item too, one taker of that and one of both.
    """
    index, similarity = nearest_by_users(train, SHRINKAGE, NEIGHBOURS)  # (I, K)
    users, _ = train.users_and_positions()
    taken = np.unique(users * train.num_items + train.items) % train.num_items  # each item once per user
    takers = torch.from_numpy(np.bincount(taken, minlength=train.num_items)).double()  # (I,)
    norm = (takers[:, None] * takers[index]).sqrt() + SHRINKAGE
    together = (similarity.double() * norm).round()  # (I, K): the users who take both, whole numbers

    def scores(users: np.ndarray, positions: np.ndarray) -> Tensor:
        items = histories(train, users, positions + 1, RECENT)  # (B, T)
        own = (own_counts(train, users) > 0).double()  # (B, I)
        result = torch.zeros(len(users), train.num_items)
        for age in range(RECENT):
            item = torch.from_numpy(items[:, -1 - age])  # (B,)
            known = item.clamp(min=0)
            near = index[known]  # (B, K)
            also = own.gather(1, near)
            others = ((takers[known] - 1.0).clamp(min=0.0)[:, None] * (takers[near] - also)).sqrt() + SHRINKAGE
            alike = (together[known] - also).clamp(min=0.0) / others
            weight = torch.where(item >= 0, DECAY**age, 0.0)[:, None]
            result.scatter_add_(1, near, (alike * weight).float())
        return result

    return scores
