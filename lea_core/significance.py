"""Comparing two systems user by user, to see whether the difference is more than chance.

In: a score of every user under each system, (U,) both, in the same order. Out: the mean difference with its bootstrap
interval over users, two p-values, an effect size, and how many users are better and worse off.

  randomisation  of the mean, by the differences' signs (Smucker et al., CIKM'07)
  Wilcoxon       signed-rank (1945): users without a difference are left out, equal ones share their mean rank
  d_z            mean of the paired differences / their standard deviation (Cohen, 1988)
  Holm           (1979) corrects the p-values of a family of tests for their number

Tests and interval are scipy's. The users are the sample. The seeds are not: where a user's score is a mean over seeds,
the question is about these seeds, and more of them only make the score less noisy.

Differences are rounded to DECIMALS: what two sums of the same numbers differ by in their last digits is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, permutation_test, wilcoxon

RESAMPLES = 9_999
AT_ONCE = 200  # resamples held in memory at a time, fewer where there are so many users that they have more than
VALUES_AT_ONCE = 2**24  # differences
DECIMALS = 12


@dataclass(frozen=True)
class Comparison:
    """Mean difference of the scores, its 95 % interval, and what speaks for it.

    p_randomisation: the chance of a mean as far from zero where signs were coins.  p_wilcoxon: the same of the
    signed-rank sum.  effect_size: d_z, infinite where all users have one difference.  better, worse: numbers of users.
    """

    difference: float
    low: float
    high: float
    p_randomisation: float
    p_wilcoxon: float
    effect_size: float
    better: int
    worse: int


def compare(scores: np.ndarray, others: np.ndarray, generator: np.random.Generator) -> Comparison:
    """`scores` minus `others`, (U,) each. Raises ValueError where their lengths differ or one is not finite.

    Without any difference the interval is [0, 0], the effect 0, and p is 1. A single user has no interval: NaN.
    """
    if scores.shape != others.shape or scores.ndim != 1 or not len(scores):
        raise ValueError(f"scores of {scores.shape} and {others.shape} users: they must be the same users")
    difference = np.round(scores - others, DECIMALS)
    if not np.isfinite(difference).all():
        raise ValueError("a score is not finite")
    if not difference.any():
        return Comparison(0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0, 0)
    batch = max(1, min(AT_ONCE, VALUES_AT_ONCE // len(difference)))
    common = {"n_resamples": RESAMPLES, "batch": batch, "rng": generator, "vectorized": True}
    test = permutation_test((difference,), np.mean, permutation_type="samples", **common)
    low, high = np.nan, np.nan
    if len(difference) > 1:
        low, high = bootstrap((difference,), np.mean, method="percentile", **common).confidence_interval
    return Comparison(
        difference=float(difference.mean()),
        low=float(low),
        high=float(high),
        p_randomisation=float(test.pvalue),
        p_wilcoxon=float(wilcoxon(difference, zero_method="wilcox").pvalue),
        effect_size=standardised(difference),
        better=int((difference > 0).sum()),
        worse=int((difference < 0).sum()),
    )


def user_means(scores: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Scores of events and whose events they are, (N,) both -> mean score of each user, in the users' order: (U,)."""
    _, owner = np.unique(users, return_inverse=True)
    means: np.ndarray = np.bincount(owner, weights=scores) / np.bincount(owner)
    return means


def standardised(difference: np.ndarray) -> float:
    """d_z of paired differences (U,): their mean over their standard deviation (of a sample, n - 1)."""
    mean = float(difference.mean())
    deviation = float(difference.std(ddof=1)) if (difference != difference[0]).any() else 0.0
    if deviation:
        return mean / deviation
    return float(np.copysign(np.inf, mean)) if mean else 0.0


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of a family of tests, each corrected for the number of them (Holm, 1979), in their order.

    In ascending order the i-th of m, from 0, is multiplied by m - i, is no smaller than those before it, and at most 1.
    """
    order = np.argsort(p, kind="stable")
    ascending = np.asarray(p, dtype=np.float64)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(ascending), 1.0)
    return [float(value) for value in corrected]
