"""Rewards of logged events, and a simple reward model.

In: interactions.parquet and train.event_rewards. Out: a reward of every event. If the data have types of events, it is
that of the type. Else, if they have ratings, it is the rating, scaled so that the lowest in the data is 0 and the
highest is 1. Else it is 1. The reward model is the mean reward of each item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from lea_core.common.errors import LeaError
from lea_core.common.tables import INTERACTIONS, read_table, to_numpy


@dataclass(frozen=True)
class Rewards:
    """Rewards of N events, what they are made from, and the ratings that give 0 and 1."""

    values: np.ndarray  # (N,) float64
    source: Literal["event", "rating", "constant"]
    low: float | None = None
    high: float | None = None


def of_events(path: Path, events: pa.ChunkedArray, rewards: Mapping[str, float]) -> np.ndarray:
    """The reward of each event by its type: (N,) float64. path: the file of the (N,) types, for messages.

    Raises `LeaError` where a type has no reward.
    """
    encoded = events.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    for name in names:
        if name not in rewards:
            raise LeaError(f"params.yaml: train.event_rewards has no reward for event {name!r} of {path}: add it")
    by_name = np.array([rewards[name] for name in names], dtype=np.float64)
    values: np.ndarray = by_name[encoded.indices.to_numpy()]
    return values


def read_rewards(path: Path, event_rewards: Mapping[str, float]) -> Rewards:
    """Rewards of all events of interactions.parquet, in its order.

    Raises `LeaError` where a type of event has no reward, or some events have a rating and others none.
    """
    table = read_table(path, INTERACTIONS, columns=("event", "rating"))
    if table["event"].unique().to_pylist() != [""]:
        return Rewards(of_events(path, table["event"], event_rewards), "event")
    ratings = to_numpy(table, "rating").astype(np.float64)
    missing = np.isnan(ratings)
    if missing.all():
        return Rewards(np.ones(len(ratings)), "constant")
    if not np.isfinite(ratings).all():
        row = int(np.argmin(np.isfinite(ratings)))
        raise LeaError(f"{path}: row {row}: rating is {ratings[row]:g}: give every event a rating, or none")
    low, high = float(ratings.min()), float(ratings.max())
    if low == high:
        return Rewards(np.ones(len(ratings)), "constant")
    return Rewards((ratings - low) / (high - low), "rating", low, high)


def shrunken_means(items: np.ndarray, rewards: np.ndarray, num_items: int, shrinkage: float) -> np.ndarray:
    """(sum of an item's rewards + shrinkage * mean of all) / (their number + shrinkage): (I,), of N events (N,) each.

    An item without an event gets the mean of all, whatever the shrinkage.
    """
    mean = rewards.mean()
    number = np.bincount(items, minlength=num_items)
    deviation = np.bincount(items, rewards - mean, num_items)
    means: np.ndarray = mean + np.divide(deviation, number + shrinkage, out=np.zeros(num_items), where=number > 0)
    return means
