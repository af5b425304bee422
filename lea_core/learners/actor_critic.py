"""Actor-critics: after a warm-up the critic weights the supervised loss.

In: settings of a method, its critics and batches. Out: as of q_learning.py, which the warm-up is.

Departure from the authors' code of SA2C: the optimiser goes on with its moments and learning rate where that code
starts a second one at a lower rate, a change of training that would be mistaken for the critic's doing;
`fresh_optimiser` and `second_learning_rate` bring both back. The warm-up is counted in epochs, not in steps. And the
weights of a batch are scaled to `weight_mean`, null as in the papers: advantages have a mean of .2 where the LE's
rewards are used, and a supervised loss so small next to the LE's ranking and states ruined the policy
(docs/lab-notebook.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lea_core.learners.actor import ActorTerms
from lea_core.learners.batches import Batch
from lea_core.learners.losses import of_mean
from lea_core.learners.q_learning import QLearning
from lea_core.learners.td import TdTerms
from lea_core.params import ActorCriticParams


@dataclass
class ActorCritic(QLearning):
    """A method defines `weight`."""

    settings: ActorCriticParams
    begun: bool = False  # the second phase
    weight_is: ClassVar[str | None] = None  # the name of its mean in the curve, where it is shown there

    def weight(self, td: TdTerms, actor: ActorTerms, batch: Batch) -> Tensor:
        """What the critic makes of each logged action: (P,), without gradient."""
        raise NotImplementedError

    def supervised(self, actor: ActorTerms, td: TdTerms, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The supervised loss (P,); after the warm-up times the weights, scaled to `weight_mean` where there is one."""
        weight = self.weight(td, actor, batch)
        shown = {self.weight_is: weight.mean()} if self.weight_is else {}
        if epoch <= self.settings.warmup_epochs:
            return actor.loss, shown
        if not self.begun:
            self.begun = True
            self._begin()
        mean = self.settings.weight_mean
        return (weight if mean is None else of_mean(weight, mean)) * actor.loss, shown

    def _begin(self) -> None:
        """The optimiser of the second phase."""
        if self.settings.fresh_optimiser:
            self.critics.renew(self.settings.second_learning_rate)
        elif self.settings.second_learning_rate is not None:
            self.critics.set_learning_rate(self.settings.second_learning_rate)
