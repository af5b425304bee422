"""SNQN: supervised learning and Q-learning with sampled negatives on one backbone (SA2C paper, sec. 3.2, eq. 4-5).

In: batches of training windows. Out: a trained policy, ranked by its supervised head as in the paper's tables.

Departures from the paper: one online and one Polyak-averaged target network take the place of two networks of which a
coin picks the one to update, so that the policy that ships gets every update; the target runs without dropout; every
position of a window is trained in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lea_core.learners.batches import Batch
from lea_core.learners.network import CriticNetwork, descend, polyak
from lea_core.learners.terms import le_terms, td_terms
from lea_core.losses import cross_entropy
from lea_core.params import SnqnParams, TrainParams


@dataclass
class Snqn:
    """Supervised negative Q-learning."""

    settings: SnqnParams
    train: TrainParams
    online: CriticNetwork
    target: CriticNetwork
    optimiser: torch.optim.Optimizer

    def update(self, batch: Batch, _epoch: int) -> dict[str, float]:
        """One optimiser step and one step of the target network; returns the batch's mean losses."""
        states = batch.states(self.online.policy(batch.items))  # (R, D)
        log_policy = self.online.policy.logits(states[batch.source]).log_softmax(dim=1)  # (P, I)
        td = td_terms(self.online, self.target, states, batch, self.settings, self.train.le)
        supervised = cross_entropy(log_policy, batch.action).mean()
        loss = supervised + self.settings.q_weight * td.loss.mean()
        loss = loss + le_terms(self.online, states, log_policy, batch, self.train.le)

        descend(loss, self.online, self.optimiser, self.train.gradient_clip)
        polyak(self.target, self.online, self.settings.target_rate)
        return {
            "loss": loss.item(),
            "supervised": supervised.item(),
            "td": td.loss.mean().item(),
            "greedy_q": td.bootstrap.mean().item(),
        }
