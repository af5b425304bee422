"""SAC: supervised actor-critic (SQN paper, sec. 3.2, eq. 9, Alg. 2).

In: batches of training windows. Out: a trained policy, ranked by its actor head.

For `warmup_epochs` it is SQN; then Q(s, a+), without gradient, weights the cross-entropy of each logged action. A
negative Q thus pushes away from it, as in the source. Departures are those of SQN and of actor_critic.py, and five of
the eight settings of the authors' code have no warm-up (`warmup_epochs: 0`).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lea_core.learners.actor import ActorTerms
from lea_core.learners.actor_critic import ActorCritic
from lea_core.learners.batches import Batch
from lea_core.learners.td import TdTerms
from lea_core.params.q_learning import ActorCriticParams


class Settings(ActorCriticParams):
    """Supervised actor-critic (SQN paper, eq. 9)."""


@dataclass
class Learner(ActorCritic):
    """Supervised actor-critic."""

    def weight(self, td: TdTerms, _actor: ActorTerms, _batch: Batch) -> Tensor:
        """Q(s, a+): (P,), without gradient."""
        return td.q_logged.detach()
