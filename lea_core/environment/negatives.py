"""Items to hold the logged one against: as popular as it, or similar by text; and how likely popularity draws an item.

In: logged items, training counts or item vectors. Out: `count` other items for each logged one, repetitions possible,
never the logged one itself: (...,) -> (..., count) int64, as `sequences.sample_actions` gives uniform ones.

A uniformly drawn item is mostly a rare one, so a reward that merely follows popularity passes that test; it fails on
equally popular items. Text neighbours put the text to the test alike. `log_popularity` is the logQ of sampled softmax
(Bengio and Senécal, 2008; Yi et al., RecSys 2019).
"""

from __future__ import annotations

import numpy as np
import torch

from lea_core.common.errors import LeaError
from lea_core.data.sequences import batches, sample_actions
from lea_core.metrics.top_k import best_first

ROWS = 1024  # items whose similarities with all others are in memory at once
TEXT_NEIGHBOURS = 50  # of so many items of most similar text the hard negatives are drawn


def popularity_matched(
    logged: np.ndarray, counts: np.ndarray, rng: np.random.Generator, count: int, window: int = 100
) -> np.ndarray:
    """Uniform over the `window` other items nearest in the order of training counts (I,), equal counts shuffled.

    At an end of the order, or in a small catalogue, the window lies to one side, or shrinks.
    """
    size = len(counts)
    _need_others(size)
    order = np.lexsort((rng.random(size), counts))
    place = np.empty(size, dtype=np.int64)
    place[order] = np.arange(size)
    window = min(window, size - 1)
    own = place[logged][..., None]  # (..., 1)
    start = np.clip(own - window // 2, 0, size - 1 - window)
    drawn = start + rng.integers(0, window, size=(*logged.shape, count))
    return np.asarray(order[drawn + (drawn >= own)])


def text_neighbours(vectors: np.ndarray, nearest: int) -> np.ndarray:
    """The `nearest` other items of highest cosine, in no order: vectors (I, W) of any length -> (I, K) int64.

    An item whose vector is zero has no similar ones: its row is -1. K is at most I - 1.
    """
    size = len(vectors)
    _need_others(size)
    nearest = min(nearest, size - 1)
    unit = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    similar = np.empty((size, nearest), dtype=np.int64)
    for part in batches(size, ROWS):
        cosine = unit[part] @ unit.T  # (B, I)
        cosine[np.arange(len(cosine)), np.arange(part.start, part.stop)] = -np.inf
        chosen = np.argpartition(-cosine, nearest - 1, axis=1)[:, :nearest]
        least = np.take_along_axis(cosine, chosen, axis=1).min(axis=1, keepdims=True)
        tied = (cosine >= least).sum(axis=1) > nearest  # of equals that not all fit, the lower ones are chosen
        chosen[tied] = best_first(torch.from_numpy(cosine[tied]), nearest).numpy()
        similar[part] = chosen
    similar[~unit.any(axis=1)] = -1
    return similar


def text_hard(neighbours: np.ndarray, logged: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """Uniform over the logged item's row of `text_neighbours` (I, K); over all other items where it has none."""
    drawn = neighbours[logged[..., None], rng.integers(0, neighbours.shape[1], size=(*logged.shape, count))]
    return np.where(drawn < 0, sample_actions(logged, count, len(neighbours), rng), drawn)


def log_popularity(counts: np.ndarray) -> np.ndarray:
    """Log q (I,) float64, q proportional to the training count; -inf for an item without one.

    Raises `LeaError` where no item has a count.
    """
    if not counts.sum() > 0:
        raise LeaError("no item has a training event: there is nothing to draw by popularity")
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(counts / counts.sum()))


def _need_others(num_items: int) -> None:
    if num_items < 2:
        raise LeaError("data/interactions/items.parquet: one item leaves nothing to sample against: keep more items")
