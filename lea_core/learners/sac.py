"""SAC: supervised actor-critic (SQN paper, sec. 3.2, eq. 9, Alg. 2).

In: batches of training windows. Out: a trained policy, ranked by its actor head.

For `warmup_epochs` it is SQN; then Q(s, a+), without gradient, weights the cross-entropy of each logged action. A
negative Q thus pushes away from it, as in the source. Departures are those of SQN and of `second_phase`, and five of
the eight settings of the authors' code have no warm-up (`warmup_epochs: 0`).
"""

from __future__ import annotations

from dataclasses import dataclass

from lea_core.learners.actor import actor_terms
from lea_core.learners.actor_phase import SecondPhase
from lea_core.learners.batches import Batch
from lea_core.learners.critics import Critics
from lea_core.learners.td import le_terms, means, td_terms
from lea_core.params import SacParams, TrainParams


@dataclass
class Sac:
    """Supervised actor-critic."""

    settings: SacParams
    train: TrainParams
    critics: Critics

    def __post_init__(self) -> None:
        self.second_phase = SecondPhase(self.settings, self.critics)

    def update(self, batch: Batch, epoch: int) -> dict[str, float]:
        """One optimiser step; returns the batch's mean losses."""
        acting = self.second_phase.holds(epoch)
        online, target = self.critics.turn(batch)
        states = batch.states(online.policy(batch.items))  # (R, D)
        actor = actor_terms(online.policy, states[batch.source], batch, self.train.loss)
        td = td_terms(online, target, states, batch, self.settings, self.train.le)
        weighted = self.second_phase.weighted(actor.loss, td.q_logged.detach()) if acting else actor.loss  # (P,)
        loss = weighted.mean() + self.settings.q_weight * td.loss.mean()
        loss = loss + le_terms(online, states, actor, batch, self.train.le)

        self.critics.learn(loss, online)
        return means(loss, actor, td)
