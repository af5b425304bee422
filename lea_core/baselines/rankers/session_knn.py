"""Session neighbours: what those took whose training sequences are most like the end of a history.

In: training events and their times. Out: a `Scorer` (neighbours.py).

It is V-SKNN (Ludewig and Jannach, User Modeling and User-Adapted Interaction 28, 2018): the `recent` last items of the
history are a vector of weights that fall linearly with their age, a training sequence is the set of its items, their
similarity is the dot product, and an item scores the sum of the similarities of those among the k nearest that hold it.

    w_i      = (l - age_i) / l                         age 0: the last item; l = min(length of the history, recent)
    sim(n)   = sum_{i in n} w_i idf_i                  idf_i = log(1 + U / takers_i); 1 without `idf`
    score(i) = idf_i sum_{n of the k nearest, i in n} sim(n)

Departures. A session is a user's whole training sequence; the source has short ones. The weighting by idf, there an
option of later variants, has a form of its own. The source looks at a sample of the latest sequences that share an
item; here all are looked at, and the latest are preferred among equally similar ones.

A sequence all of whose items stand in the history is no neighbour: it has nothing new to tell. So nobody is a
neighbour of himself, as far as his training events precede the event to predict, which they do of every held-out one;
a scorer of histories need not know whose they are. For that it must be given whole histories.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lea_core.baselines import neighbours as baselines
from lea_core.baselines.neighbours import distinct_events, parts_of
from lea_core.baselines.run import Log
from lea_core.data.sequences import Sequences, batches, learning_steps, ragged_ranges
from lea_core.metrics.full_ranking import Scorer
from lea_core.params.base import Count, Section


class Settings(Section):
    """Items of the training sequences most like the history."""

    recent: Count  # last items of a history that count, with weights that fall linearly
    neighbours: Count  # training sequences
    idf: bool  # rare items count more, in the similarity and in the score


class SessionNeighbours:
    """The training sequences by user and, inverted, by item. U users, I items, M pairs of both."""

    def __init__(self, train: Sequences, timestamps: np.ndarray, recent: int, neighbours: int, idf: bool) -> None:
        self.recent, self.neighbours = recent, neighbours
        self.num_users, self.num_items = train.num_users, train.num_items
        self.last_times = np.zeros(self.num_users, dtype=np.int64)  # of each user's last event
        self.last_times[np.diff(train.offsets) > 0] = timestamps[~learning_steps(train)]
        users, self.items = distinct_events(train)
        self.starts = np.searchsorted(users, np.arange(self.num_users + 1))  # of each user among `items`
        self.sizes = np.diff(self.starts)  # (U,): distinct items
        by_item = np.argsort(self.items, kind="stable")
        self.takers = users[by_item]
        self.item_starts = np.searchsorted(self.items[by_item], np.arange(self.num_items + 1))
        takers = np.maximum(np.diff(self.item_starts), 1)  # (I,)
        self.idf = np.log1p(self.num_users / takers) if idf else np.ones(self.num_items)

    def scores(self, histories: np.ndarray) -> Tensor:
        """(B, T) right-aligned item indices, -1 for none -> (B, I) float32."""
        scores = torch.empty(len(histories), self.num_items)
        for part in batches(len(histories), baselines.BLOCK // max(self.num_users, self.num_items)):
            row, user, similarity = self.nearest(histories[part])
            scores[part] = torch.from_numpy(self._taken(row, user, similarity, part.stop - part.start)).float()
        return scores

    def nearest(self, histories: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The neighbours of each history (B, T): row, user, similarity, (P,) each; rows in order, nearest first."""
        rows, items, weights = self._weighted(histories)
        lengths = np.diff(self.item_starts)[items]
        size = len(histories) * self.num_users
        similarity, shared = np.zeros(size), np.zeros(size)
        for part in parts_of(lengths):
            owner, found = ragged_ranges(self.item_starts[items[part]], lengths[part])
            cells = rows[part][owner] * self.num_users + self.takers[found]
            similarity += np.bincount(cells, weights[part][owner], size)
            shared += np.bincount(cells, minlength=size)
        found = np.flatnonzero(similarity)
        row, user = np.divmod(found, self.num_users)
        new = shared[found] < self.sizes[user]
        row, user, alike = row[new], user[new], similarity[found][new].astype(np.float32)  # equal but for rounding
        order = np.lexsort((user, -self.last_times[user], -alike, row))
        place = np.arange(len(order)) - np.searchsorted(row, np.arange(len(histories)))[row]  # of the sorted, in a row
        order = order[place < self.neighbours]
        return row[order], user[order], alike[order]

    def _weighted(self, histories: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row, item and w_i idf_i of the distinct items of each history; those that are not recent weigh nothing."""
        newest_first = histories[:, ::-1]
        row, age = np.nonzero(newest_first >= 0)
        item = newest_first[row, age]
        _, first = np.unique(row * self.num_items + item, return_index=True)  # the newest, where an item comes twice
        row, age, item = row[first], age[first], item[first]
        read = np.minimum((histories >= 0).sum(axis=1), self.recent)[row]
        return row, item, np.maximum(read - age, 0) / read * self.idf[item]

    def _taken(self, row: np.ndarray, user: np.ndarray, similarity: np.ndarray, count: int) -> np.ndarray:
        """Of the items of these (P,) neighbours, the sum of their similarities times idf: (count, I) float64."""
        lengths = self.sizes[user]
        scores = np.zeros(count * self.num_items)
        for part in parts_of(lengths):
            owner, places = ragged_ranges(self.starts[user[part]], lengths[part])
            cells = row[part][owner] * self.num_items + self.items[places]
            scores += np.bincount(cells, similarity[part][owner], len(scores))
        found: np.ndarray = scores.reshape(count, self.num_items) * self.idf
        return found


def session_neighbours(
    train: Sequences, timestamps: np.ndarray, recent: int = 5, neighbours: int = 200, idf: bool = True
) -> Scorer:
    """V-SKNN over the training sequences; timestamps: (N,), of the events of `train`.

    The default settings are those that rank validation events of MovieLens-100K and Amazon Scientific best.
    """
    return SessionNeighbours(train, timestamps, recent, neighbours, idf).scores


def scorer(log: Log, settings: Settings) -> tuple[Scorer, int]:
    """The scorer, and how much of a history it reads: all of it, so that the user's own sequence is left out."""
    return session_neighbours(log.train, log.times, **settings.model_dump()), log.longest
