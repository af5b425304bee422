"""Off-policy estimates of the test reward of each variant's policy.

In: the policies of every seed, the sequences, the rewards of all events, a behaviour policy. Out: the rows of
value.csv, and diagnostics in numbers and words (behaviour.json).

The target policy draws its item from the softmax of the policy's scores over the candidates; items of the history are
excluded as in `full_ranking.py`. If a user repeats an item, the policy never recommends it, so the event's weight is 0.
The exported policy recommends the best items instead, so the estimates are of a more random policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lea_core.common.errors import LeaError
from lea_core.data.rewards import Rewards, shrunken_means
from lea_core.data.sequences import SPLITS, Sequences, batches, histories
from lea_core.evaluation.off_policy import estimators
from lea_core.evaluation.off_policy.behaviour import Behaviour, log_likelihoods
from lea_core.evaluation.off_policy.estimators import Estimate
from lea_core.metrics.ranking import seen_items
from lea_core.models.policy_network import PolicyNetwork

PROBABILITIES_AT_ONCE = 2**22  # 32 MiB as float64, of which a few copies exist
COLUMNS = ("variant", "estimator", "value", "low", "high", "effective_sample_size", "clipped_share")


@dataclass(frozen=True)
class Log:
    """N test events, and what does not depend on the target policy."""

    sequences: Sequences
    users: np.ndarray  # (N,)
    positions: np.ndarray  # (N,)
    behaviour: np.ndarray  # (N,) beta of each
    rewards: np.ndarray  # (N,)
    q: np.ndarray  # (I,) reward of each item by the reward model

    @property
    def items(self) -> np.ndarray:
        """(N,) the logged actions."""
        found: np.ndarray = self.sequences.items[self.sequences.offsets[self.users] + self.positions]
        return found

    @property
    def vary(self) -> bool:
        """Whether one logged reward differs from another."""
        return bool((self.rewards != self.rewards[0]).any())


def make_log(
    sequences: Sequences,
    users: np.ndarray,
    positions: np.ndarray,
    behaviour: np.ndarray,
    rewards: Rewards,
    shrinkage: float,
) -> Log:
    """The test events at (users, positions), (N,) both, and the reward model of the training events."""
    if not len(users):
        raise LeaError("data/interactions: no test event to estimate a value from: mend preprocess.split")
    train = sequences.split == SPLITS.index("train")
    q = shrunken_means(sequences.items[train], rewards.values[train], sequences.num_items, shrinkage)
    logged = rewards.values[sequences.offsets[users] + positions]
    return Log(sequences, users, positions, behaviour, logged, q)


@torch.inference_mode()
def target_policy(
    policy: PolicyNetwork, folder: Path, log: Log, mask_seen: bool, batch: int
) -> tuple[np.ndarray, np.ndarray]:
    """pi(a | h) of the logged actions, and the mean of q over the policy's actions; (N,) float64 both.

    Raises `LeaError` naming `folder` where the policy knows another number of items, or scores hold NaN or infinity.
    Without any candidate both are 0. No more than PROBABILITIES_AT_ONCE probabilities are held, or one event's.
    """
    if policy.config.num_items != log.sequences.num_items:
        known, there = policy.config.num_items, log.sequences.num_items
        raise LeaError(f"{folder}: the policy knows {known} items, the data have {there}: run `dvc repro`")
    pi, expected = np.empty((2, len(log.users)))
    q = torch.from_numpy(log.q)
    widest = max(log.sequences.num_items, int(log.positions.max()))  # of a row: its scores, or its seen items
    for part in batches(len(log.users), min(batch, PROBABILITIES_AT_ONCE // widest)):
        users, positions = log.users[part], log.positions[part]
        scores = policy.scores(histories(log.sequences, users, positions, policy.config.history)).double()  # (B, I)
        if not bool(scores.isfinite().all()):
            raise LeaError(
                f"{folder}: scores hold NaN or infinity: train the variant again with a lower train.learning_rate"
            )
        if mask_seen:
            owner, items = (torch.from_numpy(found) for found in seen_items(log.sequences, users, positions))
            scores[owner, items] = -torch.inf
        probabilities = scores.softmax(dim=1).nan_to_num_()  # NaN where nothing is left
        logged = torch.from_numpy(log.items[part])[:, None]
        pi[part] = probabilities.gather(1, logged)[:, 0].numpy()
        expected[part] = (probabilities @ q).numpy()
    return pi.clip(max=1.0), expected  # rounding may end above 1


@dataclass(frozen=True)
class Worth:
    """A variant: its estimates by estimator, one for every seed, and diagnostics of them."""

    estimates: dict[str, list[Estimate]]
    mean_weight: float  # 1 in expectation, for every policy, where beta is the true one
    mean_clipped_weight: float
    largest_weight: float
    log_likelihood: float | None  # mean log pi of the logged actions; None where one is 0
    direct: float  # the reward model's mean under the target policy, which DR starts from


def worth(targets: Sequence[tuple[np.ndarray, np.ndarray]], log: Log, clip: float) -> Worth:
    """All estimates that are informative. targets: `target_policy` of each seed."""
    estimates: dict[str, list[Estimate]] = {}
    q = log.q[log.items]
    weights = [estimators.importance_weights(pi, log.behaviour) for pi, _ in targets]
    for own, (_, expected) in zip(weights, targets, strict=True):
        found = {"ips": estimators.ips(own, log.rewards), "clipped_ips": estimators.ips(own, log.rewards, clip)}
        if log.vary:  # else SNIPS is that one reward, and so is DR where training events have no other
            found["snips"] = estimators.snips(own, log.rewards)
            found["dr"] = estimators.doubly_robust(own, log.rewards, q, expected, clip)
        for name, estimate in found.items():
            estimates.setdefault(name, []).append(estimate)
    pi = np.stack([pi for pi, _ in targets])
    return Worth(
        estimates,
        mean_weight=float(np.mean(weights)),
        mean_clipped_weight=float(np.minimum(weights, clip).mean()),
        largest_weight=float(np.max(weights)),
        log_likelihood=float(np.log(pi).mean()) if pi.all() else None,
        direct=float(np.mean([expected for _, expected in targets])),
    )


def value_rows(name: str, found: Worth, log: Log, seed: int) -> list[dict[str, Any]]:
    """The rows of value.csv of a variant: means over its trainings; intervals by bootstrap over users.

    Raises `LeaError` where no logged action has any probability under a training's policy.
    """
    estimates = list(found.estimates.values())
    rows = []
    bounds = estimators.intervals(estimates, log.users, seed)
    for (estimator, trainings), (low, high) in zip(found.estimates.items(), bounds, strict=True):
        if any(one.effective_sample_size == 0.0 for one in trainings):
            raise LeaError(f"data/policies/{name}: no logged action has any probability under it: train it again")
        rows.append(
            {
                "variant": name,
                "estimator": estimator,
                "value": float(np.mean([one.value for one in trainings])),
                "low": float(low),
                "high": float(high),
                "effective_sample_size": float(np.mean([one.effective_sample_size for one in trainings])),
                "clipped_share": float(np.mean([one.clipped_share for one in trainings])),
            }
        )
    return rows


def summary(
    behaviour: Behaviour,
    rewards: Rewards,
    log: Log,
    found: Mapping[str, Worth],
    rows: Sequence[Mapping[str, Any]],
    seed: int,
    mask_seen: bool,
) -> dict[str, Any]:
    """The content of behaviour.json: how good beta is, what a reward is, the value of the log itself, and sentences.

    `never_taken` counts the events whose item a policy excludes, because it is in the history.
    """
    owner, items = seen_items(log.sequences, log.users, log.positions)
    never = len(np.unique(owner[items == log.items[owner]])) if mask_seen else 0
    unused = int((log.sequences.split == SPLITS.index("test")).sum()) - len(log.users)
    likelihoods = {split: log_likelihoods(behaviour, log.sequences, split) for split in SPLITS[1:]}
    logged = estimators.ips(np.ones(len(log.users)), log.rewards)
    low, high = estimators.intervals([[logged]], log.users, seed)[0].tolist()
    return {
        "events": {"used": len(log.users), "left_out": unused, "never_taken": never},
        "in_words": in_words(rewards, likelihoods["test"], log, found, rows, never),
        "log_likelihood": likelihoods,
        "logged": {"value": logged.value, "low": low, "high": high},
        "mixture": behaviour.mixture,
        "reward": {"source": rewards.source, "zero": rewards.low, "one": rewards.high},
        "variants": {
            name: {
                "direct": one.direct,
                "largest_weight": one.largest_weight,
                "log_likelihood": one.log_likelihood,
                "mean_clipped_weight": one.mean_clipped_weight,
                "mean_weight": one.mean_weight,
            }
            for name, one in found.items()
        },
    }


def in_words(
    rewards: Rewards,
    likelihood: Mapping[str, float],
    log: Log,
    found: Mapping[str, Worth],
    rows: Sequence[Mapping[str, Any]],
    never: int,
) -> list[str]:
    """Sentences that a reader needs to understand the numbers."""
    sizes = {row["variant"]: float(row["effective_sample_size"]) for row in rows if row["estimator"] == "ips"}
    fewest = min(sizes, key=lambda name: sizes[name])
    means = [one.mean_weight for one in found.values()]
    words = [
        "These values depend on a model: the probabilities of the users' next items are estimated, not logged.",
        f"It gives a test event {likelihood['mixture']:.2f} nats on average, popularity alone gives "
        f"{likelihood['popularity']:.2f}, the uniform policy {likelihood['uniform']:.2f}.",
        f"Weighted (IPS), the {len(log.users)} test events are worth {min(sizes.values()):.0f} to "
        f"{max(sizes.values()):.0f} events of equal weight, the fewest for {fewest}.",
        f"The mean weight is {min(means):.2f} to {max(means):.2f}. The right probabilities would give every policy 1 "
        "in expectation: IPS is off by about that factor. SNIPS divides by it; clipped IPS and DR do not.",
    ]
    if never:
        words.append(
            f"Of these events {never} are of an item that the user had before. The policies leave it out "
            "(evaluate.mask_seen), so these weigh nothing."
        )
    if rewards.source == "rating":
        words.append(f"A reward is the rating of the item: 0 for {rewards.low:g}, 1 for {rewards.high:g}.")
    if not log.vary:
        words.append(
            "Every test event has the same reward: SNIPS is that reward for every policy, and so would DR be; both are "
            "left out. IPS is the mean weight times it, whose expectation is the same for every policy too: where it "
            "is another, the estimated probabilities are wrong or the sample is small. It ranks no policies."
        )
    return words
