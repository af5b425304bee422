"""Raw data -> indexed, split interactions, items and users.

In: a `Raw` and params.preprocess. Out: a `Prepared`: the three tables of `data/interactions` and what there is to know
about them.

The steps, in this order: low ratings, duplicates, the draw of users, k-core, split, index. The k-core counts all
events, held-out ones too, as the field does: it decides who takes part, not what is learned. Users and items are
numbered in the byte order of their ids; only those that have an event left get a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa

from lea_core.datasets.tables import Raw
from lea_core.errors import LeaError, warn
from lea_core.params import PreprocessParams
from lea_core.quality import describe
from lea_core.splits import ORDER, split
from lea_core.tables import INTERACTIONS, ITEMS, USERS, Schema

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
    rated = drop_low_ratings(raw, params.min_rating)
    settled = settle_duplicates(rated, params.duplicates, raw.source)
    drawn = draw_users(settled, params.max_users, np.random.default_rng(params.seed))
    core = drawn.filter(k_core(drawn["user_id"], drawn["item_id"], params.k_core))
    if core.is_empty():
        raise LeaError(f"{raw.source}: no event survives preprocess.k_core {params.k_core}: lower it")
    events = _index(split(core.sort(ORDER), params.split, params.short_users))
    items = _items(events, raw.items)
    steps = {
        "rows": raw.interactions.height,
        "rows_rated_low": raw.interactions.height - rated.height,
        "rows_duplicate": int(duplicates(rated).sum()),
        "rows_duplicate_dropped": rated.height - settled.height,
        "rows_of_users_not_drawn": settled.height - drawn.height,
        "rows_outside_k_core": drawn.height - core.height,
        "rows_of_short_users": core.height - events.height,
    }
    quality = steps | describe(events, items)
    if quality["items_without_text"]:
        first = items.filter(pl.col("text") == "")["item_id"][0]
        warn(f"{quality['items_without_text']} items have no text, {first!r} first: kept; the LE knows little of them")
    if quality["repeats_share"] and not params.repeats:
        warn(
            f"{quality['repeats_share']:.1%} of the events are of an item that their user had before, but"
            " preprocess.repeats is false: no model is trained to foresee them"
        )
    users = events.select("user", "user_id").unique(maintain_order=True)
    return Prepared(_arrow(events, INTERACTIONS), _arrow(items, ITEMS), _arrow(users, USERS), quality)


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
    """Mark, with one bool per event, those that equal one above in user, item, timestamp and event."""
    return events.select(repeated=~pl.struct(SAME_EVENT).is_first_distinct())["repeated"]


def settle_duplicates(events: pl.DataFrame, how: Literal["error", "drop", "keep"], source: str) -> pl.DataFrame:
    """Refuse duplicates, drop all but the first of the file, or keep them. Raises `LeaError` naming the first."""
    repeated = duplicates(events)
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
    codes = [_numbered(ids).to_numpy() for ids in (users, items)]
    kept = np.arange(len(users))
    while True:
        counts = [np.bincount(code[kept])[code[kept]] for code in codes]
        enough = (counts[0] >= k) & (counts[1] >= k)
        if enough.all():
            mask = np.zeros(len(users), dtype=bool)
            mask[kept] = True
            return pl.Series(mask)
        kept = kept[enough]


def _index(events: pl.DataFrame) -> pl.DataFrame:
    """Give users, items and each user's positions their numbers; `events` is sorted by user id and time."""
    return events.with_columns(
        user=_numbered(events["user_id"]),
        item=_numbered(events["item_id"]),
        position=pl.int_range(pl.len(), dtype=pl.Int32).over("user_id"),
    )


def _numbered(ids: pl.Series) -> pl.Series:
    """Replace each id by its place, from 0, among the distinct ids in byte order."""
    return ids.cast(pl.Enum(ids.unique().sort())).to_physical().cast(pl.Int32)


def _items(events: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    counts = events.group_by("item", "item_id").agg(train_count=(pl.col("split") == "train").sum().cast(pl.Int32))
    return counts.join(items, on="item_id").sort("item")


def _arrow(frame: pl.DataFrame, schema: Schema) -> pa.Table:
    return frame.select(list(schema)).to_arrow().cast(pa.schema(list(schema.items())))
