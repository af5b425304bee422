"""slices.py: bands by hand, and metrics that add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lea_core.data.sequences import Sequences
from lea_core.evaluation.slices import SHARES, popularity_bands, repeats, slice_rows, slices
from lea_core.metrics.ranking import ALL, hit_rate, ndcg

# user 0: 0 1 | 2 | 0, user 1: 0 0 | 1 | 3; items 0 to 3 have 3, 1, 0, 0 training events
LOG = Sequences(np.array([0, 1, 2, 0, 0, 0, 1, 3]), np.array([0, 0, 1, 2] * 2, dtype=np.int8), np.array([0, 4, 8]), 4)
COUNTS = np.array([3, 1, 0, 0])


def bands(log: Sequences = LOG, counts: np.ndarray = COUNTS) -> dict[str, list[str]]:
    users, positions = log.targets("test")
    found = slices(log, users, positions, counts, np.array([1]))
    return {name: [names[place] for place in places] for name, (names, places) in found.items()}


def test_slices_by_hand() -> None:
    assert bands() == {
        "history": ["1-4", "1-4"],
        "item": ["head", "tail"],
        "training": ["seen", "unseen"],
        "le": ["others", "learned from"],
        "repeat": ["repeat", "new"],
    }


def test_history_bands_at_their_edges() -> None:
    lengths = np.array([2, 5, 6, 10, 11, 20, 21, 50, 51, 300])  # the last event is preceded by one less
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    split = np.zeros(offsets[-1], dtype=np.int8)
    split[offsets[1:] - 1] = 2
    log = Sequences(np.zeros(offsets[-1], dtype=np.int64), split, offsets, 1)
    edges = ["1-4", "1-4", "5-9", "5-9", "10-19", "10-19", "20-49", "20-49", "50+", "50+"]
    assert bands(log, np.array([1]))["history"] == edges


def test_popularity_bands_by_hand() -> None:
    """Of twelve events, items above have 0, 4, 7, 7, 9, 11 and 12: head below four, middle below eight."""
    found = [list(SHARES)[band] for band in popularity_bands(np.array([4, 3, 2, 2, 0, 1]))]
    assert found == ["head", "middle", "middle", "middle", "tail", "tail"]
    assert popularity_bands(np.array([2, 2, 2])).tolist() == [0, 0, 0]  # equals share a band
    assert popularity_bands(np.array([9, 0])).tolist() == [0, 2]
    assert popularity_bands(np.zeros(2, dtype=int)).tolist() == [2, 2]


@given(st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=5))
def test_repeats_against_a_loop(users: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, users)])
    items = np.array([item for user in users for item in user], dtype=np.int64)
    log = Sequences(items, np.zeros(len(items), dtype=np.int8), offsets, 4)
    wanted = [item in user[:place] for user in users for place, item in enumerate(user)]
    assert repeats(log).tolist() == wanted


def test_the_bands_of_a_slice_add_up_to_all_events() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 70, 60)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    split = np.zeros(offsets[-1], dtype=np.int8)
    split[offsets[1:] - 1] = 2
    log = Sequences(rng.integers(0, 40, offsets[-1]) ** 2 // 40, split, offsets, 40)
    users, positions = log.targets("test")
    counts = np.bincount(log.train().items, minlength=40)
    ranks = rng.integers(1, 41, (3, len(users))).astype(np.float32)
    found = slices(log, users, positions, counts, np.arange(20))
    rows = slice_rows(found, ranks, np.full(ranks.shape, ALL), 10)
    assert {row["slice"] for row in rows} == {"history", "item", "training", "le", "repeat"}
    for name in ("history", "item", "training", "le", "repeat"):
        own = [row for row in rows if row["slice"] == name]
        assert sum(row["events"] for row in own) == len(users)
        for metric, function in (("HR@10", hit_rate), ("NDCG@10", ndcg)):
            whole = sum(row["events"] * row[metric] for row in own) / len(users)
            assert whole == pytest.approx(function(ranks, 10).mean())
