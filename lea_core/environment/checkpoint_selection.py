"""Checkpoint selection: scores the LE after each epoch, so that fine-tuning keeps the best epoch.

In: an LE. Out: its `SelectionScore` on training events of users that the LE does not learn from: NDCG@10 of the next
item, all items ranked, and reward accuracy. Reward accuracy is how often the next item gets a higher reward than a
uniformly drawn item, and than an equally popular item; the mean of both.

No validation or test event is used. There are many more such training events than validation events. At least
`selection_events` of them take part: users are drawn until there are enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences, batches, learning_steps, windows
from lea_core.environment.batches import FrozenStates, Steps, read_steps, sampled_actions
from lea_core.environment.model import Environment
from lea_core.environment.top_items import rank_next
from lea_core.llm.packing import packs
from lea_core.metrics.ranking import ndcg
from lea_core.metrics.reward import pairwise_accuracy
from lea_core.params import LeParams, RewardNegatives

NEGATIVES = RewardNegatives(uniform=1, popular=1, text=0)
STEPS_PER_BATCH = 2048  # steps whose rewards are in memory at once


@dataclass(frozen=True)
class SelectionScore:
    """How good an LE is on the selection events."""

    ndcg10: float
    reward_accuracy: float


class CheckpointSelection:
    """Scores LEs on training events of `users`.

    counts (I,): training events of the LE's subset. neighbours (I, K): by text, see `negatives.text_neighbours`.
    """

    def __init__(
        self,
        environment: Environment,
        train: Sequences,
        users: np.ndarray,
        counts: np.ndarray,
        neighbours: np.ndarray,
        p: LeParams,
    ) -> None:
        self.train = train
        rng = np.random.default_rng([p.seed, 9])
        steps = learning_steps(train)
        able = rng.permutation(users[np.diff(train.offsets)[users] >= 2])
        enough = int(np.searchsorted(np.cumsum(np.diff(train.offsets)[able] - 1), p.selection_events)) + 1
        chosen = np.sort(able[:enough])
        if not len(chosen):
            raise LeaError(
                "params.yaml: finetune_le.users_share leaves no user with two events to judge the LE by: lower it"
            )
        owners, _ = train.users_and_positions()
        steps &= np.isin(owners, chosen)
        events = np.flatnonzero(steps)
        self.actions = np.zeros((len(train.items), NEGATIVES.total), dtype=np.int64)
        self.actions[events] = sampled_actions(train, events, counts, neighbours, NEGATIVES, rng)
        cut = windows(train, chosen, p.history)
        self.batches = packs(train, cut, p.batch_tokens, NEGATIVES.total, steps)
        self._frozen = FrozenStates(environment, train, cut, steps, p.batch_tokens)

    @torch.inference_mode()
    def score(self, environment: Environment, frozen: bool) -> SelectionScore:
        """The score of an LE. With `frozen`, it uses the hidden states of the LLM as it was at the start."""
        ndcgs, rewards = [], []
        for steps in self._cached() if frozen else self._read(environment):
            of_states, of_actions = self._measure(environment, steps)
            ndcgs.append(of_states)
            rewards.append(of_actions)
        both = np.concatenate(rewards)
        return SelectionScore(float(np.concatenate(ndcgs).mean()), pairwise_accuracy(both[:, 0], both[:, 1:]))

    def _read(self, environment: Environment) -> Iterator[Steps]:
        for packed in self.batches:
            yield read_steps(environment, packed, self.actions[packed.events[packed.acting]])

    def _cached(self) -> Iterator[Steps]:
        events, hidden = self._frozen.events, self._frozen.hidden
        actions = torch.from_numpy(self.actions).to(hidden.device)
        for part in batches(len(events), STEPS_PER_BATCH):
            yield Steps(events[part], hidden[part], actions[events[part]])

    def _measure(self, environment: Environment, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
        """NDCG@10 (N,) and rewards of the logged and the sampled actions (N, 1 + A)."""
        heads, events = environment.heads, steps.events.cpu().numpy()
        logged = torch.from_numpy(self.train.items[events + 1]).to(steps.hidden.device)
        content, inputs = heads.inputs(environment.recent(self.train, events), steps.hidden)
        states = heads.state(content, inputs)
        if not bool(states.isfinite().all() & heads.popularity.isfinite()):
            raise LeaError("finetune_le: the LE's states are no longer finite: lower finetune_le.*.learning_rate")
        actions = torch.cat([logged[:, None], steps.actions], dim=1)
        rewards = heads.rewards(content, inputs, actions, steps.action_hidden)
        return ndcg(rank_next(heads, self.train, events, states), 10), rewards.cpu().numpy()
