"""Comparing two systems user by user, to see whether the difference is more than chance.

In: a score of every user under each system, (U,) both, in the same order. Out: the mean difference, its bootstrap
interval over users, and the p-value of a paired randomisation test (Smucker et al., CIKM'07), both by scipy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, permutation_test

RESAMPLES = 9_999
AT_ONCE = 200  # resamples held in memory at a time


@dataclass(frozen=True)
class Comparison:
    """Mean difference of the scores, its 95 % interval, and the chance of one as large where signs were coins."""

    difference: float
    low: float
    high: float
    p: float


def compare(scores: np.ndarray, others: np.ndarray, generator: np.random.Generator) -> Comparison:
    """`scores` minus `others`, (U,) each. Raises ValueError where their lengths differ or one is not finite.

    Without any difference the interval is [0, 0] and p is 1.
    """
    if scores.shape != others.shape or scores.ndim != 1 or not len(scores):
        raise ValueError(f"scores of {scores.shape} and {others.shape} users: they must be the same users")
    difference = scores - others
    if not np.isfinite(difference).all():
        raise ValueError("a score is not finite")
    if not difference.any():
        return Comparison(0.0, 0.0, 0.0, 1.0)
    common = {"n_resamples": RESAMPLES, "batch": AT_ONCE, "rng": generator, "vectorized": True}
    test = permutation_test((difference,), np.mean, permutation_type="samples", **common)
    interval = bootstrap((difference,), np.mean, method="percentile", **common).confidence_interval
    return Comparison(float(difference.mean()), float(interval.low), float(interval.high), float(test.pvalue))
