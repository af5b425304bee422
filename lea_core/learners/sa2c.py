"""SA2C: supervised advantage actor-critic with sampled negatives (SA2C paper, sec. 3.3, eq. 6-8).

In: batches of training windows. Out: a trained policy, ranked by its actor head.

For `warmup_epochs` it is SNQN; then the advantage of the logged action over the average of itself and the negatives
weights its cross-entropy. Departures from the paper: those of SNQN; the optimiser goes on with its moments and learning
rate where the authors' code starts a second one, a change of training that would be mistaken for the advantage's doing.
The LE's proposals keep the weight that the LE gives them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lea_core.learners.batches import Batch
from lea_core.learners.network import CriticNetwork, descend, polyak
from lea_core.learners.terms import le_terms, td_terms
from lea_core.losses import advantage, cross_entropy
from lea_core.params import Sa2cParams, TrainParams


@dataclass
class Sa2c:
    """Supervised advantage actor-critic."""

    settings: Sa2cParams
    train: TrainParams
    online: CriticNetwork
    target: CriticNetwork
    optimiser: torch.optim.Optimizer

    def update(self, batch: Batch, epoch: int) -> dict[str, float]:
        """One optimiser step and one step of the target network; returns the batch's mean losses."""
        states = batch.states(self.online.policy(batch.items))  # (R, D)
        log_policy = self.online.policy.logits(states[batch.source]).log_softmax(dim=1)  # (P, I)
        td = td_terms(self.online, self.target, states, batch, self.settings, self.train.le)
        supervised = cross_entropy(log_policy, batch.action)  # (P,)
        weight = advantage(td.q_logged, td.q_sampled, *self.settings.advantage_clip)  # (P,)
        actor = weight * supervised if epoch > self.settings.warmup_epochs else supervised
        loss = actor.mean() + self.settings.q_weight * td.loss.mean()
        loss = loss + le_terms(self.online, states, log_policy, batch, self.train.le)

        descend(loss, self.online, self.optimiser, self.train.gradient_clip)
        polyak(self.target, self.online, self.settings.target_rate)
        return {
            "loss": loss.item(),
            "supervised": supervised.mean().item(),
            "td": td.loss.mean().item(),
            "greedy_q": td.bootstrap.mean().item(),
            "advantage": weight.mean().item(),
        }
