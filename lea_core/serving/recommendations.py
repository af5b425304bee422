"""A policy's recommendations: as arrays, as lists and as a table with the data's ids.

In: items and scores of B histories. Out: `Recommendations`. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Recommendations:
    """The best items of B histories, best first; K is k, or less where the catalogue is smaller.

    indices: (B, K) int64 items, -1 if a row has fewer.  scores: (B, K) float32, comparable within one row only; NaN
    without an item; for a fallback, log shares of the training events.  unknown: (B,) int64 number of skipped items of
    the history that the vocabulary lacks.  fallback: (B,) bool, the history has no known item, so these are the most
    popular items.  missing: (B,) int64 how many of the k requested items are missing, because the catalogue is smaller
    than k or items of the history are excluded.
    """

    indices: np.ndarray
    scores: np.ndarray
    unknown: np.ndarray
    fallback: np.ndarray
    missing: np.ndarray
    users: list[Any] | None
    item_ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def items(self) -> list[list[str]]:
        """Item ids of every row, best first."""
        ids = self.item_ids
        return [[ids[item] for item in row if item >= 0] for row in self.indices.tolist()]

    def rows(self) -> list[dict[str, Any]]:
        """A mapping for every history: user (where one is known), items, scores, unknown, fallback, missing."""
        result = []
        for place, items in enumerate(self.items):
            row: dict[str, Any] = {} if self.users is None else {"user": self.users[place]}
            row |= {"items": items, "scores": self.scores[place, : len(items)].tolist()}
            row |= {"unknown": int(self.unknown[place]), "fallback": bool(self.fallback[place])}
            row["missing"] = int(self.missing[place])
            result.append(row)
        return result

    def to_arrow(self) -> pa.Table:
        """The same as a table, with the columns of `rows`. `polars.from_arrow` takes it."""
        there = self.indices >= 0
        offsets = pa.array(np.concatenate([[0], there.sum(axis=1).cumsum()]).astype(np.int32))
        ids = pa.array(self.item_ids, pa.string()).take(pa.array(self.indices[there]))
        columns = {} if self.users is None else {"user": pa.array(self.users)}
        columns["items"] = pa.ListArray.from_arrays(offsets, ids)
        columns["scores"] = pa.ListArray.from_arrays(offsets, pa.array(self.scores[there]))
        columns |= {name: pa.array(getattr(self, name)) for name in ("unknown", "fallback", "missing")}
        return pa.table(columns)
