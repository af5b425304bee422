"""Off-policy estimates: what reward a target policy would have got, from the log of another, the behaviour policy.

In: N logged events, each with its reward r, the probability pi that the target policy takes the logged action, and the
probability beta with which it was taken, (N,) all; for the doubly robust estimate a reward model's value q of the
logged action, and its mean `expected` over the target policy's actions. Out: `Estimate`s, each a ratio of two sums over
events. With w = pi / beta:

    IPS           sum w r / N                          Horvitz & Thompson, JASA 1952
    clipped IPS   sum min(w, clip) r / N               Ionides, J. Comp. Graph. Stat. 2008
    SNIPS         sum w r / sum w                      Swaminathan & Joachims, NIPS'15, eq. 11
    DR            sum (expected + w (r - q)) / N       Dudik, Langford & Li, ICML'11, eq. 1; w may be clipped here too

Units: those of the reward, for one event. Weights and effective sample sizes have none; an effective sample size is a
number of events.

Assumptions. Contexts are drawn as they will be, and do not depend on what the target policy did before: each event is
a bandit's, so what a recommendation changes later does not count. beta is the true one, and above 0 wherever pi is. No
unlogged cause moves both action and reward. Then IPS is unbiased, SNIPS consistent, DR unbiased whatever the reward
model is (and, where the reward model is right, with a wrong beta too). Clipping biases by what it cuts off: downwards,
for rewards that are not negative. Here beta is an estimate (behaviour.py), so none of this is given:
docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1_999


@dataclass(frozen=True)
class Estimate:
    """sum top / sum bottom over N events, and the weights behind it; (N,) all.

    clipped_share is the share of the events whose weight was cut.
    """

    top: np.ndarray
    bottom: np.ndarray
    weights: np.ndarray
    clipped_share: float = 0.0

    @property
    def value(self) -> float:
        """The estimate itself; NaN where no event has any weight."""
        return float(_ratio(self.top.sum(), self.bottom.sum()))

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2 (Kish, 1965): so many events of equal weight would be worth as much; 0 without weight."""
        square = float((self.weights**2).sum())
        return float(self.weights.sum()) ** 2 / square if square else 0.0


def importance_weights(target: np.ndarray, behaviour: np.ndarray) -> np.ndarray:
    """Weights pi / beta of probabilities, (N,) all. Raises ValueError where one is none, or where beta is 0."""
    if target.shape != behaviour.shape or target.ndim != 1 or not len(target):
        raise ValueError(f"probabilities of {target.shape} and {behaviour.shape} events: they must be the same ones")
    if not ((target >= 0.0) & (target <= 1.0)).all() or not ((behaviour > 0.0) & (behaviour <= 1.0)).all():
        raise ValueError("a probability is out of range: pi must be within [0, 1], beta within (0, 1]")
    weights: np.ndarray = target / behaviour
    return weights


def ips(weights: np.ndarray, rewards: np.ndarray, clip: float = np.inf) -> Estimate:
    """Inverse propensity score; with a clip, clipped IPS. weights, rewards: (N,)."""
    cut = np.minimum(weights, clip)
    return Estimate(cut * rewards, np.ones_like(cut), cut, _cut_share(weights, clip))


def snips(weights: np.ndarray, rewards: np.ndarray) -> Estimate:
    """Self-normalised inverse propensity score. weights, rewards: (N,). It is c where all rewards are c."""
    return Estimate(weights * rewards, weights, weights)


def doubly_robust(
    weights: np.ndarray, rewards: np.ndarray, q: np.ndarray, expected: np.ndarray, clip: float = np.inf
) -> Estimate:
    """The reward model's mean under the target policy, corrected by its weighted errors on the log; (N,) all."""
    cut = np.minimum(weights, clip)
    return Estimate(expected + cut * (rewards - q), np.ones_like(cut), cut, _cut_share(weights, clip))


def intervals(estimates: Sequence[Sequence[Estimate]], users: np.ndarray, seed: int) -> np.ndarray:
    """95 % percentile bootstrap over users of E estimates, each the mean of S of other trainings: (E, 2) low and high.

    users: (N,) whose each event is; the events of a user are drawn together. Every estimate, in every call with the
    same seed and users, sees the same draws. A draw that leaves an estimate without weight does not count for it.

    The interval is about which users came. beta, the reward model and the policies are held fixed, and with few
    effective events it is too narrow: the users with the large weights that would widen it are not in the sample.
    """
    owners, index = np.unique(users, return_inverse=True)
    size, flat = len(owners), [one for trainings in estimates for one in trainings]
    sums = np.stack([np.bincount(index, part, size) for one in flat for part in (one.top, one.bottom)], axis=1)
    generator = np.random.default_rng(seed)
    drawn = np.empty((RESAMPLES, len(flat)))  # (R, E * S)
    for row in range(RESAMPLES):
        counts = np.bincount(generator.integers(0, size, size), minlength=size)
        total = counts @ sums
        drawn[row] = _ratio(total[0::2], total[1::2])
    means = drawn.reshape(RESAMPLES, len(estimates), -1).mean(axis=2)
    return np.stack([_quantiles(column) for column in means.T])


def _quantiles(values: np.ndarray) -> np.ndarray:
    kept = values[~np.isnan(values)]
    return np.quantile(kept, [0.025, 0.975]) if len(kept) else np.full(2, np.nan)


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    result = np.full(np.shape(top), np.nan)
    np.divide(top, bottom, out=result, where=np.asarray(bottom) > 0.0)
    return result


def _cut_share(weights: np.ndarray, clip: float) -> float:
    return float((weights > clip).mean())
