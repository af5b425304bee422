"""Trainings that go astray: what Q values can be at most, and the check of every step.

In: rewards, gamma and the losses of a step. Out: a `DivergedError` that names the run and the mend.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lea_core.common.errors import LeaError
from lea_core.learners.supervision import Supervision
from lea_core.params import MethodParams, NegativeParams, Params, QParams

DIVERGENCE = 10.0  # times the largest value that rewards and gamma allow


class DivergedError(LeaError):
    """The training went astray under these parameters; others may do."""


def largest_value(settings: MethodParams, params: Params, supervision: Supervision) -> float:
    """The largest Q value that rewards and gamma allow: max |r| / (1 - gamma); infinite for gamma 1."""
    if not isinstance(settings, QParams) or settings.gamma == 1.0:
        return math.inf
    rewards = [float(supervision.rewards.abs().max())]
    if supervision.proposed_preferences is not None:
        rewards.append(params.train.le.reward_scale)
    if isinstance(settings, NegativeParams):
        sampled = supervision.sampled_rewards
        rewards.append(abs(settings.negative_reward) if sampled is None else float(sampled.abs().max()))
    return max(rewards) / (1.0 - settings.gamma)


@dataclass(frozen=True)
class Guard:
    """Stops a training that has gone astray."""

    run: str
    method: str
    largest_value: float

    def check(self, epoch: int, losses: dict[str, float]) -> None:
        """Raise `DivergedError` where a loss is not finite or the greedy Q value is far beyond what is possible."""
        for key, value in losses.items():
            if not math.isfinite(value):
                raise DivergedError(f"{self.run}, epoch {epoch}: {key} is {value}: lower train.learning_rate")
        if abs(losses.get("greedy_q", 0.0)) > DIVERGENCE * self.largest_value:
            raise DivergedError(
                f"{self.run}, epoch {epoch}: Q values reach {losses['greedy_q']:.3g}, where rewards and gamma allow "
                f"{self.largest_value:.3g}: lower train.learning_rate or methods.{self.method}.gamma"
            )
