"""Supervised: maximum likelihood of the next item at every position, the baseline of all other methods.

In: batches of training windows. Out: a trained policy. Of the LE it can use proposed actions (as further positives) and
states (the policy's states learn to tell them); rewards it has no place for. Which likelihood: `train.loss`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from lea_core.common.bounds import Share
from lea_core.learners.actor import actor_terms
from lea_core.learners.batches import Batch
from lea_core.learners.critics import Solo
from lea_core.learners.td import le_terms
from lea_core.params.q_learning import MethodParams

if TYPE_CHECKING:
    from lea_core.params import TrainParams


class Settings(MethodParams):
    """Maximum likelihood of the next item."""

    label_smoothing: Share  # for train.loss softmax alone

    def cannot_train(self, key: str, train: TrainParams) -> Iterator[str]:
        """Smoothing without the softmax."""
        if self.label_smoothing > 0.0 and train.loss.name != "softmax":
            yield f"{key}.label_smoothing works with train.loss softmax alone: set it to 0, or use softmax"


@dataclass
class Learner:
    """Maximum likelihood of the next item."""

    settings: Settings
    train: TrainParams
    solo: Solo

    def update(self, batch: Batch, _epoch: int) -> dict[str, Tensor]:
        """One optimiser step; returns the batch's mean losses, numbers on the device, without gradient."""
        network, smoothing = self.solo.network, self.settings.label_smoothing
        states = batch.states(network.policy(batch.items))  # (R, D)
        actor = actor_terms(network.policy, states[batch.source], batch, self.train.loss, smoothing)
        supervised = actor.loss.mean()
        loss = supervised + le_terms(network, states, actor, batch, self.train.le)

        self.solo.learn(loss)
        return {"loss": loss.detach(), "supervised": supervised.detach()}
