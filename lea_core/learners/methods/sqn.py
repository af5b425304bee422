"""SQN: supervised learning and Q-learning on one backbone (SQN paper, sec. 3.1, eq. 5-8, Alg. 1).

In: batches of training windows. Out: a trained policy, ranked by its supervised head as in the paper's tables.

The Q head learns the logged actions alone. Departures from the paper, each a parameter (settings/faithful.yaml turns
them all back): one online and one Polyak-averaged target network take the place of two independent networks, of
which each step updates a random one while the other gives the targets (`target_rate: null`), so that the exported
policy gets every update; the target runs without
dropout (`target_dropout`); a user's last training event bootstraps, for the user goes on (`end_is_terminal`); gradients
are clipped; every position of a window is trained in one pass (`train.batches`) from a longer history. What stays: the
first event of a sequence is not predicted (batches.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from lea_core.learners.q_learning import QLearning
from lea_core.params.q_learning import QParams


class Settings(QParams):
    """Self-supervised Q-learning."""


@dataclass
class Learner(QLearning):
    """Self-supervised Q-learning: the shared step as it is."""
