"""The jury: picks the best epoch of a fine-tuning by training events of users that the LE does not learn from.

In: an LE as it is after an epoch. Out: its NDCG@10 of the next item, all items ranked, and its reward accuracy: how
often the next item gets a higher reward than a uniformly drawn one, and than one as popular, the mean of both.

These events are held out from the LE, yet no validation or test event. There are many more of them than of validation
events, and `selection_events` says how many take part: users are drawn until there are as many.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences, batches, learning_steps, windows
from lea_core.environment.batches import FrozenStates, Steps, read_steps, sampled_actions
from lea_core.environment.model import Environment
from lea_core.llm.packing import packs
from lea_core.metrics.ranking import ndcg, ranks
from lea_core.metrics.reward import pairwise_accuracy
from lea_core.params import LeParams, RewardNegatives

NEGATIVES = RewardNegatives(uniform=1, popular=1, text=0)
ROWS = 2048  # steps whose rewards are in memory at once
SCORES = 2**24  # scores of items in memory at once


@dataclass(frozen=True)
class Verdict:
    """What the jury says of an LE."""

    ndcg10: float
    reward_accuracy: float


class Jury:
    """Judges an LE on training events of `users`.

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
    def judge(self, environment: Environment, frozen: bool) -> Verdict:
        """The verdict. With `frozen`, on the hidden states that the LLM had when the jury was called together."""
        gains, rewards = [], []
        for steps in self._cached() if frozen else self._read(environment):
            gained, found = self._measure(environment, steps)
            gains.append(gained)
            rewards.append(found)
        both = np.concatenate(rewards)
        return Verdict(float(np.concatenate(gains).mean()), pairwise_accuracy(both[:, 0], both[:, 1:]))

    def _read(self, environment: Environment) -> Iterator[Steps]:
        for packed in self.batches:
            yield read_steps(environment, packed, self.actions[packed.events[packed.acting]])

    def _cached(self) -> Iterator[Steps]:
        events, hidden = self._frozen.events, self._frozen.hidden
        for part in batches(len(events), ROWS):
            yield Steps(events[part], hidden[part], torch.from_numpy(self.actions).to(hidden.device)[events[part]])

    def _measure(self, environment: Environment, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
        """NDCG@10 (N,) and rewards of the logged and the sampled actions (N, 1 + A)."""
        heads, events = environment.heads, steps.events.cpu().numpy()
        logged = torch.from_numpy(self.train.items[events + 1]).to(steps.hidden.device)
        content, inputs = heads.inputs(environment.recent(self.train, events), steps.hidden)
        states = heads.state(content, inputs)
        if not bool(states.isfinite().all() & heads.popularity.isfinite()):
            raise LeaError("finetune_le: the LE's states are no longer finite: lower finetune_le.*.learning_rate")
        ranked = rank_next(environment, self.train, events, states)
        actions = torch.cat([logged[:, None], steps.actions], dim=1)
        rewards = heads.rewards(content, inputs, actions, steps.action_hidden)
        return ndcg(ranked, 10), rewards.cpu().numpy()


def rank_next(environment: Environment, sequences: Sequences, events: np.ndarray, states: Tensor) -> np.ndarray:
    """Rank (N,) of the item after each event, from its state (N, C + K), among all items."""
    result = np.empty(len(events), dtype=np.float32)
    for part in batches(len(events), SCORES // sequences.num_items):
        ranking = environment.heads.rank_all(states[part], sequences, events[part])
        logged = torch.from_numpy(sequences.items[events[part] + 1]).to(ranking.device)
        result[part] = ranks(ranking, logged).cpu().numpy()
    return result
