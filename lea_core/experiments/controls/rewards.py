"""Controls of the reward signal, for the same logged and sampled actions.

In: the LE's rewards of M logged actions and of A sampled actions for each. Out: rewards of the same shapes, float32, as
supervision.py reads them: standardised over the logged ones and passed through the sigmoid, or unchanged if all logged
ones are equal.

- shuffled: the LE's rewards, permuted among all pairs of state and action, logged and sampled: only their distribution
  remains.
- logged: 1 for the logged action, 0 for the sampled ones: the plain reward, with the LE's fixed sample as negatives.
- mean: every logged action gets the mean over the LE's logged ones, every sampled action the mean over the sampled
  ones, both after sigmoid: the LE's level, but the same for all actions.
- constant: one half for every action, which is the LE's value of an average logged one.
- popularity: log(1 + training count of the action), the rewarded event itself not counted.
"""

from __future__ import annotations

import numpy as np

from lea_core.data.sequences import Sequences
from lea_core.learners.supervision import mean_and_deviation, preference

HALF = 0.5  # the LE's reward of an average logged action, after the sigmoid


def control_rewards(
    source: str,
    rewards: np.ndarray,
    sampled_rewards: np.ndarray,
    action: np.ndarray,
    sampled_actions: np.ndarray,
    train: Sequences,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Rewards (M,) and (M, A) of a control that replace the LE's, for actions (M,) and (M, A)."""
    if source == "shuffled":
        mixed = generator.permutation(np.concatenate([rewards, sampled_rewards.reshape(-1)]))
        found = mixed[: len(rewards)], mixed[len(rewards) :].reshape(sampled_rewards.shape)
    elif source == "logged":
        found = np.ones_like(rewards), np.zeros_like(sampled_rewards)
    elif source == "mean":
        centre, both = mean_and_deviation(rewards), (np.array(rewards), np.array(sampled_rewards))
        logged, sampled = (float(preference(part, centre).double().mean()) for part in both)
        found = np.full_like(rewards, logged), np.full_like(sampled_rewards, sampled)
    elif source == "constant":
        found = np.full_like(rewards, HALF), np.full_like(sampled_rewards, HALF)
    elif source == "popularity":
        counts = np.bincount(train.items, minlength=train.num_items)
        found = np.log(np.maximum(counts[action], 1)), np.log1p(counts[sampled_actions])
    else:
        raise ValueError(f"no control of rewards is called {source!r}")
    return found[0].astype(np.float32), found[1].astype(np.float32)
