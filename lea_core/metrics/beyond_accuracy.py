"""Metrics of recommendation lists beyond accuracy.

In: lists (N, K) of items, best first, -1 where a list has fewer; the items' training counts and content vectors. Out:
coverage, Gini, novelty, popularity and distance of lists.

Coverage, Gini and distance (intra-list diversity) are the usual ones (Castells, Hurley and Vargas: Novelty and
Diversity in Recommender Systems, Recommender Systems Handbook, 2022). Novelty has add-one smoothing, so it is finite
for an item without a training event.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lea_core.common.errors import LeaError
from lea_core.data.sequences import batches

ROWS = 4096  # lists whose vectors are in memory at once


def worth(lists: np.ndarray, counts: np.ndarray, content: np.ndarray | None) -> dict[str, float | None]:
    """Coverage, Gini, novelty, popularity and distance of lists (N, K).

    counts: (I,) training events of each item.  content: (I, C); distance is None without it, or without two items.
    novelty: mean over all listed items of -log2 of the item's share of the training events, with one added to each
    count.  popularity: their mean training count.  The others: see `diversity`.
    """
    listed = lists[lists >= 0]
    information = -np.log2((counts + 1.0) / (counts.sum() + len(counts)))  # (I,) bits
    found = diversity(lists, np.zeros((len(counts), 1)) if content is None else content)
    return {
        "coverage": found["coverage"],
        "gini": found["gini"],
        "novelty": float(information[listed].mean()),
        "popularity": float(counts[listed].mean()),
        "distance": None if content is None else found.get("distance"),
    }


def diversity(lists: np.ndarray, vectors: np.ndarray) -> dict[str, float]:
    """How different the lists (N, K) are; vectors (I, W) of any length, a row of zeros similar to nothing.

    coverage: share of the catalogue that is on any list.  gini: Gini coefficient of how often each item is listed; 0 if
    all are listed equally often, near 1 if a few items fill the lists.  distance: 1 - cosine, mean over the pairs
    within a list and over the lists of two items or more. Raises `LeaError` where no item is listed.
    """
    listed = lists[lists >= 0]
    if not len(listed):
        raise LeaError("no list has an item: there is nothing to judge")
    times = np.sort(np.bincount(listed, minlength=len(vectors)))  # (I,)
    size = len(times)
    weights = 2.0 * np.arange(1, size + 1) - size - 1.0
    result = {"coverage": float((times > 0).mean()), "gini": float((weights * times).sum() / (size * times.sum()))}
    lengths = (lists >= 0).sum(axis=1)  # (N,)
    if (lengths > 1).any():
        result["distance"] = _distance(lists[lengths > 1], vectors)
    return result


def _distance(lists: np.ndarray, vectors: np.ndarray) -> float:
    """`diversity`'s distance of lists (N, K) that have two items or more."""
    unit = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    unit = np.concatenate([unit, np.zeros((1, unit.shape[1]), dtype=np.float32)])  # where there is no item: -1
    squares = (unit**2).sum(axis=1)  # (I + 1,): 1, or 0 for a row of zeros
    cosines = 0.0
    for part in batches(len(lists), ROWS):
        own = lists[part]
        lengths = (own >= 0).sum(axis=1)
        # The square of a sum is the sum of the squares plus twice the products of all pairs.
        twice = (unit[own].sum(axis=1) ** 2).sum(axis=1) - squares[own].sum(axis=1)  # (B,)
        cosines += float((twice / (lengths * (lengths - 1))).sum(dtype=np.float64))
    return 1.0 - cosines / len(lists)


def list_rows(
    lists: Iterable[np.ndarray], cutoffs: Iterable[int], counts: np.ndarray, content: np.ndarray | None
) -> list[dict[str, float | None]]:
    """`worth` of the lists of every seed, (N, K) each, at every cutoff: the mean over the seeds, a row per cutoff."""
    by_seed = list(lists)
    rows: list[dict[str, float | None]] = []
    for cutoff in cutoffs:
        found = [worth(own[:, :cutoff], counts, content) for own in by_seed]
        means = {name: _mean([one[name] for one in found]) for name in found[0]}
        rows.append({"cutoff": cutoff, **means})
    return rows


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
