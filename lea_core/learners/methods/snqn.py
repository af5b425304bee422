"""SNQN: SQN whose Q head also learns sampled negative actions (SA2C paper, sec. 3.2, eq. 4-5).

In: batches of training windows, with negatives: sampled items with reward `negative_reward`, or the LE's sampled items
with its rewards. Out: a trained policy, ranked by its supervised head. The state after a negative is the state itself.
Departures are those of SQN.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lea_core.learners.batches import Batch
from lea_core.learners.q_learning import QLearning
from lea_core.params.q_learning import NegativeParams


class Settings(NegativeParams):
    """Supervised negative Q-learning."""


@dataclass
class Learner(QLearning):
    """Supervised negative Q-learning: the shared step, on batches with negatives."""

    def update(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """One optimiser step, see the class above. The batch must have negatives."""
        if batch.sampled_actions is None:
            raise ValueError("the batch has no sampled actions: give its TrainingData the settings of SNQN")
        return super().update(batch, epoch)
