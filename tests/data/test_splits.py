"""Splits that can be checked by hand, what every split must keep, and leaks that must be found."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lea_core.common.errors import LeaError
from lea_core.data import leaks
from lea_core.data.leaks import check_no_leak, check_order, check_trained_on, training_events
from lea_core.data.sequences import SPLITS, Sequences
from lea_core.data.splits import ORDER, global_time, split, user_lengths
from lea_core.params import SplitParams

METHODS = ("leave_one_out", "by_user", "global_time")


def settings(method: str, **changes: Any) -> SplitParams:
    return SplitParams(**({"method": method, "valid_share": 0.2, "test_share": 0.2, "seed": 0} | changes))


def events(users: str, times: list[int] | None = None, splits: str | None = None) -> pl.DataFrame:
    """One event per letter, sorted; splits are given by their first letters."""
    names = {"t": "train", "v": "valid", "T": "test"}
    frame = pl.DataFrame(
        {
            "user_id": list(users),
            "timestamp": times or list(range(len(users))),
            "row": range(1, len(users) + 1),
            "split": [names[letter] for letter in splits] if splits else "",
        }
    )
    return frame.with_columns(order=pl.col("row")).sort(ORDER)


def letters(frame: pl.DataFrame) -> str:
    return "".join({"train": "t", "valid": "v", "test": "T"}[name] for name in frame["split"])


def test_leave_one_out() -> None:
    assert letters(split(events("aaaabbb"), settings("leave_one_out"), "error")) == "ttvTtvT"


def test_user_lengths() -> None:
    assert user_lengths(events("aaabcc")).tolist() == [3, 1, 2]


def test_ties_keep_the_order_column_then_the_file() -> None:
    frame = events("aaaa", [5, 5, 5, 1])
    assert frame["row"].to_list() == [4, 1, 2, 3]
    assert frame.with_columns(order=pl.Series([0, 2, 1, 1])).sort(ORDER)["row"].to_list() == [4, 2, 3, 1]


def test_by_user_holds_out_whole_users() -> None:
    frame = split(events("aabbccddee"), settings("by_user"), "error")
    drawn = {user: set(part["split"]) for (user,), part in frame.group_by("user_id")}
    assert sorted(map(tuple, drawn.values())) == [("test",), ("train",), ("train",), ("train",), ("valid",)]
    others = [letters(split(events("aabbccddee"), settings("by_user", seed=seed), "error")) for seed in range(5)]
    assert len(set(others)) > 1
    assert others[0] == letters(frame)


def test_by_user_holds_out_one_at_least() -> None:
    frame = split(events("aabbcc"), settings("by_user", valid_share=0.01, test_share=0.01), "error")
    assert frame["split"].value_counts().sort("split").rows() == [("train", 2), ("valid", 2), ("test", 2)]


def test_global_time() -> None:
    """Of ten events the last four are held out; those at the boundary's very moment fall behind it together."""
    times = pl.Series([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert letters(pl.DataFrame({"split": global_time(times, 0.2, 0.2)})) == "ttttttvvTT"
    tied = pl.Series([0, 1, 2, 3, 6, 6, 6, 7, 8, 8])
    assert letters(pl.DataFrame({"split": global_time(tied, 0.2, 0.2)})) == "ttttvvvvTT"


def test_short_users() -> None:
    frame = events("aaaabbc")
    with pytest.raises(
        LeaError, match=r"^user 'b' has 2 of the 3 events that leave_one_out needs \(2 such users\): set"
    ):
        split(frame, settings("leave_one_out"), "error")
    assert letters(split(frame, settings("leave_one_out"), "train")) == "ttvTttt"
    dropped = split(frame, settings("leave_one_out"), "drop")
    assert (letters(dropped), set(dropped["user_id"])) == ("ttvT", {"a"})
    with pytest.raises(LeaError, match=r"^every user is shorter than the 3 events"):
        split(events("aab"), settings("leave_one_out"), "drop")

    pairs = events("aabbccd")
    with pytest.raises(LeaError, match=r"^user 'd' has 1 of the 2 events that by_user needs"):
        split(pairs, settings("by_user"), "error")
    for seed in range(5):  # d is never held out, for it has nothing to be predicted from
        assert letters(split(pairs, settings("by_user", seed=seed), "train"))[-1] == "t"
    # In time, d's event lies behind the boundary: to train on it would give the future away.
    assert letters(split(pairs, settings("global_time"), "train"))[-1] == "T"
    assert letters(split(pairs, settings("global_time"), "drop")) == "ttttvT"


def test_the_datas_own_split() -> None:
    assert letters(split(events("aaabb", splits="tvTtT"), settings("column"), "error")) == "tvTtT"
    message = r"user 'b''s train event of row 5 after the valid event of row 4: mend the column"
    with pytest.raises(LeaError, match=message):
        split(events("aaabb", splits="tvTvt"), settings("column"), "error")
    with pytest.raises(LeaError, match=r"^no event is in the valid split: mend preprocess\.split"):
        split(events("aaabb", splits="ttTtT"), settings("column"), "error")


# ---- properties


@st.composite
def histories(draw: st.DrawFn) -> pl.DataFrame:
    """Three users or more, each with three events or more, in few distinct moments so that many tie."""
    users = draw(st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=8), min_size=3, max_size=8))
    names = "".join(chr(97 + user) * len(times) for user, times in enumerate(users))
    return events(names, [time for times in users for time in times])


def sequences_of(frame: pl.DataFrame) -> Sequences:
    counts = frame["user_id"].value_counts().sort("user_id")["count"].to_numpy()
    codes = np.array([SPLITS.index(name) for name in frame["split"]], dtype=np.int8)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Sequences(frame["row"].to_numpy() - 1, codes, offsets, frame.height)


@given(histories(), st.sampled_from(METHODS), st.randoms(use_true_random=False))
def test_no_split_leaks_or_depends_on_the_order_of_rows(frame: pl.DataFrame, method: str, random: Any) -> None:
    try:
        done = split(frame, settings(method), "error")
    except LeaError:
        assume(method != "global_time")  # so many events of one moment that a split is empty
        raise
    assert done.drop("split").equals(frame.drop("split"))
    sequences = sequences_of(done)
    check_no_leak(sequences, np.bincount(sequences.items[sequences.split == 0], minlength=sequences.num_items))
    if method == "global_time":
        latest = done.group_by("split").agg(
            pl.col("timestamp").min().alias("from"), pl.col("timestamp").max().alias("to")
        )
        spans = {name: (start, end) for name, start, end in latest.iter_rows()}
        assert spans["train"][1] < spans["valid"][0] <= spans["valid"][1] < spans["test"][0]
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=random.randrange(2**32)).sort(ORDER)
    assert split(shuffled, settings(method), "error").equals(done)


# ---- leaks

# user 0: items 0 1 2 3, user 1: items 1 1 0
GOOD = Sequences(np.array([0, 1, 2, 3, 1, 1, 0]), np.array([0, 0, 1, 2, 0, 1, 2], np.int8), np.array([0, 4, 7]), 4)
TRAIN_COUNTS = np.array([1, 2, 0, 0])


def test_no_leak_is_quiet() -> None:
    check_no_leak(GOOD, TRAIN_COUNTS)
    check_trained_on(GOOD, np.array([0, 0, 1]), np.array([0, 1, 0]))
    assert training_events(GOOD).items.tolist() == [0, 1, 1]


def test_training_events_are_checked_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "CHECKED_AT_ONCE", 2)
    check_trained_on(GOOD, np.array([0, 0, 1]), np.array([0, 1, 0]))
    with pytest.raises(LeaError, match=r"^leak: user 1 position 1 is a valid event, not a training event \(2 such\)"):
        check_trained_on(GOOD, np.array([0, 0, 0, 1, 0]), np.array([0, 1, 0, 1, 4]))


def test_users_without_events_hide_no_leak() -> None:
    """Users 0 and 2 have none; the first event of user 3 follows a test event of user 1, its second one its own."""
    codes = np.array([0, 2, 0, 1, 0], np.int8)
    sequences = Sequences(np.zeros(5, np.int64), codes, np.array([0, 0, 2, 2, 5, 5]), 1)
    with pytest.raises(LeaError, match=r"^leak: user 3 has a train event at position 2 after a valid event: delete"):
        check_order(sequences)
    check_order(Sequences(sequences.items[:4], codes[:4], np.array([0, 0, 2, 2, 4, 4]), 1))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([0, 1, 0, 2, 0, 1, 2], "user 0 has a train event at position 2 after a valid event"),
        ([0, 0, 1, 2, 2, 0, 0], "user 1 has a train event at position 1 after a test event"),
        ([0, 0, 2, 1, 0, 1, 2], "user 0 has a valid event at position 3 after a test event"),
    ],
)
def test_a_split_out_of_order_is_a_leak(codes: list[int], message: str) -> None:
    sequences = Sequences(GOOD.items, np.array(codes, np.int8), GOOD.offsets, GOOD.num_items)
    for check in (training_events, lambda leaking: check_no_leak(leaking, TRAIN_COUNTS)):
        with pytest.raises(LeaError, match=rf"^leak: {message}: delete data/interactions"):
            check(sequences)


def test_popularity_from_held_out_events_is_a_leak() -> None:
    with pytest.raises(LeaError, match=r"^leak: train_count of item 0 does not count its training events alone"):
        check_no_leak(GOOD, np.bincount(GOOD.items, minlength=4))


@pytest.mark.parametrize(
    ("user", "position", "what"),
    [(0, 2, "a valid event"), (1, 2, "a test event"), (0, 4, "no event"), (1, -1, "no event")],
)
def test_training_on_a_held_out_event_is_a_leak(user: int, position: int, what: str) -> None:
    """Position 4 of user 0 would be the first event of user 1, which is a training event."""
    users, positions = np.array([0, user, 1]), np.array([0, position, 0])
    with pytest.raises(
        LeaError, match=rf"^leak: user {user} position {position} is {what}, not a training event \(1 such"
    ):
        check_trained_on(GOOD, users, positions)
