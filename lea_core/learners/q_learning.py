"""The step that all methods with a critic share: cross-entropy and TD loss on one backbone.

In: a batch. Out: one optimiser step of the network that learns, and what it was made of. A method is a subclass in a
file of lea_core/learners/methods/; an actor-critic says besides how the critic weights the supervised loss.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lea_core.learners.actor import ActorTerms, actor_terms
from lea_core.learners.batches import Batch
from lea_core.learners.critics import Critics
from lea_core.learners.td import TdTerms, le_terms, td_terms
from lea_core.params import QParams, TrainParams


@dataclass
class QLearning:
    """A learner with a critic."""

    settings: QParams
    train: TrainParams
    critics: Critics

    def update(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """One optimiser step; returns the batch's mean losses, numbers on the device, without gradient."""
        online, target = self.critics.turn(batch)
        states = batch.states(online.policy(batch.items))  # (R, D)
        actor = actor_terms(online.policy, states[batch.source], batch, self.train.loss)
        td = td_terms(online, target, states, batch, self.settings, self.train.le)
        supervised, more = self.supervised(actor, td, batch, epoch)
        loss = supervised.mean() + self.settings.q_weight * td.loss.mean()
        loss = loss + le_terms(online, states, actor, batch, self.train.le)

        self.critics.learn(loss, online)
        means = {
            "loss": loss,
            "supervised": actor.loss.mean(),
            "td": td.loss.mean(),
            "greedy_q": td.bootstrap.mean(),
        }
        return {name: value.detach() for name, value in (means | more).items()}

    def supervised(
        self, actor: ActorTerms, _td: TdTerms, _batch: Batch, _epoch: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The supervised loss of each transition, (P,), and more numbers for the curve."""
        return actor.loss, {}
