"""Supervised: maximum likelihood of the next item at every position, the twin that the other methods are measured by.

In: batches of training windows. Out: a trained policy. Of the LE it can use proposed actions (as further positives) and
states (the policy's states learn to tell them); rewards it has no place for. Which likelihood: `train.loss`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lea_core.learners.actor import actor_terms
from lea_core.learners.batches import Batch
from lea_core.learners.critics import Network, descend
from lea_core.learners.td import le_terms
from lea_core.params import SupervisedParams, TrainParams


@dataclass
class Supervised:
    """Maximum likelihood of the next item."""

    settings: SupervisedParams
    train: TrainParams
    network: Network
    optimiser: torch.optim.Optimizer

    def update(self, batch: Batch, _epoch: int) -> dict[str, float]:
        """One optimiser step; returns the batch's mean losses."""
        states = batch.states(self.network.policy(batch.items))  # (R, D)
        smoothing = self.settings.label_smoothing
        actor = actor_terms(self.network.policy, states[batch.source], batch, self.train.loss, smoothing)
        supervised = actor.loss.mean()
        loss = supervised + le_terms(self.network, states, actor, batch, self.train.le)

        descend(loss, self.network, self.optimiser, self.train.gradient_clip)
        return {"loss": loss.item(), "supervised": supervised.item()}
