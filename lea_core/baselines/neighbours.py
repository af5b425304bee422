"""Cheap scorers to hold the LE against: text neighbours, item neighbours and popularity; and what they would propose.

In: item vectors, training events or training counts. Out: a `Scorer`, the contract of `full_ranking.rank_events`: (B,
T) right-aligned item indices, -1 for none -> (B, I) float32 scores, higher is better. Without a history every item
scores the same, but under popularity, which never looks at one. rankers/session_knn.py has one more.

`item_neighbours` is item-based collaborative filtering (Sarwar et al., WWW 2001, Deshpande and Karypis, TOIS 2004) with
shrinkage (Bell and Koren, KDD 2007), and departs from them thus: it knows no ratings, so two items are alike as far as
the same users take both; shrinkage is added to the cosine's denominator; of a history the recent items weigh more. An
item is no neighbour of itself. The default settings are those that rank validation events of Amazon Scientific best.

Where users may repeat items and hardly do, these scorers put what was just taken first. `with_repeats` gives them what
the LE counts too (heads.ranking): how often users repeat.

Item neighbours have seen every later event of the users that they were counted from: what they propose for a training
event is a fair yardstick only where they were counted from other users (`of_users`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lea_core.common.errors import LeaError
from lea_core.data.sequences import (
    Sequences,
    batches,
    count_repeats,
    histories,
    learning_steps,
    ragged_ranges,
    seen_pairs,
)
from lea_core.metrics.full_ranking import Scorer
from lea_core.metrics.top_k import best_first, best_items

Ranker = Callable[[np.ndarray, np.ndarray], Tensor]  # users and positions (B,) -> scores (B, I) after these events

EVENTS = 2**14  # whose histories are looked through at once
BLOCK = 2**23  # entries of the largest array that counting co-occurrences holds at once


def popularity(counts: np.ndarray) -> Scorer:
    """Every history: the items' training counts (I,)."""
    scores = torch.from_numpy(counts.astype(np.float32))
    return lambda items: scores.expand(len(items), -1)


def recent_counts(train: Sequences, timestamps: np.ndarray, share: float) -> np.ndarray:
    """How often each item was taken of late: (I,) int64, the training events of the last `share` of their time span.

    timestamps: (N,) int64, of the events of `train`. An event counts from last - share * (last - first) on. All count
    where there is no common clock: where more than half of the users start at the first time of all, as they do where
    all times are equal, or number each user's events.

    Popularity of late is the popularity to compare with (Ji et al., SIGIR 2020). Theirs moves with the event to
    predict; this one stands at the end of the training events.
    """
    age = timestamps.max(initial=0) - timestamps  # whole numbers: no rounding of large times
    starts = age[train.offsets[:-1][np.diff(train.offsets) > 0]]  # of each user with an event
    span = int(age.max(initial=0))
    if 2 * np.count_nonzero(starts == span) > len(starts):
        share = 1.0
    return np.bincount(train.items[age <= share * span], minlength=train.num_items)


def text_neighbours(vectors: np.ndarray) -> Scorer:
    """Cosine of the last item's vector with every item's: (I, W) -> scorer. A row of zeros is similar to nothing."""
    unit = F.normalize(torch.from_numpy(vectors.astype(np.float32)), dim=1)

    def scorer(items: np.ndarray) -> Tensor:
        last = torch.from_numpy(items[:, -1])  # (B,)
        return torch.where((last >= 0)[:, None], unit[last.clamp(min=0)] @ unit.T, 0.0)  # (B, I)

    return scorer


def item_neighbours(
    train: Sequences, recent: int = 10, decay: float = 0.8, shrinkage: float = 50.0, neighbours: int = 200
) -> Scorer:
    """sum_j decay^j similarity(x_{t-j}, .) over the `recent` last items of a history.

    similarity(a, b) = users who take both / (sqrt(users who take a * users who take b) + shrinkage), over training
    events, kept for each item's `neighbours` strongest: memory is I * neighbours, whatever the catalogue.
    """
    index, similarity = nearest_by_users(train, shrinkage, neighbours)

    def scorer(items: np.ndarray) -> Tensor:
        scores = torch.zeros(len(items), train.num_items)  # (B, I)
        for step in range(min(recent, items.shape[1])):
            item = torch.from_numpy(items[:, -1 - step])  # (B,)
            weight = torch.where(item >= 0, decay**step, 0.0)[:, None]  # (B, 1)
            known = item.clamp(min=0)
            scores.scatter_add_(1, index[known], similarity[known] * weight)
        return scores

    return scorer


def with_repeats(scorer: Scorer, train: Sequences) -> Scorer:
    """A scorer of whole histories that knows the share r of the training steps that repeat an item of their history.

    New items share 1 - r in proportion to their scores, the history's items r; a score below zero counts as zero.
    """
    steps = np.flatnonzero(learning_steps(train))
    repeats = sum(count_repeats(train, steps[part]) for part in batches(len(steps), EVENTS))
    share = (repeats + 0.5) / (len(steps) + 1.0)  # never quite zero or one

    def mixed(items: np.ndarray) -> Tensor:
        scores = scorer(items).clamp(min=0.0)  # (B, I)
        row, place = np.nonzero(items >= 0)
        seen = torch.zeros_like(scores, dtype=torch.bool)
        seen[torch.from_numpy(row), torch.from_numpy(items[row, place])] = True
        new, again = scores.masked_fill(seen, 0.0), scores.masked_fill(~seen, 0.0)
        return (1.0 - share) * F.normalize(new, p=1, dim=1) + share * F.normalize(again, p=1, dim=1)

    return mixed


def of_users(train: Sequences, users: np.ndarray) -> Sequences:
    """The events of these users alone; the others keep their index and have none."""
    chosen = np.zeros(train.num_users, dtype=bool)
    chosen[users] = True
    lengths = np.diff(train.offsets)
    keep = np.repeat(chosen, lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths * chosen)])
    return Sequences(train.items[keep], train.split[keep], offsets, train.num_items)


def nearest_by_users(train: Sequences, shrinkage: float, neighbours: int) -> tuple[Tensor, Tensor]:
    """For every item its most similar other items and their similarity, strongest first: int64 and float32, (I, K).

    K = min(neighbours, I - 1). Where fewer items are similar at all, the rest of the row has similarity zero. Of equals
    the lower item comes first (top_k.py).
    """
    size, kept = train.num_items, min(neighbours, train.num_items - 1)
    user, item = distinct_events(train)
    starts = np.searchsorted(user, np.arange(train.num_users + 1))
    takers = np.bincount(item, minlength=size).astype(np.float64)  # (I,)
    by_item = np.argsort(item, kind="stable")
    index = torch.zeros(size, kept, dtype=torch.int64)
    similarity = torch.zeros(size, kept)
    for rows in batches(size, BLOCK // size):
        bounds = np.searchsorted(item[by_item], [rows.start, rows.stop])
        chosen = by_item[bounds[0] : bounds[1]]
        together = _co_occurrences(user[chosen], item[chosen] - rows.start, rows.stop - rows.start, starts, item, size)
        own = np.arange(rows.start, rows.stop)
        together[own - rows.start, own] = 0.0
        norm = np.sqrt(takers[rows, None] * takers) + shrinkage
        alike = np.divide(together, norm, out=np.zeros_like(together), where=norm > 0)
        scores = torch.from_numpy(alike)
        best = best_first(scores, kept)
        index[rows], similarity[rows] = best, scores.gather(1, best).float()
    return index, similarity


def distinct_events(train: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Who took what, each item once per user: (M,) users in order, and their items in order."""
    users, _ = train.users_and_positions()
    return np.divmod(np.unique(users * train.num_items + train.items), train.num_items)


def parts_of(lengths: np.ndarray) -> list[np.ndarray]:
    """Indices of (R,) ranges, cut into parts of at most BLOCK numbers and one range more."""
    cuts = np.flatnonzero(np.diff(np.cumsum(lengths) // BLOCK, prepend=0))
    return np.split(np.arange(len(lengths)), cuts)


def _co_occurrences(
    users: np.ndarray, rows: np.ndarray, count: int, starts: np.ndarray, items: np.ndarray, size: int
) -> np.ndarray:
    """How many users take both items: (count, I), for rows given as pairs (user, row) of shape (N,).

    items: every user's distinct items, user u's from starts[u] to starts[u + 1] - 1.
    """
    lengths = np.diff(starts)[users]
    together = np.zeros(count * size)
    for part in parts_of(lengths):
        owner, found = ragged_ranges(starts[users[part]], lengths[part])
        together += np.bincount(rows[part][owner] * size + items[found], minlength=count * size)
    return together.reshape(count, size)


def by_history(scorer: Scorer, train: Sequences, history: int) -> Ranker:
    """A scorer of histories, of up to `history` items, as a ranker of events."""
    return lambda users, positions: scorer(histories(train, users, positions + 1, history)).cpu()


def propose(
    rank: Ranker,
    train: Sequences,
    users: np.ndarray,
    positions: np.ndarray,
    count: int,
    skip_next: bool,
    batch: int = 512,
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` best items after each event, best first, and their scores: (N, A) int32 and float32.

    users, positions: (N,), of events in `train`. The items of the history are excluded, and with `skip_next` also the
    logged next item, as among the LE's proposals. Of equal scores the lower item comes first (top_k.py). Raises
    `LeaError` where too few items are left.
    """
    proposed = np.empty((len(users), count), dtype=np.int32)
    scores = np.empty((len(users), count), dtype=np.float32)
    for part in batches(len(users), batch):
        excluded = seen_pairs(train, train.offsets[users[part]] + positions[part], skip_next)
        best, values = best_items(rank(users[part], positions[part]), count, excluded)
        if bool((best < 0).any()):
            raise LeaError(f"{count} proposals: fewer of the {train.num_items} items are unseen: ask for fewer")
        proposed[part], scores[part] = best.numpy(), values.numpy()
    return proposed, scores
