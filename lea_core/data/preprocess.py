"""Raw data -> indexed, split interactions, items and users.

In: a `Raw` and params.preprocess. Out: a `Prepared`: the three tables of `data/interactions` and their statistics.

The steps, in this order: low ratings, duplicates, sample of users, k-core, split, index. The k-core counts all events,
held-out ones included, as is usual in the field: it decides which users and items stay, not what is learned. Users and
items are numbered in the byte order of their ids; only those that still have an event get a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa

from lea_core.common.errors import LeaError, warn
from lea_core.common.tables import INTERACTIONS, ITEMS, USERS, Schema
from lea_core.data.datasets.columns import codes
from lea_core.data.datasets.tables import Raw
from lea_core.data.splits import ORDER, split, user_lengths
from lea_core.data.statistics import DROPPED, describe
from lea_core.params import PreprocessParams

SAME_EVENT = ("user_id", "item_id", "timestamp", "event")


@dataclass(frozen=True)
class Prepared:
    """Tables of the schemas INTERACTIONS, ITEMS and USERS, and the numbers of quality.json."""

    interactions: pa.Table
    items: pa.Table
    users: pa.Table
    quality: dict[str, Any]


def prepare(raw: Raw, params: PreprocessParams) -> Prepared:
    """Run all steps. Raises `LeaError` as the steps do; warns of items without text and of repeats ruled out."""
    events, rows = _kept(raw, params)
    events = _index(events)
    items = _items(events, raw.items)
    quality = {"times": raw.times} | rows | describe(events, items)
    if quality["items_without_text"]:
        first = items.filter(pl.col("text") == "")["item_id"][0]
        warn(f"{quality['items_without_text']} items have no text, {first!r} first: kept; the LE knows little of them")
    if quality["repeats_share"] and not params.repeats:
        warn(
            f"{quality['repeats_share']:.1%} of the events are of an item that their user had before, but"
            " preprocess.repeats is false: no model is trained to predict them"
        )
    users = events.filter(pl.col("position") == 0)
    return Prepared(_arrow(events, INTERACTIONS), _arrow(items, ITEMS), _arrow(users, USERS), quality)


def _kept(raw: Raw, params: PreprocessParams) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the events that are kept, in time order and split, and counts of all, duplicate and dropped rows.

    One variable holds the events from step to step, so that no earlier state of a large log stays in memory.
    """
    events = drop_low_ratings(raw, params.min_rating)
    heights = [raw.interactions.height, events.height]
    repeated = duplicates(events)
    events = settle_duplicates(events, repeated, params.duplicates, raw.source)
    heights.append(events.height)
    events = draw_users(events, params.max_users, np.random.default_rng(params.seed))
    heights.append(events.height)
    events = events.filter(k_core(events["user_id"], events["item_id"], params.k_core))
    heights.append(events.height)
    if events.is_empty():
        raise LeaError(f"{raw.source}: no event survives preprocess.k_core {params.k_core}: lower it")
    events = split(in_order(events), params.split, params.short_users)
    heights.append(events.height)
    dropped = dict(zip(DROPPED, (-np.diff(heights)).tolist(), strict=True))
    return events, {"rows": heights[0], "rows_duplicate": int(repeated.sum()), **dropped}


def drop_low_ratings(raw: Raw, min_rating: float | None) -> pl.DataFrame:
    """Return the interactions rated `min_rating` or higher. Raises `LeaError` where there are no ratings so high."""
    if min_rating is None:
        return raw.interactions
    if raw.interactions["rating"].is_nan().any():
        raise LeaError(
            "preprocess.min_rating is set, but dataset.columns.rating is null: name the column, or set it null"
        )
    kept = raw.interactions.filter(pl.col("rating") >= min_rating)
    if kept.is_empty():
        raise LeaError(f"{raw.source}: no rating reaches preprocess.min_rating {min_rating}: lower it")
    return kept


def duplicates(events: pl.DataFrame) -> pl.Series:
    """Mark, with one bool per event, those that equal an earlier row in user, item, timestamp and event.

    A sort puts equal events next to each other, in the order of `events`; a set of all events would need more memory.
    """
    columns = [_numbers(events[name]) for name in SAME_EVENT]
    order = np.lexsort(columns)
    same = np.ones(len(order), dtype=bool)  # as the event before it in `order`
    same[:1] = False
    for column in columns:
        ordered = column[order]
        same[1:] &= ordered[1:] == ordered[:-1]
    repeated = np.zeros(len(order), dtype=bool)
    repeated[order[same]] = True
    return pl.Series(repeated)


def settle_duplicates(
    events: pl.DataFrame, repeated: pl.Series, how: Literal["error", "drop", "keep"], source: str
) -> pl.DataFrame:
    """Refuse the `repeated` events, drop them (the first row of the file stays), or keep them.

    Raises `LeaError` naming the first.
    """
    if how == "keep" or not repeated.any():
        return events
    if how == "drop":
        return events.filter(~repeated)
    second = events.filter(repeated).row(0, named=True)
    same = [pl.col(name) == second[name] for name in SAME_EVENT]
    raise LeaError(
        f"{source}: row {second['row']} has the user, item, timestamp and event of row {events.filter(same)['row'][0]}"
        f" ({repeated.sum()} such rows): set preprocess.duplicates to drop or keep, or mend the file"
    )


def draw_users(events: pl.DataFrame, max_users: int | None, generator: np.random.Generator) -> pl.DataFrame:
    """Return the events of `max_users` users, drawn from their sorted ids: the order of rows does not matter."""
    users = events["user_id"].unique().sort()
    if max_users is None or len(users) <= max_users:
        return events
    drawn = users[generator.permutation(len(users))[:max_users]]
    return events.filter(pl.col("user_id").is_in(drawn.implode()))


def k_core(users: pl.Series, items: pl.Series, k: int) -> pl.Series:
    """Mark, with one bool per event, the largest set in which every user and every item has `k` events or more."""
    numbers = [codes(ids) for ids in (users, items)]
    kept = np.arange(len(users))
    while True:
        frequent = [(np.bincount(ids[kept]) >= k)[ids[kept]] for ids in numbers]
        enough = frequent[0] & frequent[1]
        if enough.all():
            mask = np.zeros(len(users), dtype=bool)
            mask[kept] = True
            return pl.Series(mask)
        kept = kept[enough]


def in_order(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events sorted by splits.ORDER. Sorting numbers takes less time and memory than sorting a frame."""
    return events[np.lexsort([_numbers(events[name]) for name in reversed(ORDER)])]


def _index(events: pl.DataFrame) -> pl.DataFrame:
    """Give users, items and each user's positions their numbers; `events` is sorted by user id and time."""
    lengths = user_lengths(events)
    starts = np.cumsum(lengths) - lengths
    return events.select(
        "user_id",
        "item_id",
        "timestamp",
        "event",
        "rating",
        "split",
        user=pl.Series(numbered(events["user_id"])),
        item=pl.Series(numbered(events["item_id"])),
        position=pl.Series((np.arange(events.height) - np.repeat(starts, lengths)).astype(np.int32)),
    )


def numbered(ids: pl.Series) -> np.ndarray:
    """(N,) int32: replace each id by its rank, from 0, among the distinct ids that occur, in byte order."""
    places = codes(ids)
    occurs = np.bincount(places) > 0
    result: np.ndarray = (np.cumsum(occurs, dtype=np.int32) - 1)[places]
    return result


def _numbers(column: pl.Series) -> np.ndarray:
    """A column as numbers in the same order."""
    return column.to_numpy() if column.dtype.is_numeric() else codes(column)


def _items(events: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    train = (pl.col("split") == "train").sum().cast(pl.Int32)
    counts = events.group_by("item").agg(pl.col("item_id").first(), train_count=train)
    return counts.with_columns(pl.col("item_id").cast(pl.String)).join(items, on="item_id").sort("item")


def _arrow(frame: pl.DataFrame, schema: Schema) -> pa.Table:
    return frame.select(list(schema)).to_arrow().cast(pa.schema(list(schema.items())))
