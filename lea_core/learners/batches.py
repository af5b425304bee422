"""Training batches: which states a step learns from, their actions, rewards and what is drawn for them.

In: the training sequences and their supervision. Out: `Batch`es, in one of two kinds (`train.batches`).

packed: every position of a window is a state, and one forward pass serves them all. A window holds at most history + 1
events: the states after its first `history` ones are trained, and the last one's is there for its value alone. A user's
windows overlap in one event, so that every training event is once a target in each epoch. Where a user has more than
one window, the first is cut short at random, anew in each epoch, so that the borders, where a state sees little of the
past, fall elsewhere each time.

transitions: the papers' way. Each state is a window of its own, its last `history` events, and so is the state after
it: the network reads every event up to 2 * history times. An epoch takes each transition once, in random order, where
the authors' code draws each batch anew. The papers also predict a sequence's first event, from nothing; here it is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences, batches, ragged_ranges, sample_actions
from lea_core.learners.supervision import Supervision, transitions
from lea_core.params import (
    MethodParams,
    NegativeParams,
    QParams,
    SampledSoftmaxLoss,
    SoftmaxLoss,
    TrainParams,
)

ITEMS = "data/interactions/items.parquet"


@dataclass(frozen=True)
class Batch:
    """B windows of T events: R states in all, P transitions, A actions each. An absent part is None."""

    items: Tensor  # (B, T) int64, -1 after a window's end
    events: Tensor  # (R,) int64: where in items.flatten() the last event of each state stands
    source: Tensor  # (P,) int64: which of the R states each transition starts from; the next state is source + 1
    action: Tensor  # (P,) int64
    last: Tensor  # (P,) bool: the action is the user's last training event
    reward: Tensor  # (P,)
    log_popularity: Tensor  # (P,) log of the action's share of the training events
    le_states: Tensor | None  # (R, C) float32
    sampled_actions: Tensor | None  # (P, A) int64: negatives; None for methods without
    sampled_rewards: Tensor | None  # (P, A)
    proposed_actions: Tensor | None  # (P, A) int64
    proposed_preferences: Tensor | None  # (P, A)
    ranked_items: Tensor | None = None  # (P, K) int64
    ranked_log_probabilities: Tensor | None = None  # (P, K)
    loss_items: Tensor | None = None  # (S,) int64 of a sampled supervised loss; all transitions share them
    loss_log_counts: Tensor | None = None  # (S,) log of how often each was to be expected among them
    greedy_items: Tensor | None = None  # (K,) int64: where the greedy action is looked for; None: all items

    def states(self, states: Tensor) -> Tensor:
        """(B, T, D) states of the windows -> (R, D) of their events."""
        return states.flatten(0, 1).index_select(0, self.events)


class TrainingData:
    """The training sequences, ready to be cut into batches for one method."""

    def __init__(
        self,
        train: Sequences,
        supervision: Supervision,
        settings: MethodParams,
        params: TrainParams,
        device: torch.device,
    ) -> None:
        """train: training events alone. supervision: theirs, row by row. device: where batches go.

        Raises `LeaError` where the catalogue is too small for what is to be drawn from it.
        """
        _check_catalogue(train.num_items, settings, supervision, params)
        self.train, self.settings, self.params, self.device = train, settings, params, device
        self.supervision = supervision.to(device)
        self.items = torch.from_numpy(train.items).to(device)
        self.rows = transitions(train)
        transition = np.full(len(train.items), -1)
        transition[self.rows] = np.arange(len(self.rows))
        self.transition = torch.from_numpy(transition).to(device)  # (N,): which transition starts from each event
        counts = np.bincount(train.items, minlength=train.num_items)
        share = torch.from_numpy(counts / max(counts.sum(), 1))
        self.log_popularity = share.log().float().to(device)  # (I,)
        self.proposal = _proposal(counts, params)

    def epoch(self, generator: np.random.Generator) -> Iterator[Batch]:
        """Batches that cover every transition once, in random order."""
        size, history = self.params.batches.size, self.params.history
        if self.params.batches.kind == "transitions":
            if not len(self.rows):
                raise _nothing_to_learn()
            shuffled = generator.permutation(self.rows)
            for part in batches(len(shuffled), size):
                yield self.transitions(shuffled[part], generator)
            return
        starts, stops = training_windows(self.train, history, generator)
        shuffled = generator.permutation(len(starts))
        for part in batches(len(shuffled), size):
            chosen = shuffled[part]
            yield self.packed(starts[chosen], stops[chosen], generator)

    def packed(self, starts: np.ndarray, stops: np.ndarray, generator: np.random.Generator) -> Batch:
        """The batch of windows [start, stop) of the training events; every event is a state."""
        rows = starts[:, None] + np.arange((stops - starts).max())  # (B, T)
        inside = rows < stops[:, None]
        ends = (rows == stops[:, None] - 1)[inside]  # (R,): no transition starts from a window's last event
        return self._batch(rows, inside, np.flatnonzero(inside), rows[inside], np.flatnonzero(~ends), generator)

    def transitions(self, rows: np.ndarray, generator: np.random.Generator) -> Batch:
        """The batch of the transitions that start at these training events, (P,); a window each for s and for s'."""
        has_critic = isinstance(self.settings, QParams)
        ends = np.stack([rows, rows + 1], axis=1).reshape(-1) if has_critic else rows  # (R,): s, s', s, s', ...
        offsets = self.train.offsets
        first = offsets[np.searchsorted(offsets, ends, side="right") - 1]
        starts = np.maximum(first, ends + 1 - self.params.history)
        time = int((ends + 1 - starts).max())
        window = starts[:, None] + np.arange(time)  # (R, T)
        events = np.arange(len(ends)) * time + ends - starts
        source = np.arange(0, len(ends), 2 if has_critic else 1)
        return self._batch(window, window <= ends[:, None], events, ends, source, generator)

    def _batch(
        self,
        rows: np.ndarray,
        inside: np.ndarray,
        events: np.ndarray,
        of_event: np.ndarray,
        source: np.ndarray,
        generator: np.random.Generator,
    ) -> Batch:
        """rows: (B, T) of the training events, where `inside`. events: (R,) of `Batch`; of_event: (R,) their rows."""
        event, begins = self._tensor(of_event), self._tensor(source)
        items = torch.full(rows.shape, -1, device=self.device)
        items[self._tensor(inside)] = self.items[self._tensor(rows[inside])]
        begin = event[begins]
        transition, action = self.transition[begin], self.items[begin + 1]

        def of(values: Tensor | None, index: Tensor) -> Tensor | None:
            return None if values is None else values.index_select(0, index)

        given = self.supervision
        le_states = of(given.le_states, event)
        sampled_actions, sampled_rewards = self._negatives(transition, action, generator)
        loss_items, loss_log_counts = self.proposal.draw(generator, self.device) if self.proposal else (None, None)
        return Batch(
            items=items,
            events=self._tensor(events),
            source=begins,
            action=action,
            last=self.transition[begin + 1] < 0,
            reward=given.rewards[transition],
            log_popularity=self.log_popularity[action],
            le_states=None if le_states is None else le_states.float(),
            sampled_actions=sampled_actions,
            sampled_rewards=sampled_rewards,
            proposed_actions=of(given.proposed_actions, transition),
            proposed_preferences=of(given.proposed_preferences, transition),
            ranked_items=of(given.ranked_items, transition),
            ranked_log_probabilities=of(given.ranked_log_probabilities, transition),
            loss_items=loss_items,
            loss_log_counts=loss_log_counts,
            greedy_items=self._greedy_items(action, generator),
        )

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def _negatives(
        self, transition: Tensor, action: Tensor, generator: np.random.Generator
    ) -> tuple[Tensor | None, Tensor | None]:
        """The LE's sampled actions with its rewards, or drawn ones; none for a method without negatives."""
        if not isinstance(self.settings, NegativeParams):
            return None, None
        given = self.supervision
        if given.sampled_actions is not None and given.sampled_rewards is not None:
            return given.sampled_actions[transition], given.sampled_rewards[transition]
        drawn = sample_actions(action.cpu().numpy(), self.settings.negatives, self.train.num_items, generator)
        return self._tensor(drawn), torch.full(drawn.shape, self.settings.negative_reward, device=self.device)

    def _greedy_items(self, action: Tensor, generator: np.random.Generator) -> Tensor | None:
        """A uniform sample and the batch's own actions, of which the critic knows most: (K,)."""
        if self.params.greedy_items is None or not isinstance(self.settings, QParams):
            return None
        drawn = generator.integers(0, self.train.num_items, size=self.params.greedy_items)
        return torch.from_numpy(np.union1d(drawn, action.cpu().numpy())).to(self.device)


@dataclass(frozen=True)
class Proposal:
    """The distribution that the items of a sampled supervised loss come from."""

    cumulative: np.ndarray  # (I,) float64
    count: int

    def draw(self, generator: np.random.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
        """S items and log(S q) of each: two (S,)."""
        total = self.cumulative[-1]
        drawn = np.searchsorted(self.cumulative, generator.random(self.count) * total, side="right")
        below = np.where(drawn > 0, self.cumulative[drawn - 1], 0.0)
        share = (self.cumulative[drawn] - below) / total  # S steps, where a difference of the whole would take I
        log_counts = torch.from_numpy(np.log(self.count * share)).float()
        return torch.from_numpy(drawn).to(device), log_counts.to(device)


def _proposal(counts: np.ndarray, params: TrainParams) -> Proposal | None:
    if isinstance(params.loss, SoftmaxLoss):
        return None
    power = params.loss.popularity if isinstance(params.loss, SampledSoftmaxLoss) else 0.0
    return Proposal(np.cumsum((counts + 1.0) ** power), params.loss.negatives)


def training_windows(train: Sequences, history: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """First row and end row of every window of an epoch: two (W,) arrays."""
    first, end = train.offsets[:-1], train.offsets[1:]
    targets = end - first - 1
    short, long = (targets >= 1) & (targets <= history), np.flatnonzero(targets > history)
    cut = first[long] + generator.integers(1, history + 1, size=len(long))  # where the second window begins
    later = -((cut + 1 - end[long]) // history)  # windows after the first
    user, within = ragged_ranges(np.zeros_like(later), later)
    begins = cut[user] + within * history
    starts = np.concatenate([first[short], first[long], begins])
    stops = np.concatenate([end[short], cut + 1, np.minimum(begins + history + 1, end[long][user])])
    if not len(starts):
        raise _nothing_to_learn()
    order = np.argsort(starts)
    return starts[order], stops[order]


def _nothing_to_learn() -> LeaError:
    return LeaError("no user has two training events: give more data, or a smaller preprocess.k_core")


def _check_catalogue(num_items: int, settings: MethodParams, supervision: Supervision, params: TrainParams) -> None:
    if num_items < 2:
        raise LeaError(f"{ITEMS}: one item leaves nothing to choose from: keep more items")
    drawn = settings.negatives if isinstance(settings, NegativeParams) and supervision.sampled_actions is None else 0
    counts = {
        "the method's negatives": drawn,
        "train.loss.negatives": 0 if isinstance(params.loss, SoftmaxLoss) else params.loss.negatives,
        "train.greedy_items": params.greedy_items or 0,
    }
    for key, count in counts.items():
        if count >= num_items:
            raise LeaError(f"params.yaml: {key} is {count}, but {ITEMS} has {num_items} items: use fewer than that")
