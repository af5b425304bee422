"""The base class of all runtimes of a policy: histories of ids in, lists of ids out; popularity for empty histories.

In: a vocabulary; histories (histories.py); the best items of a batch, from the runtime. Out: `Recommendations`. This
module needs no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import numpy as np

from lea_core.common.errors import LeaError
from lea_core.serving.folder import Vocabulary
from lea_core.serving.histories import Histories, Unknown, read_histories
from lea_core.serving.recommendations import Recommendations

# The fewest histories of a batch: each batch reads all weights of the actor, which of a large catalogue fit no cache.
FEWEST = 16
Answer = tuple[np.ndarray, np.ndarray]  # items, scores


class Recommender(ABC):
    """Item ids in, item ids out; the runtime implements `_best`."""

    scores_at_once: int  # of all items, in one call of `_best`

    def __init__(self, vocabulary: Vocabulary, exclude_seen: bool = True) -> None:
        """exclude_seen: the default of `recommend`, as the policy was evaluated (folder.py)."""
        self.vocabulary, self.exclude_seen = vocabulary, exclude_seen
        self._index = {name: item for item, name in enumerate(vocabulary.item_ids)}
        self._popular, self._log_shares = vocabulary.by_popularity(), vocabulary.log_shares()

    @property
    def item_ids(self) -> list[str]:
        """I item ids, by item."""
        return self.vocabulary.item_ids

    @property
    def counts(self) -> np.ndarray:
        """(I,) training events by item."""
        return self.vocabulary.counts

    def recommend(
        self, histories: object, k: int = 10, exclude_seen: bool | None = None, unknown: Unknown = "skip"
    ) -> Recommendations:
        """The best k items for every history, best first; of equal scores the lower item.

        histories: lists of item ids, oldest first, or a table: see `read_histories`. exclude_seen: whether the items of
        the whole history are excluded; None is `self.exclude_seen`, as the policy was evaluated. unknown: "skip" counts
        ids that the vocabulary lacks, "refuse" raises. A history without a known item gets the most popular items, and
        `fallback` is true; if fewer than k items are left, `missing` says how many are missing. Raises `LeaError` on an
        invalid history.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise LeaError(f"k is {k!r}: give a whole number from 1")
        exclude = self.exclude_seen if exclude_seen is None else exclude_seen
        found = read_histories(histories, self._index, unknown)
        width = min(int(k), len(self.item_ids))
        indices = np.full((len(found), width), -1, dtype=np.int64)
        scores = np.full((len(found), width), np.nan, dtype=np.float32)
        lengths = found.lengths
        empty = lengths == 0
        indices[empty] = self._popular[:width]
        scores[empty] = self._log_shares[self._popular[:width]]
        # Histories of similar length are in one batch: the network computes as many positions as the longest one has.
        order = np.argsort(lengths, kind="stable")[int(empty.sum()) :]
        size = max(FEWEST, self.scores_at_once // len(self.item_ids))
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        answers = self._map(lambda rows: self._best(found, rows, width, exclude), parts)
        for rows, (best, values) in zip(parts, answers, strict=True):
            indices[rows], scores[rows] = best, values
        missing = int(k) - (indices >= 0).sum(axis=1)
        return Recommendations(indices, scores, found.unknown, empty, missing, found.users, self.item_ids)

    def _map(self, best: Callable[[np.ndarray], Answer], parts: list[np.ndarray]) -> Iterable[Answer]:
        """What `best` gives for each part, in their order; a runtime may work on several at a time."""
        return map(best, parts)

    @abstractmethod
    def _best(self, found: Histories, rows: np.ndarray, k: int, exclude_seen: bool) -> Answer:
        """Items (b, k), -1 where there are fewer, and scores (b, k), NaN there, of these histories, none empty."""
