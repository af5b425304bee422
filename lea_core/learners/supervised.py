"""Supervised: cross-entropy over all items at every position, the twin that the other methods are measured against.

In: batches of training windows. Out: a trained policy. Of the LE it can use proposed actions (as further positives) and
states (the policy's states learn to tell them); rewards it has no place for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lea_core.learners.batches import Batch
from lea_core.learners.network import Network, descend
from lea_core.learners.terms import le_terms
from lea_core.losses import cross_entropy
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
        log_policy = self.network.policy.logits(states[batch.source]).log_softmax(dim=1)  # (P, I)
        supervised = cross_entropy(log_policy, batch.action, self.settings.label_smoothing).mean()
        loss = supervised + le_terms(self.network, states, log_policy, batch, self.train.le)

        descend(loss, self.network, self.optimiser, self.train.gradient_clip)
        return {"loss": loss.item(), "supervised": supervised.item()}
