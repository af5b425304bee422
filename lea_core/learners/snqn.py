"""SNQN: SQN whose Q head also learns sampled negative actions (SA2C paper, sec. 3.2, eq. 4-5).

In: batches of training windows, with negatives: sampled items with reward `negative_reward`, or the LE's sampled items
with its rewards. Out: a trained policy, ranked by its supervised head. The state after a negative is the state itself.
Departures are those of SQN.
"""

from __future__ import annotations

from lea_core.learners.batches import Batch
from lea_core.learners.sqn import Sqn


class Snqn(Sqn):
    """Supervised negative Q-learning."""

    def update(self, batch: Batch, epoch: int) -> dict[str, float]:
        """One optimiser step; returns the batch's mean losses. The batch must have negatives."""
        if batch.sampled_actions is None:
            raise ValueError("the batch has no sampled actions: give its TrainingData the settings of SNQN")
        return super().update(batch, epoch)
