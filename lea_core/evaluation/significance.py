"""Significance tests: whether two systems differ on the same events by more than chance.

In: each user's mean score under each training of each system, (S, U) and (S', U), users in the same order, and how many
events each user has, (U,). Out: the difference of the means over all events, as in every table, with two intervals,
three p-values, an effect size, and how many users are better and worse off.

The events of a user are not independent, so the tests resample users, each with all events. The difference is a ratio:
the sum of the users' summed differences divided by the number of their events (Cochran, Sampling Techniques, 3rd ed.,
section 6). The bootstrap draws users with their events; the sign tests flip a user's summed difference. If all users
have the same number of events, as with leave-one-out, this is the mean over users.

There are two questions. First: would other users show the difference, with *these* trainings? A user's score is then
the mean over the S trainings; the answers are a bootstrap over users, the randomisation test and Wilcoxon's test.
Second: would other users *and other seeds* show it? `over_users_and_seeds` answers this. A difference that is
significant in the first sense only may come from the seeds.

  randomisation  of the mean, by the differences' signs (Smucker et al., CIKM'07)
  Wilcoxon       signed-rank (1945): users without a difference are left out, equal ones share their mean rank
  d_z            mean of the paired differences / their standard deviation (Cohen, 1988)
  Holm           (1979) corrects the p-values of a family of tests for their number
  with seeds     t, degrees of freedom of Satterthwaite (1946), as in Welch's test; that the seeds' variance counts:
                 Bouthillier et al., MLSys'21, arXiv 2103.03098

The randomisation test is exact if few users differ. Otherwise it draws so many signs that p can be below .01 after
Holm's correction for a hundred comparisons; scipy's own test would need minutes for that. The other tests are scipy's.

Differences are rounded to DECIMALS, because two sums of the same numbers may differ in their last digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, t, wilcoxon

RESAMPLES = 9_999  # of the bootstrap
SIGNS = 100_000  # of the randomisation test
AT_ONCE = 200  # resamples in memory at a time, but no more than VALUES_AT_ONCE differences
VALUES_AT_ONCE = 2**24
DECIMALS = 12


@dataclass(frozen=True)
class Comparison:
    """Mean difference of the scores, its 95 % intervals, p-values and effect size.

    difference: mean over events.  low, high: over users.  p_randomisation: probability of a mean at least as far from
    zero if the signs of the users' summed differences were random.  p_wilcoxon: the same for their signed-rank sum.
    *_with_seeds: over users and seeds; NaN if a system has one training.  effect_size: d_z of the users' summed
    differences, infinite if all are equal.  better, worse: numbers of users.
    """

    difference: float
    low: float
    high: float
    p_randomisation: float
    p_wilcoxon: float
    low_with_seeds: float
    high_with_seeds: float
    p_with_seeds: float
    effect_size: float
    better: int
    worse: int


def compare(scores: np.ndarray, others: np.ndarray, events: np.ndarray, generator: np.random.Generator) -> Comparison:
    """`scores` (S, U) minus `others` (S', U); events: (U,) of each user.

    Raises ValueError where their users differ or one is not finite. Without any difference the interval is [0, 0], the
    effect 0, and p is 1. A single user has no interval: NaN.
    """
    if scores.ndim != 2 or others.ndim != 2 or scores.shape[1] != others.shape[1] or not scores.size * others.size:
        raise ValueError(f"scores of {scores.shape} and {others.shape}: (S, U) both, they must be the same users")
    weight = events / events.mean()  # (U,): the mean over users of what is weighted is the mean over events
    difference = np.round((scores.mean(axis=0) - others.mean(axis=0)) * weight, DECIMALS)
    if not np.isfinite(difference).all():
        raise ValueError("a score is not finite")
    with_seeds = over_users_and_seeds(scores, others, events)
    if not difference.any():
        return Comparison(0.0, 0.0, 0.0, 1.0, 1.0, *with_seeds, 0.0, 0, 0)
    low, high = _bootstrap(difference, weight, generator) if len(difference) > 1 else (np.nan, np.nan)
    return Comparison(
        difference=float(difference.mean()),
        low=low,
        high=high,
        p_randomisation=randomisation(difference, generator),
        p_wilcoxon=float(wilcoxon(difference, zero_method="wilcox").pvalue),
        low_with_seeds=with_seeds[0],
        high_with_seeds=with_seeds[1],
        p_with_seeds=with_seeds[2],
        effect_size=standardised(difference),
        better=int((difference > 0).sum()),
        worse=int((difference < 0).sum()),
    )


def _bootstrap(difference: np.ndarray, weight: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
    """95 % interval of sum of `difference` / sum of `weight`, (U,) both, with users resampled."""
    batch = max(1, min(AT_ONCE, VALUES_AT_ONCE // len(difference)))
    common = {"n_resamples": RESAMPLES, "batch": batch, "rng": generator, "vectorized": True, "method": "percentile"}
    low, high = bootstrap((difference, weight), _ratio, paired=True, **common).confidence_interval
    return float(low), float(high)


def _ratio(top: np.ndarray, bottom: np.ndarray, axis: int = -1) -> np.ndarray:
    ratio: np.ndarray = top.sum(axis=axis) / bottom.sum(axis=axis)
    return ratio


def randomisation(difference: np.ndarray, generator: np.random.Generator) -> float:
    """Probability of a mean of these (U,) differences that is at least as far from zero, if signs are random.

    n users differ. If 2^n is at most SIGNS, all combinations of their signs are counted; else SIGNS random ones, with
    the observed one among them (Phipson and Smyth, 2010).
    """
    differing = difference[difference != 0.0]  # for most users the difference is zero, and a sign changes nothing
    total = float(differing.sum())
    far = drawn = 0
    for plus in _signs(len(differing), generator):
        sums = 2.0 * (plus @ differing) - total
        far += int((np.abs(sums) >= abs(total) * (1.0 - 1e-9)).sum())  # equal but for rounding
        drawn += len(plus)
    return far / drawn


def _signs(count: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Which of `count` signs are plus, (R, count) of 0 and 1: all ways, or all plus and SIGNS - 1 random ways."""
    if count < 32 and 2**count <= SIGNS:
        ways = np.arange(2**count, dtype=">u4").view(np.uint8).reshape(-1, 4)
        yield np.unpackbits(ways, axis=1)[:, 32 - count :]
        return
    yield np.ones((1, count), dtype=np.uint8)
    at_once = max(1, VALUES_AT_ONCE // count)
    for start in range(1, SIGNS, at_once):
        bits = generator.integers(0, 256, size=(min(at_once, SIGNS - start), -(-count // 8)), dtype=np.uint8)
        yield np.unpackbits(bits, axis=1, count=count)


def over_users_and_seeds(scores: np.ndarray, others: np.ndarray, events: np.ndarray) -> tuple[float, float, float]:
    """Low and high of the 95 % interval of the difference, and its p, over other users and other seeds.

    scores: (S, U), others: (S', U), events: (U,) of each user. The difference d of the means over events has the
    variance v = v_users + v_scores + v_others: that of a ratio, of the users' w_u (d_u - d) / U, where w_u is a user's
    events by the mean number, and that of each system's means by seed / S. Then d / sqrt(v) is nearly t-distributed
    with v^2 / (v_users^2 / (U - 1) + v_scores^2 / (S - 1) + v_others^2 / (S' - 1)) degrees of freedom. The interaction
    of users and seeds counts in both, so the interval is too wide rather than too narrow. With one training of either
    system, or one user, all three are NaN.
    """
    if min(*scores.shape, *others.shape) < 2:
        return np.nan, np.nan, np.nan
    weight = events / events.mean()
    users = (scores.mean(axis=0) - others.mean(axis=0)) * weight
    users += users.mean() * (1.0 - weight)  # zero if all users have the same number of events
    means = (users, *((system * weight).mean(axis=1) for system in (scores, others)))
    samples = [np.round(one, DECIMALS) for one in means]
    variances = np.array([sample.var(ddof=1) / len(sample) for sample in samples])
    difference, variance = float(samples[0].mean()), float(variances.sum())
    if variance == 0.0:
        return difference, difference, float(difference == 0.0)
    freedom = variance**2 / sum(v**2 / (len(sample) - 1) for v, sample in zip(variances, samples, strict=True))
    error = variance**0.5
    half = float(t.ppf(0.975, freedom)) * error
    return difference - half, difference + half, float(2.0 * t.sf(abs(difference) / error, freedom))


def user_means(scores: np.ndarray, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of events (S, N) and their users (N,) -> mean score (S, U) and events (U,) of each user, in order."""
    _, owner, events = np.unique(users, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(owner, weights=row, minlength=len(events)) for row in scores])
    return sums / events, events


def standardised(difference: np.ndarray) -> float:
    """d_z of paired differences (U,): their mean over their standard deviation (of a sample, n - 1)."""
    mean = float(difference.mean())
    deviation = float(difference.std(ddof=1)) if (difference != difference[0]).any() else 0.0
    if deviation:
        return mean / deviation
    return float(np.copysign(np.inf, mean)) if mean else 0.0


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of a family of tests, corrected for their number (Holm, 1979), in the same order.

    In ascending order the i-th of m, from 0, is multiplied by m - i, is no smaller than those before it, and at most 1.
    """
    order = np.argsort(p, kind="stable")
    ascending = np.asarray(p, dtype=np.float64)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(ascending), 1.0)
    return [float(value) for value in corrected]
