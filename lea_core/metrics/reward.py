"""Metrics of rewards: accuracy against negatives, calibration, correlation with popularity.

In: rewards of the logged items (N,) and of the negatives of each (N, A). Out: numbers, and a reliability curve.

`pairwise_accuracy` compares a logged reward with the negatives of its own state, `auc` with the negatives of all
states. So `auc` also tests whether rewards have the same scale in different states, which a critic that learns from all
of them assumes.

The reward model is that of Bradley and Terry: of two actions the first is the logged one with probability
sigmoid(difference). If the logged action always came first, the answer would be known, so `reliability` counts each
pair in both orders; the curve is point-symmetric about (1/2, 1/2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lea_core.common.errors import LeaError


def pairwise_accuracy(logged: np.ndarray, negatives: np.ndarray) -> float:
    """Share of (logged, own negative) pairs in which the logged reward is the higher; equal ones count half."""
    _check(logged, negatives)
    return float(((logged[:, None] > negatives) + 0.5 * (logged[:, None] == negatives)).mean())


def auc(logged: np.ndarray, negatives: np.ndarray) -> float:
    """Probability that a random logged reward is above a random negative one of any state; equal ones count half."""
    _check(logged, negatives)
    ordered = np.sort(negatives, axis=None)
    below = np.searchsorted(ordered, logged, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(ordered, logged, side="right").sum(dtype=np.int64)
    return float((int(below) + int(not_above)) / (2 * len(logged) * negatives.size))


def popularity_correlation(rewards: np.ndarray, items: np.ndarray, counts: np.ndarray) -> float:
    """Spearman's correlation of rewards with their items' training counts; zero if either is constant.

    rewards, items: of one shape, such as (N,) or (N, A). counts: (I,).
    """
    reward, count = average_ranks(rewards.ravel()), average_ranks(counts[items].ravel())
    reward, count = reward - reward.mean(), count - count.mean()
    spread = float(np.sqrt((reward**2).sum() * (count**2).sum()))
    return float((reward * count).sum()) / spread if spread > 0.0 else 0.0


def average_ranks(values: np.ndarray) -> np.ndarray:
    """1-based ranks from the lowest, equal values sharing their mean: (N,) -> (N,) float64."""
    _, which, times = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(times) - (times - 1) / 2.0
    return np.asarray(ranks[which])


def reliability(logged: np.ndarray, negatives: np.ndarray, bins: int = 10) -> dict[str, Any]:
    """Predicted probabilities and observed frequencies, over pairs in both orders, by bins of equal width.

    {"curve": [{"predicted", "observed", "count"}, ...], "calibration_error": e}: the curve has the bins that are not
    empty; e is the expected calibration error, the mean over all pairs of their bin's |predicted - observed|.
    """
    _check(logged, negatives)
    difference = (logged[:, None] - negatives).astype(np.float64).ravel()
    difference = np.concatenate([difference, -difference])
    right = np.arange(len(difference)) < len(difference) // 2
    predicted = 0.5 * (1.0 + np.tanh(0.5 * difference))  # the sigmoid; its exp would overflow
    which = np.minimum((predicted * bins).astype(np.int64), bins - 1)
    count = np.bincount(which, minlength=bins)
    held = count > 0
    mean = np.bincount(which, weights=predicted, minlength=bins)[held] / count[held]
    observed = np.bincount(which, weights=right, minlength=bins)[held] / count[held]
    rows = zip(mean.tolist(), observed.tolist(), count[held].tolist(), strict=True)
    curve = [{"predicted": p, "observed": o, "count": c} for p, o, c in rows]
    error = float((count[held] * np.abs(mean - observed)).sum() / count.sum())
    return {"curve": curve, "calibration_error": error}


def _check(logged: np.ndarray, negatives: np.ndarray) -> None:
    if not logged.size or not negatives.size:
        raise LeaError("there is no reward to judge: give events that another event of the user precedes")
    if np.isnan(logged).any() or np.isnan(negatives).any():
        raise LeaError("the rewards hold NaN: train the LE again with a lower finetune_le.learning_rate")
