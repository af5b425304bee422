"""SQN: supervised learning and Q-learning on one backbone (SQN paper, sec. 3.1, eq. 5-8, Alg. 1).

In: batches of training windows. Out: a trained policy, ranked by its supervised head as in the paper's tables.

The Q head learns the logged actions alone. Departures from the paper, each a parameter (settings/faithful.yaml turns
them all back): one online and one Polyak-averaged target network take the place of two networks of which a coin picks
the one to update (`target_rate: null`), so that the policy that ships gets every update; the target runs without
dropout (`target_dropout`); a user's last training event bootstraps, for the user goes on (`end_is_terminal`); gradients
are clipped; every position of a window is trained in one pass (`train.batches`) from a longer history. What stays: the
first event of a sequence is not predicted (batches.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from lea_core.learners.actor import actor_terms
from lea_core.learners.batches import Batch
from lea_core.learners.critics import Critics
from lea_core.learners.td import le_terms, means, td_terms
from lea_core.params import QParams, TrainParams


@dataclass
class Sqn:
    """Self-supervised Q-learning; with negatives in its batches it is SNQN."""

    settings: QParams
    train: TrainParams
    critics: Critics

    def update(self, batch: Batch, _epoch: int) -> dict[str, float]:
        """One optimiser step; returns the batch's mean losses."""
        online, target = self.critics.turn(batch)
        states = batch.states(online.policy(batch.items))  # (R, D)
        actor = actor_terms(online.policy, states[batch.source], batch, self.train.loss)
        td = td_terms(online, target, states, batch, self.settings, self.train.le)
        loss = actor.loss.mean() + self.settings.q_weight * td.loss.mean()
        loss = loss + le_terms(online, states, actor, batch, self.train.le)

        self.critics.learn(loss, online)
        return means(loss, actor, td)
