"""Statistics of the data: the numbers of quality.json, and a summary in words.

In: the indexed events and items. Out: a flat mapping of names to numbers. Shares are of 1. `preprocess.prepare`
adds counts of rows, and `times`, the first and last of the raw data in words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from lea_core.data.sequences import SPLITS

QUANTILES = {"min": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "max": 1.0}
# What `preprocess.prepare` counts of the rows that it drops, in the order of its steps.
DROPPED = {
    "rows_rated_low": "rated low",
    "rows_duplicate_dropped": "duplicates",
    "rows_of_users_not_drawn": "of users not drawn",
    "rows_outside_k_core": "outside the k-core",
    "rows_of_short_users": "of short users",
}


def describe(events: pl.DataFrame, items: pl.DataFrame) -> dict[str, Any]:
    """Count and measure.

    events: user, item, timestamp, split and more, sorted by user and time.  items: item, text, train_count.

    - users, items, events, and events of each split; density: the share of user-item pairs that occur
    - user_events_<quantile>: events per user, over all splits
    - tie_share: share of a user's adjacent events that have equal timestamps, so the order column or the row decides
    - repeats_share: share of all events whose item the user interacted with before
    - <split>_cold_share: share of a held-out split's events whose item has no training event
    """
    users = events["user"].n_unique()
    adjacent = pl.col("user") == pl.col("user").shift(1)
    ties = events.select((pl.col("timestamp") == pl.col("timestamp").shift(1)).filter(adjacent).mean()).item()
    pairs = _distinct_pairs(events["user"].to_numpy(), events["item"].to_numpy(), items.height)
    lengths = np.bincount(events["user"].to_numpy())
    cold = (items["train_count"] == 0).to_numpy()
    by_split = {name: events["item"].filter(events["split"] == name).to_numpy() for name in SPLITS}
    return {
        "users": users,
        "items": items.height,
        "events": events.height,
        **{f"events_{name}": len(part) for name, part in by_split.items()},
        "density": pairs / (users * items.height),
        **{
            f"user_events_{name}": int(np.quantile(lengths, share, method="nearest"))
            for name, share in QUANTILES.items()
        },
        "tie_share": ties or 0.0,
        "repeats_share": 1 - pairs / events.height,
        **{f"{name}_cold_share": float(cold[by_split[name]].mean()) for name in ("valid", "test")},
        "items_without_text": items.filter(pl.col("text") == "").height,
    }


def _distinct_pairs(users: np.ndarray, items: np.ndarray, num_items: int) -> int:
    """Count the distinct pairs of two (N,) columns, as sorted numbers: a set of pairs would need far more memory."""
    pairs = users.astype(np.int64) * num_items + items
    pairs.sort()
    return int(np.count_nonzero(np.diff(pairs)) + 1)


def summary(quality: dict[str, Any]) -> str:
    """The main numbers of `describe` and of the dropped rows, in a few lines."""
    splits = ", ".join(f"{name} {quality[f'events_{name}']:,}" for name in SPLITS)
    dropped = ", ".join(f"{quality[key]:,} {name}" for key, name in DROPPED.items() if quality[key])
    return f"""\
{quality["users"]:,} users, {quality["items"]:,} items, {quality["events"]:,} events \
(density {quality["density"]:.2%}, {quality["user_events_median"]} events per user in the median)
  times    {quality["times"]}
  split    {splits}; {quality["test_cold_share"]:.1%} of the test events are of items never trained on
  order    {quality["tie_share"]:.0%} of adjacent events share their time: order column or file row decides
  dropped  of {quality["rows"]:,} rows: {dropped or "none"}"""
