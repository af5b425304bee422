"""What every runtime of a policy has in common: histories of ids in, lists of ids out, popularity for the empty ones.

In: a vocabulary; histories (histories.py); from the runtime the best items of a batch. Out: `Recommendations`. Needs no
torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from lea_core.errors import LeaError
from lea_core.policy.folder import Vocabulary
from lea_core.policy.histories import Histories, Unknown, read_histories
from lea_core.policy.recommendations import Recommendations


class Recommender(ABC):
    """Item ids in, item ids out; what is between, `_best`, is the runtime's."""

    scores_at_once: int  # of all items, in one call of `_best`

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
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
        self, histories: object, k: int = 10, exclude_seen: bool = True, unknown: Unknown = "skip"
    ) -> Recommendations:
        """The best k items for every history, best first; of equal scores the lower item.

        histories: lists of item ids, oldest first, or a table: see `read_histories`. exclude_seen: leave the items of
        the whole history out. unknown: "skip" counts ids that the vocabulary lacks, "refuse" raises. A history without
        a known item gets the most popular items, and `fallback` says so. Raises `LeaError` on what is no history.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise LeaError(f"k is {k!r}: give a whole number from 1")
        found = read_histories(histories, self._index, unknown)
        width = min(int(k), len(self.item_ids))
        indices = np.full((len(found), width), -1, dtype=np.int64)
        scores = np.full((len(found), width), np.nan, dtype=np.float32)
        lengths = found.lengths
        empty = lengths == 0
        indices[empty] = self._popular[:width]
        scores[empty] = self._log_shares[self._popular[:width]]
        # Histories of like length together: the network works on as many positions as the longest has.
        order = np.argsort(lengths, kind="stable")[int(empty.sum()) :]
        size = max(1, self.scores_at_once // len(self.item_ids))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            indices[rows], scores[rows] = self._best(found, rows, width, exclude_seen)
        return Recommendations(indices, scores, found.unknown, empty, found.users, self.item_ids)

    @abstractmethod
    def _best(self, found: Histories, rows: np.ndarray, k: int, exclude_seen: bool) -> tuple[np.ndarray, np.ndarray]:
        """Items (b, k), -1 where there are fewer, and scores (b, k), NaN there, of these histories, none empty."""
