"""Negative items for each logged item: equally popular items, or items of similar text; probabilities by popularity.

In: logged items, training counts or item vectors. Out: `count` other items for each logged item, possibly repeated,
never the logged item itself: (...,) -> (..., count) int64. `sequences.sample_actions` draws uniform ones.

A uniformly drawn item is usually rare. A reward that only follows popularity separates it from the logged item, but not
an equally popular item. In the same way, a reward that only follows the text fails on text neighbours. `log_popularity`
is the logQ of sampled softmax (Bengio and Senécal, 2008; Yi et al., RecSys 2019).
"""

from __future__ import annotations

import numpy as np
import torch

from lea_core.common.errors import LeaError
from lea_core.data.sequences import batches, sample_actions
from lea_core.metrics.top_k import best_first

ITEMS_AT_ONCE = 1024  # items whose similarities with all others are in memory at once
TEXT_NEIGHBOURS = 50  # number of most similar items that hard negatives are drawn from


def popularity_matched(
    logged: np.ndarray, counts: np.ndarray, rng: np.random.Generator, count: int, window: int = 100
) -> np.ndarray:
    """Uniform over the `window` other items nearest in training count (I,); equal counts are in random order.

    At the ends of this order the window lies to one side. In a small catalogue it is smaller.
    """
    size = len(counts)
    _need_others(size)
    order = np.lexsort((rng.random(size), counts))
    position = np.empty(size, dtype=np.int64)
    position[order] = np.arange(size)
    window = min(window, size - 1)
    own = position[logged][..., None]  # (..., 1)
    start = np.clip(own - window // 2, 0, size - 1 - window)
    drawn = start + rng.integers(0, window, size=(*logged.shape, count))
    return np.asarray(order[drawn + (drawn >= own)])


def text_neighbours(vectors: np.ndarray, nearest: int) -> np.ndarray:
    """The `nearest` other items of highest cosine, in no order: vectors (I, W) of any length -> (I, K) int64.

    An item with a zero vector has no similar items: its row is -1. K is at most I - 1.
    """
    size = len(vectors)
    _need_others(size)
    nearest = min(nearest, size - 1)
    unit = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    similar = np.empty((size, nearest), dtype=np.int64)
    for part in batches(size, ITEMS_AT_ONCE):
        cosine = unit[part] @ unit.T  # (B, I)
        cosine[np.arange(len(cosine)), np.arange(part.start, part.stop)] = -np.inf
        chosen = np.argpartition(-cosine, nearest - 1, axis=1)[:, :nearest]
        least = np.take_along_axis(cosine, chosen, axis=1).min(axis=1, keepdims=True)
        tied = (cosine >= least).sum(axis=1) > nearest  # of equally similar items the lower indices are chosen
        chosen[tied] = best_first(torch.from_numpy(cosine[tied]), nearest).numpy()
        similar[part] = chosen
    similar[~unit.any(axis=1)] = -1
    return similar


def text_hard(neighbours: np.ndarray, logged: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """Uniform over the logged item's row of `text_neighbours` (I, K); over all other items where that row is -1."""
    drawn = neighbours[logged[..., None], rng.integers(0, neighbours.shape[1], size=(*logged.shape, count))]
    return np.where(drawn < 0, sample_actions(logged, count, len(neighbours), rng), drawn)


def log_popularity(counts: np.ndarray) -> np.ndarray:
    """Log q (I,) float64, q proportional to the training count; -inf for an item without training events.

    Raises `LeaError` where no item has a training event.
    """
    if not counts.sum() > 0:
        raise LeaError("no item has a training event: there is nothing to draw by popularity")
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(counts / counts.sum()))


def _need_others(num_items: int) -> None:
    if num_items < 2:
        raise LeaError("data/interactions/items.parquet: one item leaves nothing to sample against: keep more items")
