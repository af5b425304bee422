"""Slices: HR and NDCG by properties of the event's user and item.

In: the sequences, the items' training counts, the users that the LE learns from, ranks. Out: for every event its band
in each slice, and the metrics of each band.

  history    how many events precede it, of any split: HISTORY_BANDS
  item       how popular its item is: SHARES of the training events. Take all items with more training events than this
             one. The item is in the head if they have less than a third of all training events, in the middle if less
             than two thirds, else in the tail. So equally popular items are in one band, and the most popular item is
             in the head.
  training   whether its item has a training event
  le         whether the LE learns from its user; left out where there is no LE
  repeat     whether its item is in its history (repeat) or not (new)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lea_core.data.sequences import Sequences
from lea_core.metrics.ranking import by_name

HISTORY_BANDS = ((1, 4), (5, 9), (10, 19), (20, 49), (50, None))
SHARES = {"head": 1 / 3, "middle": 2 / 3, "tail": np.inf}
FEW = 50  # bands with fewer events allow no conclusion
TITLES = {
    "history": "Events before it",
    "item": "Popularity of the item",
    "training": "The item in training",
    "le": "The user and the LE",
    "repeat": "The item before",
}

# Of each slice: the names of its bands, and for every event the index of its own, (N,).
Slices = dict[str, tuple[list[str], np.ndarray]]


def slices(
    sequences: Sequences, users: np.ndarray, positions: np.ndarray, counts: np.ndarray, le_users: np.ndarray | None
) -> Slices:
    """The bands of the events at (users, positions), both (N,).

    counts: (I,) training events of each item.  le_users: those that the LE learns from; None where there is no LE.
    """
    rows = sequences.offsets[users] + positions
    items = sequences.items[rows]
    starts = [first for first, _ in HISTORY_BANDS]
    found: Slices = {
        "history": (
            [f"{first}-{last}" if last else f"{first}+" for first, last in HISTORY_BANDS],
            np.searchsorted(starts, positions, side="right") - 1,
        ),
        "item": (list(SHARES), popularity_bands(counts)[items]),
        "training": (["seen", "unseen"], (counts[items] == 0).astype(np.int64)),
        "le": (["learned from", "others"], (~np.isin(users, [] if le_users is None else le_users)).astype(np.int64)),
        "repeat": (["new", "repeat"], repeats(sequences)[rows].astype(np.int64)),
    }
    if le_users is None:
        del found["le"]
    return found


def popularity_bands(counts: np.ndarray) -> np.ndarray:
    """The band of each item, index into SHARES: (I,) training counts -> (I,)."""
    ascending = np.sort(counts)
    below = np.concatenate([[0], np.cumsum(ascending)])
    more = below[-1] - below[np.searchsorted(ascending, counts, side="right")]  # (I,) events of more popular items
    share = more / max(int(below[-1]), 1)
    return np.where(counts > 0, np.searchsorted(list(SHARES.values()), share, side="right"), len(SHARES) - 1)


def repeats(sequences: Sequences) -> np.ndarray:
    """(N,) bool: whether the user of each event, a row of the sequences, interacted with its item before."""
    users, _ = sequences.users_and_positions()
    result = np.ones(len(sequences.items), dtype=bool)
    result[np.unique(users * sequences.num_items + sequences.items, return_index=True)[1]] = False
    return result


def slice_rows(found: Slices, ranks: np.ndarray, candidates: np.ndarray, cutoff: int) -> list[dict[str, Any]]:
    """HR and NDCG at the cutoff of every band that has an event: its mean over events and over the seeds.

    ranks, candidates: (S, N), a row for every seed, of the events that `found` is about; see `metrics.by_name`.
    """
    scores = {name: by_name(name, ranks, candidates).mean(axis=0) for name in (f"HR@{cutoff}", f"NDCG@{cutoff}")}
    rows = []
    for name, (bands, places) in found.items():
        for place, band in enumerate(bands):
            own = places == place
            if own.any():
                means = {metric: float(values[own].mean()) for metric, values in scores.items()}
                rows.append({"slice": name, "band": band, "events": int(own.sum()), **means})
    return rows
