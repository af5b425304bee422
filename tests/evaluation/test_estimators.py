"""Off-policy estimators: by hand, unbiased on an enumerated bandit, equal to plain loops over the formulas."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lea_core.evaluation.off_policy.estimators import Estimate, doubly_robust, importance_weights, intervals, ips, snips

SEEDS = st.integers(0, 10**6)


def test_estimates_by_hand() -> None:
    """pi .5 .2 .9, beta .25 .4 .1: weights 2, 1/2, 9; cut at 4 they are 2, 1/2, 4."""
    weights = importance_weights(np.array([0.5, 0.2, 0.9]), np.array([0.25, 0.4, 0.1]))
    rewards, q, expected = np.array([1.0, 0.0, 0.5]), np.array([0.5, 0.5, 0.5]), np.array([0.6, 0.2, 0.1])
    assert ips(weights, rewards).value == pytest.approx((2 + 0 + 4.5) / 3)
    assert ips(weights, rewards, clip=4.0).value == pytest.approx((2 + 0 + 2) / 3)
    assert snips(weights, rewards).value == pytest.approx(6.5 / 11.5)
    assert doubly_robust(weights, rewards, q, expected).value == pytest.approx((0.9 + 2 * 0.5 - 0.5 * 0.5) / 3)
    assert doubly_robust(weights, rewards, 0 * q, 0 * expected, clip=4.0).value == pytest.approx(4 / 3)
    assert ips(weights, rewards).effective_sample_size == pytest.approx(11.5**2 / (4 + 0.25 + 81))
    assert ips(weights, rewards, clip=4.0).effective_sample_size == pytest.approx(6.5**2 / (4 + 0.25 + 16))
    assert (ips(weights, rewards).clipped_share, ips(weights, rewards, clip=4.0).clipped_share) == (0.0, 1 / 3)


def test_effective_sample_sizes_at_the_ends() -> None:
    ones = np.ones(5)
    assert ips(0.3 * ones, ones).effective_sample_size == pytest.approx(5.0)
    assert ips(7.0 * np.eye(5)[2], ones).effective_sample_size == pytest.approx(1.0)
    nothing = snips(0.0 * ones, ones)
    assert nothing.effective_sample_size == 0.0
    assert np.isnan(nothing.value)


# ---- a bandit of 3 contexts and 4 actions, whose every outcome can be gone through


class Bandit:
    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.contexts = rng.dirichlet(np.ones(3))
        self.pi, self.beta = rng.dirichlet(np.ones(4), 3), rng.dirichlet(2 * np.ones(4), 3) * 0.9 + 0.025
        self.success = rng.random((3, 4))  # a reward is 1 so often, else 0
        self.value = float((self.contexts[:, None] * self.pi * self.success).sum())
        self.other = rng.random((3, 4))  # a reward model that knows nothing

    def outcomes(self) -> list[tuple[int, int, int, float]]:
        """Context, action, reward and their probability under the behaviour policy."""
        return [
            (x, a, r, self.contexts[x] * self.beta[x, a] * (self.success[x, a] if r else 1 - self.success[x, a]))
            for x, a, r in itertools.product(range(3), range(4), (0, 1))
        ]

    def estimates(self, log: list[tuple[int, int, int, float]], clip: float = np.inf) -> dict[str, float]:
        x, a, r = (np.array(column) for column in list(zip(*log, strict=True))[:3])
        weights = importance_weights(self.pi[x, a], self.beta[x, a])
        expected = (self.pi * self.other).sum(axis=1)[x]
        true = (self.pi * self.success).sum(axis=1)[x]
        return {
            "ips": ips(weights, r).value,
            "clipped": ips(weights, r, clip).value,
            "dr": doubly_robust(weights, r, self.other[x, a], expected).value,
            "dr wrong beta": doubly_robust(3.0 * weights**2, r, self.success[x, a], true, clip).value,
            "weight": ips(weights, np.ones(len(r))).value,
        }


@settings(max_examples=8, deadline=None)
@given(SEEDS)
def test_unbiased_over_all_logs_of_two_events(seed: int) -> None:
    """Exact expectations: IPS and DR are the true value, DR with a wrong beta too where its rewards are right."""
    bandit, clip = Bandit(seed), 1.5
    mean: dict[str, float] = {}
    for log in itertools.product(bandit.outcomes(), repeat=2):
        for name, value in bandit.estimates(list(log), clip).items():
            mean[name] = mean.get(name, 0.0) + log[0][3] * log[1][3] * value
    for name in ("ips", "dr", "dr wrong beta"):
        assert mean[name] == pytest.approx(bandit.value, abs=1e-12)
    assert mean["weight"] == pytest.approx(1.0, abs=1e-12)
    kept = np.minimum(bandit.pi, clip * bandit.beta)  # of clipped IPS, what is cut off is missing and no more
    assert mean["clipped"] == pytest.approx(float((bandit.contexts[:, None] * kept * bandit.success).sum()), abs=1e-12)


# ---- an independent implementation


def in_loops(
    pi: list[float], beta: list[float], reward: list[float], q: list[float], expected: list[float], clip: float
) -> dict[str, float]:
    """The formulas of Swaminathan & Joachims (2015) and Dudik et al. (2011), event by event."""
    n = len(pi)
    total = cut_total = weight_total = square = correction = direct = 0.0
    cut = 0
    for i in range(n):
        w = pi[i] / beta[i]
        small = clip if w > clip else w
        cut += w > clip
        total += reward[i] * w
        cut_total += reward[i] * small
        weight_total += w
        square += w * w
        direct += expected[i]
        correction += small * (reward[i] - q[i])
    return {
        "ips": total / n,
        "clipped": cut_total / n,
        "snips": total / weight_total,
        "dr": direct / n + correction / n,
        "size": weight_total * weight_total / square,
        "share": cut / n,
    }


@given(SEEDS, st.integers(1, 40), st.floats(0.1, 20.0))
def test_equal_to_plain_loops(seed: int, count: int, clip: float) -> None:
    rng = np.random.default_rng(seed)
    pi, beta = rng.random(count) ** 3 + 1e-9, rng.random(count) * 0.99 + 0.01
    reward, q, expected = rng.normal(size=(3, count))
    weights = importance_weights(pi.clip(max=1.0), beta)
    clipped, found = ips(weights, reward, clip), ips(weights, reward)
    assert in_loops(
        pi.clip(max=1.0).tolist(), beta.tolist(), reward.tolist(), q.tolist(), expected.tolist(), clip
    ) == pytest.approx(
        {
            "ips": found.value,
            "clipped": clipped.value,
            "snips": snips(weights, reward).value,
            "dr": doubly_robust(weights, reward, q, expected, clip).value,
            "size": found.effective_sample_size,
            "share": clipped.clipped_share,
        },
        rel=1e-9,
        abs=1e-12,
    )


# ---- intervals


def test_intervals_are_those_of_the_mean() -> None:
    """One event a user: mean ± 1.96 standard errors. Each event five times: the same users, so the same interval."""
    rewards = np.random.default_rng(0).normal(3.0, 2.0, 400)
    once = ips(np.ones(400), rewards)
    low, high = intervals([[once]], np.arange(400), 0)[0]
    margin = 1.96 * rewards.std() / 20
    assert (low, high) == pytest.approx((rewards.mean() - margin, rewards.mean() + margin), abs=0.1 * margin)
    often = ips(np.ones(2000), np.repeat(rewards, 5))
    assert intervals([[often]], np.repeat(np.arange(400), 5) + 7, 0)[0] == pytest.approx((low, high))


def test_estimates_and_trainings_share_their_draws() -> None:
    rng = np.random.default_rng(1)
    one, two = (snips(weights, rng.random(30)) for weights in rng.random((2, 30)))
    users = np.sort(rng.integers(0, 12, 30))
    alone = intervals([[one]], users, 5)
    assert np.array_equal(intervals([[one]], users, 5), alone)
    assert np.allclose(intervals([[one], [two]], users, 5)[:1], alone, rtol=1e-12)
    assert np.allclose(intervals([[one, one]], users, 5), alone, rtol=1e-12)
    assert not np.allclose(intervals([[one]], users, 6), alone, rtol=1e-6)
    constant = snips(rng.random(30), np.full(30, 0.25))  # of equal rewards SNIPS is that reward
    assert intervals([[constant]], users, 5)[0] == pytest.approx([0.25, 0.25])


def test_draws_without_weight_do_not_count() -> None:
    rare = Estimate(np.array([1.0, 0.0]), np.array([2.0, 0.0]), np.array([2.0, 0.0]))
    assert intervals([[rare]], np.array([0, 1]), 0)[0].tolist() == [0.5, 0.5]
    never = snips(np.zeros(2), np.ones(2))
    assert np.isnan(intervals([[never]], np.array([0, 1]), 0)).all()


@pytest.mark.parametrize(
    ("pi", "beta"),
    [([0.5], [0.0]), ([1.1], [0.5]), ([np.nan], [0.5]), ([0.5], [np.nan]), ([0.5, 0.5], [0.5]), ([], [])],
)
def test_what_is_no_probability_is_refused(pi: list[float], beta: list[float]) -> None:
    with pytest.raises(ValueError, match="probabilit"):
        importance_weights(np.array(pi), np.array(beta))
