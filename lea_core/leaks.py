"""Leak checks: nothing that the LE or a learner trains on is a validation or test event.

In: all users' sequences with their split labels. Out: nothing, or a `LeaError` that stops the run.

Whoever trains takes its events from `training_events`, which checks them against the labels it was given.
"""

from __future__ import annotations

import numpy as np

from lea_core.errors import LeaError
from lea_core.sequences import SPLITS, Sequences


def training_events(sequences: Sequences) -> Sequences:
    """The training events of all users, checked. Users keep their index and positions keep theirs.

    Raises `LeaError` where a held-out event is among them or stands before one of them.
    """
    check_order(sequences)
    train = sequences.train()
    check_trained_on(sequences, *train.users_and_positions())
    return train


def check_order(sequences: Sequences) -> None:
    """Raise `LeaError` where a user's training event follows a held-out one, or a validation event a test one.

    Then no history of an earlier split holds an event of a later one.
    """
    users, positions = sequences.users_and_positions()
    back = np.flatnonzero((np.diff(sequences.split) < 0) & (np.diff(users) == 0)) + 1
    if len(back):
        row = back[0]
        kind, before = SPLITS[sequences.split[row]], SPLITS[sequences.split[row - 1]]
        raise LeaError(
            f"leak: user {users[row]} has a {kind} event at position {positions[row]} after a {before} event:"
            " delete data/interactions and run `dvc repro`"
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


def check_trained_on(sequences: Sequences, users: np.ndarray, positions: np.ndarray) -> None:
    """Raise `LeaError` naming user and position where one of the events that somebody trains on is held out.

    sequences: all users' sequences, all splits.  users, positions: (N,) each, the events that are trained on, be it as
    history, as target or as annotated state.
    """
    outside = (positions < 0) | (positions >= np.diff(sequences.offsets)[users])
    rows = np.where(outside, 0, sequences.offsets[users] + positions)
    wrong = np.flatnonzero(outside | (sequences.split[rows] != SPLITS.index("train")))
    if len(wrong):
        user, position = users[wrong[0]], positions[wrong[0]]
        what = "no event" if outside[wrong[0]] else f"a {SPLITS[sequences.split[rows[wrong[0]]]]} event"
        raise LeaError(
            f"leak: user {user} position {position} is {what}, not a training event ({len(wrong)} such):"
            " delete what was made from it and run `dvc repro`"
        )
