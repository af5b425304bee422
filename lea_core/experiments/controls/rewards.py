"""Rewards in the place of the LE's, for the same logged and sampled actions.

In: the LE's rewards of M logged actions and of A sampled ones each. Out: rewards of the same shapes, float32, as
supervision.py reads them: standardised over the logged ones and through the sigmoid, or as they are where the logged
ones are equal.

- shuffled: the LE's, permuted among all pairs of state and action, logged and sampled: nothing is left but their
  distribution.
- logged: 1 for the logged action, 0 for the sampled ones: the plain reward, with the LE's fixed sample as negatives.
- mean: every logged action has the mean of what the LE's logged ones enter as, every sampled one that of the sampled:
  the LE's level without its judgement.
- constant: half for every action, as the LE gives an average logged one.
- popularity: log(1 + training count of the action), the rewarded event itself not counted.
"""

from __future__ import annotations

import numpy as np

from lea_core.data.sequences import Sequences
from lea_core.learners.supervision import mean_and_deviation, preference

HALF = 0.5  # what an average logged action of the LE enters as


def control_rewards(
    source: str,
    rewards: np.ndarray,
    sampled_rewards: np.ndarray,
    action: np.ndarray,
    sampled_actions: np.ndarray,
    train: Sequences,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Rewards (M,) and (M, A) of a control, for the LE's (M,) and (M, A) of these actions (M,) and (M, A)."""
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
