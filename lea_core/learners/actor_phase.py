"""The second phase of an actor-critic: after a warm-up the critic weights the supervised loss.

In: settings of a method and its critics. Out: whether a step belongs to the second phase, its optimiser made ready.

Departure from the authors' code of SA2C: the optimiser goes on with its moments and learning rate where that code
starts a second one at a lower rate, a change of training that would be mistaken for the critic's doing;
`fresh_optimiser` and `second_learning_rate` bring both back. The warm-up is counted in epochs, not in steps. And the
weights of a batch are scaled to `weight_mean`, null as in the papers: advantages have a mean of .2 where the LE's
rewards are used, and a supervised loss so small next to the LE's ranking and states ruined the policy
(docs/lab-notebook.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lea_core.learners.critics import Critics
from lea_core.learners.losses import of_mean
from lea_core.params import ActorParams


@dataclass
class SecondPhase:
    """Knows when it begins, and prepares the optimiser once."""

    settings: ActorParams
    critics: Critics
    begun: bool = False

    def holds(self, epoch: int) -> bool:
        """Whether `epoch` is of the second phase; at the first such call the optimiser changes."""
        if epoch <= self.settings.warmup_epochs:
            return False
        if not self.begun:
            self.begun = True
            if self.settings.fresh_optimiser:
                self.critics.renew(self.settings.second_learning_rate)
            elif self.settings.second_learning_rate is not None:
                self.critics.set_learning_rate(self.settings.second_learning_rate)
        return True

    def weighted(self, loss: Tensor, weight: Tensor) -> Tensor:
        """The supervised loss (P,) times the critic's weights (P,), brought to `weight_mean` where there is one."""
        mean = self.settings.weight_mean
        return (weight if mean is None else of_mean(weight, mean)) * loss
