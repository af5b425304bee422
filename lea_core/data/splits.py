"""Which events are held out: the split into training, validation and test events.

In: events in time order. Out: their `split` column (an Enum of train, valid, test), or a `LeaError` on a leak.

Events are sorted by user, then by timestamp, then by the order column if the data have one, then by the row of the
file. So events of equal time keep the order of the file (or of the order column) on every machine.

Sources: leave-one-out follows SASRec, by-user the SA2C code. In `global_time` all events of one timestamp are on the
same side of a boundary, so no training event has the time of a held-out one.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from lea_core.common.errors import LeaError
from lea_core.data.sequences import SPLITS
from lea_core.params import SplitParams

ORDER = ("user_id", "timestamp", "order", "row")
# The fewest events of a user to evaluate: one to learn from and two to hold out; a history and an event to predict.
LEAVE_ONE_OUT_EVENTS = 3
OTHER_EVENTS = 2
# Labels are carried as codes: a byte per event.
LABELS = pl.Enum(SPLITS)
TRAIN, VALID, TEST = (pl.lit(name, dtype=LABELS) for name in SPLITS)


def split(events: pl.DataFrame, params: SplitParams, short_users: Literal["error", "train", "drop"]) -> pl.DataFrame:
    """Return `events` (sorted by ORDER) with their `split` filled; short users are refused, trained on or dropped.

    A user is short with fewer than 3 events under leave_one_out, and with fewer than 2 under by_user and global_time,
    where a first event has no history to predict it from. `train` keeps short users. Under global_time their events
    keep the split of their time: as training events, those after the boundary would leak the future. Under `column` no
    user is short.

    Raises `LeaError` on a short user under `error`, where a split would be empty, and as `check_column` does.
    """
    if params.method == "column":
        check_column(events)
        return _all_splits(events)
    needed = LEAVE_ONE_OUT_EVENTS if params.method == "leave_one_out" else OTHER_EVENTS
    lengths = user_lengths(events)
    short = pl.Series(np.repeat(lengths < needed, lengths))
    if short_users == "error" and short.any():
        users = events["user_id"].filter(short)
        raise LeaError(
            f"user {users[0]!r} has {users.eq(users[0]).sum()} of the {needed} events that {params.method} needs"
            f" ({users.n_unique()} such users): set preprocess.short_users to train or drop, or raise preprocess.k_core"
        )
    if short_users == "drop":
        events = events.filter(~short)
        short = short.filter(~short)
    if events.is_empty():
        raise LeaError(f"every user is shorter than the {needed} events that {params.method} needs: give more data")
    if params.method == "leave_one_out":
        labels = leave_one_out(events)
    elif params.method == "by_user":
        labels = by_user(events, short, params.valid_share, params.test_share, np.random.default_rng(params.seed))
    else:
        labels = global_time(events["timestamp"], params.valid_share, params.test_share)
    if params.method != "global_time":
        labels = pl.select(pl.when(short).then(TRAIN).otherwise(labels)).to_series()
    return _all_splits(events.with_columns(split=labels))


def user_lengths(events: pl.DataFrame) -> np.ndarray:
    """(U,) number of events of each user, in the order of `events`, which is sorted by user."""
    return np.bincount(events["user_id"].rle_id().to_numpy())


def leave_one_out(events: pl.DataFrame) -> pl.Series:
    """Label each user's last event test, the one before valid, the others train; `events` as `split` takes them."""
    lengths = user_lengths(events)
    ends = np.cumsum(lengths)
    labels = np.full(events.height, SPLITS.index("train"), dtype=np.uint8)
    labels[ends[lengths > 1] - 2] = SPLITS.index("valid")
    labels[ends - 1] = SPLITS.index("test")
    return pl.Series(SPLITS, dtype=LABELS).gather(labels)


def by_user(
    events: pl.DataFrame, short: pl.Series, valid_share: float, test_share: float, generator: np.random.Generator
) -> pl.Series:
    """Label all events of drawn users test or valid, those of the others train.

    Users are drawn from the sorted ids of those that are not short (`short`: one bool per event), so the draw does not
    depend on the order of rows. Each held-out split gets its share of them, rounded, and at least one.
    """
    users = events["user_id"].filter(~short).unique().sort()
    drawn = generator.permutation(len(users))
    tests = max(1, round(test_share * len(users)))
    valids = max(1, round(valid_share * len(users)))
    test, valid = users[drawn[:tests]], users[drawn[tests : tests + valids]]
    user = pl.col("user_id")
    label = pl.when(user.is_in(test.implode())).then(TEST).when(user.is_in(valid.implode())).then(VALID)
    return events.select(split=label.otherwise(TRAIN))["split"]


def global_time(timestamps: pl.Series, valid_share: float, test_share: float) -> pl.Series:
    """Label events by two times: valid from the first on, test from the second on.

    These are the times at which the last `valid_share + test_share` and the last `test_share` of all events begin. An
    event of exactly such a time is held out.
    """
    ordered = timestamps.sort()
    valid_from, test_from = (
        ordered[min(round(len(ordered) * (1 - held)), len(ordered) - 1)]
        for held in (valid_share + test_share, test_share)
    )
    label = pl.when(timestamps >= test_from).then(TEST).when(timestamps >= valid_from).then(VALID)
    return pl.select(split=label.otherwise(TRAIN))["split"]


def check_column(events: pl.DataFrame) -> None:
    """Raise `LeaError` where, in the data's own split, a user's train, valid and test events are not in this order."""
    codes = events["split"].cast(LABELS).to_physical().cast(pl.Int8)
    users = events["user_id"]
    back = ((codes.diff() < 0) & (users == users.shift(1))).arg_true()
    if len(back):
        first = events.row(back[0], named=True)
        before = events.row(back[0] - 1, named=True)
        raise LeaError(
            f"the split column has user {first['user_id']!r}'s {first['split']} event of row {first['row']} after the"
            f" {before['split']} event of row {before['row']}: mend the column, or use another preprocess.split.method"
        )


def _all_splits(events: pl.DataFrame) -> pl.DataFrame:
    counts = dict(events["split"].value_counts().iter_rows())
    for name in SPLITS:
        if name not in counts:
            raise LeaError(f"no event is in the {name} split: mend preprocess.split, or give the pipeline more data")
    return events
