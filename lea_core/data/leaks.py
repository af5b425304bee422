"""Leak checks: nothing that the LE or a learner trains on is a validation or test event.

In: all users' sequences with their split labels. Out: nothing, or a `LeaError` that stops the run.

All training code takes its events from `training_events`, which checks them against their split labels.
"""

from __future__ import annotations

import numpy as np

from lea_core.common.errors import LeaError
from lea_core.data.sequences import SPLITS, Sequences, batches

# Events checked at a time, so that memory does not grow with the log.
CHECKED_AT_ONCE = 2**20


def training_events(sequences: Sequences, first_user: int = 0) -> Sequences:
    """The training events of all users, checked. Users keep their index and positions keep theirs.

    first_user: number of the first user in messages, for sequences that are a part of the data.

    Raises `LeaError` where a held-out event is among them or precedes one of them.
    """
    check_order(sequences, first_user)
    train = sequences.train()
    check_trained_on(sequences, *train.users_and_positions(), first_user)
    return train


def check_order(sequences: Sequences, first_user: int = 0) -> None:
    """Raise `LeaError` where a user's training event follows a held-out one, or a validation event a test one.

    So no history of an earlier split contains an event of a later one.
    """
    back = np.flatnonzero(np.diff(sequences.split) < 0) + 1
    users = np.searchsorted(sequences.offsets, back, side="right") - 1
    within = np.flatnonzero(back > sequences.offsets[users])  # not where another user begins
    if len(within):
        row, user = back[within[0]], users[within[0]]
        kind, before = SPLITS[sequences.split[row]], SPLITS[sequences.split[row - 1]]
        raise LeaError(
            f"leak: user {first_user + user} has a {kind} event at position {row - sequences.offsets[user]} after a"
            f" {before} event: delete data/interactions and run `dvc repro`"
        )


def check_no_leak(sequences: Sequences, train_counts: np.ndarray) -> None:
    """Raise `LeaError` where a held-out event could reach training through the artifacts of preprocess themselves.

    Checked: the order of the splits, and that each item's training count, (I,), counts its training events alone.
    """
    check_order(sequences)
    is_train = sequences.split == SPLITS.index("train")
    wrong = np.flatnonzero(np.bincount(sequences.items[is_train], minlength=sequences.num_items) != train_counts)
    if len(wrong):
        raise LeaError(
            f"leak: train_count of item {wrong[0]} does not count its training events alone:"
            " delete data/interactions and run `dvc repro`"
        )


def check_trained_on(sequences: Sequences, users: np.ndarray, positions: np.ndarray, first_user: int = 0) -> None:
    """Raise `LeaError` naming user and position where one of the events that somebody trains on is held out.

    sequences: all users' sequences, all splits.  users, positions: (N,) each, the events that are trained on: as
    history, as target or as annotated state.
    """
    wrong = [
        chunk.start + np.flatnonzero(_not_training(sequences, users[chunk], positions[chunk]))
        for chunk in batches(len(users), CHECKED_AT_ONCE)
    ]
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *wrong])
    if len(rows):
        user, position = users[rows[0]], positions[rows[0]]
        inside = 0 <= position < np.diff(sequences.offsets)[user]
        what = f"a {SPLITS[sequences.split[sequences.offsets[user] + position]]} event" if inside else "no event"
        raise LeaError(
            f"leak: user {first_user + user} position {position} is {what}, not a training event ({len(rows)} such):"
            " delete what was made from it and run `dvc repro`"
        )


def _not_training(sequences: Sequences, users: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Mark, with one bool per (user, position), those that are held out or no event at all."""
    starts = sequences.offsets[users]
    outside = (positions < 0) | (positions >= sequences.offsets[users + 1] - starts)
    marked: np.ndarray = outside | (sequences.split[np.where(outside, 0, starts + positions)] != SPLITS.index("train"))
    return marked
