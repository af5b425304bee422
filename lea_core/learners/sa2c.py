"""SA2C: supervised advantage actor-critic with sampled negatives (SA2C paper, sec. 3.3, eq. 6-8; off-policy eq. 9-10).

In: batches of training windows, with negatives. Out: a trained policy, ranked by its actor head.

For `warmup_epochs` it is SNQN; then the advantage of the logged action over the average of itself and the negatives
weights its cross-entropy and, with `off_policy`, so does the ratio of policy and popularity. Departures are those of
SQN and of `second_phase`. The advantage is clipped as in the authors' code (`advantage_clip`). The LE's proposals keep
the weight that the LE gives them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lea_core.learners.actor import ActorTerms, actor_terms
from lea_core.learners.actor_phase import SecondPhase
from lea_core.learners.batches import Batch
from lea_core.learners.critics import Critics
from lea_core.learners.losses import advantage, importance_ratio
from lea_core.learners.td import TdTerms, le_terms, means, td_terms
from lea_core.params import Sa2cParams, TrainParams


@dataclass
class Sa2c:
    """Supervised advantage actor-critic."""

    settings: Sa2cParams
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
        weight = self._weight(td, actor, batch)  # (P,)
        weighted = self.second_phase.weighted(actor.loss, weight) if acting else actor.loss
        loss = weighted.mean() + self.settings.q_weight * td.loss.mean()
        loss = loss + le_terms(online, states, actor, batch, self.train.le)

        self.critics.learn(loss, online)
        return means(loss, actor, td) | {"advantage": weight.mean().item()}

    def _weight(self, td: TdTerms, actor: ActorTerms, batch: Batch) -> Tensor:
        """A(s, a+), clipped, times the off-policy ratio where there is one: (P,), without gradient."""
        weight = advantage(td.q_logged, td.q_sampled)
        if self.settings.advantage_clip is not None:
            weight = weight.clamp(*self.settings.advantage_clip)
        ratio = self.settings.off_policy
        if ratio is None:
            return weight
        if actor.log_policy is None or batch.log_popularity is None:
            raise ValueError("the off-policy ratio needs the softmax loss and the items' popularity")
        return weight * importance_ratio(actor.log_policy, batch.log_popularity, ratio.low, ratio.high, ratio.power)
