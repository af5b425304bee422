"""Items to hold the logged one against: as popular as it, similar by text, or drawn by popularity.

In: logged items, training counts or item vectors. Out: `count` other items for each logged one, repetitions possible,
never the logged one itself: (...,) -> (..., count) int64, as `sequences.sample_actions` gives uniform ones; and the log
probabilities that popularity draws have.

A uniformly drawn item is mostly a rare one, so a reward that merely follows popularity passes that test; it fails on
equally popular items. Text neighbours put the text to the test alike. `log_popularity` is the logQ of sampled softmax
(Bengio and Senécal, 2008; Yi et al., RecSys 2019): subtracted from the scores of drawn items it undoes the draw's bias.
"""

from __future__ import annotations

import numpy as np

from lea_core.errors import LeaError
from lea_core.sequences import batches, sample_actions

ROWS = 1024  # items whose similarities with all others are in memory at once


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


def text_hard(
    vectors: np.ndarray, logged: np.ndarray, nearest: int, rng: np.random.Generator, count: int
) -> np.ndarray:
    """Uniform over the `nearest` other items of highest cosine; vectors (I, W) of any length.

    An item whose vector is zero has no similar ones: its negatives are uniform over the others.
    """
    size = len(vectors)
    _need_others(size)
    nearest = min(nearest, size - 1)
    unit = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    distinct, which = np.unique(logged, return_inverse=True)
    similar = np.empty((len(distinct), nearest), dtype=np.int64)
    for part in batches(len(distinct), ROWS):
        cosine = unit[distinct[part]] @ unit.T  # (B, I)
        cosine[np.arange(len(cosine)), distinct[part]] = -np.inf
        similar[part] = np.argpartition(-cosine, nearest - 1, axis=1)[:, :nearest]
    pick = rng.integers(0, nearest, size=(*logged.shape, count))
    drawn = similar[which.reshape(logged.shape)[..., None], pick]
    blank = ~unit.any(axis=1)[logged]
    drawn[blank] = sample_actions(logged[blank], count, size, rng)
    return drawn


def popular(
    logged: np.ndarray, counts: np.ndarray, rng: np.random.Generator, count: int, power: float = 1.0
) -> np.ndarray:
    """Drawn with probability proportional to count ** power among the other items; counts (I,).

    Raises `LeaError` where all other items have probability zero.
    """
    _need_others(len(counts))
    edges = np.concatenate([[0.0], np.cumsum(np.exp(log_popularity(counts, power)))])  # item i owns edges i to i + 1
    below, above = edges[logged][..., None], edges[logged + 1][..., None]  # (..., 1)
    left = below + (edges[-1] - above)
    if (left <= 0.0).any():
        raise LeaError("all training events are of one item: there is no other to draw by popularity")
    point = rng.random((*logged.shape, count)) * left
    # Jump over the logged item's own stretch, and stay below the end where a sum was rounded up to it.
    point = np.where(point < below, point, np.minimum(point - below + above, np.nextafter(edges[-1], 0.0)))
    return np.asarray(np.searchsorted(edges[1:], point, side="right").astype(np.int64))


def log_popularity(counts: np.ndarray, power: float = 1.0) -> np.ndarray:
    """Log q (I,) float64, q proportional to count ** power; -inf for an item that is never drawn.

    `popular` draws with q among the items other than the logged one. Raises `LeaError` where no item has a count.
    """
    weights = counts.astype(np.float64) ** power
    if not weights.sum() > 0.0:
        raise LeaError("no item has a training event: there is nothing to draw by popularity")
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(weights / weights.sum()))


def _need_others(num_items: int) -> None:
    if num_items < 2:
        raise LeaError("data/interactions/items.parquet: one item leaves nothing to sample against: keep more items")
