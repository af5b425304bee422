"""SA2C: supervised advantage actor-critic with sampled negatives (SA2C paper, sec. 3.3, eq. 6-8; off-policy eq. 9-10).

In: batches of training windows, with negatives. Out: a trained policy, ranked by its actor head.

For `warmup_epochs` it is SNQN; then the advantage of the logged action over the average of itself and the negatives
weights its cross-entropy and, with `off_policy`, so does the ratio of policy and popularity. Departures are those of
SQN and of actor_critic.py. The advantage is clipped as in the authors' code (`advantage_clip`). The LE's proposals keep
the weight that the LE gives them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from lea_core.learners.actor import ActorTerms
from lea_core.learners.actor_critic import ActorCritic
from lea_core.learners.batches import Batch
from lea_core.learners.losses import advantage, importance_ratio
from lea_core.learners.td import TdTerms
from lea_core.params.q_learning import ActorCriticParams, NegativeParams, OffPolicyParams

if TYPE_CHECKING:
    from lea_core.params import TrainParams


class Settings(ActorCriticParams, NegativeParams):
    """Supervised advantage actor-critic (SA2C paper, eq. 6-8)."""

    advantage_clip: list[float] | None  # [low, high]; null: the paper, which has no clip
    off_policy: OffPolicyParams | None  # null: no correction

    def _problems(self) -> Iterator[str]:
        clip = self.advantage_clip
        if clip is not None and (len(clip) != 2 or clip[0] >= clip[1]):
            yield "advantage_clip must be two numbers, the lower first, such as [0.0, 10.0], or null"

    def cannot_train(self, key: str, train: TrainParams) -> Iterator[str]:
        """The ratio without the softmax."""
        yield from super().cannot_train(key, train)
        if self.off_policy is not None and train.loss.name != "softmax":
            yield f"{key}.off_policy needs pi(a | s), which train.loss {train.loss.name} does not give: use softmax"


@dataclass
class Learner(ActorCritic):
    """Supervised advantage actor-critic."""

    settings: Settings
    weight_is: ClassVar[str | None] = "advantage"

    def weight(self, td: TdTerms, actor: ActorTerms, batch: Batch) -> Tensor:
        """A(s, a+), clipped, times the off-policy ratio where there is one: (P,), without gradient."""
        weight = advantage(td.q_logged, td.q_sampled)
        if self.settings.advantage_clip is not None:
            weight = weight.clamp(*self.settings.advantage_clip)
        ratio = self.settings.off_policy
        if ratio is None:
            return weight
        if actor.log_policy is None:
            raise ValueError("the off-policy ratio needs the softmax loss")
        return weight * importance_ratio(actor.log_policy, batch.log_popularity, ratio.low, ratio.high, ratio.power)
